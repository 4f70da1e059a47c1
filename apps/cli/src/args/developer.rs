//! What authors, contract developers and administrators can say.

use alloy::primitives::{Address, B256, Bytes};
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use cryptlet_api::types::{
    ApplicationName, CryptletRef, JobStateName, Label, Role, SearchText, TokenId, WebhookPublicKey,
};
use cryptlet_register::OciReference;
use cryptlet_types::JobId;
use std::path::PathBuf;

/// Which host, and which nodes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Host")]
pub(crate) struct HostArgs {
    /// Connection file. Default: CRYPTLET_HOST, else .cryptlet/connection.json here or above, else that of `cryptlet dev`.
    #[arg(long, value_name = "FILE")]
    pub(crate) host_file: Option<PathBuf>,
    /// Node of the register's chain, asked in place of the one that the host names.
    #[arg(long, value_name = "URL")]
    pub(crate) register_rpc: Option<String>,
    /// Node of the consumers' chain, asked in place of the one that the host names.
    #[arg(long, value_name = "URL")]
    pub(crate) rpc: Option<String>,
}

/// Whose account signs and pays.
#[derive(Debug, Args)]
#[command(next_help_heading = "Wallet")]
pub(crate) struct WalletArgs {
    /// Ethereum keystore file (version 3) of the account that signs and pays.
    #[arg(long, value_name = "FILE", conflicts_with = "dev_account")]
    pub(crate) keystore: Option<PathBuf>,
    /// File with the keystore's password. Default: CRYPTLET_PASSWORD, else it is asked for.
    #[arg(long, value_name = "FILE", requires = "keystore")]
    pub(crate) password_file: Option<PathBuf>,
    /// Well-known development account, counted from 0; on a development chain of this machine only.
    #[arg(long, value_name = "N")]
    pub(crate) dev_account: Option<u32>,
    /// Most that is paid for a unit of gas, in gwei.
    #[arg(long, value_name = "GWEI", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) max_fee_gwei: u64,
    /// Seconds to wait for a block, and for the host to follow.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) wait: u64,
}

/// A listing.
#[derive(Debug, Args)]
pub(crate) struct ListOptions {
    /// Most lines.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
    /// Print one JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SearchOptions {
    /// Part of a name or id. Without it, all cryptlets are listed.
    #[arg(value_name = "WORD")]
    pub(crate) word: Option<SearchText>,
    #[command(flatten)]
    pub(crate) list: ListOptions,
}

/// One cryptlet to look at.
#[derive(Debug, Args)]
pub(crate) struct OneOptions {
    /// Name or id.
    #[arg(value_name = "CRYPTLET")]
    pub(crate) cryptlet: CryptletRef,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SourceOptions {
    /// Name or id.
    #[arg(value_name = "CRYPTLET")]
    pub(crate) cryptlet: CryptletRef,
    /// Folder to unpack into, empty or not there yet. Default: the cryptlet's name.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RegisterHostOptions {
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
    #[command(flatten)]
    pub(crate) wallet: WalletArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StatusOptions {
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TraceOptions {
    /// Job to follow from event to receipt. Without it, all jobs are listed.
    #[arg(value_name = "JOB")]
    pub(crate) job: Option<JobId>,
    /// Say what changes, as it happens: a job until it is final, all jobs until Ctrl-C.
    #[arg(long, conflicts_with = "data")]
    pub(crate) follow: bool,
    /// Read the data folder of a stopped host, and ask no host.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["host_file", "register_rpc", "rpc"])]
    pub(crate) data: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) list: ListOptions,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayOptions {
    /// Job of a stopped host, whose latest run is repeated.
    #[arg(
        value_name = "JOB",
        required_unless_present = "receipt",
        requires = "data"
    )]
    pub(crate) job: Option<JobId>,
    /// Data folder of the stopped host, with its journal, packages and recordings.
    #[arg(long, value_name = "DIR", required_unless_present = "receipt")]
    pub(crate) data: Option<PathBuf>,
    /// Receipt of the run, in place of a job of a host. Whether the receipt holds is for `cryptlet verify`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["job", "data"], requires_all = ["recording", "package"])]
    pub(crate) receipt: Option<PathBuf>,
    /// Recording of the run. Default: the data folder's.
    #[arg(long, value_name = "FILE")]
    pub(crate) recording: Option<PathBuf>,
    /// OCI layout that holds the package. Default: the data folder's.
    #[arg(long, value_name = "DIR")]
    pub(crate) package: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportOptions {
    /// Name or id. With --check, all that is imported unless one is named.
    #[arg(value_name = "CRYPTLET", required_unless_present = "check")]
    pub(crate) cryptlet: Option<CryptletRef>,
    /// Folder for the files, in place of the sources of the forge or hardhat project.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Take a changed header, and overwrite files that were edited.
    #[arg(long, conflicts_with = "check")]
    pub(crate) accept: bool,
    /// Write nothing: compare what is imported with register and files, and fail if something differs.
    #[arg(long)]
    pub(crate) check: bool,
    /// Print one JSON object (with --check: one a finding).
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
}

/// Kinds of cryptlet.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum KindWord {
    /// Serves any contract that subscribes.
    Utility,
}

#[derive(Debug, Args)]
pub(crate) struct NewOptions {
    /// Name: 1 to 64 of a-z, 0-9 and hyphen.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// What kind of cryptlet.
    #[arg(long, value_enum, default_value_t = KindWord::Utility)]
    pub(crate) kind: KindWord,
    /// Folder for the project. Default: the name.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// A cryptlet's project.
#[derive(Debug, Args)]
pub(crate) struct ProjectOptions {
    /// Folder of the project.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Print JSON instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BuildOptions {
    /// Stay off the network.
    #[arg(long)]
    pub(crate) offline: bool,
    #[command(flatten)]
    pub(crate) project: ProjectOptions,
}

/// How a version's key lives.
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Push the package to an OCI registry and record that place (OCI_USERNAME, OCI_PASSWORD and OCI_TOKEN_HOST, if it asks).
    #[arg(long, value_name = "oci://HOST/REPOSITORY")]
    pub(crate) to: Option<OciReference>,
    /// Reveal the source: pack the project's files into the package.
    #[arg(long)]
    pub(crate) source: bool,
    /// Days for which the version's key may sign.
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=36_500))]
    pub(crate) valid_days: u64,
}

#[derive(Debug, Args)]
pub(crate) struct PublishOptions {
    /// Publish a further version, under this label or the manifest's.
    #[arg(long, value_name = "LABEL", num_args = 0..=1)]
    pub(crate) new_version: Option<Option<String>>,
    #[command(flatten)]
    pub(crate) version: VersionArgs,
    #[command(flatten)]
    pub(crate) project: ProjectOptions,
    #[command(flatten)]
    pub(crate) host: HostArgs,
    #[command(flatten)]
    pub(crate) wallet: WalletArgs,
}

#[derive(Debug, Args)]
pub(crate) struct MirrorOptions {
    /// Name or id.
    #[arg(value_name = "CRYPTLET")]
    pub(crate) cryptlet: CryptletRef,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
    #[command(flatten)]
    pub(crate) wallet: WalletArgs,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["version_label", "signer", "all"]))]
pub(crate) struct RevokeOptions {
    /// Name or id.
    #[arg(value_name = "CRYPTLET")]
    pub(crate) cryptlet: CryptletRef,
    /// A version, by label or number, and its signers.
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) version_label: Option<String>,
    /// One signer.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) signer: Option<Address>,
    /// The whole cryptlet.
    #[arg(long)]
    pub(crate) all: bool,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
    #[command(flatten)]
    pub(crate) wallet: WalletArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// List the keys of the host's vault, public parts.
    List(ListOptions),
    /// Publish the project's current version again under a new key, and revoke the old one.
    Rotate(Box<RotateOptions>),
    /// Print public keys as JSON.
    ExportPublic(ExportOptions),
}

#[derive(Debug, Args)]
pub(crate) struct RotateOptions {
    /// Name of the cryptlet; its project has to be what the current version was made of.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Keep the old key valid.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) version: VersionArgs,
    #[command(flatten)]
    pub(crate) project: ProjectOptions,
    #[command(flatten)]
    pub(crate) host: HostArgs,
    #[command(flatten)]
    pub(crate) wallet: WalletArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExportOptions {
    /// Name or id. Without it, the host's own keys.
    #[arg(value_name = "CRYPTLET")]
    pub(crate) cryptlet: Option<CryptletRef>,
    #[command(flatten)]
    pub(crate) host: HostArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Write a policy file for the next epoch that allows nothing, to be edited.
    #[command(after_help = POLICY_HELP)]
    New(NewPolicyOptions),
    /// Add an administrator's approval to a policy file.
    Sign(SignPolicyOptions),
    /// Set an approved policy in the register and hand it to the host.
    Set(SetPolicyOptions),
    /// Show the policy in force.
    Show(StatusOptions),
}

const POLICY_HELP: &str = "\
Fields of the policy (all are required):
  publishers  \"anyone\", or {\"only\": [ADDRESS]}: whose cryptlets may run
  isolation   providers that are accepted: [\"process\"]
  controls    parts of the sandbox that have to be in force
  egress      [{\"place\": \"HOST:PORT\", \"trust\": \"webPki\" or {\"roots\": PEM}}]: what may be reached
  limits      what a run may use up at most
  retry       attempts, and milliseconds between them
  signing     \"ecdsa\"
  evidence    maxAgeSeconds of a region's evidence, and of the register's state
  serve       consumers, minimumIntervalSeconds, minimumValiditySeconds,
              maximumCallbackGas";

#[derive(Debug, Args)]
pub(crate) struct NewPolicyOptions {
    /// File to write; one that is there is left alone.
    #[arg(value_name = "FILE", default_value = "policy.json")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) host: HostArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SignPolicyOptions {
    /// Policy file; the approval is added to it.
    #[arg(value_name = "FILE", default_value = "policy.json")]
    pub(crate) file: PathBuf,
    /// Do not ask whether the register is the one that is meant.
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
    #[command(flatten)]
    pub(crate) wallet: WalletArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SetPolicyOptions {
    /// Policy file with its approvals.
    #[arg(value_name = "FILE", default_value = "policy.json")]
    pub(crate) file: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
    #[command(flatten)]
    pub(crate) wallet: WalletArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecretCode {
    /// Show whether the host has the code's key, and which counterparty agreed to what.
    Show(SecretCodeOptions),
    /// Agree, as a counterparty, that a component is the secret code of a version.
    Agree(AgreeOptions),
    /// Hand the code's key to a host, from the file that publishing named.
    GiveKey(GiveKeyOptions),
}

/// A version whose code is secret.
#[derive(Debug, Args)]
pub(crate) struct SecretCodeOptions {
    /// Name or id.
    #[arg(value_name = "CRYPTLET")]
    pub(crate) cryptlet: CryptletRef,
    /// Label of the version. Default: the one in force.
    #[arg(long = "version", value_name = "LABEL")]
    pub(crate) label: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AgreeOptions {
    /// The component (WebAssembly) that is agreed to: the host sees its digest only.
    #[arg(long, value_name = "FILE")]
    pub(crate) code: PathBuf,
    /// Do not ask whether package and component are the ones that are meant.
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) which: SecretCodeOptions,
    #[command(flatten)]
    pub(crate) wallet: WalletArgs,
}

#[derive(Debug, Args)]
pub(crate) struct GiveKeyOptions {
    /// File with the key, as `cryptlet publish` leaves it in the project's folder secret-code.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    #[command(flatten)]
    pub(crate) which: SecretCodeOptions,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Delegation {
    /// Sign a delegation and hand it to the host.
    Sign(SignDelegationOptions),
    /// Hand a signed delegation from a file to the host.
    Submit(SubmitDelegationOptions),
    /// Revoke a delegation on chain.
    Revoke(RevokeDelegationOptions),
    /// List the delegations that the host has.
    List(ListOptions),
}

#[derive(Debug, Args)]
pub(crate) struct SubmitDelegationOptions {
    /// The file, as `cryptlet delegation sign --out` writes it.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SignDelegationOptions {
    /// The cryptlet that may speak in the wallet's name, by name or id.
    #[arg(value_name = "CRYPTLET")]
    pub(crate) cryptlet: CryptletRef,
    /// Contract wallet (ERC-1271) for which the account signs; it is who is spoken for, in place of the account.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) identity: Option<Address>,
    /// Only to this contract.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) consumer: Option<Address>,
    /// Only at this function: a selector, or a signature such as priceOf(uint64,uint256).
    #[arg(long, value_name = "FUNCTION")]
    pub(crate) callback: Option<String>,
    /// Days for which it counts.
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_650))]
    pub(crate) days: u64,
    /// Write it to this file and hand it to nobody.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Do not ask whether cryptlet and delegate are the ones that are meant.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
    #[command(flatten)]
    pub(crate) wallet: WalletArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeDelegationOptions {
    /// Its digest, as `cryptlet delegation list` shows it.
    #[arg(value_name = "DIGEST")]
    pub(crate) digest: B256,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
    #[command(flatten)]
    pub(crate) wallet: WalletArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// List the host's tokens, without their secrets.
    List(ListOptions),
    /// Make a token and write a connection file with it, or print it.
    Create(CreateTokenOptions),
    /// Revoke a token.
    Revoke(RevokeTokenOptions),
}

#[derive(Debug, Args)]
pub(crate) struct CreateTokenOptions {
    /// What its bearer may do: reader, publisher or operator.
    #[arg(long)]
    pub(crate) role: Role,
    /// What it is for.
    #[arg(long)]
    pub(crate) label: Label,
    /// Days for which it counts.
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=3_650))]
    pub(crate) days: u64,
    /// Connection file to write, for its owner only. Without it, the token is printed.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeTokenOptions {
    /// Its id, as `cryptlet token list` shows it.
    #[arg(value_name = "ID")]
    pub(crate) id: TokenId,
    #[command(flatten)]
    pub(crate) host: HostArgs,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct JobsOptions {
    #[command(subcommand)]
    pub(crate) what: Option<JobsCommand>,
    /// Only jobs in this state: routed, reported, submitted, delivered, skipped, failed, parked or withdrawn.
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Option<JobStateName>,
    #[command(flatten)]
    pub(crate) list: ListOptions,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Have a parked job tried again.
    Retry(RetryJobOptions),
}

#[derive(Debug, Args)]
pub(crate) struct RetryJobOptions {
    /// The job's id, as `cryptlet jobs` shows it.
    #[arg(value_name = "JOB")]
    pub(crate) job: JobId,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Application {
    /// Register an application; the secret that it signs with is shown once.
    Add(AddApplicationOptions),
    /// List the host's applications, without their secrets.
    List(ListOptions),
    /// Forget an application and its keys, at once.
    Remove(RemoveApplicationOptions),
    /// Give an application a new key; the one before counts for a while.
    Rotate(RotateApplicationOptions),
    /// Send a message as an application, to try it.
    Send(SendMessageOptions),
}

#[derive(Debug, Args)]
pub(crate) struct AddApplicationOptions {
    /// Name that subscriptions say: 1 to 128 of a-z, 0-9, hyphen and dot.
    #[arg(value_name = "NAME")]
    pub(crate) name: ApplicationName,
    /// Public key of an application that signs with Ed25519. Without it, host and application share a secret.
    #[arg(long, value_name = "whpk_…")]
    pub(crate) ed25519: Option<WebhookPublicKey>,
    /// File for the secret, for its owner only; one that is there is left alone. Without it, the secret is printed.
    #[arg(long, value_name = "FILE", conflicts_with = "ed25519")]
    pub(crate) out: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RotateApplicationOptions {
    /// Name, as `cryptlet application list` shows it.
    #[arg(value_name = "NAME")]
    pub(crate) name: ApplicationName,
    /// New public key of an application that signs with Ed25519.
    #[arg(long, value_name = "whpk_…")]
    pub(crate) ed25519: Option<WebhookPublicKey>,
    /// Seconds for which the key before counts still; 0 after a secret got about.
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(0..=2_592_000))]
    pub(crate) overlap: u64,
    /// File for the new secret, for its owner only; one that is there is left alone. Without it, the secret is printed.
    #[arg(long, value_name = "FILE", conflicts_with = "ed25519")]
    pub(crate) out: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveApplicationOptions {
    /// Name, as `cryptlet application list` shows it.
    #[arg(value_name = "NAME")]
    pub(crate) name: ApplicationName,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SendMessageOptions {
    /// Name of the application.
    #[arg(value_name = "NAME")]
    pub(crate) name: ApplicationName,
    /// Kind of the message, which makes it a CloudEvent. Without it, the data is sent as it is.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
    /// File with the data, at most 16 KiB.
    #[arg(long, value_name = "FILE")]
    pub(crate) data: PathBuf,
    /// Media type of the data.
    #[arg(long, value_name = "TYPE", default_value = "application/octet-stream")]
    pub(crate) media_type: String,
    /// The message's id; the same id is the same message. Default: a new one.
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// File with what it signs with: whsec_… or whsk_…. Default: CRYPTLET_APPLICATION_SECRET.
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Connection file. Default: CRYPTLET_HOST, else .cryptlet/connection.json here or above, else that of `cryptlet dev`.
    #[arg(long, value_name = "FILE")]
    pub(crate) host_file: Option<PathBuf>,
}

/// A message queue to judge. The delegate is the one that the host serves.
#[derive(Debug, Args)]
pub(crate) struct AuditOptions {
    /// Address of the `MessageQueue`.
    #[arg(value_name = "QUEUE")]
    pub(crate) queue: Address,
    /// Block from which the delegate's logs are read: that of the queue, or an earlier one.
    #[arg(long, value_name = "BLOCK", default_value_t = 0)]
    pub(crate) from_block: u64,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SubscribeOptions {
    /// Name or id.
    #[arg(value_name = "CRYPTLET")]
    pub(crate) cryptlet: CryptletRef,
    /// Function that is called back: a selector, or a signature such as priceOf(uint64,uint256).
    #[arg(long, value_name = "FUNCTION")]
    pub(crate) callback: String,
    /// Gas that it gets.
    #[arg(long, value_name = "GAS", default_value_t = 100_000)]
    pub(crate) callback_gas: u32,
    /// For how long a report stays deliverable: 90s, 15m, 2h, 1d.
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub(crate) validity: String,
    /// ABI-encoded parameters for the cryptlet.
    #[arg(long, value_name = "0x…", default_value = "0x")]
    pub(crate) params: Bytes,
    /// Send it: the wallet's account is the consumer. Without it, the call is printed.
    #[arg(long)]
    pub(crate) send: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) trigger: TriggerArgs,
    #[command(flatten)]
    pub(crate) host: HostArgs,
    #[command(flatten)]
    pub(crate) wallet: WalletArgs,
}

/// When to wake: one of these, with what belongs to it.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Trigger")]
pub(crate) struct TriggerArgs {
    /// Five-field cron expression; with a calendar also open, close, open+MINUTES, close-MINUTES.
    #[arg(long, value_name = "CRON")]
    pub(crate) cron: Option<String>,
    /// Moment such as 2026-12-24T17:00:00Z; may be repeated.
    #[arg(long, value_name = "MOMENT")]
    pub(crate) at: Vec<String>,
    /// Time between two: 90s, 15m, 2h, 1d. With --above or --below: between two looks at the value.
    #[arg(long, value_name = "TIME")]
    pub(crate) every: Option<String>,
    /// Bound that the value of the cryptlet's feed rises to, such as 40e18.
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    pub(crate) above: Option<String>,
    /// Bound that it falls to.
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    pub(crate) below: Option<String>,
    /// Contract that logs.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) log: Option<Address>,
    /// Number of blocks between two.
    #[arg(long, value_name = "N")]
    pub(crate) blocks: Option<u64>,
    /// Application that says so.
    #[arg(long, value_name = "NAME")]
    pub(crate) application: Option<ApplicationName>,
    /// Once, as soon as it is subscribed.
    #[arg(long)]
    pub(crate) request: bool,
    /// Time zone of --cron (IANA). Default: the calendar's.
    #[arg(long, value_name = "ZONE")]
    pub(crate) time_zone: Option<String>,
    /// Market calendar on whose open days --cron, in whose sessions --every counts, such as XNYS.
    #[arg(long, value_name = "NAME")]
    pub(crate) calendar: Option<String>,
    /// Leave out what was missed while nobody watched (--cron, --at, --every).
    #[arg(long)]
    pub(crate) skip_missed: bool,
    /// ABI-encoded parameters with which the feed is asked (--above, --below).
    #[arg(long, value_name = "0x…")]
    pub(crate) feed: Option<Bytes>,
    /// How far the value has to go back before it counts again (--above, --below).
    #[arg(long, value_name = "VALUE")]
    pub(crate) hysteresis: Option<String>,
    /// Only the first time (--above, --below).
    #[arg(long)]
    pub(crate) once: bool,
    /// Topic of the log, by place; 0x and zeros: any. May be repeated.
    #[arg(long, value_name = "0x…")]
    pub(crate) topic: Vec<B256>,
    /// Chain of --log or --blocks (EIP-155). Default: the delegate's.
    #[arg(long, value_name = "ID")]
    pub(crate) chain_id: Option<u64>,
    /// How sure a block of --log or --blocks has to be: latest, safe or finalized. Default: latest.
    #[arg(long, value_name = "WORD")]
    pub(crate) finality: Option<FinalityWord>,
    /// Kind of the application's message. Default: any.
    #[arg(long, value_name = "TYPE")]
    pub(crate) kind: Option<String>,
}

/// How sure a block has to be.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum FinalityWord {
    /// The newest one.
    Latest,
    /// One that the chain calls safe.
    Safe,
    /// One that cannot be taken back.
    Finalized,
}
