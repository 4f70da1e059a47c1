//! The chain outlives its process when it has a state file.

use std::path::Path;

use crate::support::{ManualClock, Probe, address, deploy, http, raw, start};
use alloy::{
    eips::BlockId,
    primitives::{Address, B256, U256},
    providers::Provider,
};
use cryptlet_node::{JournalError, Mining, Node, NodeConfig, NodeError};
use serde_json::{Value, json};

fn config(file: &Path) -> NodeConfig {
    NodeConfig {
        state_file: Some(file.to_owned()),
        ..Default::default()
    }
}

/// Everything that a client can see of the latest block and the node's pool.
async fn picture(node: &Node) -> Vec<Value> {
    let provider = http(node);
    let mut seen = Vec::new();
    for (method, params) in [
        ("eth_getBlockByNumber", json!(["latest", true])),
        ("eth_getBlockReceipts", json!(["latest"])),
        (
            "eth_getTransactionCount",
            json!([address(node, 0), "pending"]),
        ),
        ("eth_getProof", json!([address(node, 0), [], "latest"])),
        (
            "eth_getBalance",
            json!([Address::repeat_byte(0xaa), "latest"]),
        ),
    ] {
        seen.push(raw(&provider, method, params).await);
    }
    seen
}

#[tokio::test]
async fn a_restarted_node_has_the_same_chain_state_pool_and_clock() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chain");
    let clock = ManualClock::at(1_000);
    let mut settings = config(&file);
    clock.install(&mut settings);
    let node = start(settings.clone()).await;
    let provider = http(&node);
    let probe = deploy(&provider).await;
    probe
        .set(U256::from(3))
        .send()
        .await
        .unwrap()
        .get_receipt()
        .await
        .unwrap();
    let target = Address::repeat_byte(0xaa);
    let _: () = raw(&provider, "anvil_setBalance", json!([target, "0x5"])).await;
    let _: () = raw(&provider, "anvil_impersonateAccount", [target]).await;
    let _: () = raw(
        &provider,
        "anvil_setBalance",
        json!([target, "0xde0b6b3a7640000"]),
    )
    .await;
    let request = json!([{"from": target, "to": probe.address(),
        "data": probe.set(U256::from(4)).calldata()}]);
    let _: B256 = raw(&provider, "eth_sendTransaction", request).await;
    let snapshot: String = raw(&provider, "evm_snapshot", ()).await;
    probe
        .set(U256::from(5))
        .send()
        .await
        .unwrap()
        .get_receipt()
        .await
        .unwrap();
    assert!(raw::<_, bool>(&provider, "evm_revert", [snapshot]).await);
    let _: () = raw(&provider, "evm_setNextBlockTimestamp", [90_000]).await;
    let _: () = raw(&provider, "evm_setAutomine", [false]).await;
    let waiting = json!([{"from": address(&node, 0), "to": target, "value": "0x1"}]);
    let _: B256 = raw(&provider, "eth_sendTransaction", waiting).await;
    let before = picture(&node).await;
    node.shutdown().await.unwrap();

    settings.mining = Mining::Manual;
    let node = start(settings).await;
    assert_eq!(picture(&node).await, before);
    let provider = http(&node);
    let probe = Probe::new(*probe.address(), provider.clone());
    assert_eq!(probe.value().call().await.unwrap(), U256::from(4));
    assert_eq!(
        probe
            .value()
            .block(BlockId::number(2))
            .call()
            .await
            .unwrap(),
        U256::from(3)
    );
    let _: Value = raw(&provider, "evm_mine", ()).await;
    let block = provider
        .get_block(BlockId::latest())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (block.header.timestamp, block.transactions.len()),
        (90_000, 1)
    );
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_survives_without_a_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chain");
    let node = start(config(&file)).await;
    let probe = deploy(&http(&node)).await;
    let receipt = probe
        .set(U256::from(3))
        .send()
        .await
        .unwrap()
        .get_receipt()
        .await
        .unwrap();
    // What a process that is killed now leaves behind, in the middle of its next write.
    let killed = folder.path().join("killed");
    let mut left = std::fs::read(&file).unwrap();
    left.extend_from_slice(b"{\"block\":{\"header\":\"0xf9");
    std::fs::write(&killed, left).unwrap();
    let node = start(config(&killed)).await;
    let found = http(&node)
        .get_transaction_receipt(receipt.transaction_hash)
        .await
        .unwrap();
    assert_eq!(found, Some(receipt));
}

#[tokio::test]
async fn a_state_file_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chain");
    let node = start(config(&file)).await;
    deploy(&http(&node)).await;
    let busy = Node::start(config(&file)).await.unwrap_err();
    assert!(
        matches!(busy, NodeError::StateFile(JournalError::InUse { .. })),
        "{busy}"
    );
    assert!(busy.is_retryable());
    node.shutdown().await.unwrap();

    let other_chain = NodeConfig {
        chain_id: 1,
        ..config(&file)
    };
    let other_accounts = NodeConfig {
        accounts: cryptlet_node::DevAccounts {
            count: 3,
            ..Default::default()
        },
        ..config(&file)
    };
    let other_gas = NodeConfig {
        gas_limit: 20_000_000,
        ..config(&file)
    };
    for (settings, field) in [
        (other_chain, "chainId"),
        (other_accounts, "hash"),
        (other_gas, "gasLimit"),
    ] {
        let error = Node::start(settings).await.unwrap_err();
        assert!(!error.is_retryable());
        assert!(
            error.to_string().contains(&format!("line 1: {field} is")),
            "{error}"
        );
    }

    // A block whose transaction was exchanged does not come out as recorded.
    let text = std::fs::read_to_string(&file).unwrap();
    let start_of = text.find("\"raw\":\"").unwrap();
    let (head, tail) = text.split_at(start_of + 60);
    let digit = if tail.starts_with('0') { "1" } else { "0" };
    std::fs::write(&file, format!("{head}{digit}{}", &tail[1..])).unwrap();
    let error = Node::start(config(&file)).await.unwrap_err();
    assert!(
        matches!(
            error,
            NodeError::StateFile(JournalError::Line { line: 3, .. })
        ),
        "{error}"
    );
}

#[tokio::test]
async fn configurations_that_cannot_work_name_their_field() {
    let zero_interval = Mining::Interval(std::time::Duration::ZERO);
    for (settings, field) in [
        (
            NodeConfig {
                chain_id: 0,
                ..Default::default()
            },
            "chain_id",
        ),
        (
            NodeConfig {
                gas_limit: 1,
                ..Default::default()
            },
            "gas_limit",
        ),
        (
            NodeConfig {
                mining: zero_interval,
                ..Default::default()
            },
            "mining",
        ),
        (
            NodeConfig {
                genesis_timestamp: Some(u64::MAX),
                ..Default::default()
            },
            "genesis_timestamp",
        ),
    ] {
        match Node::start(settings).await.unwrap_err() {
            NodeError::Config { field: named, .. } => assert_eq!(named, field),
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn only_a_loopback_node_serves_development_methods() {
    let settings = NodeConfig {
        listen: "0.0.0.0:0".parse().unwrap(),
        ..Default::default()
    };
    let node = start(settings).await;
    let url = node.url().replace("0.0.0.0", "127.0.0.1");
    let provider = alloy::providers::ProviderBuilder::new()
        .connect_http(url.parse().unwrap())
        .erased();
    assert_eq!(provider.get_block_number().await.unwrap(), 0);
    for method in [
        "evm_mine",
        "anvil_setBalance",
        "eth_sendTransaction",
        "eth_accounts",
        "eth_sign",
    ] {
        assert_eq!(
            crate::support::refused(&provider, method, ()).await.0,
            -32601,
            "{method}"
        );
    }
}
