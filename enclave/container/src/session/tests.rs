use super::*;
use crate::channel::Host;
use alloy_primitives::{Address, B256, Bytes};
use cryptlet_seal::{sha256, wrap};
use cryptlet_types::{
    CryptletId, JobId, Limits, ReportDomain, Subject,
    manifest::ManifestConfig,
    region::{CallOut, CallOutAnswer, Package},
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
            isolation: true,
            limits: Limits::default(),
            egress: Vec::new(),
            settings: Default::default(),
        },
    }
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
    RunInput {
        job: JobId(B256::ZERO),
        domain: ReportDomain {
            chain_id: 1,
            delegate: Address::ZERO,
        },
        cryptlet: CryptletId(Address::ZERO),
        subject: Subject(B256::ZERO),
        consumer: Address::ZERO,
        sequence,
        issued_at: 10,
        valid_until: 20,
        trigger: cryptlet_types::Trigger::Clock { due: 10 },
        params: echo(),
        settings: Default::default(),
    }
}

/// What a host may try.
#[derive(Clone, Copy, Debug)]
enum Step {
    Create,
    CreateAltered,
    Provision,
    ProvisionOther,
    Run(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::Create),
        1 => Just(Step::CreateAltered),
        2 => Just(Step::Provision),
        1 => Just(Step::ProvisionOther),
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
        (Model::Created, Step::Provision) => (true, Model::Ready { signed: 0 }),
        (Model::Ready { signed }, Step::Run(sequence)) if sequence >= signed => {
            (true, Model::Ready { signed: sequence })
        }
        _ => (false, model),
    }
}

fn wrapped(statement: Option<&EvidenceStatement>, key: &SigningKey) -> WrappedKey {
    let nowhere = WrappedKey {
        encapsulated: Bytes::new(),
        ciphertext: Bytes::new(),
    };
    let secret = key.secret();
    statement.map_or(nowhere, |statement| {
        wrap(
            statement.exchange_key,
            &key_binding(statement),
            secret.as_slice(),
        )
        .unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_a_host_tries_the_region_keeps_its_turns(steps in steps()) {
        let (mut session, mut model, mut statement) = (session(), Model::New, None);
        let package = cryptlet_seal::package::build(&manifest(), HOSTILE).unwrap();
        let mut altered = package.clone();
        altered.code = Bytes::from_static(b"other");
        for step in steps {
            let call = match step {
                Step::Create => create(package.clone()),
                Step::CreateAltered => create(altered.clone()),
                Step::Provision => CallIn::Provision(wrapped(statement.as_ref(), &key())),
                Step::ProvisionOther => {
                    CallIn::Provision(wrapped(statement.as_ref(), &SigningKey::generate()))
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
    let package = cryptlet_seal::package::build(&manifest(), HOSTILE).unwrap();
    let statement = || match session().answer(create(package.clone()), &host()) {
        Ok(Ok(CallInAnswer::Created(statement))) => statement,
        other => panic!("not created: {other:?}"),
    };
    let (first, second) = (statement(), statement());
    assert_eq!(first.measurement, second.measurement);
    assert_ne!(first.region_key, second.region_key);
    assert_ne!(first.exchange_key, second.exchange_key);
}
