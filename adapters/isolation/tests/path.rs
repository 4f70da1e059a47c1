//! The market watcher in a real region, with a real source.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use alloy_primitives::{Address, I256, U256};
use alloy_sol_types::SolValue;
use cryptlet_isolation::check_signature;
use cryptlet_seal::{recover, sha256};
use cryptlet_types::region::{
    CallInput, ObserveInput, RegionFault, RegionStatement, RunOutcome, sources_digest,
};
use support::{
    MARKET_WATCHER, Setup, fault, payload, provider,
    source::{Manner, Source, page},
    watch,
};

const OPEN: &str = "Date,USD,JPY,GBP,BGN,\n2026-10-16,1.1172,175.68,0.8338,N/A,\n";
const CLOSED: &str = "Date,USD,JPY,GBP,BGN,\n";

#[tokio::test]
async fn rates_of_an_open_day_are_reported_and_signed_twice() {
    let mut source = Source::start(page(OPEN)).await;
    let setup = Setup::new(MARKET_WATCHER).with_source(&source);
    let mut region = setup.ready().await;
    let input = watch(true, &["USD", "GBP"]);
    let answer = region.run(input.clone()).await.unwrap();

    let values = <(u64, Vec<U256>)>::abi_decode_params_validate(&payload(&answer)).unwrap();
    let rates = [1_117_200_000_000_000_000_u64, 833_800_000_000_000_000].map(U256::from);
    assert_eq!(values, (1_792_108_800, rates.to_vec()));

    let RunOutcome::Report(signed) = answer.outcome else {
        panic!("skipped")
    };
    let digest = signed.report.digest(&input.domain);
    assert_eq!(recover(digest, &signed.signature), Ok(setup.key.address()));
    assert_eq!(signed.signer, setup.key.address());
    assert_eq!(signed.report.sequence, input.sequence);

    let measurement = provider()
        .measurement(&setup.package(), &setup.settings())
        .unwrap();
    assert_eq!(signed.report.region, measurement);
    let said = RegionStatement {
        measurement,
        report: digest,
        input: input.digest().unwrap(),
        sources: sources_digest(&answer.sources).unwrap(),
    };
    let evidence = region.statement();
    assert!(check_signature(
        evidence,
        measurement,
        &said,
        &signed.region_signature
    ));
    let other = RegionStatement {
        input: digest,
        ..said
    };
    assert!(!check_signature(
        evidence,
        measurement,
        &other,
        &signed.region_signature
    ));

    let [proof] = answer.sources.as_slice() else {
        panic!("{} sources", answer.sources.len())
    };
    assert_eq!(
        proof.url,
        "https://rates.bletchley.example/?date=2026-10-16"
    );
    assert_eq!((proof.status, proof.body), (200, sha256(OPEN.as_bytes())));
    let request = source.requests.recv().await.unwrap();
    assert_eq!(proof.request, sha256(request.as_bytes()));
    assert!(answer.fuel_used > 0);
}

#[tokio::test]
async fn a_closed_day_is_skipped() {
    let source = Source::start(page(CLOSED)).await;
    let mut region = Setup::new(MARKET_WATCHER)
        .with_source(&source)
        .ready()
        .await;
    let answer = region.run(watch(true, &["USD"])).await.unwrap();
    let RunOutcome::Skip(reason) = answer.outcome else {
        panic!("not skipped")
    };
    assert_eq!(reason, "market closed on 2026-10-16");
    let refused = fault(region.run(watch(false, &["USD"])).await);
    assert_eq!(
        refused,
        RegionFault::Refused("market closed on 2026-10-16".into())
    );
}

#[tokio::test]
async fn a_missing_pair_is_refused_and_named() {
    let source = Source::start(page(OPEN)).await;
    let mut region = Setup::new(MARKET_WATCHER)
        .with_source(&source)
        .ready()
        .await;
    for pair in ["XYZ", "BGN"] {
        let refused = fault(region.run(watch(true, &["USD", pair])).await);
        let reason = format!("feed has no rate for {pair} on 2026-10-16");
        assert_eq!(refused, RegionFault::Refused(reason));
        assert!(!refused.is_retryable());
    }
}

#[tokio::test]
async fn a_feed_that_errs_may_be_asked_again() {
    let manners = [
        Manner::Says(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_vec()),
        page("<html>maintenance</html>"),
        page(""),
        page("Date,USD,\n2026-10-15,1.1172,\n"),
        Manner::Says(b"nonsense".to_vec()),
    ];
    for manner in manners {
        let source = Source::start(manner).await;
        let mut region = Setup::new(MARKET_WATCHER)
            .with_source(&source)
            .ready()
            .await;
        let failed = fault(region.run(watch(true, &["USD"])).await);
        assert!(matches!(failed, RegionFault::Unavailable(_)), "{failed}");
        assert!(failed.is_retryable());
    }
}

#[tokio::test]
async fn params_that_are_not_the_cryptlets_are_refused() {
    let mut region = Setup::new(MARKET_WATCHER).ready().await;
    let refused = fault(region.run(support::input(vec![7; 33])).await);
    assert!(matches!(refused, RegionFault::Refused(ref reason) if reason.contains("params")));
}

#[tokio::test]
async fn a_rate_is_a_feed_and_answers_calls() {
    let source = Source::start(page(OPEN)).await;
    let setup = Setup::new(MARKET_WATCHER).with_source(&source);
    let mut region = setup.ready().await;
    let of = watch(true, &["USD"]);
    let input = ObserveInput {
        domain: of.domain,
        cryptlet: of.subscription.cryptlet,
        params: of.subscription.params.clone(),
        every: 60,
        at: of.issued_at,
        settings: of.settings.clone(),
    };
    let answer = region.observe(input.clone()).await.unwrap();
    let seen = answer.observation;
    let rate = I256::try_from(1_117_200_000_000_000_000_u64).unwrap();
    assert_eq!((seen.feed, seen.value), (input.feed(), rate));
    assert_eq!(
        recover(seen.digest(), &seen.signature),
        Ok(setup.key.address())
    );
    assert_eq!(answer.sources.len(), 1);
    let two = ObserveInput {
        params: watch(true, &["USD", "JPY"]).subscription.params,
        ..input
    };
    let refused = region.observe(two).await.unwrap_err().to_string();
    assert!(refused.contains("one currency"), "{refused}");

    let question = CallInput {
        domain: of.domain,
        consumer: Address::repeat_byte(5),
        cryptlet: of.subscription.cryptlet,
        params: of.subscription.params,
        window_length: 300,
        at: of.issued_at,
        settings: of.settings,
    };
    let said = region.call(question.clone()).await.unwrap().answer;
    let (_, rates) = <(u64, Vec<U256>)>::abi_decode_params_validate(&said.answer.value).unwrap();
    assert_eq!(rates, [U256::from(1_117_200_000_000_000_000_u64)]);
    let digest = said.answer.digest(&question.domain);
    assert_eq!(recover(digest, &said.signature), Ok(setup.key.address()));
    assert_eq!(said.answer.window_end % 300, 0);
}

#[tokio::test]
async fn a_closed_market_has_no_value() {
    let source = Source::start(page(CLOSED)).await;
    let setup = Setup::new(MARKET_WATCHER).with_source(&source);
    let mut region = setup.ready().await;
    let of = watch(true, &["USD"]);
    let input = ObserveInput {
        domain: of.domain,
        cryptlet: of.subscription.cryptlet,
        params: of.subscription.params,
        every: 60,
        at: of.issued_at,
        settings: of.settings,
    };
    let none = region.observe(input).await.unwrap_err();
    assert!(none.is_retryable() && !none.is_end_of_region(), "{none}");
}
