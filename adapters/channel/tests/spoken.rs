//! TLS as it is spoken here, against ends that speak it otherwise.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cryptlet_channel::{ChannelError, HANDSHAKE_TIME, Wanted, accept, connect};
use cryptlet_seal::certificate::{CertificateError, Identity};
use rustls::HandshakeKind;
use std::sync::{Arc, atomic::Ordering};
use support::{
    World, containers,
    raw::{self, Shows, forge},
    streams,
};
use tokio::io::AsyncWriteExt;
use x509_cert::der::{
    Encode,
    asn1::{ObjectIdentifier, OctetString},
};

/// What a host says to a server that shows this.
async fn shown(world: &World, chain: &[&Identity], key: &Identity) -> ChannelError {
    let (near, far) = streams().await;
    let host = world.host_identity();
    let config = raw::server(Shows::new(chain, key), false);
    let (near, far) = tokio::join!(
        connect(near, &host, world.stand.clone(), containers()),
        raw::serve(far, config),
    );
    assert!(far.is_err(), "the other end has a connection");
    near.unwrap_err()
}

/// What a server says to a client that shows this.
async fn showing(world: &World, shows: Option<Shows>, old: bool) -> ChannelError {
    let (near, far) = streams().await;
    let container = world.container_identity();
    let (near, far) = tokio::join!(
        raw::call(near, Arc::new(raw::client(shows, old))),
        accept(far, &container, world.stand.clone(), Wanted::Host),
    );
    assert!(near.is_err(), "the other end has a connection");
    far.unwrap_err()
}

fn certificate(error: ChannelError) -> CertificateError {
    assert!(!error.is_retryable(), "{error}");
    match error {
        ChannelError::Certificate(error) => error,
        other => panic!("not about a certificate: {other}"),
    }
}

#[tokio::test]
async fn a_stolen_certificate_is_worth_nothing_without_its_key() {
    let world = World::new();
    let (genuine, other) = (world.container_identity(), world.container_identity());
    let error = shown(&world, &[&genuine], &other).await;
    assert!(
        matches!(&error, ChannelError::Handshake(reason) if reason.contains("ignature")),
        "{error}"
    );
    let (genuine, other) = (world.host_identity(), world.host_identity());
    let error = showing(&world, Some(Shows::new(&[&genuine], &other)), false).await;
    assert!(
        matches!(&error, ChannelError::Handshake(reason) if reason.contains("ignature")),
        "{error}"
    );
}

#[tokio::test]
async fn evidence_in_a_certificate_of_another_key_is_not_bound() {
    let world = World::new();
    let forged = forge(&world.container_identity(), false, |_| {});
    let error = certificate(shown(&world, &[&forged], &forged).await);
    assert!(
        matches!(
            error,
            CertificateError::NotBound {
                party: "region",
                ..
            }
        ),
        "{error}"
    );
    let forged = forge(&world.host_identity(), false, |_| {});
    let error = showing(&world, Some(Shows::new(&[&forged], &forged)), false).await;
    let error = certificate(error);
    assert!(
        matches!(error, CertificateError::NotBound { party: "host", .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_certificate_without_evidence_with_garbage_with_too_much_or_twice_is_refused() {
    let world = World::new();
    let genuine = world.container_identity();
    let extension = |bytes: usize| {
        let inner = OctetString::new(vec![0xff; bytes])
            .unwrap()
            .to_der()
            .unwrap();
        OctetString::new(inner).unwrap()
    };
    let none = forge(&genuine, true, |tbs| tbs.extensions = None);
    let other = forge(&genuine, true, |tbs| {
        let oid = ObjectIdentifier::new_unwrap("2.23.133.5.4.9");
        tbs.extensions.as_mut().unwrap()[0].extn_id = oid;
    });
    for forged in [none, other] {
        let error = certificate(shown(&world, &[&forged], &forged).await);
        assert_eq!(error, CertificateError::NoEvidence);
    }
    let twice = forge(&genuine, true, |tbs| {
        let again = tbs.extensions.as_ref().unwrap()[0].clone();
        tbs.extensions.as_mut().unwrap().push(again);
    });
    let error = certificate(shown(&world, &[&twice], &twice).await);
    assert_eq!(error, CertificateError::Repeated(2));

    let sized = |bytes| {
        forge(&genuine, true, |tbs| {
            tbs.extensions.as_mut().unwrap()[0].extn_value = extension(bytes)
        })
    };
    let garbage = sized(300);
    let error = certificate(shown(&world, &[&garbage], &garbage).await);
    assert!(
        matches!(
            error,
            CertificateError::Malformed {
                field: "id-pe-cmw",
                ..
            }
        ),
        "{error}"
    );
    let large = sized(62_000);
    let error = certificate(shown(&world, &[&large], &large).await);
    assert!(
        matches!(
            error,
            CertificateError::TooLarge {
                what: "id-pe-cmw",
                ..
            }
        ),
        "{error}"
    );
    let larger = sized(70_000);
    let error = shown(&world, &[&larger], &larger).await;
    assert!(matches!(error, ChannelError::Handshake(_)), "{error}");
}

#[tokio::test]
async fn a_certificate_of_the_web_is_refused() {
    let world = World::new();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["attested.invalid".into()]).unwrap();
    let web = Identity {
        certificate: params.self_signed(&key).unwrap().der().to_vec(),
        secret: key.serialize_der().into(),
        not_after: 0,
    };
    let error = certificate(shown(&world, &[&web], &web).await);
    assert_eq!(error, CertificateError::NoEvidence);
}

#[tokio::test]
async fn more_certificates_than_one_are_refused() {
    let world = World::new();
    let (genuine, other) = (world.container_identity(), world.container_identity());
    let error = shown(&world, &[&genuine, &other], &genuine).await;
    assert_eq!(error, ChannelError::Certificates(2));
    let (genuine, other) = (world.host_identity(), world.host_identity());
    let two = Shows::new(&[&genuine, &other], &genuine);
    assert_eq!(
        showing(&world, Some(two), false).await,
        ChannelError::Certificates(2)
    );
}

#[tokio::test]
async fn nobody_is_let_in_without_a_certificate() {
    let error = showing(&World::new(), None, false).await;
    assert!(
        matches!(&error, ChannelError::Handshake(reason) if reason.contains("ertificate")),
        "{error}"
    );
}

#[tokio::test]
async fn older_versions_of_tls_are_refused_by_both_ends() {
    let world = World::new();
    let host = world.host_identity();
    let old = Shows::new(&[&host], &host);
    let error = showing(&world, Some(old), true).await;
    assert!(matches!(&error, ChannelError::Handshake(_)), "{error}");

    let container = world.container_identity();
    let (near, far) = streams().await;
    let config = raw::server(Shows::new(&[&container], &container), true);
    let (near, far) = tokio::join!(
        connect(near, &host, world.stand.clone(), containers()),
        raw::serve(far, config),
    );
    assert!(far.is_err());
    let error = near.unwrap_err();
    assert!(
        matches!(
            &error,
            ChannelError::Refused(_) | ChannelError::Handshake(_)
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_client_without_tls_is_refused() {
    let world = World::new();
    let (mut near, far) = streams().await;
    near.write_all(b"GET / HTTP/1.1\r\nhost: region\r\n\r\n")
        .await
        .unwrap();
    let container = world.container_identity();
    let error = accept(far, &container, world.stand.clone(), Wanted::Host).await;
    let error = error.map(|_| ()).unwrap_err();
    assert!(matches!(error, ChannelError::Handshake(_)), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn another_protocol_over_tls_is_refused() {
    let world = World::new();
    let host = world.host_identity();
    let mut config = raw::client(Some(Shows::new(&[&host], &host)), false);
    config.alpn_protocols.clear();
    let (near, far) = streams().await;
    let container = world.container_identity();
    let (near, far) = tokio::join!(
        raw::call(near, Arc::new(config)),
        accept(far, &container, world.stand.clone(), Wanted::Host),
    );
    assert!(near.is_err());
    assert_eq!(
        far.unwrap_err(),
        ChannelError::Handshake("another protocol".into())
    );
}

#[tokio::test]
async fn a_client_that_wants_to_resume_is_judged_again() {
    let world = World::new();
    let (host, container) = (world.host_identity(), world.container_identity());
    let config = Arc::new(raw::client(Some(Shows::new(&[&host], &host)), false));
    for _ in 0..2 {
        let before = world.stand.asked.load(Ordering::SeqCst);
        let (near, far) = streams().await;
        let (kind, far) = tokio::join!(
            raw::call(near, config.clone()),
            accept(far, &container, world.stand.clone(), Wanted::Host),
        );
        assert_eq!(kind.unwrap(), HandshakeKind::Full);
        far.unwrap();
        assert_eq!(world.stand.asked.load(Ordering::SeqCst), before + 1);
    }
    world.stand.hosts.lock().unwrap().clear();
    let (near, far) = streams().await;
    let (near, far) = tokio::join!(
        raw::call(near, config),
        accept(far, &container, world.stand.clone(), Wanted::Host),
    );
    assert!(near.is_err());
    assert!(matches!(far.unwrap_err(), ChannelError::UnknownHost(_)));
}

#[tokio::test]
async fn a_server_that_hands_out_tickets_is_judged_again() {
    let world = World::new();
    let (host, container) = (world.host_identity(), world.container_identity());
    let config = raw::server(Shows::new(&[&container], &container), false);
    for _ in 0..2 {
        let before = world.stand.asked.load(Ordering::SeqCst);
        let (near, far) = streams().await;
        let meet = async {
            let channel = connect(near, &host, world.stand.clone(), containers()).await;
            channel.map(|mut channel| drop(channel.stream.shutdown()))
        };
        let (near, kind) = tokio::join!(meet, raw::serve(far, config.clone()));
        assert_eq!(kind.unwrap(), HandshakeKind::Full);
        near.unwrap();
        assert_eq!(world.stand.asked.load(Ordering::SeqCst), before + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_says_nothing_is_not_waited_for() {
    let world = World::new();
    let (near, _far) = tokio::io::duplex(1 << 16);
    let late = ChannelError::Timeout(HANDSHAKE_TIME.as_secs());
    let host = world.host_identity();
    let error = connect(near, &host, world.stand.clone(), containers()).await;
    assert_eq!(error.map(|_| ()).unwrap_err(), late);
    let (_near, far) = tokio::io::duplex(1 << 16);
    let error = accept(far, &host, world.stand.clone(), Wanted::Host).await;
    assert_eq!(error.map(|_| ()).unwrap_err(), late);
    assert!(late.is_retryable());
}

#[tokio::test]
async fn a_connection_that_breaks_may_be_tried_again() {
    let world = World::new();
    let (near, far) = streams().await;
    drop(far);
    let host = world.host_identity();
    let error = connect(near, &host, world.stand.clone(), containers()).await;
    let error = error.map(|_| ()).unwrap_err();
    assert!(matches!(error, ChannelError::Broken(_)), "{error}");
    assert!(error.is_retryable());
}
