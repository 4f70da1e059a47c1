//! The golden evidence and statements of regions in `vectors/region`. Each file must be, byte for byte, what is rendered here;
//! with `UPDATE_VECTORS=true` the files are written anew. The contracts' tests believe the same files.

#![allow(
    clippy::unwrap_used,
    reason = "the lint allows this in test functions; helpers of tests are the same"
)]

mod goldens;

use alloy_primitives::{Address, B256, keccak256};
use cryptlet_seal::{SigningKey, check, evidence::vouch};
use cryptlet_types::{
    CryptletId, Evidence, EvidenceStatement, Measurement, Provider, Receipt, Report, ReportDomain,
    Subject,
    region::{RegionStatement, sources_digest},
    report::CompactSignature,
};
use goldens::golden;
use serde_json::json;

const RECEIPT: &[u8] = include_bytes!("../../../vectors/receipt/market-watcher.json");

fn key(name: &str) -> SigningKey {
    SigningKey::from_secret(&keccak256(name)).unwrap()
}

/// A report in a domain, and what a region says of it.
struct Said<'a> {
    domain: ReportDomain,
    report: &'a Report,
    statement: RegionStatement,
    signature: CompactSignature,
}

fn check_region(name: &str, evidence: &Evidence, said: &Said<'_>) {
    let stated = &evidence.statement;
    let evidence_digest = stated.digest(evidence.made_at);
    let digest = said.statement.digest();
    assert_eq!(
        check(evidence_digest, &evidence.signature, evidence.host),
        Ok(())
    );
    assert_eq!(check(digest, &said.signature, stated.region_key), Ok(()));
    assert_eq!(said.report.digest(&said.domain), said.statement.report);
    let value = json!({
        "host": evidence.host,
        "evidence": {
            "provider": stated.provider,
            "controls": stated.controls,
            "measurement": stated.measurement,
            "regionKey": stated.region_key,
            "exchangeKey": stated.exchange_key,
            "nonce": stated.nonce,
            "madeAt": evidence.made_at,
            "signature": evidence.signature.to_bytes(),
        },
        "evidenceDigest": evidence_digest,
        "said": {
            "report": said.statement.report,
            "input": said.statement.input,
            "sources": said.statement.sources,
        },
        "digest": digest,
        "signature": said.signature.to_bytes(),
        "arguments": evidence.for_contracts(&said.statement, &said.signature),
        "domain": said.domain,
        "report": said.report,
    });
    golden("region", name, &value);
}

fn statement() -> EvidenceStatement {
    EvidenceStatement {
        provider: Provider::Process,
        controls: vec!["landlock".into(), "seccomp-kill".into()],
        measurement: Measurement(B256::repeat_byte(0x11)),
        region_key: key("region key of the golden evidence").address(),
        exchange_key: B256::repeat_byte(0x22),
        nonce: B256::repeat_byte(0x33),
    }
}

fn check_made(name: &str, made_at: u64, change: impl FnOnce(&mut EvidenceStatement)) {
    let region = key("region key of the golden evidence");
    let mut statement = statement();
    change(&mut statement);
    let report = Report {
        cryptlet: CryptletId(Address::repeat_byte(0x44)),
        subject: Subject(B256::repeat_byte(0x55)),
        sequence: 7,
        issued_at: 1_792_137_600,
        valid_until: 1_792_224_000,
        region: statement.measurement,
        delegation: B256::ZERO,
        payload: vec![0x66; 64].into(),
    };
    let domain = ReportDomain {
        chain_id: 31_337,
        delegate: Address::repeat_byte(0x77),
    };
    let said = RegionStatement {
        measurement: statement.measurement,
        report: report.digest(&domain),
        input: B256::repeat_byte(0x88),
        sources: B256::repeat_byte(0x99),
    };
    let host = key("host key of the golden evidence");
    let evidence = vouch(statement, made_at, &host).unwrap();
    let said = Said {
        domain,
        report: &report,
        signature: region.sign(said.digest()).unwrap(),
        statement: said,
    };
    check_region(name, &evidence, &said);
}

#[test]
fn evidence_and_statements_are_hashed_and_signed() {
    check_made("plain", 1_792_137_600, |_| ());
    check_made("minimum-values", 0, |statement| {
        statement.controls.clear();
        statement.measurement = Measurement(B256::ZERO);
        statement.exchange_key = B256::ZERO;
        statement.nonce = B256::ZERO;
    });
    check_made("maximum-values", u64::MAX, |statement| {
        statement.provider = Provider::Simulator;
        // Names of every length around a word's, and more than a word of them.
        statement.controls = (0..40).map(|length| "c".repeat(length)).collect();
        statement.measurement = Measurement(B256::repeat_byte(0xff));
        statement.exchange_key = B256::repeat_byte(0xff);
        statement.nonce = B256::repeat_byte(0xff);
    });
}

#[test]
fn a_genuine_receipt_holds_what_a_contract_asks_for() {
    let receipt = Receipt::from_json(RECEIPT).unwrap();
    let report = &receipt.report.report;
    let said = Said {
        domain: receipt.domain,
        report,
        statement: RegionStatement {
            measurement: receipt.evidence.statement.measurement,
            report: report.digest(&receipt.domain),
            input: receipt.input.digest().unwrap(),
            sources: sources_digest(&receipt.sources).unwrap(),
        },
        signature: receipt.report.region_signature,
    };
    check_region("receipt", &receipt.evidence, &said);
}
