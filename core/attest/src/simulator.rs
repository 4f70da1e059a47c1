//! The word of a simulator's root: what rests on attestation can be developed and tested with it. It proves nothing, and a
//! policy that names no simulator refuses it.

use crate::AttestError;
use alloy_primitives::B256;
use cryptlet_types::{policy::EvidenceRule, report::CompactSignature};

pub(crate) fn judge(
    signature: &CompactSignature,
    bound: B256,
    rule: &EvidenceRule,
) -> Result<(), AttestError> {
    let Some(root) = rule.simulator else {
        return Err(AttestError::Refused(
            "names no simulator, and a simulator proves nothing".into(),
        ));
    };
    cryptlet_seal::check(bound, signature, root).map_err(|error| AttestError::Unproven {
        what: "simulator",
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge as judged;
    use cryptlet_seal::SigningKey;
    use cryptlet_types::Attestation;

    #[test]
    fn a_policy_that_names_no_simulator_refuses_it_and_forgeries_are_refused_by_any() {
        let (root, other) = (SigningKey::generate(), SigningKey::generate());
        let bound = B256::repeat_byte(1);
        let of = |key: &SigningKey| Attestation::Simulator {
            signature: key.sign(bound).unwrap(),
        };
        let production = EvidenceRule {
            max_age_seconds: 60,
            ..EvidenceRule::default()
        };
        let development = EvidenceRule {
            simulator: Some(root.address()),
            ..production.clone()
        };
        let ask = |attestation: Attestation, bound, rule| {
            judged(&attestation, bound, B256::ZERO, rule, 0)
        };
        assert_eq!(ask(of(&root), bound, &development), Ok(()));
        assert!(matches!(
            ask(of(&root), bound, &production),
            Err(AttestError::Refused(_))
        ));
        let replayed = ask(of(&root), B256::repeat_byte(2), &development);
        assert!(matches!(replayed, Err(AttestError::Unproven { .. })));
        let strangers = ask(of(&other), bound, &development);
        assert!(matches!(strangers, Err(AttestError::Unproven { .. })));
    }
}
