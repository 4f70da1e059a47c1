//! What the journal promises, promise by promise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops where it goes wrong"
)]

mod support;

use alloy_primitives::B256;
use cryptlet_journal::{JobFilter, Journal, JournalError, Page, SubscriptionChange};
use cryptlet_types::{EventId, JobId, JobState, Subject};
use futures::FutureExt as _;
use sqlx::{Connection as _, SqliteConnection};
use std::path::Path;
use support::*;

async fn memory() -> Journal {
    Journal::in_memory(ticks()).await.unwrap()
}

/// Alters the file as another program would.
async fn alter(path: &Path, sql: &'static str) {
    let mut conn = SqliteConnection::connect(path.to_str().unwrap())
        .await
        .unwrap();
    sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
}

#[tokio::test]
async fn a_cursor_moves_together_with_what_was_found() {
    let journal = memory().await;
    assert_eq!(journal.cursor("delegate").await.unwrap(), None);
    let refused = Subject(B256::repeat_byte(9));
    let changes = [
        SubscriptionChange::Added(subscription(1)),
        SubscriptionChange::Added(subscription(2)),
        SubscriptionChange::Ended(subscription(1).subject),
        SubscriptionChange::Refused {
            subject: refused,
            reason: "trigger: kind 9".into(),
        },
    ];
    for _ in 0..2 {
        journal
            .apply_subscriptions("delegate", cursor(5), &changes)
            .await
            .unwrap();
        assert_eq!(journal.cursor("delegate").await.unwrap(), Some(cursor(5)));
        let active = journal.subscriptions().await.unwrap();
        assert_eq!(active.len(), 1);
        assert_eq!(active[0].subscription, subscription(2));
        assert_eq!(active[0].fired_until, SINCE - 1);
    }
    assert_eq!(journal.cursor("another").await.unwrap(), None);
}

#[tokio::test]
async fn pages_of_subscriptions_together_are_all_that_are_served() {
    let journal = memory().await;
    let mut changes: Vec<_> = (1..=7)
        .map(|nonce| SubscriptionChange::Added(subscription(nonce)))
        .collect();
    changes.push(SubscriptionChange::Ended(subscription(3).subject));
    let applied = journal.apply_subscriptions("delegate", cursor(5), &changes);
    applied.await.unwrap();
    let (mut after, mut seen) = (None, vec![]);
    loop {
        let page = journal.subscriptions_after(after, 4).await.unwrap();
        assert!(page.len() <= 4);
        let Some(last) = page.last() else { break };
        after = Some(last.subscription.subject);
        seen.extend(page);
    }
    assert_eq!(seen.len(), 6);
    assert_eq!(seen, journal.subscriptions().await.unwrap());
}

#[tokio::test]
async fn a_change_that_fails_leaves_the_cursor_where_it_was() {
    let journal = memory().await;
    let mut endless = subscription(2);
    endless.since = u64::MAX;
    let changes = [subscription(1), endless].map(SubscriptionChange::Added);
    let error = journal
        .apply_subscriptions("delegate", cursor(5), &changes)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, JournalError::OutOfRange { field, .. } if *field == "subscription.since")
    );
    assert!(!error.is_retryable());
    assert_eq!(journal.cursor("delegate").await.unwrap(), None);
    assert_eq!(journal.subscriptions().await.unwrap(), []);
}

#[tokio::test]
async fn a_subscription_that_comes_back_keeps_what_has_fired() {
    let journal = memory().await;
    routed(&journal, 1, 50).await;
    routed(&journal, 1, 20).await;
    let active = journal.subscriptions().await.unwrap();
    assert_eq!(active[0].fired_until, SINCE + 50);
}

#[tokio::test]
async fn doubled_triggers_collapse() {
    let journal = memory().await;
    let added = SubscriptionChange::Added(subscription(1));
    journal
        .apply_subscriptions("delegate", cursor(1), &[added])
        .await
        .unwrap();
    assert!(journal.record_event(&event(1, 20)).await.unwrap());
    assert!(!journal.record_event(&event(1, 20)).await.unwrap());
    assert!(
        journal.record_event(&event(1, 10)).await.unwrap(),
        "late, but new"
    );
    let active = journal.subscriptions().await.unwrap();
    assert_eq!(
        active[0].fired_until,
        SINCE + 20,
        "an old event moves nothing back"
    );
    let waiting = journal.unrouted_events().await.unwrap();
    assert_eq!(waiting, [event(1, 10), event(1, 20)]);
}

#[tokio::test]
async fn events_of_nobody_are_not_recorded() {
    let journal = memory().await;
    let error = journal.record_event(&event(1, 1)).await.unwrap_err();
    assert!(
        matches!(error, JournalError::UnknownSubscription(subject) if subject == subscription(1).subject)
    );
    let changes = [
        SubscriptionChange::Added(subscription(1)),
        SubscriptionChange::Ended(subscription(1).subject),
    ];
    journal
        .apply_subscriptions("delegate", cursor(1), &changes)
        .await
        .unwrap();
    assert!(!journal.record_event(&event(1, 1)).await.unwrap());
    assert_eq!(journal.unrouted_events().await.unwrap(), []);
}

#[tokio::test]
async fn an_event_is_settled_once() {
    let journal = memory().await;
    let job = routed(&journal, 1, 1).await;
    assert!(!journal.record_job(&job).await.unwrap());
    assert_eq!(journal.unrouted_events().await.unwrap(), []);
    let routed = journal.refuse_event(job.event.id, "late").await;
    assert!(matches!(routed, Err(JournalError::EventSettled { is, .. }) if is == "routed"));

    journal.record_event(&event(1, 2)).await.unwrap();
    for _ in 0..2 {
        journal
            .refuse_event(event(1, 2).id, "no such cryptlet")
            .await
            .unwrap();
    }
    let refused = journal.record_job(&support::job(1, 2)).await;
    assert!(matches!(refused, Err(JournalError::EventSettled { is, .. }) if is == "refused"));
    let unknown = journal.refuse_event(EventId(B256::ZERO), "").await;
    assert!(matches!(unknown, Err(JournalError::UnknownEvent(_))));
    let unknown = journal.record_job(&support::job(1, 3)).await;
    assert!(matches!(unknown, Err(JournalError::UnknownEvent(_))));
}

#[tokio::test]
async fn the_whole_path_is_told_again_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let journal = open(&path).await;
    let job = routed(&journal, 1, 1).await;
    let run = run(&job, 1);
    journal.record_attempt(job.id, "feed down").await.unwrap();
    journal.record_report(job.id, &run).await.unwrap();
    let (first, second) = (submission(0, 10), submission(0, 12));
    journal.record_submission(job.id, &first).await.unwrap();
    journal.record_submission(job.id, &second).await.unwrap();
    drop(journal);

    let journal = open(&path).await;
    let [record] = &unfinished_jobs(&journal).await[..] else {
        panic!("one job")
    };
    assert_eq!(
        (record.state, record.attempts, &record.job),
        (JobState::Submitted, 1, &job)
    );
    assert_eq!(
        (&record.run, &record.submission),
        (&Some(run.clone()), &Some(second.clone()))
    );
    assert_eq!(journal.submissions(job.id).await.unwrap(), [first, second]);
    journal
        .record_delivery(job.id, &receipt(&job, &run), false)
        .await
        .unwrap();
    journal.close().await.unwrap();

    let journal = open(&path).await;
    assert_eq!(unfinished_jobs(&journal).await, []);
    let stored = journal.receipt(job.id).await.unwrap().unwrap();
    assert_eq!(
        (stored.receipt, stored.success),
        (receipt(&job, &run), false)
    );
    let history: Vec<_> = journal
        .history(job.id)
        .await
        .unwrap()
        .into_iter()
        .map(|entry| (entry.state, entry.note.unwrap_or_default()))
        .collect();
    let states: Vec<_> = history.iter().map(|(state, _)| *state).collect();
    use JobState::{Delivered, Reported, Routed, Submitted};
    assert_eq!(
        states,
        [Routed, Routed, Reported, Submitted, Submitted, Delivered]
    );
    assert_eq!(history[1].1, "feed down");
    assert_eq!(history[5].1, "callback reverted");
}

#[tokio::test]
async fn a_stale_view_changes_nothing() {
    let journal = memory().await;
    let job = routed(&journal, 1, 1).await;
    let early = journal
        .record_submission(job.id, &submission(0, 1))
        .await
        .unwrap_err();
    assert_eq!(
        early.to_string(),
        format!("job {} is routed, it cannot become submitted", job.id)
    );
    journal.record_report(job.id, &run(&job, 1)).await.unwrap();
    let before = journal.job(job.id).await.unwrap();
    let twice = journal.record_report(job.id, &run(&job, 2)).await;
    assert!(matches!(
        twice,
        Err(JournalError::WrongState {
            is: JobState::Reported,
            wanted: JobState::Reported,
            ..
        })
    ));
    assert!(journal.record_attempt(job.id, "again").await.is_err());
    assert!(journal.record_skip(job.id, "closed").await.is_err());
    assert_eq!(journal.job(job.id).await.unwrap(), before);
    assert_eq!(journal.history(job.id).await.unwrap().len(), 2);
    let unknown = journal.record_skip(JobId(B256::ZERO), "").await;
    assert!(matches!(unknown, Err(JournalError::UnknownJob(_))));
}

#[tokio::test]
async fn values_of_another_job_are_refused() {
    let journal = memory().await;
    let (one, other) = (routed(&journal, 1, 1).await, routed(&journal, 1, 2).await);
    let run = run(&other, 1);
    let error = journal.record_report(one.id, &run).await;
    assert!(matches!(error, Err(JournalError::OtherJob { .. })));
    journal
        .record_report(one.id, &support::run(&one, 1))
        .await
        .unwrap();
    let error = journal
        .record_delivery(one.id, &receipt(&other, &run), true)
        .await;
    assert!(matches!(error, Err(JournalError::OtherJob { .. })));
}

#[tokio::test]
async fn a_reopened_job_starts_over_and_remembers() {
    let journal = memory().await;
    let job = routed(&journal, 1, 1).await;
    journal.record_attempt(job.id, "feed down").await.unwrap();
    journal.record_report(job.id, &run(&job, 1)).await.unwrap();
    journal
        .record_submission(job.id, &submission(0, 1))
        .await
        .unwrap();
    journal.reopen(job.id, "report expired").await.unwrap();
    let record = journal.job(job.id).await.unwrap().unwrap();
    assert_eq!(
        (record.state, record.run, record.submission),
        (JobState::Routed, None, None)
    );
    assert_eq!(
        (record.attempts, record.note.as_deref()),
        (2, Some("report expired"))
    );
    assert_eq!(journal.submissions(job.id).await.unwrap(), []);
    journal.record_report(job.id, &run(&job, 2)).await.unwrap();
    journal
        .record_submission(job.id, &submission(0, 1))
        .await
        .unwrap();
    assert_eq!(
        journal.submissions(job.id).await.unwrap(),
        [submission(0, 1)]
    );
    assert_eq!(journal.history(job.id).await.unwrap().len(), 7);
}

#[tokio::test]
async fn listings_come_in_pages_and_orders() {
    let journal = memory().await;
    for (subject, n) in [(2, 1), (1, 9), (1, 3), (2, 0), (1, 5)] {
        let job = routed(&journal, subject, n).await;
        let run = run(&job, 0);
        journal.record_report(job.id, &run).await.unwrap();
        if n != 9 && n != 3 {
            journal
                .record_delivery(job.id, &receipt(&job, &run), true)
                .await
                .unwrap();
        }
    }
    let unfinished = unfinished_jobs(&journal).await;
    let order: Vec<_> = unfinished.iter().map(|r| r.job.id).collect();
    assert_eq!(order, [job(1, 3).id, job(1, 9).id]);

    let mut page = Page { after: 0, limit: 2 };
    let mut all = Vec::new();
    let mut sizes = Vec::new();
    loop {
        let listing = journal.jobs(JobFilter::default(), page).await.unwrap();
        sizes.push(listing.items.len());
        all.extend(listing.items.into_iter().map(|record| record.job.id));
        let Some(next) = listing.next else { break };
        page.after = next;
    }
    let filter = JobFilter {
        subject: Some(job(1, 3).event.subject),
        state: Some(JobState::Reported),
    };
    let listing = journal.jobs(filter, Page::default()).await.unwrap();
    let ids: Vec<_> = listing.items.iter().map(|found| found.job.id).collect();
    let as_recorded = [job(1, 9).id, job(1, 3).id];
    assert_eq!(ids, as_recorded, "only what the filter lets through");
    assert_eq!(sizes, [2, 2, 1]);
    let recorded = [(2, 1), (1, 9), (1, 3), (2, 0), (1, 5)].map(|(s, n)| job(s, n).id);
    assert_eq!(all, recorded);
    let receipts = journal.receipts(Page { after: 0, limit: 3 }).await.unwrap();
    assert_eq!((receipts.items.len(), receipts.next), (3, None));
    let counts = journal.counts().await.unwrap();
    assert_eq!(counts.len(), JobState::ALL.len());
    assert_eq!(
        (counts[&JobState::Reported], counts[&JobState::Delivered]),
        (2, 3)
    );
}

#[tokio::test]
async fn strangers_text_is_clipped() {
    let journal = memory().await;
    let job = routed(&journal, 1, 1).await;
    journal
        .record_failure(job.id, &"x".repeat(1 << 20))
        .await
        .unwrap();
    let record = journal.job(job.id).await.unwrap().unwrap();
    assert_eq!(record.note.unwrap().len(), 1024);
}

#[tokio::test]
async fn a_second_host_is_refused_and_the_next_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let first = open(&path).await;
    let second = Journal::open(&path, ticks()).await.unwrap_err();
    assert!(
        matches!(second, JournalError::InUse(_)) && second.is_retryable(),
        "{second}"
    );
    drop(first);
    open(&path).await;
}

#[tokio::test]
async fn files_of_later_versions_and_of_other_programs_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    open(&path).await.close().await.unwrap();
    alter(&path, "PRAGMA user_version = 3").await;
    let newer = Journal::open(&path, ticks()).await.unwrap_err();
    assert!(
        matches!(newer, JournalError::NewerSchema { found: 3, known: 2 }),
        "{newer}"
    );
    assert!(!newer.is_retryable());

    let other = folder.path().join("other.db");
    std::fs::File::create(&other).unwrap();
    alter(&other, "CREATE TABLE notes (text TEXT)").await;
    let error = Journal::open(&other, ticks()).await.unwrap_err();
    assert!(matches!(error, JournalError::NotAJournal(_)), "{error}");

    let text = folder.path().join("text.db");
    std::fs::write(&text, "not a database at all, but long enough for a header").unwrap();
    let error = Journal::open(&text, ticks()).await.unwrap_err();
    assert!(
        matches!(error, JournalError::Database(_)) && !error.is_retryable(),
        "{error}"
    );
}

#[tokio::test]
async fn corrupt_rows_name_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let journal = open(&path).await;
    let job = routed(&journal, 1, 1).await;
    journal.close().await.unwrap();
    let cases = [
        (
            "UPDATE job SET value = substr(value, 1, 50)",
            "table job, row 0x",
        ),
        (
            "UPDATE job SET value = replace(value, 'policyEpoch', 'policyEpock')",
            "policyEpock",
        ),
        ("UPDATE job SET state = 'lost'", "lost"),
        ("UPDATE job SET attempts = -1", "attempts: -1"),
        (
            "UPDATE job SET id = '0x0000000000000000000000000000000000000000000000000000000000000001'",
            "the value is of",
        ),
    ];
    for (sql, reason) in cases {
        let altered = folder.path().join("altered.db");
        std::fs::copy(&path, &altered).unwrap();
        let mut conn = SqliteConnection::connect(altered.to_str().unwrap())
            .await
            .unwrap();
        sqlx::raw_sql("PRAGMA foreign_keys = OFF")
            .execute(&mut conn)
            .await
            .unwrap();
        sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
        let journal = open(&altered).await;
        let error = journal
            .jobs(JobFilter::default(), Page::default())
            .await
            .unwrap_err();
        assert!(
            matches!(error, JournalError::Corrupt { table: "job", .. }) && !error.is_retryable()
        );
        assert!(error.to_string().contains(reason), "{error}");
        assert!(journal.job(job.id).await.map_or(true, |job| job.is_none()));
        journal.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_cancelled_transition_is_whole_or_not_at_all_and_blocks_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(&folder.path().join("journal.db")).await;
    let job = routed(&journal, 1, 1).await;
    let mut undone = 0;
    for polls in 0..40 {
        let before = journal.job(job.id).await.unwrap().unwrap().attempts;
        {
            let mut attempt = Box::pin(journal.record_attempt(job.id, "cancelled"));
            for _ in 0..polls {
                if (&mut attempt).now_or_never().is_some() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let record = journal.job(job.id).await.unwrap().unwrap();
        let history = journal.history(job.id).await.unwrap();
        assert_eq!(
            history.len(),
            record.attempts as usize + 1,
            "half a transition"
        );
        undone += u32::from(record.attempts == before);
    }
    assert!(undone > 0, "nothing was ever cancelled");
    journal.record_skip(job.id, "closed").await.unwrap();
}

#[tokio::test]
async fn the_job_before_an_event_is_found_by_its_due() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(&folder.path().join("journal.db")).await;
    let first = routed(&journal, 1, 10).await;
    routed(&journal, 1, 30).await;
    routed(&journal, 2, 20).await;
    let subject = first.subscription.subject;
    let before = [(10, None), (11, Some(10)), (30, Some(10)), (31, Some(30))];
    for (before, expected) in before {
        let found = journal.due_before(subject, SINCE + before).await.unwrap();
        assert_eq!(found, expected.map(|due| SINCE + due), "before {before}");
    }
}
