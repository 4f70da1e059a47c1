//! The checks, one function each.

use crate::{
    TrustRoots,
    inclusion::{DeliveredCall, Handed, Included, included},
};
use cryptlet_seal::evidence::Expected;
use cryptlet_types::{
    Batch, Evidence, Policy, Receipt, Report, ReportDomain, SignedReport,
    policy::EvidenceRule,
    region::{FrameError, RegionStatement, RunInput, SourceProof, sources_digest},
    report::CompactSignature,
};
use serde::Serialize;

/// One check and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name, as the crate's documentation lists it.
    pub name: &'static str,
    /// Why it failed, in words; `None` if it holds.
    pub failure: Option<String>,
}

/// What came of all checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Every check, in order.
    pub checks: Vec<Check>,
}

impl Verdict {
    /// Whether every check holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.checks.is_empty() && self.failures().next().is_none()
    }

    /// The checks that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.failure.is_some())
    }
}

type Outcome = Result<(), String>;

/// Makes every check of `receipt` against `roots`.
#[must_use]
pub fn verify(receipt: &Receipt, roots: &TrustRoots) -> Verdict {
    let block = included(&receipt.inclusion, roots);
    let on_block = |check: fn(&Receipt, &TrustRoots, &Included) -> Outcome| match &block {
        Ok(included) => check(receipt, roots, included),
        Err(reason) => Err(reason.clone()),
    };
    let outcomes = [
        ("form", form(receipt)),
        ("domain", domain(receipt, roots)),
        ("signature", signature(receipt, roots)),
        ("measurement", measurement(receipt, roots)),
        ("evidence", evidence(receipt, roots)),
        ("region", region(receipt)),
        ("host", host(receipt)),
        ("block", block.as_ref().map(drop).map_err(Clone::clone)),
        ("transaction", on_block(transaction)),
        ("inclusion", on_block(inclusion)),
        ("time", on_block(time)),
    ];
    let check = |(name, outcome): (&'static str, Outcome)| Check {
        name,
        failure: outcome.err(),
    };
    Verdict {
        checks: outcomes.into_iter().map(check).collect(),
    }
}

fn require(holds: bool, otherwise: impl Into<String>) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

/// The receipt's parts speak of the same thing: what the input says follows from what the subject commits to, and the
/// rest repeats the input.
fn form(receipt: &Receipt) -> Outcome {
    let (input, said) = (&receipt.input, &receipt.report.report);
    input.check().map_err(|error| format!("input: {error}"))?;
    require(
        input.domain == receipt.domain,
        "input: another chain or delegate",
    )?;
    require(
        input.subscription == receipt.subscription,
        "input: another subscription",
    )?;
    require(input.job == receipt.job, "input: another job")?;
    require(
        input.event() == receipt.event,
        "event: not the one that the input answers",
    )?;
    let expected = input.report(said.region, said.payload.clone());
    require(
        expected.delegation == said.delegation,
        "report: another delegation than the input's",
    )?;
    require(
        expected == *said,
        "report: another cryptlet, subscription, sequence or time than the input's",
    )
}

fn domain(receipt: &Receipt, roots: &TrustRoots) -> Outcome {
    let (found, trusted) = (receipt.domain, roots.domain);
    require(
        found.chain_id == trusted.chain_id,
        format!("chain {}, trusted is {}", found.chain_id, trusted.chain_id),
    )?;
    require(
        found.delegate == trusted.delegate,
        format!(
            "delegate {}, trusted is {}",
            found.delegate, trusted.delegate
        ),
    )
}

fn signature(receipt: &Receipt, roots: &TrustRoots) -> Outcome {
    let SignedReport {
        report,
        signer,
        signature,
        ..
    } = &receipt.report;
    cryptlet_seal::check(report.digest(&receipt.domain), signature, *signer)
        .map_err(|error| error.to_string())?;
    let trusted = roots
        .cryptlets
        .get(&report.cryptlet)
        .is_some_and(|known| known.signers.contains(signer));
    require(
        trusted,
        format!(
            "{signer} is not a trusted signer of cryptlet {}",
            report.cryptlet
        ),
    )
}

fn measurement(receipt: &Receipt, roots: &TrustRoots) -> Outcome {
    let report = &receipt.report.report;
    let stated = receipt.evidence.statement.measurement;
    require(
        report.region == stated,
        "report and evidence name different measurements",
    )?;
    let known = roots.cryptlets.get(&report.cryptlet);
    let trusted = known.is_some_and(|known| known.measurements.contains(&stated));
    require(
        trusted,
        format!(
            "{stated} is not a trusted measurement of cryptlet {}",
            report.cryptlet
        ),
    )
}

fn evidence(receipt: &Receipt, roots: &TrustRoots) -> Outcome {
    let evidence = &receipt.evidence;
    let provider = evidence.statement.provider;
    require(
        roots.providers.contains(&provider),
        format!("provider {} is not trusted", provider.as_str()),
    )?;
    require(
        roots.hosts.contains(&evidence.host),
        format!("host {} is not trusted", evidence.host),
    )?;
    let issued = receipt.report.report.issued_at;
    require(
        evidence.made_at <= issued,
        format!("made at {}, after the report of {issued}", evidence.made_at),
    )?;
    cryptlet_attest::verify(evidence, &expected(evidence, &policy(roots)))
        .map_err(|error| error.to_string())
}

/// The auditor's roots as the policy that evidence is judged by.
fn policy(roots: &TrustRoots) -> Policy {
    let rule = roots.evidence.clone().unwrap_or_default();
    Policy {
        isolation: roots.providers.clone(),
        evidence: EvidenceRule {
            // How old evidence may be when a report is made is the host's policy; an auditor comes later anyway.
            max_age_seconds: u64::MAX,
            ..rule
        },
        ..Policy::closed(0)
    }
}

/// What an auditor, who set no challenge, can expect: that it is of the moment that it names. Measurement and host are
/// compared with the roots by checks of their own.
fn expected<'a>(evidence: &Evidence, policy: &'a Policy) -> Expected<'a> {
    Expected {
        policy,
        measurement: evidence.statement.measurement,
        nonce: evidence.statement.nonce,
        host: evidence.host,
        from: evidence.made_at,
        to: evidence.made_at,
    }
}

/// What the region of a receipt said beside its report.
///
/// # Errors
/// None in practice: every value has an encoding.
pub fn region_statement(receipt: &Receipt) -> Result<RegionStatement, FrameError> {
    let Receipt {
        report,
        domain,
        input,
        sources,
        ..
    } = receipt;
    stated(report, domain, input, sources)
}

/// What the region's key signs beside a report that came of this.
pub(crate) fn stated(
    report: &SignedReport,
    domain: &ReportDomain,
    input: &RunInput,
    sources: &[SourceProof],
) -> Result<RegionStatement, FrameError> {
    Ok(RegionStatement {
        measurement: report.report.region,
        report: report.report.digest(domain),
        input: input.digest()?,
        sources: sources_digest(sources)?,
    })
}

fn region(receipt: &Receipt) -> Outcome {
    let statement = region_statement(receipt).map_err(|error| error.to_string())?;
    let key = receipt.evidence.statement.region_key;
    cryptlet_seal::check(statement.digest(), &receipt.report.region_signature, key)
        .map_err(|error| error.to_string())
}

/// The host that the evidence names signed the whole receipt; whether it is trusted is the check `evidence`.
fn host(receipt: &Receipt) -> Outcome {
    let digest = receipt.digest().map_err(|error| error.to_string())?;
    let host = receipt.evidence.host;
    cryptlet_seal::check(digest, &receipt.host_signature, host).map_err(|error| error.to_string())
}

/// A transaction that calls the delegate delivers this very report. One that reaches the delegate through another
/// contract cannot be read here: the delegate's log, which the next check asks for, commits to every field.
fn transaction(receipt: &Receipt, roots: &TrustRoots, block: &Included) -> Outcome {
    let delegate = roots.domain.delegate;
    if !block.calls(delegate) {
        return Ok(());
    }
    match block.handed() {
        None => Err("the transaction calls the delegate, but does not deliver".into()),
        Some(Handed::One(call)) => alone(receipt, &call),
        Some(Handed::Batch(reports, signature)) => together(receipt, &reports, &signature),
    }
}

/// The report is one of a batch that its signer signed as a whole.
fn together(receipt: &Receipt, reports: &[Report], signature: &CompactSignature) -> Outcome {
    let SignedReport { report, signer, .. } = &receipt.report;
    require(
        reports.contains(report),
        "the transaction delivers other reports",
    )?;
    let batch = Batch::of(reports).map_err(|error| error.to_string())?;
    let digest = batch.digest(&receipt.domain);
    cryptlet_seal::check(digest, signature, *signer)
        .map_err(|error| format!("the batch's signature: {error}"))
}

/// The transaction brings the report by itself.
fn alone(receipt: &Receipt, call: &DeliveredCall) -> Outcome {
    let SignedReport {
        report: stated,
        signature,
        ..
    } = &receipt.report;
    require(
        call.report == stated.to_abi(),
        "the transaction delivers another report",
    )?;
    require(
        call.signature == *signature,
        "the transaction carries another signature",
    )?;
    let delegation = receipt.input.delegation.as_ref();
    require(
        call.delegation == delegation.map(|signed| signed.delegation.to_abi()),
        "the transaction carries another delegation",
    )
}

fn inclusion(receipt: &Receipt, roots: &TrustRoots, block: &Included) -> Outcome {
    let report = &receipt.report.report;
    let digest = report.digest(&receipt.domain);
    let logs = block.delivered_logs(roots.domain.delegate);
    let ours = logs.iter().find(|log| log.digest == digest);
    let log = ours.ok_or("the delegate did not log that it consumed this report")?;
    let same = log.subject == report.subject.0
        && log.cryptlet == report.cryptlet.0
        && log.sequence == report.sequence;
    require(
        same,
        "the delegate's log speaks of another subscription or sequence",
    )?;
    require(
        log.signer == receipt.report.signer,
        format!("the delegate saw signer {}", log.signer),
    )
}

fn time(receipt: &Receipt, _roots: &TrustRoots, block: &Included) -> Outcome {
    let (report, made) = (&receipt.report.report, block.header.timestamp);
    let (from, to) = (report.issued_at, report.valid_until);
    require(
        (from..=to).contains(&made),
        format!("block of {made}, report valid from {from} to {to}"),
    )?;
    require(
        receipt.input.trigger.due() <= from,
        format!("report of {from}, before its trigger was due"),
    )
}
