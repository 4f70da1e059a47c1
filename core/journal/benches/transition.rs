//! How long one transition of a job takes, on a file: `cargo bench -p cryptlet-journal`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark prints its figures and stops where it cannot run"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};
use support::*;

const JOBS: u64 = 500;

fn main() {
    tokio::runtime::Builder::new_multi_thread()
        .build()
        .unwrap()
        .block_on(measure());
}

async fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(&folder.path().join("journal.db")).await;
    routed(&journal, 1, 0).await;
    let names = ["event", "job", "report", "submission", "delivery"];
    let mut times = names.map(|name| (name, Vec::new()));
    for n in 1..=JOBS {
        let job = job(1, n);
        let run = run(&job, 1);
        let receipt = receipt(&job, &run);
        let submission = submission(n, 1);
        let start = Instant::now();
        journal.record_event(&job.event).await.unwrap();
        let event = Instant::now();
        journal.record_job(&job).await.unwrap();
        let routed = Instant::now();
        journal.record_report(job.id, &run).await.unwrap();
        let reported = Instant::now();
        journal
            .record_submission(job.id, &submission)
            .await
            .unwrap();
        let submitted = Instant::now();
        journal
            .record_delivery(job.id, &receipt, true)
            .await
            .unwrap();
        let delivered = Instant::now();
        let marks = [start, event, routed, reported, submitted, delivered];
        for ((_, times), pair) in times.iter_mut().zip(marks.windows(2)) {
            times.push(pair[1].duration_since(pair[0]));
        }
    }
    for (name, mut times) in times {
        times.sort_unstable();
        let at = |share: usize| micros(times[times.len() * share / 100]);
        println!(
            "record_{name:<10} p50 {:>6} us   p95 {:>6} us",
            at(50),
            at(95)
        );
    }
}

fn micros(time: Duration) -> u128 {
    time.as_micros()
}
