//! `cryptlet verify`: receipts, offline.

use super::read_bounded;
use crate::{
    args::VerifyOptions,
    error::{CliError, Doing},
    screen::{Paint, painted, say, say_json},
};
use alloy::primitives::{Address, Bytes};
use cryptlet_audit::{Check, Link, TrustRoots, Verdict, chain_of_trust, region_statement, verify};
use cryptlet_types::{Measurement, Receipt, bounded::MAX_RECEIPT_BYTES};
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

const NAME_ROOTS: &str = "name the file of what you believe beforehand: --trust FILE";

/// The result for one file, as `--json` prints it.
#[derive(Serialize)]
struct Line<'a> {
    file: &'a Path,
    trust: &'a Path,
    trust_came_with_receipt: bool,
    holds: bool,
    checks: &'a [Check],
    #[serde(skip_serializing_if = "<[Link]>::is_empty")]
    chain_of_trust: &'a [Link],
    #[serde(skip_serializing_if = "Option::is_none")]
    region_proof: Option<&'a RegionProof>,
}

/// What a contract is shown that asks which code said it (`IsolatedRegion.sol`).
#[derive(Serialize)]
struct RegionProof {
    host: Address,
    measurement: Measurement,
    /// ABI-encoded `(Evidence, Statement, bytes)`.
    arguments: Bytes,
}

impl RegionProof {
    /// That of a receipt; none of one whose input has no encoding.
    fn of(receipt: &Receipt) -> Option<Self> {
        let said = region_statement(receipt).ok()?;
        let evidence = &receipt.evidence;
        Some(Self {
            host: evidence.host,
            measurement: said.measurement,
            arguments: evidence.for_contracts(&said, &receipt.report.region_signature),
        })
    }
}

/// What came of one file.
struct Judged {
    summary: String,
    verdict: Verdict,
    chain: Vec<Link>,
    proof: Option<RegionProof>,
}

pub(crate) fn run(options: &VerifyOptions) -> Result<ExitCode, CliError> {
    let mut all = true;
    let mut shown: Option<PathBuf> = None;
    for file in &options.files {
        let trust = match &options.trust {
            Some(path) => path.clone(),
            None => find_trust(file)?,
        };
        if !options.json && shown.as_ref() != Some(&trust) {
            say(format_args!(
                "trust roots: {}{}",
                trust.display(),
                found_beside(options)
            ));
            shown = Some(trust.clone());
        }
        let judged = check_file(file, &trust)?;
        let verdict = &judged.verdict;
        all &= verdict.holds();
        if options.json {
            let line = Line {
                file,
                trust: &trust,
                trust_came_with_receipt: options.trust.is_none(),
                holds: verdict.holds(),
                checks: &verdict.checks,
                chain_of_trust: &judged.chain,
                region_proof: judged.proof.as_ref(),
            };
            say_json(serde_json::to_string(&line).doing("cannot write JSON")?);
        } else {
            show(file, &judged);
            if options.files.len() == 1 {
                show_chain(&judged.chain);
            }
        }
    }
    Ok(if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Roots that came with the receipts prove nothing to a stranger, and are said to have come with them.
fn found_beside(options: &VerifyOptions) -> &'static str {
    match options.trust {
        Some(_) => "",
        None => "  (they came with the receipts; an auditor brings his own: --trust FILE)",
    }
}

/// Checks one file. A file that cannot be read or is no receipt fails the check `form`; trust roots that cannot be read end the command.
fn check_file(file: &Path, trust: &Path) -> Result<Judged, CliError> {
    let reading = format!("trust roots {}", trust.display());
    let roots = read_bounded(trust, MAX_RECEIPT_BYTES)
        .and_then(|bytes| TrustRoots::from_json(&bytes).doing(reading))
        .map_err(|error| error.next(NAME_ROOTS))?;
    let read = read_bounded(file, MAX_RECEIPT_BYTES).map_err(|error| error.to_string());
    let receipt = read.and_then(|bytes| {
        Receipt::from_json(&bytes).map_err(|error| format!("not a receipt: {error}"))
    });
    match receipt {
        Ok(receipt) => {
            let report = &receipt.report.report;
            let summary = format!("job {} sequence {}", receipt.job, report.sequence);
            let verdict = verify(&receipt, &roots);
            let proof = verdict.holds().then(|| RegionProof::of(&receipt));
            Ok(Judged {
                summary,
                verdict,
                chain: chain_of_trust(&receipt),
                proof: proof.flatten(),
            })
        }
        Err(error) => {
            let failure = Some(error);
            let verdict = Verdict {
                checks: vec![Check {
                    name: "form",
                    failure,
                }],
            };
            Ok(Judged {
                summary: String::new(),
                verdict,
                chain: Vec::new(),
                proof: None,
            })
        }
    }
}

/// Who says what, and what makes it believable.
fn show_chain(chain: &[Link]) {
    for Link {
        part,
        says,
        because,
    } in chain
    {
        say(format_args!("\n{}", painted(part, Paint::Dim)));
        say(format_args!("  {says}"));
        say(format_args!("  because: {because}"));
    }
}

fn show(file: &Path, judged: &Judged) {
    let Judged {
        summary, verdict, ..
    } = judged;
    if verdict.holds() {
        let count = verdict.checks.len();
        say(format_args!(
            "{} {}  {summary}  {count} checks",
            painted("ok  ", Paint::Good),
            file.display()
        ));
        return;
    }
    say(format_args!(
        "{} {}  {summary}",
        painted("FAIL", Paint::Bad),
        file.display()
    ));
    for check in verdict.failures() {
        let reason = check.failure.as_deref().unwrap_or_default();
        say(format_args!("     {}: {reason}", check.name));
    }
}

/// `trust.json` beside the file, or one folder up.
fn find_trust(file: &Path) -> Result<PathBuf, CliError> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let above = folder.parent().unwrap_or(Path::new(".."));
    let places = [folder.join("trust.json"), above.join("trust.json")];
    places
        .into_iter()
        .find(|place| place.is_file())
        .ok_or_else(|| {
            CliError::new(format_args!("no trust roots for {}", file.display())).next(NAME_ROOTS)
        })
}
