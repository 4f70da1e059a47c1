//! A host with its API, and a publisher who goes through it: keys and packages over HTTPS, registration by transactions of
//! its own.

use super::{Play, eventually, is_held};
use alloy::{
    contract::CallBuilder,
    primitives::{Address, B256},
    providers::{DynProvider, Provider},
    sol_types::SolCall,
};
use cryptlet_api::{
    Client, Connection, TokenStore,
    types::{
        Base64, CryptletDetail, CryptletRef, HostInfo, NewKey, NewPackage, NewToken, Role,
        StoredPackage, TokenLifetime,
    },
    wall_clock,
};
use cryptlet_chain::evm::abi::CryptletRegister;
use cryptlet_header::{Header, HeaderSource};
use cryptlet_host::{ApiConfig, DataFolder, Host, HostConfig};
use cryptlet_isolation::{IsolationProvider, ProcessProvider};
use cryptlet_seal::package::{self, PackageFiles};
use cryptlet_stage::{CryptletSource, Stage};
use cryptlet_types::{
    CryptletId, Measurement, Sha256Digest, manifest::ManifestSource, region::RegionSettings,
};
use std::{
    marker::PhantomData,
    net::{Ipv4Addr, SocketAddr},
};
use zeroize::Zeroizing;

/// The configuration, with the API on a free port.
pub(crate) fn with_api(config: HostConfig) -> HostConfig {
    let api = ApiConfig {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        names: vec!["localhost".into(), "127.0.0.1".into()],
        certificate: None,
        client_authorities: vec![],
        clients: Default::default(),
        rpc: None,
        register_rpc: None,
        failed_attempts: 1_000,
    };
    HostConfig {
        api: Some(api),
        ..config
    }
}

/// Opens a host, as soon as nobody else holds its folder.
pub(crate) async fn open(config: &HostConfig) -> Host {
    eventually("the folder is free", || async {
        match Host::open(config).await {
            Ok(host) => Some(host),
            Err(error) if is_held(&error) => None,
            Err(error) => panic!("{error}"),
        }
    })
    .await
}

/// A token of that role, made in the host's folder.
pub(crate) fn token(config: &HostConfig, role: Role) -> Zeroizing<String> {
    let path = DataFolder::at(&config.data).tokens();
    let store = if path.exists() {
        TokenStore::open(&path, wall_clock())
    } else {
        TokenStore::create(&path, wall_clock()).unwrap()
    };
    let made = store.add(&NewToken {
        role,
        label: role.as_str().parse().unwrap(),
        lifetime_seconds: TokenLifetime::new(3_600).unwrap(),
    });
    Zeroizing::new(made.unwrap().token.clone())
}

/// A caller of the host's API.
pub(crate) fn client(host: &Host, config: &HostConfig, role: Role) -> Client {
    let api = host.api().unwrap();
    let connection = Connection {
        url: api.url.clone(),
        authority: api.authority.clone(),
        token: token(config, role),
    };
    Client::new(&connection, Some(api.authority_digest.into())).unwrap()
}

/// What goes into a package, before there is a key.
pub(crate) struct Draft {
    pub(crate) manifest: ManifestSource,
    pub(crate) interface: String,
    pub(crate) code: Vec<u8>,
    pub(crate) source: Option<Vec<u8>>,
}

impl Draft {
    pub(crate) fn of(source: CryptletSource) -> Self {
        Self {
            manifest: ManifestSource::from_json(&source.manifest).unwrap(),
            interface: source.interface,
            code: source.code,
            source: None,
        }
    }

    /// The market watcher under another name or version.
    pub(crate) fn market_watcher(name: &str, label: &str) -> Self {
        let mut draft = Self::of(CryptletSource::market_watcher());
        let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
        let contract: String = name.split('-').map(capital).collect();
        draft.interface = draft.interface.replace("MarketWatcher", &contract);
        draft.manifest.name = name.into();
        draft.manifest.version = label.into();
        draft
    }

    pub(crate) fn header(&self, cryptlet: CryptletId, public_key: Address) -> Vec<u8> {
        let header = Header::build(HeaderSource {
            name: &self.manifest.name,
            label: &self.manifest.version,
            interface: &self.interface,
            cryptlet,
            public_key,
        });
        header.unwrap().to_json().unwrap()
    }

    pub(crate) fn files(&self, cryptlet: CryptletId, signer: Address) -> PackageFiles {
        let manifest = self.manifest.clone().with_key(signer).unwrap();
        let header = self.header(cryptlet, signer);
        package::build(&manifest, &self.code, &header, self.source.as_deref()).unwrap()
    }

    /// What the register is to say of the package.
    pub(crate) fn version(&self, files: &PackageFiles) -> CryptletRegister::Version {
        let opened = package::open_files(files).unwrap();
        CryptletRegister::Version {
            label: self.manifest.version.clone(),
            packageDigest: opened.digest.0,
            headerDigest: opened.header.0,
            manifestDigest: opened.manifest_digest.0,
            uri: String::new(),
        }
    }
}

pub(crate) fn new_package(files: &PackageFiles) -> NewPackage {
    let PackageFiles {
        package,
        header,
        source,
    } = files.clone();
    NewPackage {
        index: Base64(package.index),
        manifest: Base64(package.manifest),
        code: Base64(package.code),
        header: Base64(header),
        source: source.map(Base64),
    }
}

/// A version that was made and handed to the host.
pub(crate) struct Made {
    pub(crate) cryptlet: CryptletId,
    pub(crate) signer: Address,
    pub(crate) files: PackageFiles,
    pub(crate) version: CryptletRegister::Version,
}

impl Made {
    pub(crate) fn package(&self) -> Sha256Digest {
        self.version.packageDigest.into()
    }
}

/// Key and package of a version, nothing of it handed in yet but the question for the key.
pub(crate) async fn make(play: &Play, client: &Client, draft: &Draft) -> Made {
    let new = NewKey {
        publisher: play.stage.account.address().into(),
        name: draft.manifest.name.parse().unwrap(),
    };
    let key = client.create_key(&new).await.unwrap();
    let (cryptlet, signer) = (key.cryptlet.into(), key.signer.into());
    let files = draft.files(cryptlet, signer);
    Made {
        cryptlet,
        signer,
        version: draft.version(&files),
        files,
    }
}

pub(crate) async fn hand_in(client: &Client, made: &Made) -> StoredPackage {
    let stored = client.store_package(&new_package(&made.files)).await;
    stored.unwrap()
}

/// A transaction to the register, mined.
pub(crate) async fn mined<P: Provider, C: SolCall>(call: CallBuilder<P, PhantomData<C>>) {
    let receipt = call.send().await.unwrap().get_receipt().await.unwrap();
    assert!(receipt.status(), "the register refused");
}

impl Play {
    /// The register, as the stage's account speaks to it.
    pub(crate) fn register(&self) -> CryptletRegister::CryptletRegisterInstance<DynProvider> {
        CryptletRegister::new(self.stage.register, self.stage.provider.clone())
    }

    /// Publishes a further version of a registered cryptlet, whose key may sign until `expiry`.
    pub(crate) async fn publish(&self, client: &Client, draft: &Draft, expiry: u64) -> Made {
        let made = make(self, client, draft).await;
        hand_in(client, &made).await;
        self.announce(&made, expiry).await;
        made
    }

    /// Has the register say what was made.
    pub(crate) async fn announce(&self, made: &Made, expiry: u64) {
        let version = made.version.clone();
        mined(
            self.register()
                .publishVersion(made.cryptlet.0, version, made.signer, expiry),
        )
        .await;
    }

    /// Registers a cryptlet of that name with its first version.
    pub(crate) async fn register_as(&self, client: &Client, draft: &Draft) -> Made {
        let made = make(self, client, draft).await;
        hand_in(client, &made).await;
        let (name, version) = (draft.manifest.name.clone(), made.version.clone());
        mined(
            self.register()
                .register(name, version, made.signer, u64::MAX),
        )
        .await;
        made
    }

    /// What the region of a package measures under the stage's policy.
    pub(crate) fn measurement(&self, files: &PackageFiles) -> Measurement {
        let Stage { policy, config, .. } = &self.stage;
        let manifest = package::open_files(files).unwrap().manifest;
        let settings =
            RegionSettings::decided_by(&policy.policy, &manifest, manifest.config.limits);
        let provider = ProcessProvider::new(&config.container).unwrap();
        provider.measurement(&files.package, &settings).unwrap()
    }

    /// Waits until the host has read the register up to the newest block.
    pub(crate) async fn synced(&self, host: &Host) {
        let head = self.stage.provider.get_block_number().await.unwrap();
        eventually("the register was read", || async {
            let synced = host.rules().standing().synced;
            synced.filter(|synced| synced.block >= head).map(drop)
        })
        .await;
    }

    /// Waits until the host goes by the policy of that epoch; meanwhile the chain makes blocks.
    pub(crate) async fn in_force(&self, host: &Host, epoch: u64) {
        eventually("the policy is in force", || async {
            let policy = host.rules().standing().policy;
            if policy.is_some_and(|policy| policy.policy.epoch == epoch) {
                return Some(());
            }
            self.stage.rpc("evm_mine", ()).await.unwrap();
            None
        })
        .await;
    }
}

/// Waits until the host shows of the cryptlet what `is` wants to see.
pub(crate) async fn shown(
    client: &Client,
    name: &str,
    is: impl Fn(&CryptletDetail) -> bool,
) -> CryptletDetail {
    let name: CryptletRef = name.parse().unwrap();
    eventually("the host shows it", || async {
        client.cryptlet(&name).await.ok().filter(|found| is(found))
    })
    .await
}

/// Waits until the host says of itself what `is` wants to hear.
pub(crate) async fn told(client: &Client, is: impl Fn(&HostInfo) -> bool) -> HostInfo {
    eventually("the host tells", || async {
        client.host().await.ok().filter(|found| is(found))
    })
    .await
}

/// A digest that is of nothing here.
pub(crate) fn other_digest() -> B256 {
    B256::repeat_byte(0x5e)
}
