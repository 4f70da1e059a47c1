//! Asks hardware for attestations: what stands behind [`Attester`] on each kind of platform.
//!
//! Everything here blocks and reaches no network: what a vendor says about a platform ([`Collateral`]) is given at
//! construction, because it is the host that can fetch and cache it. Whether an attestation is worth anything is for
//! `cryptlet-attest` to judge; here a device is only held to what it was asked.

pub mod nsm;
pub mod tsm;

pub use nsm::Nsm;
pub use tsm::{Collateral, SnpCollateral, Tsm};

pub use cryptlet_seal::attester::{Attester, AttesterError, Simulator};

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use cryptlet_attest::{AttestError, judge};
    use cryptlet_seal::SigningKey;
    use cryptlet_types::policy::EvidenceRule;

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
