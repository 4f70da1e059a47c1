//! Vouching for a region, and checking who vouched for what.
//!
//! The host that created a region and compared its measurement always vouches with its own key. Providers without hardware
//! have no more than that: whoever accepts such evidence trusts the host; policy decides. What hardware says is judged by a
//! [`JudgeAttestation`], of which there is one outside of tests, in `cryptlet-attest`: it is apart so that the container does
//! not carry the vendors' formats in what is measured.

use crate::{SealError, SigningKey, check};
use alloy_primitives::{Address, B256};
use cryptlet_types::{
    Attestation, Evidence, EvidenceStatement, Measurement, MessageStatement, Policy, UnixSeconds,
    attestation::MAX_ATTESTATION_BYTES, policy::EvidenceRule, report::CompactSignature,
};

/// Judges what hardware says.
pub trait JudgeAttestation {
    /// Whether `attestation` binds `bound`, chains to its vendor's root at `at`, and is of an image and a state that `rule`
    /// accepts. `nonce` is the challenge, for formats that have a field for it.
    ///
    /// # Errors
    /// Why it is not believed, for people.
    fn judge(
        &self,
        attestation: &Attestation,
        bound: B256,
        nonce: B256,
        rule: &EvidenceRule,
        at: UnixSeconds,
    ) -> Result<(), String>;
}

/// Believes no hardware: whoever has no verifiers has no other choice.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHardware;

impl JudgeAttestation for NoHardware {
    fn judge(
        &self,
        _: &Attestation,
        _: B256,
        _: B256,
        _: &EvidenceRule,
        _: UnixSeconds,
    ) -> Result<(), String> {
        Err("nobody here can judge it".into())
    }
}

/// What evidence must say to be believed.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    /// Policy in force: which providers are accepted, which controls are demanded, how old evidence may be.
    pub policy: &'a Policy,
    /// What should run.
    pub measurement: Measurement,
    /// The challenge that was set. An auditor, who set none, takes it from the evidence.
    pub nonce: B256,
    /// The host whose word counts.
    pub host: Address,
    /// Earliest moment of vouching that is accepted; policy's `evidence.maxAgeSeconds` before `to` at the earliest.
    pub from: UnixSeconds,
    /// Latest moment of vouching that is accepted: the present.
    pub to: UnixSeconds,
}

/// Evidence with the host's signature.
///
/// # Errors
/// Only if signing fails, which does not happen in practice.
pub fn vouch(
    statement: EvidenceStatement,
    made_at: UnixSeconds,
    host: &SigningKey,
) -> Result<Evidence, SealError> {
    let signature = host.sign(statement.digest(made_at))?;
    Ok(Evidence {
        statement,
        made_at,
        host: host.address(),
        signature,
        attestation: None,
    })
}

/// Checks evidence against what is expected. Whoever can judge hardware calls `cryptlet_attest::verify`, which is this with
/// its verifiers.
///
/// # Errors
/// Says what does not fit: provider, controls, measurement, challenge, age, signature or attestation.
pub fn verify(
    evidence: &Evidence,
    expected: &Expected<'_>,
    hardware: &dyn JudgeAttestation,
) -> Result<(), SealError> {
    let statement = &evidence.statement;
    if !expected.policy.accepts(statement.provider) {
        return Err(SealError::ProviderRefused(statement.provider));
    }
    let demanded = &expected.policy.controls;
    if let Some(missing) = demanded
        .iter()
        .find(|name| !statement.controls.contains(name))
    {
        return Err(SealError::ControlMissing(missing.clone()));
    }
    if statement.measurement != expected.measurement {
        let (expected, found) = (expected.measurement, statement.measurement);
        return Err(SealError::WrongMeasurement { expected, found });
    }
    if statement.nonce != expected.nonce {
        return Err(SealError::WrongNonce);
    }
    let to = expected.to;
    let oldest = to.saturating_sub(expected.policy.evidence.max_age_seconds);
    let from = expected.from.max(oldest);
    if evidence.made_at < from || evidence.made_at > to {
        return Err(SealError::OutOfDate {
            made_at: evidence.made_at,
            from,
            to,
        });
    }
    check(
        statement.digest(evidence.made_at),
        &evidence.signature,
        expected.host,
    )?;
    attested(evidence, &expected.policy.evidence, hardware)
}

/// Whether `host` vouched for a region that runs what `said` names, and that region said it, by its `signature`
/// (`IsolatedRegionCheckSignature` of a message). Whenever that was; what hardware says is not looked at.
#[must_use]
pub fn said_in_region(
    evidence: &Evidence,
    host: Address,
    said: &MessageStatement,
    signature: &CompactSignature,
) -> bool {
    let statement = &evidence.statement;
    let vouched = || {
        check(
            statement.digest(evidence.made_at),
            &evidence.signature,
            host,
        )
    };
    statement.measurement == said.measurement
        && check(said.digest(), signature, statement.region_key).is_ok()
        && vouched().is_ok()
}

/// A provider that attests has an attestation of its own kind, and no other has one. It is judged as of the moment that the
/// host names: receipts outlive certificates, and how far that moment may lie is what `Expected` says.
fn attested(
    evidence: &Evidence,
    rule: &EvidenceRule,
    hardware: &dyn JudgeAttestation,
) -> Result<(), SealError> {
    let statement = &evidence.statement;
    let refuse = |reason: String| Err(SealError::Attestation(reason));
    match &evidence.attestation {
        None if statement.provider.attests() => refuse("missing".into()),
        None => Ok(()),
        Some(found) if found.provider() != statement.provider => refuse(format!(
            "is of {}, the region says that it is of {}",
            found.provider().as_str(),
            statement.provider.as_str()
        )),
        Some(found) if found.size() > MAX_ATTESTATION_BYTES => refuse(format!(
            "{} bytes, at most {MAX_ATTESTATION_BYTES}",
            found.size()
        )),
        Some(found) => hardware
            .judge(
                found,
                statement.bound(),
                statement.nonce,
                rule,
                evidence.made_at,
            )
            .map_err(SealError::Attestation),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptlet_types::{
        Limits, Provider,
        policy::{EvidenceRule, Retry, ServeRule, Signing, Whom},
        region::RegionStatement,
    };

    fn policy(isolation: Vec<Provider>) -> Policy {
        let retry = Retry {
            attempts: 1,
            first_millis: 1,
            longest_millis: 1,
        };
        Policy {
            version: 1,
            epoch: 1,
            publishers: Whom::Anyone,
            isolation,
            controls: vec!["seccomp".into()],
            egress: vec![],
            limits: Limits::default(),
            retry,
            signing: Signing::Ecdsa,
            evidence: EvidenceRule {
                max_age_seconds: 20,
                ..EvidenceRule::default()
            },
            serve: ServeRule {
                consumers: Whom::Anyone,
                minimum_interval_seconds: 0,
                minimum_validity_seconds: 1,
                maximum_callback_gas: 0,
            },
            ..Policy::closed(1)
        }
    }

    fn statement() -> EvidenceStatement {
        EvidenceStatement {
            provider: Provider::Process,
            controls: vec!["landlock".into(), "seccomp".into()],
            measurement: Measurement(B256::repeat_byte(1)),
            region_key: Address::repeat_byte(2),
            exchange_key: B256::repeat_byte(3),
            nonce: B256::repeat_byte(4),
        }
    }

    #[test]
    fn every_forgery_is_refused() {
        let host = SigningKey::generate();
        let good = vouch(statement(), 100, &host).unwrap();
        let accepting = policy(vec![Provider::Process]);
        let (measurement, nonce) = (statement().measurement, statement().nonce);
        let expected = Expected {
            policy: &accepting,
            measurement,
            nonce,
            host: host.address(),
            from: 90,
            to: 110,
        };
        assert_eq!(verify(&good, &expected, &NoHardware), Ok(()));

        let altered = |change: fn(&mut Evidence)| {
            let mut evidence = good.clone();
            change(&mut evidence);
            verify(&evidence, &expected, &NoHardware).unwrap_err()
        };
        let wrong_signer = |error| {
            matches!(
                error,
                SealError::WrongSigner { .. } | SealError::MalformedSignature
            )
        };
        assert!(wrong_signer(altered(|e| {
            e.statement.controls.remove(0);
        })));
        assert_eq!(
            altered(|e| e.statement.controls.truncate(1)),
            SealError::ControlMissing("seccomp".into())
        );
        assert!(wrong_signer(altered(
            |e| e.statement.region_key = Address::ZERO
        )));
        assert!(wrong_signer(altered(
            |e| e.statement.exchange_key = B256::ZERO
        )));
        assert!(wrong_signer(altered(|e| e.made_at += 1)));
        assert!(wrong_signer(altered(
            |e| e.signature.r = B256::repeat_byte(9)
        )));
        assert_eq!(
            altered(|e| e.statement.nonce = B256::ZERO),
            SealError::WrongNonce
        );
        let changed = altered(|e| e.statement.measurement = Measurement(B256::ZERO));
        assert!(matches!(changed, SealError::WrongMeasurement { .. }));

        let late = Expected {
            from: 101,
            ..expected.clone()
        };
        assert!(matches!(
            verify(&good, &late, &NoHardware),
            Err(SealError::OutOfDate { .. })
        ));
        let stale = Expected {
            from: 0,
            to: 121,
            ..expected.clone()
        };
        assert!(matches!(
            verify(&good, &stale, &NoHardware),
            Err(SealError::OutOfDate { from: 101, .. })
        ));
        let just = Expected { to: 120, ..stale };
        assert_eq!(verify(&good, &just, &NoHardware), Ok(()));
        let another = Expected {
            host: Address::ZERO,
            ..expected.clone()
        };
        assert!(matches!(
            verify(&good, &another, &NoHardware),
            Err(SealError::WrongSigner { .. })
        ));
        let nothing = policy(vec![]);
        let strict = Expected {
            policy: &nothing,
            ..expected
        };
        assert_eq!(
            verify(&good, &strict, &NoHardware),
            Err(SealError::ProviderRefused(Provider::Process))
        );
    }

    #[test]
    fn a_region_is_believed_for_its_own_words_alone() {
        let (host, region) = (SigningKey::generate(), SigningKey::generate());
        let stated = EvidenceStatement {
            region_key: region.address(),
            ..statement()
        };
        let good = vouch(stated.clone(), 100, &host).unwrap();
        let said = MessageStatement {
            measurement: stated.measurement,
            message: B256::repeat_byte(5),
        };
        let signature = region.sign(said.digest()).unwrap();
        let shown = |evidence: &Evidence, said, signature: &CompactSignature| {
            said_in_region(evidence, host.address(), &said, signature)
        };
        assert!(shown(&good, said, &signature));
        assert!(!said_in_region(&good, region.address(), &said, &signature));
        let another = MessageStatement {
            message: B256::ZERO,
            ..said
        };
        assert!(!shown(&good, another, &signature));
        let elsewhere = MessageStatement {
            measurement: Measurement(B256::ZERO),
            ..said
        };
        assert!(!shown(
            &good,
            elsewhere,
            &region.sign(elsewhere.digest()).unwrap()
        ));
        // A key of the forger's own in genuine evidence, and evidence that the forger vouched for.
        let forger = SigningKey::generate();
        let forged = forger.sign(said.digest()).unwrap();
        assert!(!shown(&good, said, &forged));
        let mut theirs = good.clone();
        theirs.statement.region_key = forger.address();
        assert!(!shown(&theirs, said, &forged));
        let own = vouch(theirs.statement, 100, &forger).unwrap();
        assert!(!shown(&own, said, &forged));
        // What the region signs beside a report is no message.
        let report = RegionStatement {
            measurement: said.measurement,
            report: said.message,
            input: B256::ZERO,
            sources: B256::ZERO,
        };
        assert!(!shown(&good, said, &region.sign(report.digest()).unwrap()));
        let mut later = good;
        later.made_at += 1;
        assert!(!shown(&later, said, &signature));
    }
}
