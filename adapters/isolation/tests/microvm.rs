//! What is particular to regions in virtual machines. `make microvm` runs these tests, and the others of this folder, on a
//! machine whose KVM runs guests; elsewhere they show that such a region is not had.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

mod support;

use alloy_primitives::B256;
use cryptlet_isolation::{
    IsolationError, IsolationProvider, MicrovmProvider,
    microvm::{Probe, probe},
    providers::{Choice, Containers, NoProvider, Providers},
};
use cryptlet_types::{Limits, Policy, Provider, region::RegionFault};
use support::{
    HOSTILE, MARKET_WATCHER, MICROVM, MONTE_CARLO, NAME, RELAY, Setup, behave, container, fault,
    microvm_container, payload, process, provision, said,
    source::{Source, page},
};

const BOTH: [Provider; 2] = [Provider::Microvm, Provider::Process];

/// Whether the regions of these tests are in virtual machines. A test that needs it says where it is not.
fn in_machines() -> bool {
    let machines = microvm_container().is_some();
    if !machines {
        eprintln!("skipped: regions are in processes here; set {MICROVM}");
    }
    machines
}

#[test]
fn where_regions_run_in_machines_the_probe_says_that_guests_run() {
    match microvm_container() {
        Some(_) => assert_eq!(probe(), Probe::Works),
        None => eprintln!("skipped: regions are in processes here; {}", probe()),
    }
}

#[test]
fn the_provider_is_the_strongest_that_policy_accepts_and_guests_run_in() {
    let containers = Containers {
        process: Some(container()),
        microvm: Some(microvm_container().unwrap_or_else(container)),
    };
    let providers = Providers::of_this_machine(&containers, probe).unwrap();
    let choice = |accepted: &[Provider]| -> Result<Choice, NoProvider> {
        let policy = Policy {
            isolation: accepted.to_vec(),
            ..Policy::closed(1)
        };
        providers.choose(&policy).map(|chosen| chosen.choice)
    };
    if probe().works() {
        let strongest = Choice::Strongest(Provider::Microvm);
        assert_eq!(choice(&BOTH).unwrap(), strongest);
        assert_eq!(choice(&[Provider::Microvm]).unwrap(), strongest);
    } else {
        let because = probe().to_string();
        let fell_back = Choice::FellBack {
            to: Provider::Process,
            because: because.clone(),
        };
        assert_eq!(choice(&BOTH).unwrap(), fell_back);
        let refused = choice(&[Provider::Microvm]).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("policy accepts microvm; this host has process and no microvm: {because}")
        );
    }
}

#[tokio::test]
async fn a_process_is_not_taken_for_a_machine() {
    let setup = Setup::new(HOSTILE);
    let claims = MicrovmProvider::new(&container()).unwrap();
    let nonce = B256::repeat_byte(9);
    let region = claims.create(setup.package(), setup.settings(), nonce, setup.relay());
    let error = region.await.map(drop).unwrap_err();
    assert!(
        matches!(
            error,
            IsolationError::Mismatch {
                what: "provider",
                ..
            }
        ),
        "{error}"
    );
    assert!(!error.is_retryable());
}

/// Only with a container of the microvm provider.
#[tokio::test]
async fn a_machine_says_so_and_holds_back_what_a_process_does() {
    if !in_machines() {
        return;
    }
    let mut region = Setup::new(HOSTILE).ready().await;
    let statement = region.statement();
    assert_eq!(statement.provider, Provider::Microvm);
    for control in [
        "virtual-machine",
        "seccomp-kill",
        "not-dumpable",
        "descriptors",
    ] {
        assert!(
            statement.controls.iter().any(|named| named == control),
            "{control}"
        );
    }
    assert_eq!(said(&region.run(behave("echo", "x")).await.unwrap()), "x");
}

/// What makes a run in a machine as good as one in a process for whoever runs it again.
#[tokio::test]
async fn a_machine_and_a_process_answer_alike_and_count_the_same_fuel() {
    if !in_machines() {
        return;
    }
    for code in [HOSTILE, RELAY, MARKET_WATCHER, MONTE_CARLO] {
        let setup = Setup::new(code);
        let mut machine = setup.ready().await;
        let mut region = process()
            .create(setup.package(), setup.settings(), B256::ZERO, setup.relay())
            .await
            .unwrap();
        provision(region.as_mut(), &setup.key).await.unwrap();
        let (in_machine, in_process) = (
            machine.run(behave("echo", "x")).await,
            region.run(behave("echo", "x")).await,
        );
        match (in_machine, in_process) {
            (Ok(one), Ok(other)) => {
                assert_eq!(one.fuel_used, other.fuel_used);
                assert_eq!(payload(&one), payload(&other));
            }
            (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
            (one, other) => panic!("{one:?}, {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_machine_has_bounds_of_its_own_and_names_them() {
    if !in_machines() {
        return;
    }
    let mut setup = Setup::new(HOSTILE);
    setup.limits.response_bytes = (16 << 20) + 1;
    let error = setup.create().await.map(drop).unwrap_err();
    let expected = "settings.limits.responseBytes: at most 16777216 in a virtual machine";
    assert!(
        matches!(&error, IsolationError::Fault(RegionFault::Package(reason)) if reason == expected),
        "{error}"
    );
}

/// What passes between container and machine has room for the largest that either may say.
#[tokio::test]
async fn a_response_of_megabytes_reaches_the_cryptlet_and_no_more_than_two_come_back() {
    if !in_machines() {
        return;
    }
    let body = "x".repeat(6 << 20);
    let source = Source::start(page(&body)).await;
    let mut setup = Setup::new(HOSTILE).with_source(&source);
    setup.limits = Limits {
        fuel: u64::MAX / 2,
        memory_bytes: 64 << 20,
        wall_millis: 120_000,
        response_bytes: 16 << 20,
    };
    let mut region = setup.ready().await;
    let fetched = region.run(behave("fetch", &format!("https://{NAME}/")));
    let fetched = said(&fetched.await.unwrap());
    assert!(fetched.starts_with("200 xxx"), "{fetched}");
    let long = fault(region.run(behave("huge", "1900000")).await);
    assert_eq!(long, RegionFault::PayloadTooLarge(1_900_064));
    let longer = fault(region.run(behave("huge", "3000000")).await);
    assert!(
        matches!(&longer, RegionFault::Trap(why) if why.contains("too much data")),
        "{longer}"
    );
    assert_eq!(said(&region.run(behave("echo", "x")).await.unwrap()), "x");
}
