use super::*;
use crate::{channel::Host, runtime::InProcess};
use alloy_primitives::{Address, B256, Bytes};
use cryptlet_seal::{sha256, wrap};
use cryptlet_types::{
    Batch, ClockSpec, CryptletId, EventId, Job, JobId, Limits, Subject, Subscription, TriggerSpec,
    answer::{MAX_WINDOW_SECONDS, request_id},
    event::Observation,
    manifest::{Kind, ManifestConfig, TriggerKind},
    recording::{Recording, ReplayInput, ReplayedOutcome},
    region::{CallOut, CallOutAnswer, Package, sources_digest},
    report::CompactSignature,
    subscription::{Direction, ThresholdSpec},
};
use proptest::prelude::*;
use std::{cell::RefCell, rc::Rc};

const HOSTILE: &[u8] = include_bytes!("../../../../cryptlets/dist/hostile.wasm");

/// A host that answers nothing.
struct Nobody;

impl Host for Nobody {
    fn call(&mut self, _: CallOut) -> Result<Result<CallOutAnswer, String>, ChannelError> {
        Ok(Err("nobody is here".into()))
    }
}

pub(super) fn host() -> SharedHost {
    Rc::new(RefCell::new(Nobody))
}

pub(super) fn key() -> SigningKey {
    SigningKey::from_secret(&[7; 32]).unwrap()
}

pub(super) fn session() -> Session {
    let identity = Identity {
        container: sha256(b"container"),
        controls: vec!["none".into()],
    };
    let mut session = Session::new(identity, Box::new(InProcess));
    session.settle(Watchdog::start().unwrap(), &["watched"]);
    session
}

pub(super) fn manifest() -> Manifest {
    Manifest {
        name: "hostile".into(),
        public_key: key().address(),
        version: "1".into(),
        config: ManifestConfig {
            description: String::new(),
            kind: Kind::Utility,
            isolation: true,
            imports: ["http", "log", "regions", "signing"].map(Into::into).into(),
            triggers: vec![TriggerKind::Clock],
            limits: Limits::default(),
            egress: Vec::new(),
            settings: Default::default(),
            secret_code: None,
        },
    }
}

pub(super) fn package(manifest: &Manifest) -> Package {
    package::build(manifest, HOSTILE, b"{}", None)
        .unwrap()
        .package
}

fn load(package: Package) -> CallIn {
    load_with(package, None)
}

pub(super) fn load_with(package: Package, challenge: Option<B256>) -> CallIn {
    CallIn::Load(Box::new(RegionConfig {
        package,
        settings: RegionSettings {
            limits: Limits::default(),
            egress: Vec::new(),
            recording: RecordingRule::Off,
        },
        challenge,
    }))
}

const CREATE: CallIn = CallIn::Create {
    nonce: B256::repeat_byte(1),
};

/// Parameters `(string behaviour, string detail)` of at most 32 bytes each, ABI-encoded.
fn behave(behaviour: &str, detail: &str) -> Bytes {
    let mut words = [[0_u8; 32]; 6];
    words[0][31] = 0x40;
    words[1][31] = 0x80;
    for (place, text) in [(2, behaviour), (4, detail)] {
        words[place][31] = u8::try_from(text.len()).unwrap();
        words[place + 1][..text.len()].copy_from_slice(text.as_bytes());
    }
    words.concat().into()
}

const DOMAIN: ReportDomain = ReportDomain {
    chain_id: 1,
    delegate: Address::ZERO,
};

pub(super) fn input(sequence: u64) -> RunInput {
    let domain = DOMAIN;
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
        params: behave("echo", "x"),
        since: 1,
    };
    let input = RunInput {
        job: JobId(B256::ZERO),
        domain,
        subscription: subscription.with_subject_in(&domain),
        trigger: cryptlet_types::Trigger::Clock { due: 10 },
        sequence,
        issued_at: 10,
        valid_until: 20,
        delegation: None,
        settings: Default::default(),
    };
    renamed(input)
}

/// With the subject and the job that its fields give.
fn renamed(mut input: RunInput) -> RunInput {
    input.subscription = input.subscription.with_subject_in(&input.domain);
    input.job = Job::id_of(&input.event());
    input
}

/// What a host may try.
#[derive(Clone, Copy, Debug)]
enum Try {
    Load,
    LoadAltered,
    Create,
    Provision,
    ProvisionInVault,
    ProvisionOther,
    ProvisionOtherInVault,
    Run(u64),
}

fn steps() -> impl Strategy<Value = Vec<Try>> {
    let step = prop_oneof![
        2 => Just(Try::Load),
        1 => Just(Try::LoadAltered),
        2 => Just(Try::Create),
        2 => Just(Try::Provision),
        1 => Just(Try::ProvisionInVault),
        1 => Just(Try::ProvisionOther),
        1 => Just(Try::ProvisionOtherInVault),
        3 => (1_u64..4).prop_map(Try::Run),
    ];
    proptest::collection::vec(step, 1..12)
}

/// What the protocol says a region has been through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Model {
    New,
    Loaded,
    Created,
    Ready,
    Failed,
}

/// Whether the step should succeed, and where it leads.
fn expected(model: Model, step: Try) -> (bool, Model) {
    match (model, step) {
        (Model::New, Try::Load) => (true, Model::Loaded),
        (Model::New, Try::LoadAltered) => (false, Model::Failed),
        (Model::Loaded, Try::Create) => (true, Model::Created),
        (Model::Created, Try::Provision | Try::ProvisionInVault) => (true, Model::Ready),
        // The same report may be asked for again, and others in any order.
        (Model::Ready, Try::Run(_)) => (true, Model::Ready),
        _ => (false, model),
    }
}

fn in_vault(key: &SigningKey) -> KeyGrant {
    KeyGrant::InVault {
        signer: key.address(),
    }
}

fn wrapped(statement: Option<&EvidenceStatement>, key: &SigningKey) -> KeyGrant {
    let nowhere = WrappedKey {
        encapsulated: Bytes::new(),
        ciphertext: Bytes::new(),
    };
    let secret = key.secret();
    KeyGrant::Wrapped(statement.map_or(nowhere, |statement| {
        wrap(
            statement.exchange_key,
            &key_binding(statement),
            secret.as_slice(),
        )
        .unwrap()
    }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_a_host_tries_the_region_keeps_its_turns(headstart in 0_usize..3, steps in steps()) {
        let (mut session, mut model, mut statement) = (session(), Model::New, None);
        let packed = package(&manifest());
        let mut altered = packed.clone();
        altered.code = Bytes::from_static(b"other");
        // A host that loads and creates first is the one that gets anywhere.
        let begun = [Try::Load, Try::Create].into_iter().take(headstart);
        for step in begun.chain(steps) {
            let call = match step {
                Try::Load => load(packed.clone()),
                Try::LoadAltered => load(altered.clone()),
                Try::Create => CREATE,
                Try::Provision => CallIn::Provision(wrapped(statement.as_ref(), &key())),
                Try::ProvisionInVault => CallIn::Provision(in_vault(&key())),
                Try::ProvisionOther => {
                    CallIn::Provision(wrapped(statement.as_ref(), &SigningKey::generate()))
                }
                Try::ProvisionOtherInVault => {
                    CallIn::Provision(in_vault(&SigningKey::generate()))
                }
                Try::Run(sequence) => CallIn::Run(Box::new(input(sequence))),
            };
            let answer = session.answer(call, &host()).unwrap();
            let (succeeds, next) = expected(model, step);
            prop_assert_eq!(answer.is_ok(), succeeds, "{:?} in {:?}: {:?}", step, model, answer);
            if let Ok(CallInAnswer::Created(created)) = answer {
                statement = Some(created.statement);
            }
            model = next;
        }
    }
}

#[test]
fn two_regions_of_one_package_share_the_measurement_and_no_key() {
    let packed = package(&manifest());
    let statement = || created(&mut session(), packed.clone());
    let (first, second) = (statement(), statement());
    assert_eq!(first.measurement, second.measurement);
    assert_ne!(first.region_key, second.region_key);
    assert_ne!(first.exchange_key, second.exchange_key);
}

/// The session becomes a region of `package`.
pub(super) fn created(session: &mut Session, package: Package) -> EvidenceStatement {
    let loaded = session.answer(load(package), &host()).unwrap().unwrap();
    match session.answer(CREATE, &host()) {
        Ok(Ok(CallInAnswer::Created(created))) => {
            let statement = created.statement;
            assert_eq!(created.attestation, None);
            assert!(matches!(loaded, CallInAnswer::Loaded(said) if said == statement.measurement));
            statement
        }
        other => panic!("not created: {other:?}"),
    }
}

/// A session with a region that has its grant.
fn ready(grant: impl FnOnce(&EvidenceStatement) -> KeyGrant) -> (Session, EvidenceStatement) {
    let mut session = session();
    let statement = created(&mut session, package(&manifest()));
    let provisioned = session.answer(CallIn::Provision(grant(&statement)), &host());
    assert!(
        matches!(provisioned, Ok(Ok(CallInAnswer::Provisioned(address))) if address == key().address())
    );
    (session, statement)
}

pub(super) fn run(session: &mut Session, input: RunInput) -> Result<RunAnswer, RegionFault> {
    match session
        .answer(CallIn::Run(Box::new(input)), &host())
        .unwrap()
    {
        Ok(CallInAnswer::Ran(answer)) => Ok(*answer),
        Ok(other) => panic!("{other:?}"),
        Err(fault) => Err(fault),
    }
}

#[test]
fn a_host_cannot_hand_over_what_was_not_subscribed() {
    type Forgery = (&'static str, fn(&mut RunInput));
    let forgeries: [Forgery; 9] = [
        ("subject", |i| i.subscription.params = Bytes::new()),
        ("subject", |i| {
            i.subscription.consumer = Address::repeat_byte(1)
        }),
        ("subject", |i| i.subscription.nonce += 1),
        ("subject", |i| i.domain.chain_id = 2),
        ("subject", |i| {
            i.subscription.on_behalf_of = Address::repeat_byte(1)
        }),
        ("job", |i| {
            i.trigger = cryptlet_types::Trigger::Clock { due: 9 }
        }),
        ("trigger", |i| {
            i.trigger = cryptlet_types::Trigger::Request { at: 1 };
            i.job = Job::id_of(&i.event());
        }),
        ("validUntil", |i| i.valid_until = 21),
        ("validity", |i| {
            i.subscription.validity = 7 * 86_400 + 1;
            i.subscription = i.subscription.clone().with_subject_in(&i.domain);
            i.job = Job::id_of(&i.event());
        }),
    ];
    let (mut session, _) = ready(|statement| wrapped(Some(statement), &key()));
    for (what, forge) in forgeries {
        let mut input = input(1);
        forge(&mut input);
        match run(&mut session, input) {
            Err(RegionFault::Protocol(reason)) => assert!(reason.contains(what), "{reason}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    assert!(run(&mut session, input(1)).is_ok());
}

#[test]
fn a_region_whose_key_stays_in_the_vault_leaves_the_cryptlets_signature_open() {
    let (mut session, statement) = ready(|_| in_vault(&key()));
    let RunOutcome::Report(signed) = run(&mut session, input(1)).unwrap().outcome else {
        panic!("skipped")
    };
    assert_eq!(signed.signer, key().address());
    assert_eq!(signed.signature, CompactSignature::default());
    let said = cryptlet_types::region::RegionStatement {
        measurement: statement.measurement,
        report: signed.report.digest(&input(1).domain),
        input: input(1).digest().unwrap(),
        sources: cryptlet_types::region::sources_digest(&[]).unwrap(),
    };
    let countersigned = cryptlet_seal::check(
        said.digest(),
        &signed.region_signature,
        statement.region_key,
    );
    assert_eq!(countersigned, Ok(()));
}

#[test]
fn code_that_imports_more_than_its_manifest_declares_is_no_package() {
    let mut manifest = manifest();
    manifest.config.imports.retain(|name| name != "log");
    let packed = package(&manifest);
    match session().answer(load(packed), &host()) {
        Ok(Err(RegionFault::Package(reason))) => assert!(reason.contains("log"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

/// The cryptlet's key does what a forger could not: a region takes what it alone makes.
fn signed(mut step: Step, of: &RunInput) -> Step {
    let digest = step.digest(&of.domain, of.subscription.subject);
    step.signature = key().sign(digest).unwrap();
    step
}

fn counting(sequence: u64, steps: &str) -> RunInput {
    let mut input = input(sequence);
    input.subscription.params = behave("count", steps);
    renamed(input)
}

fn with_step(mut input: RunInput, step: Step) -> RunInput {
    input.trigger = cryptlet_types::Trigger::Step(step);
    renamed(input)
}

fn said(answer: &RunAnswer) -> Vec<u8> {
    let RunOutcome::Report(signed) = &answer.outcome else {
        panic!("skipped")
    };
    let payload = &signed.report.payload;
    payload[64..64 + usize::from(payload[63])].to_vec()
}

#[test]
fn a_computation_goes_on_in_steps_that_the_cryptlets_key_signs() {
    let (mut session, _) = ready(|statement| wrapped(Some(statement), &key()));
    let first = counting(1, "2");
    let answer = run(&mut session, first.clone()).unwrap();
    assert_eq!(said(&answer), b".");
    let step = answer.proceed.unwrap();
    assert_eq!((step.of, step.number, step.at), (first.event().id, 1, 10));
    assert_eq!(step.state, Bytes::from_static(b"."));
    assert_eq!(step, signed(step.clone(), &first));

    let second = with_step(counting(2, "2"), step);
    let answer = run(&mut session, second.clone()).unwrap();
    assert_eq!(said(&answer), b"..");
    let step = answer.proceed.unwrap();
    assert_eq!((step.of, step.number), (first.event().id, 2));

    let answer = run(&mut session, with_step(counting(3, "2"), step)).unwrap();
    assert_eq!(said(&answer), b"...");
    assert_eq!(answer.proceed, None);
}

#[test]
fn a_step_that_has_nothing_to_tell_skips_and_goes_on() {
    let (mut session, _) = ready(|statement| wrapped(Some(statement), &key()));
    let mut input = input(1);
    input.subscription.params = behave("ponder", "1");
    let answer = run(&mut session, renamed(input.clone())).unwrap();
    assert!(matches!(answer.outcome, RunOutcome::Skip(reason) if reason.contains("step 1")));
    let last = with_step(input, answer.proceed.unwrap());
    assert_eq!(said(&run(&mut session, last).unwrap()), b"..");
}

#[test]
fn a_state_that_is_too_large_is_the_cryptlets_fault() {
    let (mut session, _) = ready(|statement| wrapped(Some(statement), &key()));
    for (size, fits) in [("16384", true), ("16385", false)] {
        let mut input = input(1);
        input.subscription.params = behave("bloat", size);
        let answer = run(&mut session, renamed(input));
        assert_eq!(answer.is_ok(), fits);
        if let Err(fault) = answer {
            assert!(
                matches!(&fault, RegionFault::Answer(what) if what.contains("16385")),
                "{fault}"
            );
            assert!(!fault.is_retryable());
        }
    }
}

#[test]
fn nobody_but_the_cryptlet_says_where_a_computation_stands() {
    let (mut session, _) = ready(|statement| wrapped(Some(statement), &key()));
    let first = counting(1, "3");
    let step = run(&mut session, first).unwrap().proceed.unwrap();
    let forgeries: [fn(&mut Step); 5] = [
        |step| step.state = Bytes::from_static(b"..."),
        |step| step.number += 1,
        |step| step.of = EventId(B256::repeat_byte(1)),
        |step| step.at -= 1,
        |step| step.signature = CompactSignature::default(),
    ];
    for forge in forgeries {
        let mut forged = step.clone();
        forge(&mut forged);
        assert_refused(
            &run(&mut session, with_step(counting(2, "3"), forged)),
            "step",
        );
    }
    let mut stranger = step.clone();
    let digest = stranger.digest(&DOMAIN, counting(2, "3").subscription.subject);
    stranger.signature = SigningKey::generate().sign(digest).unwrap();
    assert_refused(
        &run(&mut session, with_step(counting(2, "3"), stranger)),
        "step",
    );
    // The state of one subscription is none of another's, with other parameters or another consumer.
    assert_refused(
        &run(&mut session, with_step(counting(2, "4"), step.clone())),
        "step",
    );
    let mut other = counting(2, "3");
    other.subscription.nonce = 1;
    assert_refused(&run(&mut session, with_step(other, step.clone())), "step");
    assert!(run(&mut session, with_step(counting(2, "3"), step)).is_ok());
}

fn assert_refused<T: std::fmt::Debug>(result: &Result<T, RegionFault>, what: &str) {
    match result {
        Err(RegionFault::Protocol(reason)) => assert!(reason.contains(what), "{reason}"),
        other => panic!("{what}: {other:?}"),
    }
}

fn asked(behaviour: &str, detail: &str) -> ObserveInput {
    ObserveInput {
        domain: DOMAIN,
        cryptlet: CryptletId(Address::ZERO),
        params: behave(behaviour, detail),
        every: 60,
        at: 10,
        settings: Default::default(),
    }
}

fn observe(session: &mut Session, input: ObserveInput) -> Result<Observation, RegionFault> {
    let answer = session.answer(CallIn::Observe(Box::new(input)), &host());
    answer.unwrap().map(|answer| match answer {
        CallInAnswer::Observed(answer) => answer.observation,
        other => panic!("{other:?}"),
    })
}

/// A subscription that waits until the feed of `asked` rises to -5.
fn waiting(asked: &ObserveInput, observation: Observation) -> RunInput {
    let mut input = input(1);
    input.subscription.trigger = TriggerSpec::Threshold(ThresholdSpec {
        feed_params: asked.params.clone(),
        every: asked.every,
        bound: I256::try_from(-5).unwrap(),
        direction: Direction::Rising,
        hysteresis: U256::ZERO,
        repeat: false,
    });
    input.subscription.params = behave("relay", "");
    input.trigger = cryptlet_types::Trigger::Threshold { observation };
    renamed(input)
}

#[test]
fn the_value_of_a_feed_is_signed_and_wakes_what_waits_for_it() {
    let (mut session, _) = ready(|statement| wrapped(Some(statement), &key()));
    let asked = asked("echo", "-5");
    let seen = observe(&mut session, asked.clone()).unwrap();
    assert_eq!(
        (seen.feed, seen.value, seen.at),
        (asked.feed(), I256::try_from(-5).unwrap(), 10)
    );
    assert_eq!(
        cryptlet_seal::check(seen.digest(), &seen.signature, key().address()),
        Ok(())
    );
    let answer = run(&mut session, waiting(&asked, seen.clone())).unwrap();
    assert!(String::from_utf8_lossy(&said(&answer)).starts_with("Threshold("));

    type Forgery<T> = (&'static str, fn(&mut T));
    let forgeries: [Forgery<Observation>; 6] = [
        ("observation", |seen| seen.value += I256::ONE),
        ("observation", |seen| seen.at -= 1),
        ("observation", |seen| {
            seen.signature = CompactSignature::default()
        }),
        ("observation", |seen| {
            seen.signature = SigningKey::generate().sign(seen.digest()).unwrap()
        }),
        ("threshold", |seen| seen.feed = B256::ZERO),
        ("threshold", |seen| {
            seen.value -= I256::ONE;
            seen.signature = key().sign(seen.digest()).unwrap();
        }),
    ];
    for (what, forge) in forgeries {
        let mut forged = seen.clone();
        forge(&mut forged);
        assert_refused(&run(&mut session, waiting(&asked, forged)), what);
    }
}

#[test]
fn a_feed_without_a_value_has_none() {
    let (mut session, _) = ready(|statement| wrapped(Some(statement), &key()));
    let none = observe(&mut session, asked("skip", "closed"));
    assert!(matches!(none, Err(RegionFault::Unavailable(_))), "{none:?}");
    let refused = observe(&mut session, asked("echo", "x"));
    assert!(
        matches!(refused, Err(RegionFault::Refused(_))),
        "{refused:?}"
    );
    let other = ObserveInput {
        cryptlet: CryptletId(Address::repeat_byte(1)),
        ..asked("echo", "1")
    };
    assert_refused(&observe(&mut session, other), "speaks for");
    let other = ObserveInput {
        settings: BTreeMap::from([("colour".into(), "red".into())]),
        ..asked("echo", "1")
    };
    assert_refused(&observe(&mut session, other), "settings");
    let other = ObserveInput {
        params: Bytes::from(vec![0; MAX_SUBSCRIPTION_BYTES + 1]),
        ..asked("echo", "1")
    };
    assert_refused(&observe(&mut session, other), "params");
}

#[test]
fn an_answer_to_somebody_who_waits_is_one_value() {
    assert_eq!(int256(&[0xff; 32]), Ok(I256::MINUS_ONE));
    for length in [0, 31, 33, 64] {
        assert!(matches!(
            int256(&vec![0; length]),
            Err(RegionFault::Answer(_))
        ));
    }
    let more = Answer::Proceed(Progress {
        state: Vec::new(),
        payload: None,
    });
    assert!(matches!(at_once(more), Err(RegionFault::Answer(_))));
}

fn question(behaviour: &str) -> CallInput {
    CallInput {
        domain: DOMAIN,
        consumer: Address::repeat_byte(9),
        cryptlet: CryptletId(Address::ZERO),
        params: behave(behaviour, ""),
        window_length: 60,
        at: 130,
        settings: Default::default(),
    }
}

fn call(
    session: &mut Session,
    input: CallInput,
) -> Result<cryptlet_types::SignedAnswer, RegionFault> {
    let answer = session.answer(CallIn::Call(Box::new(input)), &host());
    answer.unwrap().map(|answer| match answer {
        CallInAnswer::Called(answer) => answer.answer,
        other => panic!("{other:?}"),
    })
}

#[test]
fn a_contract_that_asks_is_answered_for_a_window() {
    let (mut session, statement) = ready(|statement| wrapped(Some(statement), &key()));
    let input = question("relay");
    let signed = call(&mut session, input.clone()).unwrap();
    let answer = &signed.answer;
    assert_eq!((answer.window_start, answer.window_end), (120, 180));
    assert_eq!(answer.region, statement.measurement);
    let asked = request_id(input.consumer, input.cryptlet, &input.params, 60);
    assert_eq!(answer.request, asked);
    let value = String::from_utf8_lossy(&answer.value).into_owned();
    assert!(
        value.contains("0x0909090909090909090909090909090909090909 130"),
        "{value}"
    );
    let digest = answer.digest(&DOMAIN);
    assert_eq!(signed.signer, key().address());
    assert_eq!(
        cryptlet_seal::check(digest, &signed.signature, key().address()),
        Ok(())
    );

    for window_length in [0, MAX_WINDOW_SECONDS + 1] {
        let input = CallInput {
            window_length,
            ..question("relay")
        };
        assert_refused(&call(&mut session, input), "windowLength");
    }
    let input = CallInput {
        domain: ReportDomain {
            chain_id: 2,
            ..DOMAIN
        },
        ..question("relay")
    };
    assert_refused(&call(&mut session, input), "speaks for");
    let skipped = call(&mut session, question("skip"));
    assert!(
        matches!(skipped, Err(RegionFault::Refused(_))),
        "{skipped:?}"
    );
}

fn reports(session: &mut Session, count: u64) -> Vec<SignedReport> {
    let signed = |sequence| match run(session, input(sequence)).unwrap().outcome {
        RunOutcome::Report(signed) => *signed,
        RunOutcome::Skip(reason) => panic!("{reason}"),
    };
    (1..=count).map(signed).collect()
}

fn sign_batch(
    session: &mut Session,
    domain: ReportDomain,
    reports: &[SignedReport],
) -> Result<CompactSignature, RegionFault> {
    let reports = reports.to_vec();
    let answer = session.answer(CallIn::SignBatch { domain, reports }, &host());
    answer.unwrap().map(|answer| match answer {
        CallInAnswer::BatchSigned(signature) => signature,
        other => panic!("{other:?}"),
    })
}

#[test]
fn reports_that_were_signed_one_by_one_are_signed_together() {
    let (mut session, _) = ready(|statement| wrapped(Some(statement), &key()));
    let all = reports(&mut session, 3);
    let signature = sign_batch(&mut session, DOMAIN, &all).unwrap();
    let batch = Batch::of(all.iter().map(|signed| &signed.report)).unwrap();
    let checked = cryptlet_seal::check(batch.digest(&DOMAIN), &signature, key().address());
    assert_eq!(checked, Ok(()));
    // A region that has not run yet signs what another of the same key has said.
    let (mut fresh, _) = ready(|statement| wrapped(Some(statement), &key()));
    assert_eq!(sign_batch(&mut fresh, DOMAIN, &all), Ok(signature));

    type Forgery<T> = (&'static str, fn(&mut T));
    let forgeries: [Forgery<SignedReport>; 6] = [
        ("reports[1]", |signed| signed.report.payload = Bytes::new()),
        ("reports[1]", |signed| signed.report.sequence = 9),
        ("reports[1]", |signed| {
            signed.signature = CompactSignature::default()
        }),
        ("cryptlet", |signed| {
            signed.report.cryptlet = CryptletId(Address::repeat_byte(1))
        }),
        ("region", |signed| signed.report.region.0 = B256::ZERO),
        ("delegation", |signed| {
            signed.report.delegation = B256::repeat_byte(1)
        }),
    ];
    for (what, forge) in forgeries {
        let mut forged = all.clone();
        forge(&mut forged[1]);
        assert_refused(&sign_batch(&mut session, DOMAIN, &forged), what);
    }
    let elsewhere = ReportDomain {
        chain_id: 2,
        ..DOMAIN
    };
    assert_refused(&sign_batch(&mut session, elsewhere, &all), "speaks for");
    assert_refused(&sign_batch(&mut fresh, DOMAIN, &[]), "at least 1");
    let many = vec![all[0].clone(); 65];
    assert_refused(&sign_batch(&mut session, DOMAIN, &many), "at most 64");
}

#[test]
fn what_a_vault_would_not_sign_is_refused_with_the_reason() {
    let (mut session, _) = ready(|_| in_vault(&key()));
    let all = reports(&mut session, 1);
    let faults = [
        run(&mut session, counting(1, "2")).unwrap_err(),
        observe(&mut session, asked("echo", "1")).unwrap_err(),
        call(&mut session, question("relay")).unwrap_err(),
        sign_batch(&mut session, DOMAIN, &all).unwrap_err(),
    ];
    let reasons = ["further step", "feed", "call", "one by one"];
    for (fault, reason) in faults.iter().zip(reasons) {
        assert!(
            matches!(fault, RegionFault::Key(said) if said.contains(reason)),
            "{fault}"
        );
        assert!(!fault.is_retryable());
    }
}

#[test]
fn nothing_is_asked_before_the_key_is_there() {
    let mut session = session();
    assert_refused(&observe(&mut session, asked("echo", "1")), "after its key");
    assert_refused(&call(&mut session, question("relay")), "after its key");
    assert_refused(&sign_batch(&mut session, DOMAIN, &[]), "after its key");
}

#[test]
fn a_number_is_said_once_until_nobody_takes_it_any_more() {
    let (mut session, _) = ready(|statement| wrapped(Some(statement), &key()));
    let at = |sequence, issued_at| RunInput {
        issued_at,
        valid_until: issued_at + 10,
        ..input(sequence)
    };
    for sequence in [1, 2, 3] {
        assert!(
            run(&mut session, at(sequence, 10)).is_ok(),
            "ahead of the chain"
        );
    }
    let promised = RegionFault::Promised {
        sequence: 1,
        until: 20,
    };
    assert_eq!(run(&mut session, at(1, 20)).unwrap_err(), promised);
    assert!(promised.is_retryable());
    assert!(run(&mut session, at(1, 10)).is_ok(), "it is the same");
    assert!(run(&mut session, at(1, 21)).is_ok());
    assert!(run(&mut session, at(2, 21)).is_ok());
}

#[test]
fn a_run_is_repeated_after_creation_without_a_key_and_calls_nobody() {
    let replay = || {
        CallIn::Replay(Box::new(ReplayInput {
            input: input(1),
            recording: Recording::default(),
        }))
    };
    let mut session = session();
    let early = session.answer(replay(), &host()).unwrap();
    assert!(matches!(early, Err(RegionFault::Protocol(_))), "{early:?}");
    created(&mut session, package(&manifest()));
    for _ in 0..2 {
        let answer = session.answer(replay(), &host()).unwrap();
        let Ok(CallInAnswer::Replayed(replayed)) = answer else {
            panic!("not repeated: {answer:?}")
        };
        assert!(matches!(replayed.outcome, ReplayedOutcome::Payload(_)));
        assert_eq!(replayed.sources, sources_digest(&[]).unwrap());
        assert!(replayed.fuel_used > 0);
    }
    // It has signed nothing, and still takes its key.
    let run = session.answer(CallIn::Run(Box::new(input(1))), &host());
    assert!(matches!(run, Ok(Err(RegionFault::Protocol(_)))), "{run:?}");
}
