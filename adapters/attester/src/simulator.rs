//! A key that signs in the place of hardware.

use crate::{Attester, AttesterError};
use alloy_primitives::{Address, B256};
use cryptlet_seal::SigningKey;
use cryptlet_types::{Attestation, Provider};

/// Signs whatever it is asked to, with a root that is given. It proves nothing, and only a policy that names its address
/// accepts it.
#[derive(Debug)]
pub struct Simulator {
    root: SigningKey,
}

impl Simulator {
    /// A simulator with this root.
    #[must_use]
    pub fn new(root: SigningKey) -> Self {
        Self { root }
    }

    /// What a policy has to name as `evidence.simulator`.
    #[must_use]
    pub fn address(&self) -> Address {
        self.root.address()
    }
}

impl Attester for Simulator {
    fn provider(&self) -> Provider {
        Provider::Simulator
    }

    fn attest(&self, bound: B256, _: B256) -> Result<Attestation, AttesterError> {
        let signature = self
            .root
            .sign(bound)
            .map_err(|error| AttesterError::Refused(error.to_string()))?;
        Ok(Attestation::Simulator { signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptlet_attest::{AttestError, judge};
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
