//! The host, which is the real provider: what it says to each breach.

use crate::support::{
    Setup, behave,
    process::{go_on, wait_until_gone},
    source::{Source, page},
};
use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use cryptlet_isolation::{
    CallOutHandler, CallOutSession, CodeAsked, IsolationError, IsolationProvider, ProcessProvider,
    Region,
};
use cryptlet_seal::package;
use cryptlet_types::{
    CodeGrant, SecretCode,
    bounded::MAX_MESSAGE_BYTES,
    region::{Package, RegionSettings, RunAnswer, RunOutcome},
};
use std::{
    fs,
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// The run's own time; the host allows 1,250 ms more before it ends a region.
const WALL_MILLIS: u64 = 100;
const RUN_TIMEOUT: u64 = WALL_MILLIS + 1_250;
/// The same for what a region does without the cryptlet.
const OWN_TIMEOUT: u64 = 5_000 + 1_250;
/// Longest that any breach may take: the longest of them is one of silence.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a host says to a breach.
#[derive(Debug)]
enum Verdict {
    Protocol(&'static str),
    Died,
    Timeout(u64),
    Mismatch(&'static str),
    Refused,
    Fault,
}
use Verdict::{Died, Fault, Mismatch, Protocol, Refused, Timeout};

/// Breaches before there is a region.
const CREATING: &[(&str, Verdict)] = &[
    ("load-garbage", Protocol("malformed")),
    ("load-endless-array", Protocol("greater than the frame")),
    ("load-nested", Protocol("malformed")),
    ("load-trailing", Protocol("too many")),
    ("load-empty", Protocol("malformed")),
    ("load-oversize", Protocol("at most")),
    ("load-gigabyte", Protocol("1073741824 bytes, at most")),
    ("load-early", Died),
    ("load-closes", Died),
    ("load-exits", Died),
    ("load-other-answer", Protocol("another answer")),
    ("load-calls-out", Protocol("another answer")),
    ("load-fault", Fault),
    ("load-asks-for-key", Protocol("another answer")),
    ("secret-other-measurement", Mismatch("measurement")),
    ("secret-earlier-nonce", Mismatch("nonce")),
    ("secret-other-provider", Mismatch("provider")),
    ("secret-attested", Mismatch("attestation")),
    ("divide-hands-over-a-stranger", Protocol("than its child")),
    ("divide-hands-over-its-parent", Protocol("than its child")),
    ("divide-hands-over-no-process", Protocol("than its child")),
    ("divide-hands-over-nothing", Protocol("than its child")),
    ("divide-hands-over-and-refuses", Protocol("than its child")),
    ("divide-answers-garbage", Protocol("than its child")),
    ("divide-answers-shortly", Protocol("than its child")),
    ("divide-refuses", Refused),
    ("divide-closes", Died),
    ("create-garbage", Protocol("malformed")),
    ("create-endless-array", Protocol("greater than the frame")),
    ("create-gigabyte", Protocol("1073741824 bytes, at most")),
    ("create-early", Died),
    ("create-exits", Died),
    ("create-other-answer", Protocol("another answer")),
    ("create-silent", Timeout(OWN_TIMEOUT)),
    ("create-dribble", Timeout(OWN_TIMEOUT)),
    ("create-other-measurement", Mismatch("measurement")),
    ("create-earlier-nonce", Mismatch("nonce")),
    ("create-other-provider", Mismatch("provider")),
];

/// Breaches in a run.
const RUNNING: &[(&str, Verdict)] = &[
    ("run-garbage", Protocol("malformed")),
    ("run-endless-array", Protocol("greater than the frame")),
    ("run-nested", Protocol("malformed")),
    ("run-trailing", Protocol("too many")),
    ("run-empty", Protocol("malformed")),
    ("run-oversize", Protocol("at most")),
    ("run-gigabyte", Protocol("1073741824 bytes, at most")),
    ("run-early", Died),
    ("run-twice", Protocol("out of turn")),
    ("run-answers-then-calls", Protocol("out of turn")),
    ("run-faults-then-answers", Protocol("out of turn")),
    ("run-closes", Died),
    ("run-exits", Died),
    ("run-other-answer", Protocol("another answer")),
    ("run-silent", Timeout(RUN_TIMEOUT)),
    ("run-dribble", Timeout(RUN_TIMEOUT)),
    ("run-late", Timeout(RUN_TIMEOUT)),
    ("run-shouts-for-ever", Timeout(RUN_TIMEOUT)),
];

/// What a region hears that asks for more than it may.
const ASKING: &[(&str, &str)] = &[
    ("run-shouts", "skips: 256"),
    ("run-shouts-long", "skips: shouted"),
    ("run-connects", "skips: 64"),
    (
        "run-connects-elsewhere",
        "skips: 169.254.169.254:80 is not allowed",
    ),
    (
        "run-uses-no-stream",
        "skips: no stream is open; no stream is open",
    ),
    (
        "run-asks-for-key",
        "skips: a key of secret code is given while a package is loaded",
    ),
    ("divide-hands-over-more", "skips: well-behaved"),
    ("honest", "skips: well-behaved"),
];

struct Host {
    provider: ProcessProvider,
    source: Source,
    victim: u32,
    /// How often somebody asked for a key of secret code.
    asked: Arc<AtomicUsize>,
}

/// What answers regions here: a relay, and nobody who has keys, but counts who asks.
struct Keyless {
    relay: Arc<dyn CallOutHandler>,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl CallOutHandler for Keyless {
    fn open(&self, settings: &RegionSettings) -> Box<dyn CallOutSession> {
        self.relay.open(settings)
    }

    async fn code_key(&self, _: CodeAsked) -> Result<CodeGrant, String> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Err("nobody has any".into())
    }
}

/// A process that no container has to do with. It ends with this, in a test that fails too: what reads this program's output
/// would otherwise wait for it.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn run() {
    let runtime = Runtime::new().unwrap();
    let mut victim = Victim(Command::new("sleep").arg("1000").spawn().unwrap());
    let started = Instant::now();
    runtime.block_on(async {
        let host = Host {
            provider: ProcessProvider::new(&std::env::current_exe().unwrap()).unwrap(),
            source: Source::start(page("x")).await,
            victim: victim.0.id(),
            asked: Arc::default(),
        };
        host.try_all().await;
    });
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    drop(runtime);
    // Nobody was ended whom a container named.
    let spared = victim.0.try_wait().unwrap().is_none();
    assert!(spared, "the stranger was killed");
    assert_eq!(
        kept_processes(),
        0,
        "descriptors that containers sent are left"
    );
    let breaches = CREATING.len() + RUNNING.len() + ASKING.len() + 3;
    println!(
        "{breaches} breaches of a container that was taken over: each named, the next region served"
    );
}

/// How many descriptors of processes this one holds.
fn kept_processes() -> usize {
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    let targets = entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    targets
        .filter(|target| target.to_string_lossy().contains("pidfd"))
        .count()
}

impl Host {
    async fn try_all(&self) {
        let creating = CREATING.iter().map(async |(breach, verdict)| {
            let error = self
                .create(breach)
                .await
                .err()
                .unwrap_or_else(|| panic!("{breach}"));
            check(breach, verdict, &error);
        });
        let running = RUNNING.iter().map(async |(breach, verdict)| {
            let mut region = self.create(breach).await.unwrap();
            check(
                breach,
                verdict,
                &region.run(behave("echo", "x")).await.unwrap_err(),
            );
            // Whatever it may say later, nobody listens.
            let again = region.run(behave("echo", "x")).await.unwrap_err();
            assert!(
                matches!(&again, IsolationError::Died(how) if how == "in an earlier call"),
                "{breach}: {again}"
            );
        });
        let asking = ASKING.iter().map(async |(breach, heard)| {
            let mut setup = self.setup();
            setup.limits.wall_millis = 20_000;
            let mut region = self.create_with(breach, &setup).await.unwrap();
            assert_eq!(
                told(region.run(behave("echo", "x")).await),
                *heard,
                "{breach}"
            );
            // Each run has its own allowance.
            assert_eq!(
                told(region.run(behave("echo", "x")).await),
                *heard,
                "{breach}"
            );
            let lines = setup.lines.0.lock().unwrap();
            assert!(lines.len() <= 512 && lines.iter().all(|line| line.len() <= MAX_MESSAGE_BYTES));
            assert_eq!(lines.is_empty(), !breach.contains("shouts"), "{breach}");
        });
        tokio::join!(
            futures::future::join_all(creating),
            futures::future::join_all(running),
            futures::future::join_all(asking),
        );
        self.hears_no_answer_before_its_question().await;
        self.takes_no_image_that_is_too_long().await;
        self.is_asked_for_a_key_once_by_who_it_says_it_is().await;
        // After all that, from the same program:
        let mut region = self.create("honest").await.unwrap();
        assert_eq!(
            told(region.run(behave("echo", "x")).await),
            "skips: well-behaved"
        );
    }

    /// What a region says between two calls would otherwise be its answer to the second.
    async fn hears_no_answer_before_its_question(&self) {
        let breach = "run-answers-ahead";
        let mut region = self.create(breach).await.unwrap();
        let said = told(region.run(behave("echo", "x")).await);
        let process = said.strip_prefix("skips: ").unwrap().parse().unwrap();
        go_on(process);
        // It has said it then, and it lies there to be read.
        wait_until_gone(process).await;
        let next = region.run(behave("echo", "x")).await.unwrap_err();
        check(breach, &Protocol("out of turn"), &next);
    }

    async fn takes_no_image_that_is_too_long(&self) {
        let breach = "seals-too-much";
        let mut region = self.create(breach).await.unwrap();
        let error = region.seal().await.unwrap_err();
        check(breach, &Protocol("a sealed image of more than"), &error);
    }

    /// Nobody who has keys hears of those that [`CREATING`] names, and of this one but once.
    async fn is_asked_for_a_key_once_by_who_it_says_it_is(&self) {
        assert_eq!(self.asked.load(Ordering::Relaxed), 0);
        let breach = "secret-asks-twice";
        let error = self.create(breach).await.err().unwrap();
        check(breach, &Protocol("another answer"), &error);
        assert_eq!(self.asked.load(Ordering::Relaxed), 1);
    }

    fn setup(&self) -> Setup {
        let mut setup = Setup::new(b"no code: nothing here runs it").with_source(&self.source);
        setup.limits.wall_millis = WALL_MILLIS;
        setup
    }

    /// A package with this name.
    fn package(&self, name: &str, setup: &Setup) -> Package {
        let mut manifest = setup.manifest();
        manifest.name = name.into();
        manifest.config.description = self.victim.to_string();
        let counterparties = vec![Address::repeat_byte(1)];
        let secret = name.starts_with("secret-");
        manifest.config.secret_code = secret.then_some(SecretCode { counterparties });
        package::build(&manifest, setup.code, b"{}", None)
            .unwrap()
            .package
    }

    fn answering(&self, setup: &Setup) -> Arc<dyn CallOutHandler> {
        Arc::new(Keyless {
            relay: setup.relay(),
            asked: self.asked.clone(),
        })
    }

    async fn create(&self, breach: &str) -> Result<Box<dyn Region>, IsolationError> {
        self.create_with(breach, &self.setup()).await
    }

    async fn create_with(
        &self,
        breach: &str,
        setup: &Setup,
    ) -> Result<Box<dyn Region>, IsolationError> {
        let package = self.package(breach, setup);
        let nonce = B256::repeat_byte(9);
        self.provider
            .create(package, setup.settings(), nonce, self.answering(setup))
            .await
    }
}

fn told(result: Result<RunAnswer, IsolationError>) -> String {
    match result {
        Ok(RunAnswer {
            outcome: RunOutcome::Skip(reason),
            ..
        }) => format!("skips: {reason}"),
        other => panic!("{other:?}"),
    }
}

fn check(breach: &str, verdict: &Verdict, error: &IsolationError) {
    let fits = match (verdict, error) {
        (Protocol(part), IsolationError::Protocol(reason)) => reason.contains(part),
        (Died, IsolationError::Died(_)) | (Fault, IsolationError::Fault(_)) => true,
        (Refused, IsolationError::Start { source, .. }) => source.raw_os_error() == Some(11),
        (Timeout(expected), IsolationError::Timeout(millis)) => expected == millis,
        (Mismatch(expected), IsolationError::Mismatch { what, .. }) => expected == what,
        _ => false,
    };
    assert!(fits, "{breach}: {error:?}, not {verdict:?}");
}
