//! What a host is started with: one JSON file, unknown fields refused.

use crate::HostError;
use alloy_primitives::Address;
use cryptlet_types::bounded::MAX_DOCUMENT_BYTES;
use cryptlet_vault::Unlock;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// A host's configuration. Relative paths are taken from the working directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostConfig {
    /// Version of this format: 1.
    pub version: u32,
    /// Folder of journal, vault, packages and policy memory (see [`crate::DataFolder`]).
    pub data: PathBuf,
    /// The node's JSON-RPC URL (`http://` or `ws://`, with an `s` where it is not this machine).
    pub rpc: String,
    /// Address of the `CryptoDelegate`.
    pub delegate: Address,
    /// Block from which the delegate's logs are read, normally that of its deployment.
    #[serde(default)]
    pub first_block: u64,
    /// What opens the vault. Keep it apart from the data folder: whoever has both has the keys.
    pub unlock: VaultUnlock,
    /// The operator's policy.
    pub policy: PathBuf,
    /// The container's binary.
    pub container: PathBuf,
    /// Addresses of places, `host:port` → `ip:port`, that are not asked of the system's resolver. Whom a
    /// cryptlet believes there is policy's word and not changed by this.
    #[serde(default)]
    pub resolve: BTreeMap<String, SocketAddr>,
    /// What time it is.
    pub clock: ClockSource,
}

/// What opens the vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VaultUnlock {
    /// A file of 32 random bytes, mode 0600.
    KeyFile(PathBuf),
    /// A password, in the environment variable of this name.
    PasswordVariable(String),
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
        let file = std::fs::File::open(path).map_err(|error| config(error.to_string()))?;
        let mut bytes = Vec::new();
        let bound = u64::try_from(MAX_DOCUMENT_BYTES).unwrap_or(u64::MAX);
        file.take(bound)
            .read_to_end(&mut bytes)
            .map_err(|error| config(error.to_string()))?;
        let loaded: Self =
            serde_json::from_slice(&bytes).map_err(|error| config(error.to_string()))?;
        if loaded.version == 1 {
            Ok(loaded)
        } else {
            Err(config("version: this program reads version 1".to_owned()))
        }
    }
}
