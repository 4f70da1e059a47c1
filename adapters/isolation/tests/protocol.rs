//! Hosts that call out of turn, with other packages, keys or inputs than they should.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use alloy_primitives::{Address, B256, Bytes};
use cryptlet_isolation::{IsolationError, IsolationProvider};
use cryptlet_seal::{SigningKey, key_binding, wrap};
use cryptlet_types::{
    CryptletId, Trigger,
    policy::Trust,
    region::{KeyGrant, RegionFault, RunInput, RunOutcome},
    report::CompactSignature,
};
use support::{
    DUE, HOSTILE, MARKET_WATCHER, Setup, behave, fault, provider, provision, said,
    source::{Source, page},
    subscribed, watch,
};

fn protocol(result: Result<impl std::fmt::Debug, IsolationError>) -> String {
    match result {
        Err(IsolationError::Fault(RegionFault::Protocol(reason))) => reason,
        other => panic!("no protocol fault: {other:?}"),
    }
}

#[tokio::test]
async fn a_cryptlet_does_not_run_before_it_has_its_key() {
    let setup = Setup::new(HOSTILE);
    let mut region = setup.create().await.unwrap();
    protocol(region.run(behave("echo", "x")).await);
    provision(region.as_mut(), &setup.key).await.unwrap();
    assert!(region.run(behave("echo", "x")).await.is_ok());
    protocol(provision(region.as_mut(), &setup.key).await);
    assert!(region.run(behave("echo", "x")).await.is_ok());
}

#[tokio::test]
async fn only_the_manifests_key_wrapped_to_this_region_is_taken() {
    let setup = Setup::new(HOSTILE);
    let mut region = setup.create().await.unwrap();
    let other = setup.create().await.unwrap();
    let statement = region.statement().clone();
    let secret = setup.key.secret();
    let to_other = other.statement();
    let wrapped_elsewhere = [
        wrap(
            to_other.exchange_key,
            &key_binding(to_other),
            secret.as_slice(),
        ),
        wrap(
            statement.exchange_key,
            &key_binding(to_other),
            secret.as_slice(),
        ),
        wrap(
            statement.exchange_key,
            &key_binding(&statement),
            &secret[..31],
        ),
        wrap(statement.exchange_key, &key_binding(&statement), &[0; 32]),
    ];
    for wrapped in wrapped_elsewhere {
        let refused = region.provision(KeyGrant::Wrapped(wrapped.unwrap())).await;
        assert!(matches!(
            refused,
            Err(IsolationError::Fault(RegionFault::Key(_)))
        ));
    }
    let stranger = provision(region.as_mut(), &SigningKey::generate()).await;
    assert!(matches!(
        stranger,
        Err(IsolationError::Fault(RegionFault::Key(_)))
    ));
    let address = provision(region.as_mut(), &setup.key).await.unwrap();
    assert_eq!(address, setup.key.address());
}

#[tokio::test]
async fn a_region_speaks_for_one_cryptlet_at_one_delegate() {
    let mut region = Setup::new(HOSTILE).ready().await;
    let input = behave("echo", "x");
    region.run(input.clone()).await.unwrap();
    let mut other_chain = input.clone();
    other_chain.domain.chain_id += 1;
    let mut other_delegate = input.clone();
    other_delegate.domain.delegate = Address::repeat_byte(99);
    let mut other_cryptlet = input.clone();
    other_cryptlet.subscription.cryptlet = CryptletId(Address::repeat_byte(99));
    for other in [other_chain, other_delegate, other_cryptlet] {
        assert!(protocol(region.run(subscribed(other)).await).contains("speaks for"));
    }
    assert!(region.run(input).await.is_ok());
}

#[tokio::test]
async fn a_region_runs_ahead_and_says_nothing_else_on_a_number_that_still_holds() {
    let mut region = Setup::new(HOSTILE).ready().await;
    let numbered = |sequence, later| {
        let input = behave("echo", "x");
        RunInput {
            sequence,
            issued_at: input.issued_at + later,
            valid_until: input.valid_until + later,
            ..input
        }
    };
    for sequence in [5, 6, 7, 5, 4] {
        assert!(region.run(numbered(sequence, 0)).await.is_ok());
    }
    let promised = fault(region.run(numbered(5, 3_600)).await);
    let until = DUE + 3_600;
    assert_eq!(promised, RegionFault::Promised { sequence: 5, until });
    assert!(region.run(numbered(5, 3_601)).await.is_ok());
    let mut elsewhere = numbered(5, 1);
    elsewhere.subscription.nonce += 1;
    assert!(region.run(subscribed(elsewhere)).await.is_ok());
}

#[tokio::test]
async fn a_run_that_signs_nothing_leaves_no_mark() {
    let source = Source::start(page("Date,USD,\n2026-10-16,1.1172,\n")).await;
    let setup = Setup::new(MARKET_WATCHER).with_source(&source);
    let mut region = setup.ready().await;
    let mut next_day = watch(false, &["USD"]);
    next_day.sequence = 9;
    next_day.trigger = Trigger::Clock { due: DUE + 86_400 };
    next_day.issued_at += 86_400;
    next_day.valid_until += 86_400;
    fault(region.run(subscribed(next_day)).await);
    let answer = region.run(watch(false, &["USD"])).await.unwrap();
    assert!(matches!(answer.outcome, RunOutcome::Report(report) if report.report.sequence == 1));
}

#[tokio::test]
async fn a_region_without_the_key_leaves_its_signature_to_the_vault() {
    let setup = Setup::new(HOSTILE);
    let mut region = setup.create().await.unwrap();
    let in_vault = |signer| KeyGrant::InVault { signer };
    let stranger = region.provision(in_vault(Address::ZERO)).await;
    assert!(matches!(
        stranger,
        Err(IsolationError::Fault(RegionFault::Key(_)))
    ));
    let signer = setup.key.address();
    assert_eq!(region.provision(in_vault(signer)).await.unwrap(), signer);
    let answer = region.run(behave("echo", "x")).await.unwrap();
    let RunOutcome::Report(report) = answer.outcome else {
        panic!("skipped")
    };
    assert_eq!(
        (report.signer, report.signature),
        (signer, CompactSignature::default())
    );
}

#[tokio::test]
async fn an_input_that_the_region_knows_to_be_wrong_is_refused() {
    let mut region = Setup::new(HOSTILE).ready().await;
    let mut other_settings = behave("echo", "x");
    other_settings
        .settings
        .insert("feed".into(), "https://evil.example/".into());
    let never_valid = RunInput {
        valid_until: support::DUE,
        ..behave("echo", "x")
    };
    let long = behave("echo", &"x".repeat(5_000));
    let mut other_params = behave("echo", "x");
    other_params.subscription.params = Bytes::new();
    let mut other_consumer = behave("echo", "x");
    other_consumer.subscription.consumer = Address::ZERO;
    let mut other_event = behave("echo", "x");
    other_event.trigger = Trigger::Clock { due: DUE - 1 };
    for (input, reason) in [
        (other_settings, "settings"),
        (never_valid, "validUntil"),
        (long, "params"),
        (other_params, "subject"),
        (other_consumer, "subject"),
        (other_event, "job"),
    ] {
        let told = protocol(region.run(input).await);
        assert!(told.contains(reason), "{told}");
    }
    assert_eq!(said(&region.run(behave("echo", "x")).await.unwrap()), "x");
}

fn package_fault(result: Result<impl Sized, IsolationError>) -> String {
    match result.map(|_| ()) {
        Err(IsolationError::Fault(RegionFault::Package(reason))) => reason,
        other => panic!("no package fault: {other:?}"),
    }
}

#[tokio::test]
async fn what_is_no_cryptlet_is_refused() {
    let component = b"\0asm\x0d\0\x01\0";
    for foreign in [
        "wasi:clocks/wall-clock@0.2.0",
        "wasi:filesystem/preopens@0.2.0",
        "wasi:filesystem/types@0.2.0",
        "wasi:sockets/tcp@0.2.0",
        "wasi:sockets/udp@0.2.0",
        "wasi:http/outgoing-handler@0.2.0",
        "wasi:cli/environment@0.2.0",
        "wasi:random/random@0.2.0",
    ] {
        let refused = package_fault(Setup::new(importing(component, foreign)).create().await);
        assert!(refused.contains(foreign), "{refused}");
    }
    let empty = package_fault(Setup::new(component).create().await);
    assert!(
        empty.contains("describe") || empty.contains("on-trigger"),
        "{empty}"
    );
    for code in [&b"\0asm\x01\0\0\0"[..], b"MZ", b""] {
        package_fault(Setup::new(code).create().await);
    }
}

/// `component` with an import of an instance without items, in the component model's binary format: a type section and an
/// import section.
fn importing(component: &[u8], name: &str) -> &'static [u8] {
    let mut bytes = component.to_vec();
    bytes.extend([0x07, 0x03, 0x01, 0x42, 0x00]);
    bytes.extend([0x0a, u8::try_from(name.len()).unwrap() + 5, 0x01]);
    bytes.extend([0x00, u8::try_from(name.len()).unwrap()]);
    bytes.extend(name.as_bytes());
    bytes.extend([0x05, 0x00]);
    bytes.leak()
}

#[tokio::test]
async fn settings_give_no_more_than_the_manifest_asks_for() {
    let setup = Setup::new(HOSTILE);
    let create = async |change: &dyn Fn(&mut cryptlet_types::region::RegionSettings)| {
        let mut settings = setup.settings();
        change(&mut settings);
        let created = provider()
            .create(setup.package(), settings, B256::ZERO, setup.relay())
            .await;
        package_fault(created)
    };
    assert!(create(&|s| s.limits.fuel += 1).await.contains("limits"));
    assert!(
        create(&|s| s.egress[0].place = "evil.example:443".into())
            .await
            .contains("egress[0]")
    );
    assert!(
        create(&|s| s.egress[0].trust = Trust::Roots("x".into()))
            .await
            .contains("trust")
    );
    let twice = create(&|s| s.egress.push(s.egress[0].clone())).await;
    assert!(twice.contains("egress[1]"), "{twice}");
}

#[tokio::test]
async fn an_altered_package_is_not_even_started() {
    let setup = Setup::new(HOSTILE);
    let mut package = setup.package();
    let mut code = package.code.to_vec();
    code[1_000] ^= 1;
    package.code = code.into();
    let refused = provider()
        .create(package, setup.settings(), B256::ZERO, setup.relay())
        .await;
    assert!(matches!(refused, Err(IsolationError::Seal(_))));
}

#[tokio::test]
async fn the_measurement_covers_settings_and_package() {
    let setup = Setup::new(HOSTILE);
    let measure = |setup: &Setup| provider().measurement(&setup.package(), &setup.settings());
    let base = measure(&setup).unwrap();
    assert_eq!(setup.create().await.unwrap().statement().measurement, base);
    let mut less = Setup {
        key: SigningKey::from_secret(&setup.key.secret()).unwrap(),
        ..Setup::new(HOSTILE)
    };
    assert_eq!(measure(&less).unwrap(), base);
    less.limits.fuel -= 1;
    assert_ne!(measure(&less).unwrap(), base);
    assert_ne!(measure(&Setup::new(HOSTILE)).unwrap(), base, "another key");
}

#[tokio::test]
async fn a_program_that_is_no_container_is_refused() {
    let setup = Setup::new(HOSTILE);
    let provider = cryptlet_isolation::ProcessProvider::new("/bin/true".as_ref()).unwrap();
    let refused = provider
        .create(setup.package(), setup.settings(), B256::ZERO, setup.relay())
        .await;
    assert!(matches!(refused, Err(IsolationError::Died(_))));
}

#[tokio::test]
async fn copies_of_one_process_share_the_measurement_and_no_key() {
    let (setup, provider) = (Setup::new(HOSTILE), provider());
    let create = async |nonce| {
        let (package, settings) = (setup.package(), setup.settings());
        let region = provider.create(package, settings, nonce, setup.relay());
        region.await.unwrap()
    };
    let first = create(B256::repeat_byte(1)).await;
    let loaded = support::process::newest_loaded();
    let second = create(B256::repeat_byte(2)).await;
    assert_eq!(loaded, support::process::newest_loaded(), "loaded twice");
    let (first, second) = (first.statement(), second.statement());
    assert_eq!(first.measurement, second.measurement);
    assert_ne!(first.region_key, second.region_key);
    assert_ne!(first.exchange_key, second.exchange_key);
    assert_ne!(first.nonce, second.nonce);
}

#[tokio::test]
async fn what_divides_may_be_killed_and_the_next_region_comes_from_another() {
    let (setup, provider) = (Setup::new(HOSTILE), provider());
    let create = async || {
        let (package, settings) = (setup.package(), setup.settings());
        let region = provider.create(package, settings, B256::ZERO, setup.relay());
        region.await
    };
    let mut orphan = create().await.unwrap();
    let (region, loaded) = (
        support::process::newest_region(),
        support::process::newest_loaded(),
    );
    support::process::kill(loaded);
    support::process::wait_until_gone(region).await;
    let ended = provision(orphan.as_mut(), &setup.key).await.unwrap_err();
    assert!(matches!(ended, IsolationError::Died(_)), "{ended}");
    let mut next = create().await.unwrap();
    provision(next.as_mut(), &setup.key).await.unwrap();
    assert_eq!(said(&next.run(behave("echo", "x")).await.unwrap()), "x");
}

#[tokio::test]
async fn a_program_that_was_killed_is_started_again() {
    let (setup, provider) = (Setup::new(HOSTILE), provider());
    let create = async || {
        let (package, settings) = (setup.package(), setup.settings());
        let region = provider.create(package, settings, B256::ZERO, setup.relay());
        region.await
    };
    let region = create().await.unwrap();
    let program = support::process::newest_program();
    support::process::kill(program);
    drop(region);
    let mut next = create().await.unwrap();
    provision(next.as_mut(), &setup.key).await.unwrap();
    assert_eq!(said(&next.run(behave("echo", "x")).await.unwrap()), "x");
}
