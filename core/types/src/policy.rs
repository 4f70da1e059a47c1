//! Policy: the operator's word, which overrides what manifests and code say.

use crate::{
    Limits, Manifest, Provider, Sha256Digest,
    manifest::{DocumentError, read_document, split_place},
};
use serde::{Deserialize, Serialize};

/// What administrators allow. Its epoch only grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// Version of this format: 1.
    pub version: u32,
    /// Number of this policy; a host never goes back to a smaller one.
    pub epoch: u64,
    /// Isolation providers that are accepted. An empty list lets nothing run.
    pub isolation: Vec<Provider>,
    /// Sources that cryptlets may reach. An empty list means no network.
    pub egress: Vec<EgressRule>,
    /// What any run may use up at most.
    pub limits: Limits,
    /// How often and how fast a run that failed for a passing reason is tried again.
    pub retry: Retry,
}

/// A source that may be reached, and how its certificate is judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressRule {
    /// `host:port`, as in the manifest.
    pub place: String,
    /// Whom to believe that the source is who it says.
    pub trust: Trust,
}

/// Roots that a source's certificate must chain to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Trust {
    /// The public web's roots, as Mozilla lists them.
    WebPki,
    /// These certificates and no others, PEM, one or more.
    Roots(String),
}

/// Attempts and waiting times of a run. Waiting doubles from the first to the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// Runs before a job is given up, the first included.
    pub attempts: u32,
    /// Milliseconds before the second attempt.
    pub first_millis: u64,
    /// Milliseconds between later attempts, at most.
    pub longest_millis: u64,
}

impl Policy {
    /// Reads and checks a policy.
    ///
    /// # Errors
    /// Names the field that is missing, unknown or wrong.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DocumentError> {
        let policy: Self = read_document(bytes)?;
        policy.check()?;
        Ok(policy)
    }

    /// The document's bytes as they are hashed: compact JSON, fields in the order of this type.
    ///
    /// # Errors
    /// None in practice: every value of this type has a JSON form.
    pub fn to_json(&self) -> Result<Vec<u8>, DocumentError> {
        serde_json::to_vec(self).map_err(|error| DocumentError::Malformed(error.to_string()))
    }

    fn check(&self) -> Result<(), DocumentError> {
        if self.version != 1 {
            return Err(DocumentError::field("version", "this host reads version 1"));
        }
        if self.retry.attempts == 0 {
            return Err(DocumentError::field(
                "retry.attempts",
                "at least 1, or nothing ever runs",
            ));
        }
        self.limits.check("limits")?;
        for (index, rule) in self.egress.iter().enumerate() {
            if self
                .egress
                .iter()
                .take(index)
                .any(|earlier| earlier.place == rule.place)
            {
                let reason = format!("{:?} is listed twice", rule.place);
                return Err(DocumentError::field(
                    format!("egress[{index}].place"),
                    reason,
                ));
            }
            if split_place(&rule.place).is_none() {
                let reason = format!("{:?} is not host:port", rule.place);
                return Err(DocumentError::field(
                    format!("egress[{index}].place"),
                    reason,
                ));
            }
        }
        Ok(())
    }

    /// Whether regions of `provider` are accepted.
    #[must_use]
    pub fn accepts(&self, provider: Provider) -> bool {
        self.isolation.contains(&provider)
    }

    /// What `manifest` may reach: what it asks for and policy allows, both.
    #[must_use]
    pub fn egress_of(&self, manifest: &Manifest) -> Vec<EgressRule> {
        let wanted = |rule: &&EgressRule| manifest.config.egress.contains(&rule.place);
        self.egress.iter().filter(wanted).cloned().collect()
    }
}

/// A policy in force, with the digest that receipts carry.
#[derive(Clone, Debug)]
pub struct PolicyInForce {
    /// The policy.
    pub policy: Policy,
    /// SHA-256 of its bytes.
    pub digest: Sha256Digest,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::ManifestConfig;
    use alloy_primitives::Address;

    fn policy() -> Policy {
        let rule = |place: &str| EgressRule {
            place: place.into(),
            trust: Trust::WebPki,
        };
        Policy {
            version: 1,
            epoch: 1,
            isolation: vec![Provider::Process],
            egress: vec![rule("a.example:443"), rule("b.example:443")],
            limits: Limits::default(),
            retry: Retry {
                attempts: 3,
                first_millis: 100,
                longest_millis: 1000,
            },
        }
    }

    #[test]
    fn a_cryptlet_reaches_only_what_both_sides_name() {
        let config = ManifestConfig {
            description: String::new(),
            isolation: true,
            limits: Limits::default(),
            egress: vec!["b.example:443".into(), "c.example:443".into()],
            settings: Default::default(),
        };
        let manifest = Manifest {
            name: "m".into(),
            public_key: Address::ZERO,
            version: "1".into(),
            config,
        };
        let places: Vec<_> = policy()
            .egress_of(&manifest)
            .into_iter()
            .map(|rule| rule.place)
            .collect();
        assert_eq!(places, ["b.example:443"]);
    }

    #[test]
    fn an_empty_policy_allows_nothing() {
        let nothing = Policy {
            isolation: vec![],
            egress: vec![],
            ..policy()
        };
        assert!(!nothing.accepts(Provider::Process));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let json = String::from_utf8(policy().to_json().unwrap()).unwrap();
        assert_eq!(Policy::from_json(json.as_bytes()), Ok(policy()));
        let cases = [
            (json.replace("\"version\":1", "\"version\":2"), "version"),
            (
                json.replace("\"attempts\":3", "\"attempts\":0"),
                "retry.attempts",
            ),
            (
                json.replace("b.example:443", "b.example"),
                "egress[1].place",
            ),
            (json.replace("webPki", "anybody"), "anybody"),
            (json.replace("\"epoch\"", "\"epock\""), "epock"),
        ];
        for (text, field) in cases {
            let error = Policy::from_json(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(field), "{error} does not name {field}");
        }
    }
}
