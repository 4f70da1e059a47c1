//! Nodes that go away, transactions that are not mined, and hosts that are killed.

use crate::world::{Callback, MemoryOutbox, quick, receipt, world, world_on};
use alloy::{primitives::U256, providers::Provider};
use cryptlet_chain::{Chain, Delivery};
use cryptlet_deliver::{DeliverConfig, DeliverError, Outcome, fees::Offer, transaction};
use cryptlet_node::{Node, NodeConfig};
use futures::future::join_all;
use std::{collections::BTreeMap, pin::pin, time::Duration};

fn delivered(outcome: Outcome) -> Delivery {
    match outcome {
        Outcome::Delivered(delivery) => delivery,
        other => panic!("{other:?}"),
    }
}

/// Long waits: nothing is sent a second time.
fn patient() -> DeliverConfig {
    DeliverConfig {
        resend_after: Duration::from_secs(3600),
        ..quick()
    }
}

#[tokio::test]
async fn a_transaction_that_is_not_mined_is_replaced_by_one_that_pays_more() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let order = world.order(&consumer, 1, 7).await;
    let outbox = MemoryOutbox::new();
    let deliverer = world.deliverer(&outbox);
    world.automine(false).await;
    let task = tokio::spawn(async move { deliverer.deliver(&order).await.unwrap() });
    outbox.wait_for(3).await;
    let delivery = delivered(world.mine_until(task).await.unwrap());
    let written = outbox.written();
    assert!(written.iter().any(|sent| sent.hash == delivery.transaction));
    for pair in written.windows(2) {
        assert_eq!(pair[0].nonce, pair[1].nonce);
        assert!(pair[1].max_fee_per_gas * 8 >= pair[0].max_fee_per_gas * 9);
        assert!(pair[1].max_priority_fee_per_gas * 8 >= pair[0].max_priority_fee_per_gas * 9);
    }
    assert_eq!(world.sequence(&consumer).await, 1);
}

#[tokio::test]
async fn replacements_stop_at_the_cap() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let order = world.order(&consumer, 1, 7).await;
    let outbox = MemoryOutbox::new();
    let fees = world.chain.fees().await.unwrap();
    let cap = (fees.base_fee * 2 + fees.priority_fee) * 13 / 10;
    let config = DeliverConfig {
        max_fee_per_gas: cap,
        resend_after: Duration::from_millis(10),
        ..quick()
    };
    let deliverer = world.deliverer_with(&outbox, config);
    world.automine(false).await;
    let mut delivery = pin!(deliverer.deliver(&order));
    tokio::select! {
        outcome = &mut delivery => panic!("nothing is mined: {outcome:?}"),
        () = outbox.wait_for(3) => {}
    }
    let stuck = tokio::time::timeout(Duration::from_millis(200), delivery).await;
    assert!(stuck.is_err(), "nothing is mined");
    let written = outbox.written();
    assert_eq!(
        written.len(),
        3,
        "1, 1.125 and 1.27 of the first offer, then the cap"
    );
    assert!(written.iter().all(|sent| sent.max_fee_per_gas <= cap));
}

#[tokio::test]
async fn a_host_killed_between_outbox_and_broadcast_sends_the_same_transaction() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let order = world.order(&consumer, 1, 7).await;
    let killed = MemoryOutbox::killed_after_writing();
    let error = world.deliverer(&killed).deliver(&order).await.unwrap_err();
    assert!(matches!(error, DeliverError::Outbox(_)), "{error}");
    assert_eq!(world.sequence(&consumer).await, 0, "nothing was broadcast");

    let outbox = MemoryOutbox::new();
    let deliverer = world.deliverer(&outbox);
    let outcome = deliverer.resume(&order, &killed.written()).await.unwrap();
    assert_eq!(delivered(outcome).transaction, killed.written()[0].hash);
    assert!(outbox.written().is_empty(), "no second transaction");
}

#[tokio::test]
async fn a_host_killed_between_broadcast_and_outcome_finds_the_outcome() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let order = world.order(&consumer, 1, 7).await;
    let before = MemoryOutbox::new();
    world.automine(false).await;
    let deliverer = world.deliverer_with(&before, patient());
    let killed = tokio::spawn({
        let order = order.clone();
        async move { deliverer.deliver(&order).await }
    });
    before.wait_for(1).await;
    let account = before.written()[0].transmitter;
    while world.chain.nonce(account, true).await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    killed.abort();
    assert!(killed.await.unwrap_err().is_cancelled());

    for mined in [false, true] {
        if mined {
            world.mine().await;
        }
        let after = MemoryOutbox::new();
        let deliverer = world.deliverer_with(&after, patient());
        let written = before.written();
        let resumed = deliverer.resume(&order, &written);
        let result = tokio::time::timeout(Duration::from_millis(300), resumed).await;
        assert!(after.written().is_empty(), "no second transaction");
        match result {
            Ok(outcome) => {
                assert!(mined);
                let delivery = delivered(outcome.unwrap());
                assert_eq!(delivery.transaction, before.written()[0].hash);
            }
            Err(_) => assert!(!mined, "the outcome was there to be found"),
        }
    }
    assert_eq!(world.sequence(&consumer).await, 1);
}

#[tokio::test]
async fn a_report_that_somebody_else_delivered_while_the_host_was_down_is_adopted() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let order = world.order(&consumer, 1, 7).await;
    let killed = MemoryOutbox::killed_after_writing();
    world.deliverer(&killed).deliver(&order).await.unwrap_err();
    let other = world.submit(&order.report).await;
    let outbox = MemoryOutbox::new();
    let deliverer = world.deliverer(&outbox);
    let outcome = deliverer.resume(&order, &killed.written()).await.unwrap();
    assert_eq!(delivered(outcome).transaction, other.transaction_hash);
    assert_eq!(world.sequence(&consumer).await, 1);
}

#[tokio::test]
async fn a_nonce_is_not_used_up_by_a_broadcast_that_failed() {
    let world = world().await;
    let first = world.consumer(Callback::Stores, 60_000).await;
    let second = world.consumer(Callback::Stores, 60_000).await;
    let account = cryptlet_deliver::TransmitterSigner::address(world.transmitter.as_ref());
    let balance = |wei: &str| serde_json::json!([account, wei]);
    world.rpc("anvil_setBalance", balance("0x1")).await;
    let outbox = MemoryOutbox::new();
    let deliverer = world.deliverer(&outbox);
    let mut tasks = Vec::new();
    for (consumer, word) in [(&first, 1), (&second, 2)] {
        let order = world.order(consumer, 1, word).await;
        let deliverer = deliverer.clone();
        tasks.push(tokio::spawn(async move {
            deliverer.deliver(&order).await.unwrap()
        }));
    }
    outbox.wait_for(2).await;
    world
        .rpc("anvil_setBalance", balance("0xde0b6b3a7640000"))
        .await;
    for task in tasks {
        delivered(task.await.unwrap());
    }
    assert_eq!(world.chain.nonce(account, false).await.unwrap(), 2);
    assert_eq!(world.word(&first).await, U256::from(1));
    assert_eq!(world.word(&second).await, U256::from(2));
}

#[tokio::test]
async fn a_gap_before_a_broadcast_transaction_is_filled() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let order = world.order(&consumer, 1, 7).await;
    let (to, input) = world.chain.delivery_call(&order.report, None);
    let call = transaction::Call {
        chain_id: world.domain().chain_id,
        to,
        input,
        gas_limit: 500_000,
    };
    let fees = world.chain.fees().await.unwrap();
    let offer = Offer::suggested(fees, u128::MAX);
    let gapped = transaction::sign(&call, 1, offer, world.transmitter.as_ref());
    let gapped = gapped.await.unwrap();
    let outbox = MemoryOutbox::new();
    let deliverer = world.deliverer(&outbox);
    let resumed = deliverer
        .resume(&order, std::slice::from_ref(&gapped))
        .await;
    delivered(resumed.unwrap());
    assert_eq!(outbox.written()[0].nonce, 0);
    let queued = receipt(&world.provider, gapped.hash).await;
    assert!(!queued.status(), "the second delivery consumes nothing");
    assert_eq!(world.sequence(&consumer).await, 1);
}

#[tokio::test]
async fn a_report_that_expires_in_the_pool_gives_its_nonce_to_the_next() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let order = world.order(&consumer, 1, 7).await;
    let outbox = MemoryOutbox::new();
    let deliverer = world.deliverer_with(&outbox, patient());
    world.automine(false).await;
    let task = tokio::spawn({
        let (deliverer, order) = (deliverer.clone(), order.clone());
        async move { deliverer.deliver(&order).await.unwrap() }
    });
    outbox.wait_for(1).await;
    world
        .rpc("evm_increaseTime", serde_json::json!([7200]))
        .await;
    world.mine().await;
    assert_eq!(task.await.unwrap(), Outcome::Expired);
    world.automine(true).await;
    let again = world.order(&consumer, 1, 8).await;
    delivered(deliverer.deliver(&again).await.unwrap());
    assert_eq!(world.word(&consumer).await, U256::from(8));
}

#[tokio::test]
async fn a_node_that_is_down_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let config = NodeConfig {
        state_file: Some(folder.path().join("chain")),
        ..NodeConfig::default()
    };
    let mut world = world_on(config.clone()).await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let order = world.order(&consumer, 1, 7).await;
    let address = world.url.trim_start_matches("http://").parse().unwrap();
    world.node.take().unwrap().shutdown().await.unwrap();

    let outbox = MemoryOutbox::new();
    let deliverer = world.deliverer(&outbox);
    let task = tokio::spawn(async move { deliverer.deliver(&order).await });
    let error = world.chain.head().await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let config = NodeConfig {
        listen: address,
        ..config
    };
    world.node = Some(Node::start(config).await.unwrap());
    delivered(task.await.unwrap().unwrap());
    assert_eq!(outbox.written().len(), 1);
    assert_eq!(world.sequence(&consumer).await, 1);
}

#[tokio::test]
async fn another_chain_at_the_same_address_is_not_delivered_to() {
    let mut world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let order = world.order(&consumer, 1, 7).await;
    let address = world.url.trim_start_matches("http://").parse().unwrap();
    world.node.take().unwrap().shutdown().await.unwrap();
    assert!(world.chain.head().await.is_err());
    let config = NodeConfig {
        listen: address,
        chain_id: 1234,
        ..NodeConfig::default()
    };
    let _other = Node::start(config).await.unwrap();
    let outbox = MemoryOutbox::new();
    let error = world.deliverer(&outbox).deliver(&order).await.unwrap_err();
    assert!(error.to_string().contains("serves chain 1234"), "{error}");
    assert!(outbox.written().is_empty());
    assert_eq!(world.provider.get_chain_id().await.unwrap(), 1234);
}

#[tokio::test]
async fn on_a_chain_that_is_too_slow_fewer_transactions_wait_at_once() {
    let world = world().await;
    let mut consumers = Vec::new();
    for _ in 0..4 {
        consumers.push(world.consumer(Callback::Stores, 60_000).await);
    }
    let outbox = MemoryOutbox::new();
    let deliverer = world.deliverer_with(&outbox, patient());
    world.automine(false).await;
    let orders = || join_all(consumers.iter().map(|one| world.order(one, 1, 7)));
    let late = orders().await;
    let late = join_all(late.iter().map(|order| deliverer.deliver(order)));
    let (outcomes, ()) = tokio::join!(late, async {
        outbox.wait_for(4).await;
        let hours = serde_json::json!([7200]);
        world.rpc("evm_increaseTime", hours).await;
        world.mine().await;
    });
    for outcome in outcomes {
        assert_eq!(outcome.unwrap(), Outcome::Expired);
    }

    let anew = orders().await;
    let anew = join_all(anew.iter().map(|order| deliverer.deliver(order)));
    let outcomes = world.mine_until(anew).await;
    let mut blocks = BTreeMap::<_, usize>::new();
    for outcome in outcomes {
        *blocks.entry(delivered(outcome.unwrap()).block).or_default() += 1;
    }
    let most = blocks.values().max();
    assert!(
        most <= Some(&2),
        "four came too late, so two wait at once: {blocks:?}"
    );
}
