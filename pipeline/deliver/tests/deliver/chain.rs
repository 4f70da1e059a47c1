//! What is read from a chain: heads, subscriptions, and nodes that are not what they should be.

use crate::world::{Callback, world};
use alloy::primitives::{Address, Bytes};
use cryptlet_chain::{Chain, ChainError, ChangeKind, EvmChain, EvmConfig};
use cryptlet_types::{ClockSpec, TriggerSpec};
use std::time::Duration;

#[tokio::test]
async fn subscriptions_are_read_in_order_and_malformed_ones_are_refused_by_name() {
    let world = world().await;
    let good = world.consumer(Callback::Stores, 60_000).await;
    let bad = world
        .subscribe(1, Bytes::from_static(b"not abi"), Bytes::new())
        .await;
    let spec = TriggerSpec::Clock(ClockSpec {
        cron: "0 16 * * *".into(),
        time_zone: "Europe/Berlin".into(),
    });
    let direct = world
        .subscribe(1, spec.encode_condition(), Bytes::from_static(&[7]))
        .await;
    let head = world.chain.head().await.unwrap();
    let config = EvmConfig {
        log_span: 2,
        ..EvmConfig::new(&world.url, world.delegate)
    };
    let chain = EvmChain::open(config).await.unwrap();
    let changes = chain.subscription_changes(0..=head.number).await.unwrap();
    let subjects: Vec<_> = changes.iter().map(|change| change.subject).collect();
    assert_eq!(subjects, [good.subject, bad, direct]);
    let ChangeKind::Subscribed(first) = &changes[0].kind else {
        panic!("{:?}", changes[0])
    };
    assert_eq!((first.consumer, first.callback_gas), (good.address, 60_000));
    assert_eq!((first.cryptlet, &first.trigger), (world.cryptlet, &spec));
    let block = chain.header(changes[0].block).await.unwrap().unwrap();
    assert_eq!(first.since, block.timestamp);
    let ChangeKind::Refused { reason } = &changes[1].kind else {
        panic!("{:?}", changes[1])
    };
    assert!(reason.starts_with("condition: "), "{reason}");
    assert_eq!(
        changes,
        world
            .chain
            .subscription_changes(0..=head.number)
            .await
            .unwrap(),
        "spans do not matter"
    );
}

#[tokio::test]
async fn a_new_head_is_noticed_by_polling_and_by_push() {
    let world = world().await;
    let node = world.node.as_ref().unwrap();
    for url in [node.url(), node.ws_url()] {
        let config = EvmConfig {
            poll_interval: Duration::from_millis(20),
            ..EvmConfig::new(url, world.delegate)
        };
        let chain = EvmChain::open(config).await.unwrap();
        let head = chain.head().await.unwrap();
        let next = tokio::spawn(async move { chain.next_head(&head).await.unwrap() });
        tokio::task::yield_now().await;
        assert!(!next.is_finished());
        world.mine().await;
        let next = next.await.unwrap();
        assert_eq!((next.number, next.parent), (head.number + 1, head.hash));
    }
}

#[tokio::test]
async fn pushed_heads_do_not_wait_for_the_poll() {
    let world = world().await;
    let url = world.node.as_ref().unwrap().ws_url();
    let config = EvmConfig {
        poll_interval: Duration::from_secs(3600),
        ..EvmConfig::new(url, world.delegate)
    };
    let chain = EvmChain::open(config).await.unwrap();
    let mut head = chain.head().await.unwrap();
    // The subscription may still be on its way when the first blocks are made.
    for _ in 0..50 {
        world.mine().await;
        let next = tokio::time::timeout(Duration::from_millis(200), chain.next_head(&head)).await;
        if let Ok(next) = next {
            head = next.unwrap();
        }
    }
    let waiting = chain.next_head(&head);
    let mine = async {
        tokio::task::yield_now().await;
        world.mine().await;
    };
    let waiting = tokio::time::timeout(Duration::from_secs(5), waiting);
    let (next, ()) = tokio::join!(waiting, mine);
    assert_eq!(next.unwrap().unwrap().number, head.number + 1);
}

#[tokio::test]
async fn what_is_not_a_delegate_or_a_node_is_refused() {
    let world = world().await;
    let nobody = Address::repeat_byte(1);
    let error = EvmChain::connect(&world.url, nobody).await.unwrap_err();
    assert!(matches!(error, ChainError::NoContract { .. }) && !error.is_retryable());
    for url in ["", "ftp://127.0.0.1", "not a url"] {
        let error = EvmChain::connect(url, nobody).await.unwrap_err();
        assert!(matches!(error, ChainError::Url(_)), "{error}");
    }
    let error = EvmChain::connect("http://127.0.0.1:1", nobody)
        .await
        .unwrap_err();
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_node_that_hangs_is_given_up_in_time() {
    let world = world().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let config = EvmConfig {
        timeout: Duration::from_millis(50),
        ..EvmConfig::new(url, world.delegate)
    };
    let error = EvmChain::open(config).await.unwrap_err();
    assert!(matches!(error, ChainError::Timeout { .. }) && error.is_retryable());
}

#[tokio::test]
async fn an_unknown_subscription_has_no_sequence() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let sequence = |cryptlet| world.chain.sequence(cryptlet, consumer.subject);
    assert_eq!(sequence(world.cryptlet).await.unwrap(), Some(0));
    let other = cryptlet_types::CryptletId(Address::ZERO);
    assert_eq!(sequence(other).await.unwrap(), None);
}

#[tokio::test]
async fn what_a_node_says_to_a_transaction_is_understood() {
    world().await.check_broadcast_errors().await;
}
