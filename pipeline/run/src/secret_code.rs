//! Secret code: which keys of it this host has, and to whom it gives them.

use crate::Ports;
use alloy_primitives::Address;
use async_trait::async_trait;
use cryptlet_isolation::{CallOutHandler, CallOutSession, CodeAsked};
use cryptlet_seal::{evidence::Expected, secret_code::check_agreements};
use cryptlet_types::{
    CodeAgreement, CodeGrant, CryptletId, Evidence, Measurement, Policy, Provider, SecretCode,
    Sha256Digest, UnixSeconds, evidence::TAKEN_BY_REGIONS, policy::PolicyInForce,
    region::RegionSettings, report::CompactSignature,
};
use cryptlet_vault::KeyId;
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

/// Answers regions of one cryptlet as `inner` does, and gives who loads its secret code the key.
pub(crate) struct Giving {
    pub(crate) inner: Arc<dyn CallOutHandler>,
    pub(crate) codes: Arc<dyn SecretCodes>,
    pub(crate) ports: Ports,
    pub(crate) host: Address,
    pub(crate) policy: Arc<PolicyInForce>,
    pub(crate) cryptlet: CryptletId,
    pub(crate) secret: SecretCode,
    pub(crate) measurement: Measurement,
    pub(crate) now: UnixSeconds,
}

#[async_trait]
impl CallOutHandler for Giving {
    fn open(&self, settings: &RegionSettings) -> Box<dyn CallOutSession> {
        self.inner.open(settings)
    }

    async fn code_key(&self, asked: CodeAsked) -> Result<CodeGrant, String> {
        let package = asked.package;
        let given = self.give(asked).await;
        match &given {
            Ok(_) => {
                tracing::info!(cryptlet = %self.cryptlet, %package, "key of secret code given");
            }
            Err(reason) => {
                tracing::warn!(cryptlet = %self.cryptlet, %package, reason, "no key of secret code given");
            }
        }
        given
    }
}

impl Giving {
    async fn give(&self, asked: CodeAsked) -> Result<CodeGrant, String> {
        let KeptCode {
            sealed,
            code,
            agreements,
        } = self.codes.of(asked.package, &self.secret).await?;
        let agreement = CodeAgreement {
            package: asked.package,
            code,
        };
        let told = |error: &dyn std::fmt::Display| error.to_string();
        check_agreements(&agreement, &self.secret.counterparties, &agreements)
            .map_err(|error| told(&error))?;
        let statement = asked.created.statement;
        let vault = &self.ports.vault;
        let signature = vault
            .sign(&KeyId::Host, statement.digest(self.now))
            .await
            .map_err(|error| told(&error))?;
        let policy = while_loading(&self.policy.policy, statement.provider);
        let evidence = Evidence {
            statement,
            made_at: self.now,
            host: self.host,
            signature,
            attestation: asked.created.attestation,
        };
        let expected = Expected {
            policy: &policy,
            measurement: self.measurement,
            nonce: asked.nonce,
            host: self.host,
            from: self.now,
            to: self.now,
        };
        let key = vault
            .release_code_key(self.cryptlet, asked.package, &sealed, &evidence, &expected)
            .await
            .map_err(|error| told(&error))?;
        Ok(CodeGrant {
            key,
            code,
            agreements,
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
