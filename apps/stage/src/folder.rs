//! The host's folder: configuration and vault.

use crate::{
    FEED_PLACE,
    contracts::Contracts,
    error::{Doing, StageError},
};
use alloy::primitives::Address;
use cryptlet_host::{
    ApiConfig, ClockSource, DataFolder, HostConfig, PackagesConfig, RegisterConfig, VaultConfig,
    VaultUnlock,
};
use cryptlet_vault::{FileVault, KeyId, Unlock, Vault};
use std::{
    collections::BTreeMap,
    fs::{DirBuilder, File},
    io::Write,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// What a host on a stage is told.
pub(crate) struct Setting<'s> {
    pub(crate) out: &'s Path,
    pub(crate) rpc: String,
    pub(crate) contracts: Contracts,
    /// From here on the contracts' logs are read.
    pub(crate) first_block: u64,
    pub(crate) container: PathBuf,
    /// Where the feed is, if there is one.
    pub(crate) feed: Option<SocketAddr>,
    pub(crate) clock: ClockSource,
    pub(crate) api: Option<ApiConfig>,
}

/// The host's configuration; a copy lies in the folder as `host.json`, its policy is expected as `policy.json`.
pub(crate) fn configure(setting: Setting<'_>) -> Result<HostConfig, StageError> {
    let out = setting.out;
    let config = HostConfig {
        version: 1,
        data: out.join("host"),
        rpc: setting.rpc,
        fallbacks: vec![],
        chains: vec![],
        calendars: None,
        delegate: setting.contracts.delegate,
        first_block: setting.first_block,
        register: RegisterConfig {
            rpc: None,
            address: setting.contracts.register,
            first_block: setting.first_block,
            // A chain that mines on demand.
            max_head_age_seconds: None,
        },
        vault: VaultConfig::File {
            unlock: VaultUnlock::KeyFile(key_file(out)),
            path: None,
        },
        policy: Some(out.join("policy.json")),
        container: setting.container,
        microvm_container: None,
        remote: vec![],
        resolve: BTreeMap::from_iter(setting.feed.map(|feed| (FEED_PLACE.to_owned(), feed))),
        clock: setting.clock,
        packages: PackagesConfig::default(),
        api: setting.api,
    };
    own_folder(&config.data).doing("cannot make the host's folder")?;
    write_json(&out.join("host.json"), &config)?;
    Ok(config)
}

/// A host takes no folder that others may read.
fn own_folder(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The file that opens the vault.
pub(crate) fn key_file(out: &Path) -> PathBuf {
    out.join("vault.key")
}

pub(crate) fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<(), StageError> {
    let doing = format!("cannot write {}", path.display());
    let mut bytes = serde_json::to_vec_pretty(value).doing(&doing)?;
    bytes.push(b'\n');
    replace(path, &bytes).doing(&doing)
}

/// Writes a file whole: whoever is killed on the way leaves the old one.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

/// A host's keys.
pub(crate) struct Keys {
    pub(crate) vault: FileVault,
    pub(crate) host: Address,
    pub(crate) transmitter: Address,
}

impl Keys {
    /// A vault with the keys of host, transmitter and authority.
    pub(crate) async fn make(data: &DataFolder, key: &Path) -> Result<Self, StageError> {
        let doing = "cannot make the vault";
        own_folder(data.path()).doing(doing)?;
        if !key.exists() {
            FileVault::create_key_file(key).doing(doing)?;
        }
        let unlock = Unlock::KeyFile(key.to_owned());
        let vault = FileVault::create(&data.vault(), &unlock).doing(doing)?;
        let host = vault.create(&KeyId::Host).await.doing(doing)?;
        let transmitter = vault.create(&KeyId::Transmitter).await.doing(doing)?;
        vault.create(&KeyId::Authority).await.doing(doing)?;
        Ok(Self {
            vault,
            host,
            transmitter,
        })
    }

    /// The vault of an earlier start.
    pub(crate) async fn open(data: &DataFolder, key: &Path) -> Result<Self, StageError> {
        let doing = "cannot open the vault";
        let unlock = Unlock::KeyFile(key.to_owned());
        let vault = FileVault::open(&data.vault(), &unlock).doing(doing)?;
        Ok(Self {
            host: vault.address(&KeyId::Host).await.doing(doing)?,
            transmitter: vault.address(&KeyId::Transmitter).await.doing(doing)?,
            vault,
        })
    }
}
