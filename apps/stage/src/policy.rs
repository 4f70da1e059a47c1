//! The policy of a stage, and its administrator's approval.

use crate::{
    FEED_PLACE, contracts,
    error::{Doing, StageError},
};
use alloy::{
    primitives::Address,
    providers::DynProvider,
    signers::{SignerSync, local::PrivateKeySigner},
};
use cryptlet_seal::sha256;
use cryptlet_types::{
    Policy, Provider,
    policy::{Approval, EgressRule, Retry, ServeRule, SignedPolicy, Trust, Whom},
    register::{PolicyRecord, RegisterDomain},
};
use std::collections::BTreeSet;

/// A policy for a machine of one's own: anyone may publish and be served, the process provider isolates, and of all sources
/// only the feed, with its own root if there is one, and `allowed`, by the public web's roots, may be reached.
pub(crate) fn open_policy(
    epoch: u64,
    feed_root: Option<String>,
    allowed: &[String],
    retry: Retry,
) -> Policy {
    let feed = feed_root.map(|root| EgressRule {
        place: FEED_PLACE.into(),
        trust: Trust::Roots(root),
    });
    // A place stands in a policy once, whatever was asked for.
    let others: BTreeSet<_> = allowed
        .iter()
        .filter(|place| *place != FEED_PLACE)
        .collect();
    let others = others.into_iter().map(|place| EgressRule {
        place: place.clone(),
        trust: Trust::WebPki,
    });
    Policy {
        publishers: Whom::Anyone,
        isolation: vec![Provider::Process],
        controls: ["seccomp-kill", "no-new-privileges", "resource-limits"]
            .map(Into::into)
            .to_vec(),
        egress: feed.into_iter().chain(others).collect(),
        retry,
        serve: ServeRule {
            consumers: Whom::Anyone,
            minimum_interval_seconds: 1,
            minimum_validity_seconds: 1,
            maximum_callback_gas: 5_000_000,
        },
        ..Policy::closed(epoch)
    }
}

/// `policy` as it is, if it is one.
pub(crate) fn checked(policy: Policy) -> Result<Policy, StageError> {
    let doing = "the policy cannot be set";
    let json = policy.to_json().doing(doing)?;
    Policy::from_json(&json).doing(doing)
}

/// `policy` with the approval of `administrator`, who needs no other, as the board of `term`.
pub(crate) fn approve(
    administrator: &PrivateKeySigner,
    domain: &RegisterDomain,
    term: u64,
    policy: Policy,
) -> Result<SignedPolicy, StageError> {
    let doing = "cannot approve the policy";
    let PolicyRecord { epoch, digest, .. } = record(&policy)?;
    let digest = domain.policy_digest(administrator.address(), term, epoch, digest);
    let signature = administrator.sign_hash_sync(&digest).doing(doing)?;
    Ok(SignedPolicy {
        policy,
        approvals: vec![Approval {
            administrator: administrator.address(),
            signature: signature.as_bytes().to_vec().into(),
        }],
    })
}

/// Puts an approved policy in force at the register.
pub(crate) async fn set(
    provider: &DynProvider,
    register: Address,
    signed: &SignedPolicy,
) -> Result<(), StageError> {
    let record = record(&signed.policy)?;
    contracts::set_policy(provider, register, &record, signed).await
}

fn record(policy: &Policy) -> Result<PolicyRecord, StageError> {
    let json = policy.to_json().doing("cannot write the policy")?;
    Ok(PolicyRecord {
        epoch: policy.epoch,
        digest: sha256(&json),
        uri: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_are_asked_for_twice_stand_in_it_once_and_what_is_none_is_refused() {
        let made = rcgen::generate_simple_self_signed(vec!["feed.example".to_owned()]).unwrap();
        let root = made.cert.pem();
        let open = |allowed: &[&str]| {
            let allowed: Vec<_> = allowed.iter().map(|&place| place.to_owned()).collect();
            open_policy(1, Some(root.clone()), &allowed, Retry::default())
        };
        let policy = open(&["a.example:443", FEED_PLACE, "a.example:443"]);
        let places: Vec<_> = policy.egress.iter().map(|rule| &*rule.place).collect();
        assert_eq!(places, [FEED_PLACE, "a.example:443"]);
        assert!(checked(open(&["a.example"])).is_err(), "no port");
    }
}
