//! A chain takes blocks back: what the journal makes of it, case by case.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it goes wrong"
)]

mod support;

use alloy_primitives::Bytes;
use cryptlet_journal::{
    ActiveSubscription, DELEGATE, How, Journal, JournalError, Page, Rewound, RunOutcome,
    SubscriptionChange, Taken,
};
use cryptlet_types::{
    Event, JobState, Subject, Trigger,
    event::{Message, Step},
    report::CompactSignature,
};
use support::*;

async fn memory() -> Journal {
    Journal::in_memory(ticks()).await.unwrap()
}

fn subject() -> Subject {
    subscription(1).subject
}

fn ended(block: u64) -> SubscriptionChange {
    let subject = subject();
    SubscriptionChange::Ended { subject, block }
}

fn paused(block: u64) -> SubscriptionChange {
    let subject = subject();
    SubscriptionChange::Paused { subject, block }
}

fn resumed(block: u64) -> SubscriptionChange {
    let subject = subject();
    let at = SINCE + block;
    SubscriptionChange::Resumed { subject, block, at }
}

async fn rewind(journal: &Journal, to: u64) -> Rewound {
    journal.rewind(DELEGATE, cursor(to)).await.unwrap()
}

async fn state(journal: &Journal, job: &cryptlet_types::Job) -> JobState {
    journal.job(job.id).await.unwrap().unwrap().state
}

/// An event of an application.
fn message(id: &str) -> Event {
    let message = Message {
        application: "crm".into(),
        id: id.into(),
        kind: String::new(),
        at: SINCE + 5,
        data: Bytes::new(),
    };
    Event::new(&DOMAIN, subject(), Trigger::Application(message))
}

#[tokio::test]
async fn a_subscription_is_as_it_was_at_the_block() {
    // What the subscription is after each block: paused or not; none when it has ended.
    let changes = [
        (2, added(1, 2), Some(false)),
        (3, paused(3), Some(true)),
        (4, resumed(4), Some(false)),
        (5, paused(5), Some(true)),
        (6, ended(6), None),
    ];
    for (to, _, expected) in &changes {
        let journal = memory().await;
        apply(&journal, 1, &[]).await;
        for (block, change, _) in &changes {
            apply(&journal, *block, std::slice::from_ref(change)).await;
        }
        let rewound = rewind(&journal, *to).await;
        let expected_changes: &[_] = match *to {
            6 => &[],
            _ => &[subject()],
        };
        assert_eq!(rewound.restored, expected_changes);
        let found = journal.subscriptions().await.unwrap();
        let found = found.first().map(|active| active.paused);
        assert_eq!(found, *expected, "after block {to}");
        // And the other branch goes the same way as the one before.
        for (block, change, _) in changes.iter().filter(|(block, ..)| block > to) {
            apply(&journal, *block, std::slice::from_ref(change)).await;
        }
        assert_eq!(journal.subscriptions().await.unwrap(), []);
        rewind(&journal, 5).await;
        assert!(journal.subscriptions().await.unwrap()[0].paused);
    }
}

#[tokio::test]
async fn what_was_due_during_a_pause_that_never_was_is_made_up() {
    let journal = memory().await;
    apply(&journal, 1, &[added(1, 1)]).await;
    apply(&journal, 5, &[paused(5)]).await;
    let taken = journal.record_events(&[event(1, 6).into()]).await.unwrap();
    assert_eq!(taken[0].how, How::Unserved, "nothing is made in a pause");
    apply(&journal, 9, &[resumed(9)]).await;
    let fired = |active: Vec<ActiveSubscription>| active[0].fired_until;
    let subscriptions = journal.subscriptions().await.unwrap();
    assert_eq!(fired(subscriptions), SINCE + 8, "nothing is made up for");
    rewind(&journal, 4).await;
    let subscriptions = journal.subscriptions().await.unwrap();
    assert_eq!(fired(subscriptions), SINCE - 1);
}

#[tokio::test]
async fn a_pause_does_not_stop_a_computation() {
    let journal = memory().await;
    apply(&journal, 1, &[added(1, 1), paused(1)]).await;
    let step = Step {
        of: event(1, 1).id,
        number: 1,
        state: Bytes::new(),
        at: SINCE,
        signature: CompactSignature::default(),
    };
    let step = Event::new(&DOMAIN, subject(), Trigger::Step(step));
    let events = [step.into(), message("1").into()];
    let taken = journal.record_events(&events).await.unwrap();
    assert_eq!([taken[0].how, taken[1].how], [How::New, How::Unserved]);
}

#[tokio::test]
async fn a_subscription_that_vanished_takes_its_jobs_along_and_brings_back_what_nobody_says_twice()
{
    let journal = memory().await;
    apply(&journal, 1, &[added(2, 1)]).await;
    let said = job_of(1, message("1"));
    let clock = job(1, 3);
    let other = job(2, 3);
    apply(&journal, 2, &[added(1, 2)]).await;
    let events = [
        clock.clone().into(),
        said.clone().into(),
        message("2").into(),
        other.clone().into(),
    ];
    journal.record_events(&events).await.unwrap();
    report(&journal, said.id, &run(&said, 1)).await.unwrap();

    let rewound = rewind(&journal, 1).await;
    assert_eq!(rewound.vanished, [subject()]);
    assert_eq!((rewound.withdrawn.len(), rewound.events.len()), (2, 3));
    assert_eq!(journal.subscriptions().await.unwrap().len(), 1);
    assert_eq!(journal.unrouted_events().await.unwrap(), []);
    assert_eq!(state(&journal, &clock).await, JobState::Withdrawn);
    assert_eq!(state(&journal, &said).await, JobState::Withdrawn);
    assert_eq!(state(&journal, &other).await, JobState::Routed);
    let taken = journal.record_events(&[job(1, 9).into()]).await.unwrap();
    assert_eq!(taken[0].how, How::Unserved);

    let applied = journal
        .apply(DELEGATE, cursor(3), &[added(1, 3)], &[])
        .await
        .unwrap();
    assert_eq!(applied.restored, [message("1"), message("2")]);
    let active = &journal.subscriptions().await.unwrap()[0];
    assert_eq!((active.block, active.fired_until), (3, SINCE - 1));
    let again = [clock.clone().into(), said.clone().into()];
    let taken = journal.record_events(&again).await.unwrap();
    assert_eq!([taken[0].how, taken[1].how], [How::Revived, How::Known]);
    for job in [&clock, &said] {
        let record = journal.job(job.id).await.unwrap().unwrap();
        assert_eq!((record.state, record.run), (JobState::Routed, None));
    }
    assert_eq!(journal.unrouted_events().await.unwrap(), [message("2")]);
}

#[tokio::test]
async fn a_log_that_moved_is_done_where_it_is_now() {
    let journal = memory().await;
    apply(&journal, 1, &[added(1, 1)]).await;
    let first = job_of(1, log(1, 7, 5));
    let parked = job_of(1, log(1, 9, 5));
    let events = [
        first.clone().into(),
        log(1, 8, 5).into(),
        parked.clone().into(),
    ];
    journal
        .apply("other", cursor(5), &[], &events)
        .await
        .unwrap();
    let poison = RunOutcome::Parked("trap".into());
    ran(&journal, parked.id, poison).await.unwrap();
    // Another chain's blocks are none of this one's.
    assert_eq!(rewind(&journal, 1).await, Rewound::default());
    let rewound = journal.rewind("other", cursor(4)).await.unwrap();
    assert_eq!(rewound.withdrawn, [first.id, parked.id]);
    assert_eq!(rewound.events.len(), 3);
    assert_eq!(journal.unrouted_events().await.unwrap(), []);
    assert_eq!(journal.unfinished().await.unwrap(), []);

    let moved = job_of(1, log(1, 7, 6));
    assert_eq!(moved.id, first.id);
    let events = [moved.clone().into(), log(1, 8, 6).into()];
    let applied = journal
        .apply("other", cursor(6), &[], &events)
        .await
        .unwrap();
    let taken = |job| Taken {
        how: How::Revived,
        job,
    };
    assert_eq!(applied.events, [taken(Some(1)), taken(None)]);
    let record = journal.job(first.id).await.unwrap().unwrap();
    assert_eq!(record.job, moved, "with the block that it is in");
    assert_eq!(journal.unrouted_events().await.unwrap(), [log(1, 8, 6)]);
}

#[tokio::test]
async fn a_delivery_that_was_taken_back_is_made_again() {
    let journal = memory().await;
    apply(&journal, 1, &[added(1, 1)]).await;
    let jobs = [job(1, 1), job(1, 2), job(1, 3)];
    for job in &jobs {
        journal.record_events(&[job.clone().into()]).await.unwrap();
        report(&journal, job.id, &run(job, 1)).await.unwrap();
    }
    let sent = submission(0, 1);
    let ids = [first(jobs[0].id), first(jobs[1].id)];
    journal.record_submission(&ids, &sent).await.unwrap();
    let blocks = [5, 6, 6];
    let deliver = || async {
        let deliveries = jobs.iter().zip(blocks);
        let deliveries: Vec<_> = deliveries
            .map(|(job, block)| delivered(job, &run(job, 1), true, block))
            .collect();
        journal.record_deliveries(&deliveries).await.unwrap()
    };
    assert!(deliver().await.iter().all(Result::is_ok));
    apply(&journal, 6, &[]).await;

    let rewound = rewind(&journal, 5).await;
    let undelivered = [
        (jobs[1].id, JobState::Submitted),
        (jobs[2].id, JobState::Reported),
    ];
    assert_eq!(rewound.undelivered, undelivered);
    assert!(journal.receipt(jobs[0].id).await.unwrap().is_some());
    assert_eq!(journal.receipt(jobs[1].id).await.unwrap(), None);
    let pending = journal.pending_submissions().await.unwrap();
    assert_eq!(pending, [(sent, vec![jobs[1].id])]);
    let told = deliver().await;
    assert_eq!(
        [told[0].is_ok(), told[1].is_ok(), told[2].is_ok()],
        [false, true, true],
        "one is delivered already"
    );
    let listing = journal.receipts(Page::default()).await;
    assert_eq!(listing.unwrap().items.len(), 3);
    let history = journal.history(jobs[1].id).await.unwrap();
    let states: Vec<_> = history.iter().map(|entry| entry.state).collect();
    use JobState::{Delivered, Reported, Routed, Submitted};
    assert_eq!(
        states,
        [Routed, Reported, Submitted, Delivered, Submitted, Delivered]
    );
}

#[tokio::test]
async fn event_and_delivery_of_the_same_blocks_go_together() {
    let journal = memory().await;
    apply(&journal, 1, &[added(1, 1)]).await;
    let job = job_of(1, log(1, 7, 5));
    let events = [job.clone().into()];
    journal
        .apply(DELEGATE, cursor(5), &[], &events)
        .await
        .unwrap();
    report(&journal, job.id, &run(&job, 1)).await.unwrap();
    let delivery = delivered(&job, &run(&job, 1), true, 6);
    journal
        .record_deliveries(std::slice::from_ref(&delivery))
        .await
        .unwrap();
    let rewound = rewind(&journal, 4).await;
    assert_eq!(rewound.withdrawn, [job.id]);
    assert_eq!(rewound.undelivered, []);
    // Its transaction was on its way, and came in after all.
    let told = journal.record_deliveries(&[delivery]).await.unwrap();
    assert!(told[0].is_ok());
    let events = [job_of(1, log(1, 7, 9)).into()];
    let applied = journal.apply(DELEGATE, cursor(9), &[], &events).await;
    let taken = applied.unwrap().events;
    assert_eq!((taken[0].how, taken[0].job), (How::Revived, None));
    assert_eq!(state(&journal, &job).await, JobState::Delivered);
}

#[tokio::test]
async fn a_delivered_job_follows_its_event_once_the_delivery_is_undone() {
    let journal = memory().await;
    apply(&journal, 1, &[added(1, 1)]).await;
    let job = job_of(1, log(1, 7, 5));
    let events = [job.clone().into()];
    journal
        .apply("other", cursor(5), &[], &events)
        .await
        .unwrap();
    report(&journal, job.id, &run(&job, 1)).await.unwrap();
    let delivery = delivered(&job, &run(&job, 1), true, 6);
    journal.record_deliveries(&[delivery]).await.unwrap();
    let rewound = journal.rewind("other", cursor(4)).await.unwrap();
    assert_eq!(rewound.withdrawn, [], "what is delivered is delivered");
    assert_eq!(state(&journal, &job).await, JobState::Delivered);
    let rewound = rewind(&journal, 1).await;
    assert_eq!(rewound.withdrawn, [job.id]);
    assert_eq!(state(&journal, &job).await, JobState::Withdrawn);
}

#[tokio::test]
async fn a_refusal_that_never_was_is_forgotten() {
    let journal = memory().await;
    apply(&journal, 1, &[]).await;
    let refused = SubscriptionChange::Refused {
        subject: subject(),
        block: 2,
        reason: "trigger".into(),
    };
    apply(&journal, 2, &[refused]).await;
    assert_eq!(rewind(&journal, 1).await.vanished, [subject()]);
    apply(&journal, 2, &[added(1, 2)]).await;
    assert_eq!(journal.subscriptions().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_failed_for_a_subscription_that_has_not_ended_after_all_is_done() {
    let journal = memory().await;
    apply(&journal, 1, &[added(1, 1)]).await;
    let subject = subscription(1).subject;
    let jobs = [job(1, 1), job(1, 2)];
    for job in &jobs {
        journal.record_events(&[job.clone().into()]).await.unwrap();
        report(&journal, job.id, &run(job, 1)).await.unwrap();
    }
    let ended = SubscriptionChange::Ended { subject, block: 5 };
    apply(&journal, 5, &[ended]).await;
    let gone = RunOutcome::Unserved("unknown subscription".into());
    ran(&journal, jobs[0].id, gone).await.unwrap();
    let other = RunOutcome::Failed("the cryptlet trapped".into());
    ran(&journal, jobs[1].id, other).await.unwrap();

    let rewound = rewind(&journal, 4).await;
    let late = ran(&journal, jobs[1].id, RunOutcome::Unserved("gone".into())).await;
    assert!(
        matches!(late, Err(JournalError::Served(_))),
        "what was believed before the chain went back does not hold: {late:?}"
    );
    assert_eq!(
        (rewound.restored, rewound.revived),
        (vec![subject], vec![jobs[0].id])
    );
    let record = journal.job(jobs[0].id).await.unwrap().unwrap();
    assert_eq!((record.state, record.present.number), (JobState::Routed, 1));
    let record = journal.job(jobs[1].id).await.unwrap().unwrap();
    assert_eq!(record.state, JobState::Failed);
    assert_eq!(rewind(&journal, 4).await.revived, []);
}

#[tokio::test]
async fn what_failed_for_a_subscription_that_vanished_waits_for_it() {
    let journal = memory().await;
    apply(&journal, 4, &[]).await;
    apply(&journal, 5, &[added(1, 5)]).await;
    let job = job(1, 1);
    journal.record_events(&[job.clone().into()]).await.unwrap();
    report(&journal, job.id, &run(&job, 1)).await.unwrap();
    let sent = submission(0, 1);
    let runs = [first(job.id)];
    journal.record_submission(&runs, &sent).await.unwrap();
    assert_eq!(rewind(&journal, 4).await.withdrawn, [], "it is on its way");
    let gone = RunOutcome::Unserved("unknown subscription".into());
    ran(&journal, job.id, gone).await.unwrap();
    let record = journal.job(job.id).await.unwrap().unwrap();
    assert_eq!(record.state, JobState::Withdrawn);
}
