//! How long one transition of a job takes, on a file: `cargo bench -p cryptlet-journal`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark prints its figures and stops where it cannot run"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use cryptlet_journal::{Occurred, Ran, RunOutcome};
use cryptlet_types::JobState;
use std::time::{Duration, Instant};
use support::*;

const ROUNDS: u64 = 300;
/// Jobs handed over at once.
const SIZES: [u64; 2] = [1, 50];

fn main() {
    tokio::runtime::Builder::new_multi_thread()
        .build()
        .unwrap()
        .block_on(async {
            for size in SIZES {
                measure(size).await;
            }
        });
}

async fn measure(size: u64) {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(&folder.path().join("journal.db")).await;
    subscribe(&journal, 1).await;
    let names = ["events", "runs", "submission", "deliveries"];
    let mut times = names.map(|name| (name, Vec::new()));
    let whole = Instant::now();
    for round in 0..ROUNDS / size.min(6) {
        let jobs: Vec<_> = (0..size).map(|n| job(1, round * size + n)).collect();
        let ids: Vec<_> = jobs.iter().map(|job| first(job.id)).collect();
        let events: Vec<_> = jobs.iter().cloned().map(Occurred::from).collect();
        let runs: Vec<_> = jobs.iter().map(|job| run(job, 1)).collect();
        let outcomes = runs.iter().map(|run| Ran {
            run: first(run.input.job),
            outcome: RunOutcome::Reported(Box::new(run.clone())),
            next: None,
        });
        let outcomes: Vec<_> = outcomes.collect();
        let submission = submission(round, 1);
        let deliveries = jobs.iter().zip(&runs);
        let deliveries: Vec<_> = deliveries
            .map(|(job, run)| delivered(job, run, true, round))
            .collect();
        let start = Instant::now();
        journal.record_events(&events).await.unwrap();
        let routed = Instant::now();
        journal.record_runs(&outcomes).await.unwrap();
        let reported = Instant::now();
        journal.record_submission(&ids, &submission).await.unwrap();
        let submitted = Instant::now();
        journal.record_deliveries(&deliveries).await.unwrap();
        let marks = [start, routed, reported, submitted, Instant::now()];
        for ((_, times), pair) in times.iter_mut().zip(marks.windows(2)) {
            times.push(pair[1].duration_since(pair[0]));
        }
    }
    let whole = whole.elapsed();
    let jobs = journal.counts().await.unwrap()[&JobState::Delivered];
    println!(
        "{size} at once: {jobs} jobs, {:.0} a second",
        jobs as f64 / whole.as_secs_f64()
    );
    for (name, mut times) in times {
        times.sort_unstable();
        let at = |share: usize| micros(times[times.len() * share / 100]);
        println!("  {name:<12} p50 {:>6} us   p95 {:>6} us", at(50), at(95));
    }
}

fn micros(time: Duration) -> u128 {
    time.as_micros()
}
