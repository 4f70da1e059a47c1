//! Why a host does not start, or stops.

use cryptlet_chain::ChainError;
use cryptlet_isolation::IsolationError;
use cryptlet_journal::JournalError;
use cryptlet_register::RegisterError;
use cryptlet_seal::SealError;
use cryptlet_types::manifest::DocumentError;
use cryptlet_vault::VaultError;
use cryptlet_watch::{CalendarError, WatchError};
use std::path::PathBuf;

/// Why a host does not start, or stops.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The configuration was refused.
    #[error("configuration {path}: {reason}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The chain cannot be read.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The delegate's logs cannot be followed.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// A calendar cannot be used.
    #[error(transparent)]
    Calendar(#[from] CalendarError),
    /// The journal cannot be written or read: the host stops rather than go on without it.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The vault does not open or has no such key.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The vault's password is not where the configuration says.
    #[error("the vault's password is expected in the environment variable {0}, which is not set")]
    NoPassword(String),
    /// Packages, index or policy.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The isolation provider does not work here.
    #[error(transparent)]
    Isolation(#[from] IsolationError),
    /// A hash, signature or package.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A manifest or policy.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The register says another name, or other digests of manifest and header, than are in the version's package.
    #[error(
        "name, or digests of manifest and header, are others in the register than in package {0}"
    )]
    Contradiction(cryptlet_types::Sha256Digest),
    /// The delegations cannot be read or kept.
    #[error("delegations, {path}: {reason}")]
    Delegations {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Keys of secret code, or agreements to it, cannot be read or kept.
    #[error("secret code, {path}: {reason}")]
    SecretCode {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No further delegation is kept.
    #[error(
        "no room for another delegation: this caller, or all together, have handed in as many as are kept"
    )]
    TooManyDelegations,
    /// The API cannot be served.
    #[error("api, {what}: {reason}")]
    Api {
        /// The field, file or address.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// The chain was reorganised further back than the journal remembers its blocks.
    #[error(
        "the delegate's chain has none of the blocks that the journal remembers: it is another chain, or was reorganised by more than {} blocks",
        cryptlet_journal::TRAIL
    )]
    TooDeep,
    /// A part of the host ended without being told to.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}

impl HostError {
    /// Whether starting again may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Chain(error) => error.is_retryable(),
            Self::Watch(error) => error.is_retryable(),
            Self::Journal(error) => error.is_retryable(),
            Self::Vault(error) => error.is_retryable(),
            Self::Register(error) => error.is_retryable(),
            Self::Isolation(error) => error.is_retryable(),
            Self::Ended(_) => true,
            Self::Calendar(_)
            | Self::Config { .. }
            | Self::NoPassword(_)
            | Self::Seal(_)
            | Self::Document(_)
            | Self::Contradiction(_)
            | Self::Delegations { .. }
            | Self::TooManyDelegations
            | Self::SecretCode { .. }
            | Self::TooDeep
            | Self::Api { .. } => false,
        }
    }
}
