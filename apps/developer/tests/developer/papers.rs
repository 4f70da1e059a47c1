//! What administrators and identities sign.

use crate::support::{World, parts, reference};
use alloy::primitives::{Address, keccak256};
use cryptlet_developer::{
    DeveloperError, Wallet,
    delegation::{self, Scope},
    policy,
    publish::{Revocation, revoke},
};
use cryptlet_seal::SealError;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_policy_is_written_signed_by_enough_and_set_once() {
    let world = World::start().await;
    let session = world.session().await;
    let anybody = world.wallet(1).await;
    let path = world.folder.path().join("policy.json");
    policy::store(&path, &policy::template(&session).await.unwrap()).unwrap();
    let mut signed = policy::load(&path).unwrap();
    assert_eq!((signed.policy.epoch, signed.approvals.len()), (1, 0));
    let error = policy::sign(&session, &anybody, signed.clone())
        .await
        .unwrap_err();
    assert!(
        matches!(error, DeveloperError::NotAnAdministrator(_)),
        "{error}"
    );

    world.host.wrongs().no_rpc = true;
    let blind = world.session().await;
    let error = policy::sign(&blind, &world.wallet(5).await, signed.clone())
        .await
        .unwrap_err();
    let unknown = matches!(error, DeveloperError::NoRpc("register"));
    assert!(unknown, "the chain alone knows the board's term: {error}");
    world.host.wrongs().no_rpc = false;

    for index in [6, 5] {
        let error = policy::set(&session, &anybody, &signed, PATIENCE)
            .await
            .unwrap_err();
        let few = matches!(
            error,
            DeveloperError::Seal(SealError::TooFewApprovals { threshold: 2, .. })
        );
        assert!(few, "{error}");
        signed = policy::sign(&session, &world.wallet(index).await, signed)
            .await
            .unwrap();
    }
    assert_eq!(signed.approvals.len(), 2);
    assert!(
        signed
            .approvals
            .is_sorted_by_key(|approval| approval.administrator)
    );
    policy::store(&path, &signed).unwrap();
    let signed = policy::load(&path).unwrap();

    // The host reads the register a little later than the transaction is mined.
    world.host.wrongs().behind = 3;
    let set = policy::set(&session, &anybody, &signed, PATIENCE)
        .await
        .unwrap();
    assert!(set.mined.is_some() && set.info.confirmed);
    let record = world.reader().await.policy().await.unwrap().unwrap();
    assert_eq!(record.digest, policy::digest(&signed.policy).unwrap());
    let again = policy::set(&session, &anybody, &signed, PATIENCE)
        .await
        .unwrap();
    assert_eq!(again.mined, None);
    assert_eq!(policy::template(&session).await.unwrap().policy.epoch, 2);
    assert_eq!(world.transactions_of(anybody.address()).await, 1);
}

#[tokio::test]
async fn another_policy_under_the_same_epoch_is_refused_before_anything_is_paid() {
    let world = World::start().await;
    let session = world.session().await;
    let anybody = world.wallet(1).await;
    let mut first = policy::template(&session).await.unwrap();
    for index in [5, 6] {
        first = policy::sign(&session, &world.wallet(index).await, first)
            .await
            .unwrap();
    }
    policy::set(&session, &anybody, &first, PATIENCE)
        .await
        .unwrap();
    let mut other = first.clone();
    other.policy.retry.attempts += 1;
    let error = policy::set(&session, &anybody, &other, PATIENCE)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            DeveloperError::Seal(SealError::TooFewApprovals { count: 0, .. })
        ),
        "{error}"
    );
    for index in [5, 6] {
        other = policy::sign(&session, &world.wallet(index).await, other)
            .await
            .unwrap();
    }
    assert_eq!(other.approvals.len(), 2, "signing again replaces");
    let error = policy::set(&session, &anybody, &other, PATIENCE)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("is not after policy"), "{error}");
    assert_eq!(world.transactions_of(anybody.address()).await, 1);
}

fn scope() -> Scope {
    Scope {
        identity: None,
        cryptlet: reference("gold-price"),
        consumer: None,
        callback: Some(delegation::parse_callback("priceOf(uint256)").unwrap()),
        expiry: 4_000_000_000,
    }
}

#[tokio::test]
async fn a_delegation_is_signed_handed_in_and_revoked_by_its_identity() {
    let world = World::start().await;
    world
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap();
    let session = world.session().await;
    let (identity, stranger) = (world.wallet(3).await, world.wallet(4).await);
    let signed = delegation::sign(&session, &identity, &scope())
        .await
        .unwrap();
    let other = delegation::sign(&session, &identity, &scope())
        .await
        .unwrap();
    assert_ne!(signed.delegation.salt, other.delegation.salt);
    let info = delegation::submit(&session, &signed).await.unwrap();
    assert_eq!(info.delegation.identity, identity.address().into());

    let digest = info.digest.0;
    let by = |wallet: Wallet| {
        let session = &session;
        async move { delegation::revoke(session, &wallet, digest, PATIENCE).await }
    };
    let error = by(stranger.clone()).await.unwrap_err();
    assert!(
        error.to_string().contains("is not who gave the delegation"),
        "{error}"
    );
    by(identity.clone()).await.unwrap();
    let error = by(identity).await.unwrap_err();
    assert!(
        matches!(error, DeveloperError::DelegationRevoked),
        "{error}"
    );
    assert_eq!(world.transactions_of(stranger.address()).await, 0);
    let none = delegation::revoke(&session, &stranger, keccak256(digest), PATIENCE).await;
    assert!(matches!(none, Err(DeveloperError::UnknownDelegation(_))));
}

#[tokio::test]
async fn nothing_is_delegated_to_what_is_revoked_or_unknown_nor_by_a_host_of_other_words() {
    let world = World::start().await;
    let session = world.session().await;
    let identity = world.wallet(3).await;
    let error = delegation::sign(&session, &identity, &scope())
        .await
        .unwrap_err();
    assert!(matches!(error, DeveloperError::Unknown(_)), "{error}");
    world
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap();
    let signed = delegation::sign(&session, &identity, &scope())
        .await
        .unwrap();
    world.host.wrongs().other_delegation = true;
    let error = delegation::submit(&session, &signed).await.unwrap_err();
    assert!(matches!(error, DeveloperError::Untrue(_)), "{error}");
    let owner = world.wallet(1).await;
    revoke(
        &session,
        &owner,
        &reference("gold-price"),
        &Revocation::All,
        PATIENCE,
    )
    .await
    .unwrap();
    let error = delegation::sign(&session, &identity, &scope())
        .await
        .unwrap_err();
    assert!(matches!(error, DeveloperError::Revoked(_)), "{error}");
}

#[tokio::test]
async fn an_account_signs_for_a_contract_wallet_and_a_file_keeps_what_it_signed() {
    let world = World::start().await;
    world
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap();
    let session = world.session().await;
    let (owner, wallet) = (world.wallet(3).await, Address::repeat_byte(7));
    let scope = Scope {
        identity: Some(wallet),
        ..scope()
    };
    let signed = delegation::sign(&session, &owner, &scope).await.unwrap();
    assert_eq!(signed.delegation.identity, wallet.into());
    let file = world.folder.path().join("delegation.json");
    std::fs::write(&file, serde_json::to_string(&signed).unwrap()).unwrap();
    let read = delegation::load(&file).unwrap();
    let info = delegation::submit(&session, &read).await.unwrap();
    assert_eq!(info.delegation, signed.delegation);
    std::fs::write(&file, r#"{"delegation":{}}"#).unwrap();
    let error = delegation::load(&file).unwrap_err().to_string();
    assert!(
        error.contains("delegation.json") && error.contains("identity"),
        "{error}"
    );
}
