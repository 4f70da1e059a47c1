//! A region's end and its successor's beginning, without a process around them.

use super::{
    tests::{created as created_in, host, input, key, manifest, package, run, session},
    *,
};
use alloy_primitives::Address;
use cryptlet_seal::{sealed::SealedError, wrap};
use cryptlet_types::CryptletId;

/// The cryptlet of the tests' inputs.
const CRYPTLET: CryptletId = CryptletId(Address::ZERO);

fn seal() -> Seal {
    Seal::new(CRYPTLET, zeroize::Zeroizing::new([5; 32]))
}

fn created() -> (Session, EvidenceStatement) {
    let mut session = session();
    let statement = created_in(&mut session, package(&manifest()));
    (session, statement)
}

fn grant(statement: &EvidenceStatement, seal: Option<Seal>) -> KeyGrant {
    let key = key().secret();
    let release = Release { key, seal }.to_bytes();
    let wrapped = wrap(statement.exchange_key, &key_binding(statement), &release);
    KeyGrant::Wrapped(wrapped.unwrap())
}

fn answer(session: &mut Session, call: CallIn) -> Result<CallInAnswer, RegionFault> {
    session.answer(call, &host()).unwrap()
}

/// A session that goes on from `image`, or the fault.
fn resumed(seal: &Seal, image: Option<Vec<u8>>) -> Result<Session, RegionFault> {
    let (mut session, statement) = created();
    let grant = grant(&statement, Some(seal.clone()));
    let call = match image {
        Some(image) => CallIn::Resume {
            grant,
            image: image.into(),
        },
        None => CallIn::Provision(grant),
    };
    answer(&mut session, call).map(|_| session)
}

fn sealed(session: &mut Session) -> Result<Vec<u8>, RegionFault> {
    match answer(session, CallIn::Seal)? {
        CallInAnswer::Sealed(image) => Ok(image.to_vec()),
        other => panic!("not sealed: {other:?}"),
    }
}

fn refused(result: Result<Session, RegionFault>, error: &SealedError) {
    match result {
        Err(fault) => assert_eq!(fault, RegionFault::Sealed(error.to_string())),
        Ok(_) => panic!("accepted, not {error}"),
    }
}

fn at(sequence: u64, issued_at: u64) -> RunInput {
    RunInput {
        issued_at,
        valid_until: issued_at + 10,
        ..input(sequence)
    }
}

#[test]
fn a_successor_keeps_its_predecessors_word() {
    let mut first = resumed(&seal(), None).unwrap();
    let said = run(&mut first, at(1, 10)).unwrap();
    let image = sealed(&mut first).unwrap();
    let (_, statement) = created();
    let seal = seal().succeeded_by(statement.measurement, &image).unwrap();

    let mut second = resumed(&seal, Some(image)).unwrap();
    let promised = RegionFault::Promised {
        sequence: 1,
        until: 20,
    };
    assert_eq!(run(&mut second, at(1, 15)).unwrap_err(), promised);
    let again = run(&mut second, at(1, 10)).unwrap();
    let report = |answer: RunAnswer| match answer.outcome {
        RunOutcome::Report(report) => (report.report, report.signature),
        RunOutcome::Skip(reason) => panic!("{reason}"),
    };
    assert_eq!(report(again), report(said), "the same may be said again");
    assert!(run(&mut second, at(2, 15)).is_ok());
    // And its own successor keeps both words.
    let image = sealed(&mut second).unwrap();
    let seal = seal.succeeded_by(statement.measurement, &image).unwrap();
    let mut third = resumed(&seal, Some(image)).unwrap();
    for sequence in [1, 2] {
        let fault = run(&mut third, at(sequence, 16)).unwrap_err();
        assert!(matches!(fault, RegionFault::Promised { .. }), "{fault}");
    }
    assert!(run(&mut third, at(1, 21)).is_ok(), "nobody takes the first");
}

#[test]
fn a_region_that_was_sealed_signs_nothing_any_more() {
    let mut session = resumed(&seal(), None).unwrap();
    sealed(&mut session).unwrap();
    let after = "protocol: the region was sealed: its successor signs";
    assert_eq!(run(&mut session, at(1, 10)).unwrap_err().to_string(), after);
    assert_eq!(sealed(&mut session).unwrap_err().to_string(), after);
}

#[test]
fn only_the_last_image_of_the_vault_is_gone_on_from() {
    let (mut created, statement) = created();
    assert!(sealed(&mut created).is_err(), "before its key");
    let measured = statement.measurement;
    let first = sealed(&mut resumed(&seal(), None).unwrap()).unwrap();
    let once = seal().succeeded_by(measured, &first).unwrap();
    let second = sealed(&mut resumed(&once, Some(first.clone())).unwrap()).unwrap();
    let twin = sealed(&mut resumed(&once, Some(first.clone())).unwrap()).unwrap();
    let twice = once.succeeded_by(measured, &second).unwrap();

    refused(resumed(&twice, None), &SealedError::Missing(2));
    let rolled = SealedError::RolledBack { last: 2, found: 1 };
    refused(resumed(&twice, Some(first.clone())), &rolled);
    refused(resumed(&twice, Some(twin)), &SealedError::Replaced(2));
    let ahead = SealedError::Ahead { last: 1, found: 2 };
    refused(resumed(&once, Some(second.clone())), &ahead);
    let mut altered = second.clone();
    *altered.last_mut().unwrap() ^= 1;
    refused(resumed(&twice, Some(altered)), &SealedError::Altered);

    // After a refusal the right one is still taken.
    let grant = grant(&statement, Some(twice));
    let wrong = CallIn::Provision(grant.clone());
    assert!(answer(&mut created, wrong).is_err());
    let image = second.into();
    let resume = CallIn::Resume { grant, image };
    answer(&mut created, resume).unwrap();
    assert!(run(&mut created, at(1, 10)).is_ok());
}

#[test]
fn where_the_vault_keeps_no_seal_nothing_is_sealed_and_the_region_goes_on() {
    let in_vault = |_: &EvidenceStatement| KeyGrant::InVault {
        signer: key().address(),
    };
    let wrapped = |statement: &EvidenceStatement| grant(statement, None);
    for grant in [&wrapped as &dyn Fn(&_) -> _, &in_vault] {
        let (mut session, statement) = created();
        let image = alloy_primitives::Bytes::from_static(b"image");
        let grant = grant(&statement);
        let resume = CallIn::Resume {
            grant: grant.clone(),
            image,
        };
        let fault = answer(&mut session, resume).unwrap_err();
        assert!(matches!(fault, RegionFault::Sealed(_)), "{fault}");
        answer(&mut session, CallIn::Provision(grant)).unwrap();
        let fault = sealed(&mut session).unwrap_err();
        assert!(fault.to_string().contains("keeps no seal"), "{fault}");
        assert!(run(&mut session, at(1, 10)).is_ok());
    }
}

#[test]
fn a_region_with_a_seal_speaks_for_the_cryptlet_of_the_seal_alone() {
    let other = CryptletId(Address::repeat_byte(9));
    let seal = Seal {
        cryptlet: other,
        ..seal()
    };
    let mut session = resumed(&seal, None).unwrap();
    let fault = run(&mut session, at(1, 10)).unwrap_err();
    assert!(fault.to_string().contains(&other.to_string()), "{fault}");
}
