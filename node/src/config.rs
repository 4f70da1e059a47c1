//! What a node is started with.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alloy_primitives::{Address, U256};

/// When blocks are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mining {
    /// A block for each accepted transaction, before its hash is returned to the sender.
    Instant,
    /// A block each time the duration has passed, empty or not.
    Interval(Duration),
    /// A block only on `evm_mine` or `anvil_mine`.
    Manual,
}

/// Reads the wall clock: seconds since the Unix epoch.
pub type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The funded development accounts. Their keys come from the published mnemonic
/// "test test test test test test test test test test test junk" (BIP-44 path m/44'/60'/0'/0/n):
/// everyone knows them, so they protect nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DevAccounts {
    /// How many accounts, at most 100.
    pub count: u32,
    /// Balance of each in the genesis block, in wei.
    pub balance: U256,
}

impl Default for DevAccounts {
    /// Ten accounts of 10,000 ether, as Anvil has them.
    fn default() -> Self {
        Self {
            count: 10,
            balance: U256::from(10_000u64) * U256::from(10u64).pow(U256::from(18u64)),
        }
    }
}

/// What a node tells its clients about the chain's delegate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelegateNotice {
    /// The delegate, which has to be a contract of this chain already.
    pub address: Address,
    /// The document that says where delegate, register and policy are; handed on as it is.
    pub document: serde_json::Value,
}

/// Configuration of a [`Node`](crate::Node).
#[derive(Clone)]
pub struct NodeConfig {
    /// Chain id (EIP-155). Default 31337.
    pub chain_id: u64,
    /// Where HTTP and WebSocket are served; port 0 takes any free port. Default 127.0.0.1:0.
    ///
    /// The `evm_`, `anvil_` and `hardhat_` methods and those that sign with development accounts
    /// exist only when the address is a loopback address.
    pub listen: SocketAddr,
    /// When blocks are made. Default [`Mining::Instant`].
    pub mining: Mining,
    /// Timestamp of the genesis block, in seconds since the Unix epoch; the chain's clock starts
    /// there. Default: the wall clock.
    pub genesis_timestamp: Option<u64>,
    /// The funded development accounts.
    pub accounts: DevAccounts,
    /// Gas limit of a block, from 5,000 to 1,000,000,000. Default 30,000,000. A transaction may
    /// use at most 16,777,216 of it (EIP-7825).
    pub gas_limit: u64,
    /// File that keeps the chain over restarts. Default none: the chain ends with the node.
    pub state_file: Option<PathBuf>,
    /// The wall clock. Default: the system's.
    pub clock: WallClock,
    /// The chain's delegate; served as `bletchley_delegate`. Default none.
    pub delegate: Option<DelegateNotice>,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            chain_id: 31337,
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            mining: Mining::Instant,
            genesis_timestamp: None,
            accounts: DevAccounts::default(),
            gas_limit: 30_000_000,
            state_file: None,
            clock: Arc::new(system_time),
            delegate: None,
        }
    }
}

impl fmt::Debug for NodeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeConfig")
            .field("chain_id", &self.chain_id)
            .field("listen", &self.listen)
            .field("mining", &self.mining)
            .field("genesis_timestamp", &self.genesis_timestamp)
            .field("accounts", &self.accounts)
            .field("gas_limit", &self.gas_limit)
            .field("state_file", &self.state_file)
            .field("delegate", &self.delegate)
            .finish_non_exhaustive()
    }
}

fn system_time() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}
