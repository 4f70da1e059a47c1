//! What can go wrong between a job and its report.

use cryptlet_isolation::{IsolationError, providers::NoProvider};
use cryptlet_register::RegisterError;
use cryptlet_types::{CryptletId, batch::BatchError, region::InputError};
use cryptlet_vault::VaultError;

/// Why a job has no report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The package could not be read.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The vault did not release the signing key, or could not vouch.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Key or agreements of secret code are missing here, or do not fit: once they are there, the same job may run.
    #[error("secret code: {0}")]
    SecretCode(String),
    /// The code is secret: who has no key cannot repeat its runs.
    #[error("the code is secret: nobody repeats its runs")]
    Secret,
    /// The region could not be created, died, or reported a fault.
    #[error(transparent)]
    Isolation(#[from] IsolationError),
    /// Policy accepts nothing of what this host can isolate by.
    #[error(transparent)]
    NoProvider(#[from] NoProvider),
    /// The job does not fit its subscription, or lacks the delegation that the subscription asks for.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The region's answer does not fit the question: it is broken or hostile.
    #[error("region of cryptlet {cryptlet} answered with {what}")]
    WrongAnswer {
        /// The cryptlet.
        cryptlet: CryptletId,
        /// What does not fit.
        what: String,
    },
    /// The turn is another cryptlet's.
    #[error("cryptlet {asked} was to run in the turn of {turn}")]
    AnothersTurn {
        /// Whose turn it is.
        turn: CryptletId,
        /// Who was to run.
        asked: CryptletId,
    },
    /// Reports cannot go into one batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A document or signature was refused.
    #[error(transparent)]
    Seal(#[from] cryptlet_seal::SealError),
}

impl RunError {
    /// Whether the same job, run again, may end better.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Register(error) => error.is_retryable(),
            Self::Vault(error) => error.is_retryable(),
            Self::Isolation(error) => error.is_retryable(),
            Self::Input(error) => error.is_retryable(),
            Self::NoProvider(error) => error.is_retryable(),
            Self::Batch(error) => error.is_retryable(),
            Self::SecretCode(_) => true,
            Self::WrongAnswer { .. } | Self::AnothersTurn { .. } | Self::Secret | Self::Seal(_) => {
                false
            }
        }
    }
}
