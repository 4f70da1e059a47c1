//! The golden reports in `vectors/report`, which Solidity made and checks too.

#![allow(
    clippy::unwrap_used,
    reason = "the lint allows this in test functions; helpers of tests are the same"
)]

use alloy_primitives::{Address, B256, Bytes};
use cryptlet_seal::{SigningKey, check};
use cryptlet_types::{
    CryptletId, Measurement, Report, ReportDomain, Subject, report::CompactSignature,
};
use serde::Deserialize;
use std::{fs, path::Path};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    domain: Domain,
    report: VectorReport,
    digest: B256,
    private_key: B256,
    r: B256,
    vs: B256,
    signer: Address,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Domain {
    chain_id: u64,
    verifying_contract: Address,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VectorReport {
    cryptlet: Address,
    subject: B256,
    sequence: u64,
    issued_at: u64,
    valid_until: u64,
    region: B256,
    delegation: B256,
    payload: Bytes,
}

fn vectors() -> Vec<(String, Vector)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/report");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let json = files.filter(|path| {
        path.extension()
            .is_some_and(|extension| extension == "json")
    });
    json.map(|path| {
        let vector = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        (path.display().to_string(), vector)
    })
    .collect()
}

#[test]
fn digests_and_signatures_are_those_of_solidity() {
    let vectors = vectors();
    assert!(vectors.len() >= 5, "only {} vectors", vectors.len());
    for (file, vector) in vectors {
        let domain = ReportDomain {
            chain_id: vector.domain.chain_id,
            delegate: vector.domain.verifying_contract,
        };
        let report = Report {
            cryptlet: CryptletId(vector.report.cryptlet),
            subject: Subject(vector.report.subject),
            sequence: vector.report.sequence,
            issued_at: vector.report.issued_at,
            valid_until: vector.report.valid_until,
            region: Measurement(vector.report.region),
            delegation: vector.report.delegation,
            payload: vector.report.payload,
        };
        let digest = report.digest(&domain);
        assert_eq!(digest, vector.digest, "{file}");
        let signature = CompactSignature {
            r: vector.r,
            vs: vector.vs,
        };
        assert_eq!(check(digest, &signature, vector.signer), Ok(()), "{file}");
        let key = SigningKey::from_secret(&vector.private_key).unwrap();
        assert_eq!(
            key.sign(digest),
            Ok(signature),
            "{file}: RFC 6979 gives one signature only"
        );
    }
}
