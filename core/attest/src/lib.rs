//! Judges evidence under policy, what hardware says included: [`verify`] is the one function that host, vault, command line
//! and receipts ask.
//!
//! Nothing here reads a clock, a file or the network: the moment, the vendors' collateral and the revocation lists come with
//! the question. Roots of the vendors are built in; those of TPMs and of the simulator are policy's.

mod image;
mod intel;
mod nitro;
mod read;
mod simulator;
mod snp;
#[cfg(test)]
mod testing;
mod tpm;
mod x509;

use alloy_primitives::B256;
use cryptlet_seal::{
    SealError,
    evidence::{self, Expected, JudgeAttestation},
};
use cryptlet_types::{Attestation, Evidence, UnixSeconds, policy::EvidenceRule};

/// Why an attestation is not believed. Trying again with the same one never helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttestError {
    /// It is not in the form that its vendor documents.
    #[error("{field}: {reason}")]
    Malformed {
        /// Which part.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A signature or a certificate does not hold, or not at that moment.
    #[error("{what}: {reason}")]
    Unproven {
        /// What should have been proven.
        what: &'static str,
        /// Why it is not.
        reason: String,
    },
    /// It is true, and about something else: another statement, another challenge.
    #[error("{what} is of another statement (replayed or altered)")]
    Unbound {
        /// The field that should name the statement.
        what: &'static str,
    },
    /// It is true, and policy does not accept what it says.
    #[error("policy: {0}")]
    Refused(String),
}

impl AttestError {
    /// Whether trying again with the same attestation can help: never.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// The verifiers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hardware;

impl JudgeAttestation for Hardware {
    fn judge(
        &self,
        attestation: &Attestation,
        bound: B256,
        nonce: B256,
        rule: &EvidenceRule,
        at: UnixSeconds,
    ) -> Result<(), String> {
        judge(attestation, bound, nonce, rule, at).map_err(|error| error.to_string())
    }
}

/// Checks evidence against what is expected.
///
/// # Errors
/// Says what does not fit: provider, controls, measurement, challenge, age, signature or attestation.
pub fn verify(evidence: &Evidence, expected: &Expected<'_>) -> Result<(), SealError> {
    evidence::verify(evidence, expected, &Hardware)
}

/// Judges an attestation alone.
///
/// # Errors
/// See [`AttestError`].
pub fn judge(
    attestation: &Attestation,
    bound: B256,
    nonce: B256,
    rule: &EvidenceRule,
    at: UnixSeconds,
) -> Result<(), AttestError> {
    match attestation {
        Attestation::Simulator { signature } => simulator::judge(signature, bound, rule),
        Attestation::Sgx { quote, collateral } => intel::Quoted {
            tee: intel::Tee::Sgx,
            quote,
            collateral,
        }
        .judge(bound, rule, at),
        Attestation::Tdx { quote, collateral } => intel::Quoted {
            tee: intel::Tee::Tdx,
            quote,
            collateral,
        }
        .judge(bound, rule, at),
        Attestation::SevSnp {
            report,
            certificates,
            revocations,
        } => {
            let parts = snp::Parts {
                report,
                certificates,
                revocations,
            };
            snp::judge(parts, bound, rule, at)
        }
        Attestation::Nitro { document } => nitro::judge(document, bound, nonce, rule, at),
        Attestation::Tpm {
            quote,
            signature,
            registers,
            certificates,
        } => {
            let parts = tpm::Parts {
                quote,
                signature,
                registers,
                certificates,
            };
            tpm::judge(parts, bound, rule, at)
        }
    }
}
