//! What can be said on the command line.

pub(crate) mod developer;

use clap::{Args, Parser, Subcommand};
use cryptlet_types::manifest::split_place;
use jiff::civil::Date;
use std::{net::IpAddr, path::PathBuf};

/// Attested programs between smart contracts and the world.
#[derive(Debug, Parser)]
#[command(name = "cryptlet", version, propagate_version = true)]
pub(crate) struct Arguments {
    /// Say more on standard error (twice: even more). RUST_LOG overrides it.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, display_order = 900)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Wake a contract with the European Central Bank's rates, day by day, and check every receipt.
    Demo(DemoOptions),
    /// Run chain, register and host of your own until Ctrl-C; the other commands find them by themselves.
    Dev(DevOptions),
    /// Run an Ethereum chain for development: JSON-RPC over HTTP and WebSocket on one port.
    Node(NodeOptions),
    /// Set up, register or run a host: it serves the subscriptions of one delegate until interrupted.
    Host(HostOptions),
    /// Check receipts offline, against your own trust roots.
    Verify(VerifyOptions),
    /// Make the project of a new cryptlet.
    New(developer::NewOptions),
    /// Build the project's component.
    Build(developer::BuildOptions),
    /// Say what hosts would refuse about the project: determinism, imports, limits, manifest, interface.
    Check(developer::ProjectOptions),
    /// Run the project's recorded cases in the real container, without a chain.
    Test(developer::ProjectOptions),
    /// Publish the project: key, package, register; run again, it goes on where it stopped.
    Publish(developer::PublishOptions),
    /// Revoke a version, a signer or a whole cryptlet, for ever.
    Revoke(developer::RevokeOptions),
    /// Copy a cryptlet's state to the mirror on the consumers' chain, where the register is on another.
    Mirror(developer::MirrorOptions),
    /// Keys that sign for cryptlets.
    #[command(subcommand)]
    Keys(developer::Keys),
    /// Find cryptlets by name or id.
    Search(developer::SearchOptions),
    /// Show a cryptlet: who, versions, digests, hosts, policy, source, interface.
    Show(developer::OneOptions),
    /// Fetch a cryptlet's revealed source, checked against the register's digest, into a new folder.
    Source(developer::SourceOptions),
    /// Show what a cryptlet wishes, what policy says, and what comes out.
    Explain(developer::OneOptions),
    /// Bring a cryptlet's Solidity header into this project and lock it.
    Import(developer::ImportOptions),
    /// Print the call that subscribes to a cryptlet by a trigger, or make it for an account of your own.
    Subscribe(Box<developer::SubscribeOptions>),
    /// List the subscriptions that the host serves.
    Subscriptions(developer::ListOptions),
    /// Follow jobs from event to receipt.
    Trace(developer::TraceOptions),
    /// Repeat a job's run from what was recorded of it, and compare: same or other, and where.
    Replay(developer::ReplayOptions),
    /// List jobs, and have those tried again that were parked.
    Jobs(developer::JobsOptions),
    /// Judge a message queue by the delegate's logs: its hash chain and each message.
    Audit(developer::AuditOptions),
    /// Applications that may wake cryptlets by signed messages.
    #[command(subcommand)]
    Application(developer::Application),
    /// Show which host, chain, register and policy the commands work with.
    Status(developer::StatusOptions),
    /// What the host allows: written, approved by administrators, set.
    #[command(subcommand)]
    Policy(developer::Policy),
    /// Let cryptlets speak in your name.
    #[command(subcommand)]
    Delegation(developer::Delegation),
    /// Secret code: who agreed to it, and its keys.
    #[command(subcommand)]
    SecretCode(developer::SecretCode),
    /// Who may use the host's API.
    #[command(subcommand)]
    Token(developer::Token),
    /// Measure, beside the limit measured in the same run.
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
    /// Say what this machine can isolate regions with, and whether a policy can be met here.
    Doctor(DoctorOptions),
    /// Make what hardware boots: kernel and container, with the measurements that it will report.
    #[command(subcommand)]
    Image(Image),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// From the block that holds an event to the block that holds its callback; deliveries a second; what is lost in a crash.
    Path(PathBenchOptions),
    /// What a region costs: a fresh one, a call into a live one, memory; beside the same work without a region.
    Isolation(IsolationBenchOptions),
    /// A host with a million subscriptions: its start, its memory, how fast it matches, how late its timers are.
    Subscriptions(SubscriptionsBenchOptions),
}

#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {
    /// A policy file (JSON): what it demands of regions and is not given here fails the command.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// An image of an AWS Nitro enclave (EIF).
    Nitro(ImageParts),
    /// Files for the direct boot of a SEV-SNP guest, with its launch measurement.
    Snp(SnpOptions),
    /// Files for the direct boot of a TDX guest. Its registers are not predicted.
    Tdx(ImageParts),
}

#[derive(Debug, Args)]
pub(crate) struct ImageParts {
    /// A Linux kernel for x86-64 (bzImage).
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: PathBuf,
    /// The kernel's command line, with the container's arguments after ` -- `. Unless it is given, what this kind of machine needs,
    /// and a container that listens at vsock:8700.
    #[arg(long, value_name = "TEXT")]
    pub(crate) cmdline: Option<String>,
    /// Kernel modules that the container loads before anything else, in this order; not compressed.
    #[arg(long, value_name = "FILE")]
    pub(crate) module: Vec<PathBuf>,
    /// The container: the program that becomes /init.
    #[arg(long, value_name = "FILE")]
    pub(crate) container: PathBuf,
    /// Where the container's shared libraries are taken from, the first folder first. None: it has to be linked statically.
    #[arg(long, value_name = "DIR")]
    pub(crate) libraries: Vec<PathBuf>,
    /// Folder for the image; it must not hold one yet.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Print the image's description as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SnpOptions {
    #[command(flatten)]
    pub(crate) parts: ImageParts,
    /// Firmware that checks the hashes of kernel, initramfs and command line (OVMF, AmdSev).
    #[arg(long, value_name = "FILE")]
    pub(crate) firmware: PathBuf,
    /// Processors of the guest.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=512))]
    pub(crate) processors: u32,
    /// Their model, as QEMU names it.
    #[arg(long, value_name = "MODEL", default_value = "EPYC-Milan")]
    pub(crate) processor: String,
}

#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// First day.
    #[arg(long, value_name = "DATE", default_value = "2026-10-01")]
    pub(crate) from: Date,
    /// Last day.
    #[arg(long, value_name = "DATE", default_value = "2026-10-31")]
    pub(crate) to: Date,
    /// Currencies that the contract asks for, in units a euro.
    #[arg(long, value_name = "CODES", value_delimiter = ',', default_value = "USD,GBP", value_parser = currency)]
    pub(crate) pairs: Vec<String>,
    /// Folder for receipts, trust roots and the host's data. What an earlier demo left there is replaced.
    #[arg(long, value_name = "DIR", default_value = "bletchley-demo")]
    pub(crate) out: PathBuf,
    /// Print one JSON object on the last line; progress goes to standard error.
    #[arg(long)]
    pub(crate) json: bool,
    /// Leave node and host serving, and say how to talk to them.
    #[arg(long)]
    pub(crate) keep_running: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DevOptions {
    /// Folder that keeps everything over restarts.
    #[arg(long, value_name = "DIR", default_value = "bletchley-dev")]
    pub(crate) dir: PathBuf,
    /// Port of the chain's JSON-RPC; 0 takes any free one.
    #[arg(long, value_name = "PORT", default_value_t = 8545)]
    pub(crate) rpc_port: u16,
    /// Port of the host's API; 0 takes any free one.
    #[arg(long, value_name = "PORT", default_value_t = 8600)]
    pub(crate) api_port: u16,
    /// Source that cryptlets may reach besides the embedded feed, by the public web's roots; may be repeated.
    #[arg(long, value_name = "HOST:PORT", value_parser = place)]
    pub(crate) allow: Vec<String>,
    /// Print one JSON object when it is ready, and one a finished job.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NodeOptions {
    /// Address to listen at. Development methods exist on loopback addresses only.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,
    /// Port for HTTP and WebSocket; 0 takes any free one.
    #[arg(long, default_value_t = 8545)]
    pub(crate) port: u16,
    /// Chain id (EIP-155).
    #[arg(long, value_name = "ID", default_value_t = 31337)]
    pub(crate) chain_id: u64,
    /// Seconds between blocks. Without it, each transaction makes a block.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) block_time: Option<u64>,
    /// Make blocks only when asked to (evm_mine).
    #[arg(long, conflicts_with = "block_time")]
    pub(crate) no_mining: bool,
    /// Keep the chain in this file over restarts.
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    /// URL or file that says where the chain's delegate, register and policy are; a host serves it as /v1/delegate.
    #[arg(long, value_name = "URL", requires = "crypto_delegate_signature")]
    pub(crate) crypto_delegate_path: Option<String>,
    /// Signature of the host over it, which came by another way: no other document fits it.
    #[arg(long, value_name = "0x…", requires = "crypto_delegate_path")]
    pub(crate) crypto_delegate_signature: Option<String>,
    /// Certificate of the authority (PEM) that the URL's host is trusted by. Default: the roots of this system.
    #[arg(long, value_name = "FILE", requires = "crypto_delegate_path")]
    pub(crate) crypto_delegate_authority: Option<PathBuf>,
    /// Print one JSON object (addresses, accounts) instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct HostOptions {
    #[command(subcommand)]
    pub(crate) what: Option<HostCommand>,
    #[command(flatten)]
    pub(crate) serve: ServeOptions,
}

#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// The host's configuration (JSON).
    #[arg(long, value_name = "FILE", default_value = "host.json")]
    pub(crate) config: PathBuf,
    /// Print one JSON object a finished job instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Make what the configuration names and is missing: vault, keys, certificate, an operator's token.
    Init(InitOptions),
    /// Certify a client of the API (mutual TLS) by the host's own authority; the host must not run.
    Certify(CertifyOptions),
    /// Give up a sealed image that was lost: a cryptlet's next region begins without its predecessors' promises; the host must
    /// not run.
    ResetSealed(ResetSealedOptions),
    /// Have the register name the host that the commands talk to, with its URL and authority.
    Register(Box<developer::RegisterHostOptions>),
}

#[derive(Debug, Args)]
pub(crate) struct CertifyOptions {
    /// The host's configuration (JSON).
    #[arg(long, value_name = "FILE", default_value = "host.json")]
    pub(crate) config: PathBuf,
    /// Whom it is for.
    #[arg(long)]
    pub(crate) label: cryptlet_api::types::Label,
    /// Days for which it counts.
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=3_650))]
    pub(crate) days: u64,
    /// File for certificate and private key (PEM), for its owner only; one that is there is left alone.
    #[arg(long, value_name = "FILE", default_value = "client.pem")]
    pub(crate) out: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ResetSealedOptions {
    /// The cryptlet, as the host's log names it.
    #[arg(value_name = "CRYPTLET")]
    pub(crate) cryptlet: cryptlet_types::CryptletId,
    /// Measurement of its regions, as the host's log names it.
    #[arg(value_name = "MEASUREMENT")]
    pub(crate) measurement: cryptlet_types::Measurement,
    /// The host's configuration (JSON).
    #[arg(long, value_name = "FILE", default_value = "host.json")]
    pub(crate) config: PathBuf,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InitOptions {
    /// The host's configuration (JSON).
    #[arg(long, value_name = "FILE", default_value = "host.json")]
    pub(crate) config: PathBuf,
    /// Connection file to write for its operator; one that is there is left alone.
    #[arg(long, value_name = "FILE", default_value = "connection.json")]
    pub(crate) out: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyOptions {
    /// Receipt files.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// What you believe beforehand (JSON). Default: trust.json beside each receipt or one folder up.
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: Option<PathBuf>,
    /// Print one JSON object a file.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PathBenchOptions {
    /// The chain: `node`, the embedded one; `anvil`, from CRYPTLET_ANVIL, the path or the clone's node packages; or the URL of
    /// a development chain that runs already and has the usual funded accounts.
    #[arg(long, value_name = "node|anvil|URL", default_value = "node", value_parser = bench_chain)]
    pub(crate) chain: BenchChain,
    /// Events of each series of latencies.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=5_000))]
    pub(crate) deliveries: u32,
    /// Leave out what kills the host and cuts it off.
    #[arg(long)]
    pub(crate) no_faults: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where the path is measured.
#[derive(Clone, Debug)]
pub(crate) enum BenchChain {
    Node,
    Anvil,
    Url(reqwest::Url),
}

#[derive(Debug, Args)]
pub(crate) struct IsolationBenchOptions {
    /// Fresh regions.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    pub(crate) regions: u32,
    /// Calls into a live region.
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u64).range(10..=16_000))]
    pub(crate) calls: u64,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SubscriptionsBenchOptions {
    /// How many.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    pub(crate) count: u64,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

fn bench_chain(text: &str) -> Result<BenchChain, String> {
    match text {
        "node" => return Ok(BenchChain::Node),
        "anvil" => return Ok(BenchChain::Anvil),
        _ => {}
    }
    let url: reqwest::Url = text.parse().map_err(|_| wrong_chain(text))?;
    let plain = matches!(url.scheme(), "http" | "ws") && url.has_host();
    plain
        .then_some(BenchChain::Url(url))
        .ok_or_else(|| wrong_chain(text))
}

fn wrong_chain(text: &str) -> String {
    format!("{text:?} is neither node nor anvil nor a URL such as http://127.0.0.1:8545")
}

/// A place that can be reached: a name and a port.
fn place(text: &str) -> Result<String, String> {
    match split_place(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("{text:?} is not a place such as api.example:443")),
    }
}

/// A currency code as the feed writes it (ISO 4217: three capital letters).
fn currency(text: &str) -> Result<String, String> {
    let valid = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase());
    if valid {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not a currency code such as USD"))
    }
}
