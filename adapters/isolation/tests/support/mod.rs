//! Real parts for the tests: the container that was built, the components that are checked in, and a TLS source.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support, shared by several test programs"
)]

pub mod elsewhere;
pub mod process;
pub mod raw;
pub mod source;

use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::SolValue;
use cryptlet_isolation::{
    CallOutHandler, IsolationError, IsolationProvider, LogSink, MicrovmProvider, ProcessProvider,
    Region, Relay,
};
use cryptlet_seal::{SigningKey, key_binding, package, wrap};
use cryptlet_types::{
    ClockSpec, CryptletId, Job, JobId, Limits, Manifest, ReportDomain, Subject, Subscription,
    Trigger, TriggerSpec,
    manifest::{Kind, ManifestConfig, TriggerKind},
    policy::{EgressRule, RecordingRule, Trust},
    region::{
        KeyGrant, LogLevel, Package, RegionFault, RegionSettings, RunAnswer, RunInput, RunOutcome,
    },
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

pub const HOSTILE: &[u8] = include_bytes!("../../../../cryptlets/dist/hostile.wasm");
pub const MARKET_WATCHER: &[u8] = include_bytes!("../../../../cryptlets/dist/market-watcher.wasm");
pub const MONTE_CARLO: &[u8] = include_bytes!("../../../../cryptlets/dist/monte-carlo.wasm");
pub const RELAY: &[u8] = include_bytes!("../../../../cryptlets/dist/relay.wasm");
/// 2026-10-16 16:00 in Berlin.
pub const DUE: u64 = 1_792_159_200;
pub const PLACE: &str = "rates.bletchley.example:443";
pub const NAME: &str = "rates.bletchley.example";

/// Names the container of the microvm provider: with it, every test here runs in virtual machines.
pub const MICROVM: &str = "CRYPTLET_TEST_MICROVM";

/// The container of the microvm provider, if the tests are of that one.
pub fn microvm_container() -> Option<PathBuf> {
    std::env::var_os(MICROVM).map(PathBuf::from)
}

/// The container beside the test program.
pub fn container() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().with_file_name("cryptlet-container");
    assert!(
        path.exists(),
        "{} is missing: cargo build --release -p cryptlet-container",
        path.display()
    );
    path
}

pub fn process() -> ProcessProvider {
    ProcessProvider::new(&container()).unwrap()
}

/// The provider under test.
pub fn provider() -> Box<dyn IsolationProvider> {
    match microvm_container() {
        Some(container) => Box::new(MicrovmProvider::new(&container).unwrap()),
        None => Box::new(process()),
    }
}

/// Log lines, kept.
#[derive(Clone, Default)]
pub struct Lines(pub Arc<Mutex<Vec<String>>>);

impl LogSink for Lines {
    fn line(&self, _: LogLevel, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
}

/// What a region is made of, and where its one source is.
pub struct Setup {
    pub code: &'static [u8],
    pub limits: Limits,
    pub trust: Trust,
    pub recording: RecordingRule,
    pub addresses: BTreeMap<String, SocketAddr>,
    pub lines: Lines,
    pub key: SigningKey,
}

impl Setup {
    pub fn new(code: &'static [u8]) -> Self {
        Self {
            code,
            limits: Limits {
                fuel: 50_000_000,
                memory_bytes: 16 << 20,
                wall_millis: 5_000,
                response_bytes: 64 << 10,
            },
            trust: Trust::WebPki,
            recording: RecordingRule::Off,
            addresses: BTreeMap::new(),
            lines: Lines::default(),
            key: SigningKey::generate(),
        }
    }

    pub fn with_source(mut self, source: &source::Source) -> Self {
        self.trust = Trust::Roots(source.root.clone());
        self.addresses.insert(PLACE.into(), source.address);
        self
    }

    pub fn manifest(&self) -> Manifest {
        Manifest {
            name: "tested".into(),
            public_key: self.key.address(),
            version: "1".into(),
            config: ManifestConfig {
                description: String::new(),
                kind: Kind::Utility,
                isolation: true,
                imports: ["http", "log", "regions", "signing"].map(Into::into).into(),
                triggers: vec![TriggerKind::Clock],
                limits: self.limits,
                egress: vec![PLACE.into()],
                settings: settings(),
                secret_code: None,
            },
        }
    }

    pub fn package(&self) -> Package {
        package::build(&self.manifest(), self.code, b"{}", None)
            .unwrap()
            .package
    }

    pub fn settings(&self) -> RegionSettings {
        RegionSettings {
            limits: self.limits,
            egress: vec![EgressRule {
                place: PLACE.into(),
                trust: self.trust.clone(),
            }],
            recording: self.recording,
        }
    }

    pub fn relay(&self) -> Arc<dyn CallOutHandler> {
        Arc::new(Relay::new(
            self.addresses.clone(),
            Arc::new(self.lines.clone()),
        ))
    }

    pub async fn create(&self) -> Result<Box<dyn Region>, IsolationError> {
        self.create_with(self.relay()).await
    }

    pub async fn create_with(
        &self,
        call_out: Arc<dyn CallOutHandler>,
    ) -> Result<Box<dyn Region>, IsolationError> {
        let nonce = B256::repeat_byte(9);
        provider()
            .create(self.package(), self.settings(), nonce, call_out)
            .await
    }

    /// A region with its key.
    pub async fn ready(&self) -> Box<dyn Region> {
        self.ready_with(self.relay()).await
    }

    pub async fn ready_with(&self, call_out: Arc<dyn CallOutHandler>) -> Box<dyn Region> {
        let mut region = self.create_with(call_out).await.unwrap();
        provision(region.as_mut(), &self.key).await.unwrap();
        region
    }
}

pub fn settings() -> BTreeMap<String, String> {
    BTreeMap::from([("feed".into(), format!("https://{NAME}/"))])
}

pub async fn provision(
    region: &mut dyn Region,
    key: &SigningKey,
) -> Result<Address, IsolationError> {
    let statement = region.statement().clone();
    let secret = key.secret();
    let binding = key_binding(&statement);
    let wrapped = wrap(statement.exchange_key, &binding, secret.as_slice()).unwrap();
    region.provision(KeyGrant::Wrapped(wrapped)).await
}

pub fn input(params: Vec<u8>) -> RunInput {
    let clock = ClockSpec {
        cron: "0 16 * * *".into(),
        time_zone: "Europe/Berlin".into(),
    };
    let input = RunInput {
        job: JobId(B256::ZERO),
        domain: ReportDomain {
            chain_id: 31_337,
            delegate: Address::repeat_byte(2),
        },
        subscription: Subscription {
            subject: Subject(B256::ZERO),
            consumer: Address::repeat_byte(5),
            nonce: 0,
            cryptlet: CryptletId(Address::repeat_byte(3)),
            on_behalf_of: Address::ZERO,
            callback: [1; 4].into(),
            callback_gas: 50_000,
            validity: 3_600,
            trigger: TriggerSpec::Clock(clock),
            params: params.into(),
            since: 1,
        },
        trigger: Trigger::Clock { due: DUE },
        sequence: 1,
        issued_at: DUE,
        valid_until: DUE + 3_600,
        delegation: None,
        settings: settings(),
    };
    subscribed(input)
}

/// The input with the subject and the job that its fields give, as a delegate and an honest host would have them.
pub fn subscribed(mut input: RunInput) -> RunInput {
    input.subscription = input.subscription.with_subject_in(&input.domain);
    input.job = Job::id_of(&input.event());
    input
}

/// Parameters of the hostile cryptlet.
pub fn behave(behaviour: &str, detail: &str) -> RunInput {
    input((behaviour.to_owned(), detail.to_owned()).abi_encode_params())
}

/// Parameters of the market watcher.
pub fn watch(only_if_open: bool, currencies: &[&str]) -> RunInput {
    let currencies: Vec<_> = currencies.iter().map(|name| (*name).to_owned()).collect();
    input((only_if_open, currencies).abi_encode_params())
}

pub fn payload(answer: &RunAnswer) -> Bytes {
    match &answer.outcome {
        RunOutcome::Report(signed) => signed.report.payload.clone(),
        RunOutcome::Skip(reason) => panic!("skipped: {reason}"),
    }
}

/// What the hostile cryptlet said.
pub fn said(answer: &RunAnswer) -> String {
    <(String,)>::abi_decode_params_validate(&payload(answer))
        .unwrap()
        .0
}

/// The fault of a run that must not have an answer.
pub fn fault(result: Result<RunAnswer, IsolationError>) -> RegionFault {
    match result {
        Err(IsolationError::Fault(fault)) => fault,
        Err(other) => panic!("no fault: {other}"),
        Ok(answer) => panic!("an answer: {answer:?}"),
    }
}
