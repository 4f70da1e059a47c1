//! Inclusion proofs, checked by what alloy-trie says about them and not by how they were built.

use crate::world::{Callback, MemoryOutbox, World, world};
use alloy::{
    consensus::{Header, ReceiptEnvelope, TxEnvelope},
    eips::eip2718::Decodable2718,
    network::TransactionBuilder,
    primitives::{Address, B256, U256, keccak256},
    providers::Provider,
    rpc::types::TransactionRequest,
};
use alloy_rlp::Decodable;
use alloy_trie::{Nibbles, proof::verify_proof};
use cryptlet_chain::{Chain, ChainError, evm::inclusion};
use cryptlet_deliver::Outcome;
use cryptlet_types::receipt::Inclusion;

fn check(inclusion: &Inclusion, block: B256, transaction: B256) -> ReceiptEnvelope {
    assert_eq!(keccak256(&inclusion.header), block);
    let header = Header::decode(&mut inclusion.header.as_ref()).unwrap();
    let index = usize::try_from(inclusion.transaction_index).unwrap();
    let key = Nibbles::unpack(alloy_rlp::encode(index));
    for (root, value, proof) in [
        (
            header.transactions_root,
            &inclusion.transaction,
            &inclusion.transaction_proof,
        ),
        (
            header.receipts_root,
            &inclusion.receipt,
            &inclusion.receipt_proof,
        ),
    ] {
        verify_proof(root, key, Some(value.to_vec()), proof).unwrap();
        let wrong = verify_proof(root, key, Some(vec![1; 40]), proof);
        assert!(wrong.is_err(), "the proof proves this value only");
    }
    let envelope = TxEnvelope::decode_2718_exact(&inclusion.transaction).unwrap();
    assert_eq!(*envelope.tx_hash(), transaction);
    ReceiptEnvelope::decode_2718_exact(&inclusion.receipt).unwrap()
}

#[tokio::test]
async fn the_only_transaction_of_a_block_is_proven() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let order = world.order(&consumer, 1, 7).await;
    let deliverer = world.deliverer(&MemoryOutbox::new());
    let Outcome::Delivered(delivery) = deliverer.deliver(&order).await.unwrap() else {
        panic!("not delivered")
    };
    let inclusion = world.chain.inclusion(delivery.transaction).await.unwrap();
    let receipt = check(&inclusion, delivery.block_hash, delivery.transaction);
    let logs: Vec<_> = receipt.logs().iter().collect();
    let reports = cryptlet_chain::evm::decode::delivered_reports(world.delegate, logs);
    assert_eq!(reports, [delivery.report]);
}

/// A block with many transactions, legacy and EIP-1559 in turn.
async fn crowd(world: &World, count: u64) -> Vec<B256> {
    world.automine(false).await;
    let first = world.chain.nonce(world.publisher, true).await.unwrap();
    let mut hashes = Vec::new();
    for place in 0..count {
        let request = TransactionRequest::default()
            .with_to(Address::repeat_byte(5))
            .with_value(U256::from(place))
            .with_nonce(first + place)
            .with_gas_limit(21_000);
        let request = if place % 2 == 0 {
            request.with_gas_price(10_000_000_000)
        } else {
            request
                .with_max_fee_per_gas(10_000_000_000)
                .with_max_priority_fee_per_gas(1_000_000_000)
        };
        let pending = world.provider.send_transaction(request).await.unwrap();
        hashes.push(*pending.tx_hash());
    }
    world.mine().await;
    hashes
}

#[tokio::test]
async fn every_place_in_a_full_block_is_proven() {
    let world = world().await;
    for count in [2, 17, 130] {
        let hashes = crowd(&world, count).await;
        let head = world.chain.head().await.unwrap();
        for place in [0, 1, 126, 127, 128, 129] {
            let Some(hash) = hashes.get(place) else {
                continue;
            };
            let inclusion = world.chain.inclusion(*hash).await.unwrap();
            assert_eq!(inclusion.transaction_index, place as u64);
            check(&inclusion, head.hash, *hash);
        }
    }
}

#[tokio::test]
async fn a_node_that_lies_about_a_block_is_found_out() {
    let world = world().await;
    let hashes = crowd(&world, 3).await;
    let number = world.chain.head().await.unwrap().number;
    let block = world.provider.get_block_by_number(number.into()).full();
    let block = block.await.unwrap().unwrap();
    let receipts = world.provider.get_block_receipts(number.into());
    let receipts = receipts.await.unwrap().unwrap();
    let prove = |block, receipts| inclusion::prove(block, receipts, hashes[1]);
    assert!(prove(block.clone(), receipts.clone()).is_ok());

    let mut header = block.clone();
    header.header.inner.timestamp += 1;
    let mut swapped = receipts.clone();
    swapped.swap(0, 2);
    let mut missing = receipts.clone();
    missing.pop();
    let mut other = block.clone();
    other.header.hash = B256::ZERO;
    for lie in [
        prove(header, receipts.clone()),
        prove(block.clone(), swapped),
        prove(block.clone(), missing),
        prove(other, receipts.clone()),
        inclusion::prove(block, receipts, B256::ZERO),
    ] {
        assert!(matches!(lie, Err(ChainError::Inconsistent(_))), "{lie:?}");
    }
}

#[tokio::test]
async fn a_transaction_in_no_block_has_no_proof_yet() {
    let world = world().await;
    let error = world.chain.inclusion(B256::ZERO).await.unwrap_err();
    assert!(matches!(error, ChainError::NotIncluded(_)) && error.is_retryable());
}
