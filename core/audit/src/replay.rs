//! Whether a run, repeated from its recording, says what its receipt says.
//!
//! What is compared here is only that. Whether the receipt itself holds is for [`verify`](crate::verify) to say.
//!
//! 1. `run`: the recording is of the receipt's job
//! 2. `package`: it is of the receipt's package, which is the one at hand
//! 3. `measurement`: package, settings and container at hand measure what the report says
//! 4. `recording`: what it says of sources has the digests that the region signed, and its messages are signed by the same
//!    keys as the report
//! 5. `replay`: the run came to its end, and asked for all that was recorded and nothing else
//! 6. `payload`: it said the same
//! 7. `sources`: what it was told has the digest that the region signed
//! 8. `fuel`: it used up as much
//! 9. `state`: it goes on in the same state, or not at all
//!
//! Nobody signs for the last two: they are compared with the host's own words.

use crate::{Check, Verdict, checks::stated};
use alloy_primitives::{Address, B256, keccak256};
use cryptlet_seal::{check, recorded_sources, recover};
use cryptlet_types::{
    Measurement, MessageStatement, Receipt, RunRecord, Sha256Digest, SignedReport,
    recording::{Recorded, RecordingFile, Replayed, ReplayedOutcome, SignedMessage},
    region::{RunInput, SourceProof, sources_digest},
};

/// What is said of a run that is to be repeated.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Package that ran.
    pub package: Sha256Digest,
    /// What the run depended on.
    pub input: &'a RunInput,
    /// What its sources said.
    pub sources: &'a [SourceProof],
    /// What was said.
    pub report: &'a SignedReport,
    /// Fuel that it used up, where somebody has written it down beside the recording.
    pub fuel_used: Option<u64>,
}

impl<'a> From<&'a Receipt> for Claim<'a> {
    fn from(receipt: &'a Receipt) -> Self {
        Self {
            package: receipt.package,
            input: &receipt.input,
            sources: &receipt.sources,
            report: &receipt.report,
            fuel_used: None,
        }
    }
}

impl<'a> Claim<'a> {
    /// What a journal says of a run of `package`.
    #[must_use]
    pub fn of(package: Sha256Digest, run: &'a RunRecord) -> Self {
        Self {
            package,
            input: &run.input,
            sources: &run.sources,
            report: &run.report,
            fuel_used: Some(run.fuel_used),
        }
    }

    /// What is compared of `recording` before anything runs. `package` is at hand, and with the recording's settings it would
    /// measure `measured` in the container that is at hand.
    #[must_use]
    pub fn premises(
        &self,
        recording: &RecordingFile,
        package: Sha256Digest,
        measured: Measurement,
    ) -> Vec<Check> {
        let job = self.input.job;
        let stated = self.report.report.region;
        vec![
            same("run", "the recording is of job", recording.run.job, job),
            Check {
                name: "package",
                failure: differs("the recording is of", recording.package, self.package)
                    .or_else(|| differs("at hand is", package, self.package)),
            },
            same(
                "measurement",
                "another container or other settings: here it measures",
                measured,
                stated,
            ),
            Check {
                name: "recording",
                failure: self
                    .other_sources(&recording.recorded)
                    .or_else(|| self.other_signer(&recording.recorded)),
            },
        ]
    }

    /// What is compared when the run was repeated, or for which reason it could not be.
    #[must_use]
    pub fn compare(
        &self,
        recording: &RecordingFile,
        replayed: &Result<Replayed, String>,
    ) -> Vec<Check> {
        let after = |name, compare: &dyn Fn(&Replayed) -> Option<String>| Check {
            name,
            failure: match replayed {
                Ok(replayed) => compare(replayed),
                Err(_) => Some("the run was not repeated to its end".to_owned()),
            },
        };
        let fuel = |replayed: &Replayed| {
            differs("used up", replayed.fuel_used, recording.fuel_used).or_else(|| {
                let noted = self.fuel_used?;
                differs("used up", replayed.fuel_used, noted)
            })
        };
        vec![
            Check {
                name: "replay",
                failure: replayed.as_ref().err().cloned(),
            },
            after("payload", &|replayed| self.other_payload(replayed)),
            after("sources", &|replayed| match sources_digest(self.sources) {
                Ok(signed) => differs("what it was told has", replayed.sources, signed),
                Err(error) => Some(error.to_string()),
            }),
            after("fuel", &fuel),
            after("state", &|replayed| {
                let shown = |state: Option<B256>| {
                    state.map_or("none".to_owned(), |state| state.to_string())
                };
                differs("goes on in", shown(replayed.state), shown(recording.state))
            }),
        ]
    }

    /// [`Claim::premises`] and [`Claim::compare`] together.
    #[must_use]
    pub fn verdict(premises: Vec<Check>, compared: Vec<Check>) -> Verdict {
        let checks = premises.into_iter().chain(compared).collect();
        Verdict { checks }
    }

    /// Where the recording's sources are not those that the region signed.
    fn other_sources(&self, recorded: &Recorded) -> Option<String> {
        let Recorded::Whole(recording) = recorded else {
            return Some("it was too large and was not kept".to_owned());
        };
        let recorded = recorded_sources(recording);
        let pairs = recorded.iter().zip(self.sources).enumerate();
        for (index, (recorded, signed)) in pairs {
            if recorded != signed {
                let what = other_source(recorded, signed);
                return Some(format!("response {}: {what}", index.saturating_add(1)));
            }
        }
        let what = differs("has responses:", recorded.len(), self.sources.len());
        what.map(|what| format!("it {what}"))
    }

    /// Where a message of the recording is not signed by the keys that signed the report.
    fn other_signer(&self, recorded: &Recorded) -> Option<String> {
        let Recorded::Whole(recording) = recorded else {
            return None;
        };
        let region = self.region_key();
        for (index, signed) in recording.signed.iter().enumerate() {
            if let Some(whose) = self.forged(signed, region) {
                let number = index.saturating_add(1);
                return Some(format!("message {number}: not signed by the {whose} key"));
            }
        }
        None
    }

    /// Whose signature of a message is missing or another's. The region's key is who countersigned the report.
    fn forged(&self, signed: &SignedMessage, region: Option<Address>) -> Option<&'static str> {
        let statement = MessageStatement {
            measurement: self.report.report.region,
            message: signed.message,
        };
        let by_region = recover(statement.digest(), &signed.signatures.region).ok();
        if region.is_none() || by_region != region {
            return Some("region's");
        }
        let signature = signed.signatures.cryptlet?;
        let signer = self.report.signer;
        let held = check(signed.message, &signature, signer);
        held.is_err().then_some("cryptlet's")
    }

    fn region_key(&self) -> Option<Address> {
        let domain = &self.input.domain;
        let statement = stated(self.report, domain, self.input, self.sources).ok()?;
        recover(statement.digest(), &self.report.region_signature).ok()
    }

    fn other_payload(&self, replayed: &Replayed) -> Option<String> {
        let said = &self.report.report.payload;
        match &replayed.outcome {
            ReplayedOutcome::Payload(payload) if payload == said => None,
            ReplayedOutcome::Payload(payload) => Some(format!(
                "{} bytes of Keccak-256 {}, the report has {} bytes of {}",
                payload.len(),
                keccak256(payload),
                said.len(),
                keccak256(said)
            )),
            ReplayedOutcome::Skip(reason) => Some(format!("skipped: {reason}")),
        }
    }
}

fn same<T: PartialEq + std::fmt::Display>(
    name: &'static str,
    what: &str,
    found: T,
    stated: T,
) -> Check {
    Check {
        name,
        failure: differs(what, found, stated),
    }
}

fn differs<T: PartialEq + std::fmt::Display>(what: &str, found: T, stated: T) -> Option<String> {
    (found != stated).then(|| format!("{what} {found}, stated is {stated}"))
}

fn other_source(recorded: &SourceProof, signed: &SourceProof) -> String {
    let parts = [
        differs("URL", &recorded.url, &signed.url),
        differs("request", &recorded.request, &signed.request),
        differs("status", &recorded.status, &signed.status),
        differs("certificate", &recorded.certificate, &signed.certificate),
        differs("body", &recorded.body, &signed.body),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Bytes;
    use cryptlet_seal::SigningKey;
    use cryptlet_types::{
        JobId, Limits, MessageSignatures, RunId,
        policy::RecordingRule,
        recording::{Exchange, ExchangeOutcome, RecordedResponse, Recording},
        region::RegionSettings,
    };

    const RECEIPT: &[u8] = include_bytes!("../../../vectors/receipt/market-watcher.json");
    const ELSE: B256 = B256::repeat_byte(7);

    /// A receipt whose one source has said `rates`, a recording of that, and what a replay would give.
    fn honest() -> (Receipt, RecordingFile, Replayed) {
        let mut receipt = Receipt::from_json(RECEIPT).unwrap();
        let body = Bytes::from_static(b"rates");
        receipt.sources[0].body = cryptlet_seal::sha256(&body);
        let source = &receipt.sources[0];
        let response = RecordedResponse {
            status: source.status,
            certificate: source.certificate,
            headers: vec![],
            body,
        };
        let exchange = Exchange {
            url: source.url.clone(),
            request: source.request,
            outcome: ExchangeOutcome::Response(response),
        };
        let file = RecordingFile {
            version: 1,
            run: RunId::first(receipt.job),
            package: receipt.package,
            settings: RegionSettings {
                limits: Limits::default(),
                egress: vec![],
                recording: RecordingRule::Exchanges,
            },
            fuel_used: 5,
            state: None,
            recorded: Recorded::Whole(Recording {
                exchanges: vec![exchange],
                signed: vec![],
            }),
        };
        let replayed = Replayed {
            outcome: ReplayedOutcome::Payload(receipt.report.report.payload.clone()),
            state: None,
            sources: sources_digest(&receipt.sources).unwrap(),
            fuel_used: 5,
        };
        (receipt, file, replayed)
    }

    fn verdict(receipt: &Receipt, file: &RecordingFile, replayed: Replayed) -> Verdict {
        let claim = Claim::from(receipt);
        let stated = receipt.report.report.region;
        let premises = claim.premises(file, receipt.package, stated);
        Claim::verdict(premises, claim.compare(file, &Ok(replayed)))
    }

    /// Names of the failed checks, and what the first says.
    fn failed(verdict: &Verdict) -> (Vec<&'static str>, String) {
        let names = verdict.failures().map(|check| check.name).collect();
        let first = verdict.failures().next();
        (
            names,
            first
                .and_then(|check| check.failure.clone())
                .unwrap_or_default(),
        )
    }

    fn exchange(file: &mut RecordingFile) -> &mut Exchange {
        let Recorded::Whole(recording) = &mut file.recorded else {
            panic!("nothing was recorded")
        };
        &mut recording.exchanges[0]
    }

    fn response(file: &mut RecordingFile) -> &mut RecordedResponse {
        match &mut exchange(file).outcome {
            ExchangeOutcome::Response(response) => response,
            ExchangeOutcome::Failure(failure) => panic!("{failure:?}"),
        }
    }

    #[test]
    fn what_is_the_same_holds() {
        let (receipt, file, replayed) = honest();
        let verdict = verdict(&receipt, &file, replayed);
        assert!(verdict.holds(), "{verdict:?}");
        assert_eq!(verdict.checks.len(), 9);
    }

    #[test]
    fn every_part_of_a_recording_that_differs_is_named() {
        type Change = (&'static str, &'static str, fn(&mut RecordingFile));
        let changes: [Change; 9] = [
            ("run", "of job", |file| file.run.job = JobId(ELSE)),
            ("package", "recording is of", |file| {
                file.package = Sha256Digest(ELSE)
            }),
            ("recording", "response 1: URL", |file| {
                exchange(file).url.push('x')
            }),
            ("recording", "response 1: request", |file| {
                exchange(file).request = Sha256Digest(ELSE);
            }),
            ("recording", "response 1: status", |file| {
                response(file).status = 404
            }),
            ("recording", "response 1: certificate", |file| {
                response(file).certificate = Sha256Digest(ELSE);
            }),
            ("recording", "response 1: body", |file| {
                response(file).body = Bytes::new()
            }),
            ("recording", "has responses: 0, stated is 1", |file| {
                file.recorded = Recorded::Whole(Recording::default());
            }),
            ("recording", "too large", |file| {
                file.recorded = Recorded::TooLarge
            }),
        ];
        for (name, part, change) in changes {
            let (receipt, mut file, replayed) = honest();
            change(&mut file);
            let (names, reason) = failed(&verdict(&receipt, &file, replayed));
            assert_eq!(names, [name], "{part}");
            assert!(reason.contains(part), "{reason}: {part}");
        }
    }

    #[test]
    fn messages_are_those_of_the_reports_own_keys() {
        let (cryptlet, region, forger) = (
            SigningKey::generate(),
            SigningKey::generate(),
            SigningKey::generate(),
        );
        let (mut receipt, mut file, replayed) = honest();
        let stated = crate::region_statement(&receipt).unwrap().digest();
        receipt.report.signer = cryptlet.address();
        receipt.report.region_signature = region.sign(stated).unwrap();
        let statement = MessageStatement {
            measurement: receipt.report.report.region,
            message: ELSE,
        };
        let signed = |cryptlet: Option<&SigningKey>, region: &SigningKey| SignedMessage {
            message: ELSE,
            signatures: MessageSignatures {
                cryptlet: cryptlet.map(|key| key.sign(ELSE).unwrap()),
                region: region.sign(statement.digest()).unwrap(),
            },
        };
        let mut told = |last| {
            let Recorded::Whole(recording) = &mut file.recorded else {
                panic!("nothing was recorded")
            };
            recording.signed = vec![
                signed(Some(&cryptlet), &region),
                signed(None, &region),
                last,
            ];
            failed(&verdict(&receipt, &file, replayed.clone()))
        };
        assert_eq!(told(signed(None, &region)), (vec![], String::new()));
        let (names, reason) = told(signed(Some(&forger), &region));
        assert_eq!(names, ["recording"]);
        assert!(
            reason.contains("message 3: not signed by the cryptlet's"),
            "{reason}"
        );
        let (names, reason) = told(signed(Some(&cryptlet), &forger));
        assert_eq!(names, ["recording"]);
        assert!(
            reason.contains("message 3: not signed by the region's"),
            "{reason}"
        );
        let mut other = signed(Some(&cryptlet), &region);
        other.message = B256::ZERO;
        assert_eq!(told(other).0, ["recording"]);
    }

    #[test]
    fn every_part_of_a_replay_that_differs_is_named() {
        type Change = (&'static str, &'static str, fn(&mut Replayed));
        let changes: [Change; 5] = [
            ("payload", "Keccak-256", |replayed| {
                replayed.outcome = ReplayedOutcome::Payload(Bytes::new());
            }),
            ("payload", "skipped: closed", |replayed| {
                replayed.outcome = ReplayedOutcome::Skip("closed".into());
            }),
            ("sources", "what it was told", |replayed| {
                replayed.sources = ELSE
            }),
            ("fuel", "used up 6, stated is 5", |replayed| {
                replayed.fuel_used = 6
            }),
            ("state", "stated is none", |replayed| {
                replayed.state = Some(ELSE)
            }),
        ];
        for (name, part, change) in changes {
            let (receipt, file, mut replayed) = honest();
            change(&mut replayed);
            let (names, reason) = failed(&verdict(&receipt, &file, replayed));
            assert_eq!(names, [name], "{part}");
            assert!(reason.contains(part), "{reason}: {part}");
        }
    }

    #[test]
    fn another_package_or_container_at_hand_is_named() {
        let (receipt, file, _) = honest();
        let claim = Claim::from(&receipt);
        let other = (Sha256Digest(ELSE), Measurement(ELSE));
        let names: Vec<_> = claim
            .premises(&file, other.0, other.1)
            .into_iter()
            .filter(|check| check.failure.is_some())
            .map(|check| check.name)
            .collect();
        assert_eq!(names, ["package", "measurement"]);
    }

    #[test]
    fn fuel_that_the_journal_has_otherwise_is_named() {
        let (receipt, file, replayed) = honest();
        let claim = Claim {
            fuel_used: Some(4),
            ..Claim::from(&receipt)
        };
        let compared = claim.compare(&file, &Ok(replayed));
        let (names, reason) = failed(&Claim::verdict(vec![], compared));
        assert_eq!(
            (names, reason.as_str()),
            (vec!["fuel"], "used up 5, stated is 4")
        );
    }

    #[test]
    fn a_run_that_could_not_be_repeated_is_not_the_same() {
        let (receipt, file, _) = honest();
        let compared = Claim::from(&receipt).compare(&file, &Err("diverged".into()));
        let (names, reason) = failed(&Claim::verdict(vec![], compared));
        assert_eq!(names, ["replay", "payload", "sources", "fuel", "state"]);
        assert_eq!(reason, "diverged");
    }
}
