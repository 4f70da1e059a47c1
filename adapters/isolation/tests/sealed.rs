//! A region's end and its successor's beginning, with the real container.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops where it goes wrong"
)]

mod support;

use alloy_primitives::Bytes;
use cryptlet_isolation::{IsolationError, Region};
use cryptlet_seal::{
    SigningKey, key_binding,
    sealed::{Release, Seal, SealedError},
    wrap,
};
use cryptlet_types::region::{KeyGrant, RegionFault, RunInput, RunOutcome};
use std::time::Instant;
use support::{DUE, HOSTILE, Setup, behave, fault, input};
use zeroize::Zeroizing;

/// What a vault would release to the region.
fn grant(region: &dyn Region, setup: &Setup, seal: &Seal) -> KeyGrant {
    let statement = region.statement();
    let release = Release {
        key: setup.key.secret(),
        seal: Some(seal.clone()),
    };
    let binding = key_binding(statement);
    let wrapped = wrap(statement.exchange_key, &binding, &release.to_bytes());
    KeyGrant::Wrapped(wrapped.unwrap())
}

fn seal() -> Seal {
    let cryptlet = input(vec![]).subscription.cryptlet;
    Seal::new(cryptlet, Zeroizing::new([5; 32]))
}

/// A new region of the same package, which goes on from `image`.
async fn successor(
    setup: &Setup,
    seal: &Seal,
    image: Option<Bytes>,
) -> Result<Box<dyn Region>, IsolationError> {
    let mut region = setup.create().await.unwrap();
    let grant = grant(&*region, setup, seal);
    match image {
        Some(image) => region.resume(grant, image).await?,
        None => region.provision(grant).await?,
    };
    Ok(region)
}

/// The region's last act, and the seal as the vault has it then.
async fn ended(mut region: Box<dyn Region>, seal: &Seal) -> (Bytes, Seal) {
    let image = region.seal().await.unwrap();
    let measurement = region.statement().measurement;
    let seal = seal.succeeded_by(measurement, &image).unwrap();
    (image, seal)
}

fn refused(result: Result<Box<dyn Region>, IsolationError>, error: &SealedError) {
    match result {
        Err(IsolationError::Fault(fault)) => {
            assert_eq!(fault, RegionFault::Sealed(error.to_string()));
            assert!(!fault.is_retryable());
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted, not {error}"),
    }
}

/// The report of a number at a later time: something else.
fn later(sequence: u64, seconds: u64) -> RunInput {
    let mut input = behave("echo", "first");
    input.sequence = sequence;
    input.issued_at = DUE + seconds;
    input.valid_until = input.issued_at + 3_600;
    input
}

#[tokio::test]
async fn a_region_that_ended_is_succeeded_by_one_that_keeps_its_word() {
    let setup = Setup::new(HOSTILE);
    let mut first = successor(&setup, &seal(), None).await.unwrap();
    let first_key = first.statement().region_key;
    let said = first.run(behave("echo", "first")).await.unwrap();
    let (image, seal) = ended(first, &seal()).await;
    assert!(!image.windows(5).any(|part| part == b"first"));

    let mut second = successor(&setup, &seal, Some(image)).await.unwrap();
    assert_ne!(
        second.statement().region_key,
        first_key,
        "a region of its own"
    );
    let promised = RegionFault::Promised {
        sequence: 1,
        until: DUE + 3_600,
    };
    assert_eq!(fault(second.run(later(1, 60)).await), promised);
    let again = second.run(behave("echo", "first")).await.unwrap();
    match (said.outcome, again.outcome) {
        (RunOutcome::Report(said), RunOutcome::Report(again)) => {
            assert_eq!(said.report, again.report);
            assert_eq!(again.signer, setup.key.address(), "the same identity");
        }
        other => panic!("{other:?}"),
    }
    second.run(later(2, 60)).await.unwrap();
    second.run(later(1, 3_601)).await.unwrap();
}

#[tokio::test]
async fn a_sealed_region_is_over() {
    let setup = Setup::new(HOSTILE);
    let mut region = successor(&setup, &seal(), None).await.unwrap();
    region.seal().await.unwrap();
    let after = fault(region.run(behave("echo", "x")).await).to_string();
    assert!(after.contains("its successor signs"), "{after}");
    let again = region.seal().await.unwrap_err().to_string();
    assert!(again.contains("its successor signs"), "{again}");
}

#[tokio::test]
async fn a_host_that_rolls_back_forges_or_withholds_the_image_has_no_region() {
    let setup = Setup::new(HOSTILE);
    let region = successor(&setup, &seal(), None).await.unwrap();
    let measurement = region.statement().measurement;
    let (old, once) = ended(region, &seal()).await;
    let region = successor(&setup, &once, Some(old.clone())).await.unwrap();
    let (last, twice) = ended(region, &once).await;

    let rolled = SealedError::RolledBack { last: 2, found: 1 };
    refused(successor(&setup, &twice, Some(old.clone())).await, &rolled);
    refused(
        successor(&setup, &twice, None).await,
        &SealedError::Missing(2),
    );
    let mut altered = last.to_vec();
    *altered.last_mut().unwrap() ^= 1;
    refused(
        successor(&setup, &twice, Some(altered.into())).await,
        &SealedError::Altered,
    );
    // The old image with the new counter written into it: the words in the clear are authenticated.
    let name = b"gcounter";
    let place = old.windows(name.len()).position(|part| part == name);
    let place = place.unwrap() + name.len();
    let mut forged = old.to_vec();
    assert_eq!(forged[place], 1);
    forged[place] = 2;
    refused(
        successor(&setup, &twice, Some(forged.into())).await,
        &SealedError::Altered,
    );
    // A host that kept a region beside this one alive: the vault took the other's image.
    let region = successor(&setup, &once, Some(old)).await.unwrap();
    let (twin, _) = ended(region, &once).await;
    let replaced = SealedError::Replaced(2);
    refused(
        successor(&setup, &twice, Some(twin.clone())).await,
        &replaced,
    );
    let taken = twice.succeeded_by(measurement, &twin).unwrap_err();
    assert_eq!(taken, SealedError::RolledBack { last: 2, found: 2 });

    let mut region = successor(&setup, &twice, Some(last)).await.unwrap();
    region.run(behave("echo", "x")).await.unwrap();
}

#[tokio::test]
async fn another_measurement_or_cryptlet_does_not_open_an_image() {
    let setup = Setup::new(HOSTILE);
    let region = successor(&setup, &seal(), None).await.unwrap();
    let expected = region.statement().measurement;
    let (image, seal) = ended(region, &seal()).await;

    let mut less = Setup {
        key: SigningKey::from_secret(&setup.key.secret()).unwrap(),
        ..Setup::new(HOSTILE)
    };
    less.limits.fuel -= 1;
    let found = less.create().await.unwrap().statement().measurement;
    let other = SealedError::OtherMeasurement {
        expected: found,
        found: expected,
    };
    refused(successor(&less, &seal, Some(image.clone())).await, &other);
    let stranger = Seal {
        cryptlet: cryptlet_types::CryptletId(alloy_primitives::Address::repeat_byte(8)),
        ..seal.clone()
    };
    let other = SealedError::OtherCryptlet {
        expected: stranger.cryptlet,
        found: seal.cryptlet,
    };
    refused(
        successor(&setup, &stranger, Some(image.clone())).await,
        &other,
    );
    // A vault that reset the seal has another key, and the same counter some images later.
    let reset = Seal {
        key: Zeroizing::new([6; 32]),
        ..seal
    };
    let result = successor(&setup, &reset, Some(image)).await;
    refused(result, &SealedError::Altered);
}

/// What sealing costs, for the figures: `cargo test --release -p cryptlet-isolation --test sealed -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "measures"]
async fn cost_of_sealing() {
    let setup = Setup::new(HOSTILE);
    let mut region = successor(&setup, &seal(), None).await.unwrap();
    let mut next = 1;
    for count in [0_u64, 1_000, 10_000] {
        while next <= count {
            let mut input = behave("echo", "x");
            input.sequence = next;
            region.run(input).await.unwrap();
            next += 1;
        }
        let start = Instant::now();
        let image = region.seal().await.unwrap();
        let sealed = start.elapsed();
        let measurement = region.statement().measurement;
        let seal = seal().succeeded_by(measurement, &image).unwrap();
        let mut heir = setup.create().await.unwrap();
        let grant = grant(&*heir, &setup, &seal);
        let bytes = image.len();
        let start = Instant::now();
        heir.resume(grant, image).await.unwrap();
        let resumed = start.elapsed();
        println!(
            "{count} promises: image {bytes} bytes, sealed in {sealed:?}, resumed in {resumed:?}"
        );
        region = successor(&setup, &self::seal(), None).await.unwrap();
        next = 1;
    }
}
