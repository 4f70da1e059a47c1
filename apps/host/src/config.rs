//! What a host is started with: one JSON file, unknown fields refused.

use crate::{DataFolder, HostError, files};
use alloy_primitives::Address;
use cryptlet_api::types::Role;
use cryptlet_types::{Provider, Sha256Digest};
use cryptlet_vault::{FileVault, PinSource, Pkcs11Config, Pkcs11Vault, Unlock, Vault};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::task::spawn_blocking;

/// A host's configuration. Relative paths are taken from the working directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostConfig {
    /// Version of this format: 1.
    pub version: u32,
    /// Folder of journal, packages, index, policy and delegations (see [`crate::DataFolder`]).
    pub data: PathBuf,
    /// The node's JSON-RPC URL (`http://` or `ws://`, with an `s` where it is not this machine).
    pub rpc: String,
    /// URLs of further nodes of the same chain, asked where the first does not answer, or is not believed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<String>,
    /// Other chains whose logs and blocks contracts may be woken by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chains: Vec<OtherChain>,
    /// Folder of further market calendars, `NAME.json` each, beside those of this program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calendars: Option<PathBuf>,
    /// Address of the `CryptoDelegate`.
    pub delegate: Address,
    /// Block from which the delegate's logs are read, normally that of its deployment.
    #[serde(default)]
    pub first_block: u64,
    /// The register.
    pub register: RegisterConfig,
    /// Where the keys are.
    pub vault: VaultConfig,
    /// A policy file to install at start, if it is newer than the one that was in force here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PathBuf>,
    /// The container's binary.
    pub container: PathBuf,
    /// The binary of the container whose cryptlets run in virtual machines, if it is installed: preferred where policy accepts
    /// it and this machine can run guests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub microvm_container: Option<PathBuf>,
    /// Containers on other machines, preferred to this one's where policy accepts them, the first most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remote: Vec<RemoteContainer>,
    /// Addresses of places, `host:port` → `ip:port`, that are not asked of the system's resolver. Whom a
    /// cryptlet believes there is policy's word and not changed by this.
    #[serde(default)]
    pub resolve: BTreeMap<String, SocketAddr>,
    /// What time it is.
    pub clock: ClockSource,
    /// Packages that are fetched rather than handed in, and how much room all packages have.
    #[serde(default)]
    pub packages: PackagesConfig,
    /// The HTTP API; without it, none is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<ApiConfig>,
}

/// A container that listens on another machine (`cryptlet-container --listen`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemoteContainer {
    /// Where it listens: `host:port`, or `vsock:CID:PORT` for a virtual machine of this one.
    pub address: String,
    /// SHA-256 of its program, as its build says.
    pub container: Sha256Digest,
    /// What attests that machine.
    pub provider: Provider,
}

/// A chain that has no delegate for this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OtherChain {
    /// URLs of its nodes' JSON-RPC, the preferred one first; at least one.
    pub rpc: Vec<String>,
}

/// Where the register is. Its chain need not be the delegate's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegisterConfig {
    /// JSON-RPC URL of its chain; the delegate's, if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpc: Option<String>,
    /// Address of the `CryptletRegister`.
    pub address: Address,
    /// Block from which its logs are read, normally that of its deployment.
    #[serde(default)]
    pub first_block: u64,
    /// Seconds that its newest block may be old before the node is taken to be stuck, and the register to be known as of
    /// that block only; an hour, if it is not said. `null` is for chains without traffic, which make blocks on demand:
    /// there a stuck node is not told from an idle one. A host that goes by its chain's time has no other to compare with.
    #[serde(default = "an_hour")]
    pub max_head_age_seconds: Option<u64>,
}

fn an_hour() -> Option<u64> {
    Some(3_600)
}

/// Where the keys are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum VaultConfig {
    /// A sealed file.
    #[serde(rename_all = "camelCase")]
    File {
        /// What opens it. Keep it apart from the data folder: whoever has both has the keys.
        unlock: VaultUnlock,
        /// The file; `vault.sealed` of the data folder, if it is not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<PathBuf>,
    },
    /// A PKCS#11 token, whose keys cannot be taken out.
    #[serde(rename_all = "camelCase")]
    Pkcs11 {
        /// The token's library (`.so`).
        module: PathBuf,
        /// The token's label.
        token: String,
        /// Its PIN.
        pin: PinConfig,
    },
}

/// What opens a sealed file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VaultUnlock {
    /// A file of 32 random bytes, mode 0600.
    KeyFile(PathBuf),
    /// A password, in the environment variable of this name.
    PasswordVariable(String),
}

/// Where a token's PIN is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PinConfig {
    /// In a file, mode 0600.
    File(PathBuf),
    /// In the environment variable of this name.
    Variable(String),
}

/// Packages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PackagesConfig {
    /// OCI registries, `host` or `host:port`, that packages may be fetched from. None is asked that is not listed: where a
    /// package lies is the publisher's word.
    pub registries: Vec<String>,
    /// Bytes that all packages together may take.
    pub quota_bytes: u64,
}

impl Default for PackagesConfig {
    /// No registry, 10 GiB.
    fn default() -> Self {
        Self {
            registries: vec![],
            quota_bytes: 10 << 30,
        }
    }
}

/// The HTTP API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// DNS names and IP addresses that its certificate is for; the first is the one in its URL.
    pub names: Vec<String>,
    /// A certificate from elsewhere; without it the host's own authority makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateFiles>,
    /// Authorities, PEM files, whose client certificates are looked at beside those of the host's own.
    #[serde(default)]
    pub client_authorities: Vec<PathBuf>,
    /// What holders of client certificates may do, by SHA-256 of the certificate (DER).
    #[serde(default)]
    pub clients: BTreeMap<Sha256Digest, Role>,
    /// Failed attempts to authenticate that one address has in a minute, before it is told to wait.
    #[serde(default = "few_attempts")]
    pub failed_attempts: u32,
    /// JSON-RPC URL of the delegate's chain that callers are told, strangers too: no key of the host's own provider belongs
    /// here. Without it they bring their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpc: Option<String>,
    /// The same for the register's chain; the delegate's, if it is not said and both are one chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub register_rpc: Option<String>,
}

fn few_attempts() -> u32 {
    20
}

/// A certificate from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateFiles {
    /// The chain, PEM, the server's own certificate first.
    pub chain: PathBuf,
    /// Its private key, PEM, mode 0600.
    pub key: PathBuf,
    /// The authority that callers are to trust, PEM.
    pub authority: PathBuf,
}

impl VaultConfig {
    /// Opens the vault; `data` is where a sealed file lies that has no path of its own.
    pub(crate) async fn open(&self, data: &DataFolder) -> Result<Arc<dyn Vault>, HostError> {
        match self {
            Self::File { unlock, path } => {
                let path = path.clone().unwrap_or_else(|| data.vault());
                Ok(Arc::new(FileVault::open(&path, &unlock.secret()?)?))
            }
            Self::Pkcs11 { module, token, pin } => {
                let config = Pkcs11Config {
                    module: module.clone(),
                    token_label: token.clone(),
                    pin: pin.source(),
                };
                let opened = spawn_blocking(move || Pkcs11Vault::open(config)).await;
                let vault = opened.map_err(|_| HostError::Ended("the token's login"))??;
                Ok(Arc::new(vault))
            }
        }
    }
}

impl PinConfig {
    fn source(&self) -> PinSource {
        match self {
            Self::File(path) => PinSource::File(path.clone()),
            Self::Variable(name) => PinSource::Environment(name.clone()),
        }
    }
}

impl VaultUnlock {
    /// The secret itself.
    pub(crate) fn secret(&self) -> Result<Unlock, HostError> {
        match self {
            Self::KeyFile(path) => Ok(Unlock::KeyFile(path.clone())),
            Self::PasswordVariable(name) => match std::env::var(name) {
                Ok(password) => Ok(Unlock::Password(password.into())),
                Err(_) => Err(HostError::NoPassword(name.clone())),
            },
        }
    }
}

/// Where a host takes its time from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClockSource {
    /// The machine's clock.
    System,
    /// The newest block's timestamp: for chains whose time is set by hand, in replays and tests.
    Chain,
}

impl HostConfig {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// The file cannot be read, or a field is missing, unknown or wrong; the message names it.
    pub fn load(path: &Path) -> Result<Self, HostError> {
        let config = |reason: String| HostError::Config {
            path: path.to_owned(),
            reason,
        };
        let bytes = files::read(path).map_err(|error| config(error.to_string()))?;
        let loaded: Self =
            serde_json::from_slice(&bytes).map_err(|error| config(error.to_string()))?;
        if loaded.version == 1 {
            Ok(loaded)
        } else {
            Err(config("version: this program reads version 1".to_owned()))
        }
    }
}
