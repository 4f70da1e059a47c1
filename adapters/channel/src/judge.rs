//! Whether whoever shows a certificate is believed.

use crate::ChannelError;
use alloy_primitives::{Address, B256};
use cryptlet_attest::verify;
use cryptlet_seal::{
    SealError, SigningKey,
    certificate::{self, Shown},
    evidence::{Expected, vouch},
};
use cryptlet_types::{
    Attestation, Evidence, EvidenceStatement, Measurement, Policy, UnixSeconds,
    channel::{CERTIFICATE_SKEW_SECONDS, Proof, TlsBinding},
    policy::PolicyInForce,
};
use std::sync::Arc;

/// What is in force at the moment at which it is asked. It is asked for each connection.
pub trait InForce: Send + Sync {
    /// The present, by this machine's clock.
    fn now(&self) -> UnixSeconds;

    /// The policy.
    fn policy(&self) -> Arc<PolicyInForce>;

    /// Whether the register knows a host with this key.
    fn is_host(&self, host: Address) -> bool;
}

/// Who has to be at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A host that the register knows.
    Host,
    /// A region, or a container without a package, that measures one of these.
    Region(Vec<Measurement>),
}

impl Wanted {
    fn name(&self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Region(_) => "region",
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The host with this key.
    Host(Address),
    /// The region that says this about itself.
    Region(Box<EvidenceStatement>),
}

/// Judges a certificate (DER).
pub(crate) fn judge(
    der: &[u8],
    in_force: &dyn InForce,
    wanted: &Wanted,
) -> Result<Peer, ChannelError> {
    let now = in_force.now();
    let Shown { proof, binding, .. } = certificate::read(der, now)?;
    match (proof, wanted) {
        (Proof::Host(host), Wanted::Host) if in_force.is_host(host) => Ok(Peer::Host(host)),
        (Proof::Host(host), Wanted::Host) => Err(ChannelError::UnknownHost(host)),
        (Proof::Vouched(evidence), Wanted::Region(measurements)) => {
            vouched(&evidence, measurements, in_force, now)?;
            Ok(Peer::Region(Box::new(evidence.statement)))
        }
        (
            Proof::Attested {
                statement,
                attestation,
            },
            Wanted::Region(measurements),
        ) => {
            let policy = &in_force.policy().policy;
            recent(&binding, policy, now)?;
            attested(&statement, attestation, measurements, policy, now)?;
            Ok(Peer::Region(statement))
        }
        (proof, wanted) => Err(ChannelError::WrongParty {
            wanted: wanted.name(),
            found: match proof {
                Proof::Host(_) => "host",
                Proof::Vouched(_) | Proof::Attested { .. } => "region",
            },
        }),
    }
}

/// Evidence with a host's word. The challenge is that host's, which is not known here.
fn vouched(
    evidence: &Evidence,
    measurements: &[Measurement],
    in_force: &dyn InForce,
    now: UnixSeconds,
) -> Result<(), ChannelError> {
    if !in_force.is_host(evidence.host) {
        return Err(ChannelError::UnknownHost(evidence.host));
    }
    let policy = in_force.policy();
    let expected = Expected {
        policy: &policy.policy,
        measurement: expected(measurements, evidence.statement.measurement)?,
        nonce: evidence.statement.nonce,
        host: evidence.host,
        from: 0,
        to: now,
    };
    Ok(verify(evidence, &expected)?)
}

/// Evidence with hardware's word alone: whoever looks at it is who vouches for the moment, and nobody else for anything. That the
/// challenge is the TLS key was seen when the certificate was read.
fn attested(
    statement: &EvidenceStatement,
    attestation: Attestation,
    measurements: &[Measurement],
    policy: &Policy,
    now: UnixSeconds,
) -> Result<(), ChannelError> {
    let witness = SigningKey::generate();
    let mut evidence = vouch(statement.clone(), now, &witness)?;
    evidence.attestation = Some(attestation);
    let expected = Expected {
        policy,
        measurement: expected(measurements, statement.measurement)?,
        nonce: statement.nonce,
        host: witness.address(),
        from: now,
        to: now,
    };
    Ok(verify(&evidence, &expected)?)
}

/// Hardware knows no time; the region says when it made its key.
fn recent(binding: &TlsBinding, policy: &Policy, now: UnixSeconds) -> Result<(), ChannelError> {
    let made_at = binding.not_before.saturating_add(CERTIFICATE_SKEW_SECONDS);
    let from = now.saturating_sub(policy.evidence.max_age_seconds);
    if made_at < from {
        let to = now;
        return Err(SealError::OutOfDate { made_at, from, to }.into());
    }
    Ok(())
}

/// That which was found, if it is one of those that are expected; otherwise one that it is not.
fn expected(measurements: &[Measurement], found: Measurement) -> Result<Measurement, SealError> {
    let fitting = measurements.iter().find(|each| **each == found);
    match fitting.or(measurements.first()) {
        Some(measurement) => Ok(*measurement),
        None => Err(SealError::WrongMeasurement {
            expected: Measurement(B256::ZERO),
            found,
        }),
    }
}
