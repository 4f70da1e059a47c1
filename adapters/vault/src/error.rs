//! Why a vault said no. Nothing here carries a secret.

use crate::KeyId;
use cryptlet_seal::SealError;
use std::{io, path::PathBuf};

/// Result of a vault operation.
pub type Result<T> = std::result::Result<T, VaultError>;

/// Why a vault said no.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// Another process, or another part of this one, has the vault open.
    #[error("vault {0} is in use by another process")]
    InUse(PathBuf),
    /// A file could not be read or written. After a failed write the old file is in place.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is there already and is not overwritten.
    #[error("{0} exists already and is not overwritten")]
    FileExists(PathBuf),
    /// Others than the owner may read or write the file.
    #[error("{path} has mode {mode:03o}: others may read it; chmod 600 it")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is not a vault, or is cut short, or asks for more than a vault may.
    #[error("{path} is not a vault: {reason}")]
    NotAVault {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The vault was written by a later version of this program.
    #[error("{path} is a vault of version {found}, this program reads version 1")]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Version in the file.
        found: u8,
    },
    /// The vault was sealed with the other kind of secret.
    #[error("{path} opens with {wanted}")]
    OtherUnlock {
        /// The file.
        path: PathBuf,
        /// Which kind.
        wanted: &'static str,
    },
    /// The secret does not fit the file. A cipher cannot tell a wrong password from an altered file.
    #[error("{0} does not open: the password or key file is wrong, or the file was altered")]
    Locked(PathBuf),
    /// A password of no characters protects nothing.
    #[error("the vault's password is empty")]
    EmptyPassword,
    /// The cost of the key derivation is out of range.
    #[error("key derivation: {0}")]
    Cost(&'static str),
    /// A key file does not hold 32 bytes.
    #[error("key file {0} does not hold exactly 32 bytes")]
    NotAKeyFile(PathBuf),
    /// The vault holds as many keys as it can.
    #[error("the vault is full")]
    Full,
    /// No such key.
    #[error("the vault holds no key for {0}")]
    Unknown(KeyId),
    /// There is such a key; keys are not replaced.
    #[error("the vault holds a key for {0} already")]
    Exists(KeyId),
    /// A cryptlet's key signs in a region only.
    #[error("the key of {0} signs inside a region only")]
    NotForSigning(KeyId),
    /// Only cryptlets' keys are released.
    #[error("the key of {0} never leaves the vault")]
    NeverReleased(KeyId),
    /// The region's evidence is not what policy and challenge ask for.
    #[error("key of {key} is not released: {source}")]
    Refused {
        /// The key.
        key: KeyId,
        /// What does not fit.
        source: SealError,
    },
    /// A key could not be used.
    #[error("vault: {0}")]
    Seal(#[from] SealError),
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness")]
    NoRandomness,
}

impl VaultError {
    /// Whether the same call, tried again, may succeed: once the other process is gone or there is room.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::InUse(_) => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::Interrupted
            ),
            _ => false,
        }
    }
}
