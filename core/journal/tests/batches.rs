//! Many at once: what is shared, what is left out, and what comes along.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it goes wrong"
)]

mod support;

use alloy_primitives::{B256, Bytes, I256};
use cryptlet_journal::{
    Delivered, How, JobFilter, Journal, JournalError, MessageOutcome, Page, Ran, RunOutcome, Taken,
};
use cryptlet_types::{
    Event, Job, JobId, JobState, Subject, Trigger,
    event::{Message, Observation, Step},
    report::CompactSignature,
};
use sqlx::{Connection as _, Row as _, SqliteConnection};
use support::*;

async fn memory() -> Journal {
    Journal::in_memory(ticks()).await.unwrap()
}

/// Jobs of one subscription, all due at once, each of another log.
async fn logged(journal: &Journal, count: u64) -> Vec<Job> {
    subscribe(journal, 1).await;
    let jobs: Vec<_> = (0..count).map(|n| job_of(1, log(1, n, 1))).collect();
    let events: Vec<_> = jobs.iter().cloned().map(Into::into).collect();
    let applied = journal.apply("other", cursor(1), &[], &events).await;
    assert_eq!(applied.unwrap().events.len(), jobs.len());
    jobs
}

fn reported(job: &Job) -> Ran {
    Ran {
        run: first(job.id),
        outcome: RunOutcome::Reported(Box::new(run(job, 1))),
        next: None,
    }
}

fn skipped(job: &Job, next: Option<Event>) -> Ran {
    Ran {
        run: first(job.id),
        outcome: RunOutcome::Skipped("goes on".into()),
        next: next.map(|event| job_of(1, event).into()),
    }
}

fn step(job: &Job) -> Event {
    let step = Step {
        of: job.event.id,
        number: 1,
        state: Bytes::from_static(b"half"),
        at: SINCE,
        signature: CompactSignature::default(),
    };
    Event::new(&DOMAIN, job.subscription.subject, Trigger::Step(step))
}

#[tokio::test]
async fn a_stale_job_does_not_hold_up_the_others() {
    let journal = memory().await;
    let jobs = logged(&journal, 3).await;
    ran(&journal, jobs[1].id, RunOutcome::Parked("no luck".into()))
        .await
        .unwrap();
    let runs: Vec<_> = jobs.iter().map(reported).collect();
    let told = journal.record_runs(&runs).await.unwrap();
    assert!(told[0].is_ok() && told[2].is_ok());
    assert!(matches!(
        told[1],
        Err(JournalError::WrongState {
            is: JobState::Parked,
            ..
        })
    ));
    let ids = jobs.iter().map(|job| first(job.id));
    let ids: Vec<_> = ids.collect();
    let all = journal.record_submission(&ids, &submission(0, 1)).await;
    assert!(matches!(all, Err(JournalError::WrongState { .. })));
    assert_eq!(journal.pending_submissions().await.unwrap(), []);
    let reasons: Vec<_> = ids.iter().map(|id| (*id, "expired")).collect();
    let told = journal.reopen(&reasons).await.unwrap();
    assert_eq!(told.iter().filter(|told| told.is_ok()).count(), 2);
    let unknown = [(ids[0], ""), (first(JobId(B256::ZERO)), "")];
    let error = journal.reopen(&unknown).await;
    assert!(matches!(error, Err(JournalError::UnknownJob(_))));
}

#[tokio::test]
async fn a_step_comes_with_the_run_that_asked_for_it() {
    let journal = memory().await;
    let jobs = logged(&journal, 2).await;
    let next = skipped(&jobs[0], Some(step(&jobs[0])));
    let told = journal.record_runs(&[next]).await.unwrap();
    let how = How::New;
    let taken = Taken { how, job: Some(3) };
    assert_eq!(*told[0].as_ref().unwrap(), Some(taken));
    let unfinished = journal.unfinished().await.unwrap();
    let numbers: Vec<_> = unfinished.iter().map(|job| job.number).collect();
    assert_eq!(numbers, [2, 3]);
    // What follows from a stale job does not follow.
    let stale = Ran {
        next: Some(step(&jobs[1]).into()),
        ..skipped(&jobs[0], None)
    };
    assert!(journal.record_runs(&[stale]).await.unwrap()[0].is_err());
    assert_eq!(journal.unrouted_events().await.unwrap(), []);
}

#[tokio::test]
async fn deliveries_of_one_transaction_keep_its_inclusion_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let journal = open(&path).await;
    let jobs = logged(&journal, 4).await;
    let runs: Vec<_> = jobs.iter().map(reported).collect();
    journal.record_runs(&runs).await.unwrap();
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    let sent = submission(0, 1);
    let all: Vec<_> = ids.iter().copied().map(first).collect();
    journal.record_submission(&all, &sent).await.unwrap();
    let pending = journal.pending_submissions().await.unwrap();
    assert_eq!(pending, [(sent.clone(), ids.clone())]);

    let mut deliveries: Vec<_> = jobs
        .iter()
        .map(|job| delivered(job, &run(job, 1), true, 9))
        .collect();
    // One is part of another transaction; the last one comes later.
    deliveries[1].receipt.inclusion.transaction_index = 1;
    for part in [&deliveries[..3], &deliveries[3..]] {
        let told = journal.record_deliveries(part).await.unwrap();
        assert!(told.iter().all(Result::is_ok));
    }
    for Delivered { run, receipt, .. } in &deliveries {
        let stored = journal.receipt(run.job).await.unwrap().unwrap();
        assert_eq!(stored.receipt, *receipt);
        let file = |receipt: &cryptlet_types::Receipt| receipt.to_json().unwrap();
        assert_eq!(file(&stored.receipt), file(receipt), "byte for byte");
        let record = journal.job(run.job).await.unwrap().unwrap();
        assert_eq!(record.block, Some(cursor(9)));
    }
    let listing = journal.receipts(Page::default()).await.unwrap();
    let receipts = listing.items.into_iter().map(|stored| stored.receipt);
    assert!(receipts.eq(deliveries.into_iter().map(|delivered| delivered.receipt)));
    journal.close().await.unwrap();
    let mut conn = SqliteConnection::connect(path.to_str().unwrap())
        .await
        .unwrap();
    let row = sqlx::query("SELECT count(*) FROM inclusion");
    let count: i64 = row.fetch_one(&mut conn).await.unwrap().get(0);
    assert_eq!(count, 2);
}

#[tokio::test]
async fn a_poison_job_waits_for_a_hand() {
    let journal = memory().await;
    let jobs = logged(&journal, 1).await;
    let (job, run) = (&jobs[0], run(&jobs[0], 1));
    for _ in 0..3 {
        ran(&journal, job.id, RunOutcome::Attempt("trap".into()))
            .await
            .unwrap();
    }
    report(&journal, job.id, &run).await.unwrap();
    journal
        .record_submission(&[first(job.id)], &submission(0, 1))
        .await
        .unwrap();
    let error = journal.unpark(job.id).await.unwrap_err();
    assert!(matches!(error, JournalError::WrongState { .. }), "{error}");
    ran(&journal, job.id, RunOutcome::Parked("reverts".into()))
        .await
        .unwrap();
    assert_eq!(journal.unfinished().await.unwrap(), []);
    let filter = JobFilter {
        cryptlet: Some(job.subscription.cryptlet),
        states: vec![JobState::Parked],
        ..JobFilter::default()
    };
    let listing = journal.jobs(&filter, Page::default()).await.unwrap();
    assert_eq!(listing.items[0].note.as_deref(), Some("reverts"));
    assert_eq!(listing.items[0].attempts, 3);
    journal.unpark(job.id).await.unwrap();
    let record = journal.job(job.id).await.unwrap().unwrap();
    assert_eq!(
        (record.state, record.attempts, record.run, record.submission),
        (JobState::Routed, 0, None, None)
    );
    let other = JobFilter {
        cryptlet: Some(cryptlet_types::CryptletId(alloy_primitives::Address::ZERO)),
        ..JobFilter::default()
    };
    let listing = journal.jobs(&other, Page::default()).await.unwrap();
    assert_eq!(listing.items, []);
}

fn message(id: &str, data: &'static [u8], at: u64) -> Message {
    Message {
        application: "crm".into(),
        id: id.into(),
        kind: "order".into(),
        at,
        data: Bytes::from_static(data),
    }
}

#[tokio::test]
async fn a_message_is_taken_once() {
    let journal = memory().await;
    subscribe(&journal, 1).await;
    let first = message("1", b"ten", SINCE);
    let subject = subscription(1).subject;
    let event = Event::new(&DOMAIN, subject, Trigger::Application(first.clone()));
    let events = [job_of(1, event).into()];
    let how = How::New;
    let new = MessageOutcome::New(vec![Taken { how, job: Some(1) }]);
    let record = |message: Message| {
        let (journal, events) = (&journal, &events);
        async move { journal.record_message(&message, events).await.unwrap() }
    };
    assert_eq!(record(first.clone()).await, new);
    assert_eq!(
        record(message("1", b"ten", SINCE + 9)).await,
        MessageOutcome::Known,
        "sent again"
    );
    assert_eq!(
        record(message("1", b"eleven", SINCE)).await,
        MessageOutcome::Conflict
    );
    let mut other = first.clone();
    other.kind = "invoice".into();
    assert_eq!(record(other).await, MessageOutcome::Conflict);

    // A message whose events cannot be recorded was never received.
    let nobody = Event::new(&DOMAIN, Subject(B256::ZERO), Trigger::Request { at: 1 });
    let lost = message("2", b"", SINCE + 1);
    let error = journal.record_message(&lost, &[nobody.into()]).await;
    assert!(matches!(error, Err(JournalError::UnknownSubscription(_))));
    let taken = journal.record_message(&lost, &[]).await.unwrap();
    assert_eq!(taken, MessageOutcome::New(vec![]));

    assert_eq!(journal.prune_messages(SINCE + 1).await.unwrap(), 1);
    let how = How::Known;
    let again = MessageOutcome::New(vec![Taken { how, job: None }]);
    assert_eq!(record(first).await, again, "its event is known for ever");
}

#[tokio::test]
async fn a_feed_remembers_its_last_value_and_its_triggers_where_they_stand() {
    let journal = memory().await;
    subscribe(&journal, 1).await;
    let subject = subscription(1).subject;
    let observation = |at, value: i64| Observation {
        feed: B256::repeat_byte(1),
        value: I256::try_from(value).unwrap(),
        at,
        signature: CompactSignature::default(),
    };
    let crossing = observation(20, -5);
    let trigger = Trigger::Threshold {
        observation: crossing.clone(),
    };
    let events = [Event::new(&DOMAIN, subject, trigger).into()];
    let fired = [(subject, r#"{"armed":false}"#.to_owned())];
    let taken = journal
        .record_observation(&crossing, &events, &fired)
        .await
        .unwrap();
    assert_eq!(taken[0].how, How::New);
    let state = || async { journal.subscriptions().await.unwrap()[0].state.clone() };
    assert_eq!(state().await.as_deref(), Some(r#"{"armed":false}"#));
    let late = observation(19, 7);
    journal.record_observation(&late, &[], &[]).await.unwrap();
    assert_eq!(journal.feeds().await.unwrap(), [crossing]);

    let nobody = [
        (subject, "lost".to_owned()),
        (Subject(B256::ZERO), "{}".to_owned()),
    ];
    let newer = observation(21, 8);
    let error = journal.record_observation(&newer, &[], &nobody).await;
    assert!(matches!(error, Err(JournalError::UnknownSubscription(_))));
    assert_eq!(state().await.as_deref(), Some(r#"{"armed":false}"#));
    journal.record_observation(&newer, &[], &[]).await.unwrap();
    assert_eq!(journal.feeds().await.unwrap(), [newer]);
    // Said again by the log, a subscription keeps what its trigger has come to.
    subscribe(&journal, 1).await;
    assert!(state().await.is_some());
}
