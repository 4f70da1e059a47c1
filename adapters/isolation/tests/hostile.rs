//! Cryptlets that misbehave: each is stopped, named, and harms no later run.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use alloy_primitives::B256;
use cryptlet_isolation::IsolationError;
use cryptlet_types::{
    bounded::{MAX_MESSAGE_BYTES, MAX_PAYLOAD_BYTES},
    region::{RegionFault, RunOutcome},
};
use std::time::{Duration, Instant};
use support::{HOSTILE, Setup, behave, fault, process, provision, said};

#[tokio::test]
async fn each_excess_has_its_own_fault_and_the_next_run_is_fresh() {
    let setup = Setup::new(HOSTILE);
    let mut region = setup.ready().await;
    let limits = setup.limits;
    for (behaviour, detail, expected) in [
        ("loop", "", RegionFault::OutOfFuel(limits.fuel)),
        ("eat", "", RegionFault::OutOfMemory(limits.memory_bytes)),
        ("refuse", "no", RegionFault::Refused("no".into())),
        ("huge", "20000", RegionFault::PayloadTooLarge(20_064)),
    ] {
        let stopped = fault(region.run(behave(behaviour, detail)).await);
        assert_eq!(stopped, expected);
        assert!(!stopped.is_retryable());
        let next = region.run(behave("echo", behaviour)).await.unwrap();
        assert_eq!(said(&next), behaviour);
    }
    for behaviour in ["trap", "recurse"] {
        let trapped = fault(region.run(behave(behaviour, "")).await);
        assert!(matches!(trapped, RegionFault::Trap(_)), "{trapped}");
    }
}

#[tokio::test]
async fn fuel_is_counted_alike_every_time() {
    let mut region = Setup::new(HOSTILE).ready().await;
    let first = region.run(behave("echo", "x")).await.unwrap().fuel_used;
    let second = region.run(behave("echo", "x")).await.unwrap().fuel_used;
    let longer = region.run(behave("echo", &"x".repeat(4_000))).await;
    assert_eq!(first, second);
    assert!(first > 0);
    assert!(matches!(
        longer,
        Err(IsolationError::Fault(RegionFault::Protocol(_)))
    ));
}

#[tokio::test]
async fn the_wall_clock_stops_what_fuel_would_not() {
    let mut setup = Setup::new(HOSTILE);
    setup.limits.fuel = u64::MAX / 2;
    setup.limits.wall_millis = 200;
    let mut region = setup.ready().await;
    let started = Instant::now();
    let late = fault(region.run(behave("loop", "")).await);
    assert_eq!(late, RegionFault::Deadline(200));
    assert!(late.is_retryable());
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(
        said(&region.run(behave("echo", "next")).await.unwrap()),
        "next"
    );
}

#[tokio::test]
async fn the_largest_payload_passes() {
    let mut region = Setup::new(HOSTILE).ready().await;
    // Offset and length of the string take two words.
    let largest = MAX_PAYLOAD_BYTES - 64;
    let answer = region
        .run(behave("huge", &largest.to_string()))
        .await
        .unwrap();
    assert_eq!(said(&answer).len(), largest);
    let over = fault(region.run(behave("huge", &(largest + 1).to_string())).await);
    assert!(matches!(over, RegionFault::PayloadTooLarge(_)));
}

#[tokio::test]
async fn a_skip_says_why_in_bounds() {
    let mut region = Setup::new(HOSTILE).ready().await;
    let long = "z".repeat(MAX_MESSAGE_BYTES + 500);
    let answer = region.run(behave("skip", &long)).await.unwrap();
    let RunOutcome::Skip(reason) = answer.outcome else {
        panic!("not skipped")
    };
    assert_eq!(reason, "z".repeat(MAX_MESSAGE_BYTES));
}

#[tokio::test]
async fn shouting_is_cut_and_bounded() {
    let setup = Setup::new(HOSTILE);
    let mut region = setup.ready().await;
    let answer = region.run(behave("log", "2000")).await.unwrap();
    assert_eq!(said(&answer), "shouted");
    let lines = setup.lines.0.lock().unwrap();
    assert_eq!(lines.len(), 256);
    assert!(lines.iter().all(|line| line.len() == MAX_MESSAGE_BYTES));
}

#[tokio::test]
async fn a_regions_memory_holds_its_own_key_and_nobody_elses() {
    let setups = [Setup::new(HOSTILE), Setup::new(HOSTILE)];
    let provider = support::provider();
    let mut regions = Vec::new();
    for setup in &setups {
        let (package, settings) = (setup.package(), setup.settings());
        let created = provider.create(package, settings, B256::ZERO, setup.relay());
        let mut region = created.await.unwrap();
        provision(region.as_mut(), &setup.key).await.unwrap();
        assert!(region.run(behave("echo", "x")).await.is_ok());
        let (process, parent) = (process::newest_region(), process::newest_loaded());
        regions.push((region, process, parent));
    }
    let program = process::newest_program();
    for (index, (_, process, parent)) in regions.iter().enumerate() {
        let holds = |process, setup: &Setup| process::holds(process, setup.key.secret().as_slice());
        // Only root may look into a process that is not dumpable.
        let Some(own) = holds(*process, &setups[index]) else {
            return;
        };
        assert!(own, "the key is not where it is looked for");
        assert_eq!(holds(*process, &setups[1 - index]), Some(false));
        assert_eq!(holds(*parent, &setups[index]), Some(false));
        assert_eq!(holds(program, &setups[index]), Some(false));
    }
}

#[tokio::test]
async fn a_gigabyte_is_no_answer_however_much_memory_there_is() {
    let mut setup = Setup::new(HOSTILE);
    setup.limits.fuel = u64::MAX / 2;
    setup.limits.memory_bytes = 1 << 30;
    setup.limits.wall_millis = 60_000;
    let mut region = setup.ready().await;
    // The longest that fits: the encoded payload is a copy of it.
    let long = fault(region.run(behave("huge", &(300 << 20).to_string())).await);
    // The last: wasmtime copies no more than so much for one call.
    let stopped = match &long {
        RegionFault::PayloadTooLarge(_) | RegionFault::OutOfMemory(_) => true,
        RegionFault::Trap(reason) => reason.contains("too much data"),
        _ => false,
    };
    assert!(stopped, "{long}");
    let longer = fault(region.run(behave("huge", &(1_u32 << 30).to_string())).await);
    assert_eq!(longer, RegionFault::OutOfMemory(1 << 30));
    assert_eq!(said(&region.run(behave("echo", "x")).await.unwrap()), "x");
}

#[tokio::test]
async fn a_region_that_is_killed_in_a_run_has_died_and_another_works() {
    let mut setup = Setup::new(HOSTILE);
    setup.limits.fuel = u64::MAX / 2;
    let mut region = setup.ready().await;
    let pid = support::process::newest_region();
    let running = tokio::spawn(async move {
        let result = region.run(behave("loop", "")).await;
        (region, result)
    });
    support::process::wait_until_busy(pid).await;
    support::process::kill(pid);
    let (mut region, result) = running.await.unwrap();
    let error = result.unwrap_err();
    assert!(
        matches!(error, IsolationError::Died(ref how) if how.contains('9')),
        "{error}"
    );
    assert!(error.is_retryable() && error.is_end_of_region());
    let again = region.run(behave("echo", "x")).await.unwrap_err();
    assert!(matches!(again, IsolationError::Died(_)), "{again}");
    let mut other = setup.ready().await;
    assert_eq!(said(&other.run(behave("echo", "x")).await.unwrap()), "x");
}

#[tokio::test]
async fn a_region_that_does_not_answer_is_ended() {
    let mut setup = Setup::new(HOSTILE);
    setup.limits.wall_millis = 100;
    let mut region = setup.ready().await;
    let pid = support::process::newest_region();
    support::process::stop(pid);
    let error = region.run(behave("echo", "x")).await.unwrap_err();
    assert!(matches!(error, IsolationError::Timeout(1_350)), "{error}");
    assert!(error.is_retryable());
    assert!(!support::process::exists(pid));
}

#[tokio::test]
async fn a_dropped_region_leaves_no_process() {
    let region = Setup::new(HOSTILE).ready().await;
    let pid = support::process::newest_region();
    drop(region);
    support::process::wait_until_gone(pid).await;
}
