//! How long a host takes to write and to read a million subscriptions: `cargo bench -p cryptlet-journal --bench start`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints its figures and stops where it cannot run"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use alloy_primitives::keccak256;
use cryptlet_journal::{DELEGATE, SubscriptionChange};
use cryptlet_types::Subject;
use std::time::Instant;
use support::*;

const SUBSCRIPTIONS: u64 = 1_000_000;
/// Subscriptions found by one advance of the cursor.
const BLOCK: u64 = 1_000;
/// Subscriptions read at once.
const PAGE: u32 = 10_000;

fn main() {
    tokio::runtime::Builder::new_multi_thread()
        .build()
        .unwrap()
        .block_on(measure());
}

fn numbered(nonce: u64, block: u64) -> SubscriptionChange {
    let mut subscription = subscription(1);
    subscription.subject = Subject(keccak256(nonce.to_be_bytes()));
    subscription.nonce = nonce;
    SubscriptionChange::Added {
        subscription,
        block,
    }
}

async fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let journal = open(&path).await;
    let start = Instant::now();
    for block in 0..SUBSCRIPTIONS / BLOCK {
        let changes: Vec<_> = (0..BLOCK)
            .map(|n| numbered(block * BLOCK + n, block))
            .collect();
        journal
            .apply(DELEGATE, cursor(block), &changes, &[])
            .await
            .unwrap();
    }
    println!("written in {:.1} s", start.elapsed().as_secs_f64());
    journal.close().await.unwrap();
    let bytes = std::fs::metadata(&path).unwrap().len();
    println!("{} bytes each", bytes / SUBSCRIPTIONS);

    let journal = open(&path).await;
    let start = Instant::now();
    let (mut after, mut read) = (None, 0);
    loop {
        let page = journal.subscriptions_page(after, PAGE).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.subscription.subject);
        read += page.len();
    }
    println!("{read} read in {:.1} s", start.elapsed().as_secs_f64());
}
