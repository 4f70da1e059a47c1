//! Runs that are recorded and repeated: the same again from the recording, without asking anybody, and any other recording is
//! noticed where it differs.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use alloy_primitives::{B256, Bytes, I256, U256, keccak256};
use alloy_sol_types::SolValue;
use async_trait::async_trait;
use cryptlet_isolation::{CallOutHandler, CallOutSession, IsolationError};
use cryptlet_seal::{recorded_sources, sha256};
use cryptlet_types::{
    Trigger,
    bounded::MAX_MESSAGE_BYTES,
    policy::RecordingRule,
    recording::{
        Divergence, Exchange, ExchangeFailure, ExchangeOutcome, Recorded, Recording, ReplayInput,
        Replayed, ReplayedOutcome,
    },
    region::{
        CallOut, CallOutAnswer, LogLevel, RegionFault, RegionSettings, RunAnswer, RunInput,
        sources_digest,
    },
};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use support::{
    HOSTILE, MARKET_WATCHER, MONTE_CARLO, NAME, Setup, behave, input, payload, provider, said,
    source::{Manner, Source, page},
    subscribed, watch,
};

const OPEN: &str = "Date,USD,GBP,\n2026-10-16,1.1172,0.8338,\n";

/// A host that is not to be asked for anything but log lines.
#[derive(Clone, Default)]
struct Nobody(Arc<Mutex<Vec<String>>>);

impl CallOutHandler for Nobody {
    fn open(&self, _: &RegionSettings) -> Box<dyn CallOutSession> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl CallOutSession for Nobody {
    async fn call_out(&mut self, call: CallOut) -> Result<CallOutAnswer, String> {
        match call {
            CallOut::Log {
                level: LogLevel::Debug | LogLevel::Info | LogLevel::Warn | LogLevel::Error,
                message,
            } => self.0.lock().unwrap().push(message),
            other => panic!("called out in a replay: {other:?}"),
        }
        Ok(CallOutAnswer::Done)
    }

    fn run_ended(&mut self) {}
}

/// A setup whose regions record.
fn recording(code: &'static [u8], source: &Source) -> Setup {
    let mut setup = Setup::new(code).with_source(source);
    setup.recording = RecordingRule::Exchanges;
    setup
}

fn whole(answer: &RunAnswer) -> Recording {
    match &answer.recording {
        Some(Recorded::Whole(recording)) => recording.clone(),
        other => panic!("no recording: {other:?}"),
    }
}

fn exchanged(exchanges: Vec<Exchange>) -> Recording {
    Recording {
        exchanges,
        ..Recording::default()
    }
}

/// Repeats in a region of the same package and settings that never had a key, and whose host must not be asked.
async fn replay(
    setup: &Setup,
    input: RunInput,
    recording: Recording,
) -> Result<Replayed, IsolationError> {
    let mut region = setup.create_with(Arc::new(Nobody::default())).await?;
    region.replay(ReplayInput { input, recording }).await
}

async fn divergence(setup: &Setup, input: RunInput, recording: Recording) -> Divergence {
    match replay(setup, input, recording).await {
        Err(IsolationError::Fault(RegionFault::Diverged(divergence))) => divergence,
        other => panic!("no divergence: {other:?}"),
    }
}

fn same(answer: &RunAnswer, replayed: &Replayed) {
    assert_eq!(replayed.outcome, ReplayedOutcome::Payload(payload(answer)));
    assert_eq!(replayed.fuel_used, answer.fuel_used);
    assert_eq!(replayed.sources, sources_digest(&answer.sources).unwrap());
}

fn body(exchange: &mut Exchange) -> &mut Bytes {
    match &mut exchange.outcome {
        ExchangeOutcome::Response(response) => &mut response.body,
        ExchangeOutcome::Failure(failure) => panic!("{failure:?}"),
    }
}

#[tokio::test]
async fn a_run_is_repeated_from_its_recording_without_asking_anybody() {
    let mut source = Source::start(page(OPEN)).await;
    let setup = recording(MARKET_WATCHER, &source);
    let input = watch(true, &["USD", "GBP"]);
    let mut region = setup.ready().await;
    let answer = region.run(input.clone()).await.unwrap();
    let recording = whole(&answer);
    assert!(!answer.sources.is_empty());
    assert_eq!(recorded_sources(&recording), answer.sources);
    while source.requests.try_recv().is_ok() {}
    drop(region);
    let replayed = replay(&setup, input, recording).await.unwrap();
    same(&answer, &replayed);
    assert!(source.requests.try_recv().is_err(), "the source was asked");
}

#[tokio::test]
async fn a_region_with_a_key_repeats_too_and_is_none_the_worse_for_it() {
    let source = Source::start(page(OPEN)).await;
    let setup = recording(MARKET_WATCHER, &source);
    let input = watch(true, &["USD"]);
    let mut region = setup.ready().await;
    let answer = region.run(input.clone()).await.unwrap();
    let recording = whole(&answer);
    for _ in 0..2 {
        let (input, recording) = (input.clone(), recording.clone());
        let again = region.replay(ReplayInput { input, recording }).await;
        same(&answer, &again.unwrap());
    }
    let next = region.run(input).await.unwrap();
    assert_eq!(payload(&next), payload(&answer));
}

#[tokio::test]
async fn a_long_computation_with_floats_is_repeated_step_by_step_to_the_unit_of_fuel() {
    let mut setup = Setup::new(MONTE_CARLO);
    setup.limits.fuel = 500_000_000;
    setup.recording = RecordingRule::Exchanges;
    let ether = |parts: u64| U256::from(parts) * U256::from(10).pow(U256::from(15));
    let rate = I256::from_raw(ether(50));
    let params = (
        ether(100_000),
        ether(100_000),
        ether(200),
        rate,
        ether(1_000),
        150_000_u64,
        7_u64,
    );
    let first = input(params.abi_encode_params());
    let mut region = setup.ready().await;
    let answer = region.run(first.clone()).await.unwrap();
    let step = answer.proceed.clone().unwrap();
    let replayed = replay(&setup, first.clone(), whole(&answer)).await.unwrap();
    same(&answer, &replayed);
    assert_eq!(replayed.state, Some(keccak256(&step.state)));
    assert!(replayed.fuel_used > 10_000_000, "{}", replayed.fuel_used);
    let mut second = first;
    (second.trigger, second.sequence) = (Trigger::Step(step), 2);
    let second = subscribed(second);
    let answer = region.run(second.clone()).await.unwrap();
    let replayed = replay(&setup, second, whole(&answer)).await.unwrap();
    same(&answer, &replayed);
    assert_eq!(replayed.state, None);
}

#[tokio::test]
async fn why_there_was_no_response_is_repeated_too() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec();
    let more = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nmore".to_vec();
    let cases = [
        (Manner::NoTls(vec![0x16; 4_000]), "Insecure"),
        (Manner::BreaksAfter(half), "Unreachable"),
        (Manner::Says(more), "Malformed"),
        (
            Manner::NeverStops(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
            "TooLarge",
        ),
    ];
    for (manner, kind) in cases {
        let source = Source::start(manner).await;
        let setup = recording(HOSTILE, &source);
        let input = behave("fetch", &format!("https://{NAME}/"));
        let answer = setup.ready().await.run(input.clone()).await.unwrap();
        assert!(said(&answer).contains(kind), "{kind}: {}", said(&answer));
        let replayed = replay(&setup, input, whole(&answer)).await.unwrap();
        same(&answer, &replayed);
    }
}

#[tokio::test]
async fn what_the_region_refuses_by_itself_is_not_recorded_and_refused_again() {
    let source = Source::start(page(OPEN)).await;
    let setup = recording(HOSTILE, &source);
    for url in ["https://other.example/", "http://rates.bletchley.example/"] {
        let input = behave("fetch", url);
        let answer = setup.ready().await.run(input.clone()).await.unwrap();
        assert!(said(&answer).contains("Refused"), "{}", said(&answer));
        assert_eq!(whole(&answer), Recording::default());
        let replayed = replay(&setup, input, whole(&answer)).await.unwrap();
        same(&answer, &replayed);
    }
}

#[tokio::test]
async fn a_skip_and_a_step_are_repeated() {
    let mut setup = Setup::new(HOSTILE);
    setup.recording = RecordingRule::Exchanges;
    let mut region = setup.ready().await;
    let skipped = behave("skip", "the market is closed");
    region.run(skipped.clone()).await.unwrap();
    let replayed = replay(&setup, skipped, Recording::default()).await.unwrap();
    let closed = ReplayedOutcome::Skip("the market is closed".into());
    assert_eq!((replayed.outcome, replayed.state), (closed, None));
    let counted = behave("count", "3");
    let mut region = setup.ready().await;
    let answer = region.run(counted.clone()).await.unwrap();
    let state = answer.proceed.as_ref().unwrap().state.clone();
    let replayed = replay(&setup, counted, whole(&answer)).await.unwrap();
    same(&answer, &replayed);
    assert_eq!(replayed.state, Some(keccak256(&state)));
}

#[tokio::test]
async fn log_lines_are_written_in_a_replay_and_nothing_else() {
    let setup = Setup::new(HOSTILE);
    let nobody = Nobody::default();
    let mut region = setup.create_with(Arc::new(nobody.clone())).await.unwrap();
    let (input, recording) = (behave("log", "2000"), Recording::default());
    let replayed = region.replay(ReplayInput { input, recording }).await;
    assert!(matches!(
        replayed.unwrap().outcome,
        ReplayedOutcome::Payload(_)
    ));
    // Here no host cuts what the region does not.
    let lines = nobody.0.lock().unwrap();
    assert_eq!(lines.len(), 256);
    assert!(lines.iter().all(|line| line.len() == MAX_MESSAGE_BYTES));
}

#[tokio::test]
async fn nothing_is_recorded_unless_the_settings_ask_for_it() {
    let source = Source::start(page(OPEN)).await;
    let mut setup = Setup::new(MARKET_WATCHER).with_source(&source);
    let mut region = setup.ready().await;
    let answer = region.run(watch(true, &["USD"])).await.unwrap();
    assert_eq!(answer.recording, None);
    let measure = |setup: &Setup| provider().measurement(&setup.package(), &setup.settings());
    let before = measure(&setup).unwrap();
    setup.recording = RecordingRule::Exchanges;
    assert_ne!(measure(&setup).unwrap(), before, "who records is seen");
}

#[tokio::test]
async fn a_recording_that_is_too_large_is_none_and_said_so() {
    let source = Source::start(page(&"0".repeat(5 << 20))).await;
    let mut setup = recording(HOSTILE, &source);
    setup.limits.response_bytes = 8 << 20;
    setup.limits.memory_bytes = 64 << 20;
    setup.limits.fuel = 2_000_000_000;
    let input = behave("fetch", &format!("https://{NAME}/"));
    let answer = setup.ready().await.run(input).await.unwrap();
    assert!(said(&answer).starts_with("200 0000"), "{}", said(&answer));
    assert_eq!(answer.recording, Some(Recorded::TooLarge));
}

#[tokio::test]
async fn an_altered_body_shows_in_the_sources_digest_and_in_the_payload() {
    let source = Source::start(page(OPEN)).await;
    let setup = recording(MARKET_WATCHER, &source);
    let input = watch(true, &["USD"]);
    let answer = setup.ready().await.run(input.clone()).await.unwrap();
    let mut altered = whole(&answer);
    *body(&mut altered.exchanges[0]) = OPEN.replace("1.1172", "1.1173").into_bytes().into();
    let replayed = replay(&setup, input.clone(), altered).await.unwrap();
    assert_ne!(replayed.outcome, ReplayedOutcome::Payload(payload(&answer)));
    assert_ne!(replayed.sources, sources_digest(&answer.sources).unwrap());
    // A byte that the cryptlet does not look at changes no payload, and yet it is noticed.
    let mut altered = whole(&answer);
    *body(&mut altered.exchanges[0]) = OPEN.replace("0.8338", "0.8339").into_bytes().into();
    let replayed = replay(&setup, input, altered).await.unwrap();
    assert_eq!(replayed.outcome, ReplayedOutcome::Payload(payload(&answer)));
    assert_ne!(replayed.sources, sources_digest(&answer.sources).unwrap());
}

/// What the hostile cryptlet is told that asks for the same page until it is refused.
async fn recorded_fetch() -> (Setup, RunInput, RunAnswer, Source) {
    let source = Source::start(page("x")).await;
    let setup = recording(HOSTILE, &source);
    let input = behave("fetch", &format!("https://{NAME}/"));
    let answer = setup.ready().await.run(input.clone()).await.unwrap();
    (setup, input, answer, source)
}

#[tokio::test]
async fn another_request_than_the_recorded_one_is_named() {
    let (setup, input, answer, _source) = recorded_fetch().await;
    let url = format!("https://{NAME}/");
    let recorded = whole(&answer);
    let request = recorded.exchanges[0].request;
    let mut other = recorded.clone();
    other.exchanges[0].request = sha256(b"another");
    let expected = Divergence::Other {
        exchange: 1,
        asked: url.clone(),
        asked_digest: request,
        recorded: url.clone(),
        recorded_digest: sha256(b"another"),
    };
    assert_eq!(divergence(&setup, input.clone(), other).await, expected);
    let mut elsewhere = recorded.clone();
    elsewhere.exchanges[0].url = "https://other.example/".into();
    let found = divergence(&setup, input, elsewhere).await;
    assert!(
        matches!(&found, Divergence::Other { exchange: 1, recorded, .. } if recorded == "https://other.example/"),
        "{found}"
    );
    // The recording of another job: the same place, but another page.
    let another = behave("fetch", &format!("https://{NAME}/another"));
    let found = divergence(&setup, another, recorded).await;
    let place = format!("exchange 1: asked for https://{NAME}/another");
    assert!(found.to_string().starts_with(&place), "{found}");
}

#[tokio::test]
async fn an_exchange_too_few_or_too_many_is_named() {
    let (setup, input, answer, _source) = recorded_fetch().await;
    let url = format!("https://{NAME}/");
    let none = divergence(&setup, input.clone(), Recording::default()).await;
    let expected = Divergence::OneTooMany {
        exchange: 1,
        asked: url.clone(),
    };
    assert_eq!(none, expected);
    let mut twice = whole(&answer);
    twice.exchanges.push(twice.exchanges[0].clone());
    let expected = Divergence::NotAsked {
        exchange: 2,
        recorded: url,
    };
    assert_eq!(divergence(&setup, input, twice).await, expected);
}

/// A run that had messages signed, and what was recorded of it.
async fn recorded_messages(behaviour: &str, detail: &str) -> (Setup, RunInput, RunAnswer) {
    let mut setup = Setup::new(HOSTILE);
    setup.recording = RecordingRule::Exchanges;
    let input = behave(behaviour, detail);
    let answer = setup.ready().await.run(input.clone()).await.unwrap();
    (setup, input, answer)
}

#[tokio::test]
async fn messages_have_the_recorded_signatures_where_there_is_no_key() {
    for (behaviour, detail, messages) in [("sign", "said", 1), ("sign-many", "64", 64)] {
        let (setup, input, answer) = recorded_messages(behaviour, detail).await;
        let recording = whole(&answer);
        assert_eq!(recording.signed.len(), messages);
        let replayed = replay(&setup, input, recording).await.unwrap();
        same(&answer, &replayed);
    }
    // What the region refuses by itself is refused again.
    for (behaviour, detail) in [("sign-many", "65"), ("sign-huge", "16385")] {
        let mut setup = Setup::new(HOSTILE);
        setup.recording = RecordingRule::Exchanges;
        let input = behave(behaviour, detail);
        let first = setup.ready().await.run(input.clone()).await.unwrap_err();
        assert!(first.to_string().contains("nothing signed"), "{first}");
    }
}

#[tokio::test]
async fn another_message_than_the_recorded_one_is_named() {
    let (setup, input, answer) = recorded_messages("sign", "said").await;
    let recorded = whole(&answer);
    let message = recorded.signed[0].message;
    let named = |number, asked, recorded| Divergence::Message {
        message: number,
        asked,
        recorded,
    };
    let none = divergence(&setup, input.clone(), Recording::default()).await;
    assert_eq!(none, named(1, Some(message), None));
    let mut other = recorded.clone();
    other.signed[0].message = B256::ZERO;
    let found = divergence(&setup, input.clone(), other).await;
    assert_eq!(found, named(1, Some(message), Some(B256::ZERO)));
    let mut twice = recorded.clone();
    twice.signed.push(recorded.signed[0]);
    let found = divergence(&setup, input.clone(), twice).await;
    assert_eq!(found, named(2, None, Some(message)));
    // Other signatures are not noticed here, but in what the cryptlet makes of them.
    let mut forged = recorded;
    forged.signed[0].signatures.cryptlet = None;
    let replayed = replay(&setup, input, forged).await.unwrap();
    assert_ne!(replayed.outcome, ReplayedOutcome::Payload(payload(&answer)));
}

#[tokio::test]
async fn answers_in_another_order_are_named() {
    let source = Source::start(page(OPEN)).await;
    let mut setup = recording(MARKET_WATCHER, &source);
    setup.limits.response_bytes = 1 << 20;
    let first = whole(
        &setup
            .ready()
            .await
            .run(watch(true, &["USD"]))
            .await
            .unwrap(),
    );
    // The same run has asked another page before: two exchanges, the second one asked first.
    let mut before = first.exchanges[0].clone();
    before.url = format!("https://{NAME}/first");
    before.request = sha256(b"first");
    let recorded = exchanged(vec![before, first.exchanges[0].clone()]);
    let found = divergence(&setup, watch(true, &["USD"]), recorded).await;
    assert!(
        matches!(found, Divergence::Other { exchange: 1, .. }),
        "{found}"
    );
}

#[tokio::test]
async fn an_input_that_is_not_the_runs_gives_something_else() {
    let (setup, input, answer, _source) = recorded_fetch().await;
    let mut settings = input.clone();
    settings.settings.insert("feed".into(), "other".into());
    let refused = replay(&setup, settings, whole(&answer)).await;
    assert!(
        matches!(
            refused,
            Err(IsolationError::Fault(RegionFault::Protocol(_)))
        ),
        "{refused:?}"
    );
    let mut torn = input;
    torn.job.0 = B256::ZERO;
    let refused = replay(&setup, torn, whole(&answer)).await;
    assert!(
        matches!(
            refused,
            Err(IsolationError::Fault(RegionFault::Protocol(_)))
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_recording_larger_than_regions_make_is_refused() {
    let (setup, input, answer, _source) = recorded_fetch().await;
    let one = whole(&answer).exchanges.remove(0);
    let mut large = one.clone();
    *body(&mut large) = vec![0; 5 << 20].into();
    for exchanges in [vec![one; 65], vec![large]] {
        let refused = replay(&setup, input.clone(), exchanged(exchanges)).await;
        assert!(
            matches!(&refused, Err(IsolationError::Fault(RegionFault::Protocol(reason))) if reason.contains("recording")),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_replay_ends_at_the_limits_of_a_run() {
    let (mut setup, _, answer, _source) = recorded_fetch().await;
    setup.limits.wall_millis = 300;
    let started = Instant::now();
    let endless = replay(&setup, behave("loop", ""), Recording::default()).await;
    let out = RegionFault::OutOfFuel(setup.limits.fuel);
    assert!(
        matches!(&endless, Err(IsolationError::Fault(fault)) if *fault == out),
        "{endless:?}"
    );
    setup.limits.fuel = u64::MAX;
    let endless = replay(&setup, behave("loop", ""), Recording::default()).await;
    assert!(
        matches!(
            endless,
            Err(IsolationError::Fault(RegionFault::Deadline(300)))
        ),
        "{endless:?}"
    );
    let eating = replay(&setup, behave("eat", ""), Recording::default()).await;
    assert!(
        matches!(
            eating,
            Err(IsolationError::Fault(RegionFault::OutOfMemory(_)))
        ),
        "{eating:?}"
    );
    // 64 answers, and not one more, to somebody who never stops asking.
    let exchanges = vec![whole(&answer).exchanges.remove(0); 64];
    let url = format!("https://{NAME}/");
    let hammering = replay(&setup, behave("hammer", &url), exchanged(exchanges)).await;
    assert!(
        matches!(&hammering, Err(IsolationError::Fault(RegionFault::Refused(reason))) if reason.contains("64")),
        "{hammering:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_recorded_failure_is_what_the_cryptlet_is_told() {
    let (setup, input, answer, _source) = recorded_fetch().await;
    let mut failed = whole(&answer);
    let reason = "the line was cut".to_owned();
    failed.exchanges[0].outcome = ExchangeOutcome::Failure(ExchangeFailure::Unreachable(reason));
    let replayed = replay(&setup, input, failed).await.unwrap();
    let ReplayedOutcome::Payload(payload) = &replayed.outcome else {
        panic!("skipped")
    };
    let told = String::from_utf8_lossy(payload).into_owned();
    assert!(told.contains("the line was cut"), "{told}");
    assert_eq!(replayed.sources, sources_digest(&[]).unwrap());
}
