//! What the host provides to delivery: the transmitter's key from the vault, the outbox in the journal.

use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use cryptlet_deliver::{Outbox, PortError, TransmitterSigner};
use cryptlet_journal::Journal;
use cryptlet_types::{RunId, Submission, report::CompactSignature};
use cryptlet_vault::{KeyId, Vault};
use std::sync::Arc;

/// The transmitter's key, which never leaves the vault.
pub(crate) struct VaultTransmitter {
    vault: Arc<dyn Vault>,
    address: Address,
}

impl VaultTransmitter {
    pub(crate) fn new(vault: Arc<dyn Vault>, address: Address) -> Self {
        Self { vault, address }
    }
}

#[async_trait]
impl TransmitterSigner for VaultTransmitter {
    fn address(&self) -> Address {
        self.address
    }

    async fn sign(&self, digest: B256) -> Result<CompactSignature, PortError> {
        self.vault
            .sign(&KeyId::Transmitter, digest)
            .await
            .map_err(|error| port_error(&error, error.is_retryable()))
    }
}

/// The journal's record of what may have been sent.
pub(crate) struct JournalOutbox(Arc<Journal>);

impl JournalOutbox {
    pub(crate) fn new(journal: Arc<Journal>) -> Self {
        Self(journal)
    }
}

#[async_trait]
impl Outbox for JournalOutbox {
    async fn submitted(&self, runs: &[RunId], submission: &Submission) -> Result<(), PortError> {
        self.0
            .record_submission(runs, submission)
            .await
            .map_err(|error| port_error(&error, error.is_retryable()))
    }
}

fn port_error(error: &dyn std::error::Error, retryable: bool) -> PortError {
    if retryable {
        PortError::retryable(error.to_string())
    } else {
        PortError::permanent(error.to_string())
    }
}
