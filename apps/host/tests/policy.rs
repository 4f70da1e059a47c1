//! Which policy a host goes by: the one that the register names and that the operator hands over with enough approvals; no
//! other, and none without.
use crate::support::{
    Play,
    account::{Watched, job_in, jobs, receipts},
    due, end_of, eventually,
    office::{client, open, with_api},
    retry,
};
use alloy::{
    primitives::{Address, U256},
    signers::{SignerSync, local::PrivateKeySigner},
};
use cryptlet_api::{Client, ClientError, types::Role};
use cryptlet_chain::evm::abi::CryptletRegister;
use cryptlet_host::{DataFolder, Host, HostConfig, Progress};
use cryptlet_seal::sha256;
use cryptlet_types::{
    JobState::{Delivered, Failed},
    Policy, Sha256Digest,
    policy::{Approval, EvidenceRule, ServeRule, SignedPolicy, Whom},
};
use std::fs;

/// A host's configuration with an API and no policy file.
fn without_file(play: &Play) -> HostConfig {
    HostConfig {
        policy: None,
        ..with_api(play.config())
    }
}

async fn put(client: &Client, signed: &SignedPolicy) -> Result<(), String> {
    let document = serde_json::from_slice(&signed.to_json().unwrap()).unwrap();
    match client.set_policy(&document).await {
        Ok(_) => Ok(()),
        Err(ClientError::Problem(problem)) => {
            assert_eq!(problem.status, 422, "{problem:?}");
            Err(problem.detail)
        }
        Err(error) => panic!("{error}"),
    }
}

async fn events_wait(host: &Host, count: usize) {
    eventually("the events wait", || async {
        let events = host.journal().unrouted_events().await.unwrap();
        (events.len() == count).then_some(())
    })
    .await;
}

/// Waits until the host says that no policy is in force, for this reason.
async fn without(play: &Play, host: &Host, reason: &str) {
    eventually(reason, || async {
        let standing = host.rules().standing();
        let without = standing.without.filter(|_| standing.policy.is_none());
        if without.is_some_and(|said| said.contains(reason)) {
            return Some(());
        }
        play.stage.rpc("evm_mine", ()).await.unwrap();
        None
    })
    .await;
}

#[tokio::test]
async fn without_a_policy_work_waits_until_one_is_handed_in() {
    let play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let config = without_file(&play);
    let host = open(&config).await;
    let operator = client(&host, &config, Role::Operator);
    without(&play, &host, "not handed over").await;
    play.noon(12).await;
    play.noon(13).await;
    events_wait(&host, 2).await;
    assert!(jobs(host.journal(), watched.subject).await.is_empty());
    let missing = operator.policy().await.unwrap_err().to_string();
    assert!(missing.contains("not handed over"), "{missing}");

    put(&operator, &play.stage.policy).await.unwrap();
    for day in [12, 13] {
        job_in(&host, watched, due(day), &[Delivered]).await;
    }
    let info = operator.policy().await.unwrap();
    assert!(info.confirmed && info.epoch == 1 && info.approvals.len() == 1);
    assert_eq!(play.consumed(watched.subject).await, [(1, true), (2, true)]);
}

#[tokio::test]
async fn without_a_policy_work_waits_over_a_restart_until_its_file_is_there() {
    let mut play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let config = with_api(play.config());
    let path = config.policy.clone().unwrap();
    let old = fs::read(&path).unwrap();
    let next = Policy {
        epoch: 2,
        ..play.stage.policy.policy.clone()
    };
    play.stage.enact(next).await.unwrap();
    let new = fs::read(&path).unwrap();
    fs::write(&path, &old).unwrap();
    let mut host = open(&config).await;
    without(&play, &host, "policy 2 in force").await;
    play.noon(12).await;
    events_wait(&host, 1).await;
    host.stop().await;
    drop(host);
    let host = open(&config).await;
    without(&play, &host, "policy 2 in force").await;
    events_wait(&host, 1).await;

    fs::write(&path, &new).unwrap();
    play.in_force(&host, 2).await;
    let record = job_in(&host, watched, due(12), &[Delivered]).await;
    assert_eq!(record.job.policy_epoch, 2);
}

#[tokio::test]
async fn a_new_epoch_without_its_document_stops_new_jobs() {
    let play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let config = without_file(&play);
    let host = open(&config).await;
    play.synced(&host).await;
    let operator = client(&host, &config, Role::Operator);
    put(&operator, &play.stage.policy).await.unwrap();
    play.noon(12).await;
    job_in(&host, watched, due(12), &[Delivered]).await;

    let next = Policy {
        epoch: 2,
        ..play.stage.policy.policy.clone()
    };
    let next = play.stage.approve(next).unwrap();
    play.stage.set_policy(&next).await.unwrap();
    without(&play, &host, "policy 2 in force").await;
    let info = operator.host().await.unwrap();
    assert!(info.policy.is_none());
    assert!(
        !operator.policy().await.unwrap().confirmed,
        "the last one, which is not in force"
    );
    play.noon(13).await;
    events_wait(&host, 1).await;
    put(&operator, &next).await.unwrap();
    let record = job_in(&host, watched, due(13), &[Delivered]).await;
    assert_eq!(record.job.policy_epoch, 2);
}

/// An approval by `signer`, as one of the board of three.
fn approval(play: &Play, signer: &PrivateKeySigner, policy: &Policy) -> Approval {
    approval_in(SECOND_TERM, play, signer, policy)
}

fn approval_in(term: u64, play: &Play, signer: &PrivateKeySigner, policy: &Policy) -> Approval {
    let digest = sha256(&policy.to_json().unwrap());
    let domain = play.stage.domain();
    let message = domain.policy_digest(signer.address(), term, policy.epoch, digest);
    let signature = signer.sign_hash_sync(&message).unwrap();
    Approval {
        administrator: signer.address(),
        signature: signature.as_bytes().to_vec().into(),
    }
}

/// Of the board that follows the stage's.
const SECOND_TERM: u64 = 2;

/// A board of three, of whom two have to approve; ascending by address.
async fn board_of_three(play: &Play) -> Vec<PrivateKeySigner> {
    let mut board: Vec<_> = (0..3).map(|_| PrivateKeySigner::random()).collect();
    board.sort_by_key(PrivateKeySigner::address);
    let members: Vec<Address> = board.iter().map(PrivateKeySigner::address).collect();
    let register = play.register();
    let (by, two) = (play.stage.account.address(), U256::from(2));
    let hash = register.hashAdministrators(by, SECOND_TERM, members.clone(), two);
    let hash = hash.call().await.unwrap();
    let signature = play.stage.account.sign_hash_sync(&hash).unwrap();
    let approvals = vec![CryptletRegister::PolicyApproval {
        administrator: by,
        signature: signature.as_bytes().to_vec().into(),
    }];
    crate::support::office::mined(register.setAdministrators(members, two, approvals)).await;
    board
}

#[tokio::test]
async fn what_is_no_approved_policy_of_the_register_is_refused_by_name_and_the_last_one_stays() {
    let play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let config = without_file(&play);
    let host = open(&config).await;
    play.synced(&host).await;
    let operator = client(&host, &config, Role::Operator);
    let first = play.stage.policy.clone();
    put(&operator, &first).await.unwrap();

    let board = board_of_three(&play).await;
    let second = Policy {
        epoch: 2,
        ..first.policy.clone()
    };
    let by = |members: &[usize]| SignedPolicy {
        approvals: members
            .iter()
            .map(|member| approval(&play, &board[*member], &second))
            .collect(),
        policy: second.clone(),
    };
    // The register does not know it yet.
    let early = put(&operator, &by(&[0, 2])).await.unwrap_err();
    assert!(
        early.contains("epoch 1") && early.contains("epoch 2"),
        "{early}"
    );
    assert_eq!(host.rules().standing().policy.unwrap().policy.epoch, 1);

    play.stage.set_policy(&by(&[0, 2])).await.unwrap();
    without(&play, &host, "policy 2 in force").await;
    let stranger = PrivateKeySigner::random();
    let of_stranger = SignedPolicy {
        approvals: {
            let mut approvals = by(&[0]).approvals;
            approvals.push(approval(&play, &stranger, &second));
            approvals.sort_by_key(|approval| approval.administrator);
            approvals
        },
        policy: second.clone(),
    };
    let forged = {
        let mut signed = by(&[0, 1]);
        signed.approvals[1].signature = approval(&play, &stranger, &second).signature;
        signed
    };
    let of_the_term_before = SignedPolicy {
        approvals: vec![
            approval_in(1, &play, &board[0], &second),
            approval_in(1, &play, &board[2], &second),
        ],
        policy: second.clone(),
    };
    let wider = Policy {
        retry: retry(1_000),
        ..second.clone()
    };
    let other_document = SignedPolicy {
        approvals: vec![
            approval(&play, &board[0], &wider),
            approval(&play, &board[2], &wider),
        ],
        policy: wider,
    };
    let cases = [
        (by(&[]), "0 count"),
        (by(&[1]), "1 count"),
        (by(&[1, 1]), "approves twice"),
        (by(&[2, 0]), "ascend"),
        (of_stranger, "is not an administrator"),
        (forged, "1 count"),
        (of_the_term_before, "0 count"),
        (other_document, "the register's, which is epoch 2"),
        (first, "policy of epoch 1"),
    ];
    for (signed, word) in cases {
        let said = put(&operator, &signed).await.expect_err(word);
        assert!(said.contains(word), "{word}: {said}");
        let standing = host.rules().standing();
        assert!(standing.policy.is_none(), "{word}");
        let kept = host.rules().document().await.unwrap().unwrap();
        assert_eq!(kept.policy.epoch, 1, "{word}");
    }
    put(&operator, &by(&[0, 2])).await.unwrap();
    let old = put(&operator, &play.stage.policy).await.unwrap_err();
    assert!(old.contains('1') && old.contains('2'), "{old}");
    assert_eq!(host.rules().standing().policy.unwrap().policy.epoch, 2);
    play.noon(12).await;
    job_in(&host, watched, due(12), &[Delivered]).await;
}

/// Under `change`, the event of day 12 is refused for a reason that names `word`, and nothing is delivered.
async fn assert_refused(word: &str, change: impl FnOnce(&mut Policy)) {
    let mut play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    enact(&mut play, 2, change).await;
    let host = play.host().await;
    let mut news = host.watch();
    play.in_force(&host, 2).await;
    play.noon(12).await;
    match end_of(&mut news, watched.subject, due(12)).await.last {
        Progress::Refused { reason, .. } => assert!(reason.contains(word), "{reason}"),
        other => panic!("not refused: {other:?}"),
    }
    assert!(jobs(host.journal(), watched.subject).await.is_empty());
    assert!(play.consumed(watched.subject).await.is_empty());
}

async fn enact(play: &mut Play, epoch: u64, change: impl FnOnce(&mut Policy)) {
    let mut policy = play.stage.policy.policy.clone();
    policy.epoch = epoch;
    change(&mut policy);
    play.stage.enact(policy).await.unwrap();
}

#[tokio::test]
async fn consumers_that_policy_does_not_list_are_not_served() {
    let nobody = || Whom::Only(vec![]);
    assert_refused("serve.consumers", |policy| {
        policy.serve.consumers = nobody()
    })
    .await;
}

#[tokio::test]
async fn publishers_that_policy_does_not_list_are_not_run() {
    let other = Whom::Only(vec![Address::repeat_byte(1)]);
    assert_refused("`publishers`", |policy| policy.publishers = other).await;
}

#[tokio::test]
async fn callbacks_that_cost_more_than_policy_says_are_not_paid_for() {
    assert_refused("serve.maximumCallbackGas", |policy| {
        policy.serve.maximum_callback_gas = 1;
    })
    .await;
}

#[tokio::test]
async fn a_subscription_is_not_woken_more_often_than_policy_says() {
    let mut play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let rule = |policy: &mut Policy| {
        policy.serve = ServeRule {
            minimum_interval_seconds: 2 * 86_400,
            ..policy.serve.clone()
        };
    };
    enact(&mut play, 2, rule).await;
    let host = play.host().await;
    play.in_force(&host, 2).await;
    let mut news = host.watch();
    play.noon(12).await;
    job_in(&host, watched, due(12), &[Delivered]).await;
    play.noon(13).await;
    match end_of(&mut news, watched.subject, due(13)).await.last {
        Progress::Refused { reason, .. } => {
            assert!(reason.contains("serve.minimumIntervalSeconds"), "{reason}");
        }
        other => panic!("not refused: {other:?}"),
    }
    play.noon(14).await;
    job_in(&host, watched, due(14), &[Delivered]).await;
    assert_eq!(play.consumed(watched.subject).await, [(1, true), (2, true)]);
}

#[tokio::test]
async fn a_region_without_a_control_that_policy_requires_gets_no_key() {
    let mut play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    enact(&mut play, 2, |policy| {
        policy.controls.push("lead-shield".into())
    })
    .await;
    let host = play.host().await;
    play.in_force(&host, 2).await;
    play.noon(12).await;
    let record = job_in(&host, watched, due(12), &[Failed, Delivered]).await;
    let note = record.note.unwrap();
    assert!(note.contains("lead-shield"), "{note}");
    assert!(record.run.is_none() && play.consumed(watched.subject).await.is_empty());
}

/// Keys of the regions that made the subscription's reports, by report.
async fn regions(host: &Host, watched: Watched) -> Vec<(Address, u64)> {
    let receipts = receipts(host.journal(), watched.subject).await;
    let region = receipts.iter().map(|stored| {
        let receipt = &stored.receipt;
        (receipt.evidence.statement.region_key, receipt.policy_epoch)
    });
    region.collect()
}

#[tokio::test]
async fn another_policy_is_obeyed_by_new_regions_only() {
    let mut play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let host = play.host().await;
    for day in [12, 13] {
        play.noon(day).await;
        job_in(&host, watched, due(day), &[Delivered]).await;
    }
    enact(&mut play, 2, |policy| policy.retry = retry(2)).await;
    play.in_force(&host, 2).await;
    play.noon(14).await;
    job_in(&host, watched, due(14), &[Delivered]).await;
    let [(first, 1), (again, 1), (other, 2)] = regions(&host, watched).await[..] else {
        panic!("three reports under two policies")
    };
    assert_eq!(first, again, "a region serves as long as its policy");
    assert_ne!(first, other);
    let digests: Vec<Sha256Digest> = receipts(host.journal(), watched.subject)
        .await
        .iter()
        .map(|stored| stored.receipt.policy)
        .collect();
    let current = sha256(&play.stage.policy.policy.to_json().unwrap());
    assert_eq!(digests[2], current, "the receipt says by which policy");
}

#[tokio::test]
async fn evidence_that_is_older_than_policy_says_is_made_anew() {
    let mut play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let rule = EvidenceRule {
        max_age_seconds: 3_600,
        ..EvidenceRule::default()
    };
    enact(&mut play, 2, |policy| policy.evidence = rule).await;
    let host = play.host().await;
    play.in_force(&host, 2).await;
    for day in [12, 13] {
        play.noon(day).await;
        job_in(&host, watched, due(day), &[Delivered]).await;
    }
    let [(first, 2), (second, 2)] = regions(&host, watched).await[..] else {
        panic!("two reports")
    };
    assert_ne!(first, second);
}

#[tokio::test]
async fn a_damaged_memory_of_policy_is_the_hosts_fault_and_its_place_stays_inside() {
    let play = Play::market(retry(3)).await;
    let config = with_api(play.config());
    let host = open(&config).await;
    play.in_force(&host, 1).await;
    let operator = client(&host, &config, Role::Operator);
    let folder = DataFolder::at(&config.data).policy();
    fs::write(folder.join("policy-in-force.json"), "damaged").unwrap();
    let document = serde_json::from_slice(&play.stage.policy.to_json().unwrap()).unwrap();
    match operator.set_policy(&document).await {
        Err(ClientError::Problem(problem)) => {
            assert_eq!(problem.status, 500, "{problem:?}");
            assert!(
                !problem.to_string().contains("policy-in-force"),
                "{problem}"
            );
        }
        other => panic!("{other:?}"),
    }
}
