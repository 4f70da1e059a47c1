//! Receipts: a genuine one holds, and no other one does. Every leaf of its JSON is changed, and each lie is told
//! that a host could tell which owns all its keys.
use crate::support::{
    Play,
    account::{job_in, receipts},
    due, retry,
};
use alloy::primitives::{Address, B256};
use cryptlet_audit::{TrustRoots, verify};
use cryptlet_host::DataFolder;
use cryptlet_seal::SigningKey;
use cryptlet_types::{Measurement, Receipt, Sha256Digest};
use cryptlet_vault::{FileVault, KeyId, Unlock, Vault};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::PathBuf};

const GOLDEN: &[u8] = include_bytes!("../../../vectors/receipt/market-watcher.json");
const GOLDEN_TRUST: &[u8] = include_bytes!("../../../vectors/receipt/trust.json");

/// Two genuine receipts, what an auditor trusts, and the host's own key.
struct Genuine {
    first: Receipt,
    second: Receipt,
    roots: TrustRoots,
    vault: FileVault,
}

impl Genuine {
    async fn make() -> Self {
        let play = Play::market(retry(3)).await;
        let watched = play.price_consumer(&["USD", "GBP"]).await;
        let mut host = play.host().await;
        for day in [12, 13] {
            play.noon(day).await;
            job_in(
                &host,
                watched,
                due(day),
                &[cryptlet_types::JobState::Delivered],
            )
            .await;
        }
        let mut kept = receipts(host.journal(), watched.subject).await;
        let roots = play.roots().await;
        host.stop().await;
        drop(host);
        let data = DataFolder::at(&play.stage.config.data);
        let vault = FileVault::open(
            &data.vault(),
            &Unlock::KeyFile(play.folder.path().join("vault.key")),
        )
        .unwrap();
        let (second, first) = (kept.pop().unwrap(), kept.pop().unwrap());
        Self {
            first: first.receipt,
            second: second.receipt,
            roots,
            vault,
        }
    }

    /// The first receipt after `change`, signed by the host again.
    async fn forged(&self, change: impl FnOnce(&mut Receipt)) -> Receipt {
        let mut receipt = self.first.clone();
        change(&mut receipt);
        let digest = receipt.digest().unwrap();
        receipt.host_signature = self.vault.sign(&KeyId::Host, digest).await.unwrap();
        receipt
    }
}

/// Names of the checks that fail.
fn failures(receipt: &Receipt, roots: &TrustRoots) -> BTreeSet<&'static str> {
    let verdict = verify(receipt, roots);
    assert!(
        verdict
            .failures()
            .all(|check| !check.failure.as_ref().unwrap().is_empty())
    );
    verdict.failures().map(|check| check.name).collect()
}

/// Every value that differs from `value` in one place, with that place's path.
fn changes(value: &Value) -> Vec<(String, Value)> {
    let own = |change: Value| vec![(String::new(), change)];
    match value {
        Value::Null => own(Value::from(1)),
        Value::Bool(word) => own(Value::Bool(!word)),
        Value::Number(number) => number
            .as_u64()
            .map(|number| {
                [
                    number.wrapping_add(1),
                    number.saturating_sub(1).min(number / 2),
                ]
            })
            .into_iter()
            .flatten()
            .filter(|changed| Some(*changed) != number.as_u64())
            .map(|changed| (String::new(), Value::from(changed)))
            .collect(),
        Value::String(text) => texts(text)
            .into_iter()
            .map(|changed| (String::new(), Value::from(changed)))
            .collect(),
        Value::Array(items) => in_array(items),
        Value::Object(fields) => in_object(fields),
    }
}

/// Hex with a digit flipped at its start, middle and end, or an octet more; other text with something added.
fn texts(text: &str) -> Vec<String> {
    let Some(digits) = text.strip_prefix("0x") else {
        return vec![format!("{text}x"), String::new()];
    };
    let flip = |place: usize| {
        let digit = u8::from_str_radix(&digits[place..=place], 16).unwrap() ^ 1;
        format!("0x{}{digit:x}{}", &digits[..place], &digits[place + 1..])
    };
    let mut changed = vec![format!("{text}00"), "0x".to_owned()];
    if let Some(last) = digits.len().checked_sub(1) {
        changed.extend([0, digits.len() / 2, last].map(flip));
    }
    changed.retain(|other| other != text);
    changed
}

fn in_array(items: &[Value]) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let with = |change: &dyn Fn(&mut Vec<Value>)| {
            let mut other = items.to_vec();
            change(&mut other);
            Value::Array(other)
        };
        found.push((
            format!("[{index}] removed"),
            with(&|other| drop(other.remove(index))),
        ));
        found.push((
            format!("[{index}] doubled"),
            with(&|other| other.insert(index, item.clone())),
        ));
        for (path, changed) in changes(item) {
            let changed = with(&|other| other[index] = changed.clone());
            found.push((format!("[{index}]{path}"), changed));
        }
    }
    found
}

fn in_object(fields: &serde_json::Map<String, Value>) -> Vec<(String, Value)> {
    let mut added = fields.clone();
    added.insert("alsoThis".to_owned(), Value::from(1));
    let mut found = vec![(".alsoThis".to_owned(), Value::Object(added))];
    for (name, field) in fields {
        let mut without = fields.clone();
        without.remove(name);
        found.push((format!(".{name} removed"), Value::Object(without)));
        for (path, changed) in changes(field) {
            let mut other = fields.clone();
            other.insert(name.clone(), changed);
            found.push((format!(".{name}{path}"), Value::Object(other)));
        }
    }
    found
}

#[test]
fn every_leaf_of_a_receipt_counts() {
    let roots = TrustRoots::from_json(GOLDEN_TRUST).unwrap();
    let golden = Receipt::from_json(GOLDEN).unwrap();
    assert_eq!(
        failures(&golden, &roots),
        BTreeSet::new(),
        "it holds unchanged"
    );
    let genuine: Value = serde_json::from_slice(GOLDEN).unwrap();
    let all = changes(&genuine);
    assert!(all.len() > 300, "only {} changes", all.len());
    let (mut unread, mut caught) = (0, BTreeSet::new());
    for (path, changed) in all {
        let Ok(receipt) = Receipt::from_json(&serde_json::to_vec(&changed).unwrap()) else {
            unread += 1;
            continue;
        };
        if receipt == golden {
            // A field that says that there is nothing may be left out: that is the same receipt.
            assert_eq!(path, ".input.delegation removed");
            continue;
        }
        let failed = failures(&receipt, &roots);
        assert!(!failed.is_empty(), "receipt{path} does not count");
        caught.extend(failed);
    }
    assert!(unread > 0);
    let expected = [
        "form",
        "domain",
        "signature",
        "measurement",
        "evidence",
        "region",
        "host",
        "transaction",
        "inclusion",
        "time",
    ];
    for check in expected {
        assert!(caught.contains(check), "no change was caught by {check}");
    }
}

#[test]
fn the_golden_receipt_holds() {
    let (receipt, roots) = (
        Receipt::from_json(GOLDEN).unwrap(),
        TrustRoots::from_json(GOLDEN_TRUST).unwrap(),
    );
    assert_eq!(failures(&receipt, &roots), BTreeSet::new());
    assert_eq!(receipt.to_json().unwrap(), GOLDEN);
    assert_eq!(roots.to_json().unwrap(), GOLDEN_TRUST);
}

#[tokio::test]
#[ignore = "writes vectors/receipt anew, after a change of the format"]
async fn write_the_golden_receipt() {
    let genuine = Genuine::make().await;
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../vectors/receipt");
    let receipt = genuine.first.to_json().unwrap();
    fs::write(folder.join("market-watcher.json"), receipt).unwrap();
    let trust = genuine.roots.to_json().unwrap();
    fs::write(folder.join("trust.json"), trust).unwrap();
}

#[tokio::test]
async fn what_an_auditor_does_not_trust_is_named() {
    let genuine = Genuine::make().await;
    let (receipt, roots) = (&genuine.first, &genuine.roots);
    assert_eq!(failures(receipt, roots), BTreeSet::new());
    let stranger = Address::repeat_byte(0x51);
    let lacking = |change: &dyn Fn(&mut TrustRoots)| {
        let mut roots = roots.clone();
        change(&mut roots);
        failures(receipt, &roots)
    };
    let cryptlet = receipt.report.report.cryptlet;
    let one = |name: &'static str| BTreeSet::from([name]);
    assert_eq!(lacking(&|roots| roots.domain.chain_id += 1), one("domain"));
    let other_delegate = lacking(&|roots| roots.domain.delegate = stranger);
    assert_eq!(other_delegate, BTreeSet::from(["domain", "inclusion"]));
    let trusted = |roots: &mut TrustRoots| roots.cryptlets.remove(&cryptlet).unwrap();
    let no_signer = lacking(&|roots| {
        let mut known = trusted(roots);
        known.signers = vec![stranger];
        roots.cryptlets.insert(cryptlet, known);
    });
    assert_eq!(no_signer, one("signature"));
    let no_measurement = lacking(&|roots| {
        let mut known = trusted(roots);
        known.measurements = vec![Measurement(B256::repeat_byte(3))];
        roots.cryptlets.insert(cryptlet, known);
    });
    assert_eq!(no_measurement, one("measurement"));
    let unknown = lacking(&|roots| drop(trusted(roots)));
    assert_eq!(unknown, BTreeSet::from(["signature", "measurement"]));
    assert_eq!(
        lacking(&|roots| roots.hosts = vec![stranger]),
        one("evidence")
    );
    assert_eq!(lacking(&|roots| roots.hosts.clear()), one("evidence"));
    assert_eq!(lacking(&|roots| roots.providers.clear()), one("evidence"));
    // Nothing is believed of what lies below a header that is not trusted.
    let below = BTreeSet::from(["block", "transaction", "inclusion", "time"]);
    assert_eq!(lacking(&|roots| roots.blocks.clear()), below);
    let other_blocks = lacking(&|roots| {
        for hash in roots.blocks.values_mut() {
            *hash = B256::repeat_byte(1);
        }
    });
    assert_eq!(other_blocks, below);
}

/// The host owns its key, so that its signature proves none of this.
#[tokio::test]
async fn a_host_cannot_forge_what_region_cryptlet_and_chain_said() {
    let genuine = Genuine::make().await;
    let caught = |receipt: &Receipt, by: &[&'static str]| {
        let failed = failures(receipt, &genuine.roots);
        assert!(!failed.contains("host"), "the host did sign");
        for check in by {
            assert!(failed.contains(check), "{check} expected: {failed:?}");
        }
    };
    assert!(verify(&genuine.forged(|_| ()).await, &genuine.roots).holds());
    let second = genuine.second.clone();

    let replay = genuine.forged(|a| a.inclusion = second.inclusion.clone());
    caught(&replay.await, &["transaction", "inclusion"]);
    let other_report = genuine.forged(|a| a.report = second.report.clone());
    caught(
        &other_report.await,
        &["form", "region", "transaction", "inclusion"],
    );
    let other_day = genuine.forged(|a| {
        a.input = second.input.clone();
        a.report = second.report.clone();
        a.sources = second.sources.clone();
        a.inclusion = second.inclusion.clone();
    });
    caught(&other_day.await, &["form"]);
    let other_event = genuine.forged(|a| a.event = second.event.clone());
    caught(&other_event.await, &["form"]);
    let other_chain = genuine.forged(|a| a.domain.chain_id += 1);
    caught(&other_chain.await, &["form", "domain", "signature"]);
    let other_source = genuine.forged(|a| {
        a.sources[0].body = Sha256Digest(B256::repeat_byte(9));
    });
    caught(&other_source.await, &["region"]);
    let no_source = genuine.forged(|a| a.sources.clear());
    caught(&no_source.await, &["region"]);
    let other_settings = genuine.forged(|a| {
        a.input
            .settings
            .insert("feed".into(), "https://other.example/".into());
    });
    caught(&other_settings.await, &["region"]);
    let transaction_proof = genuine.forged(|a| drop(a.inclusion.transaction_proof.pop()));
    caught(
        &transaction_proof.await,
        &["transaction", "inclusion", "block"],
    );
    let receipt_proof = genuine.forged(|a| drop(a.inclusion.receipt_proof.pop()));
    caught(&receipt_proof.await, &["transaction", "inclusion", "block"]);
    let header = genuine.forged(|a| a.inclusion.header = second.inclusion.header.clone());
    caught(&header.await, &["transaction", "inclusion"]);

    let thief = SigningKey::generate();
    let another_figure = genuine.forged(|a| {
        let digest = {
            let report = &mut a.report.report;
            let mut payload = report.payload.to_vec();
            *payload.last_mut().unwrap() ^= 1;
            report.payload = payload.into();
            report.digest(&a.domain)
        };
        a.report.signer = thief.address();
        a.report.signature = thief.sign(digest).unwrap();
    });
    caught(
        &another_figure.await,
        &["signature", "region", "transaction", "inclusion"],
    );

    let mut late = genuine.first.evidence.clone();
    late.made_at = genuine.first.report.report.issued_at + 1;
    let statement = late.statement.digest(late.made_at);
    late.signature = genuine.vault.sign(&KeyId::Host, statement).await.unwrap();
    let late = genuine.forged(|a| a.evidence = late).await;
    assert_eq!(
        failures(&late, &genuine.roots),
        BTreeSet::from(["evidence"])
    );

    let mut other_region = genuine.first.evidence.clone();
    other_region.statement.region_key = thief.address();
    let statement = other_region.statement.digest(other_region.made_at);
    other_region.signature = genuine.vault.sign(&KeyId::Host, statement).await.unwrap();
    let other_region = genuine.forged(|a| a.evidence = other_region).await;
    assert_eq!(
        failures(&other_region, &genuine.roots),
        BTreeSet::from(["region"])
    );
}
