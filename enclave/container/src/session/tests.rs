use super::*;
use crate::channel::Host;
use alloy_primitives::{Address, B256, Bytes};
use cryptlet_seal::{sha256, wrap};
use cryptlet_types::{
    ClockSpec, CryptletId, Job, JobId, Limits, ReportDomain, Subject, Subscription, TriggerSpec,
    manifest::{Kind, ManifestConfig, TriggerKind},
    region::{CallOut, CallOutAnswer, Package},
    report::CompactSignature,
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

fn host() -> SharedHost {
    Rc::new(RefCell::new(Nobody))
}

fn key() -> SigningKey {
    SigningKey::from_secret(&[7; 32]).unwrap()
}

fn session() -> Session {
    let identity = Identity {
        container: sha256(b"container"),
        controls: vec!["none".into()],
    };
    Session::new(identity, Watchdog::start().unwrap())
}

fn manifest() -> Manifest {
    Manifest {
        name: "hostile".into(),
        public_key: key().address(),
        version: "1".into(),
        config: ManifestConfig {
            description: String::new(),
            kind: Kind::Utility,
            isolation: true,
            imports: vec!["http".into(), "log".into()],
            triggers: vec![TriggerKind::Clock],
            limits: Limits::default(),
            egress: Vec::new(),
            settings: Default::default(),
        },
    }
}

fn package(manifest: &Manifest) -> Package {
    package::build(manifest, HOSTILE, b"{}", None)
        .unwrap()
        .package
}

fn create(package: Package) -> CallIn {
    CallIn::Create(Box::new(RegionConfig {
        package,
        settings: RegionSettings {
            limits: Limits::default(),
            egress: Vec::new(),
        },
        nonce: B256::repeat_byte(1),
    }))
}

/// Parameters `("echo", "x")`, ABI-encoded.
fn echo() -> Bytes {
    let mut words = [[0_u8; 32]; 6];
    words[0][31] = 0x40;
    words[1][31] = 0x80;
    words[2][31] = 4;
    words[3][..4].copy_from_slice(b"echo");
    words[4][31] = 1;
    words[5][0] = b'x';
    words.concat().into()
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
        params: echo(),
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
        settings: Default::default(),
    };
    input.job = Job::id_of(&input.event());
    input
}

/// What a host may try.
#[derive(Clone, Copy, Debug)]
enum Step {
    Create,
    CreateAltered,
    Provision,
    ProvisionInVault,
    ProvisionOther,
    ProvisionOtherInVault,
    Run(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::Create),
        1 => Just(Step::CreateAltered),
        2 => Just(Step::Provision),
        1 => Just(Step::ProvisionInVault),
        1 => Just(Step::ProvisionOther),
        1 => Just(Step::ProvisionOtherInVault),
        3 => (1_u64..4).prop_map(Step::Run),
    ];
    proptest::collection::vec(step, 1..12)
}

/// What the protocol says a region has been through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Model {
    New,
    Created,
    Ready { signed: u64 },
    Failed,
}

/// Whether the step should succeed, and where it leads.
fn expected(model: Model, step: Step) -> (bool, Model) {
    match (model, step) {
        (Model::New, Step::Create) => (true, Model::Created),
        (Model::New, Step::CreateAltered) => (false, Model::Failed),
        (Model::Created, Step::Provision | Step::ProvisionInVault) => {
            (true, Model::Ready { signed: 0 })
        }
        (Model::Ready { signed }, Step::Run(sequence)) if sequence >= signed => {
            (true, Model::Ready { signed: sequence })
        }
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
    fn whatever_a_host_tries_the_region_keeps_its_turns(steps in steps()) {
        let (mut session, mut model, mut statement) = (session(), Model::New, None);
        let packed = package(&manifest());
        let mut altered = packed.clone();
        altered.code = Bytes::from_static(b"other");
        for step in steps {
            let call = match step {
                Step::Create => create(packed.clone()),
                Step::CreateAltered => create(altered.clone()),
                Step::Provision => CallIn::Provision(wrapped(statement.as_ref(), &key())),
                Step::ProvisionInVault => CallIn::Provision(in_vault(&key())),
                Step::ProvisionOther => {
                    CallIn::Provision(wrapped(statement.as_ref(), &SigningKey::generate()))
                }
                Step::ProvisionOtherInVault => {
                    CallIn::Provision(in_vault(&SigningKey::generate()))
                }
                Step::Run(sequence) => CallIn::Run(Box::new(input(sequence))),
            };
            let answer = session.answer(call, &host()).unwrap();
            let (succeeds, next) = expected(model, step);
            prop_assert_eq!(answer.is_ok(), succeeds, "{:?} in {:?}: {:?}", step, model, answer);
            if let Ok(CallInAnswer::Created(created)) = answer {
                statement = Some(created);
            }
            model = next;
        }
    }
}

#[test]
fn two_regions_of_one_package_share_the_measurement_and_no_key() {
    let packed = package(&manifest());
    let statement = || match session().answer(create(packed.clone()), &host()) {
        Ok(Ok(CallInAnswer::Created(statement))) => statement,
        other => panic!("not created: {other:?}"),
    };
    let (first, second) = (statement(), statement());
    assert_eq!(first.measurement, second.measurement);
    assert_ne!(first.region_key, second.region_key);
    assert_ne!(first.exchange_key, second.exchange_key);
}

/// A session with a region that has its grant.
fn ready(grant: impl FnOnce(&EvidenceStatement) -> KeyGrant) -> (Session, EvidenceStatement) {
    let mut session = session();
    let packed = package(&manifest());
    let statement = match session.answer(create(packed), &host()) {
        Ok(Ok(CallInAnswer::Created(statement))) => statement,
        other => panic!("not created: {other:?}"),
    };
    let provisioned = session.answer(CallIn::Provision(grant(&statement)), &host());
    assert!(
        matches!(provisioned, Ok(Ok(CallInAnswer::Provisioned(address))) if address == key().address())
    );
    (session, statement)
}

fn run(session: &mut Session, input: RunInput) -> Result<RunAnswer, RegionFault> {
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
    let forgeries: [Forgery; 8] = [
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
    match session().answer(create(packed), &host()) {
        Ok(Err(RegionFault::Package(reason))) => assert!(reason.contains("log"), "{reason}"),
        other => panic!("{other:?}"),
    }
}
