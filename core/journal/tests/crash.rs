//! The process is killed, or the disk is full: nothing acknowledged is lost, nothing is half done.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops where it goes wrong"
)]

mod support;

use cryptlet_journal::{JobFilter, Journal, JournalError, Occurred, Page, Ran, RunOutcome};
use cryptlet_types::{JobState, RunRecord};
use std::{
    env,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
};
use support::*;

const FOLDER: &str = "JOURNAL_TEST_FOLDER";

/// This test binary once more, running `test` on `folder`. `limit` is the largest file that it may write,
/// in blocks of 512 bytes.
fn child(test: &str, folder: &Path, limit: Option<u32>) -> Child {
    // A write beyond the limit raises SIGXFSZ, which ends a process that does not ignore it.
    let limit = limit.map_or(String::new(), |blocks| {
        format!("trap '' XFSZ; ulimit -f {blocks}; ")
    });
    Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("{limit}exec \"$0\" \"$@\""))
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn told(line: &str) -> Option<u64> {
    line.strip_prefix("acknowledged ")?.parse().ok()
}

/// Jobs that go through the stages together.
const BATCH: u64 = 3;

/// Takes a batch of jobs from event to receipt: four transactions.
async fn one_batch(journal: &Journal, n: u64) -> Result<(), JournalError> {
    let jobs: Vec<_> = (0..BATCH).map(|k| job(1, n * BATCH + k)).collect();
    let runs: Vec<_> = jobs.iter().map(|job| run(job, 1)).collect();
    let ids: Vec<_> = jobs.iter().map(|job| first(job.id)).collect();
    let events: Vec<_> = jobs.iter().cloned().map(Occurred::from).collect();
    journal.record_events(&events).await?;
    let outcomes: Vec<_> = runs.iter().map(reported).collect();
    journal.record_runs(&outcomes).await?;
    let sent = submission(n, 1);
    journal.record_submission(&ids, &sent).await?;
    let deliveries = jobs.iter().zip(&runs);
    let deliveries: Vec<_> = deliveries
        .map(|(job, run)| delivered(job, run, true, 1))
        .collect();
    let told = journal.record_deliveries(&deliveries).await?;
    assert!(told.iter().all(Result::is_ok));
    Ok(())
}

fn reported(run: &RunRecord) -> Ran {
    Ran {
        run: first(run.input.job),
        outcome: RunOutcome::Reported(Box::new(run.clone())),
        next: None,
    }
}

/// Batches that have been delivered.
async fn receipts(journal: &Journal) -> u64 {
    journal.counts().await.unwrap()[&JobState::Delivered] / BATCH
}

/// Every job has what its state says and a history that ends there.
async fn check(journal: &Journal) {
    let mut page = Page::default();
    loop {
        let listing = journal.jobs(&JobFilter::default(), page).await.unwrap();
        for record in listing.items {
            let id = record.job.id;
            let history = journal.history(id).await.unwrap();
            assert_eq!(history.last().unwrap().state, record.state);
            assert_eq!(record.run.is_some(), record.state >= JobState::Reported);
            assert_eq!(
                record.submission.is_some(),
                record.state >= JobState::Submitted
            );
            let delivered = journal.receipt(id).await.unwrap().is_some();
            assert_eq!(delivered, record.state == JobState::Delivered);
        }
        let Some(next) = listing.next else { break };
        page.after = next;
    }
    for (state, jobs) in journal.counts().await.unwrap() {
        assert_eq!(jobs % BATCH, 0, "half a batch is {}", state.as_str());
    }
    assert_eq!(journal.unrouted_events().await.unwrap(), []);
}

#[tokio::test]
#[ignore = "runs as a child of the other tests"]
async fn child_that_writes() {
    let folder = env::var_os(FOLDER).expect("started by another test");
    let journal = open(&Path::new(&folder).join("journal.db")).await;
    println!();
    let first = receipts(&journal).await;
    // Jobs that the last child left unfinished are in the way of nothing.
    let fired_until = journal.subscriptions().await.unwrap()[0].fired_until;
    let base = (fired_until + 1 - SINCE) / BATCH;
    for n in 0.. {
        if let Err(error) = one_batch(&journal, base + n).await {
            assert_eq!(receipts(&journal).await, first + n, "{error}");
            println!("refused retryable={} {error}", error.is_retryable());
            return;
        }
        println!("acknowledged {}", first + n + 1);
    }
}

#[tokio::test]
async fn sigkill_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let journal = open(&path).await;
    apply(&journal, 1, &[added(1, 1)]).await;
    journal.close().await.unwrap();
    let mut acknowledged = 0;
    for round in 1..=8u64 {
        let mut writer = child("child_that_writes", folder.path(), None);
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let mut lines = lines.map(Result::unwrap);
        let until = acknowledged + 1 + round * 7 % 12;
        acknowledged = lines
            .by_ref()
            .find_map(|line| told(&line).filter(|n| *n >= until))
            .unwrap();
        let error = Journal::open(&path, ticks()).await.unwrap_err();
        assert!(matches!(error, JournalError::InUse(_)), "{error}");
        writer.kill().unwrap();
        writer.wait().unwrap();
        acknowledged = lines
            .filter_map(|line| told(&line))
            .last()
            .unwrap_or(acknowledged);

        let journal = open(&path).await;
        let found = receipts(&journal).await;
        assert!(
            found >= acknowledged,
            "{found} receipts, {acknowledged} acknowledged"
        );
        check(&journal).await;
        acknowledged = found;
        journal.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let journal = open(&path).await;
    apply(&journal, 1, &[added(1, 1)]).await;
    journal.close().await.unwrap();

    let mut writer = child("child_that_writes", folder.path(), Some(1000));
    let mut output = String::new();
    writer
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut output)
        .unwrap();
    assert!(writer.wait().unwrap().success(), "{output}");
    let refused = output.lines().find(|line| line.starts_with("refused"));
    let refused = refused.expect("the child must run out of room");
    assert!(
        refused.starts_with("refused retryable=true no room left for the journal"),
        "{refused}"
    );
    let acknowledged = output.lines().filter_map(told).next_back().unwrap();

    let journal = open(&path).await;
    assert_eq!(receipts(&journal).await, acknowledged);
    check(&journal).await;
    one_batch(&journal, 1_000_000).await.unwrap();
}
