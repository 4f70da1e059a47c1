//! Who is believed, and what evidence is worth under the policy in force at that moment.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use alloy_primitives::B256;
use cryptlet_channel::{ChannelError, Peer, Wanted};
use cryptlet_seal::{
    SealError, SigningKey,
    certificate::{CertificateError, Draft, Identity},
    evidence::vouch,
};
use cryptlet_types::{
    Evidence, Measurement, Provider,
    channel::{AttestedKey, Party, Proof},
};
use std::sync::atomic::Ordering;
use support::{CONTAINER, NOW, World, containers, statement};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A region that a host vouches for; what it vouches for may be changed first, and its word afterwards.
fn vouched(world: &World, made_at: u64, change: impl FnOnce(&mut Evidence)) -> Identity {
    let (region, draft) = (SigningKey::generate(), Draft::new(NOW, 3_600).unwrap());
    let mut said = statement(&region, B256::repeat_byte(9));
    said.provider = Provider::Process;
    let mut evidence = vouch(said, made_at, &world.host).unwrap();
    change(&mut evidence);
    let signature = region.sign(draft.digest(Party::Region)).unwrap();
    let proof = Proof::Vouched(Box::new(evidence));
    draft.finish(AttestedKey { proof, signature }).unwrap()
}

fn evidence(error: ChannelError) -> SealError {
    assert!(!error.is_retryable(), "{error}");
    match error {
        ChannelError::Evidence(error) => error,
        other => panic!("not about evidence: {other}"),
    }
}

#[tokio::test]
async fn host_and_container_know_one_another_and_share_what_nobody_else_does() {
    let world = World::new();
    let (mut near, mut far) = world.meet(&world.container_identity()).await.ok();
    assert_eq!(far.peer, Peer::Host(world.host.address()));
    let Peer::Region(said) = &near.peer else {
        panic!("a host")
    };
    assert_eq!(
        (said.provider, said.measurement),
        (Provider::Simulator, CONTAINER)
    );
    assert_eq!(near.exporter, far.exporter);
    let (other, _) = world.meet(&world.container_identity()).await.ok();
    assert_ne!(near.exporter, other.exporter, "each connection has its own");

    near.stream.write_all(b"there").await.unwrap();
    near.stream.flush().await.unwrap();
    let mut heard = [0; 5];
    far.stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"there");
}

#[tokio::test]
async fn a_region_that_a_known_host_vouches_for_is_believed_and_one_of_a_stranger_is_not() {
    let world = World::new();
    world.meet(&vouched(&world, NOW, |_| {})).await.ok();
    let stranger = SigningKey::generate();
    let theirs = vouched(&world, NOW, |evidence| {
        *evidence = vouch(evidence.statement.clone(), NOW, &stranger).unwrap();
    });
    let error = world.meet(&theirs).await.refused();
    assert_eq!(error, ChannelError::UnknownHost(stranger.address()));
    let claimed = vouched(&world, NOW, |evidence| {
        *evidence = vouch(evidence.statement.clone(), NOW, &stranger).unwrap();
        evidence.host = world.host.address();
    });
    let error = evidence(world.meet(&claimed).await.refused());
    assert!(matches!(error, SealError::WrongSigner { .. }), "{error}");
}

#[tokio::test]
async fn what_a_host_vouched_for_and_was_altered_or_is_too_old_is_refused() {
    let world = World::new();
    let altered = vouched(&world, NOW, |evidence| {
        evidence.statement.controls.push("landlock".into())
    });
    let error = evidence(world.meet(&altered).await.refused());
    assert!(matches!(error, SealError::WrongSigner { .. }), "{error}");
    for made_at in [NOW - 601, NOW + 1] {
        let error = evidence(
            world
                .meet(&vouched(&world, made_at, |_| {}))
                .await
                .refused(),
        );
        assert!(matches!(error, SealError::OutOfDate { .. }), "{error}");
    }
    world.meet(&vouched(&world, NOW - 600, |_| {})).await.ok();
}

#[tokio::test]
async fn attested_evidence_that_was_altered_is_refused() {
    let world = World::new();
    let (region, draft) = (SigningKey::generate(), Draft::new(NOW, 3_600).unwrap());
    let mut said = statement(&region, draft.digest(Party::Region));
    let attestation = world.attest(&said);
    said.controls.push("landlock".into());
    let altered = draft.attested(said, attestation, &region).unwrap();
    let error = evidence(world.meet(&altered).await.refused());
    assert!(
        error.to_string().contains("attestation: simulator"),
        "{error}"
    );
}

#[tokio::test]
async fn an_attestation_of_an_earlier_certificate_is_refused() {
    let world = World::new();
    let (region, earlier) = (SigningKey::generate(), Draft::new(NOW, 3_600).unwrap());
    let said = statement(&region, earlier.digest(Party::Region));
    let attestation = world.attest(&said);
    let draft = Draft::new(NOW, 3_600).unwrap();
    let mut now = said;
    now.nonce = draft.digest(Party::Region);
    let replayed = draft.attested(now, attestation, &region).unwrap();
    let error = evidence(world.meet(&replayed).await.refused());
    assert!(matches!(error, SealError::Attestation(_)), "{error}");
}

#[tokio::test]
async fn another_root_than_that_of_policy_is_refused() {
    let (world, other) = (World::new(), World::new());
    let error = evidence(world.meet(&other.container_identity()).await.refused());
    assert!(error.to_string().contains("simulator"), "{error}");
}

#[tokio::test]
async fn another_measurement_is_refused_and_none_expected_is_none_accepted() {
    let world = World::new();
    let other = world.container_identity_with(|said| said.measurement.0.0[0] ^= 1);
    let error = evidence(world.meet(&other).await.refused());
    assert!(
        matches!(error, SealError::WrongMeasurement { .. }),
        "{error}"
    );

    let nothing = world.container_identity_with(|said| said.measurement = Measurement(B256::ZERO));
    let host = world.host_identity();
    let wanted = Wanted::Region(vec![]);
    let error = evidence(world.meet_as(&host, &nothing, &wanted).await.refused());
    assert!(
        matches!(error, SealError::WrongMeasurement { .. }),
        "{error}"
    );

    let either = Wanted::Region(vec![Measurement(B256::ZERO), CONTAINER]);
    world
        .meet_as(&host, &world.container_identity(), &either)
        .await
        .ok();
}

#[tokio::test]
async fn a_provider_that_policy_does_not_accept_is_refused_and_so_are_missing_controls() {
    let world = World::new();
    world
        .stand
        .change(|policy| policy.isolation = vec![Provider::Tdx]);
    let error = evidence(world.meet(&world.container_identity()).await.refused());
    assert_eq!(error, SealError::ProviderRefused(Provider::Simulator));
    let error = evidence(world.meet(&vouched(&world, NOW, |_| {})).await.refused());
    assert_eq!(error, SealError::ProviderRefused(Provider::Process));

    let world = World::new();
    world
        .stand
        .change(|policy| policy.controls.push("landlock".into()));
    let error = evidence(world.meet(&world.container_identity()).await.refused());
    assert_eq!(error, SealError::ControlMissing("landlock".into()));
}

#[tokio::test]
async fn a_simulator_is_refused_by_a_policy_that_names_none() {
    let world = World::new();
    world
        .stand
        .change(|policy| policy.evidence.simulator = None);
    let error = evidence(world.meet(&world.container_identity()).await.refused());
    assert!(
        error.to_string().contains("a simulator proves nothing"),
        "{error}"
    );
}

#[tokio::test]
async fn no_software_region_passes_with_the_word_of_nobody() {
    let world = World::new();
    let software = world.container_identity_with(|said| said.provider = Provider::Process);
    let error = evidence(world.meet(&software).await.refused());
    assert!(matches!(error, SealError::Attestation(_)), "{error}");
}

#[tokio::test]
async fn what_hardware_said_too_long_ago_is_refused() {
    let world = World::new();
    let container = world.container_identity();
    *world.stand.now.lock().unwrap() = NOW + 600;
    world.meet(&container).await.ok();
    *world.stand.now.lock().unwrap() = NOW + 601;
    let error = evidence(world.meet(&container).await.refused());
    assert!(
        matches!(error, SealError::OutOfDate { made_at: NOW, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_certificate_that_is_over_is_refused_and_the_next_may_be_in_time() {
    let world = World::new();
    let container = world.container_identity();
    for now in [NOW - 301, NOW + 3_601] {
        *world.stand.now.lock().unwrap() = now;
        let error = world.meet(&container).await.refused();
        let late = ChannelError::Certificate(CertificateError::OutOfTime {
            from: NOW - 300,
            until: NOW + 3_600,
            now,
        });
        assert_eq!(error, late);
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn a_host_that_was_revoked_is_refused_and_told_so() {
    let world = World::new();
    let container = world.container_identity();
    world.meet(&container).await.ok();
    world.stand.hosts.lock().unwrap().clear();
    let met = world.meet(&container).await;
    assert_eq!(
        met.far.unwrap_err(),
        ChannelError::UnknownHost(world.host.address())
    );
    let told = met.near.unwrap_err();
    assert!(matches!(told, ChannelError::Refused(_)), "{told}");
    assert!(!told.is_retryable());
}

#[tokio::test]
async fn a_host_is_no_region_and_a_region_no_host() {
    let world = World::new();
    let host = world.host_identity();
    let error = world.meet(&host).await.refused();
    assert_eq!(
        error,
        ChannelError::WrongParty {
            wanted: "region",
            found: "host"
        }
    );
    let container = world.container_identity();
    let met = world.meet_as(&container, &container, &containers()).await;
    assert_eq!(
        met.far.unwrap_err(),
        ChannelError::WrongParty {
            wanted: "host",
            found: "region"
        }
    );
    assert!(met.near.is_err());
}

#[tokio::test]
async fn a_policy_that_changed_between_two_connections_decides_the_second() {
    let world = World::new();
    let container = world.container_identity();
    world.meet(&container).await.ok();
    let before = world.stand.asked.load(Ordering::SeqCst);
    world.stand.change(|policy| policy.isolation.clear());
    let error = evidence(world.meet(&container).await.refused());
    assert_eq!(error, SealError::ProviderRefused(Provider::Simulator));
    assert!(world.stand.asked.load(Ordering::SeqCst) > before);
}
