//! What every provider has to do, one function for each property.

use crate::{
    Starts,
    support::{HOSTILE, MONTE_CARLO, NAME, Setup, behave, fault, provision, said},
};
use alloy_primitives::{Address, B256, hex};
use async_trait::async_trait;
use cryptlet_isolation::{
    CallOutHandler, CallOutSession, IsolationError, IsolationProvider, Region, check_signature,
};
use cryptlet_seal::{SigningKey, check, evidence::vouch, key_binding, recover, wrap};
use cryptlet_types::{
    CryptletMessage, EvidenceStatement, Measurement, MessageStatement, SignedReport,
    region::{
        CallOut, CallOutAnswer, KeyGrant, Package, RegionFault, RegionSettings, RegionStatement,
        RunAnswer, RunOutcome, sources_digest,
    },
    report::CompactSignature,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Longest wait for what must come about.
const PATIENCE: Duration = Duration::from_secs(20);

/// A world that counts what is asked of it, and how many regions can ask. It gives nothing.
#[derive(Clone, Default)]
struct Counting {
    sessions: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
}

struct CountingSession(Counting);

impl CallOutHandler for Counting {
    fn open(&self, _: &RegionSettings) -> Box<dyn CallOutSession> {
        self.sessions.fetch_add(1, Ordering::SeqCst);
        Box::new(CountingSession(self.clone()))
    }
}

impl Drop for CountingSession {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl CallOutSession for CountingSession {
    async fn call_out(&mut self, _: CallOut) -> Result<CallOutAnswer, String> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        Err("nothing".into())
    }

    fn run_ended(&mut self) {}
}

async fn create(
    provider: &dyn IsolationProvider,
    setup: &Setup,
    nonce: u8,
) -> Result<Box<dyn Region>, IsolationError> {
    let (package, settings) = (setup.package(), setup.settings());
    let nonce = B256::repeat_byte(nonce);
    provider
        .create(package, settings, nonce, setup.relay())
        .await
}

async fn ready(provider: &dyn IsolationProvider, setup: &Setup) -> Box<dyn Region> {
    let mut region = create(provider, setup, 9).await.unwrap();
    provision(region.as_mut(), &setup.key).await.unwrap();
    region
}

/// The same cryptlet, as a host finds it again.
fn same(setup: &Setup) -> Setup {
    Setup {
        key: SigningKey::from_secret(&setup.key.secret()).unwrap(),
        limits: setup.limits,
        ..Setup::new(setup.code)
    }
}

fn refused_in_turn(result: Result<impl std::fmt::Debug, IsolationError>) {
    let fault = matches!(result, Err(IsolationError::Fault(RegionFault::Protocol(_))));
    assert!(fault, "{result:?}");
}

fn refused_key(result: Result<Address, IsolationError>) {
    let fault = matches!(result, Err(IsolationError::Fault(RegionFault::Key(_))));
    assert!(fault, "{result:?}");
}

fn report(answer: RunAnswer) -> SignedReport {
    match answer.outcome {
        RunOutcome::Report(report) => *report,
        RunOutcome::Skip(reason) => panic!("skipped: {reason}"),
    }
}

pub async fn a_region_is_created_given_its_key_and_woken_in_this_order(starts: Starts) {
    let (provider, setup) = (starts(), Setup::new(HOSTILE));
    let mut region = create(provider.as_ref(), &setup, 9).await.unwrap();
    refused_in_turn(region.run(behave("echo", "early")).await);
    let address = provision(region.as_mut(), &setup.key).await.unwrap();
    assert_eq!(address, setup.key.address());
    refused_in_turn(provision(region.as_mut(), &setup.key).await);
    for word in ["first", "second"] {
        assert_eq!(said(&region.run(behave("echo", word)).await.unwrap()), word);
    }
}

pub async fn a_region_says_who_isolates_it_and_repeats_the_challenge(starts: Starts) {
    let (provider, setup) = (starts(), Setup::new(HOSTILE));
    for nonce in [1, 2] {
        let region = create(provider.as_ref(), &setup, nonce).await.unwrap();
        let statement = region.statement();
        assert_eq!(statement.provider, provider.provider());
        assert_eq!(statement.nonce, B256::repeat_byte(nonce));
        assert!(!statement.controls.is_empty());
    }
}

pub async fn the_digest_is_the_same_after_every_restart(starts: Starts) {
    let setup = Setup::new(HOSTILE);
    let digest = |provider: &dyn IsolationProvider| {
        provider
            .measurement(&setup.package(), &setup.settings())
            .unwrap()
    };
    let first = digest(starts().as_ref());
    for nonce in [1, 2] {
        let provider = starts();
        assert_eq!(digest(provider.as_ref()), first);
        let region = create(provider.as_ref(), &setup, nonce).await.unwrap();
        assert_eq!(region.statement().measurement, first);
    }
}

pub async fn the_digest_is_another_for_other_code_limits_or_places(starts: Starts) {
    let (provider, setup) = (starts(), Setup::new(HOSTILE));
    let digest = |package: &Package, settings: &RegionSettings| {
        provider.measurement(package, settings).unwrap()
    };
    let (package, settings) = (setup.package(), setup.settings());
    let mut other_code = same(&setup);
    other_code.code = MONTE_CARLO;
    let mut less = settings.clone();
    less.limits.fuel -= 1;
    let mut nowhere = settings.clone();
    nowhere.egress.clear();
    let digests = [
        digest(&package, &settings),
        digest(&other_code.package(), &settings),
        digest(&Setup::new(HOSTILE).package(), &settings),
        digest(&package, &less),
        digest(&package, &nowhere),
    ];
    for (index, one) in digests.iter().enumerate() {
        assert!(!digests[..index].contains(one), "{index}");
    }
}

pub async fn a_signature_is_true_for_that_code_in_that_region_alone(starts: Starts) {
    let (provider, setup) = (starts(), Setup::new(HOSTILE));
    let mut region = ready(provider.as_ref(), &setup).await;
    let other = create(provider.as_ref(), &setup, 9).await.unwrap();
    let input = behave("echo", "x");
    let answer = region.run(input.clone()).await.unwrap();
    let sources = sources_digest(&answer.sources).unwrap();
    let report = report(answer);
    let measurement = region.statement().measurement;
    let told = RegionStatement {
        measurement,
        report: report.report.digest(&input.domain),
        input: input.digest().unwrap(),
        sources,
    };
    let signature = report.region_signature;
    let holds = |said: &RegionStatement, digest, signature: &CompactSignature| {
        check_signature(region.statement(), digest, said, signature)
    };
    assert!(holds(&told, measurement, &signature));
    let elsewhere = Measurement(B256::repeat_byte(7));
    assert!(!holds(&told, elsewhere, &signature), "another digest");
    let change = |change: &dyn Fn(&mut RegionStatement)| {
        let mut changed = told;
        change(&mut changed);
        holds(&changed, measurement, &signature)
    };
    assert!(!change(&|said| said.measurement = elsewhere), "other code");
    assert!(!change(&|said| said.report.0[0] ^= 1), "another report");
    assert!(!change(&|said| said.input.0[0] ^= 1), "another input");
    assert!(!change(&|said| said.sources.0[0] ^= 1), "other sources");
    assert!(
        !holds(&told, measurement, &report.signature),
        "the cryptlet's signature"
    );
    assert!(
        !holds(&told, measurement, &CompactSignature::default()),
        "none"
    );
    let of_other = check_signature(other.statement(), measurement, &told, &signature);
    assert!(!of_other, "another region of the same code");
}

pub async fn each_limit_stops_a_run_and_the_next_one_is_fresh(starts: Starts) {
    let (provider, setup) = (starts(), Setup::new(HOSTILE));
    let mut region = ready(provider.as_ref(), &setup).await;
    let limits = setup.limits;
    for (behaviour, detail, expected) in [
        ("loop", "", RegionFault::OutOfFuel(limits.fuel)),
        ("eat", "", RegionFault::OutOfMemory(limits.memory_bytes)),
        (
            "huge",
            "1000000000",
            RegionFault::OutOfMemory(limits.memory_bytes),
        ),
        ("huge", "20000", RegionFault::PayloadTooLarge(20_064)),
        ("refuse", "no", RegionFault::Refused("no".into())),
    ] {
        assert_eq!(fault(region.run(behave(behaviour, detail)).await), expected);
        assert_eq!(said(&region.run(behave("echo", "x")).await.unwrap()), "x");
    }
    for behaviour in ["trap", "recurse"] {
        let trapped = fault(region.run(behave(behaviour, "")).await);
        assert!(matches!(trapped, RegionFault::Trap(_)), "{trapped}");
    }
    assert_eq!(said(&region.run(behave("echo", "x")).await.unwrap()), "x");
}

pub async fn time_is_limited_whatever_fuel_is_left(starts: Starts) {
    let (provider, mut setup) = (starts(), Setup::new(HOSTILE));
    setup.limits.fuel = u64::MAX / 2;
    setup.limits.wall_millis = 200;
    let mut region = ready(provider.as_ref(), &setup).await;
    let started = Instant::now();
    let late = fault(region.run(behave("loop", "")).await);
    assert_eq!(late, RegionFault::Deadline(200));
    assert!(started.elapsed() < PATIENCE);
    assert_eq!(said(&region.run(behave("echo", "x")).await.unwrap()), "x");
}

pub async fn nothing_is_called_out_that_settings_do_not_allow(starts: Starts) {
    let (provider, setup) = (starts(), Setup::new(HOSTILE));
    let mut settings = setup.settings();
    settings.egress.clear();
    let world = Counting::default();
    let handler = Arc::new(world.clone());
    let created = provider.create(setup.package(), settings, B256::ZERO, handler);
    let mut region = created.await.unwrap();
    provision(region.as_mut(), &setup.key).await.unwrap();
    for url in [
        format!("https://{NAME}/"),
        "https://169.254.169.254/".into(),
    ] {
        let answer = region.run(behave("fetch", &url)).await.unwrap();
        assert!(said(&answer).contains("Refused"), "{}", said(&answer));
    }
    assert_eq!(world.calls.load(Ordering::SeqCst), 0);
}

pub async fn a_cryptlet_comes_back_as_itself_in_another_region(starts: Starts) {
    let setup = Setup::new(HOSTILE);
    let mut lives = Vec::new();
    for _ in 0..2 {
        let (provider, setup) = (starts(), same(&setup));
        let mut region = ready(provider.as_ref(), &setup).await;
        let input = behave("echo", "x");
        let report = report(region.run(input.clone()).await.unwrap());
        let signer = recover(report.report.digest(&input.domain), &report.signature);
        assert_eq!(signer, Ok(setup.key.address()));
        lives.push(region.statement().clone());
    }
    assert_eq!(lives[0].measurement, lives[1].measurement);
    assert_ne!(lives[0].region_key, lives[1].region_key);
    assert_ne!(lives[0].exchange_key, lives[1].exchange_key);
}

pub async fn a_key_for_one_region_is_of_no_use_to_another(starts: Starts) {
    let (provider, setup) = (starts(), Setup::new(HOSTILE));
    let first = create(provider.as_ref(), &setup, 9).await.unwrap();
    let mut second = create(provider.as_ref(), &setup, 9).await.unwrap();
    let stranger = Setup::new(HOSTILE);
    let secret = setup.key.secret();
    let to = first.statement();
    let wrapped = wrap(to.exchange_key, &key_binding(to), secret.as_slice()).unwrap();
    refused_key(second.provision(KeyGrant::Wrapped(wrapped)).await);
    refused_key(provision(second.as_mut(), &stranger.key).await);
    assert!(provision(second.as_mut(), &setup.key).await.is_ok());
}

pub async fn a_key_that_stays_in_its_vault_signs_there(starts: Starts) {
    let (provider, setup) = (starts(), Setup::new(HOSTILE));
    let mut region = create(provider.as_ref(), &setup, 9).await.unwrap();
    let signer = setup.key.address();
    let stranger = KeyGrant::InVault {
        signer: Address::ZERO,
    };
    refused_key(region.provision(stranger).await);
    let granted = region.provision(KeyGrant::InVault { signer }).await;
    assert_eq!(granted.unwrap(), signer);
    let report = report(region.run(behave("echo", "x")).await.unwrap());
    assert_eq!(report.signer, signer);
    assert_eq!(report.signature, CompactSignature::default());
    assert_ne!(report.region_signature, CompactSignature::default());
}

/// The two signatures that the hostile cryptlet tells of: the cryptlet's, if there is one, and the region's.
async fn signed(
    region: &mut dyn Region,
    message: &str,
) -> (Option<CompactSignature>, CompactSignature) {
    let told = said(&region.run(behave("sign", message)).await.unwrap());
    let (cryptlet, region) = told.split_once(' ').unwrap();
    let read = |text: &str| CompactSignature::from_bytes(&hex::decode(text).unwrap()).unwrap();
    ((cryptlet != "none").then(|| read(cryptlet)), read(region))
}

pub async fn a_message_is_signed_by_both_keys_for_its_subscription_alone(starts: Starts) {
    let (provider, setup) = (starts(), Setup::new(HOSTILE));
    let mut region = ready(provider.as_ref(), &setup).await;
    let (cryptlet, countersigned) = signed(region.as_mut(), "pay 7").await;
    let woken = behave("sign", "pay 7");
    let said = CryptletMessage {
        cryptlet: woken.subscription.cryptlet,
        subject: woken.subscription.subject,
        message: "pay 7".into(),
    };
    let digest = said.digest(&woken.domain);
    let statement = MessageStatement {
        measurement: region.statement().measurement,
        message: digest,
    };
    let (key, region_key) = (setup.key.address(), region.statement().region_key);
    let cryptlet = cryptlet.unwrap();
    assert_eq!(check(digest, &cryptlet, key), Ok(()));
    assert_eq!(
        check(statement.digest(), &countersigned, region_key),
        Ok(())
    );
    // Not of another message, nor elsewhere, nor by the other key.
    let mut other = said.clone();
    other.message = "pay 8".into();
    assert!(check(other.digest(&woken.domain), &cryptlet, key).is_err());
    let elsewhere = CryptletMessage {
        subject: behave("sign", "pay 8").subscription.subject,
        ..said.clone()
    };
    assert!(check(elsewhere.digest(&woken.domain), &cryptlet, key).is_err());
    let mut domain = woken.domain;
    domain.chain_id += 1;
    assert!(check(said.digest(&domain), &cryptlet, key).is_err());
    assert!(check(digest, &cryptlet, region_key).is_err());
    assert!(check(digest, &countersigned, region_key).is_err());

    let mut region = create(provider.as_ref(), &setup, 9).await.unwrap();
    let signer = setup.key.address();
    let grant = KeyGrant::InVault { signer };
    region.provision(grant).await.unwrap();
    let (cryptlet, countersigned) = signed(region.as_mut(), "pay 7").await;
    assert_eq!(cryptlet, None, "the key is in its vault");
    let region_key = region.statement().region_key;
    assert_eq!(
        check(statement.digest(), &countersigned, region_key),
        Ok(())
    );
    for (behaviour, detail) in [("sign-many", "65"), ("sign-huge", "16385")] {
        let refused = fault(region.run(behave(behaviour, detail)).await);
        assert!(matches!(refused, RegionFault::Refused(_)), "{refused}");
        assert!(refused.to_string().contains("nothing signed"), "{refused}");
    }
    for (behaviour, detail) in [("sign-many", "64"), ("sign-huge", "16384")] {
        assert!(
            region.run(behave(behaviour, detail)).await.is_ok(),
            "{behaviour}"
        );
    }
}

pub async fn a_cryptlet_believes_what_another_said_in_its_region_alone(starts: Starts) {
    let (provider, setup) = (starts(), Setup::new(HOSTILE));
    let mut speaker = ready(provider.as_ref(), &setup).await;
    let (_, signature) = signed(speaker.as_mut(), "pay 7").await;
    let host = SigningKey::generate();
    let statement = speaker.statement().clone();
    let measurement = statement.measurement;
    let evidence = vouch(statement.clone(), 7, &host).unwrap();
    let evidence = serde_json::to_vec(&evidence).unwrap();
    let woken = behave("sign", "pay 7").subscription;
    let genuine = [
        host.address().to_vec(),
        measurement.0.to_vec(),
        evidence,
        woken.cryptlet.0.to_vec(),
        woken.subject.0.to_vec(),
        b"pay 7".to_vec(),
        signature.to_bytes().to_vec(),
    ];
    let told = |parts: &[Vec<u8>; 7], times: usize| {
        let parts = parts.iter().map(hex::encode);
        let parts = parts.chain([times.to_string()]);
        behave("claim", &parts.collect::<Vec<_>>().join(" "))
    };
    let mut listener = ready(provider.as_ref(), &Setup::new(HOSTILE)).await;
    let asked = listener.run(told(&genuine, 64)).await;
    assert_eq!(said(&asked.unwrap()), "true");
    let often = fault(listener.run(told(&genuine, 65)).await);
    assert!(often.to_string().contains("nothing checked"), "{often}");

    let mut shown = Vec::new();
    for place in [0, 1, 3, 4, 5, 6] {
        let mut altered = genuine.clone();
        altered[place][3] ^= 1;
        shown.push(altered);
        let mut short = genuine.clone();
        short[place].pop();
        shown.push(short);
    }
    let vouched_by = |statement: EvidenceStatement, host: &SigningKey| {
        let mut other = genuine.clone();
        other[2] = serde_json::to_vec(&vouch(statement, 7, host).unwrap()).unwrap();
        other
    };
    shown.push(vouched_by(statement.clone(), &SigningKey::generate()));
    let elsewhere = ready(provider.as_ref(), &setup).await.statement().clone();
    shown.push(vouched_by(elsewhere, &host));
    let mut theirs = genuine.clone();
    let forger = SigningKey::generate();
    let mut own = vouch(statement.clone(), 7, &host).unwrap();
    own.statement.region_key = forger.address();
    theirs[2] = serde_json::to_vec(&own).unwrap();
    shown.push(theirs);
    let mut another = statement;
    another.measurement = Measurement(B256::repeat_byte(1));
    shown.push(vouched_by(another, &host));
    for evidence in [b"{}".to_vec(), Vec::new()] {
        let mut malformed = genuine.clone();
        malformed[2] = evidence;
        shown.push(malformed);
    }
    for (index, claim) in shown.iter().enumerate() {
        let answer = listener.run(told(claim, 1)).await.unwrap();
        assert_eq!(said(&answer), "false", "{index}");
    }
}

pub async fn what_is_no_package_makes_no_region(starts: Starts) {
    let (provider, setup) = (starts(), Setup::new(HOSTILE));
    let create = async |package, settings| {
        let created = provider.create(package, settings, B256::ZERO, setup.relay());
        created.await.err().expect("a region")
    };
    let mut altered = setup.package();
    altered.code = [altered.code.as_ref(), b"\0"].concat().into();
    let error = create(altered, setup.settings()).await;
    assert!(matches!(error, IsolationError::Seal(_)), "{error}");
    let no_code = Setup::new(b"\0asm");
    let error = create(no_code.package(), no_code.settings()).await;
    let fault = matches!(error, IsolationError::Fault(RegionFault::Package(_)));
    assert!(fault, "{error}");
    let mut more = setup.settings();
    more.limits.memory_bytes += 1;
    let error = create(setup.package(), more).await;
    let fault = matches!(error, IsolationError::Fault(RegionFault::Package(_)));
    assert!(fault, "{error}");
}

/// A region that calls out to `world`, and its cryptlet's key.
async fn in_world(
    provider: &dyn IsolationProvider,
    world: &Counting,
    setup: &Setup,
) -> Box<dyn Region> {
    let handler = Arc::new(world.clone());
    let created = provider.create(setup.package(), setup.settings(), B256::ZERO, handler);
    let mut region = created.await.unwrap();
    provision(region.as_mut(), &setup.key).await.unwrap();
    region
}

pub async fn a_region_ends_when_it_is_dropped(starts: Starts) {
    let (provider, world) = (starts(), Counting::default());
    let setup = Setup::new(HOSTILE);
    let first = in_world(provider.as_ref(), &world, &setup).await;
    let mut second = in_world(provider.as_ref(), &world, &setup).await;
    assert_eq!(world.sessions.load(Ordering::SeqCst), 2);
    drop(first);
    assert_eq!(world.sessions.load(Ordering::SeqCst), 1);
    assert_eq!(said(&second.run(behave("echo", "x")).await.unwrap()), "x");
    drop(second);
    assert_eq!(world.sessions.load(Ordering::SeqCst), 0);
}

pub async fn a_call_that_is_dropped_ends_its_region(starts: Starts) {
    let (provider, world) = (starts(), Counting::default());
    let setup = Setup::new(HOSTILE);
    let mut region = in_world(provider.as_ref(), &world, &setup).await;
    // The future is polled once, so that the call is made, and then dropped.
    let call = region.run(behave("loop", ""));
    let dropped = tokio::time::timeout(Duration::ZERO, call).await;
    assert!(dropped.is_err(), "it was over before it could be dropped");
    let next = region.run(behave("echo", "x")).await.unwrap_err();
    assert!(next.is_end_of_region(), "{next}");
    let mut other = in_world(provider.as_ref(), &world, &setup).await;
    assert_eq!(said(&other.run(behave("echo", "x")).await.unwrap()), "x");
}
