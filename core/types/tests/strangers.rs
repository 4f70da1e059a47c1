//! Whatever bytes a stranger hands over: a document or a frame, or no panic. Bytes without any sense seldom get far, so most
//! of these are documents that are right but for a few of them.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

use cryptlet_types::{
    Evidence, Manifest, Receipt,
    policy::SignedPolicy,
    region::{ToHost, ToRegion, decode, encode},
};
use proptest::prelude::*;
use std::{fs, path::Path};

/// What is read from all of them.
fn read(bytes: &[u8]) {
    let _ = Manifest::from_json(bytes);
    let _ = SignedPolicy::from_json(bytes);
    let _ = Receipt::from_json(bytes);
    let _ = serde_json::from_slice::<Evidence>(bytes);
    let _ = decode::<Evidence>(bytes);
    let _ = decode::<ToHost>(bytes);
    let _ = decode::<ToRegion>(bytes);
}

/// The valid documents that every implementation reads, and evidence in both its forms.
fn documents() -> Vec<Vec<u8>> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors");
    let receipt = fs::read(vectors.join("receipt/market-watcher.json")).unwrap();
    let evidence = Receipt::from_json(&receipt).unwrap().evidence;
    let mut documents = vec![
        serde_json::to_vec(&evidence).unwrap(),
        encode(&evidence).unwrap(),
        receipt,
    ];
    for folder in ["manifest/valid", "policy/valid"] {
        for entry in fs::read_dir(vectors.join(folder)).unwrap() {
            documents.push(fs::read(entry.unwrap().path()).unwrap());
        }
    }
    assert!(documents.len() > 5);
    documents
}

#[test]
fn the_documents_are_read_as_they_are() {
    let documents = documents();
    assert!(serde_json::from_slice::<Evidence>(&documents[0]).is_ok());
    assert!(decode::<Evidence>(&documents[1]).is_ok());
    assert!(Receipt::from_json(&documents[2]).is_ok());
    let manifests = documents
        .iter()
        .filter(|bytes| Manifest::from_json(bytes).is_ok());
    assert!(manifests.count() > 0);
    let policies = documents
        .iter()
        .filter(|bytes| SignedPolicy::from_json(bytes).is_ok());
    assert!(policies.count() > 0);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        read(&bytes);
    }

    #[test]
    fn an_altered_document_never_panics(
        document in proptest::sample::select(documents()),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = document;
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        read(&bytes);
    }
}
