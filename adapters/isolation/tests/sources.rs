//! Sources and hosts that lie, break, stall or flood: nothing of it is ever signed as a source's word.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use async_trait::async_trait;
use cryptlet_isolation::{CallOutHandler, CallOutSession};
use cryptlet_types::{
    Trigger,
    region::{CallOut, CallOutAnswer, RegionFault, RegionSettings},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use support::{
    HOSTILE, MARKET_WATCHER, NAME, PLACE, Setup, behave, fault, said,
    source::{Certificate, Manner, Source, page},
    subscribed, watch,
};
use tokio::net::TcpSocket;

const OPEN: &str = "Date,USD,GBP,\n2026-10-16,1.1172,0.8338,\n";

/// What the hostile cryptlet was told when it fetched from `source`.
async fn fetch_from(source: &Source) -> String {
    let mut region = Setup::new(HOSTILE).with_source(source).ready().await;
    let answer = region
        .run(behave("fetch", &format!("https://{NAME}/")))
        .await
        .unwrap();
    assert!(answer.sources.is_empty() || said(&answer).starts_with("200"));
    said(&answer)
}

#[tokio::test]
async fn a_source_that_cannot_prove_its_name_is_not_heard() {
    let cases = [
        (Certificate::OtherName, "not valid for name"),
        (Certificate::Expired, "expired"),
        (Certificate::OtherRoot, "BadSignature"),
    ];
    for (certificate, reason) in cases {
        let mut source = Source::with(page("secret"), certificate).await;
        let heard = fetch_from(&source).await;
        assert!(
            heard.contains("Insecure") && heard.contains(reason),
            "{heard}"
        );
        assert!(source.requests.try_recv().is_err(), "the request was sent");
    }
}

#[tokio::test]
async fn certificates_are_judged_at_the_jobs_time() {
    let source = Source::with(page(OPEN), Certificate::Expired).await;
    let mut region = Setup::new(HOSTILE).with_source(&source).ready().await;
    let mut earlier = behave("fetch", &format!("https://{NAME}/"));
    earlier.issued_at -= 2 * 86_400;
    earlier.trigger = Trigger::Clock {
        due: earlier.issued_at,
    };
    earlier.valid_until = earlier.issued_at + 3_600;
    let answer = region.run(subscribed(earlier)).await.unwrap();
    assert!(said(&answer).starts_with("200 Date"));
    let later = behave("fetch", &format!("https://{NAME}/"));
    assert!(said(&region.run(later).await.unwrap()).contains("Insecure"));
}

#[tokio::test]
async fn what_is_no_tls_is_not_heard() {
    let garbage = [
        b"HTTP/1.1 200 OK\r\n\r\nrates".to_vec(),
        vec![0x16; 4_000],
        vec![],
    ];
    for bytes in garbage {
        let source = Source::start(Manner::NoTls(bytes)).await;
        let heard = fetch_from(&source).await;
        assert!(
            heard.contains("Insecure") || heard.contains("Unreachable"),
            "{heard}"
        );
    }
}

#[tokio::test]
async fn a_broken_or_lying_answer_is_no_answer() {
    let head = "HTTP/1.1 200 OK\r\n";
    let cases = [
        (
            Manner::BreaksAfter(format!("{head}content-length: 9\r\n\r\nhalf").into()),
            "Unreachable",
        ),
        (
            Manner::BreaksAfter(format!("{head}\r\nhalf").into()),
            "Unreachable",
        ),
        (
            Manner::Says(format!("{head}content-length: 9\r\n\r\nhalf").into()),
            "Malformed",
        ),
        (
            Manner::Says(format!("{head}content-length: 2\r\n\r\nmore").into()),
            "Malformed",
        ),
        (Manner::Says(b"220 smtp ready\r\n".to_vec()), "Malformed"),
        (
            Manner::Says(format!("{head}content-length: 1073741824\r\n\r\n").into()),
            "TooLarge",
        ),
        (Manner::NeverStops(format!("{head}\r\n").into()), "TooLarge"),
        (
            Manner::NeverStops(format!("{head}content-length: 9\r\n\r\n").into()),
            "Malformed",
        ),
    ];
    for (manner, kind) in cases {
        let source = Source::start(manner).await;
        let heard = fetch_from(&source).await;
        assert!(heard.contains(kind), "{kind} expected: {heard}");
    }
}

#[tokio::test]
async fn a_silent_source_ends_at_the_deadline() {
    let source = Source::start(Manner::Silent).await;
    let mut setup = Setup::new(HOSTILE).with_source(&source);
    setup.limits.wall_millis = 300;
    let mut region = setup.ready().await;
    let started = Instant::now();
    let late = fault(
        region
            .run(behave("fetch", &format!("https://{NAME}/")))
            .await,
    );
    assert_eq!(late, RegionFault::Deadline(300));
    assert!(started.elapsed() < Duration::from_secs(2));
    let next = region.run(behave("echo", "still here")).await.unwrap();
    assert_eq!(said(&next), "still here");
}

#[tokio::test]
async fn a_source_that_is_down_is_unreachable() {
    let source = Source::start(page("x")).await;
    let mut setup = Setup::new(HOSTILE).with_source(&source);
    // A port that was merely let go could be another test's source by now.
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let unheard = taken.local_addr().unwrap();
    setup.addresses.insert(PLACE.into(), unheard);
    let mut region = setup.ready().await;
    let answer = region
        .run(behave("fetch", &format!("https://{NAME}/")))
        .await
        .unwrap();
    assert!(said(&answer).contains("Unreachable"), "{}", said(&answer));
}

#[tokio::test]
async fn a_place_that_policy_does_not_name_is_not_asked_for() {
    let mut region = Setup::new(HOSTILE).ready().await;
    for url in [
        "https://other.example/",
        "https://rates.bletchley.example:444/",
        "https://rates.bletchley.example.evil.example/",
        "https://evil.example@rates.bletchley.example/",
        "http://rates.bletchley.example:443/",
    ] {
        let answer = region.run(behave("fetch", url)).await.unwrap();
        assert!(
            said(&answer).contains("Refused"),
            "{url}: {}",
            said(&answer)
        );
    }
}

/// A host that flips one bit of what the source sent, in the answer to its `nth` receiving call.
struct Altering {
    relay: Arc<dyn CallOutHandler>,
    nth: usize,
    received: Arc<AtomicUsize>,
}

struct AlteringSession {
    session: Box<dyn CallOutSession>,
    nth: usize,
    received: Arc<AtomicUsize>,
}

impl CallOutHandler for Altering {
    fn open(&self, settings: &RegionSettings) -> Box<dyn CallOutSession> {
        Box::new(AlteringSession {
            session: self.relay.open(settings),
            nth: self.nth,
            received: Arc::clone(&self.received),
        })
    }
}

#[async_trait]
impl CallOutSession for AlteringSession {
    async fn call_out(&mut self, call: CallOut) -> Result<CallOutAnswer, String> {
        let answer = self.session.call_out(call).await?;
        let CallOutAnswer::Received(bytes) = answer else {
            return Ok(answer);
        };
        let turn = self.received.fetch_add(1, Ordering::Relaxed);
        let mut bytes = bytes.to_vec();
        if turn == self.nth && !bytes.is_empty() {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
        }
        Ok(CallOutAnswer::Received(bytes.into()))
    }

    fn run_ended(&mut self) {
        self.session.run_ended();
    }
}

#[tokio::test]
async fn a_host_that_alters_relayed_bytes_gets_no_report() {
    let mut caught = 0;
    for nth in 0.. {
        let source = Source::start(page(OPEN)).await;
        let setup = Setup::new(MARKET_WATCHER).with_source(&source);
        let received = Arc::new(AtomicUsize::new(0));
        let altering = Altering {
            relay: setup.relay(),
            nth,
            received: Arc::clone(&received),
        };
        let mut region = setup.ready_with(Arc::new(altering)).await;
        let result = region.run(watch(true, &["USD"])).await;
        if received.load(Ordering::Relaxed) <= nth {
            assert!(result.is_ok(), "nothing was altered");
            break;
        }
        let failed = fault(result);
        assert!(matches!(failed, RegionFault::Unavailable(_)), "{failed}");
        caught += 1;
    }
    assert!(caught >= 2, "handshake and answer were altered");
}

#[tokio::test]
async fn hammering_a_source_is_bounded() {
    let mut source = Source::start(page("x")).await;
    let mut region = Setup::new(HOSTILE).with_source(&source).ready().await;
    let refused = fault(
        region
            .run(behave("hammer", &format!("https://{NAME}/")))
            .await,
    );
    assert!(
        matches!(refused, RegionFault::Refused(ref reason) if reason.contains("64")),
        "{refused}"
    );
    let mut asked = 0;
    while source.requests.try_recv().is_ok() {
        asked += 1;
    }
    assert_eq!(asked, 64);
}
