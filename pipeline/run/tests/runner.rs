//! The runner with a real container and a real vault: who signs, under which policy, for how long.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod support;

use alloy_primitives::{Address, B256, Bytes, FixedBytes};
use cryptlet_run::{Ran, RunError};
use cryptlet_seal::{check, sha256};
use cryptlet_types::{
    CryptletId, Delegation, Job, Sha256Digest, SignedDelegation, UnixSeconds, outbox::RunRecord,
    policy::PolicyInForce,
};
use futures::FutureExt;
use std::pin::pin;
use support::{DUE, Keys, World, behave};

fn reported(ran: Result<Ran, RunError>) -> RunRecord {
    match ran {
        Ok(Ran::Reported(record)) => *record,
        other => panic!("no report: {other:?}"),
    }
}

async fn run(
    world: &World,
    job: &Job,
    sequence: u64,
    now: UnixSeconds,
    delegation: Option<SignedDelegation>,
) -> Result<Ran, RunError> {
    world
        .runner
        .turn(job)
        .await
        .run(sequence, now, delegation)
        .await
}

/// Both signatures are over this report, by the cryptlet's key and by the region's.
fn assert_signed(world: &World, record: &RunRecord) {
    let digest = record.report.report.digest(&world.domain());
    let signer = world.cryptlet_key.address();
    assert_eq!(record.report.signer, signer);
    assert_eq!(check(digest, &record.report.signature, signer), Ok(()));
}

#[tokio::test]
async fn a_report_is_signed_by_the_cryptlets_key_wherever_that_lies() {
    for keys in [Keys::Released, Keys::Kept] {
        let world = World::new(keys);
        let job = behave(&world, "x", |_| ());
        let record = reported(run(&world, &job, 1, DUE, None).await);
        assert_signed(&world, &record);
        assert_eq!(record.input.check(), Ok(()));
        assert_eq!(record.report.report.delegation, B256::ZERO);
        reported(run(&world, &job, 2, DUE + 1, None).await);
        assert_eq!(world.created(), 1, "one region for both runs");
    }
}

#[tokio::test]
async fn a_vault_that_keeps_its_key_signs_nothing_that_the_region_did_not() {
    let world = World::new(Keys::KeptByAnother);
    let job = behave(&world, "x", |_| ());
    let refused = run(&world, &job, 1, DUE, None).await.unwrap_err();
    assert!(matches!(refused, RunError::Seal(_)), "{refused}");
}

#[tokio::test]
async fn a_region_is_made_anew_when_its_evidence_is_older_than_policy_accepts() {
    let world = World::new(Keys::Released);
    let job = behave(&world, "x", |_| ());
    let age = world.policy().policy.evidence.max_age_seconds;
    let first = reported(run(&world, &job, 1, DUE, None).await);
    let same = reported(run(&world, &job, 1, DUE + age, None).await);
    assert_eq!(first.evidence, same.evidence);
    let later = reported(run(&world, &job, 1, DUE + age + 1, None).await);
    assert_eq!(later.evidence.made_at, DUE + age + 1);
    assert_eq!(world.created(), 2);
}

#[tokio::test]
async fn a_region_of_another_policy_is_not_used_again() {
    let world = World::new(Keys::Released);
    let job = behave(&world, "x", |_| ());
    let first = reported(run(&world, &job, 1, DUE, None).await);
    world.runner.set_policy(world.policy());
    reported(run(&world, &job, 1, DUE, None).await);
    assert_eq!(world.created(), 1, "the same policy changes nothing");

    let mut policy = world.policy().policy;
    policy.epoch += 1;
    let digest = sha256(&policy.to_json().unwrap());
    world.runner.set_policy(PolicyInForce {
        policy: policy.clone(),
        digest,
    });
    let second = reported(run(&world, &job, 1, DUE, None).await);
    assert_eq!(world.created(), 2);
    assert_eq!((second.policy_epoch, second.policy), (policy.epoch, digest));
    assert_ne!(first.evidence, second.evidence);

    policy.controls = vec!["moat".into()];
    let digest = Sha256Digest(B256::ZERO);
    world.runner.set_policy(PolicyInForce { policy, digest });
    let refused = run(&world, &job, 1, DUE, None).await.unwrap_err();
    assert!(refused.to_string().contains("moat"), "{refused}");
}

#[tokio::test]
async fn nobody_is_spoken_for_without_a_delegation() {
    let world = World::new(Keys::Released);
    let identity = Address::repeat_byte(6);
    let job = behave(&world, "x", |subscription| {
        subscription.on_behalf_of = identity
    });
    let missing = run(&world, &job, 1, DUE, None).await.unwrap_err();
    assert!(missing.is_retryable(), "{missing}");
    let delegation = Delegation {
        identity,
        cryptlet: job.subscription.cryptlet,
        consumer: Address::ZERO,
        callback: FixedBytes::ZERO,
        expiry: DUE + 10,
        salt: B256::ZERO,
    };
    let given = |delegation: &Delegation| {
        Some(SignedDelegation {
            delegation: delegation.clone(),
            signature: Bytes::from_static(&[1; 65]),
        })
    };
    let other = Delegation {
        identity: Address::ZERO,
        ..delegation.clone()
    };
    let refused = run(&world, &job, 1, DUE, given(&other)).await;
    assert!(!refused.unwrap_err().is_retryable());
    assert_eq!(world.created(), 0, "no region was needed to say so");

    let record = reported(run(&world, &job, 1, DUE, given(&delegation)).await);
    let report = &record.report.report;
    assert_eq!(report.delegation, delegation.digest(&world.domain()));
    assert_eq!(report.valid_until, delegation.expiry);
    assert_signed(&world, &record);
    let unasked = behave(&world, "x", |_| ());
    let refused = run(&world, &unasked, 1, DUE, given(&delegation)).await;
    assert!(matches!(refused, Err(RunError::Input(_))));
}

#[tokio::test]
async fn a_job_that_does_not_fit_its_subscription_does_not_run() {
    let world = World::new(Keys::Released);
    let mut job = behave(&world, "x", |_| ());
    job.subscription.params = Bytes::new();
    let refused = run(&world, &job, 1, DUE, None).await.unwrap_err();
    assert!(refused.to_string().contains("subject"), "{refused}");
    assert_eq!(world.created(), 0);
}

#[tokio::test]
async fn jobs_of_one_cryptlet_wait_for_each_other_and_go_by_the_time_of_their_turn() {
    let world = World::new(Keys::Released);
    let (one, other) = (
        behave(&world, "x", |_| ()),
        behave(&world, "y", |subscription| subscription.nonce = 1),
    );
    let first = world.runner.turn(&one).await;
    let mut second = pin!(world.runner.turn(&other));
    assert!(second.as_mut().now_or_never().is_none(), "it is not free");
    reported(first.run(1, DUE, None).await);
    let age = world.policy().policy.evidence.max_age_seconds;
    let later = DUE + age + 1;
    let record = reported(second.await.run(1, later, None).await);
    assert_eq!(record.report.report.issued_at, later);
    assert_eq!(record.evidence.made_at, later, "evidence aged meanwhile");
}

#[tokio::test]
async fn however_many_cryptlets_are_due_few_regions_are_at_work() {
    let world = World::new(Keys::Released);
    let job = |number: u8| {
        behave(&world, "x", |subscription| {
            subscription.cryptlet = CryptletId(Address::with_last_byte(number));
        })
    };
    let jobs: Vec<_> = (0..100).map(job).collect();
    let mut turns = Vec::new();
    for job in &jobs {
        match world.runner.turn(job).now_or_never() {
            Some(turn) => turns.push(turn),
            None => break,
        }
    }
    assert_eq!(turns.len(), 32);
    let mut next = pin!(world.runner.turn(&jobs[99]));
    assert!(next.as_mut().now_or_never().is_none());
    turns.pop();
    assert!(next.now_or_never().is_some(), "one has ended");
}
