//! A register on another chain than the delegate: what is copied to its mirror counts there, and nothing else does.

use crate::support::{MIRROR_MAX_AGE, World, parts, provider, reference};
use alloy::{
    primitives::Address,
    providers::{DynProvider, Provider},
    sol,
};
use cryptlet_chain::evm::abi::CryptoDelegate;
use cryptlet_developer::{
    DeveloperError, Nodes, Session, Wallet,
    mirror::{Copied, copy, plan},
    publish::{Revocation, revoke},
};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

sol! {
    #[sol(rpc)]
    contract Mirror {
        function isSigner(address cryptlet, address signer) external view returns (bool);
        function isActive(address cryptlet) external view returns (bool);
        function signerOf(address cryptlet, address signer) external view returns (uint64 expiry, bool revoked, uint64 sourceBlock);
    }
}

async fn mirror_of(world: &World) -> Mirror::MirrorInstance<DynProvider> {
    let provider = provider(&world.node);
    let delegate = CryptoDelegate::new(world.delegate.delegate, &provider);
    let mirror = delegate.register().call().await.unwrap();
    Mirror::new(mirror, provider)
}

/// Whether the mirror admits the signer, and the cryptlet at all.
async fn admits(world: &World, cryptlet: Address, signer: Address) -> (bool, bool) {
    let mirror = mirror_of(world).await;
    (
        mirror.isSigner(cryptlet, signer).call().await.unwrap(),
        mirror.isActive(cryptlet).call().await.unwrap(),
    )
}

async fn bring(session: &Session, copier: &Wallet) -> Result<Copied, DeveloperError> {
    let plan = plan(session, &reference("gold-price")).await?;
    copy(plan, copier, PATIENCE).await
}

#[tokio::test]
async fn a_copy_admits_the_signer_and_a_copied_revocation_ends_it() {
    let world = World::mirrored().await;
    let published = world
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap();
    let (cryptlet, signer) = (published.cryptlet.0, published.signer);
    let (session, name) = (world.session().await, reference("gold-price"));
    let copier = world.wallet(0).await;
    assert_eq!(
        admits(&world, cryptlet, signer).await,
        (false, false),
        "not copied"
    );

    let copied = bring(&session, &copier).await.unwrap();
    assert_eq!(copied.signers.len(), 1);
    assert_eq!(admits(&world, cryptlet, signer).await, (true, true));
    let publisher = world.wallet(1).await;
    let all = Revocation::All;
    revoke(&session, &publisher, &name, &all, PATIENCE)
        .await
        .unwrap();
    bring(&session, &copier).await.unwrap();
    assert_eq!(admits(&world, cryptlet, signer).await, (false, false));
    let again = bring(&session, &copier).await.unwrap();
    assert_eq!(again.signers.len(), 0, "revoked there already, for ever");
}

/// A signer that nothing has changed about is copied again, since it counts no longer than the mirror's longest age after its copy.
#[tokio::test]
async fn a_further_copy_lets_a_signer_count_for_longer() {
    let world = World::mirrored().await;
    let published = world
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap();
    let (session, copier) = (world.session().await, world.wallet(0).await);
    let provider = provider(&world.node);
    let mut counted = Vec::new();
    for _ in 0..2 {
        let copied = bring(&session, &copier).await.unwrap();
        let [(signer, mined)] = &copied.signers[..] else {
            panic!("{copied:?}")
        };
        let block = provider.get_block(mined.block.into()).await.unwrap();
        let time = block.unwrap().header.timestamp;
        let mirror = mirror_of(&world).await;
        let there = mirror.signerOf(published.cryptlet.0, published.signer);
        let there = there.call().await.unwrap();
        assert_eq!(there.expiry, time + MIRROR_MAX_AGE);
        assert!(signer.expiry > there.expiry && there.sourceBlock < mined.block);
        counted.push((there.expiry, there.sourceBlock));
        let next = provider.raw_request::<_, serde_json::Value>(
            "evm_setNextBlockTimestamp".into(),
            (time + 3_600,),
        );
        next.await.unwrap();
        let empty = provider.raw_request::<_, serde_json::Value>("evm_mine".into(), ());
        empty.await.unwrap();
    }
    assert!(counted[1].0 >= counted[0].0 + 3_600 && counted[1].1 > counted[0].1);
}

#[tokio::test]
async fn only_who_may_copies_and_only_to_a_mirror_of_this_register() {
    let world = World::mirrored().await;
    world
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap();
    let session = world.session().await;
    let stranger = world.wallet(3).await;
    let refused = bring(&session, &stranger).await.unwrap_err();
    assert!(
        matches!(refused, DeveloperError::Reverted { .. }),
        "{refused:?}"
    );

    let direct = World::start().await;
    direct
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap();
    let (session, copier) = (direct.session().await, direct.wallet(0).await);
    let refused = bring(&session, &copier).await.unwrap_err();
    assert!(matches!(refused, DeveloperError::Untrue(_)), "{refused:?}");
}

#[tokio::test]
async fn a_key_that_the_host_does_not_list_is_copied_and_the_hosts_own_node_is_not_enough() {
    let world = World::mirrored().await;
    let published = world
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap();
    let hidden = Address::repeat_byte(9);
    world.enrol(published.cryptlet, 1, hidden).await;
    let copier = world.wallet(0).await;
    // Not all is on this machine: the host's node is the host's word.
    let elsewhere = Nodes {
        chain: Some("https://chain.example".into()),
        ..Nodes::default()
    };
    let session = world.session_with(elsewhere).await;
    let refused = bring(&session, &copier).await.unwrap_err();
    assert!(
        matches!(refused, DeveloperError::NotWitnessed(_)),
        "{refused:?}"
    );
    assert!(refused.next_step().contains("--register-rpc"));

    let session = world.session().await;
    let copied = bring(&session, &copier).await.unwrap();
    assert_eq!(copied.signers.len(), 2);
    let cryptlet = published.cryptlet.0;
    assert_eq!(admits(&world, cryptlet, hidden).await, (true, true));
}
