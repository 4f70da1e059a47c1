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

use cryptlet_journal::{JobFilter, Journal, JournalError, Page};
use cryptlet_types::JobState;
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

/// Takes one job from event to receipt: four transactions.
async fn one_job(journal: &Journal, n: u64) -> Result<(), JournalError> {
    let job = job(1, n);
    let run = run(&job, 1);
    journal.record_events(&[job.clone().into()]).await?;
    report(journal, job.id, &run).await?;
    journal
        .record_submission(&[job.id], &submission(n, 1))
        .await?;
    deliver(journal, &job, &run, true).await
}

async fn receipts(journal: &Journal) -> u64 {
    journal.counts().await.unwrap()[&JobState::Delivered]
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
    let waiting = journal.unrouted_events().await.unwrap();
    assert!(waiting.len() <= 1, "one writer, one event at a time");
}

#[tokio::test]
#[ignore = "runs as a child of the other tests"]
async fn child_that_writes() {
    let folder = env::var_os(FOLDER).expect("started by another test");
    let journal = open(&Path::new(&folder).join("journal.db")).await;
    println!();
    let first = receipts(&journal).await;
    // A job that the last child left unfinished is in the way of nothing.
    let base = journal.subscriptions().await.unwrap()[0].fired_until - SINCE + 1;
    for n in 0.. {
        if let Err(error) = one_job(&journal, base + n).await {
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
    routed(&journal, 1, 0).await;
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
    routed(&journal, 1, 0).await;
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
    one_job(&journal, 1_000_000).await.unwrap();
}
