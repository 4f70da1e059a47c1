//! Secret code: which keys of it this host has, and to whom it gives them.

use crate::RunError;
use alloy_primitives::Address;
use async_trait::async_trait;
use cryptlet_isolation::{CallOutHandler, CallOutSession, CodeAsked};
use cryptlet_seal::{SealError, evidence::Expected, secret_code::check_agreements};
use cryptlet_types::{
    CodeAgreement, CodeGrant, CryptletId, Evidence, Measurement, Policy, Provider, SecretCode,
    Sha256Digest, UnixSeconds,
    evidence::TAKEN_BY_REGIONS,
    policy::PolicyInForce,
    region::{Created, RegionSettings, WrappedKey},
    report::CompactSignature,
};
use cryptlet_vault::{KeyId, Result as VaultResult, Vault};
use std::sync::Arc;

/// What a host has of a package's secret code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptCode {
    /// The code's key, as the vault sealed it (`Vault::seal_code_key`).
    pub sealed: Vec<u8>,
    /// SHA-256 of the component that the counterparties agreed to.
    pub code: Sha256Digest,
    /// Their signatures, in the manifest's order.
    pub agreements: Vec<CompactSignature>,
}

/// Where a host keeps keys of secret code, and who agreed to it.
#[async_trait]
pub trait SecretCodes: Send + Sync {
    /// What there is of a package's, complete.
    ///
    /// # Errors
    /// What is missing, and what to do about it, for people.
    async fn of(&self, package: Sha256Digest, secret: &SecretCode) -> Result<KeptCode, String>;
}

/// What this host has of a package's secret code, if every counterparty has agreed to it.
pub(crate) async fn kept(
    codes: Option<&Arc<dyn SecretCodes>>,
    package: Sha256Digest,
    secret: &SecretCode,
) -> Result<KeptCode, RunError> {
    let nowhere = || RunError::SecretCode("this host keeps no keys of it".into());
    let kept = codes.ok_or_else(nowhere)?.of(package, secret).await;
    let kept = kept.map_err(RunError::SecretCode)?;
    let agreement = CodeAgreement {
        package,
        code: kept.code,
    };
    let told = |error: SealError| match error {
        SealError::SecretCode(reason) => RunError::SecretCode(reason.into()),
        SealError::NotAgreed(account) => {
            RunError::SecretCode(format!("counterparty {account} has not agreed to it"))
        }
        error => error.into(),
    };
    check_agreements(&agreement, &secret.counterparties, &kept.agreements).map_err(told)?;
    Ok(kept)
}

/// Answers regions of one cryptlet as `inner` does, and gives who loads its secret code the key.
pub(crate) struct Giving {
    pub(crate) inner: Arc<dyn CallOutHandler>,
    pub(crate) kept: KeptCode,
    pub(crate) vault: Arc<dyn Vault>,
    pub(crate) host: Address,
    pub(crate) policy: Arc<PolicyInForce>,
    pub(crate) cryptlet: CryptletId,
    pub(crate) measurement: Measurement,
    pub(crate) now: UnixSeconds,
}

#[async_trait]
impl CallOutHandler for Giving {
    fn open(&self, settings: &RegionSettings) -> Box<dyn CallOutSession> {
        self.inner.open(settings)
    }

    async fn code_key(&self, asked: CodeAsked) -> Result<CodeGrant, String> {
        let (cryptlet, package) = (self.cryptlet, asked.package);
        match self.give(asked).await {
            Ok(key) => {
                tracing::info!(%cryptlet, %package, "key of secret code given");
                Ok(CodeGrant {
                    key,
                    code: self.kept.code,
                    agreements: self.kept.agreements.clone(),
                })
            }
            Err(error) => {
                tracing::warn!(%cryptlet, %package, %error, "no key of secret code given");
                Err(error.to_string())
            }
        }
    }
}

impl Giving {
    /// The key, wrapped for who asks, if policy believes what that shows.
    async fn give(&self, asked: CodeAsked) -> VaultResult<WrappedKey> {
        let (package, nonce) = (asked.package, asked.nonce);
        let evidence = self.vouched(asked.created).await?;
        let policy = while_loading(&self.policy.policy, evidence.statement.provider);
        let expected = Expected {
            policy: &policy,
            measurement: self.measurement,
            nonce,
            host: self.host,
            from: self.now,
            to: self.now,
        };
        let sealed = &self.kept.sealed;
        self.vault
            .release_code_key(self.cryptlet, package, sealed, &evidence, &expected)
            .await
    }

    async fn vouched(&self, created: Created) -> VaultResult<Evidence> {
        let Created {
            statement,
            attestation,
        } = created;
        let digest = statement.digest(self.now);
        Ok(Evidence {
            signature: self.vault.sign(&KeyId::Host, digest).await?,
            made_at: self.now,
            host: self.host,
            statement,
            attestation,
        })
    }
}

/// What policy demands of who loads a package: of a process that will divide, all that it can have by then. The region that comes of
/// it has to have everything, or gets no key to sign with.
fn while_loading(policy: &Policy, provider: Provider) -> Policy {
    let mut policy = policy.clone();
    if !provider.attests() {
        policy
            .controls
            .retain(|control| !TAKEN_BY_REGIONS.contains(&control.as_str()));
    }
    policy
}
