//! Reports on somebody's behalf: the delegate judges the delegation, and this crate hands it over.

use crate::world::{Callback, Consumer, MemoryOutbox, World, send, world};
use alloy::primitives::{Address, B256, Bytes, FixedBytes};
use cryptlet_chain::{Rejection, evm::abi::CryptoDelegate};
use cryptlet_deliver::Outcome;
use cryptlet_seal::SigningKey;
use cryptlet_types::{Delegation, SignedDelegation, report::CompactSignature};

fn identity() -> SigningKey {
    SigningKey::from_secret(&[0x22; 32]).unwrap()
}

fn delegation(world: &World) -> Delegation {
    Delegation {
        identity: identity().address(),
        cryptlet: world.cryptlet,
        consumer: Address::ZERO,
        callback: FixedBytes::ZERO,
        expiry: u64::MAX,
        salt: B256::repeat_byte(1),
    }
}

/// 65 bytes: `r`, `s`, `v`.
fn account_signature(signature: CompactSignature) -> Bytes {
    let mut s = signature.vs.0;
    let v = 27 + (s[0] >> 7);
    s[0] &= 0x7f;
    [signature.r.as_slice(), &s, &[v]].concat().into()
}

fn sign(world: &World, delegation: Delegation, key: &SigningKey) -> SignedDelegation {
    let digest = delegation.digest(&world.domain());
    let signature = account_signature(key.sign(digest).unwrap());
    SignedDelegation {
        delegation,
        signature,
    }
}

/// Delivers a report that names `named` and hands over `given`.
async fn deliver(
    world: &World,
    consumer: &Consumer,
    named: B256,
    given: Option<SignedDelegation>,
) -> (Outcome, usize) {
    let mut report = world.report(consumer, 1, 7).await;
    report.delegation = named;
    let mut order = world.order_of(world.sign(report), consumer);
    order.delegation = given;
    let outbox = MemoryOutbox::new();
    let outcome = world.deliverer(&outbox).deliver(&order).await.unwrap();
    (outcome, outbox.written().len())
}

#[tokio::test]
async fn a_report_under_a_delegation_is_delivered_on_its_identitys_behalf() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let signed = sign(&world, delegation(&world), &identity());
    let digest = signed.delegation.digest(&world.domain());
    let contract = CryptoDelegate::new(world.delegate, &world.provider);
    let hash = contract.hashDelegation(signed.delegation.to_abi().into());
    assert_eq!(hash.call().await.unwrap(), digest);
    let (outcome, sent) = deliver(&world, &consumer, digest, Some(signed)).await;
    assert!(
        matches!(&outcome, Outcome::Delivered(delivery) if delivery.report.success),
        "{outcome:?}"
    );
    assert_eq!(sent, 1);
}

#[tokio::test]
async fn a_delegation_that_does_not_hold_is_refused_before_anything_is_paid() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let good = || delegation(&world);
    let expired = Delegation {
        expiry: 1,
        ..good()
    };
    let elsewhere = Delegation {
        consumer: Address::repeat_byte(9),
        ..good()
    };
    let revoked = Delegation {
        identity: world.publisher,
        ..good()
    };
    let contract = CryptoDelegate::new(world.delegate, &world.provider);
    let call = contract.revokeDelegation(revoked.to_abi().into());
    send(&world.provider, call.into_transaction_request()).await;
    let stranger = SigningKey::from_secret(&[0x33; 32]).unwrap();
    let cases = [
        (expired, identity(), "expired"),
        (elsewhere, identity(), "out of scope"),
        (revoked, identity(), "revoked"),
        (good(), stranger, "not signed by its identity"),
    ];
    for (delegation, key, reason) in cases {
        let signed = sign(&world, delegation, &key);
        let digest = signed.delegation.digest(&world.domain());
        let refused = deliver(&world, &consumer, digest, Some(signed)).await;
        let rejection = Rejection::DelegationRefused(reason);
        assert_eq!(refused, (Outcome::Refused(rejection), 0));
    }
    let signed = sign(&world, good(), &identity());
    let digest = signed.delegation.digest(&world.domain());
    for (named, given) in [(digest, None), (B256::ZERO, Some(signed))] {
        let refused = deliver(&world, &consumer, named, given).await;
        let rejection = Rejection::DelegationRefused("another than the report's");
        assert_eq!(refused, (Outcome::Refused(rejection), 0));
    }
}
