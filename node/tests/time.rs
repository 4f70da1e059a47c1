//! The chain's clock and the ways to mine, as Anvil's methods drive them.

use std::time::Duration;

use crate::support::{ManualClock, address, deploy, http, next, raw, refused, start, ws};
use alloy::{
    eips::BlockId,
    primitives::{Address, B256, Bytes, U256},
    providers::{DynProvider, Provider},
};
use cryptlet_node::{Mining, Node, NodeConfig};
use serde_json::{Value, json};

async fn at(seconds: u64) -> (Node, DynProvider, ManualClock) {
    let clock = ManualClock::at(seconds);
    let mut config = NodeConfig {
        mining: Mining::Manual,
        ..Default::default()
    };
    clock.install(&mut config);
    let node = start(config).await;
    let provider = http(&node);
    (node, provider, clock)
}

async fn mine(provider: &DynProvider) -> u64 {
    let _: Value = raw(provider, "evm_mine", ()).await;
    latest(provider).await
}

async fn latest(provider: &DynProvider) -> u64 {
    provider
        .get_block(BlockId::latest())
        .await
        .unwrap()
        .unwrap()
        .header
        .timestamp
}

#[tokio::test]
async fn blocks_follow_the_wall_clock_and_always_rise() {
    let (_node, provider, clock) = at(1_000).await;
    assert_eq!(latest(&provider).await, 1_000);
    assert_eq!(mine(&provider).await, 1_001);
    assert_eq!(mine(&provider).await, 1_002);
    clock.advance(50);
    assert_eq!(mine(&provider).await, 1_050);
}

#[tokio::test]
async fn an_exact_timestamp_is_used_once_and_the_clock_goes_on_from_it() {
    let (_node, provider, clock) = at(1_000).await;
    let _: () = raw(&provider, "evm_setNextBlockTimestamp", [50_000]).await;
    let pending = provider
        .get_block(BlockId::pending())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(pending.header.timestamp, 50_000);
    assert_eq!(mine(&provider).await, 50_000);
    clock.advance(7);
    assert_eq!(mine(&provider).await, 50_007);
    let (code, message) = refused(&provider, "evm_setNextBlockTimestamp", ["0xc357"]).await;
    assert_eq!(code, -32000);
    assert!(
        message.contains("lower than or equal to previous block's timestamp"),
        "{message}"
    );
    let _: Value = raw(&provider, "evm_mine", [60_000]).await;
    assert_eq!(latest(&provider).await, 60_000);
    assert_eq!(refused(&provider, "evm_mine", [59_000]).await.0, -32000);
    assert_eq!(
        provider.get_block_number().await.unwrap(),
        3,
        "a refused call mines nothing"
    );
}

#[tokio::test]
async fn time_is_increased_set_and_spread_over_blocks() {
    let (_node, provider, _clock) = at(1_000).await;
    assert_eq!(
        raw::<_, i64>(&provider, "evm_increaseTime", [100]).await,
        100
    );
    assert_eq!(
        raw::<_, i64>(&provider, "evm_increaseTime", ["0x64"]).await,
        200
    );
    assert_eq!(mine(&provider).await, 1_200);
    assert_eq!(
        raw::<_, u64>(&provider, "evm_setTime", [5_000]).await,
        3_800
    );
    assert_eq!(mine(&provider).await, 5_000);
    let _: () = raw(&provider, "anvil_mine", ["0x3", "0x3c"]).await;
    assert_eq!(latest(&provider).await, 5_180);
    assert_eq!(provider.get_block_number().await.unwrap(), 5);
    assert_eq!(
        refused(&provider, "anvil_mine", [1_000_000]).await.0,
        -32005
    );
    assert_eq!(
        refused(&provider, "evm_increaseTime", [u64::MAX]).await.0,
        -32000
    );
}

#[tokio::test]
async fn the_genesis_timestamp_starts_the_clock() {
    let clock = ManualClock::at(1_000);
    let mut config = NodeConfig {
        genesis_timestamp: Some(77_000),
        ..Default::default()
    };
    clock.install(&mut config);
    let node = start(config).await;
    let provider = http(&node);
    clock.advance(5);
    assert_eq!(latest(&provider).await, 77_000);
    assert_eq!(mine(&provider).await, 77_005);
}

#[tokio::test]
async fn a_snapshot_brings_back_state_blocks_pool_and_time() {
    let (node, provider, clock) = at(1_000).await;
    let target = Address::repeat_byte(0xaa);
    let _: () = raw(&provider, "anvil_setBalance", json!([target, "0x5"])).await;
    let before = mine(&provider).await;
    let _: () = raw(&provider, "evm_setNextBlockTimestamp", [2_000]).await;
    let request = json!([{"from": address(&node, 0), "to": target, "value": "0x1"}]);
    let waiting: B256 = raw(&provider, "eth_sendTransaction", request).await;
    let first: String = raw(&provider, "evm_snapshot", ()).await;
    let second: String = raw(&provider, "evm_snapshot", ()).await;
    let _: () = raw(&provider, "anvil_setBalance", json!([target, "0x9"])).await;
    let _: i64 = raw(&provider, "evm_increaseTime", [10_000]).await;
    mine(&provider).await;
    mine(&provider).await;
    clock.advance(3);
    assert!(raw::<_, bool>(&provider, "evm_revert", [&first]).await);
    assert_eq!(latest(&provider).await, before);
    assert_eq!(provider.get_balance(target).await.unwrap(), U256::from(5));
    assert!(
        provider
            .get_transaction_receipt(waiting)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        provider
            .get_transaction_by_hash(waiting)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        !raw::<_, bool>(&provider, "evm_revert", [&second]).await,
        "a later one is used up"
    );
    assert_eq!(mine(&provider).await, 2_000, "the exact timestamp is back");
    assert_eq!(provider.get_balance(target).await.unwrap(), U256::from(6));
    assert!(
        provider
            .get_transaction_receipt(waiting)
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn interval_mining_makes_blocks_by_itself() {
    let mining = Mining::Interval(Duration::from_millis(50));
    let node = start(NodeConfig {
        mining,
        ..Default::default()
    })
    .await;
    let provider = ws(&node).await;
    let mut heads = provider.subscribe_blocks().await.unwrap().into_stream();
    let first = next(&mut heads).await.number;
    assert_eq!(next(&mut heads).await.number, first + 1);
    let _: () = raw(&provider, "evm_setIntervalMining", [0]).await;
    let _: () = raw(&provider, "evm_setAutomine", [true]).await;
    let probe = deploy(&provider).await;
    let _: () = raw(&provider, "evm_setIntervalMining", [1]).await;
    let pending = probe.set(U256::ONE).send().await.unwrap();
    assert!(pending.get_receipt().await.unwrap().status());
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn accounts_can_be_altered_and_impersonated() {
    let node = start(NodeConfig::default()).await;
    let provider = http(&node);
    let probe = deploy(&provider).await;
    let slot = json!([probe.address(), "0x0", B256::with_last_byte(8)]);
    assert!(raw::<_, bool>(&provider, "anvil_setStorageAt", slot).await);
    assert_eq!(probe.value().call().await.unwrap(), U256::from(8));
    let copy = Address::repeat_byte(0xcc);
    let code: Bytes = provider.get_code_at(*probe.address()).await.unwrap();
    let _: () = raw(&provider, "anvil_setCode", json!([copy, code])).await;
    let _: () = raw(&provider, "anvil_setNonce", json!([copy, "0x5"])).await;
    let _: () = raw(
        &provider,
        "hardhat_setBalance",
        json!([copy, "0xde0b6b3a7640000"]),
    )
    .await;
    assert_eq!(provider.get_code_at(copy).await.unwrap(), code);
    // Even an account with code can send while it is impersonated.
    let request =
        json!([{"from": copy, "to": probe.address(), "data": probe.set(U256::ONE).calldata()}]);
    let refusal = refused(&provider, "eth_sendTransaction", request.clone()).await;
    assert_eq!(refusal.1, "unknown account");
    let _: () = raw(&provider, "anvil_impersonateAccount", [copy]).await;
    let hash: B256 = raw(&provider, "eth_sendTransaction", request.clone()).await;
    let receipt = provider
        .get_transaction_receipt(hash)
        .await
        .unwrap()
        .unwrap();
    assert!(receipt.status());
    assert_eq!(receipt.from, copy);
    assert_eq!(provider.get_transaction_count(copy).await.unwrap(), 6);
    let _: () = raw(&provider, "anvil_stopImpersonatingAccount", [copy]).await;
    assert_eq!(
        refused(&provider, "eth_sendTransaction", request).await.1,
        "unknown account"
    );
}
