//! The golden reports in `vectors/report`, batches in `vectors/batch` and answers in `vectors/answer`, which Solidity made
//! and checks too.

#![allow(
    clippy::unwrap_used,
    reason = "the lint allows this in test functions; helpers of tests are the same"
)]

use alloy_primitives::{Address, B256, Bytes};
use cryptlet_seal::{SigningKey, check};
use cryptlet_types::{
    Answer, Batch, CryptletId, Measurement, Report, ReportDomain, SignedAnswer, Subject,
    answer::request_id, report::CompactSignature,
};
use serde::{Deserialize, de::DeserializeOwned};
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BatchVector {
    domain: Domain,
    batch: VectorBatch,
    leaves: Vec<B256>,
    root: B256,
    digest: B256,
    private_key: B256,
    r: B256,
    vs: B256,
    signer: Address,
}

#[derive(Deserialize)]
struct VectorBatch {
    cryptlet: Address,
    region: B256,
    items: Vec<VectorItem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VectorItem {
    subject: B256,
    sequence: u64,
    issued_at: u64,
    valid_until: u64,
    payload: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerVector {
    domain: Domain,
    asked: VectorAsked,
    answer: Answer,
    digest: B256,
    private_key: B256,
    r: B256,
    vs: B256,
    signer: Address,
    response: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VectorAsked {
    consumer: Address,
    params: Bytes,
    window_length: u64,
}

fn vectors<V: DeserializeOwned>(kind: &str) -> Vec<(String, V)> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors");
    let folder = vectors.join(kind);
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
    let vectors = vectors::<Vector>("report");
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

#[test]
fn batches_are_hashed_and_signed_as_by_solidity() {
    let vectors = vectors::<BatchVector>("batch");
    assert!(vectors.len() >= 8, "only {} vectors", vectors.len());
    for (file, vector) in vectors {
        let domain = ReportDomain {
            chain_id: vector.domain.chain_id,
            delegate: vector.domain.verifying_contract,
        };
        let VectorBatch {
            cryptlet,
            region,
            items,
        } = vector.batch;
        let report = |item: VectorItem| Report {
            cryptlet: CryptletId(cryptlet),
            subject: Subject(item.subject),
            sequence: item.sequence,
            issued_at: item.issued_at,
            valid_until: item.valid_until,
            region: Measurement(region),
            delegation: B256::ZERO,
            payload: item.payload,
        };
        let reports: Vec<_> = items.into_iter().map(report).collect();
        let leaves: Vec<_> = reports
            .iter()
            .map(|report| report.digest(&domain))
            .collect();
        assert_eq!(leaves, vector.leaves, "{file}");
        let batch = Batch::of(&reports).unwrap();
        assert_eq!(batch.root(&domain), vector.root, "{file}");
        let digest = batch.digest(&domain);
        assert_eq!(digest, vector.digest, "{file}");
        let signature = CompactSignature {
            r: vector.r,
            vs: vector.vs,
        };
        assert_eq!(check(digest, &signature, vector.signer), Ok(()), "{file}");
        let key = SigningKey::from_secret(&vector.private_key).unwrap();
        assert_eq!(key.sign(digest), Ok(signature), "{file}");
    }
}

#[test]
fn answers_are_hashed_signed_and_encoded_as_by_solidity() {
    let vectors = vectors::<AnswerVector>("answer");
    assert!(vectors.len() >= 8, "only {} vectors", vectors.len());
    for (file, vector) in vectors {
        let domain = ReportDomain {
            chain_id: vector.domain.chain_id,
            delegate: vector.domain.verifying_contract,
        };
        let AnswerVector { asked, answer, .. } = vector;
        let request = request_id(
            asked.consumer,
            answer.cryptlet,
            &asked.params,
            asked.window_length,
        );
        assert_eq!(request, answer.request, "{file}");
        let digest = answer.digest(&domain);
        assert_eq!(digest, vector.digest, "{file}");
        let signature = CompactSignature {
            r: vector.r,
            vs: vector.vs,
        };
        assert_eq!(check(digest, &signature, vector.signer), Ok(()), "{file}");
        let key = SigningKey::from_secret(&vector.private_key).unwrap();
        assert_eq!(key.sign(digest), Ok(signature), "{file}");
        let signed = SignedAnswer {
            answer,
            signer: vector.signer,
            signature,
        };
        assert_eq!(signed.response(), vector.response, "{file}");
    }
}
