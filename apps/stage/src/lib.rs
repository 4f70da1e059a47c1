//! A stage: a chain with the contracts, a feed, a published cryptlet, and a host's folder that is ready to be opened. The chain is
//! the stage's own, or a development chain that is there already. The demo, the measurements and the integration tests play on it. [`dev`] is the one that stays.

mod contracts;
pub mod dev;
mod error;
mod folder;
mod mirror;
mod policy;
mod publish;

pub use contracts::PRICE_CONSUMER;
pub use error::StageError;
pub use mirror::Mirror;
pub use publish::{CryptletSource, Published, RELAY};

use alloy::{
    network::EthereumWallet,
    primitives::{Address, U256},
    providers::{DynProvider, Provider, ProviderBuilder, WsConnect},
    signers::local::PrivateKeySigner,
    sol_types::SolValue,
};
use contracts::Contracts;
use cryptlet_feed::{Feed, Rates};
use cryptlet_host::{ClockSource, DataFolder, HostConfig};
use cryptlet_isolation::{IsolationProvider, ProcessProvider};
use cryptlet_node::{Node, NodeConfig};
use cryptlet_register::PackageStore;
use cryptlet_seal::package;
use cryptlet_types::{
    Measurement, Policy, Subject, UnixSeconds,
    policy::{Retry, SignedPolicy},
    region::RegionSettings,
    register::RegisterDomain,
};
use error::Doing;
use folder::{Keys, Setting, write_json};
use futures::StreamExt;
use publish::Press;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

/// The market watcher's component, as `make -C cryptlets` builds it.
pub const MARKET_WATCHER: &[u8] = include_bytes!("../../../cryptlets/dist/market-watcher.wasm");
/// Its author's manifest.
pub const MARKET_WATCHER_MANIFEST: &[u8] =
    include_bytes!("../../../cryptlets/market-watcher/cryptlet.json");
/// Its author's interface.
pub const MARKET_WATCHER_INTERFACE: &str =
    include_str!("../../../cryptlets/market-watcher/interface.sol");
/// Name of the feed. It is never resolved: the host's configuration says where it is.
pub const FEED_NAME: &str = "rates.bletchley.example";
/// The feed's place, as manifests and policy write it.
pub const FEED_PLACE: &str = "rates.bletchley.example:443";
/// Of the administrators that a register begins with.
const FIRST_TERM: u64 = 1;

/// Where the cryptlet's figures come from.
pub enum Source {
    /// A feed that serves these rates.
    Rates(Rates),
    /// None: the cryptlet asks nobody, and policy lets it.
    Nothing,
    /// A server of somebody else's, and the root that policy pins for it.
    Other {
        /// Where it listens.
        address: SocketAddr,
        /// PEM.
        root: String,
    },
}

/// A development chain that somebody else runs. Whoever holds the key may do there whatever a stage does: it holds nothing of
/// value.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// URL of its JSON-RPC over HTTP.
    pub url: String,
    /// URL of its JSON-RPC over WebSocket.
    pub ws_url: String,
    /// The account that deploys, publishes and pays.
    pub account: PrivateKeySigner,
}

/// What a stage is built from.
pub struct StageOptions {
    /// An empty folder for the host's data and its configuration.
    pub out: PathBuf,
    /// The container's binary.
    pub container: PathBuf,
    /// Time of the chain's first block.
    pub genesis: UnixSeconds,
    /// The cryptlet.
    pub cryptlet: CryptletSource,
    /// Where its figures come from.
    pub source: Source,
    /// How often a failed run is tried again.
    pub retry: Retry,
    /// Seconds of the chain's clock for which a region's evidence and the register's word count.
    pub max_age_seconds: u64,
}

/// A chain with contracts, and a host's folder that is ready to be opened.
pub struct Stage {
    /// The host's configuration; a copy lies in the folder as `host.json`.
    pub config: HostConfig,
    /// A connection that signs as the chain's first account.
    pub provider: DynProvider,
    /// The delegate.
    pub delegate: Address,
    /// The register.
    pub register: Address,
    /// The published cryptlet.
    pub cryptlet: Published,
    /// What should run, computed from the files: an auditor's own figure.
    pub measurement: Measurement,
    /// Address of the host's key.
    pub host: Address,
    /// EIP-155 id of the chain.
    pub chain_id: u64,
    /// The account that deployed and published, and that alone approves policy.
    pub account: PrivateKeySigner,
    /// The policy in force, with its approval; a copy lies in the folder as `policy.json`.
    pub policy: SignedPolicy,
    chain: Chain,
    feed: Option<Feed>,
}

/// The chain of a stage.
enum Chain {
    Own(Node),
    Elsewhere(Elsewhere),
}

impl Chain {
    fn url(&self) -> String {
        match self {
            Self::Own(node) => node.url(),
            Self::Elsewhere(chain) => chain.url.clone(),
        }
    }

    fn ws_url(&self) -> String {
        match self {
            Self::Own(node) => node.ws_url(),
            Self::Elsewhere(chain) => chain.ws_url.clone(),
        }
    }

    fn wallet(&self) -> Result<(DynProvider, PrivateKeySigner), StageError> {
        match self {
            Self::Own(node) => wallet(node),
            Self::Elsewhere(chain) => {
                let provider = connect(&chain.url, &chain.account)?;
                Ok((provider, chain.account.clone()))
            }
        }
    }
}

impl Stage {
    /// Starts chain and feed, deploys the contracts, approves the policy, publishes and registers the cryptlet, funds the
    /// transmitter.
    ///
    /// # Errors
    /// Says what could not be done, and why.
    pub async fn build(options: StageOptions) -> Result<Self, StageError> {
        let node_config = NodeConfig {
            genesis_timestamp: Some(options.genesis),
            ..NodeConfig::default()
        };
        let node = Node::start(node_config)
            .await
            .doing("the node did not start")?;
        Self::set_up(Chain::Own(node), options).await
    }

    /// The same on a chain that is there already; `options.genesis` means nothing there.
    ///
    /// # Errors
    /// Says what could not be done, and why.
    pub async fn build_at(chain: Elsewhere, options: StageOptions) -> Result<Self, StageError> {
        Self::set_up(Chain::Elsewhere(chain), options).await
    }

    async fn set_up(chain: Chain, options: StageOptions) -> Result<Self, StageError> {
        let StageOptions {
            out,
            container,
            genesis: _,
            cryptlet,
            source,
            retry,
            max_age_seconds,
        } = options;
        let (provider, account) = chain.wallet()?;
        let chain_id = chain_id(&provider).await?;
        let (feed, place) = open_source(source).await?;
        let (address, root) = place.unzip();
        let first_block = provider.get_block_number().await;
        let first_block = first_block.doing("cannot ask the chain for its height")?;
        let contracts = Contracts::deploy(&provider, account.address()).await?;
        let config = folder::configure(Setting {
            out: &out,
            rpc: chain.url(),
            contracts,
            first_block,
            container,
            feed: address,
            clock: ClockSource::Chain,
            api: None,
        })?;
        let domain = RegisterDomain {
            chain_id,
            register: contracts.register,
        };
        let mut open = policy::open_policy(1, root, &[], retry);
        open.evidence.max_age_seconds = max_age_seconds;
        let policy = policy::approve(&account, &domain, FIRST_TERM, open)?;
        write_json(&out.join("policy.json"), &policy)?;
        policy::set(&provider, contracts.register, &policy).await?;

        let data = DataFolder::at(&config.data);
        let keys = Keys::make(&data, &folder::key_file(&out)).await?;
        let store = PackageStore::open(&data.packages(), config.packages.quota_bytes)
            .doing("cannot open the content store")?;
        let press = Press {
            provider: &provider,
            publisher: account.address(),
            register: contracts.register,
            vault: &keys.vault,
            store: &store,
        };
        let cryptlet = press.publish(&cryptlet).await?;
        contracts::fund(&provider, keys.transmitter).await?;
        let measurement = measure(&config, &policy.policy, &store, &cryptlet)?;
        Ok(Self {
            config,
            provider,
            delegate: contracts.delegate,
            register: contracts.register,
            cryptlet,
            measurement,
            host: keys.host,
            chain_id,
            account,
            policy,
            chain,
            feed,
        })
    }

    /// Puts another policy in force, approved by the stage's account, and writes it to `policy.json` first: whoever hears of
    /// it finds it there.
    ///
    /// # Errors
    /// The register refused it.
    pub async fn enact(&mut self, policy: Policy) -> Result<(), StageError> {
        self.policy = self.approve(policy)?;
        if let Some(path) = &self.config.policy {
            write_json(path, &self.policy)?;
        }
        self.set_policy(&self.policy).await
    }

    /// `policy` with the approval of the stage's account, the register's first and only administrator, in force nowhere.
    ///
    /// # Errors
    /// It has no JSON form.
    pub fn approve(&self, policy: Policy) -> Result<SignedPolicy, StageError> {
        policy::approve(&self.account, &self.domain(), FIRST_TERM, policy)
    }

    /// Has the register say that an approved policy is in force. Where the document is, it does not say.
    ///
    /// # Errors
    /// The register refused it.
    pub async fn set_policy(&self, signed: &SignedPolicy) -> Result<(), StageError> {
        policy::set(&self.provider, self.register, signed).await
    }

    /// Where the register is.
    #[must_use]
    pub fn domain(&self) -> RegisterDomain {
        RegisterDomain {
            chain_id: self.chain_id,
            register: self.register,
        }
    }

    /// URL of the chain's JSON-RPC.
    #[must_use]
    pub fn url(&self) -> String {
        self.chain.url()
    }

    /// URL of the chain's JSON-RPC over WebSocket, which announces blocks instead of being asked for them.
    #[must_use]
    pub fn ws_url(&self) -> String {
        self.chain.ws_url()
    }

    /// Where the stage's own feed listens.
    #[must_use]
    pub fn feed(&self) -> Option<SocketAddr> {
        self.feed.as_ref().map(Feed::address)
    }

    /// Deploys a `PriceConsumer` for these currencies; its address and subscription.
    ///
    /// # Errors
    /// The deployment failed.
    pub async fn deploy_price_consumer(
        &self,
        pairs: &[String],
    ) -> Result<(Address, Subject), StageError> {
        let arguments =
            (self.delegate, self.cryptlet.cryptlet.0, pairs.to_vec()).abi_encode_params();
        self.deploy_consumer(PRICE_CONSUMER, &arguments).await
    }

    /// Deploys a consumer from an artifact that has a `subject()`; its address and subscription.
    ///
    /// # Errors
    /// The deployment failed, or the contract has not subscribed.
    pub async fn deploy_consumer(
        &self,
        artifact: &str,
        arguments: &[u8],
    ) -> Result<(Address, Subject), StageError> {
        let consumer = contracts::deploy(&self.provider, artifact, arguments).await?;
        Ok((
            consumer,
            contracts::subject_of(&self.provider, consumer).await?,
        ))
    }

    /// Makes a block of that time: from then on it is what the chain calls now.
    ///
    /// # Errors
    /// The time is not after the last block's.
    pub async fn set_time(&self, time: UnixSeconds) -> Result<(), StageError> {
        self.rpc("evm_setNextBlockTimestamp", [U256::from(time)])
            .await?;
        self.rpc("evm_mine", ()).await
    }

    /// Calls a method of the node whose answer does not matter.
    ///
    /// # Errors
    /// The node refused.
    pub async fn rpc<P: serde::Serialize + Clone + std::fmt::Debug + Send + Sync + Unpin>(
        &self,
        method: &'static str,
        params: P,
    ) -> Result<(), StageError> {
        let answer: Result<serde_json::Value, _> =
            self.provider.raw_request(method.into(), params).await;
        answer.doing(method).map(drop)
    }

    /// Numbers of blocks from now on, as the node announces them.
    ///
    /// # Errors
    /// The node cannot be reached.
    pub async fn heads(
        &self,
    ) -> Result<impl futures::Stream<Item = u64> + Unpin + use<>, StageError> {
        let doing = "cannot follow the chain's heads";
        let socket = WsConnect::new(self.chain.ws_url());
        let provider = ProviderBuilder::new()
            .connect_ws(socket)
            .await
            .doing(doing)?;
        let heads = provider
            .subscribe_blocks()
            .await
            .doing(doing)?
            .into_stream();
        Ok(heads.map(move |header| {
            let _kept_open = &provider;
            header.number
        }))
    }

    /// Stops the chain, if it is the stage's own.
    ///
    /// # Errors
    /// It did not stop cleanly.
    pub async fn close(self) -> Result<(), StageError> {
        drop(self.provider);
        match self.chain {
            Chain::Own(node) => node.shutdown().await.doing("the node did not stop cleanly"),
            Chain::Elsewhere(_) => Ok(()),
        }
    }
}

/// A connection that signs as the chain's first account, and that account.
fn wallet(node: &Node) -> Result<(DynProvider, PrivateKeySigner), StageError> {
    let (_, key) = node
        .accounts()
        .first()
        .ok_or_else(|| StageError::new("the chain has no accounts"))?;
    let signer = PrivateKeySigner::from_bytes(key).doing("key of the chain's first account")?;
    Ok((connect(&node.url(), &signer)?, signer))
}

/// A connection that signs as `account`.
fn connect(url: &str, account: &PrivateKeySigner) -> Result<DynProvider, StageError> {
    // The HTTP client wants to know whose cryptography it would use, even where there is no TLS.
    let _known_already = rustls::crypto::ring::default_provider().install_default();
    let url = url.parse().doing("the chain's URL")?;
    let provider = ProviderBuilder::new()
        .wallet(EthereumWallet::from(account.clone()))
        .connect_http(url);
    Ok(provider.erased())
}

async fn chain_id(provider: &DynProvider) -> Result<u64, StageError> {
    let id = provider.get_chain_id().await;
    id.doing("cannot ask the chain for its id")
}

/// A source's feed if it is the stage's own, and where it is with its root.
type Opened = (Option<Feed>, Option<(SocketAddr, String)>);

async fn open_source(source: Source) -> Result<Opened, StageError> {
    match source {
        Source::Nothing => Ok((None, None)),
        Source::Other { address, root } => Ok((None, Some((address, root)))),
        Source::Rates(rates) => {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let feed = Feed::start(rates, FEED_NAME, any)
                .await
                .doing("the feed did not start")?;
            let (address, root) = (feed.address(), feed.root_pem().to_owned());
            Ok((Some(feed), Some((address, root))))
        }
    }
}

fn measure(
    config: &HostConfig,
    policy: &Policy,
    store: &PackageStore,
    cryptlet: &Published,
) -> Result<Measurement, StageError> {
    let doing = "cannot measure the cryptlet";
    let files = store.get(cryptlet.package).doing(doing)?;
    let manifest = package::open(&files).doing(doing)?.manifest;
    let settings = RegionSettings::decided_by(policy, &manifest, manifest.config.limits);
    ProcessProvider::new(&config.container)
        .doing(doing)?
        .measurement(&files, &settings)
        .doing(doing)
}
