//! The vault: where private keys lie, by registration address.
//!
//! Host and transmitter keys sign here and never leave. A cryptlet's key never signs here: it is released,
//! wrapped (HPKE) to one region whose evidence holds under the policy in force, and to nobody else.
//!
//! Back ends implement [`Vault`]: [`FileVault`], a sealed file, is the embedded one.

mod error;
mod file;
mod format;
mod key_id;
mod storage;

pub use error::{Result, VaultError};
pub use file::{FileVault, Unlock};
pub use format::KdfCost;
pub use key_id::KeyId;

use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use cryptlet_seal::evidence::Expected;
use cryptlet_types::{Evidence, region::WrappedKey, report::CompactSignature};

/// Keeps private keys and uses them. No method gives a key away in the clear.
#[async_trait]
pub trait Vault: Send + Sync {
    /// Makes a key and returns its address. A key is never replaced.
    ///
    /// # Errors
    /// [`VaultError::Exists`], or that the vault could not be written; then there is no such key.
    async fn create(&self, key: &KeyId) -> Result<Address>;

    /// Address of a key.
    ///
    /// # Errors
    /// [`VaultError::Unknown`].
    async fn address(&self, key: &KeyId) -> Result<Address>;

    /// Signs 32 bytes with a host's or a transmitter's key.
    ///
    /// # Errors
    /// [`VaultError::Unknown`], or [`VaultError::NotForSigning`] for a cryptlet's key.
    async fn sign(&self, key: &KeyId, digest: B256) -> Result<CompactSignature>;

    /// Wraps a cryptlet's key to the region that `evidence` speaks of, if the evidence is what is expected.
    /// The wrapping is bound to measurement, region key and challenge ([`cryptlet_seal::key_binding`]).
    ///
    /// # Errors
    /// [`VaultError::Unknown`], [`VaultError::NeverReleased`] for any other key, [`VaultError::Refused`] if
    /// the evidence is not what is expected.
    async fn release(
        &self,
        key: &KeyId,
        evidence: &Evidence,
        expected: &Expected<'_>,
    ) -> Result<WrappedKey>;

    /// All keys with their addresses, ordered.
    ///
    /// # Errors
    /// None with a sealed file; a remote vault may be out of reach.
    async fn list(&self) -> Result<Vec<(KeyId, Address)>>;
}
