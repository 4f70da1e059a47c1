//! A vault in a PKCS#11 token: a hardware security module, or SoftHSM.
//!
//! Keys are made in the token and cannot be taken out of it, by whomever. A cryptlet's key therefore never
//! reaches a region: the region signs its statement with its own key, and the token signs the report once the
//! vault has checked evidence and statement ([`Vault::sign_report`]).

mod config;
mod keys;
mod object;
mod token;

pub use config::{PinSource, Pkcs11Config};

use crate::{KeyId, KeyRecord, Result, Vault, VaultError, approve, keys::Which};
use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use cryptlet_seal::evidence::Expected;
use cryptlet_types::{
    CryptletId, Evidence,
    region::{KeyGrant, RegionStatement},
    report::CompactSignature,
};
use keys::TokenKeys;
use std::{fmt, sync::Arc};
use token::Token;

/// Keys in a PKCS#11 token. One session, used by one caller at a time; calls that reach the token run on
/// tokio's blocking threads. Several hosts may use one token at once; if two make its first keys together, one of them is
/// told [`VaultError::Exists`] and finds the other's.
///
/// A token that was removed or logged out fails the call with [`VaultError::TokenLost`]; the next call opens a
/// new session.
pub struct Pkcs11Vault {
    token: Arc<Token>,
}

impl fmt::Debug for Pkcs11Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pkcs11Vault")
            .field("config", self.token.config())
            .finish_non_exhaustive()
    }
}

impl Pkcs11Vault {
    /// Loads the module, logs in and looks at the keys. This waits for the token: call it where blocking is
    /// allowed.
    ///
    /// # Errors
    /// [`VaultError::Module`], [`VaultError::TokenCount`], [`VaultError::Pin`] and what is wrong with its
    /// file, [`VaultError::PinRefused`], [`VaultError::TokenKey`] for a key that may be taken out.
    pub fn open(config: Pkcs11Config) -> Result<Self> {
        let token = Arc::new(Token::open(config)?);
        Ok(Self { token })
    }

    /// Does what waits for the token on a thread that may wait.
    async fn with_keys<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut TokenKeys) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let token = Arc::clone(&self.token);
        tokio::task::spawn_blocking(move || token.with_keys(work))
            .await
            .map_err(|_| VaultError::TokenLost("the call was broken off".into()))?
    }
}

#[async_trait]
impl Vault for Pkcs11Vault {
    async fn create(&self, key: &KeyId) -> Result<Address> {
        let id = *key;
        self.with_keys(move |keys| keys.create(id)).await
    }

    async fn address(&self, key: &KeyId) -> Result<Address> {
        let id = *key;
        self.with_keys(move |keys| Ok(keys.newest(&id)?.address()))
            .await
    }

    async fn sign(&self, key: &KeyId, digest: B256) -> Result<CompactSignature> {
        let id = *key;
        if !matches!(id, KeyId::Host | KeyId::Transmitter) {
            return Err(VaultError::NotForSigning(id));
        }
        self.with_keys(move |keys| {
            let key = keys.newest(&id)?;
            keys.sign(&key, digest)
        })
        .await
    }

    async fn grant(
        &self,
        cryptlet: CryptletId,
        signer: Address,
        evidence: &Evidence,
        expected: &Expected<'_>,
    ) -> Result<KeyGrant> {
        approve::region(cryptlet, evidence, expected)?;
        self.with_keys(move |keys| keys.signer(cryptlet, signer).map(drop))
            .await?;
        Ok(KeyGrant::InVault { signer })
    }

    async fn sign_report(
        &self,
        cryptlet: CryptletId,
        signer: Address,
        evidence: &Evidence,
        expected: &Expected<'_>,
        statement: &RegionStatement,
        region_signature: &CompactSignature,
    ) -> Result<CompactSignature> {
        approve::report(cryptlet, evidence, expected, statement, region_signature)?;
        let report = statement.report;
        self.with_keys(move |keys| {
            let key = keys.signer(cryptlet, signer)?;
            keys.sign(&key, report)
        })
        .await
    }

    async fn retire(&self, cryptlet: CryptletId, signer: Address) -> Result<()> {
        self.with_keys(move |keys| keys.destroy(cryptlet, signer, Which::Earlier))
            .await
    }

    async fn discard(&self, cryptlet: CryptletId, signer: Address) -> Result<()> {
        self.with_keys(move |keys| keys.destroy(cryptlet, signer, Which::Any))
            .await
    }

    async fn authority_public(&self) -> Result<[u8; 65]> {
        self.with_keys(|keys| Ok(*keys.newest(&KeyId::Authority)?.point()))
            .await
    }

    async fn sign_authority(&self, message: &[u8]) -> Result<Vec<u8>> {
        let message = message.to_vec();
        self.with_keys(move |keys| {
            let key = keys.newest(&KeyId::Authority)?;
            keys.sign_authority(&key, &message)
        })
        .await
    }

    async fn list(&self) -> Result<Vec<KeyRecord>> {
        self.with_keys(|keys| {
            keys.reload()?;
            Ok(keys.records())
        })
        .await
    }
}
