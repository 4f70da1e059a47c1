//! What becomes of a report when nothing is in the way but the delegate's rules.

use crate::world::{Callback, Consumer, MemoryOutbox, World, send, world};
use alloy::primitives::{Address, B256, U256};
use cryptlet_chain::{Chain, Delivery, Rejection, evm::abi::CryptletRegister};
use cryptlet_deliver::Outcome;
use cryptlet_types::{CryptletId, Measurement, Report, ReportDomain, SignedReport, Subject};

fn delivered(outcome: Outcome) -> Delivery {
    match outcome {
        Outcome::Delivered(delivery) => delivery,
        other => panic!("{other:?}"),
    }
}

async fn outcome(world: &World, consumer: &Consumer, report: SignedReport) -> (Outcome, usize) {
    let outbox = MemoryOutbox::new();
    let order = world.order_of(report, consumer);
    let outcome = world.deliverer(&outbox).deliver(&order).await.unwrap();
    (outcome, outbox.written().len())
}

#[tokio::test]
async fn a_report_is_delivered_once_by_the_transaction_in_the_outbox() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let outbox = MemoryOutbox::new();
    let deliverer = world.deliverer(&outbox);
    for sequence in 1..=3 {
        let order = world.order(&consumer, sequence, 40 + sequence).await;
        let delivery = delivered(deliverer.deliver(&order).await.unwrap());
        let digest = order.report.report.digest(&world.domain());
        assert_eq!(delivery.report.digest, digest);
        assert_eq!(delivery.report.sequence, sequence);
        assert_eq!(delivery.report.signer, world.cryptlet_key.address());
        assert!(delivery.report.success);
        assert_eq!(delivery.report.reason, None);
        let written = outbox.written();
        assert_eq!(written.len() as u64, sequence, "one transaction a report");
        assert_eq!(written.last().unwrap().hash, delivery.transaction);
        let head = world.chain.head().await.unwrap();
        assert_eq!(
            (delivery.block, delivery.block_hash),
            (head.number, head.hash)
        );
        assert_eq!(world.word(&consumer).await, U256::from(40 + sequence));
    }
}

#[tokio::test]
async fn many_subscriptions_are_delivered_at_the_same_time() {
    let world = world().await;
    let outbox = MemoryOutbox::new();
    let deliverer = world.deliverer(&outbox);
    let mut tasks = Vec::new();
    for word in 1..=12 {
        let consumer = world.consumer(Callback::Stores, 60_000).await;
        let order = world.order(&consumer, 1, word).await;
        let deliverer = deliverer.clone();
        let task = tokio::spawn(async move { deliverer.deliver(&order).await.unwrap() });
        tasks.push((consumer, word, task));
    }
    for (consumer, word, task) in tasks {
        delivered(task.await.unwrap());
        assert_eq!(world.word(&consumer).await, U256::from(word));
    }
    let mut nonces: Vec<_> = outbox.written().iter().map(|sent| sent.nonce).collect();
    nonces.sort_unstable();
    assert_eq!(nonces, (0..12).collect::<Vec<_>>(), "no gap and no double");
}

#[tokio::test]
async fn a_callback_that_fails_consumes_the_report_and_says_why() {
    let world = world().await;
    for (callback, gas, reason_bytes) in [
        (Callback::Reverts, 100_000, 256),
        (Callback::EatsGas, 100_000, 0),
        (Callback::ReturnsMegabyte, 5_000_000, 256),
    ] {
        let consumer = world.consumer(callback, gas).await;
        let report = world.sign(world.report(&consumer, 1, 7).await);
        let (result, sent) = outcome(&world, &consumer, report).await;
        let delivery = delivered(result);
        assert_eq!(sent, 1);
        if !matches!(callback, Callback::ReturnsMegabyte) {
            assert!(!delivery.report.success, "{callback:?}");
            assert_eq!(delivery.report.reason.unwrap().len(), reason_bytes);
        }
        assert_eq!(world.sequence(&consumer).await, 1);
    }
}

#[tokio::test]
async fn a_replay_finds_the_delivery_and_sends_nothing() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let report = world.sign(world.report(&consumer, 1, 7).await);
    let (first, _) = outcome(&world, &consumer, report.clone()).await;
    let (second, sent) = outcome(&world, &consumer, report.clone()).await;
    assert_eq!(first, second);
    assert_eq!(sent, 0);
    let verdict = world
        .chain
        .preflight(&report, None, world.publisher, 500_000)
        .await
        .unwrap();
    let expected = Rejection::WrongSequence {
        expected: 2,
        given: 1,
    };
    assert_eq!(verdict, Err(expected));
}

#[tokio::test]
async fn a_delivery_by_somebody_else_is_adopted() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let report = world.sign(world.report(&consumer, 1, 7).await);
    let receipt = world.submit(&report).await;
    let (result, sent) = outcome(&world, &consumer, report).await;
    assert_eq!(delivered(result).transaction, receipt.transaction_hash);
    assert_eq!(sent, 0);
}

#[tokio::test]
async fn another_report_with_the_number_supersedes() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let other = world.sign(world.report(&consumer, 1, 8).await);
    world.submit(&other).await;
    let report = world.sign(world.report(&consumer, 1, 7).await);
    let (result, sent) = outcome(&world, &consumer, report).await;
    let Outcome::Superseded(delivery) = result else {
        panic!("{result:?}")
    };
    assert_eq!(delivery.report.digest, other.report.digest(&world.domain()));
    assert_eq!(sent, 0);
}

#[tokio::test]
async fn a_report_altered_in_any_field_is_refused_before_it_costs_anything() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let signed = world.sign(world.report(&consumer, 1, 7).await);
    type Alter = fn(&mut Report);
    let alterations: [(&str, Alter); 7] = [
        ("cryptlet", |r| r.cryptlet = CryptletId(Address::ZERO)),
        ("subject", |r| r.subject = Subject(B256::ZERO)),
        ("issuedAt", |r| r.issued_at -= 1),
        ("validUntil", |r| r.valid_until += 1),
        ("region", |r| r.region = Measurement(B256::ZERO)),
        ("payload", |r| r.payload = vec![0; 32].into()),
        ("validity", |r| r.valid_until = r.issued_at),
    ];
    for (field, alter) in alterations {
        let mut altered = signed.clone();
        alter(&mut altered.report);
        let (result, sent) = outcome(&world, &consumer, altered).await;
        let Outcome::Refused(rejection) = result else {
            panic!("{field}: {result:?}")
        };
        let expected = match field {
            "cryptlet" | "subject" => rejection == Rejection::UnknownSubscription,
            "validity" => rejection == Rejection::InvalidValidity,
            _ => matches!(
                rejection,
                Rejection::SignerNotEnrolled { .. } | Rejection::InvalidSignature
            ),
        };
        assert!(expected, "{field}: {rejection:?}");
        assert_eq!(sent, 0, "{field}");
    }
    assert_eq!(world.sequence(&consumer).await, 0);
}

#[tokio::test]
async fn a_report_ahead_of_the_chain_waits_for_its_turn() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let first = world.order(&consumer, 1, 7).await;
    let second = world.order(&consumer, 2, 8).await;
    let verdict = world
        .chain
        .preflight(&second.report, None, world.publisher, 500_000)
        .await
        .unwrap();
    let ahead = Rejection::WrongSequence {
        expected: 1,
        given: 2,
    };
    assert_eq!(verdict, Err(ahead));
    let outbox = MemoryOutbox::new();
    let deliverer = world.deliverer(&outbox);
    let (late, early) = tokio::join!(deliverer.deliver(&second), deliverer.deliver(&first));
    assert_eq!(delivered(early.unwrap()).report.sequence, 1);
    assert_eq!(delivered(late.unwrap()).report.sequence, 2);
    assert_eq!(world.sequence(&consumer).await, 2);
}

#[tokio::test]
async fn a_report_for_another_chain_or_delegate_is_refused() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let here = world.domain();
    let elsewhere = [
        ReportDomain {
            chain_id: here.chain_id + 1,
            ..here
        },
        ReportDomain {
            delegate: world.register,
            ..here
        },
    ];
    for domain in elsewhere {
        let report = world.report(&consumer, 1, 7).await;
        let report = world.sign_for(report, &domain);
        let (result, sent) = outcome(&world, &consumer, report).await;
        assert!(
            matches!(
                result,
                Outcome::Refused(Rejection::SignerNotEnrolled { .. })
            ),
            "{result:?}"
        );
        assert_eq!(sent, 0);
    }
}

#[tokio::test]
async fn a_report_of_a_revoked_signer_is_refused() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let signer = world.cryptlet_key.address();
    let register = CryptletRegister::new(world.register, &world.provider);
    let call = register.revokeSigner(world.cryptlet.0, signer);
    send(&world.provider, call.into_transaction_request()).await;
    let report = world.sign(world.report(&consumer, 1, 7).await);
    let (result, sent) = outcome(&world, &consumer, report).await;
    let cryptlet = world.cryptlet;
    let expected = Rejection::SignerNotEnrolled { cryptlet, signer };
    assert_eq!(result, Outcome::Refused(expected));
    assert_eq!(sent, 0);
}

#[tokio::test]
async fn an_expired_report_is_said_to_be_expired_and_leaves_its_number_free() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let report = world.sign(world.report(&consumer, 1, 7).await);
    world
        .rpc("evm_increaseTime", serde_json::json!([7200]))
        .await;
    world.mine().await;
    let (result, sent) = outcome(&world, &consumer, report).await;
    assert_eq!((result, sent), (Outcome::Expired, 0));
    let report = world.sign(world.report(&consumer, 1, 8).await);
    delivered(outcome(&world, &consumer, report).await.0);
}

#[tokio::test]
async fn a_report_from_the_future_waits_for_the_chain() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let mut report = world.report(&consumer, 1, 7).await;
    report.issued_at += 1000;
    let order = world.order_of(world.sign(report), &consumer);
    let outbox = MemoryOutbox::new();
    let deliverer = world.deliverer(&outbox);
    let task = tokio::spawn(async move { deliverer.deliver(&order).await.unwrap() });
    world
        .rpc("evm_increaseTime", serde_json::json!([1000]))
        .await;
    world.mine().await;
    delivered(task.await.unwrap());
    assert_eq!(outbox.written().len(), 1);
}

#[tokio::test]
async fn the_computed_gas_is_enough_for_every_payload_and_callback() {
    let world = world().await;
    for gas in [30_000, 1_000_000, 5_000_000] {
        let consumer = world.consumer(Callback::Stores, gas).await;
        let eater = world.consumer(Callback::EatsGas, gas).await;
        for (sequence, bytes, fill) in
            [(1, 32, 0), (2, 1024, 1), (3, 16 << 10, 1), (4, 16 << 10, 0)]
        {
            for (consumer, success) in [(&consumer, true), (&eater, false)] {
                let mut report = world.report(consumer, sequence, 7).await;
                report.payload = vec![fill; bytes].into();
                let (result, _) = outcome(&world, consumer, world.sign(report)).await;
                let delivery = delivered(result);
                assert_eq!(delivery.report.success, success, "{gas} gas, {bytes} bytes");
            }
        }
    }
}
