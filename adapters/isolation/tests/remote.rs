//! Regions on another machine: a real container that listens, reached by attested TLS.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use alloy_primitives::B256;
use cryptlet_channel::{ChannelError, Wanted, accept, connect};
use cryptlet_isolation::{IsolationError, IsolationProvider, Region};
use cryptlet_seal::{
    SealError, SigningKey,
    attester::{Attester, Simulator},
    certificate::{Draft, Identity},
    measure_container, sha256,
};
use cryptlet_types::{
    EvidenceStatement, Measurement, Provider,
    channel::{Party, session_nonce},
    region::{CallIn, CallInAnswer, Created, ToHost, ToRegion, decode, encode},
};
use std::{
    collections::BTreeSet, fs, net::TcpListener as StdListener, path::Path, process::Command,
    sync::Arc,
};
use support::{
    MARKET_WATCHER, RELAY, Setup, container,
    elsewhere::{Host, Machine, digest, now, reports},
    input, process, provision,
    source::{Source, page},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

const CHALLENGE: B256 = B256::repeat_byte(9);

async fn create(
    host: &Arc<Host>,
    address: &str,
    setup: &Setup,
) -> Result<Box<dyn Region>, IsolationError> {
    let provider = host.provider(address);
    let (package, settings) = (setup.package(), setup.settings());
    provider
        .create(package, settings, CHALLENGE, setup.relay())
        .await
}

fn error<T>(result: Result<T, IsolationError>) -> IsolationError {
    match result {
        Ok(_) => panic!("a region"),
        Err(error) => error,
    }
}

fn refused<T>(result: Result<T, IsolationError>) -> SealError {
    match error(result) {
        IsolationError::Channel(ChannelError::Evidence(error)) => error,
        other => panic!("not about evidence: {other}"),
    }
}

fn mismatch<T>(result: Result<T, IsolationError>) -> &'static str {
    match error(result) {
        IsolationError::Mismatch { what, .. } => what,
        other => panic!("no mismatch: {other}"),
    }
}

#[tokio::test]
async fn a_cryptlet_on_another_machine_reports_and_the_report_and_its_evidence_hold() {
    let (machine, host) = (Machine::start(), Host::new());
    let source = Source::start(page("Date,USD,\n2026-10-16,1.1172,\n")).await;
    let setup = Setup::new(MARKET_WATCHER).with_source(&source);
    let provider = host.provider(&machine.address);
    let measurement = provider
        .measurement(&setup.package(), &setup.settings())
        .unwrap();
    let mut region = create(&host, &machine.address, &setup).await.unwrap();

    assert_ne!(region.nonce(), CHALLENGE, "bound to the connection");
    reports(region.as_mut(), &host, &setup, measurement).await;
}

#[tokio::test]
async fn a_policy_that_names_no_simulator_has_no_region_there() {
    let (machine, host) = (Machine::start(), Host::new());
    let setup = Setup::new(RELAY);
    create(&host, &machine.address, &setup).await.unwrap();
    host.change(|policy| policy.evidence.simulator = None);
    let error = refused(create(&host, &machine.address, &setup).await);
    assert!(
        error.to_string().contains("a simulator proves nothing"),
        "{error}"
    );
    host.change(|policy| policy.isolation = vec![Provider::Tdx]);
    let error = refused(create(&host, &machine.address, &setup).await);
    assert_eq!(error, SealError::ProviderRefused(Provider::Simulator));
}

#[tokio::test]
async fn another_container_than_the_one_that_is_meant_is_refused() {
    let (machine, host) = (Machine::start(), Host::new());
    let setup = Setup::new(RELAY);
    let provider = host.provider_of(&machine.address, sha256(b"another"), Provider::Simulator);
    let (package, settings) = (setup.package(), setup.settings());
    let created = provider
        .unwrap()
        .create(package, settings, CHALLENGE, setup.relay())
        .await;
    let error = refused(created);
    assert!(
        matches!(error, SealError::WrongMeasurement { .. }),
        "{error}"
    );
    let software = host.provider_of(&machine.address, digest(), Provider::Process);
    assert_eq!(mismatch(software), "provider");
}

#[tokio::test]
async fn each_connection_is_a_region_of_its_own_and_ends_it() {
    let (machine, host) = (Machine::start(), Host::new());
    let setup = Setup::new(RELAY);
    let first = create(&host, &machine.address, &setup).await.unwrap();
    let second = create(&host, &machine.address, &setup).await.unwrap();
    let (one, two) = (first.statement(), second.statement());
    assert_eq!(one.measurement, two.measurement);
    assert_ne!(one.region_key, two.region_key);
    assert_ne!(
        one.nonce, two.nonce,
        "the challenge was the same, the connection is not"
    );
    let regions = machine.regions();
    assert_eq!(regions.len(), 2);
    drop(first);
    drop(second);
    for region in regions {
        process::wait_until_gone(region).await;
    }
}

#[tokio::test]
async fn a_region_there_holds_two_streams_and_opens_no_more() {
    let (machine, host) = (Machine::start(), Host::new());
    let _region = create(&host, &machine.address, &Setup::new(RELAY))
        .await
        .unwrap();
    let root = Path::new("/proc").join(machine.regions()[0].to_string());
    let limits = fs::read_to_string(root.join("limits")).unwrap();
    let open = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    assert!(open.unwrap().trim_start().starts_with("0 "), "{limits}");
    // Only root may look into a process that is not dumpable.
    let Ok(descriptors) = fs::read_dir(root.join("fd")) else {
        return;
    };
    let links = descriptors.map(|entry| fs::read_link(entry.unwrap().path()).unwrap());
    let held: BTreeSet<_> = links
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
    assert_eq!(held.len(), 2, "{held:?}");
    assert!(
        held.iter().all(|held| held.starts_with("socket:")),
        "{held:?}"
    );
}

#[tokio::test]
async fn whoever_is_no_host_hears_nothing() {
    let machine = Machine::start();
    let mut stranger = TcpStream::connect(&machine.address).await.unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut heard = Vec::new();
    let _ = stranger.read_to_end(&mut heard).await;
    assert!(heard.len() < 16, "an alert at most: {heard:?}");

    let host = Host::new();
    let theirs = attacker(&SigningKey::generate()).0;
    let stream = TcpStream::connect(&machine.address).await.unwrap();
    let wanted = Wanted::Region(vec![measure_container(digest())]);
    let error = connect(stream, &theirs, host, wanted)
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, ChannelError::Refused(_)), "{error}");
}

/// Somebody with an attested key of the right measurement, for a region of whose own he does as he likes.
fn attacker(region: &SigningKey) -> (Identity, EvidenceStatement) {
    let draft = Draft::new(now(), 600).unwrap();
    let said = EvidenceStatement {
        provider: Provider::Simulator,
        controls: vec!["seccomp-kill".into()],
        measurement: measure_container(digest()),
        region_key: region.address(),
        exchange_key: B256::repeat_byte(1),
        nonce: draft.digest(Party::Region),
    };
    let attestation = Simulator::everybodys()
        .unwrap()
        .attest(said.bound(), said.nonce)
        .unwrap();
    let identity = draft.attested(said.clone(), attestation, region).unwrap();
    (identity, said)
}

#[tokio::test]
async fn evidence_that_is_relayed_from_another_connection_is_refused() {
    let (machine, host) = (Machine::start(), Host::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let between = listener.local_addr().unwrap().to_string();
    let (trusting, genuine) = (host.clone(), machine.address.clone());
    let relaying = tokio::spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        let (theirs, _) = attacker(&SigningKey::generate());
        let mut near = accept(near, &theirs, trusting.clone(), Wanted::Host)
            .await
            .unwrap();
        let far = TcpStream::connect(genuine).await.unwrap();
        let wanted = Wanted::Region(vec![measure_container(digest())]);
        let own = trusting.identity();
        let mut far = connect(far, &own, trusting, wanted).await.unwrap();
        let _ = copy_bidirectional(&mut near.stream, &mut far.stream).await;
    });
    let setup = Setup::new(RELAY);
    assert_eq!(mismatch(create(&host, &between, &setup).await), "nonce");
    relaying.abort();
}

/// A region that answers everything as it has to, but for what `lie` changes in its statement before it is attested.
async fn lied_to(lie: impl FnOnce(&mut Created) + Send + 'static) -> &'static str {
    let host = Host::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let setup = Setup::new(RELAY);
    let provider = host.provider(&address);
    let measurement = provider
        .measurement(&setup.package(), &setup.settings())
        .unwrap();
    let trusting = host.clone();
    let lying = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (theirs, said) = attacker(&SigningKey::generate());
        let mut channel = accept(stream, &theirs, trusting, Wanted::Host)
            .await
            .unwrap();
        hear(&mut channel.stream).await;
        say(&mut channel.stream, CallInAnswer::Loaded(measurement)).await;
        let CallIn::Create { nonce } = hear(&mut channel.stream).await else {
            panic!("another call")
        };
        let statement = EvidenceStatement {
            measurement,
            nonce: session_nonce(nonce, channel.exporter),
            ..said
        };
        let simulator = Simulator::everybodys().unwrap();
        let attestation = simulator.attest(statement.bound(), statement.nonce).ok();
        let mut created = Created {
            statement,
            attestation,
        };
        lie(&mut created);
        say(
            &mut channel.stream,
            CallInAnswer::Created(Box::new(created)),
        )
        .await;
        let _ = channel.stream.read_u8().await;
    });
    let created = create(&host, &address, &setup).await;
    lying.abort();
    match created {
        Ok(_) => "nothing",
        created => mismatch(created),
    }
}

async fn hear(stream: &mut (impl AsyncRead + Unpin)) -> CallIn {
    let length = stream.read_u32().await.unwrap();
    let mut body = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    match decode(&body).unwrap() {
        ToRegion::Call(call) => call,
        ToRegion::Answer(_) => panic!("an answer"),
    }
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), answer: CallInAnswer) {
    let body = encode(&ToHost::Answer(Ok(answer))).unwrap();
    stream
        .write_u32(u32::try_from(body.len()).unwrap())
        .await
        .unwrap();
    stream.write_all(&body).await.unwrap();
    stream.flush().await.unwrap();
}

#[tokio::test]
async fn a_region_is_the_one_that_was_asked_for_on_this_connection_with_the_key_of_the_handshake() {
    assert_eq!(
        lied_to(|_| {}).await,
        "nothing",
        "what follows differs from this alone"
    );
    assert_eq!(
        lied_to(|said| said.statement.nonce = CHALLENGE).await,
        "nonce"
    );
    let other = Measurement(B256::repeat_byte(1));
    assert_eq!(
        lied_to(move |said| said.statement.measurement = other).await,
        "measurement"
    );
    let key = SigningKey::generate().address();
    assert_eq!(
        lied_to(move |said| said.statement.region_key = key).await,
        "key"
    );
    assert_eq!(
        lied_to(|said| said.statement.provider = Provider::Process).await,
        "provider"
    );
    assert_eq!(lied_to(|said| said.attestation = None).await, "attestation");
}

#[tokio::test]
async fn a_machine_that_is_not_there_may_be_there_later() {
    let gone = StdListener::bind("127.0.0.1:0").unwrap();
    let address = gone.local_addr().unwrap().to_string();
    drop(gone);
    let error = error(create(&Host::new(), &address, &Setup::new(RELAY)).await);
    assert!(
        matches!(error, IsolationError::Channel(ChannelError::Broken(_))),
        "{error}"
    );
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_region_that_is_killed_there_has_ended_here() {
    let (machine, host) = (Machine::start(), Host::new());
    let setup = Setup::new(RELAY);
    let mut region = create(&host, &machine.address, &setup).await.unwrap();
    provision(region.as_mut(), &setup.key).await.unwrap();
    region.run(input(vec![])).await.unwrap();
    for region in machine.regions() {
        process::kill(region);
    }
    let error = region.run(input(vec![])).await.unwrap_err();
    assert!(matches!(error, IsolationError::Died(_)), "{error}");
    assert!(error.is_retryable());
}

#[test]
fn without_the_hardware_that_is_named_nothing_listens_and_other_arguments_are_none() {
    let usage = "usage: cryptlet-container [--listen";
    for (arguments, said) in [
        ("--listen 127.0.0.1:0 --attest nitro", "/dev/nsm"),
        (
            "--listen 127.0.0.1:0 --attest tdx --collateral /nowhere",
            "/nowhere",
        ),
        ("--listen 127.0.0.1:0 --attest tdx", usage),
        ("--listen 127.0.0.1:0", usage),
        ("--other x", usage),
    ] {
        let mut command = Command::new(container());
        let output = command.args(arguments.split(' ')).output().unwrap();
        assert!(!output.status.success(), "{arguments}");
        assert!(output.stdout.is_empty(), "{arguments}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(said), "{arguments}: {error}");
    }
}
