//! Subscriptions read from a real chain, reorganisations included.

use alloy::{
    network::{EthereumWallet, TransactionBuilder},
    primitives::{Address, B256, Bytes, FixedBytes, U256},
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::types::{TransactionReceipt, TransactionRequest},
    signers::local::PrivateKeySigner,
    sol_types::SolValue,
};
use cryptlet_chain::{
    Chain, ChainError, ChangeKind, EvmChain, EvmConfig,
    evm::{
        abi::{CryptletRegister, CryptoDelegate},
        artifacts,
    },
};
use cryptlet_node::{Node, NodeConfig};
use cryptlet_types::{ClockSpec, Subject, TriggerSpec};
use cryptlet_watch::{Cursor, SubscriptionWatch, WatchError};
use std::{sync::Arc, time::Duration};

struct World {
    _node: Node,
    provider: DynProvider,
    delegate: Address,
    cryptlet: Address,
    chain: Arc<EvmChain>,
}

impl World {
    async fn new() -> Self {
        let node = Node::start(NodeConfig::default()).await.unwrap();
        let (publisher, key) = node.accounts()[0];
        let _known_already = rustls::crypto::ring::default_provider().install_default();
        let provider = ProviderBuilder::new()
            .with_simple_nonce_management()
            .wallet(EthereumWallet::from(
                PrivateKeySigner::from_bytes(&key).unwrap(),
            ))
            .connect_http(node.url().parse().unwrap())
            .erased();
        let board = (publisher, vec![publisher], U256::from(1)).abi_encode_params();
        let register = deploy(&provider, artifacts::CRYPTLET_REGISTER, &board).await;
        let delegate = deploy(
            &provider,
            artifacts::CRYPTO_DELEGATE,
            &register.abi_encode(),
        )
        .await;
        let contract = CryptletRegister::new(register, &provider);
        let version = CryptletRegister::Version {
            label: "1".into(),
            packageDigest: B256::repeat_byte(1),
            headerDigest: B256::repeat_byte(2),
            manifestDigest: B256::repeat_byte(3),
            uri: String::new(),
        };
        let call = contract.register("watcher".into(), version, publisher, u64::MAX);
        send(&provider, call.into_transaction_request()).await;
        let cryptlet = contract.cryptletId(publisher, "watcher".into());
        let cryptlet = cryptlet.call().await.unwrap();
        let config = EvmConfig {
            // A chain that was turned back is believed at once.
            rollback_patience: Duration::ZERO,
            ..EvmConfig::new(node.url(), delegate)
        };
        let chain = EvmChain::open(config).await.unwrap();
        Self {
            _node: node,
            provider,
            delegate,
            cryptlet,
            chain: Arc::new(chain),
        }
    }

    async fn subscribe(&self) -> Subject {
        let spec = TriggerSpec::Clock(ClockSpec {
            cron: "0 16 * * *".into(),
            time_zone: "Europe/Berlin".into(),
        });
        let subscription = CryptoDelegate::Subscription {
            cryptlet: self.cryptlet,
            onBehalfOf: Address::ZERO,
            callback: FixedBytes([1, 2, 3, 4]),
            callbackGas: 50_000,
            validity: 600,
            trigger: TriggerSpec::CLOCK,
            condition: spec.encode_condition(),
            params: Bytes::new(),
        };
        let contract = CryptoDelegate::new(self.delegate, &self.provider);
        let call = contract.subscribe(subscription);
        let receipt = send(&self.provider, call.into_transaction_request()).await;
        Subject(receipt.logs()[0].topics()[1])
    }

    async fn unsubscribe(&self, subject: Subject) {
        let contract = CryptoDelegate::new(self.delegate, &self.provider);
        let call = contract.unsubscribe(self.cryptlet, subject.0);
        send(&self.provider, call.into_transaction_request()).await;
    }

    async fn rpc(&self, method: &'static str, params: serde_json::Value) -> serde_json::Value {
        let request = self.provider.raw_request(method.into(), params);
        request.await.unwrap()
    }

    fn watch(&self, span: u64) -> SubscriptionWatch {
        SubscriptionWatch::new(self.chain.clone(), 0, span)
    }
}

async fn deploy(provider: &DynProvider, artifact: &str, arguments: &[u8]) -> Address {
    let code = artifacts::init_code(artifact, arguments).unwrap();
    let request = TransactionRequest::default().with_deploy_code(code);
    send(provider, request).await.contract_address.unwrap()
}

/// The node mines at once, so the receipt is there.
async fn send(provider: &DynProvider, request: TransactionRequest) -> TransactionReceipt {
    let pending = provider.send_transaction(request).await.unwrap();
    let receipt = provider.get_transaction_receipt(*pending.tx_hash()).await;
    let receipt = receipt.unwrap().unwrap();
    assert!(receipt.status(), "reverted: {receipt:?}");
    receipt
}

#[tokio::test]
async fn changes_are_read_in_order_from_any_cursor_in_any_span() {
    let world = World::new().await;
    let first = world.subscribe().await;
    let second = world.subscribe().await;
    world.unsubscribe(first).await;
    for span in [1, 3, 1000] {
        let watch = world.watch(span);
        let (mut cursor, mut seen, mut steps) = (None, Vec::new(), 0);
        loop {
            let advance = watch.next(cursor).await.unwrap();
            let caught_up = advance.is_caught_up();
            let block = world.chain.header(advance.cursor.number).await.unwrap();
            assert_eq!(block.unwrap().hash, advance.cursor.hash);
            cursor = Some(advance.cursor);
            seen.extend(advance.changes);
            steps += 1;
            if caught_up {
                break;
            }
        }
        let kinds: Vec<_> = seen
            .iter()
            .map(|change| {
                (
                    change.subject,
                    matches!(change.kind, ChangeKind::Subscribed(_)),
                )
            })
            .collect();
        assert_eq!(kinds, [(first, true), (second, true), (first, false)]);
        assert!(span > 10 || steps > 1, "spans were used");
    }
}

#[tokio::test]
async fn what_comes_later_is_waited_for() {
    let world = World::new().await;
    let watch = world.watch(1000);
    let cursor = watch.next(None).await.unwrap().cursor;
    let waiting = tokio::spawn(async move { watch.next(Some(cursor)).await.unwrap() });
    tokio::task::yield_now().await;
    let subject = world.subscribe().await;
    let advance = tokio::time::timeout(Duration::from_secs(10), waiting).await;
    let advance = advance.unwrap().unwrap();
    assert_eq!(advance.changes[0].subject, subject);
    assert_eq!(advance.cursor.number, cursor.number + 1);
}

#[tokio::test]
async fn a_reorganisation_below_the_cursor_is_never_silent() {
    let world = World::new().await;
    let watch = world.watch(1000);
    let snapshot = world.rpc("evm_snapshot", serde_json::json!([])).await;
    world.subscribe().await;
    let before = watch.next(None).await.unwrap();
    assert_eq!(before.changes.len(), 1);
    world.rpc("evm_revert", serde_json::json!([snapshot])).await;
    let reorged = |error: WatchError, cursor: Cursor| match error {
        WatchError::Reorged {
            number, expected, ..
        } => assert_eq!((number, expected), (cursor.number, cursor.hash)),
        WatchError::Chain(error) => panic!("{error}"),
    };
    let shorter = watch.next(Some(before.cursor)).await.unwrap_err();
    assert!(!shorter.is_retryable());
    reorged(shorter, before.cursor);
    // Another block takes the place of the one that was read.
    let transfer = TransactionRequest::default()
        .with_to(Address::repeat_byte(5))
        .with_value(U256::from(1));
    send(&world.provider, transfer).await;
    reorged(
        watch.next(Some(before.cursor)).await.unwrap_err(),
        before.cursor,
    );
}

#[tokio::test]
async fn a_chain_that_cannot_be_read_is_an_error_that_says_so() {
    let world = World::new().await;
    let watch = world.watch(10);
    let cursor = watch.next(None).await.unwrap().cursor;
    drop(world);
    // The node stops in the background; until it has, there is nothing new to wait for.
    let error = watch.next(Some(cursor)).await.unwrap_err();
    assert!(matches!(
        error,
        WatchError::Chain(ChainError::Transport { .. } | ChainError::Timeout { .. })
    ));
    assert!(error.is_retryable());
}
