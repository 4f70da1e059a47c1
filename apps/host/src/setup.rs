//! Setting a host up, before it is started for the first time: its keys, and a token for whoever operates it.
//!
//! Run again, it makes what is missing and leaves the rest alone; each time it makes a token.

use crate::{
    DataFolder, HostConfig, HostError, VaultConfig, VaultUnlock,
    api::{Shown, own_authority, tokens},
    files,
};
use alloy_primitives::Address;
use cryptlet_api::{
    Connection,
    tls::ClientCertificate,
    types::{Label, NewToken, Role, TokenLifetime},
    wall_clock,
};
use cryptlet_types::{CryptletId, Measurement};
use cryptlet_vault::{FileVault, KeyId, Vault, VaultError};
use std::sync::Arc;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

/// Seconds for which an operator's first token counts: 90 days.
const FIRST_TOKEN_SECONDS: u64 = 90 * 86_400;

/// A host that can be started.
pub struct Prepared {
    /// Address of the key that vouches for regions and receipts.
    pub host: Address,
    /// Address of the account that pays for deliveries: fund it.
    pub transmitter: Address,
    /// How its operator comes in, if it serves an API.
    pub connection: Option<Connection>,
}

/// Makes what `config` names and is not there yet: the data folder, a key file for a sealed vault, the vault, the keys of
/// host, transmitter and authority, the authority's certificate, and a token for an operator.
///
/// # Errors
/// A key file, password or PIN that is missing or refused, files of others, an API without a port of its own.
pub async fn prepare(config: &HostConfig) -> Result<Prepared, HostError> {
    let data = DataFolder::at(&config.data);
    files::own_folder(data.path()).map_err(|error| HostError::Config {
        path: data.path().to_owned(),
        reason: error.to_string(),
    })?;
    let vault = vault(&config.vault, &data).await?;
    let host = key(&*vault, KeyId::Host).await?;
    let transmitter = key(&*vault, KeyId::Transmitter).await?;
    key(&*vault, KeyId::Authority).await?;
    Ok(Prepared {
        host,
        transmitter,
        connection: connection(config, &data, vault).await?,
    })
}

/// A certificate for a client of the host's API, of the host's own authority, for so many seconds. It opens nothing until the
/// configuration's `api.clients` gives its digest a role. The host must not run: its vault is opened.
///
/// # Errors
/// There is no API, or one with a certificate from elsewhere; no vault yet, or somebody has it open.
pub async fn certify_client(
    config: &HostConfig,
    label: &Label,
    seconds: u64,
) -> Result<ClientCertificate, HostError> {
    let data = DataFolder::at(&config.data);
    let failed = |reason: String| HostError::Api {
        what: "client certificate".to_owned(),
        reason,
    };
    let Some(api) = &config.api else {
        return Err(failed("the configuration has no api".to_owned()));
    };
    if api.certificate.is_some() {
        let reason =
            "with a certificate from elsewhere the host believes api.clientAuthorities only";
        return Err(failed(reason.to_owned()));
    }
    let vault = config.vault.open(&data).await?;
    let authority = own_authority(vault, api, &data).await?;
    let issued = authority.issue_client_certificate(label, seconds, wall_clock()());
    issued.map_err(|error| failed(error.to_string()))
}

/// Gives up the sealed image of a cryptlet's regions, which was lost: the next region begins without, and what earlier ones promised
/// is forgotten. The host must not run: its vault is opened.
///
/// # Errors
/// There is no such image, the vault keeps none, or somebody has it open.
pub async fn reset_sealed(
    config: &HostConfig,
    cryptlet: CryptletId,
    measurement: Measurement,
) -> Result<(), HostError> {
    let vault = config.vault.open(&DataFolder::at(&config.data)).await?;
    Ok(vault.reset_sealed(cryptlet, measurement).await?)
}

/// The vault that is there, or a new one.
async fn vault(config: &VaultConfig, data: &DataFolder) -> Result<Arc<dyn Vault>, HostError> {
    let VaultConfig::File { unlock, path } = config else {
        return config.open(data).await;
    };
    let path = path.clone().unwrap_or_else(|| data.vault());
    if path.symlink_metadata().is_ok() {
        return config.open(data).await;
    }
    if let VaultUnlock::KeyFile(file) = unlock
        && file.symlink_metadata().is_err()
    {
        FileVault::create_key_file(file)?;
    }
    let unlock = unlock.secret()?;
    let made = spawn_blocking(move || FileVault::create(&path, &unlock)).await;
    let vault = made.map_err(|_| HostError::Ended("making the vault"))??;
    Ok(Arc::new(vault))
}

/// The address of a key that is there, or of a new one.
async fn key(vault: &dyn Vault, id: KeyId) -> Result<Address, HostError> {
    match vault.address(&id).await {
        Err(VaultError::Unknown(_)) => Ok(vault.create(&id).await?),
        known => Ok(known?),
    }
}

async fn connection(
    config: &HostConfig,
    data: &DataFolder,
    vault: Arc<dyn Vault>,
) -> Result<Option<Connection>, HostError> {
    let Some(api) = &config.api else {
        return Ok(None);
    };
    let wrong = |what: &str, reason: &str| HostError::Api {
        what: what.to_owned(),
        reason: reason.to_owned(),
    };
    let name = api.names.first();
    let name = name.ok_or_else(|| wrong("names", "at least one name is needed"))?;
    if api.listen.port() == 0 {
        let reason = "a port of its own is needed: callers are told where it is";
        return Err(wrong("listen", reason));
    }
    let authority = Shown::of(vault, api, data).await?.authority;
    let failed = |error: &dyn std::fmt::Display| wrong("tokens", &error.to_string());
    let token = NewToken {
        role: Role::Operator,
        label: "first".parse().map_err(|error| failed(&error))?,
        lifetime_seconds: TokenLifetime::new(FIRST_TOKEN_SECONDS)
            .map_err(|error| failed(&error))?,
    };
    let made = tokens(&data.tokens())?.add(&token);
    let made = made.map_err(|error| failed(&error))?;
    Ok(Some(Connection {
        url: format!("https://{name}:{}", api.listen.port()),
        authority,
        token: Zeroizing::new(made.token.clone()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ApiConfig, CertificateFiles, ClockSource, PackagesConfig, RegisterConfig};
    use cryptlet_api::TokenStore;
    use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, path::Path};

    fn config(folder: &Path) -> HostConfig {
        HostConfig {
            version: 1,
            data: folder.join("data"),
            rpc: "http://127.0.0.1:1".into(),
            fallbacks: vec![],
            chains: vec![],
            calendars: None,
            delegate: Address::ZERO,
            first_block: 0,
            register: RegisterConfig {
                rpc: None,
                address: Address::ZERO,
                first_block: 0,
                max_head_age_seconds: None,
            },
            vault: VaultConfig::File {
                unlock: VaultUnlock::KeyFile(folder.join("vault.key")),
                path: None,
            },
            policy: None,
            container: "cryptlet-container".into(),
            microvm_container: None,
            remote: vec![],
            resolve: BTreeMap::new(),
            clock: ClockSource::System,
            packages: PackagesConfig::default(),
            api: Some(ApiConfig {
                listen: "127.0.0.1:8600".parse().unwrap(),
                names: vec!["localhost".into()],
                certificate: None,
                client_authorities: vec![],
                clients: BTreeMap::new(),
                failed_attempts: 20,
                rpc: None,
                register_rpc: None,
            }),
        }
    }

    #[tokio::test]
    async fn what_is_missing_is_made_for_its_owner_and_the_rest_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let first = prepare(&config).await.unwrap();
        let connection = first.connection.unwrap();
        assert_eq!(connection.url, "https://localhost:8600");
        let data = DataFolder::at(&config.data);
        for file in [
            &data.vault(),
            &data.tokens(),
            &folder.path().join("vault.key"),
        ] {
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", file.display());
        }
        let tokens = TokenStore::open(&data.tokens(), wall_clock());
        assert!(tokens.expiry(&connection.token).unwrap().is_some());

        let again = prepare(&config).await.unwrap();
        assert_eq!(
            (again.host, again.transmitter),
            (first.host, first.transmitter)
        );
        let again = again.connection.unwrap();
        assert_eq!(again.authority, connection.authority);
        assert_ne!(again.token, connection.token);
        assert!(
            tokens.expiry(&connection.token).unwrap().is_some(),
            "both count"
        );
    }

    #[tokio::test]
    async fn a_client_is_certified_by_the_hosts_own_authority() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let label: Label = "ci".parse().unwrap();
        let early = certify_client(&config, &label, 60).await;
        assert!(early.is_err(), "there is no vault yet");
        prepare(&config).await.unwrap();
        let made = certify_client(&config, &label, 60).await.unwrap();
        assert!(made.certificate.starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(made.key.starts_with("-----BEGIN PRIVATE KEY-----"));
        let mut foreign = config.clone();
        foreign.api.as_mut().unwrap().certificate = Some(CertificateFiles {
            chain: "chain.pem".into(),
            key: "key.pem".into(),
            authority: "ca.pem".into(),
        });
        let refused = certify_client(&foreign, &label, 60).await.err().unwrap();
        assert!(
            refused.to_string().contains("clientAuthorities"),
            "{refused}"
        );
        let mut silent = config;
        silent.api = None;
        assert!(certify_client(&silent, &label, 60).await.is_err());
    }

    #[tokio::test]
    async fn an_api_without_a_port_and_a_key_file_of_others_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut anywhere = config(folder.path());
        anywhere.api.as_mut().unwrap().listen = "127.0.0.1:0".parse().unwrap();
        let refused = prepare(&anywhere).await.err().unwrap().to_string();
        assert!(refused.contains("listen"), "{refused}");
        let key = folder.path().join("vault.key");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let refused = prepare(&config(folder.path())).await.err().unwrap();
        assert!(refused.to_string().contains("chmod 600"), "{refused}");
    }
}
