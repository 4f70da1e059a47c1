//! Reports on somebody's behalf: the delegate judges the delegation, and this crate hands it over.

use crate::world::{Consumer, MemoryOutbox, World, deploy, send, world};
use alloy::{
    primitives::{Address, B256, Bytes, FixedBytes, U256},
    sol_types::SolValue,
};
use cryptlet_chain::{Chain, ChangeKind, Rejection, evm::abi::CryptoDelegate};
use cryptlet_deliver::Outcome;
use cryptlet_seal::SigningKey;
use cryptlet_types::{Delegation, SignedDelegation, Subject, report::CompactSignature};

const IDENTITY_CONSUMER: &str =
    include_str!("../../../../contracts/artifacts/test/IdentityConsumer.json");
const WALLET: &str = include_str!("../../../../contracts/artifacts/test/Wallet.json");

alloy::sol! {
    #[sol(rpc)]
    contract IdentityConsumer {
        function word() external view returns (uint256);
        function subject() external view returns (bytes32);
        function spokenFor() external view returns (address);
    }
}

/// The account that the world's provider sends from, which can therefore revoke, too.
fn account(world: &World) -> SigningKey {
    let (_, key) = world.node.as_ref().unwrap().accounts()[0];
    SigningKey::from_secret(&key.0).unwrap()
}

/// A consumer that subscribes on behalf of `identity` and takes nobody else's word.
async fn consumer_of(world: &World, identity: Address) -> Consumer {
    let arguments = (world.delegate, world.cryptlet.0, identity, identity).abi_encode_params();
    let address = deploy(&world.provider, IDENTITY_CONSUMER, &arguments).await;
    let contract = IdentityConsumer::new(address, &world.provider);
    Consumer {
        address,
        subject: Subject(contract.subject().call().await.unwrap()),
        gas: 200_000,
    }
}

fn delegation(world: &World, identity: Address) -> Delegation {
    Delegation {
        identity,
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
    let key = account(&world);
    let wallet = deploy(&world.provider, WALLET, &key.address().abi_encode()).await;
    for identity in [key.address(), wallet] {
        let consumer = consumer_of(&world, identity).await;
        let signed = sign(&world, delegation(&world, identity), &key);
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
        let contract = IdentityConsumer::new(consumer.address, &world.provider);
        assert_eq!(contract.word().call().await.unwrap(), U256::from(7));
        assert_eq!(contract.spokenFor().call().await.unwrap(), identity);
    }
    let head = world.chain.head().await.unwrap().number;
    let changes = world.chain.subscription_changes(0..=head).await.unwrap();
    let on_behalf = changes.iter().filter_map(|change| match &change.kind {
        ChangeKind::Subscribed(subscription) => Some(subscription.on_behalf_of),
        ChangeKind::Consumed { .. } => None,
        other => panic!("{other:?}"),
    });
    assert_eq!(on_behalf.collect::<Vec<_>>(), [key.address(), wallet]);
}

#[tokio::test]
async fn a_delegation_that_does_not_hold_is_refused_before_anything_is_paid() {
    let world = world().await;
    let key = account(&world);
    let consumer = consumer_of(&world, key.address()).await;
    let good = || delegation(&world, key.address());
    let expired = Delegation {
        expiry: 1,
        ..good()
    };
    let elsewhere = Delegation {
        consumer: Address::repeat_byte(9),
        ..good()
    };
    let revoked = Delegation {
        salt: B256::repeat_byte(2),
        ..good()
    };
    let contract = CryptoDelegate::new(world.delegate, &world.provider);
    let call = contract.revokeDelegation(revoked.to_abi().into());
    send(&world.provider, call.into_transaction_request()).await;
    let stranger = SigningKey::from_secret(&[0x33; 32]).unwrap();
    let strangers = delegation(&world, stranger.address());
    let another = "missing, or of another identity than subscribed";
    let cases = [
        (expired, &key, "expired"),
        (elsewhere, &key, "out of scope"),
        (revoked, &key, "revoked"),
        (good(), &stranger, "not signed by its identity"),
        (strangers, &stranger, another),
    ];
    for (delegation, key, reason) in cases {
        let signed = sign(&world, delegation, key);
        let digest = signed.delegation.digest(&world.domain());
        let refused = deliver(&world, &consumer, digest, Some(signed)).await;
        let rejection = Rejection::DelegationRefused(reason);
        assert_eq!(refused, (Outcome::Refused(rejection), 0));
    }
    let signed = sign(&world, good(), &key);
    let digest = signed.delegation.digest(&world.domain());
    let other = "another than the report's";
    for (named, given, reason) in [
        (digest, None, other),
        (B256::ZERO, Some(signed), other),
        (B256::ZERO, None, another),
    ] {
        let refused = deliver(&world, &consumer, named, given).await;
        let rejection = Rejection::DelegationRefused(reason);
        assert_eq!(refused, (Outcome::Refused(rejection), 0));
    }
}
