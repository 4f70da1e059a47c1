//! The chain of trust of a receipt in plain words: who says what, and what makes it believable.
//!
//! It says what the receipt says. Whether that holds is for [`verify`](crate::verify).

use crate::block_number;
use cryptlet_types::{Evidence, Receipt, TriggerSpec, region::SourceProof};
use serde::Serialize;

/// One link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// Which part of the path.
    pub part: &'static str,
    /// What is claimed.
    pub says: String,
    /// What makes it believable.
    pub because: String,
}

/// The links, from what a contract asked for to what the chain made of it.
#[must_use]
pub fn chain_of_trust(receipt: &Receipt) -> Vec<Link> {
    let mut links = vec![subscription(receipt), trigger(receipt)];
    links.extend(receipt.sources.iter().map(source));
    links.extend([
        region(receipt),
        evidence(&receipt.evidence),
        region_signature(receipt),
        cryptlet_signature(receipt),
        delivery(receipt),
        host(receipt),
    ]);
    links
}

fn link(part: &'static str, says: String, because: impl Into<String>) -> Link {
    Link {
        part,
        says,
        because: because.into(),
    }
}

fn subscription(receipt: &Receipt) -> Link {
    let asked = &receipt.subscription;
    link(
        "asked",
        format!(
            "contract {} asked cryptlet {} on chain {} to be woken {}",
            asked.consumer,
            asked.cryptlet.0,
            receipt.domain.chain_id,
            when(&asked.trigger)
        ),
        format!(
            "all that was asked is hashed into the subject {}, which the delegate {} made and the report names",
            asked.subject.0, receipt.domain.delegate
        ),
    )
}

fn when(trigger: &TriggerSpec) -> String {
    match trigger {
        TriggerSpec::Clock(clock) => format!("by the clock ({}, {})", clock.cron, clock.time_zone),
        TriggerSpec::Instants(_) => "at given moments".into(),
        TriggerSpec::Schedule(_) => "by the clock and a market's calendar".into(),
        TriggerSpec::Interval(_) => "at an interval".into(),
        TriggerSpec::Threshold(_) => "when a value crosses a bound".into(),
        TriggerSpec::Log(_) => "when a contract logs an event".into(),
        TriggerSpec::Blocks(_) => "by the number of a chain's blocks".into(),
        TriggerSpec::Application(_) => "when an application says so".into(),
        TriggerSpec::Request => "at once".into(),
    }
}

fn trigger(receipt: &Receipt) -> Link {
    let (says, because) = match &receipt.input.trigger {
        cryptlet_types::Trigger::Clock { due } => (
            format!("the moment came: {due} (Unix seconds)"),
            "the block's time: a report is neither issued before it is due nor taken when it has expired",
        ),
        cryptlet_types::Trigger::Request { at } => (
            format!("the request itself, made at {at} (Unix seconds)"),
            "the subject, which commits to that moment",
        ),
        cryptlet_types::Trigger::Threshold { observation } => (
            format!(
                "the value {} was observed at {}",
                observation.value, observation.at
            ),
            "the cryptlet's key signed the observation",
        ),
        cryptlet_types::Trigger::Step(step) => (
            format!("step {} of a computation", step.number),
            "the cryptlet's key signed the state that it goes on from",
        ),
        cryptlet_types::Trigger::Log(_) => (
            "a contract logged an event".into(),
            "the host's word: a region has no chain to ask",
        ),
        cryptlet_types::Trigger::Block(_) => (
            "a chain had a block of that number".into(),
            "the host's word: a region has no chain to ask",
        ),
        cryptlet_types::Trigger::Application(_) => (
            "an application said so".into(),
            "the host's word: it checked the application's signature",
        ),
    };
    link("woken", says, because)
}

fn source(proof: &SourceProof) -> Link {
    link(
        "source",
        format!(
            "{} answered {} with a body of SHA-256 {}",
            proof.url, proof.status, proof.body
        ),
        format!(
            "TLS that ended inside the region; the source showed the certificate {}",
            proof.certificate
        ),
    )
}

fn region(receipt: &Receipt) -> Link {
    let statement = &receipt.evidence.statement;
    link(
        "ran",
        format!(
            "package {} ran in a region that is isolated by {} ({})",
            receipt.package,
            statement.provider.as_str(),
            statement.controls.join(", ")
        ),
        format!(
            "the measurement {} covers container, settings and package; you trust it or you do not",
            statement.measurement.0
        ),
    )
}

fn evidence(evidence: &Evidence) -> Link {
    let hardware = match &evidence.attestation {
        Some(attestation) => format!(
            "hardware signed it ({}), by a chain of certificates to its vendor, and the host {} after it",
            attestation.provider().as_str(),
            evidence.host
        ),
        None => format!(
            "the word of the host {} alone: no hardware is below this kind of region",
            evidence.host
        ),
    };
    link(
        "evidence",
        format!(
            "the region has the key {}, made inside, at {} (Unix seconds)",
            evidence.statement.region_key, evidence.made_at
        ),
        hardware,
    )
}

fn region_signature(receipt: &Receipt) -> Link {
    link(
        "region's signature",
        "this very input and these sources led to this very report in that region".into(),
        format!(
            "signed by the region's key {}",
            receipt.evidence.statement.region_key
        ),
    )
}

fn cryptlet_signature(receipt: &Receipt) -> Link {
    let report = &receipt.report.report;
    link(
        "cryptlet's signature",
        format!(
            "report {} of {} bytes, to be taken from {} to {} (Unix seconds)",
            report.sequence,
            report.payload.len(),
            report.issued_at,
            report.valid_until
        ),
        format!(
            "signed by {}, a key that the register has enrolled for the cryptlet; the chain checked it before the callback",
            receipt.report.signer
        ),
    )
}

fn delivery(receipt: &Receipt) -> Link {
    let block = block_number(&receipt.inclusion);
    let block = block.map_or("a block".to_owned(), |number| format!("block {number}"));
    link(
        "delivered",
        format!("the delegate consumed it in {block}, once and for all"),
        "Merkle proofs of transaction and result against the block's header, whose hash you trust",
    )
}

fn host(receipt: &Receipt) -> Link {
    link(
        "the rest",
        format!(
            "package and policy (epoch {}) were those in force",
            receipt.policy_epoch
        ),
        format!(
            "the word of the host {}, which signed the whole receipt",
            receipt.evidence.host
        ),
    )
}
