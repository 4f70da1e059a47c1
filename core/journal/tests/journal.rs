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
use cryptlet_journal::{
    Cursor, Delivered, How, JobFilter, Journal, JournalError, Occurred, Page, Ran, Routed,
    RunOutcome, SubscriptionChange, TRAIL, Taken,
};
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
        added(1, 2),
        added(2, 3),
        SubscriptionChange::Ended {
            subject: subscription(1).subject,
            block: 4,
        },
        SubscriptionChange::Refused {
            subject: refused,
            block: 5,
            reason: "trigger: kind 9".into(),
        },
    ];
    for _ in 0..2 {
        apply(&journal, 5, &changes).await;
        assert_eq!(journal.cursor("delegate").await.unwrap(), Some(cursor(5)));
        let active = journal.subscriptions().await.unwrap();
        assert_eq!(active.len(), 1);
        assert_eq!(active[0].subscription, subscription(2));
        assert_eq!((active[0].fired_until, active[0].block), (SINCE - 1, 3));
    }
    assert_eq!(journal.cursor("another").await.unwrap(), None);
}

#[tokio::test]
async fn pages_of_subscriptions_together_are_all_that_are_served() {
    let journal = memory().await;
    let mut changes: Vec<_> = (1..=7).map(|nonce| added(nonce, 1)).collect();
    changes.push(SubscriptionChange::Ended {
        subject: subscription(3).subject,
        block: 1,
    });
    apply(&journal, 5, &changes).await;
    let (mut after, mut seen) = (None, vec![]);
    loop {
        let page = journal.subscriptions_page(after, 4).await.unwrap();
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
    let endless = SubscriptionChange::Added {
        subscription: endless,
        block: 5,
    };
    let error = journal
        .apply("delegate", cursor(5), &[added(1, 5), endless], &[])
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
async fn a_cursor_goes_back_only_by_rewinding() {
    let journal = memory().await;
    let other = Cursor {
        number: 5,
        hash: B256::repeat_byte(8),
    };
    for number in [3, 5] {
        apply(&journal, number, &[]).await;
    }
    for given in [cursor(4), cursor(3), other] {
        let error = journal.apply("delegate", given, &[], &[]).await;
        assert!(matches!(error, Err(JournalError::Fork { known, .. }) if known == cursor(5)));
    }
    let ahead = journal.rewind("delegate", cursor(6)).await;
    assert!(matches!(ahead, Err(JournalError::Fork { .. })));
    assert_eq!(journal.trail("delegate").await.unwrap(), [5, 3].map(cursor));
    journal.rewind("delegate", cursor(4)).await.unwrap();
    assert_eq!(journal.trail("delegate").await.unwrap(), [4, 3].map(cursor));
    journal.apply("delegate", other, &[], &[]).await.unwrap();
    assert_eq!(journal.cursor("delegate").await.unwrap(), Some(other));
}

#[tokio::test]
async fn a_trail_is_as_long_as_a_reorganisation_may_be() {
    let journal = memory().await;
    apply(&journal, 10, &[]).await;
    journal.rewind("delegate", cursor(9)).await.unwrap();
    for number in 10..u64::from(TRAIL) + 20 {
        apply(&journal, number, &[]).await;
    }
    let trail = journal.trail("delegate").await.unwrap();
    assert_eq!(trail.len(), TRAIL as usize);
    assert_eq!((trail[0].number, trail[1023].number), (1043, 20));
    let error = journal.rewind("delegate", cursor(19)).await.unwrap_err();
    assert!(
        matches!(
            error,
            JournalError::TooDeep {
                oldest: 20,
                to: 19,
                ..
            }
        ),
        "{error}"
    );
    journal.rewind("delegate", cursor(20)).await.unwrap();
    assert_eq!(journal.trail("delegate").await.unwrap(), [cursor(20)]);
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
    subscribe(&journal, 1).await;
    for (n, how) in [(20, How::New), (20, How::Known), (10, How::New)] {
        let taken = journal.record_events(&[event(1, n).into()]).await.unwrap();
        assert_eq!(taken, [Taken { how, job: None }], "late, but new");
    }
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
async fn an_event_may_come_with_its_job() {
    let journal = memory().await;
    let events = [job(1, 1).into(), job(1, 2).into(), event(1, 3).into()];
    let first = journal
        .apply("delegate", cursor(5), &[added(1, 5)], &events)
        .await
        .unwrap();
    let new = |job| Taken { how: How::New, job };
    assert_eq!(first.events, [new(Some(1)), new(Some(2)), new(None)]);
    let again = journal
        .apply("delegate", cursor(5), &[added(1, 5)], &events)
        .await
        .unwrap();
    let how = How::Known;
    assert_eq!(again.events, [Taken { how, job: None }; 3]);
    assert_eq!(journal.unrouted_events().await.unwrap(), [event(1, 3)]);
    let late = journal.record_events(&[job(1, 3).into()]).await.unwrap();
    assert_eq!(late, [Taken { how, job: Some(3) }]);

    let mut other = Occurred::from(job(1, 4));
    other.event = event(1, 5);
    let error = journal.record_events(&[event(1, 6).into(), other]).await;
    assert!(matches!(error, Err(JournalError::OtherEvent { .. })));
    let mut renamed = job(1, 4);
    renamed.id = JobId(B256::ZERO);
    let error = journal
        .record_events(&[event(1, 6).into(), renamed.into()])
        .await;
    assert!(matches!(error, Err(JournalError::OtherJob { .. })));
    assert_eq!(
        journal.unrouted_events().await.unwrap(),
        [],
        "all or nothing"
    );
}

#[tokio::test]
async fn events_of_nobody_are_not_recorded() {
    let journal = memory().await;
    let events = [event(1, 1).into()];
    let error = journal.record_events(&events).await.unwrap_err();
    assert!(
        matches!(error, JournalError::UnknownSubscription(subject) if subject == subscription(1).subject)
    );
    let ended = SubscriptionChange::Ended {
        subject: subscription(1).subject,
        block: 1,
    };
    apply(&journal, 1, &[added(1, 1), ended]).await;
    let how = How::Unserved;
    assert_eq!(
        journal.record_events(&events).await.unwrap(),
        [Taken { how, job: None }]
    );
    assert_eq!(journal.unrouted_events().await.unwrap(), []);
}

#[tokio::test]
async fn an_event_is_settled_once() {
    let journal = memory().await;
    let job = routed(&journal, 1, 1).await;
    let settle = |routed: Routed| async {
        let settled = journal.settle_events(&[routed]).await;
        settled.map(|jobs| jobs[0])
    };
    let wanted = |job: &cryptlet_types::Job| Routed::Job(Box::new(job.clone()));
    let refused = |event, reason: &str| Routed::Refused {
        event,
        reason: reason.into(),
    };
    assert_eq!(settle(wanted(&job)).await.unwrap(), None);
    assert_eq!(journal.unrouted_events().await.unwrap(), []);
    let routed = settle(refused(job.event.id, "late")).await;
    assert!(matches!(routed, Err(JournalError::EventSettled { is, .. }) if is == "routed"));

    journal.record_events(&[event(1, 2).into()]).await.unwrap();
    for _ in 0..2 {
        let no = refused(event(1, 2).id, "no such cryptlet");
        assert_eq!(settle(no).await.unwrap(), None);
    }
    let routed = settle(wanted(&support::job(1, 2))).await;
    assert!(matches!(routed, Err(JournalError::EventSettled { is, .. }) if is == "refused"));
    let unknown = settle(refused(EventId(B256::ZERO), "")).await;
    assert!(matches!(unknown, Err(JournalError::UnknownEvent(_))));
    let unknown = settle(wanted(&support::job(1, 3))).await;
    assert!(matches!(unknown, Err(JournalError::UnknownEvent(_))));
}

#[tokio::test]
async fn the_whole_path_is_told_again_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let journal = open(&path).await;
    let job = routed(&journal, 1, 1).await;
    let run = run(&job, 1);
    ran(&journal, job.id, RunOutcome::Attempt("feed down".into()))
        .await
        .unwrap();
    report(&journal, job.id, &run).await.unwrap();
    let (first, second) = (submission(0, 10), submission(0, 12));
    journal
        .record_submission(&[support::first(job.id)], &first)
        .await
        .unwrap();
    journal
        .record_submission(&[support::first(job.id)], &second)
        .await
        .unwrap();
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
    assert_eq!(
        journal.submissions(support::first(job.id)).await.unwrap(),
        [first, second]
    );
    deliver(&journal, &job, &run, false).await.unwrap();
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
        .record_submission(&[present(&journal, job.id).await], &submission(0, 1))
        .await
        .unwrap_err();
    assert_eq!(
        early.to_string(),
        format!("job {} is routed, it cannot become submitted", job.id)
    );
    report(&journal, job.id, &run(&job, 1)).await.unwrap();
    let before = journal.job(job.id).await.unwrap();
    let twice = report(&journal, job.id, &run(&job, 2)).await;
    assert!(matches!(
        twice,
        Err(JournalError::WrongState {
            is: JobState::Reported,
            wanted: JobState::Reported,
            ..
        })
    ));
    assert!(
        ran(&journal, job.id, RunOutcome::Attempt("again".into()))
            .await
            .is_err()
    );
    assert!(
        ran(&journal, job.id, RunOutcome::Skipped("closed".into()))
            .await
            .is_err()
    );
    assert_eq!(journal.job(job.id).await.unwrap(), before);
    assert_eq!(journal.history(job.id).await.unwrap().len(), 2);
    let unknown = ran(&journal, JobId(B256::ZERO), RunOutcome::Skipped("".into())).await;
    assert!(matches!(unknown, Err(JournalError::UnknownJob(_))));
}

#[tokio::test]
async fn values_of_another_job_are_refused() {
    let journal = memory().await;
    let (one, other) = (routed(&journal, 1, 1).await, routed(&journal, 1, 2).await);
    let run = run(&other, 1);
    let error = report(&journal, one.id, &run).await;
    assert!(matches!(error, Err(JournalError::OtherJob { .. })));
    report(&journal, one.id, &support::run(&one, 1))
        .await
        .unwrap();
    let foreign = Delivered {
        run: first(one.id),
        ..delivered(&other, &run, true, 1)
    };
    let error = journal.record_deliveries(&[foreign]).await;
    assert!(matches!(error, Err(JournalError::OtherJob { .. })));
}

#[tokio::test]
async fn a_reopened_job_starts_over_and_remembers() {
    let journal = memory().await;
    let job = routed(&journal, 1, 1).await;
    ran(&journal, job.id, RunOutcome::Attempt("feed down".into()))
        .await
        .unwrap();
    report(&journal, job.id, &run(&job, 1)).await.unwrap();
    journal
        .record_submission(&[present(&journal, job.id).await], &submission(0, 1))
        .await
        .unwrap();
    reopen(&journal, job.id, "report expired").await.unwrap();
    let record = journal.job(job.id).await.unwrap().unwrap();
    assert_eq!(
        (record.state, record.run, record.submission),
        (JobState::Routed, None, None)
    );
    assert_eq!(
        (record.attempts, record.note.as_deref()),
        (2, Some("report expired"))
    );
    assert_eq!(record.present.number, 1);
    let none = journal.submissions(record.present).await.unwrap();
    assert_eq!(none, [], "what was sent belongs to the run before");
    report(&journal, job.id, &run(&job, 2)).await.unwrap();
    journal
        .record_submission(&[present(&journal, job.id).await], &submission(0, 1))
        .await
        .unwrap();
    assert_eq!(
        journal.submissions(record.present).await.unwrap(),
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
        report(&journal, job.id, &run).await.unwrap();
        if n != 9 && n != 3 {
            deliver(&journal, &job, &run, true).await.unwrap();
        }
    }
    let unfinished = unfinished_jobs(&journal).await;
    let order: Vec<_> = unfinished.iter().map(|r| r.job.id).collect();
    assert_eq!(
        order,
        [job(1, 9).id, job(1, 3).id],
        "as recorded, not as due"
    );

    let mut page = Page { after: 0, limit: 2 };
    let mut all = Vec::new();
    let mut sizes = Vec::new();
    loop {
        let listing = journal.jobs(&JobFilter::default(), page).await.unwrap();
        sizes.push(listing.items.len());
        all.extend(listing.items.into_iter().map(|record| record.job.id));
        let Some(next) = listing.next else { break };
        page.after = next;
    }
    let filter = JobFilter {
        subject: Some(job(1, 3).event.subject),
        cryptlet: Some(subscription(1).cryptlet),
        states: vec![JobState::Reported, JobState::Failed],
    };
    let listing = journal.jobs(&filter, Page::default()).await.unwrap();
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
    ran(&journal, job.id, RunOutcome::Failed("x".repeat(1 << 20)))
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
async fn files_of_other_versions_and_of_other_programs_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    open(&path).await.close().await.unwrap();
    let cases = [
        ("PRAGMA user_version = 5", 5, "use a newer program"),
        ("PRAGMA user_version = 2", 2, "move the file away"),
    ];
    for (sql, version, step) in cases {
        alter(&path, sql).await;
        let error = Journal::open(&path, ticks()).await.unwrap_err();
        assert!(
            matches!(error, JournalError::OtherSchema { found, known: 4 } if found == version),
            "{error}"
        );
        let text = error.to_string();
        let both = format!("has schema {version}, this program reads schema 4: {step}");
        assert!(text.contains(&both), "{text}");
        assert!(!error.is_retryable());
    }

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
            "UPDATE work SET value = substr(value, 1, 50)",
            "table job, row 0x",
        ),
        (
            "UPDATE work SET value = replace(value, 'policyEpoch', 'policyEpock')",
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
            .jobs(&JobFilter::default(), Page::default())
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
            let mut attempt = Box::pin(ran(
                &journal,
                job.id,
                RunOutcome::Attempt("cancelled".into()),
            ));
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
    ran(&journal, job.id, RunOutcome::Skipped("closed".into()))
        .await
        .unwrap();
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

#[tokio::test]
async fn what_was_sent_of_an_earlier_run_is_remembered_and_may_be_the_delivery() {
    let journal = memory().await;
    let job = routed(&journal, 1, 1).await;
    let (early, late) = (run(&job, 1), run(&job, 2));
    report(&journal, job.id, &early).await.unwrap();
    let one = support::first(job.id);
    let sent = submission(0, 1);
    journal.record_submission(&[one], &sent).await.unwrap();
    reopen(&journal, job.id, "expired").await.unwrap();
    report(&journal, job.id, &late).await.unwrap();
    let others = journal.other_runs(job.id).await.unwrap();
    assert_eq!(others, [(one, early.clone())]);
    let numbered = |number| journal.runs_numbered(job.event.subject, number);
    assert_eq!(numbered(1).await.unwrap(), others);
    assert_eq!(numbered(2).await.unwrap(), []);

    let made = [delivered(&job, &early, true, 1)];
    assert!(journal.record_deliveries(&made).await.unwrap()[0].is_ok());
    let record = journal.job(job.id).await.unwrap().unwrap();
    assert_eq!((record.present, record.run), (one, Some(early)));
    assert_eq!(record.submission, Some(sent));
    let others = journal.other_runs(job.id).await.unwrap();
    assert_eq!(others, [], "the second report was never sent");
}

#[tokio::test]
async fn nothing_is_taken_over_of_a_run_that_is_not_the_present_one() {
    let journal = memory().await;
    let job = routed(&journal, 1, 1).await;
    report(&journal, job.id, &run(&job, 1)).await.unwrap();
    let stale = support::first(job.id);
    reopen(&journal, job.id, "expired").await.unwrap();
    let outcome = RunOutcome::Reported(Box::new(run(&job, 1)));
    let next = None;
    let late = [Ran {
        run: stale,
        outcome,
        next,
    }];
    let told = journal.record_runs(&late).await.unwrap().remove(0);
    let error = told.unwrap_err();
    assert!(matches!(error, JournalError::OtherRun { is: 1, .. }));
    assert_eq!(
        error.to_string(),
        format!("job {} is at run 1, not at run 0", job.id)
    );
    report(&journal, job.id, &run(&job, 2)).await.unwrap();
    let sent = journal.record_submission(&[stale], &submission(0, 1)).await;
    assert!(
        matches!(sent, Err(JournalError::OtherRun { given, .. }) if given == stale),
        "{sent:?}"
    );
    let told = journal.reopen(&[(stale, "expired")]).await.unwrap();
    assert!(matches!(told[..], [Err(JournalError::OtherRun { .. })]));
    let made = [delivered(&job, &run(&job, 1), true, 1)];
    assert!(
        journal.record_deliveries(&made).await.unwrap()[0].is_err(),
        "what was never sent cannot be delivered"
    );
}
