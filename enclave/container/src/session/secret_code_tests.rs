//! What a host may answer to who asks for the key of secret code.

use super::tests::{host, key, load_with as load, manifest, session};
use super::*;
use crate::channel::{ChannelError, Host};
use alloy_primitives::Address;
use cryptlet_seal::{CodeKey, secret_code::code_binding, sha256, wrap};
use cryptlet_types::{
    CodeAgreement, CodeGrant,
    region::{CallOut, CallOutAnswer, Package},
};
use std::{cell::RefCell, io::ErrorKind, rc::Rc};

const HOSTILE: &[u8] = include_bytes!("../../../../cryptlets/dist/hostile.wasm");
const CHALLENGE: B256 = B256::repeat_byte(6);

type Told = Result<Result<CallOutAnswer, String>, ChannelError>;

/// A host that answers a call out as it is told.
struct Telling<F>(F);

impl<F: FnMut(CallOut) -> Told> Host for Telling<F> {
    fn call(&mut self, call: CallOut) -> Told {
        (self.0)(call)
    }
}

fn telling(tell: impl FnMut(CallOut) -> Told + 'static) -> SharedHost {
    Rc::new(RefCell::new(Telling(tell)))
}

fn code_key() -> CodeKey {
    CodeKey::from_bytes(&[3; 32]).unwrap()
}

/// A package whose secret code, of `key()` alone, is this.
fn package(code: &[u8]) -> Package {
    let mut manifest = manifest();
    let counterparties = vec![key().address()];
    manifest.config.secret_code = Some(SecretCode { counterparties });
    let encrypted = code_key().encrypt(code).unwrap();
    let built = package::build(&manifest, &encrypted, b"{}", None);
    built.unwrap().package
}

/// A host that has the key of this code and the agreement to it, and is asked as it has to be.
fn honest(code: &'static [u8]) -> SharedHost {
    let package = sha256(&package(code).index);
    telling(move |call| {
        let CallOut::CodeKey(created) = call else {
            panic!("another call")
        };
        let statement = &created.statement;
        assert_eq!(statement.nonce, CHALLENGE);
        assert_eq!(created.attestation, None);
        let binding = code_binding(statement);
        let code = sha256(code);
        let agreement = CodeAgreement { package, code };
        Ok(Ok(CallOutAnswer::CodeKey(Box::new(CodeGrant {
            key: wrap(statement.exchange_key, &binding, code_key().bytes()).unwrap(),
            code,
            agreements: vec![key().sign(agreement.digest()).unwrap()],
        }))))
    })
}

fn fault(answer: Result<Result<CallInAnswer, RegionFault>, ChannelError>) -> RegionFault {
    answer.unwrap().unwrap_err()
}

#[test]
fn secret_code_is_loaded_and_a_region_made_of_it_has_other_keys() {
    let mut session = session();
    let host = honest(HOSTILE);
    let loaded = session.answer(load(package(HOSTILE), Some(CHALLENGE)), &host);
    assert!(matches!(loaded, Ok(Ok(CallInAnswer::Loaded(_)))));
    let nonce = B256::repeat_byte(1);
    let created = session.answer(CallIn::Create { nonce }, &host);
    let Ok(Ok(CallInAnswer::Created(created))) = created else {
        panic!("{created:?}")
    };
    assert_ne!(created.statement.region_key, Address::ZERO);
}

#[test]
fn a_challenge_comes_with_secret_code_and_with_no_other() {
    let without = session().answer(load(package(HOSTILE), None), &host());
    let told = fault(without).to_string();
    assert!(told.contains("challenge: missing"), "{told}");
    let open = super::tests::package(&manifest());
    let needless = session().answer(load(open, Some(CHALLENGE)), &host());
    let told = fault(needless).to_string();
    assert!(told.contains("the code is not secret"), "{told}");
}

#[test]
fn what_is_no_grant_loads_nothing_and_the_session_is_of_no_further_use() {
    type Answer = fn() -> Result<CallOutAnswer, String>;
    let answers: [(Answer, &str); 3] = [
        (|| Ok(CallOutAnswer::Done), "protocol: another answer"),
        (
            || Ok(CallOutAnswer::Received(Bytes::new())),
            "protocol: another answer",
        ),
        (|| Err("not today".into()), "secret code: not today"),
    ];
    for (answer, words) in answers {
        let mut session = session();
        let host = telling(move |_| Ok(answer()));
        let asked = load(package(HOSTILE), Some(CHALLENGE));
        let told = fault(session.answer(asked, &host)).to_string();
        assert!(told.starts_with(words), "{told}");
        assert!(!session.is_loaded());
        let again = load(package(HOSTILE), Some(CHALLENGE));
        let told = fault(session.answer(again, &honest(HOSTILE))).to_string();
        assert!(told.contains("loaded once"), "{told}");
        let nonce = B256::ZERO;
        let created = session.answer(CallIn::Create { nonce }, &host);
        assert!(fault(created).to_string().contains("after its package"));
    }
}

#[test]
fn a_host_that_goes_while_it_is_asked_ends_the_conversation() {
    let gone = ChannelError::Gone(ErrorKind::UnexpectedEof);
    let told = gone.clone();
    let host = telling(move |_| Err(told.clone()));
    let asked = load(package(HOSTILE), Some(CHALLENGE));
    assert_eq!(session().answer(asked, &host).unwrap_err(), gone);
}

#[test]
fn secret_code_is_checked_as_any_other() {
    let none = b"no component at all";
    let loaded = session().answer(load(package(none), Some(CHALLENGE)), &honest(none));
    let refused = fault(loaded);
    assert!(matches!(refused, RegionFault::Package(_)), "{refused}");
}
