//! What the host provides.

use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use cryptlet_types::{
    outbox::{RunId, Submission},
    report::CompactSignature,
};

/// The transmitter's key, wherever it is kept.
#[async_trait]
pub trait TransmitterSigner: Send + Sync {
    /// The account that sends and pays.
    fn address(&self) -> Address;

    /// Signs the 32 bytes of a transaction's signing hash.
    async fn sign(&self, digest: B256) -> Result<CompactSignature, PortError>;
}

/// The durable record of what may have been sent.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Writes the transaction down, for each run whose report it delivers. Once this returns it survives a crash; it has not been
    /// broadcast before. Refuses, for good, if one of the jobs is at another run by now: nothing is sent of what is not wanted any more.
    async fn submitted(&self, runs: &[RunId], submission: &Submission) -> Result<(), PortError>;
}

/// Why the host could not do its part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PortError {
    message: String,
    retryable: bool,
}

impl PortError {
    /// A failure that the same call may not have later.
    #[must_use]
    pub fn retryable(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            retryable: true,
        }
    }

    /// A failure that will stay.
    #[must_use]
    pub fn permanent(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            retryable: false,
        }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }
}
