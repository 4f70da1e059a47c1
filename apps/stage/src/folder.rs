//! The host's folder: configuration, policy, vault.

use crate::{
    FEED_PLACE,
    error::{Doing, StageError},
};
use alloy::primitives::Address;
use cryptlet_host::{ClockSource, DataFolder, HostConfig, VaultUnlock};
use cryptlet_types::{
    Limits, Policy, Provider,
    policy::{EgressRule, Retry, Trust},
};
use cryptlet_vault::{FileVault, KeyId, Unlock, Vault};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Writes policy and configuration.
pub(crate) fn configure(
    out: &Path,
    rpc: String,
    delegate: Address,
    container: PathBuf,
    feed: SocketAddr,
    root: String,
    retry: Retry,
) -> Result<HostConfig, StageError> {
    let policy = Policy {
        version: 1,
        epoch: 1,
        isolation: vec![Provider::Process],
        egress: vec![EgressRule {
            place: FEED_PLACE.into(),
            trust: Trust::Roots(root),
        }],
        limits: Limits::default(),
        retry,
    };
    let config = HostConfig {
        version: 1,
        data: out.join("host"),
        rpc,
        delegate,
        first_block: 0,
        unlock: VaultUnlock::KeyFile(out.join("vault.key")),
        policy: out.join("policy.json"),
        container,
        resolve: BTreeMap::from([(FEED_PLACE.to_owned(), feed)]),
        clock: ClockSource::Chain,
    };
    std::fs::create_dir_all(&config.data).doing("cannot make the host's folder")?;
    write_json(&config.policy, &policy)?;
    write_json(&out.join("host.json"), &config)?;
    Ok(config)
}

fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<(), StageError> {
    let doing = format!("cannot write {}", path.display());
    let mut bytes = serde_json::to_vec_pretty(value).doing(&doing)?;
    bytes.push(b'\n');
    std::fs::write(path, bytes).doing(&doing)
}

/// A vault with the host's and the transmitter's key, and their addresses.
pub(crate) async fn make_vault(
    data: &DataFolder,
    key: &Path,
) -> Result<(FileVault, Address, Address), StageError> {
    let doing = "cannot make the vault";
    FileVault::create_key_file(key).doing(doing)?;
    let vault = FileVault::create(&data.vault(), &Unlock::KeyFile(key.to_owned())).doing(doing)?;
    let host = vault.create(&KeyId::Host).await.doing(doing)?;
    let transmitter = vault.create(&KeyId::Transmitter).await.doing(doing)?;
    Ok((vault, host, transmitter))
}
