//! Regions on other machines: what this host believes of them, and how it proves itself to them.

use crate::{HostError, Rules, config::RemoteContainer, host::nothing};
use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use cryptlet_channel::InForce;
use cryptlet_isolation::{HostKey, IsolationProvider, RemoteProvider};
use cryptlet_types::{UnixSeconds, policy::PolicyInForce, report::CompactSignature};
use cryptlet_vault::{KeyId, Vault};
use cryptlet_watch::{Clock, SystemClock};
use std::sync::Arc;

/// By what this host judges who is at the other end, and its own key.
pub(crate) struct Ground {
    rules: Arc<Rules>,
    vault: Arc<dyn Vault>,
    host: Address,
}

impl Ground {
    pub(crate) fn new(rules: Arc<Rules>, vault: Arc<dyn Vault>, host: Address) -> Arc<Self> {
        Arc::new(Self { rules, vault, host })
    }
}

impl InForce for Ground {
    /// That of the machine, also where the host goes by its chain's: a chain whose time is set by hand says nothing about when
    /// a certificate was made.
    fn now(&self) -> UnixSeconds {
        SystemClock.now()
    }

    fn policy(&self) -> Arc<PolicyInForce> {
        let policy = self.rules.standing().policy;
        policy.unwrap_or_else(|| Arc::new(nothing()))
    }

    /// No other host's word counts for a region that this one is to work with.
    fn is_host(&self, host: Address) -> bool {
        host == self.host
    }
}

#[async_trait]
impl HostKey for Ground {
    fn address(&self) -> Address {
        self.host
    }

    async fn sign(&self, digest: B256) -> Result<CompactSignature, String> {
        let signed = self.vault.sign(&KeyId::Host, digest).await;
        signed.map_err(|error| error.to_string())
    }
}

impl RemoteContainer {
    /// Has regions made there.
    pub(crate) fn provider(
        &self,
        ground: Arc<Ground>,
    ) -> Result<Arc<dyn IsolationProvider>, HostError> {
        let provider = RemoteProvider::new(
            &self.address,
            self.container,
            self.provider,
            ground.clone(),
            ground,
        )?;
        Ok(Arc::new(provider))
    }
}
