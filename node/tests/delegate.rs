//! What a node tells its clients about the delegate of its chain.

use crate::support::{deploy, http, raw, start};
use alloy::primitives::Address;
use cryptlet_node::{DelegateNotice, Node, NodeConfig, NodeError};
use serde_json::{Value, json};

fn notice(address: Address) -> Option<DelegateNotice> {
    let document = json!({ "delegate": address });
    Some(DelegateNotice { address, document })
}

#[tokio::test]
async fn a_node_that_was_told_hands_on_where_the_delegate_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = NodeConfig {
        state_file: Some(folder.path().join("chain")),
        ..NodeConfig::default()
    };
    let node = start(config.clone()).await;
    let untold: Value = raw(&http(&node), "bletchley_delegate", json!([])).await;
    assert_eq!(untold, Value::Null);
    let contract = *deploy(&http(&node)).await.address();
    node.shutdown().await.unwrap();

    config.delegate = notice(contract);
    let node = start(config).await;
    let told: Value = raw(&http(&node), "bletchley_delegate", json!([])).await;
    assert_eq!(told, json!({ "delegate": contract }));
}

#[tokio::test]
async fn a_delegate_that_is_not_on_the_chain_is_refused() {
    let config = NodeConfig {
        delegate: notice(Address::repeat_byte(0xdd)),
        ..NodeConfig::default()
    };
    let error = Node::start(config).await.unwrap_err();
    assert!(
        matches!(
            &error,
            NodeError::Config {
                field: "delegate",
                ..
            }
        ),
        "{error}"
    );
    assert!(!error.is_retryable());
}
