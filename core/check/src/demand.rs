//! Whether a component is as sure to do the same each time as policy demands.

use crate::{Check, Reason, Verdict};
use cryptlet_types::{
    bounded::clip,
    policy::{CodeRule, Determinism},
};
use std::fmt::Write;

/// Reasons that are told to whoever is refused; the component's author sees all of them with `cryptlet check`.
const TOLD: usize = 8;

/// What a check says of a component's determinism: all that policy asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// Whether it does the same each time.
    pub verdict: Verdict,
    /// What the verdict rests on.
    pub reasons: Vec<Reason>,
}

impl From<Check> for Code {
    fn from(check: Check) -> Self {
        Self {
            verdict: check.verdict,
            reasons: check.reasons,
        }
    }
}

impl Verdict {
    /// Whether it is as good as `least`.
    #[must_use]
    pub fn meets(self, least: Determinism) -> bool {
        let least = match least {
            Determinism::Deterministic => Self::Deterministic,
            Determinism::CanonicalNan => Self::CanonicalNan,
        };
        self <= least
    }

    fn told(self) -> &'static str {
        match self {
            Self::Deterministic => "deterministic",
            Self::CanonicalNan => "deterministic only where NaNs are made canonical",
            Self::NotDeterministic => "not deterministic",
        }
    }
}

impl Code {
    /// Whether `rule` lets it run.
    ///
    /// # Errors
    /// What is demanded, and what was found instead, with the places.
    pub fn meets(&self, rule: &CodeRule) -> Result<(), String> {
        let Some(least) = rule.determinism else {
            return Ok(());
        };
        if self.verdict.meets(least) {
            return Ok(());
        }
        let mut said = format!(
            "`code.determinism` demands {:?}, the component is {}",
            least.as_str(),
            self.verdict.told()
        );
        for (index, reason) in self.reasons.iter().take(TOLD).enumerate() {
            let lead = if index == 0 { ": " } else { "; " };
            // Writing to a string does not fail.
            let _ = write!(said, "{lead}byte {:#x}: {}", reason.offset, reason.message);
        }
        Err(clip(&said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(verdict: Verdict) -> Code {
        let reason = Reason {
            offset: 0x1f,
            message: "3 float instructions".into(),
        };
        Code {
            verdict,
            reasons: vec![reason; 40],
        }
    }

    #[test]
    fn a_verdict_meets_a_demand_that_is_no_stricter() {
        use Verdict::{CanonicalNan, Deterministic, NotDeterministic};
        let cases = [
            (None, vec![Deterministic, CanonicalNan, NotDeterministic]),
            (
                Some(Determinism::CanonicalNan),
                vec![Deterministic, CanonicalNan],
            ),
            (Some(Determinism::Deterministic), vec![Deterministic]),
        ];
        for (determinism, met) in cases {
            for verdict in [Deterministic, CanonicalNan, NotDeterministic] {
                let rule = CodeRule { determinism };
                let said = code(verdict).meets(&rule);
                assert_eq!(said.is_ok(), met.contains(&verdict), "{rule:?} {verdict:?}");
            }
        }
    }

    #[test]
    fn a_refusal_names_field_finding_and_place_and_is_short() {
        let rule = CodeRule {
            determinism: Some(Determinism::Deterministic),
        };
        let said = code(Verdict::CanonicalNan).meets(&rule).unwrap_err();
        let expected = "`code.determinism` demands \"deterministic\", the component is deterministic only where NaNs are made \
            canonical: byte 0x1f: 3 float instructions; byte 0x1f";
        assert!(said.starts_with(expected), "{said}");
        assert!(said.len() <= 1_024);
    }
}
