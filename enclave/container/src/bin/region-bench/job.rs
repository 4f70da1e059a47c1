//! The work: a cryptlet that answers at once, woken as a host wakes it.

use crate::{Outcome, nobody};
use alloy_primitives::{Address, B256, Bytes};
use cryptlet_container::{
    channel::SharedHost,
    deadline::Watchdog,
    execution::Execution,
    http::Egress,
    recording::Answers,
    runtime::{Context, InProcess, Runtime, Trigger, Wake},
    session::{Identity, Session},
    signing::{MessageSigner, Signer, Voice},
};
use cryptlet_seal::{SigningKey, key_binding, package, sha256, wrap};
use cryptlet_types::{
    ClockSpec, CryptletId, EvidenceStatement, Job, JobId, Limits, Manifest, Measurement,
    ReportDomain, Subject, Subscription, TriggerSpec,
    manifest::{Kind, ManifestConfig, TriggerKind},
    region::{CallIn, CallInAnswer, KeyGrant, RegionConfig, RegionSettings, RunInput},
};
use std::{collections::BTreeMap, rc::Rc, sync::Arc, time::Instant};

/// The component.
pub(crate) const CODE: &[u8] = include_bytes!("../../../../../cryptlets/dist/relay.wasm");

/// The region's runtime by itself: a fresh instance for each call, nothing signed.
pub(crate) struct Fresh {
    runtime: Runtime,
    egress: Arc<Egress>,
    host: SharedHost,
    signer: MessageSigner,
}

impl Fresh {
    pub(crate) fn new() -> Outcome<Self> {
        Ok(Self {
            runtime: Runtime::load(CODE, Limits::default())?,
            egress: Arc::new(Egress::new(&[])?),
            host: nobody(),
            signer: message_signer(),
        })
    }

    pub(crate) fn call(&self, watchdog: &Watchdog) -> Outcome<()> {
        let wake = Wake {
            context: context(),
            trigger: Trigger::Clock(10),
            params: Vec::new(),
        };
        self.runtime.run(
            wake,
            &self.host,
            &self.egress,
            10,
            Answers::Sources(self.signer.clone()),
            watchdog,
        )?;
        Ok(())
    }
}

/// Who would sign messages, of which this cryptlet has none.
fn message_signer() -> MessageSigner {
    let domain = ReportDomain {
        chain_id: 1,
        delegate: Address::ZERO,
    };
    MessageSigner {
        signer: Rc::new(Signer::InVault(Address::ZERO)),
        region_key: Rc::new(SigningKey::generate()),
        measurement: Measurement(B256::ZERO),
        is_declared: false,
        voice: Voice::of_nobody(CryptletId(Address::ZERO), domain),
    }
}

fn context() -> Context {
    Context {
        job: format!("{:#x}", B256::ZERO),
        cryptlet: format!("{:#x}", Address::ZERO),
        consumer: format!("{:#x}", Address::ZERO),
        subject: format!("{:#x}", B256::ZERO),
        chain_id: 1,
        now: 10,
        settings: Vec::new(),
    }
}

/// Microseconds of each of `jobs` jobs in a session of this process.
pub(crate) fn times(jobs: u64, watchdog: Watchdog) -> Outcome<Vec<f64>> {
    let host = nobody();
    let mut session = ready(watchdog, &host)?;
    let mut times = Vec::new();
    for sequence in 1..=jobs {
        let call = CallIn::Run(Box::new(input(sequence)));
        let started = Instant::now();
        session.answer(call, &host)??;
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times)
}

fn ready(watchdog: Watchdog, host: &SharedHost) -> Outcome<Session> {
    let key = SigningKey::generate();
    let identity = Identity {
        container: sha256(b"in this process"),
        controls: Vec::new(),
    };
    let mut session = Session::new(identity, Box::new(InProcess));
    session.settle(watchdog, &[]);
    session.answer(load(key.address())?, host)??;
    let nonce = B256::ZERO;
    let created = session.answer(CallIn::Create { nonce }, host)??;
    let CallInAnswer::Created(created) = created else {
        return Err("no region".into());
    };
    session.answer(CallIn::Provision(grant(&key, &created.statement)?), host)??;
    Ok(session)
}

fn load(public_key: Address) -> Outcome<CallIn> {
    let manifest = Manifest {
        name: "bench".into(),
        public_key,
        version: "1".into(),
        config: ManifestConfig {
            kind: Kind::Utility,
            isolation: true,
            triggers: vec![TriggerKind::Clock],
            limits: Limits::default(),
            ..ManifestConfig::default()
        },
    };
    let settings = RegionSettings {
        limits: Limits::default(),
        egress: Vec::new(),
        recording: cryptlet_types::policy::RecordingRule::Off,
    };
    let package = package::build(&manifest, CODE, b"{}", None)?.package;
    Ok(CallIn::Load(Box::new(RegionConfig {
        package,
        settings,
        challenge: None,
    })))
}

fn grant(key: &SigningKey, statement: &EvidenceStatement) -> Outcome<KeyGrant> {
    let binding = key_binding(statement);
    let wrapped = wrap(statement.exchange_key, &binding, key.secret().as_slice())?;
    Ok(KeyGrant::Wrapped(wrapped))
}

fn input(sequence: u64) -> RunInput {
    let domain = ReportDomain {
        chain_id: 1,
        delegate: Address::ZERO,
    };
    let clock = ClockSpec {
        cron: "* * * * *".into(),
        time_zone: "UTC".into(),
    };
    let subscription = Subscription {
        subject: Subject(B256::ZERO),
        consumer: Address::ZERO,
        nonce: 0,
        cryptlet: CryptletId(Address::ZERO),
        on_behalf_of: Address::ZERO,
        callback: [1; 4].into(),
        callback_gas: 50_000,
        validity: 10,
        trigger: TriggerSpec::Clock(clock),
        params: Bytes::new(),
        since: 1,
    };
    let mut input = RunInput {
        job: JobId(B256::ZERO),
        domain,
        subscription: subscription.with_subject_in(&domain),
        trigger: cryptlet_types::Trigger::Clock { due: 10 },
        sequence,
        issued_at: 10,
        valid_until: 20,
        delegation: None,
        settings: BTreeMap::new(),
    };
    input.job = Job::id_of(&input.event());
    input
}
