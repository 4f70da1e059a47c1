//! Asks hardware for attestations: what stands behind [`Attester`] on each kind of platform.
//!
//! Everything here blocks and reaches no network: what a vendor says about a platform ([`Collateral`]) is given at
//! construction, because it is the host that can fetch and cache it. Whether an attestation is worth anything is for
//! `cryptlet-attest` to judge; here a device is only held to what it was asked.

pub mod nsm;
#[cfg(feature = "tpm")]
pub mod tpm;
pub mod tsm;

pub use nsm::Nsm;
#[cfg(feature = "tpm")]
pub use tpm::Tpm;
pub use tsm::{Collateral, SnpCollateral, Tsm};

pub use cryptlet_seal::attester::{Attester, AttesterError, Simulator};

use cryptlet_types::{Attestation, attestation::MAX_ATTESTATION_BYTES};
use std::io;

fn malformed(field: impl Into<String>, reason: impl Into<String>) -> AttesterError {
    AttesterError::Malformed {
        field: field.into(),
        reason: reason.into(),
    }
}

fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> AttesterError {
    let what = what.into();
    |source| AttesterError::System { what, source }
}

/// Refuses what nobody would accept because of its size.
fn bounded(attestation: Attestation) -> Result<Attestation, AttesterError> {
    match attestation.size() {
        0..=MAX_ATTESTATION_BYTES => Ok(attestation),
        size => Err(malformed(
            "attestation",
            format!("has {size} bytes, at most {MAX_ATTESTATION_BYTES} are accepted"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use cryptlet_attest::{AttestError, judge};
    use cryptlet_seal::SigningKey;
    use cryptlet_types::policy::EvidenceRule;

    #[test]
    fn only_what_passes_by_itself_is_worth_a_retry() {
        let system = |kind| super::system("x")(io::Error::from(kind));
        assert!(AttesterError::Busy("x").is_retryable());
        assert!(system(io::ErrorKind::ResourceBusy).is_retryable());
        assert!(system(io::ErrorKind::WouldBlock).is_retryable());
        assert!(!system(io::ErrorKind::NotFound).is_retryable());
        assert!(!system(io::ErrorKind::PermissionDenied).is_retryable());
        assert!(!malformed("x", "y").is_retryable());
        assert!(!AttesterError::Refused("x".into()).is_retryable());
        assert!(!AttesterError::Settings("x".into()).is_retryable());
    }

    #[test]
    fn an_attestation_that_nobody_would_accept_is_refused_where_it_was_made() {
        let of = |size| Attestation::Nitro {
            document: vec![0; size].into(),
        };
        assert!(bounded(of(MAX_ATTESTATION_BYTES)).is_ok());
        let error = bounded(of(MAX_ATTESTATION_BYTES + 1)).unwrap_err();
        assert!(error.to_string().contains("262145 bytes"), "{error}");
    }

    #[test]
    fn what_it_signs_is_believed_only_where_policy_names_it_and_only_for_that_statement() {
        let simulator = Simulator::new(SigningKey::generate());
        let (bound, nonce) = (B256::repeat_byte(1), B256::repeat_byte(2));
        let attestation = simulator.attest(bound, nonce).unwrap();
        assert_eq!(attestation.provider(), simulator.provider());
        let named = EvidenceRule {
            simulator: Some(simulator.address()),
            ..EvidenceRule::default()
        };
        assert_eq!(judge(&attestation, bound, nonce, &named, 0), Ok(()));
        assert!(matches!(
            judge(&attestation, bound, nonce, &EvidenceRule::default(), 0),
            Err(AttestError::Refused(_))
        ));
        assert!(matches!(
            judge(&attestation, B256::repeat_byte(3), nonce, &named, 0),
            Err(AttestError::Unproven { .. })
        ));
    }
}
