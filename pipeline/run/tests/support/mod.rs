//! A runner on real parts: the container that was built, the hostile cryptlet or the market watcher with its source, and vaults
//! of both kinds.
#![allow(dead_code, reason = "each test program needs a part of it")]

use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::SolValue;
use async_trait::async_trait;
use cryptlet_feed::{Feed, Rates};
use cryptlet_isolation::{
    CallOutHandler, IsolationError, IsolationProvider, ProcessProvider, Providers, Region, Relay,
    TracingLog,
};
use cryptlet_register::{
    Current, Known, Register, RegisterError, Result as RegisterResult, Synced,
};
use cryptlet_run::{KeptCode, Ports, Runner, SecretCodes};
use cryptlet_seal::{
    CodeKey, SigningKey, check,
    evidence::Expected,
    package::{self, PackageFiles},
    sha256,
};
use cryptlet_types::{
    ClockSpec, CodeAgreement, CryptletId, Event, Evidence, Job, Limits, Manifest, Measurement,
    Policy, Provider, ReportDomain, SecretCode, Sha256Digest, Subject, Subscription, Trigger,
    TriggerSpec,
    manifest::{Kind, ManifestConfig, TriggerKind},
    policy::{
        CodeRule, EgressRule, EvidenceRule, PolicyInForce, RecordingRule, Retry, ServeRule,
        Signing, Trust, Whom,
    },
    region::{KeyGrant, Package, RegionSettings, RegionStatement},
    report::CompactSignature,
};
use cryptlet_vault::{
    FileVault, Images, KeyId, KeyRecord, Result as VaultResult, Unlock, Vault, VaultError,
};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

pub(crate) const DUE: u64 = 1_792_159_200;
const CRYPTLET: CryptletId = CryptletId(Address::repeat_byte(3));
const SOURCE: &str = "rates.bletchley.example";
const MARKET_WATCHER: &[u8] = include_bytes!("../../../../cryptlets/dist/market-watcher.wasm");
const HOSTILE: &[u8] = include_bytes!("../../../../cryptlets/dist/hostile.wasm");

/// Where the cryptlet's key lies.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keys {
    /// The vault gives it to the region.
    Released,
    /// The vault keeps it.
    Kept,
    /// The vault keeps it, and signs with another one.
    KeptByAnother,
}

/// A runner and what it runs with.
pub(crate) struct World {
    pub(crate) runner: Runner,
    pub(crate) cryptlet_key: SigningKey,
    pub(crate) ports: Ports,
    host: Address,
    package: Sha256Digest,
    isolation: Arc<Counting>,
    folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn new(keys: Keys) -> Self {
        let manifest = manifest(&cryptlet_key());
        Self::of(
            keys,
            package::build(&manifest, HOSTILE, b"{}", None).unwrap(),
        )
    }

    /// Of a package whose code is secret.
    pub(crate) fn secret(keys: Keys, secret: &Secret) -> Self {
        let mut manifest = manifest(&cryptlet_key());
        manifest.config.secret_code = Some(SecretCode {
            counterparties: vec![secret.counterparty.address()],
        });
        let code = secret.key.encrypt(HOSTILE).unwrap();
        Self::of(keys, package::build(&manifest, &code, b"{}", None).unwrap())
    }

    fn of(keys: Keys, files: PackageFiles) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = SigningKey::from_secret(&[1; 32]).unwrap();
        let cryptlet_key = cryptlet_key();
        let isolation = Arc::new(Counting {
            inner: ProcessProvider::new(&container()).unwrap(),
            created: AtomicUsize::new(0),
        });
        let address = host.address();
        let vault: Arc<dyn Vault> = match keys {
            Keys::Released => Arc::new(file_vault(folder.path(), &host, &cryptlet_key)),
            Keys::Kept => Arc::new(Token::new(host, &cryptlet_key)),
            Keys::KeptByAnother => Arc::new(Token::new(host, &SigningKey::generate())),
        };
        let ports = Ports {
            isolation: Providers::only(isolation.clone()),
            vault,
            register: Arc::new(Store(files.package.clone())),
            call_out: Arc::new(Relay::new(
                BTreeMap::new(),
                Arc::new(TracingLog::new("tested")),
            )),
        };
        let policy = policy();
        Self {
            runner: Runner::new(ports.clone(), domain(), policy, address),
            cryptlet_key,
            ports,
            host: address,
            package: sha256(&files.package.index),
            isolation,
            folder,
        }
    }

    /// With what the host has of secret code.
    pub(crate) fn with_codes(mut self, codes: impl SecretCodes + 'static) -> Self {
        let runner = Runner::new(self.ports.clone(), domain(), policy(), self.host);
        self.runner = runner.with_secret_codes(Arc::new(codes));
        self
    }

    /// What a host keeps of `secret`, as its vault seals the key `key`.
    pub(crate) async fn kept(&self, secret: &Secret, key: &CodeKey) -> KeptCode {
        let (package, code) = (self.package, sha256(HOSTILE));
        let sealed = self.ports.vault.seal_code_key(package, key).await;
        let agreement = CodeAgreement { package, code };
        KeptCode {
            sealed: sealed.unwrap(),
            code,
            agreements: vec![secret.counterparty.sign(agreement.digest()).unwrap()],
        }
    }

    /// Where sealed images lie.
    pub(crate) fn images(&self) -> PathBuf {
        self.folder.path().join("sealed")
    }

    /// With another runner on the same vault, the register and the images, as a host that was started again has. The one before
    /// is dropped, and its regions with it.
    pub(crate) fn restarted(mut self) -> Self {
        let images = Images::at(&self.images()).unwrap();
        self.runner =
            Runner::new(self.ports.clone(), domain(), policy(), self.host).with_images(images);
        self
    }

    pub(crate) fn domain(&self) -> ReportDomain {
        domain()
    }

    pub(crate) fn policy(&self) -> PolicyInForce {
        policy()
    }

    /// How many regions were created.
    pub(crate) fn created(&self) -> usize {
        self.isolation.created.load(Ordering::Relaxed)
    }
}

/// Secret code, and who agrees to it.
pub(crate) struct Secret {
    pub(crate) key: CodeKey,
    pub(crate) counterparty: SigningKey,
}

/// What a host is asked for of secret code.
#[derive(Clone)]
pub(crate) struct Codes(pub(crate) Result<KeptCode, String>);

#[async_trait]
impl SecretCodes for Codes {
    async fn of(&self, _: Sha256Digest, _: &SecretCode) -> Result<KeptCode, String> {
        self.0.clone()
    }
}

fn cryptlet_key() -> SigningKey {
    SigningKey::from_secret(&[2; 32]).unwrap()
}

/// A runner of the market watcher, and its source.
pub(crate) struct Watched {
    pub(crate) runner: Runner,
    pub(crate) package: Package,
    relay: Relay,
    _feed: Feed,
    _folder: tempfile::TempDir,
}

impl Watched {
    /// Under a policy that has runs recorded as `recording` says.
    pub(crate) async fn new(recording: RecordingRule) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = SigningKey::from_secret(&[1; 32]).unwrap();
        let key = SigningKey::from_secret(&[2; 32]).unwrap();
        let rates = Rates::parse("Date,USD,GBP\n2026-10-16,1.1172,0.8338\n").unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let feed = Feed::start(rates, SOURCE, any).await.unwrap();
        let place = format!("{SOURCE}:443");
        let mut manifest = manifest(&key);
        manifest.config.egress = vec![place.clone()];
        manifest.config.settings = BTreeMap::from([("feed".into(), format!("https://{SOURCE}/"))]);
        let built = package::build(&manifest, MARKET_WATCHER, b"{}", None).unwrap();
        let relay = Relay::new(
            BTreeMap::from([(place.clone(), feed.address())]),
            Arc::new(TracingLog::new("tested")),
        );
        let ports = Ports {
            isolation: Providers::only(Arc::new(ProcessProvider::new(&container()).unwrap())),
            vault: Arc::new(file_vault(folder.path(), &host, &key)),
            register: Arc::new(Store(built.package.clone())),
            call_out: Arc::new(relay.clone()),
        };
        let mut policy = policy().policy;
        policy.recording = recording;
        policy.egress = vec![EgressRule {
            place,
            trust: Trust::Roots(feed.root_pem().to_owned()),
        }];
        let digest = sha256(&policy.to_json().unwrap());
        let policy = PolicyInForce { policy, digest };
        Self {
            runner: Runner::new(ports, domain(), policy, host.address()),
            package: built.package,
            relay,
            _feed: feed,
            _folder: folder,
        }
    }

    pub(crate) fn relay(&self) -> Arc<dyn CallOutHandler> {
        Arc::new(self.relay.clone())
    }

    /// A job for the rate of a currency.
    pub(crate) fn watch(&self, currency: &str, nonce: u64) -> Job {
        let params = (true, vec![currency.to_owned()]).abi_encode_params();
        job(sha256(&self.package.index), |subscription| {
            subscription.nonce = nonce;
            subscription.params = params.into();
        })
    }
}

fn domain() -> ReportDomain {
    ReportDomain {
        chain_id: 31_337,
        delegate: Address::repeat_byte(2),
    }
}

/// A job that has the cryptlet say `detail`, for a subscription that `change` has changed.
pub(crate) fn behave(world: &World, detail: &str, change: impl FnOnce(&mut Subscription)) -> Job {
    job(world.package, |subscription| {
        let params = ("echo".to_owned(), detail.to_owned()).abi_encode_params();
        subscription.params = Bytes::from(params);
        change(subscription);
    })
}

fn job(package: Sha256Digest, change: impl FnOnce(&mut Subscription)) -> Job {
    let clock = ClockSpec {
        cron: "0 16 * * *".into(),
        time_zone: "Europe/Berlin".into(),
    };
    let mut subscription = Subscription {
        subject: Subject(B256::ZERO),
        consumer: Address::repeat_byte(5),
        nonce: 0,
        cryptlet: CRYPTLET,
        on_behalf_of: Address::ZERO,
        callback: [1; 4].into(),
        callback_gas: 50_000,
        validity: 3_600,
        trigger: TriggerSpec::Clock(clock),
        params: Bytes::new(),
        since: 1,
    };
    change(&mut subscription);
    let subscription = subscription.with_subject_in(&domain());
    let event = Event::new(&domain(), subscription.subject, Trigger::Clock { due: DUE });
    Job {
        id: Job::id_of(&event),
        event,
        subscription,
        package,
        limits: Limits::default(),
        policy_epoch: 1,
    }
}

fn manifest(key: &SigningKey) -> Manifest {
    Manifest {
        name: "tested".into(),
        public_key: key.address(),
        version: "1".into(),
        config: ManifestConfig {
            description: String::new(),
            kind: Kind::Utility,
            isolation: true,
            imports: ["http", "log", "regions", "signing"].map(Into::into).into(),
            triggers: vec![TriggerKind::Clock],
            limits: Limits::default(),
            egress: vec![],
            settings: BTreeMap::from([("colour".into(), "red".into())]),
            secret_code: None,
        },
    }
}

fn policy() -> PolicyInForce {
    let policy = Policy {
        version: 1,
        epoch: 1,
        publishers: Whom::Anyone,
        isolation: vec![Provider::Process],
        controls: vec!["seccomp-kill".into()],
        egress: vec![],
        limits: Limits::default(),
        retry: Retry {
            attempts: 1,
            first_millis: 1,
            longest_millis: 1,
        },
        signing: Signing::Ecdsa,
        evidence: EvidenceRule {
            max_age_seconds: 600,
            ..EvidenceRule::default()
        },
        serve: ServeRule {
            consumers: Whom::Anyone,
            minimum_interval_seconds: 0,
            minimum_validity_seconds: 1,
            maximum_callback_gas: 1_000_000,
        },
        code: CodeRule::default(),
        recording: RecordingRule::Off,
    };
    let digest = sha256(&policy.to_json().unwrap());
    PolicyInForce { policy, digest }
}

/// The container beside the test program.
pub(crate) fn container() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().with_file_name("cryptlet-container");
    assert!(
        path.exists(),
        "{} is missing: cargo build --release -p cryptlet-container",
        path.display()
    );
    path
}

fn file_vault(folder: &std::path::Path, host: &SigningKey, cryptlet: &SigningKey) -> FileVault {
    let key_file = folder.join("key");
    FileVault::create_key_file(&key_file).unwrap();
    let vault = FileVault::create(&folder.join("vault"), &Unlock::KeyFile(key_file)).unwrap();
    vault.import(&KeyId::Host, &host.secret()).unwrap();
    let id = KeyId::Cryptlet(CRYPTLET);
    vault.import(&id, &cryptlet.secret()).unwrap();
    vault
}

/// The process provider, with a count.
struct Counting {
    inner: ProcessProvider,
    created: AtomicUsize,
}

#[async_trait]
impl IsolationProvider for Counting {
    fn provider(&self) -> Provider {
        self.inner.provider()
    }

    fn measurement(
        &self,
        package: &Package,
        settings: &RegionSettings,
    ) -> Result<Measurement, IsolationError> {
        self.inner.measurement(package, settings)
    }

    async fn create(
        &self,
        package: Package,
        settings: RegionSettings,
        nonce: B256,
        call_out: Arc<dyn CallOutHandler>,
    ) -> Result<Box<dyn Region>, IsolationError> {
        self.created.fetch_add(1, Ordering::Relaxed);
        self.inner.create(package, settings, nonce, call_out).await
    }
}

/// A vault whose keys cannot be taken out, as a PKCS#11 token's: it looks at evidence and the region's signature.
struct Token {
    host: SigningKey,
    cryptlet: SigningKey,
}

impl Token {
    fn new(host: SigningKey, cryptlet: &SigningKey) -> Self {
        let cryptlet = SigningKey::from_secret(&cryptlet.secret()).unwrap();
        Self { host, cryptlet }
    }
}

#[async_trait]
impl Vault for Token {
    async fn create(&self, key: &KeyId) -> VaultResult<Address> {
        Err(VaultError::NotForSigning(*key))
    }

    async fn address(&self, _: &KeyId) -> VaultResult<Address> {
        Ok(self.host.address())
    }

    async fn sign(&self, _: &KeyId, digest: B256) -> VaultResult<CompactSignature> {
        Ok(self.host.sign(digest).unwrap())
    }

    async fn grant(
        &self,
        _: CryptletId,
        signer: Address,
        evidence: &Evidence,
        expected: &Expected<'_>,
    ) -> VaultResult<KeyGrant> {
        cryptlet_attest::verify(evidence, expected).unwrap();
        Ok(KeyGrant::InVault { signer })
    }

    async fn sign_report(
        &self,
        _: CryptletId,
        _: Address,
        evidence: &Evidence,
        expected: &Expected<'_>,
        statement: &RegionStatement,
        region_signature: &CompactSignature,
    ) -> VaultResult<CompactSignature> {
        cryptlet_attest::verify(evidence, expected).unwrap();
        let region_key = evidence.statement.region_key;
        check(statement.digest(), region_signature, region_key).unwrap();
        Ok(self.cryptlet.sign(statement.report).unwrap())
    }

    async fn retire(&self, _: CryptletId, _: Address) -> VaultResult<()> {
        Ok(())
    }

    async fn discard(&self, _: CryptletId, _: Address) -> VaultResult<()> {
        Ok(())
    }

    async fn authority_public(&self) -> VaultResult<[u8; 65]> {
        Err(VaultError::NotForSigning(KeyId::Authority))
    }

    async fn sign_authority(&self, _: &[u8]) -> VaultResult<Vec<u8>> {
        Err(VaultError::NotForSigning(KeyId::Authority))
    }

    async fn list(&self) -> VaultResult<Vec<KeyRecord>> {
        Ok(vec![])
    }
}

/// A register of one package, of which nothing else is asked.
struct Store(Package);

#[async_trait]
impl Register for Store {
    async fn current(&self, _: CryptletId) -> RegisterResult<Current> {
        Ok(Current::Unknown)
    }

    async fn by_id(&self, _: CryptletId) -> RegisterResult<Option<Known>> {
        Ok(None)
    }

    async fn by_name(&self, _: &str) -> RegisterResult<Option<Known>> {
        Ok(None)
    }

    async fn search(&self, _: &str, _: u32, _: Option<&str>) -> RegisterResult<Vec<Known>> {
        Ok(vec![])
    }

    async fn synced(&self) -> RegisterResult<Option<Synced>> {
        Ok(None)
    }

    async fn package(&self, digest: Sha256Digest) -> RegisterResult<Package> {
        if sha256(&self.0.index) == digest {
            Ok(self.0.clone())
        } else {
            Err(RegisterError::UnknownPackage(digest))
        }
    }

    async fn files(&self, digest: Sha256Digest) -> RegisterResult<PackageFiles> {
        Err(RegisterError::UnknownPackage(digest))
    }
}
