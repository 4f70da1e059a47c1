//! Many transactions of one block by one question.

use crate::support::{Puppet, Reply, World};
use alloy::{
    network::TransactionBuilder, primitives::B256, providers::Provider,
    rpc::types::TransactionRequest,
};
use cryptlet_chain::{Chain, ChainError, EvmChain};
use serde_json::json;

async fn crowd(world: &World, count: u64) -> Vec<B256> {
    world.rpc("evm_setAutomine", json!([false])).await;
    let mut hashes = Vec::new();
    for _ in 0..count {
        let request = TransactionRequest::default()
            .with_to(world.logger)
            .with_input(vec![1])
            .with_gas_limit(100_000);
        let pending = world.provider.send_transaction(request).await.unwrap();
        hashes.push(*pending.tx_hash());
    }
    world.mine().await;
    hashes
}

#[tokio::test]
async fn all_transactions_of_a_block_are_settled_and_proven_at_once() {
    let world = World::new().await;
    let puppet = Puppet::of(&world).await;
    let chain = EvmChain::open(world.config([puppet.url.clone()]))
        .await
        .unwrap();
    let hashes = crowd(&world, 40).await;
    let head = chain.head().await.unwrap();
    puppet.asked();
    let outcomes = chain.block_outcomes(head.hash).await.unwrap().unwrap();
    assert_eq!(puppet.asked(), ["eth_getBlockReceipts"]);
    let found: Vec<_> = outcomes.iter().map(|outcome| outcome.transaction).collect();
    assert_eq!(found, hashes);
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.success && outcome.block_hash == head.hash)
    );

    let mut asked = hashes.clone();
    asked.insert(3, B256::ZERO);
    let several = chain.transaction_outcomes(&asked).await.unwrap();
    assert_eq!(several[3], None);
    assert_eq!(several[4].as_ref(), Some(&outcomes[3]));

    puppet.asked();
    let proven = chain.inclusions(head.hash, &hashes).await.unwrap();
    assert_eq!(puppet.asked().len(), 2);
    assert_eq!(proven.len(), 40);
    for hash in [hashes[0], hashes[17], hashes[39]] {
        assert_eq!(proven[&hash], chain.inclusion(hash).await.unwrap());
    }
    let stranger = chain.inclusions(head.hash, &[hashes[0], B256::ZERO]).await;
    assert!(matches!(stranger, Err(ChainError::Inconsistent(_))));
    let nowhere = B256::repeat_byte(9);
    assert_eq!(chain.block_outcomes(nowhere).await.unwrap(), None);
    let error = chain.inclusions(nowhere, &hashes).await.unwrap_err();
    assert!(matches!(error, ChainError::NotIncluded(_)), "{error}");
    assert!(chain.inclusions(nowhere, &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn receipts_of_another_block_are_refused() {
    let world = World::new().await;
    let puppet = Puppet::of(&world).await;
    crowd(&world, 3).await;
    let receipts = world.rpc("eth_getBlockReceipts", json!(["latest"])).await;
    crowd(&world, 2).await;
    let chain = EvmChain::open(world.config([puppet.url.clone()]))
        .await
        .unwrap();
    let head = chain.head().await.unwrap();
    let before = chain.header(head.number - 1).await.unwrap().unwrap();
    for (block, forged) in [
        (head.hash, receipts.clone()),
        (before.hash, json!([receipts[1], receipts[0], receipts[2]])),
        (before.hash, json!([receipts[1], receipts[2]])),
    ] {
        puppet.does(move |method, _| match method {
            "eth_getBlockReceipts" => Reply::Result(forged.clone()),
            _ => Reply::Forward,
        });
        let error = chain.block_outcomes(block).await.unwrap_err();
        assert!(matches!(error, ChainError::Inconsistent(_)), "{error}");
    }
}
