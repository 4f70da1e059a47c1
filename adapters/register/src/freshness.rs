//! How old the knowledge about the register's chain is, and when it is too old.
//!
//! While that chain cannot be read, what was known stays, and grows old. It never grants more than it did: signers
//! expire by the host's clock, nothing revoked comes back, and beyond the age that policy names no job starts.

use alloy_primitives::B256;
use cryptlet_types::{UnixSeconds, policy::EvidenceRule};
use serde::{Deserialize, Serialize};

/// Up to which block, and as of when, the register's chain is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Synced {
    /// Number of the block.
    pub block: u64,
    /// Its hash.
    pub hash: B256,
    /// The moment as of which the chain was known up to there.
    pub at: UnixSeconds,
}

/// How old that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Freshness {
    /// As of when the chain is known; none if it was never read.
    pub synced_at: Option<UnixSeconds>,
    /// Seconds since then; none if it was never read.
    pub age_seconds: Option<u64>,
}

/// How far ahead of the host's clock a chain may be, in seconds, before one of the two is taken to be wrong.
const MAX_AHEAD_SECONDS: u64 = 900;

impl Freshness {
    /// How old `synced` is at `now`.
    #[must_use]
    pub fn of(synced: Option<Synced>, now: UnixSeconds) -> Self {
        let synced_at = synced.map(|synced| synced.at);
        // A clock that is behind by more than it may be has no idea of the age: then it is not known.
        let known = synced_at.filter(|at| at.saturating_sub(now) <= MAX_AHEAD_SECONDS);
        Self {
            synced_at,
            age_seconds: known.map(|at| now.saturating_sub(at)),
        }
    }

    /// Whether jobs may start by this knowledge: it is at most as old as policy lets evidence be.
    #[must_use]
    pub fn admits_jobs(&self, rule: &EvidenceRule) -> bool {
        self.age_seconds
            .is_some_and(|age| age <= rule.max_age_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn age(at: UnixSeconds, now: UnixSeconds) -> Freshness {
        let hash = B256::ZERO;
        Freshness::of(Some(Synced { block: 1, hash, at }), now)
    }

    #[test]
    fn knowledge_serves_until_the_age_that_policy_names() {
        let rule = EvidenceRule {
            max_age_seconds: 60,
            ..EvidenceRule::default()
        };
        assert_eq!(age(1_000, 1_060).age_seconds, Some(60));
        assert!(age(1_000, 1_060).admits_jobs(&rule));
        assert!(!age(1_000, 1_061).admits_jobs(&rule));
        assert!(!age(0, u64::MAX).admits_jobs(&rule));
    }

    #[test]
    fn a_chain_that_was_never_read_admits_nothing() {
        let rule = EvidenceRule {
            max_age_seconds: u64::MAX,
            ..EvidenceRule::default()
        };
        let never = Freshness::of(None, 1_000);
        assert_eq!(never.synced_at, None);
        assert!(!never.admits_jobs(&rule));
    }

    #[test]
    fn a_moment_far_in_the_future_does_not_keep_for_ever() {
        let rule = EvidenceRule {
            max_age_seconds: 60,
            ..EvidenceRule::default()
        };
        assert!(
            age(1_900, 1_000).admits_jobs(&rule),
            "clocks differ a little"
        );
        let wrong = age(1_901, 1_000);
        assert_eq!(wrong.age_seconds, None);
        assert!(!wrong.admits_jobs(&rule));
    }
}
