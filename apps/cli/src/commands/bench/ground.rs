//! The chain that is measured on: the embedded node, an Anvil of the bench's own, or a development chain that runs already.

use crate::{
    args::BenchChain,
    error::{CliError, Doing},
};
use alloy::{
    providers::{Provider, ProviderBuilder},
    signers::local::PrivateKeySigner,
};
use cryptlet_stage::Elsewhere;
use reqwest::Url;
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Where `npm ci` puts the pinned Anvil, seen from a clone.
const PINNED: &str = "pipeline/deliver/tests/anvil/node_modules/.bin/anvil";
/// Names another Anvil.
const VARIABLE: &str = "CRYPTLET_ANVIL";
/// Key of the first account of the mnemonic that every development chain uses: everyone knows it.
const FIRST_ACCOUNT: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
/// Longest wait for Anvil to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where stages are set up.
pub(crate) enum Ground {
    /// In an embedded node each.
    Node,
    /// On an Anvil each, of this program.
    Anvil(PathBuf),
    /// On this chain.
    Url(Url),
}

/// A chain that is there, until this is dropped.
pub(crate) struct Opened {
    pub(crate) chain: Elsewhere,
    /// Stopped when dropped.
    _anvil: Option<Anvil>,
}

impl Ground {
    /// What the command line asked for.
    pub(crate) fn of(chain: &BenchChain) -> Result<Self, CliError> {
        Ok(match chain {
            BenchChain::Node => Self::Node,
            BenchChain::Anvil => Self::Anvil(find_anvil()?),
            BenchChain::Url(url) => Self::Url(url.clone()),
        })
    }

    /// Its name in results.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Anvil(_) => "anvil",
            Self::Url(_) => "url",
        }
    }

    /// Whether the chain is the bench's own, which may be told when to make blocks.
    pub(crate) fn is_own(&self) -> bool {
        !matches!(self, Self::Url(_))
    }

    /// A chain to set up on; none where the stage brings its own.
    pub(crate) async fn open(&self) -> Result<Option<Opened>, CliError> {
        Ok(match self {
            Self::Node => None,
            Self::Anvil(program) => {
                let anvil = Anvil::start(program).await?;
                Some(Opened {
                    chain: elsewhere(&anvil.url)?,
                    _anvil: Some(anvil),
                })
            }
            Self::Url(url) => Some(Opened {
                chain: elsewhere(url)?,
                _anvil: None,
            }),
        })
    }
}

fn elsewhere(url: &Url) -> Result<Elsewhere, CliError> {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err(CliError::new(format_args!("{url} names no host and port")));
    };
    let path = url.path();
    let account: PrivateKeySigner = FIRST_ACCOUNT.parse().doing("the first account's key")?;
    Ok(Elsewhere {
        url: format!("http://{host}:{port}{path}"),
        ws_url: format!("ws://{host}:{port}{path}"),
        account,
    })
}

fn find_anvil() -> Result<PathBuf, CliError> {
    if let Some(named) = std::env::var_os(VARIABLE) {
        return Ok(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("anvil"));
    let mut places = on_path.chain([PathBuf::from(PINNED)]);
    let found = places.find(|place| place.is_file());
    found.ok_or_else(|| {
        CliError::new(format_args!(
            "no anvil: neither {VARIABLE} nor PATH nor {PINNED} has it"
        ))
        .next("in the clone: npm ci --prefix pipeline/deliver/tests/anvil, or `make bench-anvil`, which does that first")
    })
}

/// A chain of its own, with a block for each transaction. Stopped when dropped.
struct Anvil {
    process: Child,
    url: Url,
}

impl Anvil {
    async fn start(program: &Path) -> Result<Self, CliError> {
        let doing = format!("{} did not start", program.display());
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing(&doing)?;
        let port = free.local_addr().doing(&doing)?.port();
        drop(free);
        let process = Command::new(program)
            .args(["--silent", "--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // npm's program is a script that starts the real one: both are to end.
            .process_group(0)
            .spawn()
            .doing(&doing)?;
        let url: Url = format!("http://127.0.0.1:{port}/").parse().doing(&doing)?;
        let mut anvil = Self { process, url };
        anvil.listens().await.doing(&doing)?;
        Ok(anvil)
    }

    async fn listens(&mut self) -> Result<(), String> {
        // The HTTP client wants to know whose cryptography it would use, even where there is no TLS.
        let _known_already = rustls::crypto::ring::default_provider().install_default();
        let provider = ProviderBuilder::new().connect_http(self.url.clone());
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(format!("it ended: {status}"));
            }
            if provider.get_chain_id().await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(format!("it does not answer after {PATIENCE:?}"))
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _already_dead = kill_process_group(Pid::from_child(&self.process), Signal::KILL);
        let _reaped = self.process.wait();
    }
}
