//! A host that is killed with SIGKILL, at any moment, delivers everything once after it is started again.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the lint allows these in test functions; helpers of tests are the same"
)]

use alloy::{
    primitives::{Address, B256},
    providers::Provider,
    rpc::types::Filter,
    sol_types::SolEvent,
};
use cryptlet_chain::evm::abi::CryptoDelegate;
use cryptlet_feed::Rates;
use cryptlet_stage::{CryptletSource, Source, Stage, StageOptions};
use cryptlet_types::{Subject, policy::Retry};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const RATES: &str = include_str!("../../../data/ecb-reference-rates.csv");
/// 2026-10-05T14:00:00Z, a Monday, 16:00 in Berlin.
const MONDAY: u64 = 1_791_208_800;
const DAY: u64 = 86_400;

/// A host in a process of its own; killed when dropped.
struct HostProcess(Child);

impl HostProcess {
    /// Starts a host and waits until it says that it is ready.
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cryptlet"))
            .args(["host", "--json", "--config"])
            .arg(folder.join("host.json"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.contains("ready"), "{line}");
        Self(child)
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        let _already_dead = self.0.kill();
        let _reaped = self.0.wait();
    }
}

async fn stage(out: &Path) -> (Stage, Subject) {
    let container = Path::new(env!("CARGO_BIN_EXE_cryptlet")).with_file_name("cryptlet-container");
    assert!(
        container.is_file(),
        "build it first: cargo build --release -p cryptlet-container"
    );
    let stage = Stage::build(StageOptions {
        out: out.to_owned(),
        container,
        genesis: MONDAY - DAY / 2,
        cryptlet: CryptletSource::market_watcher(),
        source: Source::Rates(Rates::parse(RATES).unwrap()),
        retry: Retry {
            attempts: 5,
            first_millis: 50,
            longest_millis: 500,
        },
        max_age_seconds: 86_400,
    })
    .await
    .unwrap();
    let (_, subject) = stage
        .deploy_price_consumer(&["USD".into(), "GBP".into()])
        .await
        .unwrap();
    (stage, subject)
}

/// Sequence numbers that the delegate consumed for the subscription, in the chain's order.
async fn consumed(stage: &Stage, subject: Subject) -> Vec<u64> {
    let filter = Filter::new()
        .from_block(0)
        .address(stage.delegate)
        .event_signature(CryptoDelegate::Delivered::SIGNATURE_HASH)
        .topic1(subject.0);
    let logs = stage.provider.get_logs(&filter).await.unwrap();
    logs.iter()
        .map(|log| {
            log.log_decode::<CryptoDelegate::Delivered>()
                .unwrap()
                .inner
                .sequence
        })
        .collect()
}

/// Waits until so many reports were consumed. Time is what is waited for, so a bound is needed, but no test passes by it.
async fn until_consumed(stage: &Stage, subject: Subject, count: usize) {
    let start = Instant::now();
    while consumed(stage, subject).await.len() < count {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "still {:?}",
            consumed(stage, subject).await
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The account that the host sends from: the sender of the first delivery, or the only funded stranger.
async fn pending_transactions(stage: &Stage, account: Address) -> u64 {
    let pending = stage
        .provider
        .get_transaction_count(account)
        .pending()
        .await
        .unwrap();
    pending
        - stage
            .provider
            .get_transaction_count(account)
            .latest()
            .await
            .unwrap()
}

async fn transmitter(stage: &Stage, subject: Subject) -> Address {
    let filter = Filter::new()
        .from_block(0)
        .address(stage.delegate)
        .topic1(subject.0);
    let logs = stage.provider.get_logs(&filter).await.unwrap();
    let delivery = logs
        .iter()
        .find(|log| log.topic0() == Some(&CryptoDelegate::Delivered::SIGNATURE_HASH))
        .unwrap();
    let hash: B256 = delivery.transaction_hash.unwrap();
    stage
        .provider
        .get_transaction_by_hash(hash)
        .await
        .unwrap()
        .unwrap()
        .inner
        .signer()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_many_moments_it_delivers_each_day_once() {
    let folder = tempfile::tempdir().unwrap();
    let (stage, subject) = stage(folder.path()).await;
    // Monday to Friday, and moments from before the event is seen to after the receipt is written.
    for (day, millis) in [(0, 0), (1, 8), (2, 20), (3, 60), (4, 400)] {
        let host = HostProcess::start(folder.path());
        // A second later each day: time stands still on this chain, and in the last second of a report's day nothing can be said
        // anew that may not come too late.
        stage.set_time(MONDAY + day * (DAY + 1)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(millis)).await;
        host.kill();
    }
    let host = HostProcess::start(folder.path());
    until_consumed(&stage, subject, 5).await;
    stage.set_time(MONDAY + 7 * DAY).await.unwrap();
    until_consumed(&stage, subject, 6).await;
    host.kill();
    assert_eq!(consumed(&stage, subject).await, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_with_a_transaction_in_the_pool_it_finds_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let (stage, subject) = stage(folder.path()).await;
    let host = HostProcess::start(folder.path());
    stage.set_time(MONDAY).await.unwrap();
    until_consumed(&stage, subject, 1).await;
    let account = transmitter(&stage, subject).await;

    stage.rpc("evm_setAutomine", [false]).await.unwrap();
    stage.set_time(MONDAY + DAY).await.unwrap();
    let start = Instant::now();
    while pending_transactions(&stage, account).await == 0 {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "nothing was sent"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    host.kill();
    let host = HostProcess::start(folder.path());
    stage.rpc("evm_setAutomine", [true]).await.unwrap();
    stage.rpc("evm_mine", ()).await.unwrap();
    until_consumed(&stage, subject, 2).await;
    stage.set_time(MONDAY + 2 * DAY).await.unwrap();
    until_consumed(&stage, subject, 3).await;
    host.kill();
    assert_eq!(consumed(&stage, subject).await, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_never_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (_stage, _) = stage(folder.path()).await;
    let _first = HostProcess::start(folder.path());
    let second = Command::new(env!("CARGO_BIN_EXE_cryptlet"))
        .args(["host", "--config"])
        .arg(folder.path().join("host.json"))
        .output()
        .unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(
        !second.status.success() && said.contains("in use"),
        "{said}"
    );
}
