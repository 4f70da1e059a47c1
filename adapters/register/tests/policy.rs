//! The policy that administrators approved comes into force, and an older one never again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops where it goes wrong"
)]

use alloy_primitives::Address;
use cryptlet_register::{PolicySet, PolicyStore, RegisterError};
use cryptlet_seal::{SealError, SigningKey, sha256};
use cryptlet_types::{
    Policy,
    policy::{Approval, PolicyInForce, SignedPolicy},
    register::{Board, PolicyRecord, RegisterDomain},
};
use std::{fs, path::Path};

/// Of the board.
const TERM: u64 = 2;

fn domain() -> RegisterDomain {
    RegisterDomain {
        chain_id: 31_337,
        register: Address::repeat_byte(0x11),
    }
}

/// Three administrators, ascending by address; two have to approve.
fn administrators() -> Vec<SigningKey> {
    let mut keys: Vec<_> = (1..=3)
        .map(|n| SigningKey::from_secret(&[n; 32]).unwrap())
        .collect();
    keys.sort_by_key(SigningKey::address);
    keys
}

fn policy(epoch: u64, attempts: u32) -> Policy {
    let mut policy = Policy::closed(epoch);
    policy.retry.attempts = attempts;
    policy
}

fn approve(policy: &Policy, key: &SigningKey) -> Approval {
    let digest = sha256(&policy.to_json().unwrap());
    let message = domain().policy_digest(key.address(), TERM, policy.epoch, digest);
    let signature = key.sign(message).unwrap();
    let mut bytes = [signature.r.0, signature.vs.0].concat();
    bytes.push(27 + (bytes[32] >> 7));
    bytes[32] &= 0x7f;
    Approval {
        administrator: key.address(),
        signature: bytes.into(),
    }
}

fn signed(policy: &Policy) -> SignedPolicy {
    let keys = administrators();
    SignedPolicy {
        policy: policy.clone(),
        approvals: keys[..2].iter().map(|key| approve(policy, key)).collect(),
    }
}

/// What the register says once `policy` was set there.
fn set(policy: &Policy) -> PolicySet {
    let members = administrators().iter().map(SigningKey::address).collect();
    PolicySet {
        record: PolicyRecord {
            epoch: policy.epoch,
            digest: sha256(&policy.to_json().unwrap()),
            uri: String::new(),
        },
        board: Board {
            members,
            threshold: 2,
            term: TERM,
        },
    }
}

/// Opened anew each time: the memory is on disk.
fn install(
    folder: &Path,
    file: &SignedPolicy,
    set: &PolicySet,
) -> Result<PolicyInForce, RegisterError> {
    let store = PolicyStore::open(folder).unwrap();
    store.install(&file.to_json().unwrap(), &domain(), Some(set))
}

fn put(folder: &Path, policy: &Policy) -> Result<PolicyInForce, RegisterError> {
    install(folder, &signed(policy), &set(policy))
}

#[test]
fn epochs_only_grow() {
    let folder = tempfile::tempdir().unwrap();
    let taken = put(folder.path(), &policy(5, 1)).unwrap();
    assert_eq!(taken.policy, policy(5, 1));
    assert_eq!(taken.digest, sha256(&policy(5, 1).to_json().unwrap()));
    put(folder.path(), &policy(5, 1)).unwrap();

    // Even where a register says that it is in force.
    let older = put(folder.path(), &policy(4, 1)).unwrap_err();
    assert!(
        matches!(
            older,
            RegisterError::OlderPolicy {
                found: 4,
                highest: 5
            }
        ),
        "{older}"
    );
    let other = put(folder.path(), &policy(5, 2)).unwrap_err();
    assert!(
        matches!(other, RegisterError::OtherPolicy { epoch: 5, .. }),
        "{other}"
    );
    assert!(!older.is_retryable() && !other.is_retryable());
    put(folder.path(), &policy(9, 2)).unwrap();
    put(folder.path(), &policy(5, 1)).unwrap_err();
    put(folder.path(), &policy(9, 2)).unwrap();
}

#[test]
fn only_the_policy_that_the_register_names_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (policy(5, 1), policy(6, 1)),
        (policy(5, 1), policy(5, 2)),
        (policy(6, 1), policy(5, 1)),
    ];
    for (document, on_chain) in cases {
        let error = install(folder.path(), &signed(&document), &set(&on_chain)).unwrap_err();
        assert!(
            matches!(error, RegisterError::NotTheRegisters { .. }),
            "{error}"
        );
        let said = error.to_string();
        let epoch = format!("epoch {}", on_chain.epoch);
        assert!(said.contains("set it on the chain first"), "{said}");
        assert!(said.contains(&epoch) && !said.contains("not set"), "{said}");
    }
    let store = PolicyStore::open(folder.path()).unwrap();
    let file = signed(&policy(5, 1)).to_json().unwrap();
    let error = store.install(&file, &domain(), None).unwrap_err();
    assert!(
        matches!(error, RegisterError::NotTheRegisters { record: None, .. }),
        "{error}"
    );
    assert!(matches!(store.current(None), Err(RegisterError::NoPolicy)));
}

#[test]
fn approvals_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy(5, 1);
    let refused = |file: &SignedPolicy, words: &str| {
        let error = install(folder.path(), file, &set(&policy)).unwrap_err();
        assert!(
            matches!(error, RegisterError::PolicyApprovals(_)),
            "{error}"
        );
        assert!(
            error.to_string().contains(words),
            "{error} does not say {words}"
        );
        assert!(
            PolicyStore::open(folder.path())
                .unwrap()
                .document()
                .unwrap()
                .is_none()
        );
    };
    let good = signed(&policy);
    let mut missing = good.clone();
    missing.approvals.pop();
    refused(&missing, "1 count, the register asks for 2");
    let mut doubled = good.clone();
    doubled.approvals[1] = doubled.approvals[0].clone();
    refused(&doubled, "approvals[1]");
    let mut stranger = good.clone();
    stranger.approvals.push(approve(
        &policy,
        &SigningKey::from_secret(&[9; 32]).unwrap(),
    ));
    stranger
        .approvals
        .sort_by_key(|approval| approval.administrator);
    refused(&stranger, "not an administrator");
    let mut other = good.clone();
    other.approvals = signed(&self::policy(5, 2)).approvals;
    refused(&other, "0 count, the register asks for 2");

    let mut next = set(&policy);
    next.board.term += 1;
    let error = install(folder.path(), &good, &next).unwrap_err();
    assert!(
        matches!(
            error,
            RegisterError::PolicyApprovals(SealError::TooFewApprovals { count: 0, .. })
        ),
        "approved under an earlier term: {error}"
    );
    let mut nobody = set(&policy);
    nobody.board = Board::default();
    let error = install(folder.path(), &good, &nobody).unwrap_err();
    assert!(
        matches!(error, RegisterError::PolicyApprovals(_)),
        "{error}"
    );
    let elsewhere = RegisterDomain {
        chain_id: 1,
        ..domain()
    };
    let store = PolicyStore::open(folder.path()).unwrap();
    let error = store
        .install(&good.to_json().unwrap(), &elsewhere, Some(&set(&policy)))
        .unwrap_err();
    assert!(matches!(
        error,
        RegisterError::PolicyApprovals(SealError::TooFewApprovals { count: 0, .. })
    ));
    install(folder.path(), &good, &set(&policy)).unwrap();
}

#[test]
fn with_the_register_down_the_last_policy_stays_and_with_another_in_force_it_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy(5, 1);
    put(folder.path(), &policy).unwrap();
    let store = PolicyStore::open(folder.path()).unwrap();
    let current = store.current(Some(&set(&policy).record)).unwrap();
    assert_eq!(current.policy, policy);
    assert_eq!(store.document().unwrap(), Some(signed(&policy)));
    for next in [self::policy(6, 1), self::policy(5, 2)] {
        let error = store.current(Some(&set(&next).record)).unwrap_err();
        assert!(
            matches!(error, RegisterError::NotTheRegisters { .. }),
            "{error}"
        );
    }
    assert!(
        store.current(None).is_err(),
        "a register that says nothing allows nothing"
    );
    // What is refused changes nothing of what is in force.
    let mut bad = signed(&self::policy(6, 1));
    bad.approvals.clear();
    install(folder.path(), &bad, &set(&self::policy(6, 1))).unwrap_err();
    assert_eq!(
        store.current(Some(&set(&policy).record)).unwrap().policy,
        policy
    );
}

#[test]
fn the_layout_of_the_file_does_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.json");
    let store = PolicyStore::open(&folder.path().join("data")).unwrap();
    let policy = policy(1, 1);
    let load = || store.load(&path, &domain(), Some(&set(&policy)));
    fs::write(&path, signed(&policy).to_json().unwrap()).unwrap();
    let pretty = load().unwrap();
    fs::write(&path, serde_json::to_vec(&signed(&policy)).unwrap()).unwrap();
    assert_eq!(load().unwrap().digest, pretty.digest);
}

#[test]
fn without_a_policy_there_is_no_default() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.json");
    let store = PolicyStore::open(&folder.path().join("data")).unwrap();
    let load = || {
        store
            .load(&path, &domain(), Some(&set(&policy(1, 1))))
            .unwrap_err()
    };
    let missing = load();
    assert!(matches!(missing, RegisterError::Io { .. }) && !missing.is_retryable());
    assert!(missing.to_string().contains("policy.json"), "{missing}");
    fs::write(&path, "{}").unwrap();
    let empty = load();
    assert!(
        empty.to_string().contains("missing field `policy`"),
        "{empty}"
    );
    fs::write(&path, vec![b' '; (1 << 20) + 1]).unwrap();
    let huge = load();
    assert!(matches!(huge, RegisterError::TooLarge { .. }), "{huge}");
}

/// The contract lets an epoch grow by 2^32 at once; a host that was away may have missed several such steps.
#[test]
fn a_host_that_missed_epochs_takes_the_one_in_force() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), &policy(5, 1)).unwrap();
    put(folder.path(), &policy(5 + (3 << 32), 1)).unwrap();
}

#[test]
fn a_damaged_memory_lets_nothing_through() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), &policy(5, 1)).unwrap();
    let memory = folder.path().join("policy-in-force.json");
    for text in ["", "{}", "{\"epoch\":0}"] {
        fs::write(&memory, text).unwrap();
        let error = put(folder.path(), &policy(6, 1)).unwrap_err();
        assert!(matches!(error, RegisterError::Malformed { .. }), "{error}");
        let store = PolicyStore::open(folder.path()).unwrap();
        assert!(store.current(Some(&set(&policy(5, 1)).record)).is_err());
    }
}
