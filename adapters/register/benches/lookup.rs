//! How long it takes to find a cryptlet among 100,000, beside the same question put to SQLite alone:
//! `cargo bench -p cryptlet-register`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark prints its figures and stops where it cannot run"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use cryptlet_register::Index;
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection, sqlite::SqliteConnectOptions};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use support::*;

const CRYPTLETS: u64 = 100_000;
const BATCH: u64 = 5_000;
const QUESTIONS: u64 = 20_000;
const SEARCHES: u64 = 100;

fn main() {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(measure());
}

fn name(number: u64) -> String {
    // A step that meets every number once: neighbours in time are not neighbours in the index.
    format!("price-{}-feed", number * 7_919 % CRYPTLETS)
}

async fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.db");
    let index = Index::open(&path).await.unwrap();
    let start = Instant::now();
    for block in 0..CRYPTLETS / BATCH {
        let numbers = block * BATCH..(block + 1) * BATCH;
        let changes: Vec<_> = numbers
            .flat_map(|number| registration(&format!("price-{number}-feed"), 1))
            .collect();
        index.apply(cursor(block + 1), &changes, 1).await.unwrap();
    }
    println!(
        "{CRYPTLETS} cryptlets taken over in {:.1} s",
        start.elapsed().as_secs_f64()
    );

    bare(&path).await;
    let mut times = vec![];
    for number in 0..QUESTIONS {
        let name = name(number);
        let start = Instant::now();
        let known = index.by_name(&name).await.unwrap();
        times.push(start.elapsed());
        assert_eq!(known.unwrap().record.name, name);
    }
    print("look-up by name", times);

    for (what, query) in [
        ("search, one fits", "price-4711-feed"),
        ("search, all fit", "price"),
    ] {
        let mut times = vec![];
        for _ in 0..SEARCHES {
            let start = Instant::now();
            let found = index.search(query, 20, None).await.unwrap();
            times.push(start.elapsed());
            assert!(!found.is_empty());
        }
        print(what, times);
    }
}

/// The limit: the primary question on a connection of its own, without what the record means.
async fn bare(path: &Path) {
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let mut conn: SqliteConnection = options.disable_statement_logging().connect().await.unwrap();
    let mut times = vec![];
    for number in 0..QUESTIONS {
        let name = name(number);
        let start = Instant::now();
        let row = sqlx::query("SELECT value FROM cryptlet WHERE name = ?")
            .bind(&name)
            .fetch_one(&mut conn)
            .await
            .unwrap();
        times.push(start.elapsed());
        assert!(row.get::<&str, _>(0).contains(&name));
    }
    conn.close().await.unwrap();
    print("bare SELECT", times);
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| times[times.len() * share / 100].as_micros();
    println!("{what:<17} p50 {:>6} us   p99 {:>6} us", at(50), at(99));
}
