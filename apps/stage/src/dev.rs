//! A stage that stays: chain, register, feed and host of a developer's own, kept in a folder over restarts.
//!
//! The folder is its user's alone (mode 0700).
//!
//! | in the folder | what |
//! |---|---|
//! | `chain` | the chain's state |
//! | `contracts.json` | where register and delegate are |
//! | `host.json`, `policy.json`, `vault.key` | what the host is started with; written anew at each start, but for the key |
//! | `host/` | the host's data |
//! | `feed.pem` | the embedded feed's certificate and key (mode 0600), so that a policy which pins its root stays good |
//! | `connection.json` | how to talk to the host: its URL, its authority, a token (mode 0600) |
//!
//! Anyone may publish and be served here, and the keys of the chain's accounts are public knowledge: it is for one
//! machine, listens on loopback addresses only, and holds nothing of value.

use crate::{
    FEED_NAME, chain_id,
    contracts::{self, Contracts},
    error::{Doing, StageError},
    folder::{self, Keys, Setting, write_json},
    policy, wallet,
};
use alloy::{
    primitives::{Address, U256},
    providers::{DynProvider, Provider},
    signers::local::PrivateKeySigner,
};
use cryptlet_api::{
    Connection, TokenStore,
    types::{NewToken, Role, TokenLifetime},
    wall_clock,
};
use cryptlet_feed::{Feed, Identity, Rates};
use cryptlet_host::{ApiConfig, ClockSource, DataFolder, Host, HostConfig};
use cryptlet_node::{Node, NodeConfig};
use cryptlet_seal::sha256;
use cryptlet_types::{
    Policy,
    policy::{Retry, SignedPolicy},
    register::{HostRecord, RegisterDomain},
};
use std::{
    fs::Permissions,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// What a developer's stage is started with.
pub struct DevOptions {
    /// The folder that keeps everything.
    pub folder: PathBuf,
    /// The container's binary.
    pub container: PathBuf,
    /// Port of the chain's JSON-RPC; 0 takes any free one.
    pub rpc_port: u16,
    /// Port of the host's API; 0 takes any free one.
    pub api_port: u16,
    /// Further sources, `host:port`, that cryptlets may reach, by the public web's roots.
    pub allow: Vec<String>,
    /// What the feed serves.
    pub rates: Rates,
}

/// A developer's stage that serves.
pub struct Dev {
    /// The host.
    pub host: Host,
    /// How to talk to it.
    pub connection: Connection,
    /// The delegate.
    pub delegate: Address,
    /// The register.
    pub register: Address,
    /// URL of the chain's JSON-RPC.
    pub rpc: String,
    /// Epoch of a policy that administrators put in force in place of this stage's own; it is kept.
    pub kept_policy: Option<u64>,
    node: Node,
    _feed: Feed,
}

impl Dev {
    /// Starts chain, feed and host; deploys the contracts at the first start.
    ///
    /// # Errors
    /// Says what could not be done, and why.
    pub async fn start(options: DevOptions) -> Result<Self, StageError> {
        let DevOptions {
            folder,
            container,
            rpc_port,
            api_port,
            allow,
            rates,
        } = options;
        own_folder(&folder)?;
        let node = start_node(&folder, rpc_port).await?;
        let (provider, account) = wallet(&node)?;
        let contracts = contracts_in(&folder, &provider, account.address()).await?;
        let domain = RegisterDomain {
            chain_id: chain_id(&provider).await?,
            register: contracts.register,
        };
        let doing = "the feed did not start";
        let identity = Identity::kept(FEED_NAME, &folder.join("feed.pem")).doing(doing)?;
        let feed = Feed::start_as(rates, &identity, loopback(0))
            .await
            .doing(doing)?;
        let config = folder::configure(Setting {
            out: &folder,
            rpc: node.ws_url(),
            contracts,
            first_block: 0,
            container,
            feed: Some(feed.address()),
            clock: ClockSource::System,
            api: Some(api(api_port, node.url())),
        })?;
        keys_in(&folder, &config, &provider).await?;
        // Before anything is written: a policy that is none would stand in the way of every later start.
        let root = feed.root_pem().to_owned();
        let open = policy::open_policy(1, Some(root), &allow, Retry::default());
        let open = policy::checked(open)?;
        let kept_policy = policy_in(&folder, &provider, &account, &domain, open).await?;

        let tokens = DataFolder::at(&config.data).tokens();
        let token = token_for(&tokens, &folder.join("connection.json"))?;
        let host = Host::open(&config).await.doing("the host did not start")?;
        let connection = connect(&host, &provider, contracts, token).await?;
        connection
            .save(&folder.join("connection.json"))
            .doing("cannot write connection.json")?;
        Ok(Self {
            host,
            connection,
            delegate: contracts.delegate,
            register: contracts.register,
            rpc: node.url(),
            kept_policy,
            node,
            _feed: feed,
        })
    }

    /// Stops all of it; nothing is lost.
    ///
    /// # Errors
    /// The chain did not stop cleanly.
    pub async fn stop(mut self) -> Result<(), StageError> {
        self.host.stop().await;
        drop(self.host);
        self.node
            .shutdown()
            .await
            .doing("the node did not stop cleanly")
    }
}

/// Makes the folder, for its user alone: the journal holds reports before they are public.
fn own_folder(folder: &Path) -> Result<(), StageError> {
    std::fs::create_dir_all(folder).doing("cannot make the folder")?;
    let private = Permissions::from_mode(0o700);
    std::fs::set_permissions(folder, private).doing("cannot keep the folder to its user")
}

async fn start_node(folder: &Path, port: u16) -> Result<Node, StageError> {
    let config = NodeConfig {
        listen: loopback(port),
        state_file: Some(folder.join("chain")),
        ..NodeConfig::default()
    };
    Node::start(config).await.doing("the chain did not start")
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn api(port: u16, rpc: String) -> ApiConfig {
    ApiConfig {
        listen: loopback(port),
        names: vec!["localhost".into(), "127.0.0.1".into()],
        certificate: None,
        client_authorities: vec![],
        clients: Default::default(),
        // Whoever guesses here is on this machine, and may be a test.
        failed_attempts: u32::MAX,
        rpc: Some(rpc),
        register_rpc: None,
    }
}

/// Puts this stage's own policy in force, which lets everybody in. One that somebody else approved since is kept; its epoch.
async fn policy_in(
    folder: &Path,
    provider: &DynProvider,
    account: &PrivateKeySigner,
    domain: &RegisterDomain,
    open: Policy,
) -> Result<Option<u64>, StageError> {
    let path = folder.join("policy.json");
    let in_force = contracts::policy(provider, domain.register).await?;
    let own = own_policy(&path)?;
    if let (Some(in_force), Some(own)) = (&in_force, &own) {
        let digest = sha256(&own.to_json().doing("this stage's policy")?);
        // A start that was broken off has written its policy, and the register has not heard of it.
        let unset = own.epoch == in_force.epoch.saturating_add(1);
        if digest != in_force.digest && !unset {
            return Ok(Some(in_force.epoch));
        }
        let same = Policy {
            epoch: own.epoch,
            ..open.clone()
        };
        if digest == in_force.digest && same == *own {
            return Ok(None);
        }
    }
    let epoch = in_force.map_or(0, |record| record.epoch).saturating_add(1);
    let term = contracts::term(provider, domain.register).await?;
    let signed = policy::approve(account, domain, term, Policy { epoch, ..open })?;
    write_json(&path, &signed)?;
    policy::set(provider, domain.register, &signed).await?;
    Ok(None)
}

/// The policy that an earlier start wrote.
fn own_policy(path: &Path) -> Result<Option<Policy>, StageError> {
    if !path.exists() {
        return Ok(None);
    }
    let doing = format!("{} is damaged", path.display());
    let bytes = std::fs::read(path).doing(&doing)?;
    let signed = SignedPolicy::from_json(&bytes).doing(&doing)?;
    Ok(Some(signed.policy))
}

/// The contracts of an earlier start, or new ones.
async fn contracts_in(
    folder: &Path,
    provider: &DynProvider,
    administrator: Address,
) -> Result<Contracts, StageError> {
    let path = folder.join("contracts.json");
    if path.exists() {
        let doing = format!("{} is damaged", path.display());
        let bytes = std::fs::read(&path).doing(&doing)?;
        return serde_json::from_slice(&bytes).doing(&doing);
    }
    let contracts = Contracts::deploy(provider, administrator).await?;
    write_json(&path, &contracts)?;
    Ok(contracts)
}

/// Makes the vault at the first start, and sees that its transmitter can pay.
async fn keys_in(
    folder: &Path,
    config: &HostConfig,
    provider: &DynProvider,
) -> Result<(), StageError> {
    let data = DataFolder::at(&config.data);
    let key = folder::key_file(folder);
    let keys = if data.vault().exists() {
        Keys::open(&data, &key).await?
    } else {
        Keys::make(&data, &key).await?
    };
    let doing = "cannot read the transmitter's balance";
    let balance = provider.get_balance(keys.transmitter).await.doing(doing)?;
    if balance < U256::from(10).pow(U256::from(18)) {
        contracts::fund(provider, keys.transmitter).await?;
    }
    Ok(())
}

/// The token in the connection of an earlier start if it counts for a while yet, or a new one.
fn token_for(tokens: &Path, saved: &Path) -> Result<Zeroizing<String>, StageError> {
    let doing = "cannot make a token";
    let store = if tokens.exists() {
        TokenStore::open(tokens, wall_clock())
    } else {
        TokenStore::create(tokens, wall_clock()).doing(doing)?
    };
    if saved.exists() {
        let token = Connection::load(saved).doing(doing)?.token;
        let needed = wall_clock()().saturating_add(MONTH);
        if store.expiry(&token).doing(doing)? > Some(needed) {
            return Ok(token);
        }
    }
    let made = store
        .add(&NewToken {
            role: Role::Operator,
            label: "dev".parse().doing(doing)?,
            lifetime_seconds: TokenLifetime::new(YEAR).doing(doing)?,
        })
        .doing(doing)?;
    Ok(Zeroizing::new(made.token.clone()))
}

/// Seconds of 365 days.
const YEAR: u64 = 365 * 86_400;
/// Seconds of 30 days: a token that counts for less is replaced.
const MONTH: u64 = 30 * 86_400;

/// Registers the host as it serves now, and says how to talk to it.
async fn connect(
    host: &Host,
    provider: &DynProvider,
    contracts: Contracts,
    token: Zeroizing<String>,
) -> Result<Connection, StageError> {
    let api = host
        .api()
        .ok_or_else(|| StageError::new("the host serves no API"))?;
    let record = HostRecord {
        host: host.address(),
        url: api.url.clone(),
        authority: api.authority_digest,
    };
    contracts::register_host(provider, contracts.register, &record).await?;
    Ok(Connection {
        url: api.url.clone(),
        authority: api.authority.clone(),
        token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_its_users_alone() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("a/b");
        own_folder(&folder).unwrap();
        let mode = || folder.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o700);
        std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        own_folder(&folder).unwrap();
        assert_eq!(mode(), 0o700);
    }

    #[test]
    fn a_token_is_kept_as_long_as_it_counts_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens.json");
        let saved = folder.path().join("connection.json");
        let token = || token_for(&tokens, &saved).unwrap();
        let save = |token: &str| {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            let connection = Connection {
                url: "https://localhost:1".into(),
                authority: made.cert.pem(),
                token: Zeroizing::new(token.to_owned()),
            };
            connection.save(&saved).unwrap();
        };
        let first = token();
        save(&first);
        assert_eq!(token(), first);
        let short = TokenStore::open(&tokens, wall_clock())
            .add(&NewToken {
                role: Role::Operator,
                label: "short".parse().unwrap(),
                lifetime_seconds: TokenLifetime::new(MONTH - 60).unwrap(),
            })
            .unwrap();
        save(&short.token);
        assert_ne!(token().as_str(), short.token);
    }
}
