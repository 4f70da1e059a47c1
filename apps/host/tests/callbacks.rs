//! Contracts whose callbacks revert, burn all their gas or return a mebibyte: the report is consumed once, the
//! result is on record, and the next report has the next number.
use crate::support::{
    CALLBACK_GAS, Play,
    account::{assert_delivered, jobs, receipts, story},
    behave, due, end_of,
};
use alloy::{
    primitives::{Bytes, U256},
    sol_types::SolEvent,
};
use cryptlet_audit::{TrustRoots, included};
use cryptlet_chain::evm::abi::CryptoDelegate;
use cryptlet_types::{JobState, Receipt};

const REVERTING: &str = include_str!("../../../contracts/artifacts/test/RevertingConsumer.json");
const GAS_EATER: &str = include_str!("../../../contracts/artifacts/test/GasEater.json");
const RETURN_BOMB: &str = include_str!("../../../contracts/artifacts/test/ReturnBomb.json");

/// Gas for a mebibyte of memory.
const BOMB_GAS: u32 = 3_000_000;

/// What the delegate logged about a callback that failed.
fn failure(receipt: &Receipt, roots: &TrustRoots) -> Option<Bytes> {
    let block = included(&receipt.inclusion, roots).unwrap();
    let mut failures = block.receipt.logs().iter().filter_map(|log| {
        let failed = CryptoDelegate::CallbackFailed::decode_log(log).ok()?;
        let report = &receipt.report.report;
        assert_eq!(failed.subject, report.subject.0);
        assert_eq!(failed.sequence, report.sequence);
        Some(failed.reason.clone())
    });
    failures.next()
}

/// Two days of a consumer that makes `success` of its callbacks; the receipts.
async fn two_days(artifact: &str, callback_gas: u32, success: bool) -> (Vec<Receipt>, TrustRoots) {
    let play = Play::hostile().await;
    let params = behave("echo", "word");
    let watched = play.consumer(artifact, callback_gas, &params).await;
    let mut host = play.host().await;
    let mut news = host.watch();
    for day in [12, 13] {
        play.noon(day).await;
        let end = end_of(&mut news, watched.subject, due(day)).await;
        assert_eq!(end.delivery(), (day - 11, success));
    }
    let journal = host.journal();
    assert_delivered(&play, journal, watched, &[due(12), due(13)], success).await;
    for record in jobs(journal, watched.subject).await {
        let last = story(journal, &record).await.pop().unwrap();
        let note = (!success).then(|| "callback reverted".to_owned());
        assert_eq!(last, (JobState::Delivered, note));
    }
    let kept = receipts(journal, watched.subject).await;
    host.stop().await;
    (
        kept.into_iter().map(|stored| stored.receipt).collect(),
        play.roots().await,
    )
}

#[tokio::test]
async fn a_reverting_callback_consumes_its_report_and_leaves_its_reason() {
    let (receipts, roots) = two_days(REVERTING, CALLBACK_GAS, false).await;
    for receipt in receipts {
        // 4,096 bytes of the report's first word, of which the delegate repeats 256.
        let word = U256::from(32).to_be_bytes::<32>();
        assert_eq!(failure(&receipt, &roots).unwrap(), word.repeat(8));
    }
}

#[tokio::test]
async fn a_callback_that_eats_its_gas_consumes_its_report() {
    let (receipts, roots) = two_days(GAS_EATER, CALLBACK_GAS, false).await;
    for receipt in receipts {
        assert_eq!(failure(&receipt, &roots).unwrap(), Bytes::new());
    }
}

#[tokio::test]
async fn a_callback_that_returns_a_mebibyte_is_a_callback_that_returned() {
    let (receipts, roots) = two_days(RETURN_BOMB, BOMB_GAS, true).await;
    for receipt in receipts {
        assert_eq!(failure(&receipt, &roots), None);
    }
}
