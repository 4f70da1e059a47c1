//! Keys in memory. They are real; only where they lie is not.

use crate::world::{Trouble, World};
use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use cryptlet_seal::{SigningKey, check, evidence::Expected, key_binding, wrap};
use cryptlet_types::{
    CryptletId, Evidence,
    region::{KeyGrant, RegionStatement},
    report::CompactSignature,
};
use cryptlet_vault::{KeyId, KeyRecord, Result, Vault, VaultError};
use std::sync::Arc;

/// The keys of a host and of its one cryptlet.
pub struct SimulatedVault {
    /// Where it is.
    pub world: Arc<World>,
    /// The host's.
    pub host: SigningKey,
    /// The transmitter's.
    pub transmitter: SigningKey,
    /// The cryptlet's.
    pub signer: SigningKey,
}

impl SimulatedVault {
    async fn ask<T>(&self, place: &'static str, answer: impl FnOnce() -> Result<T>) -> Result<T> {
        let lost = |trouble: Trouble| VaultError::TokenLost(format!("{trouble:?}"));
        let entered = self
            .world
            .enter(place, self.world.settings.vault_faults, 3)
            .await;
        let call = entered.map_err(lost)?;
        let answer = answer()?;
        self.world.leave(call).await.map_err(lost)?;
        Ok(answer)
    }

    fn key(&self, key: &KeyId) -> Result<&SigningKey> {
        match key {
            KeyId::Host => Ok(&self.host),
            KeyId::Transmitter => Ok(&self.transmitter),
            KeyId::Cryptlet(cryptlet) if *cryptlet == self.world.cryptlet => Ok(&self.signer),
            _ => Err(VaultError::Unknown(*key)),
        }
    }

    fn believe(&self, evidence: &Evidence, expected: &Expected<'_>) -> Result<()> {
        let cryptlet = self.world.cryptlet;
        cryptlet_attest::verify(evidence, expected)
            .map_err(|source| VaultError::Refused { cryptlet, source })
    }
}

#[async_trait]
impl Vault for SimulatedVault {
    async fn create(&self, key: &KeyId) -> Result<Address> {
        Err(VaultError::Exists(*key))
    }

    async fn address(&self, key: &KeyId) -> Result<Address> {
        Ok(self.key(key)?.address())
    }

    async fn sign(&self, key: &KeyId, digest: B256) -> Result<CompactSignature> {
        let (place, key) = match key {
            KeyId::Host => ("vault.sign host", &self.host),
            KeyId::Transmitter => ("vault.sign transmitter", &self.transmitter),
            _ => return Err(VaultError::NotForSigning(*key)),
        };
        self.ask(place, || Ok(key.sign(digest)?)).await
    }

    async fn grant(
        &self,
        cryptlet: CryptletId,
        signer: Address,
        evidence: &Evidence,
        expected: &Expected<'_>,
    ) -> Result<KeyGrant> {
        let grant = || {
            self.believe(evidence, expected)?;
            if cryptlet != self.world.cryptlet || signer != self.signer.address() {
                return Err(VaultError::UnknownSigner { cryptlet, signer });
            }
            if self.world.settings.in_vault {
                return Ok(KeyGrant::InVault { signer });
            }
            let statement = &evidence.statement;
            let secret = self.signer.secret();
            let binding = key_binding(statement);
            let wrapped = wrap(statement.exchange_key, &binding, secret.as_slice())?;
            Ok(KeyGrant::Wrapped(wrapped))
        };
        self.ask("vault.grant", grant).await
    }

    async fn sign_report(
        &self,
        cryptlet: CryptletId,
        _signer: Address,
        evidence: &Evidence,
        expected: &Expected<'_>,
        statement: &RegionStatement,
        region_signature: &CompactSignature,
    ) -> Result<CompactSignature> {
        let sign = || {
            if !self.world.settings.in_vault {
                return Err(VaultError::NotForSigning(KeyId::Cryptlet(cryptlet)));
            }
            self.believe(evidence, expected)?;
            let region = evidence.statement.region_key;
            let checked = check(statement.digest(), region_signature, region);
            checked.map_err(|source| VaultError::Refused { cryptlet, source })?;
            Ok(self.signer.sign(statement.report)?)
        };
        self.ask("vault.sign_report", sign).await
    }

    async fn retire(&self, cryptlet: CryptletId, signer: Address) -> Result<()> {
        Err(VaultError::StillCurrent { cryptlet, signer })
    }

    async fn discard(&self, cryptlet: CryptletId, signer: Address) -> Result<()> {
        Err(VaultError::UnknownSigner { cryptlet, signer })
    }

    async fn authority_public(&self) -> Result<[u8; 65]> {
        Err(VaultError::Unknown(KeyId::Authority))
    }

    async fn sign_authority(&self, _message: &[u8]) -> Result<Vec<u8>> {
        Err(VaultError::Unknown(KeyId::Authority))
    }

    async fn list(&self) -> Result<Vec<KeyRecord>> {
        Ok(vec![])
    }
}
