//! A policy comes into force, and an older one never again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops where it goes wrong"
)]

use cryptlet_register::{PolicyStore, RegisterError};
use cryptlet_seal::sha256;
use cryptlet_types::{Limits, Policy, policy::Retry};
use std::{fs, path::Path};

fn policy(epoch: u64, attempts: u32) -> Policy {
    let retry = Retry {
        attempts,
        first_millis: 1,
        longest_millis: 1,
    };
    Policy {
        version: 1,
        epoch,
        isolation: vec![],
        egress: vec![],
        limits: Limits::default(),
        retry,
    }
}

fn write(path: &Path, policy: &Policy) {
    fs::write(path, serde_json::to_vec_pretty(policy).unwrap()).unwrap();
}

#[test]
fn epochs_only_grow() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.json");
    let store = PolicyStore::open(&folder.path().join("data")).unwrap();
    let load = |policy: &Policy| {
        write(&path, policy);
        // Opened anew each time: the memory is on disk.
        PolicyStore::open(&folder.path().join("data"))
            .unwrap()
            .load(&path)
    };
    let loaded = load(&policy(5, 1)).unwrap();
    assert_eq!(loaded.policy, policy(5, 1));
    assert_eq!(loaded.digest, sha256(&policy(5, 1).to_json().unwrap()));
    load(&policy(5, 1)).unwrap();

    let older = load(&policy(4, 1)).unwrap_err();
    assert!(matches!(
        older,
        RegisterError::OlderPolicy {
            found: 4,
            highest: 5
        }
    ));
    let other = load(&policy(5, 2)).unwrap_err();
    assert!(matches!(other, RegisterError::OtherPolicy { epoch: 5, .. }));
    assert!(!older.is_retryable() && !other.is_retryable());
    load(&policy(9, 2)).unwrap();
    load(&policy(5, 1)).unwrap_err();
    write(&path, &policy(9, 2));
    store.load(&path).unwrap();
}

#[test]
fn the_layout_of_the_file_does_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.json");
    let store = PolicyStore::open(folder.path()).unwrap();
    write(&path, &policy(1, 1));
    let pretty = store.load(&path).unwrap();
    fs::write(&path, policy(1, 1).to_json().unwrap()).unwrap();
    assert_eq!(store.load(&path).unwrap().digest, pretty.digest);
}

#[test]
fn without_a_policy_there_is_no_default() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.json");
    let store = PolicyStore::open(folder.path()).unwrap();
    let missing = store.load(&path).unwrap_err();
    assert!(matches!(missing, RegisterError::Io { .. }) && !missing.is_retryable());
    assert!(missing.to_string().contains("policy.json"), "{missing}");
    fs::write(&path, "{}").unwrap();
    let empty = store.load(&path).unwrap_err();
    assert!(
        empty.to_string().contains("missing field `version`"),
        "{empty}"
    );
    fs::write(&path, vec![b' '; (1 << 20) + 1]).unwrap();
    let huge = store.load(&path).unwrap_err();
    assert!(matches!(huge, RegisterError::TooLarge { .. }), "{huge}");
}

#[test]
fn a_damaged_memory_lets_nothing_through() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.json");
    let store = PolicyStore::open(folder.path()).unwrap();
    write(&path, &policy(5, 1));
    store.load(&path).unwrap();
    let memory = folder.path().join("policy-in-force.json");
    for text in ["", "{}", "{\"epoch\":0}"] {
        fs::write(&memory, text).unwrap();
        let error = store.load(&path).unwrap_err();
        assert!(matches!(error, RegisterError::Malformed { .. }), "{error}");
    }
}
