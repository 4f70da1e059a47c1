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

/// A policy for a machine of one's own: anyone may publish and be served, the process provider isolates, and of all sources
/// only the feed, with its own root, and `allowed`, by the public web's roots, may be reached.
pub(crate) fn open_policy(
    epoch: u64,
    feed_root: String,
    allowed: &[String],
    retry: Retry,
) -> Policy {
    let feed = EgressRule {
        place: FEED_PLACE.into(),
        trust: Trust::Roots(feed_root),
    };
    let others = allowed.iter().map(|place| EgressRule {
        place: place.clone(),
        trust: Trust::WebPki,
    });
    Policy {
        publishers: Whom::Anyone,
        isolation: vec![Provider::Process],
        controls: ["seccomp-kill", "no-new-privileges", "resource-limits"]
            .map(Into::into)
            .to_vec(),
        egress: std::iter::once(feed).chain(others).collect(),
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
