//! What a host is made of. Everything is handed in: chain, clock, vault and isolation may be any of their kind.

use crate::{
    ClockSource, DataFolder, HostConfig, HostError, Rules, delegations::Delegations,
    elsewhere::Ground, fetcher::Fetcher, files, manifests::Manifests, recordings::Recordings,
    register_link::RegisterLink, secret_codes::SecretCodeStore,
};
use alloy_primitives::Address;
use cryptlet_chain::{Chain, EvmChain, EvmConfig, EvmLogChain, Head, LogChain, RegisterChain};
use cryptlet_isolation::{
    CallOutHandler, Providers, Relay, TracingLog, microvm::probe, providers::Containers,
};
use cryptlet_journal::{Journal, wall_clock};
use cryptlet_register::{Index, PackageStore, PolicyStore, Replica};
use cryptlet_types::{UnixSeconds, policy::SignedPolicy};
use cryptlet_vault::{Images, KeyId, Vault};
use cryptlet_watch::{Calendars, ChainClock, Clock, SystemClock};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

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
    /// Chains whose logs and blocks contracts may be woken by, the delegate's among them, by their ids.
    pub log_chains: Arc<BTreeMap<u64, Arc<dyn LogChain>>>,
    /// The keys.
    pub vault: Arc<dyn Vault>,
    /// The chain with the register, which may be the same.
    pub register_chain: Arc<dyn RegisterChain>,
    /// What the register said, and the packages.
    pub replica: Arc<Replica>,
    /// The policy in force.
    pub rules: Arc<Rules>,
    /// What identities allow.
    pub delegations: Arc<Delegations>,
    /// Where regions come from.
    pub isolation: Providers,
    /// What answers regions.
    pub call_out: Arc<dyn CallOutHandler>,
    /// The time.
    pub clock: HostClock,
    /// The markets whose hours are known.
    pub calendars: Arc<Calendars>,
    /// Address of the host's key.
    pub host: Address,
    /// Address of the account that sends transactions.
    pub transmitter: Address,
    /// First block whose delegate's logs are read.
    pub first_block: u64,
    /// First block whose register's logs are read.
    pub register_first_block: u64,
    /// Seconds that the newest block of the register's chain may be old.
    pub register_max_head_age: Option<u64>,
    pub(crate) fetcher: Arc<Fetcher>,
    pub(crate) manifests: Arc<Manifests>,
    pub(crate) recordings: Recordings,
    /// Where regions leave what they promised; nowhere in a simulation.
    pub(crate) images: Option<Images>,
    /// Where keys of secret code lie; nowhere in a simulation.
    pub(crate) secret_codes: Option<Arc<SecretCodeStore>>,
}

/// What a host is given that is not opened from a configuration: each as the field of [`Parts`] with its name.
#[allow(
    missing_docs,
    reason = "each is documented where it is a part of the host"
)]
pub struct Given {
    pub journal: Arc<Journal>,
    pub chain: Arc<dyn Chain>,
    pub vault: Arc<dyn Vault>,
    pub register_chain: Arc<dyn RegisterChain>,
    pub replica: Arc<Replica>,
    pub rules: Arc<Rules>,
    pub delegations: Arc<Delegations>,
    pub isolation: Providers,
    pub call_out: Arc<dyn CallOutHandler>,
    pub clock: HostClock,
    pub calendars: Arc<Calendars>,
    pub log_chains: Arc<BTreeMap<u64, Arc<dyn LogChain>>>,
    pub first_block: u64,
    pub register_first_block: u64,
    pub register_max_head_age: Option<u64>,
}

impl Parts {
    /// The parts of a host that is made of what it is `given`, for simulations. It fetches no packages.
    ///
    /// # Errors
    /// The vault has no keys of a host.
    pub async fn of(given: Given) -> Result<Self, HostError> {
        let Given {
            journal,
            chain,
            vault,
            register_chain,
            replica,
            rules,
            delegations,
            isolation,
            call_out,
            clock,
            calendars,
            log_chains,
            first_block,
            register_first_block,
            register_max_head_age,
        } = given;
        Ok(Self {
            host: vault.address(&KeyId::Host).await?,
            transmitter: vault.address(&KeyId::Transmitter).await?,
            fetcher: Arc::new(Fetcher::new(replica.clone(), vec![])?),
            manifests: Arc::new(Manifests::new(replica.clone())),
            recordings: Recordings::nowhere(),
            images: None,
            secret_codes: None,
            journal,
            chain,
            vault,
            register_chain,
            replica,
            rules,
            delegations,
            isolation,
            call_out,
            clock,
            calendars,
            log_chains,
            first_block,
            register_first_block,
            register_max_head_age,
        })
    }

    /// The parts that `config` names. `clock` replaces the configured one where it is given.
    ///
    /// # Errors
    /// Says which part does not work; see [`HostError`].
    pub async fn open(config: &HostConfig, clock: Option<HostClock>) -> Result<Self, HostError> {
        let data = DataFolder::at(&config.data);
        files::own_folder(data.path()).map_err(|error| HostError::Config {
            path: data.path().to_owned(),
            reason: error.to_string(),
        })?;
        if let Some(path) = &config.policy {
            check_policy_file(path)?;
        }
        let vault = config.vault.open(&data).await?;
        let mut urls = vec![config.rpc.clone()];
        urls.extend(config.fallbacks.iter().cloned());
        let chain = EvmChain::open(nodes(urls.clone(), config.delegate)).await?;
        let log_chains = log_chains(urls, config).await?;
        let register_rpc = config.register.rpc.as_ref().unwrap_or(&config.rpc);
        let register_chain =
            RegisterLink::open(register_rpc, config.register.address, &data.register()).await?;
        let index = Arc::new(Index::open(&data.index()).await?);
        let packages = PackageStore::open(&data.packages(), config.packages.quota_bytes)?;
        if let Err(error) = packages.sweep() {
            tracing::warn!(%error, "what interrupted uploads left behind stays, and takes room");
        }
        let replica = Arc::new(Replica::new(index.clone(), packages));
        let policies = PolicyStore::open(&data.policy())?;
        let rules = Rules::new(
            policies,
            index,
            register_chain.domain(),
            config.policy.clone(),
        );
        let clock = match (clock, config.clock) {
            (Some(clock), _) => clock,
            (None, ClockSource::System) => HostClock::Free(Arc::new(SystemClock)),
            (None, ClockSource::Chain) => {
                HostClock::Chain(Arc::new(ChainClock::new(&chain.head().await?)))
            }
        };
        let mut calendars = Calendars::bundled()?;
        if let Some(folder) = &config.calendars {
            calendars.add_folder(folder)?;
        }
        let delegations = Delegations::open(&data.delegations(), chain.domain())?;
        delegations.sweep(clock.now())?;
        let rules = Arc::new(rules);
        let host = vault.address(&KeyId::Host).await?;
        let isolation = providers(config, Ground::new(rules.clone(), vault.clone(), host))?;
        let secret_codes =
            SecretCodeStore::at(&data.secret_code(), vault.clone(), replica.clone())?;
        Ok(Self {
            host,
            transmitter: vault.address(&KeyId::Transmitter).await?,
            journal: Arc::new(Journal::open(&data.journal(), wall_clock()).await?),
            delegations: Arc::new(delegations),
            chain: Arc::new(chain),
            vault,
            fetcher: Arc::new(Fetcher::new(
                replica.clone(),
                config.packages.registries.clone(),
            )?),
            manifests: Arc::new(Manifests::new(replica.clone())),
            recordings: Recordings::in_folder(data.recordings()),
            images: Some(Images::at(&data.sealed())?),
            secret_codes: Some(Arc::new(secret_codes)),
            register_chain: Arc::new(register_chain),
            replica,
            rules,
            isolation,
            call_out: Arc::new(Relay::new(
                config.resolve.clone(),
                Arc::new(TracingLog::new("cryptlet")),
            )),
            clock,
            calendars: Arc::new(calendars),
            log_chains: Arc::new(log_chains),
            first_block: config.first_block,
            register_first_block: config.register.first_block,
            register_max_head_age: config.register.max_head_age_seconds,
        })
    }
}

/// The containers on other machines that the configuration names, and what this machine can run.
fn providers(config: &HostConfig, ground: Arc<Ground>) -> Result<Providers, HostError> {
    let installed = Containers {
        process: Some(config.container.clone()),
        microvm: config.microvm_container.clone(),
    };
    let elsewhere = config.remote.iter();
    let elsewhere = elsewhere.map(|remote| remote.provider(ground.clone()));
    let elsewhere = elsewhere.collect::<Result<_, _>>()?;
    Ok(Providers::of_this_machine(&installed, probe)?.after(elsewhere))
}

/// Nodes of one chain, the preferred one first.
fn nodes(urls: Vec<String>, contract: Address) -> EvmConfig {
    EvmConfig {
        urls,
        ..EvmConfig::new("", contract)
    }
}

/// The delegate's chain, whose nodes are `own`, and those that the configuration names beside it, by their ids.
async fn log_chains(
    own: Vec<String>,
    config: &HostConfig,
) -> Result<BTreeMap<u64, Arc<dyn LogChain>>, HostError> {
    let others = config.chains.iter().map(|chain| chain.rpc.clone());
    let mut chains = BTreeMap::<u64, Arc<dyn LogChain>>::new();
    for urls in std::iter::once(own).chain(others) {
        let named = urls.len();
        let chain = EvmLogChain::open(nodes(urls, Address::ZERO)).await?;
        let id = chain.chain_id();
        if chains.insert(id, Arc::new(chain)).is_some() {
            return Err(HostError::Config {
                path: PathBuf::from("chains"),
                reason: format!(
                    "chain {id} is named twice ({named} nodes); list its nodes together"
                ),
            });
        }
    }
    Ok(chains)
}

/// A policy file that the operator named has to be there and to be one. Whether it is the one that the register has is
/// looked at later, and again and again.
fn check_policy_file(path: &Path) -> Result<(), HostError> {
    let refuse = |reason: String| HostError::Config {
        path: path.to_owned(),
        reason,
    };
    let bytes = files::read(path).map_err(|error| refuse(error.to_string()))?;
    SignedPolicy::from_json(&bytes).map_err(|error| refuse(error.to_string()))?;
    Ok(())
}
