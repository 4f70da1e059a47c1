//! The runner with a real container and a real vault: who signs, under which policy, for how long.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod support;

use alloy_primitives::{Address, B256, Bytes, FixedBytes, I256};
use alloy_sol_types::SolValue;
use cryptlet_isolation::IsolationError;
use cryptlet_run::{KeptCode, Program, Ran, RunError};
use cryptlet_seal::{CodeKey, SigningKey, check, sha256};
use cryptlet_types::{
    Batch, CryptletId, Delegation, Event, Job, Sha256Digest, SignedDelegation, Trigger,
    UnixSeconds, event::Step, outbox::RunRecord, policy::PolicyInForce, region::RegionFault,
};
use cryptlet_vault::VaultError;
use futures::FutureExt;
use std::pin::pin;
use support::{Codes, DUE, Keys, Secret, World, behave};

fn reported(ran: Result<Ran, RunError>) -> RunRecord {
    match ran {
        Ok(Ran::Reported { run, .. }) => *run,
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
        .turn(job.subscription.cryptlet)
        .await
        .run(job, sequence, now, delegation)
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
    let same = reported(run(&world, &job, 2, DUE + age, None).await);
    assert_eq!(first.evidence, same.evidence);
    let later = reported(run(&world, &job, 1, DUE + age + 1, None).await);
    assert_eq!(later.evidence.made_at, DUE + age + 1);
    assert_eq!(world.created(), 2);
}

/// Not at its cryptlet's next turn, which may never come: the region has a key.
#[tokio::test]
async fn a_policy_that_is_withdrawn_ends_regions_and_their_promises_are_kept() {
    for in_a_turn in [false, true] {
        let world = World::new(Keys::Released).restarted();
        let job = behave(&world, "x", |_| ());
        let cryptlet = job.subscription.cryptlet;
        reported(run(&world, &job, 1, DUE, None).await);
        let nothing = PolicyInForce {
            policy: cryptlet_types::Policy::closed(9),
            digest: Sha256Digest(B256::ZERO),
        };
        if in_a_turn {
            let turn = world.runner.turn(cryptlet).await;
            world.runner.set_policy(nothing);
            drop(turn);
        } else {
            world.runner.set_policy(nothing);
        }
        // This turn comes when the region has left; it would end it only by its own end.
        let _turn = world.runner.turn(cryptlet).await;
        assert_eq!(std::fs::read_dir(world.images()).unwrap().count(), 1);
    }
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

fn secret() -> Secret {
    Secret {
        key: CodeKey::generate().unwrap(),
        counterparty: SigningKey::generate(),
    }
}

#[tokio::test]
async fn secret_code_runs_where_its_key_and_its_counterparties_are_and_policy_believes_the_region()
{
    let secret = secret();
    let world = World::secret(Keys::Released, &secret);
    let kept = world.kept(&secret, &secret.key).await;
    let world = world.with_codes(Codes(Ok(kept)));
    let job = behave(&world, "x", |_| ());
    let record = reported(run(&world, &job, 1, DUE, None).await);
    assert_signed(&world, &record);
    // Nothing is given to who loads where policy demands what it has not: no region is even begun.
    let mut policy = world.policy().policy;
    policy.controls.push("moat".into());
    policy.limits.fuel -= 1;
    let digest = Sha256Digest(B256::ZERO);
    world.runner.set_policy(PolicyInForce { policy, digest });
    let refused = fault(run(&world, &job, 2, DUE, None).await);
    let RegionFault::SecretCode(reason) = &refused else {
        panic!("{refused}")
    };
    assert!(reason.contains("moat"), "{reason}");
}

#[tokio::test]
async fn secret_code_does_not_run_without_its_key_or_an_agreement() {
    let secret = secret();
    let world = World::secret(Keys::Released, &secret);
    let kept = world.kept(&secret, &secret.key).await;
    let stranger = Secret {
        key: CodeKey::from_bytes(secret.key.bytes()).unwrap(),
        counterparty: SigningKey::generate(),
    };
    let other = world.kept(&stranger, &secret.key).await;
    let cases = [
        (Err("nobody brought it".to_owned()), "nobody brought it", 0),
        (Ok(other), "has not agreed", 0),
        (
            Ok(KeptCode {
                agreements: vec![],
                ..kept.clone()
            }),
            "has not agreed",
            0,
        ),
        // Of another vault: only this one can tell, when it is asked for.
        (
            Ok(KeptCode {
                sealed: vec![0; 64],
                ..kept
            }),
            "code key of",
            1,
        ),
    ];
    let job = behave(&world, "x", |_| ());
    let without = run(&world, &job, 1, DUE, None).await.unwrap_err();
    assert!(without.to_string().contains("keeps no keys"), "{without}");
    let mut world = world;
    for (codes, words, begun) in cases {
        world = world.with_codes(Codes(codes));
        let refused = run(&world, &job, 1, DUE, None).await.unwrap_err();
        let told = refused.to_string();
        assert!(
            told.starts_with("secret code: ") && told.contains(words),
            "{told}"
        );
        assert_eq!(world.created(), begun, "{words}");
    }
}

#[tokio::test]
async fn a_token_keeps_no_keys_of_secret_code() {
    let secret = secret();
    let world = World::secret(Keys::Kept, &secret);
    let vault = &world.ports.vault;
    let package = Sha256Digest(B256::ZERO);
    let sealed = vault.seal_code_key(package, &secret.key).await;
    assert!(matches!(sealed, Err(VaultError::NoSealing)));
    let kept = KeptCode {
        sealed: vec![],
        ..World::secret(Keys::Released, &secret)
            .kept(&secret, &secret.key)
            .await
    };
    let world = world.with_codes(Codes(Ok(kept)));
    let job = behave(&world, "x", |_| ());
    let refused = fault(run(&world, &job, 1, DUE, None).await).to_string();
    assert!(refused.contains("token"), "{refused}");
}

/// The fault of a run that must not have a report.
fn fault(ran: Result<Ran, RunError>) -> RegionFault {
    match ran {
        Err(RunError::Isolation(IsolationError::Fault(fault))) => fault,
        other => panic!("no fault: {other:?}"),
    }
}

const PROMISED: RegionFault = RegionFault::Promised {
    sequence: 1,
    until: DUE + 3_600,
};

#[tokio::test]
async fn a_region_that_is_replaced_leaves_its_promises_to_its_successor() {
    let world = World::new(Keys::Released).restarted();
    let job = behave(&world, "x", |_| ());
    let age = world.policy().policy.evidence.max_age_seconds;
    let first = reported(run(&world, &job, 1, DUE, None).await);
    // Old evidence, then another policy that leaves what is measured as it is.
    let again = run(&world, &job, 1, DUE + age + 1, None).await;
    assert_eq!(fault(again), PROMISED);
    let mut policy = world.policy().policy;
    policy.epoch += 1;
    let digest = sha256(&policy.to_json().unwrap());
    world.runner.set_policy(PolicyInForce { policy, digest });
    let again = run(&world, &job, 1, DUE + age + 2, None).await;
    assert_eq!(fault(again), PROMISED);
    assert_eq!(world.created(), 3);
    let other = reported(run(&world, &job, 2, DUE + age + 3, None).await);
    assert_eq!(other.policy, digest);
    let later = reported(run(&world, &job, 1, DUE + 3_601, None).await);
    assert_ne!(later.report, first.report);
}

#[tokio::test]
async fn a_host_that_is_started_again_keeps_what_its_regions_left_and_forgets_what_was_killed() {
    let world = World::new(Keys::Released).restarted();
    let job = behave(&world, "x", |_| ());
    let first = reported(run(&world, &job, 1, DUE, None).await);
    world.runner.end_all().await;
    let world = world.restarted();
    assert_eq!(fault(run(&world, &job, 1, DUE + 1, None).await), PROMISED);
    let same = reported(run(&world, &job, 1, DUE, None).await);
    assert_eq!(same.report.report, first.report.report);
    assert_ne!(same.evidence, first.evidence, "another region");
    reported(run(&world, &job, 2, DUE + 1, None).await);
    // Without a seal, as when it is killed: number 1 is remembered, number 2 is not.
    let world = world.restarted();
    assert_eq!(fault(run(&world, &job, 1, DUE + 2, None).await), PROMISED);
    reported(run(&world, &job, 2, DUE + 2, None).await);
}

#[tokio::test]
async fn without_the_image_that_it_left_nothing_runs_until_the_vault_resets_the_seal() {
    let world = World::new(Keys::Released).restarted();
    let job = behave(&world, "x", |_| ());
    let record = reported(run(&world, &job, 1, DUE, None).await);
    world.runner.end_all().await;
    std::fs::remove_dir_all(world.images()).unwrap();
    let world = world.restarted();
    let refused = fault(run(&world, &job, 1, DUE + 1, None).await);
    assert_eq!(
        refused.to_string(),
        "sealed image: missing, the vault's counter is 1"
    );
    assert!(!refused.is_retryable());
    let (cryptlet, measurement) = (job.subscription.cryptlet, record.report.report.region);
    let reset = world.ports.vault.reset_sealed(cryptlet, measurement).await;
    reset.unwrap();
    reported(run(&world, &job, 1, DUE + 1, None).await);
}

#[tokio::test]
async fn a_key_that_stays_in_its_vault_needs_no_images() {
    let world = World::new(Keys::Kept).restarted();
    let job = behave(&world, "x", |_| ());
    reported(run(&world, &job, 1, DUE, None).await);
    world.runner.end_all().await;
    reported(run(&world, &job, 1, DUE + 1, None).await);
    assert_eq!(world.created(), 2);
    assert_eq!(std::fs::read_dir(world.images()).unwrap().count(), 0);
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
    let cryptlet = one.subscription.cryptlet;
    let mut first = world.runner.turn(cryptlet).await;
    let mut second = pin!(world.runner.turn(cryptlet));
    assert!(second.as_mut().now_or_never().is_none(), "it is not free");
    reported(first.run(&one, 1, DUE, None).await);
    assert!(
        second.as_mut().now_or_never().is_none(),
        "one run is no turn"
    );
    drop(first);
    let age = world.policy().policy.evidence.max_age_seconds;
    let later = DUE + age + 1;
    let record = reported(second.await.run(&other, 1, later, None).await);
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
        match world.runner.turn(job.subscription.cryptlet).now_or_never() {
            Some(turn) => turns.push(turn),
            None => break,
        }
    }
    assert_eq!(turns.len(), 32);
    let mut next = pin!(world.runner.turn(jobs[99].subscription.cryptlet));
    assert!(next.as_mut().now_or_never().is_none());
    turns.pop();
    assert!(next.now_or_never().is_some(), "one has ended");
}

#[tokio::test]
async fn jobs_of_one_turn_run_ahead_and_are_signed_together() {
    let world = World::new(Keys::Released);
    let jobs: Vec<_> = (0..3)
        .map(|nonce| behave(&world, "x", |subscription| subscription.nonce = nonce))
        .collect();
    let program = Program::of(&jobs[0]);
    let mut turn = world.runner.turn(program.cryptlet).await;
    let mut reports = Vec::new();
    for job in &jobs {
        reports.push(reported(turn.run(job, 1, DUE, None).await).report);
    }
    reports.push(reported(turn.run(&jobs[0], 2, DUE, None).await).report);
    let signature = turn.sign_batch(&program, &reports, DUE).await.unwrap();
    let batch = Batch::of(reports.iter().map(|signed| &signed.report)).unwrap();
    let signer = world.cryptlet_key.address();
    let digest = batch.digest(&world.domain());
    assert_eq!(check(digest, &signature, signer), Ok(()));
    assert_eq!(world.created(), 1);

    // Nothing else is said under a number that can still be delivered; the region lives on.
    let again = turn.run(&jobs[0], 2, DUE + 1, None).await.unwrap_err();
    assert!(
        again.is_retryable() && again.to_string().contains("sequence 2"),
        "{again}"
    );
    let expired = DUE + 3_601;
    let policy = world.policy().policy.evidence.max_age_seconds;
    assert!(expired > DUE + policy, "a new region by then");
    reported(turn.run(&jobs[0], 2, expired, None).await);
    drop(turn);

    reports[1].report.payload = Bytes::new();
    let refused = world.runner.sign_batch(&program, &reports, DUE).await;
    assert!(refused.unwrap_err().to_string().contains("reports[1]"));
    let none = world.runner.sign_batch(&program, &[], DUE).await;
    assert!(matches!(none, Err(RunError::Batch(_))));
}

#[tokio::test]
async fn nobody_runs_in_another_cryptlets_turn() {
    let world = World::new(Keys::Released);
    let job = behave(&world, "x", |_| ());
    let other = CryptletId(Address::repeat_byte(99));
    let refused = world.runner.turn(other).await.run(&job, 1, DUE, None).await;
    assert!(matches!(refused, Err(RunError::AnothersTurn { turn, .. }) if turn == other));
    assert_eq!(world.created(), 0);
}

#[tokio::test]
async fn a_computation_goes_on_where_it_stood_in_another_region_too() {
    let world = World::new(Keys::Released);
    let first = told(&world, "count", "2");
    let Ok(Ran::Reported { run, next, .. }) = run(&world, &first, 1, DUE, None).await else {
        panic!("no report")
    };
    assert_eq!(run.report.report.payload[64], b'.');
    let step = *next.unwrap();
    assert_eq!((step.of, step.number), (first.event.id, 1));
    let later = DUE + world.policy().policy.evidence.max_age_seconds + 1;
    let second = with_trigger(&world, &first, Trigger::Step(step.clone()));
    let Ok(Ran::Reported { run, next, .. }) = self::run(&world, &second, 2, later, None).await
    else {
        panic!("no report")
    };
    assert_eq!(world.created(), 2);
    assert_eq!(run.report.report.payload[64..66], *b"..");
    let last = with_trigger(&world, &first, Trigger::Step(*next.unwrap()));
    let Ok(Ran::Reported { next, .. }) = self::run(&world, &last, 3, later, None).await else {
        panic!("no report")
    };
    assert_eq!(next, None);

    let quiet = told(&world, "ponder", "1");
    let skipped = self::run(&world, &quiet, 1, later, None).await;
    assert!(
        matches!(&skipped, Ok(Ran::Skipped { next: Some(step), .. }) if step.number == 1),
        "{skipped:?}"
    );

    let forged = Step {
        state: Bytes::new(),
        ..step
    };
    let forged = with_trigger(&world, &first, Trigger::Step(forged));
    let refused = self::run(&world, &forged, 4, later, None).await;
    assert!(refused.unwrap_err().to_string().contains("step"));
}

#[tokio::test]
async fn feeds_and_calls_are_answered_by_the_cryptlets_key() {
    let world = World::new(Keys::Released);
    let program = Program::of(&behave(&world, "x", |_| ()));
    let signer = world.cryptlet_key.address();
    let params = |behaviour: &str, detail: &str| {
        Bytes::from((behaviour.to_owned(), detail.to_owned()).abi_encode_params())
    };
    let seen = world
        .runner
        .observe(&program, params("echo", "-7"), 60, DUE)
        .await
        .unwrap();
    assert_eq!(seen.value, I256::try_from(-7).unwrap());
    assert_eq!(check(seen.digest(), &seen.signature, signer), Ok(()));
    let closed = world
        .runner
        .observe(&program, params("skip", ""), 60, DUE)
        .await;
    assert!(closed.unwrap_err().is_retryable());

    let consumer = Address::repeat_byte(5);
    let said = world
        .runner
        .call(&program, consumer, params("echo", "yes"), 60, DUE)
        .await
        .unwrap();
    assert_eq!(said.answer.window_end - said.answer.window_start, 60);
    let digest = said.answer.digest(&world.domain());
    assert_eq!(check(digest, &said.signature, signer), Ok(()));
    assert_eq!(world.created(), 1);
}

#[tokio::test]
async fn where_the_vault_keeps_the_key_only_reports_are_signed() {
    let world = World::new(Keys::Kept);
    let job = behave(&world, "x", |_| ());
    let program = Program::of(&job);
    let report = reported(run(&world, &job, 1, DUE, None).await).report;
    let batch = world.runner.sign_batch(&program, &[report], DUE).await;
    assert!(batch.unwrap_err().to_string().contains("one by one"));
    let params = job.subscription.params.clone();
    let seen = world.runner.observe(&program, params.clone(), 60, DUE);
    assert!(seen.await.unwrap_err().to_string().contains("vault"));
    let called = world
        .runner
        .call(&program, Address::ZERO, params, 60, DUE)
        .await;
    assert!(called.unwrap_err().to_string().contains("vault"));
    let step = run(&world, &told(&world, "count", "2"), 1, DUE, None).await;
    assert!(step.unwrap_err().to_string().contains("vault"));
    assert_eq!(world.created(), 1, "it goes on after each refusal");
}

/// A job that has the cryptlet behave so.
fn told(world: &World, behaviour: &str, detail: &str) -> Job {
    behave(world, "", |subscription| {
        let params = (behaviour.to_owned(), detail.to_owned());
        subscription.params = params.abi_encode_params().into();
    })
}

/// The job of another trigger of the same subscription.
fn with_trigger(world: &World, job: &Job, trigger: Trigger) -> Job {
    let event = Event::new(&world.domain(), job.subscription.subject, trigger);
    Job {
        id: Job::id_of(&event),
        event,
        ..job.clone()
    }
}
