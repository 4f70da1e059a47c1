//! Publishing a cryptlet without a network: straight into the host's vault and content store.

use crate::{
    MARKET_WATCHER, MARKET_WATCHER_INTERFACE, MARKET_WATCHER_MANIFEST, contracts,
    error::{Doing, StageError},
};
use alloy::{primitives::Address, providers::DynProvider};
use cryptlet_header::{Header, HeaderSource};
use cryptlet_register::PackageStore;
use cryptlet_seal::package;
use cryptlet_types::{CryptletId, Sha256Digest, manifest::ManifestSource, register::VersionRecord};
use cryptlet_vault::{KeyId, Vault};

/// A cryptlet that answers every trigger at once (component).
pub const RELAY: &[u8] = include_bytes!("../../../cryptlets/dist/relay.wasm");
const RELAY_MANIFEST: &[u8] = include_bytes!("../../../cryptlets/relay/cryptlet.json");
const RELAY_INTERFACE: &str = include_str!("../../../cryptlets/relay/interface.sol");

/// What is published: all of it as its author writes it.
pub struct CryptletSource {
    /// The manifest, without its key.
    pub manifest: Vec<u8>,
    /// The Solidity interface.
    pub interface: String,
    /// The component.
    pub code: Vec<u8>,
}

impl CryptletSource {
    /// The cryptlet that answers at once and asks nobody, as it is checked in.
    #[must_use]
    pub fn relay() -> Self {
        Self {
            manifest: RELAY_MANIFEST.to_vec(),
            interface: RELAY_INTERFACE.to_owned(),
            code: RELAY.to_vec(),
        }
    }

    /// The market watcher, as it is checked in.
    #[must_use]
    pub fn market_watcher() -> Self {
        Self {
            manifest: MARKET_WATCHER_MANIFEST.to_vec(),
            interface: MARKET_WATCHER_INTERFACE.to_owned(),
            code: MARKET_WATCHER.to_vec(),
        }
    }
}

/// What publishing gave.
#[derive(Clone, Debug)]
pub struct Published {
    /// The cryptlet's id in the register.
    pub cryptlet: CryptletId,
    /// Its name.
    pub name: String,
    /// Address of its signing key, enrolled in the register.
    pub signer: Address,
    /// Digest of its package.
    pub package: Sha256Digest,
}

/// What it takes to publish.
pub(crate) struct Press<'p> {
    pub(crate) provider: &'p DynProvider,
    pub(crate) publisher: Address,
    pub(crate) register: Address,
    pub(crate) vault: &'p dyn Vault,
    pub(crate) store: &'p PackageStore,
}

impl Press<'_> {
    /// Makes the cryptlet's key, packs manifest, code and header, keeps the package and registers the cryptlet.
    pub(crate) async fn publish(&self, source: &CryptletSource) -> Result<Published, StageError> {
        let doing = "cannot publish the cryptlet";
        let manifest = ManifestSource::from_json(&source.manifest).doing("manifest")?;
        let cryptlet = CryptletId::derive(self.publisher, &manifest.name);
        let key = KeyId::Cryptlet(cryptlet);
        let signer = self.vault.create(&key).await.doing(doing)?;
        let header = Header::build(HeaderSource {
            name: &manifest.name,
            label: &manifest.version,
            interface: &source.interface,
            cryptlet,
            public_key: signer,
        })
        .and_then(|header| header.to_json())
        .doing(doing)?;
        let manifest = manifest.with_key(signer).doing(doing)?;
        let files = package::build(&manifest, &source.code, &header, None).doing(doing)?;
        let opened = package::open(&files.package).doing(doing)?;
        let digest = self.store.put(&files).doing(doing)?;
        let version = VersionRecord {
            number: 1,
            label: manifest.version.clone(),
            package: digest,
            header: opened.header,
            manifest: opened.manifest_digest,
            uri: String::new(),
            published_at: 0,
            revoked: false,
        };
        contracts::register(
            self.provider,
            self.register,
            &manifest.name,
            &version,
            signer,
        )
        .await?;
        Ok(Published {
            cryptlet,
            name: manifest.name,
            signer,
            package: digest,
        })
    }
}
