//! What a host is made of. Everything is handed in: chain, clock, vault and isolation may be any of their kind.

use crate::{ClockSource, DataFolder, HostConfig, HostError};
use alloy_primitives::Address;
use cryptlet_chain::{Chain, EvmChain, Head};
use cryptlet_isolation::{CallOutHandler, IsolationProvider, ProcessProvider, Relay, TracingLog};
use cryptlet_journal::{Journal, wall_clock};
use cryptlet_register::{LocalRegister, PolicyStore, Register};
use cryptlet_types::{UnixSeconds, policy::PolicyInForce};
use cryptlet_vault::{FileVault, KeyId, Vault};
use cryptlet_watch::{ChainClock, Clock, SystemClock};
use std::sync::Arc;

/// A host's clock.
#[derive(Clone)]
pub enum HostClock {
    /// A clock that goes by itself or is moved by somebody else.
    Free(Arc<dyn Clock>),
    /// A clock that the host moves with the chain.
    Chain(Arc<ChainClock>),
}

impl HostClock {
    /// The clock to ask.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        match self {
            Self::Free(clock) => clock.clone(),
            Self::Chain(clock) => clock.clone(),
        }
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> UnixSeconds {
        match self {
            Self::Free(clock) => clock.now(),
            Self::Chain(clock) => clock.now(),
        }
    }

    /// Tells it of a block.
    pub fn observe(&self, head: &Head) {
        if let Self::Chain(clock) = self {
            clock.observe(head);
        }
    }
}

/// The parts of a host.
#[derive(Clone)]
pub struct Parts {
    /// The durable log.
    pub journal: Arc<Journal>,
    /// The chain with the delegate.
    pub chain: Arc<dyn Chain>,
    /// The keys.
    pub vault: Arc<dyn Vault>,
    /// Packages and which cryptlet runs which.
    pub register: Arc<dyn Register>,
    /// Where regions come from.
    pub isolation: Arc<dyn IsolationProvider>,
    /// What answers regions.
    pub call_out: Arc<dyn CallOutHandler>,
    /// The operator's word.
    pub policy: PolicyInForce,
    /// The time.
    pub clock: HostClock,
    /// Address of the host's key.
    pub host: Address,
    /// Address of the account that sends transactions.
    pub transmitter: Address,
    /// First block whose logs are read.
    pub first_block: u64,
}

impl Parts {
    /// The parts that `config` names. `clock` replaces the configured one where it is given.
    ///
    /// # Errors
    /// Says which part does not work; see [`HostError`].
    pub async fn open(config: &HostConfig, clock: Option<HostClock>) -> Result<Self, HostError> {
        let data = DataFolder::at(&config.data);
        let vault = FileVault::open(&data.vault(), &config.unlock.secret()?)?;
        let policy = PolicyStore::open(&data.policy_memory())?.load(&config.policy)?;
        let register = LocalRegister::open(&data.register())?;
        let chain = EvmChain::connect(&config.rpc, config.delegate).await?;
        let clock = match (clock, config.clock) {
            (Some(clock), _) => clock,
            (None, ClockSource::System) => HostClock::Free(Arc::new(SystemClock)),
            (None, ClockSource::Chain) => {
                HostClock::Chain(Arc::new(ChainClock::new(&chain.head().await?)))
            }
        };
        Ok(Self {
            host: vault.address(&KeyId::Host).await?,
            transmitter: vault.address(&KeyId::Transmitter).await?,
            journal: Arc::new(Journal::open(&data.journal(), wall_clock()).await?),
            chain: Arc::new(chain),
            vault: Arc::new(vault),
            register: Arc::new(register),
            isolation: Arc::new(ProcessProvider::new(&config.container)?),
            call_out: Arc::new(Relay::new(
                config.resolve.clone(),
                Arc::new(TracingLog::new("cryptlet")),
            )),
            policy,
            clock,
            first_block: config.first_block,
        })
    }
}
