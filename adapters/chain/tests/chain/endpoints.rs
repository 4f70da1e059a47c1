//! Nodes that fail, and what is asked of the others.

use crate::support::{Puppet, Reply, World, nobody};
use alloy::{
    eips::Encodable2718,
    network::{NetworkTransactionBuilder, TransactionBuilder},
    primitives::{Bytes, U256},
    providers::Provider,
    rpc::types::TransactionRequest,
};
use cryptlet_chain::{
    BroadcastError, Chain, ChainError, EvmChain, EvmConfig, EvmLogChain, LogChain,
};
use cryptlet_types::subscription::Finality;
use serde_json::{Value, json};
use std::time::Duration;

const LATEST: Finality = Finality::Latest;

async fn number(chain: &EvmLogChain) -> u64 {
    chain.head(LATEST).await.unwrap().unwrap().number
}

#[tokio::test]
async fn one_that_is_dead_at_the_start_is_passed_over_and_used_when_it_is_back() {
    let world = World::new().await;
    let (_taken, dead) = nobody("http");
    let (_also_taken, dead_socket) = nobody("ws");
    let puppet = Puppet::of(&world).await;
    puppet.always(Reply::Hang);
    let config = EvmConfig {
        timeout: Duration::from_millis(500),
        ..world.config([dead, dead_socket, puppet.url.clone(), world.url.clone()])
    };
    let chain = EvmLogChain::open(config).await.unwrap();
    assert_eq!(chain.chain_id(), 31_337);
    assert_eq!(number(&chain).await, 1);
    puppet.always(Reply::Forward);
    puppet.asked();
    // It is tried out, and only then asked.
    while !puppet.asked().contains(&"eth_getBlockByNumber".to_owned()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    loop {
        assert_eq!(number(&chain).await, 1);
        if puppet.asked().len() == 1 {
            break;
        }
    }
}

#[tokio::test]
async fn where_none_answers_the_error_says_so_and_may_pass() {
    let world = World::new().await;
    let (_taken, dead) = nobody("http");
    let (_also_taken, other) = nobody("ws");
    let error = EvmLogChain::open(world.config([dead, other])).await;
    assert!(error.unwrap_err().is_retryable());
    let none = EvmConfig {
        urls: Vec::new(),
        ..world.config([])
    };
    let error = EvmLogChain::open(none).await.unwrap_err();
    assert!(matches!(error, ChainError::Url(_)), "{error}");
}

#[tokio::test]
async fn one_that_fails_midway_is_replaced_for_the_same_question() {
    let world = World::new().await;
    for reply in [
        Reply::Hang,
        Reply::Status(429),
        Reply::Status(503),
        Reply::Nonsense,
        Reply::Result(json!("0x")),
        Reply::Error(-32005, "daily request count exceeded, request rate limited"),
        Reply::Error(429, "exceeded its compute units per second capacity"),
        Reply::Error(-32603, "internal error"),
    ] {
        let puppet = Puppet::of(&world).await;
        let config = EvmConfig {
            // It is not tried again here.
            rest: Duration::from_secs(3600),
            ..world.config([puppet.url.clone(), world.url.clone()])
        };
        let chain = EvmLogChain::open(config).await.unwrap();
        number(&chain).await;
        assert!(!puppet.asked().is_empty(), "the first is preferred");
        puppet.always(reply.clone());
        assert_eq!(number(&chain).await, 1, "{reply:?}");
        assert_eq!(puppet.asked().len(), 1, "{reply:?}");
        world.provider.get_block_number().await.unwrap();
        number(&chain).await;
        assert_eq!(puppet.asked().len(), 0, "it rests: {reply:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_a_refusal_is_not_asked_of_another() {
    let world = World::new().await;
    let (first, second) = (Puppet::of(&world).await, Puppet::of(&world).await);
    let config = world.config([first.url.clone(), second.url.clone()]);
    let chain = EvmLogChain::open(config).await.unwrap();
    number(&chain).await;
    second.asked();
    first.always(Reply::Error(-32601, "no such method"));
    let error = chain.head(LATEST).await.unwrap_err();
    assert!(
        matches!(error, ChainError::Refused { code: -32601, .. }),
        "{error}"
    );
    assert!(second.asked().is_empty());
}

#[tokio::test]
async fn nodes_of_different_chains_are_refused_at_the_start_and_passed_over_later() {
    let world = World::new().await;
    let puppet = Puppet::of(&world).await;
    let another = |method: &str, _: &Value| match method {
        "eth_chainId" => Reply::Result(json!("0x1")),
        _ => Reply::Forward,
    };
    puppet.does(another);
    let config = world.config([puppet.url.clone(), world.url.clone()]);
    let error = EvmLogChain::open(config.clone()).await.unwrap_err();
    assert!(error.is_misconfigured(), "{error}");

    puppet.always(Reply::Forward);
    let chain = EvmLogChain::open(config).await.unwrap();
    number(&chain).await;
    puppet.always(Reply::Status(503));
    number(&chain).await;
    puppet.does(another);
    puppet.asked();
    // It is tried out, serves another chain, and is not asked for anything else.
    let mut asked = Vec::new();
    while asked.is_empty() {
        number(&chain).await;
        asked = puppet.asked();
    }
    number(&chain).await;
    asked.extend(puppet.asked());
    assert!(
        asked.iter().all(|method| method == "eth_chainId"),
        "{asked:?}"
    );
}

async fn block(world: &World, tag: &str) -> Value {
    world.rpc("eth_getBlockByNumber", json!([tag, false])).await
}

/// Answers with that block where the newest one is asked for.
fn stuck_at(block: Value) -> impl Fn(&str, &Value) -> Reply + Send + 'static {
    move |method, params| {
        if method == "eth_getBlockByNumber" && params[0] == "latest" {
            Reply::Result(block.clone())
        } else {
            Reply::Forward
        }
    }
}

#[tokio::test]
async fn a_newest_block_that_is_older_than_one_seen_is_not_believed() {
    let world = World::new().await;
    let puppet = Puppet::of(&world).await;
    let config = world.config([puppet.url.clone(), world.url.clone()]);
    let chain = EvmLogChain::open(config).await.unwrap();
    let old = block(&world, "latest").await;
    for _ in 0..5 {
        world.mine().await;
    }
    assert_eq!(number(&chain).await, 6);
    puppet.does(stuck_at(old));
    puppet.asked();
    assert_eq!(number(&chain).await, 6);
    assert_eq!(puppet.asked().len(), 1);
    number(&chain).await;
    assert!(puppet.asked().is_empty(), "it is not trusted for a while");
}

#[tokio::test]
async fn one_that_stands_still_behind_the_others_is_found_out_by_comparison() {
    let world = World::new().await;
    let puppet = Puppet::of(&world).await;
    puppet.does(stuck_at(block(&world, "latest").await));
    let config = EvmConfig {
        stall: Duration::ZERO,
        ..world.config([puppet.url.clone(), world.url.clone()])
    };
    let chain = EvmLogChain::open(config).await.unwrap();
    assert_eq!(number(&chain).await, 1);
    for _ in 0..3 {
        world.mine().await;
    }
    assert_eq!(number(&chain).await, 4);
}

#[tokio::test]
async fn the_only_one_is_waited_for_until_it_is_where_it_was() {
    let world = World::new().await;
    let puppet = Puppet::of(&world).await;
    let chain = EvmLogChain::open(world.config([puppet.url.clone()]))
        .await
        .unwrap();
    let old = block(&world, "latest").await;
    world.mine().await;
    world.mine().await;
    let head = chain.head(LATEST).await.unwrap().unwrap();
    puppet.does(stuck_at(old));
    let error = chain.head(LATEST).await.unwrap_err();
    assert!(
        matches!(error, ChainError::Behind { seen: 3, found: 1 }),
        "{error}"
    );
    assert!(error.is_retryable());
    puppet.does(|method, params| match method {
        "eth_getBlockByNumber" if params[0] == "0x3" => Reply::Result(Value::Null),
        _ => Reply::Forward,
    });
    let error = chain.header(3).await.unwrap_err();
    assert!(matches!(error, ChainError::Behind { .. }), "{error}");

    puppet.does(stuck_at(block(&world, "0x2").await));
    let waiting = chain.next_head(&head);
    let back = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.mine().await;
        puppet.always(Reply::Forward);
    };
    let (next, ()) = tokio::join!(waiting, back);
    assert_eq!(next.unwrap().number, 4);
}

#[tokio::test]
async fn a_chain_that_was_turned_back_is_believed_in_the_end() {
    let world = World::new().await;
    let snapshot = world.rpc("evm_snapshot", json!([])).await;
    world.mine().await;
    let config = EvmConfig {
        rollback_patience: Duration::from_millis(50),
        ..world.config([world.url.clone()])
    };
    let chain = EvmLogChain::open(config).await.unwrap();
    assert_eq!(number(&chain).await, 2);
    world.rpc("evm_revert", json!([snapshot])).await;
    assert!(chain.head(LATEST).await.is_err());
    loop {
        match chain.head(LATEST).await {
            Ok(head) => break assert_eq!(head.unwrap().number, 1),
            Err(error) => assert!(matches!(error, ChainError::Behind { .. }), "{error}"),
        }
    }
    assert_eq!(chain.header(2).await.unwrap(), None);
}

#[tokio::test]
async fn a_header_that_does_not_hash_to_its_block_is_asked_of_another() {
    let world = World::new().await;
    let puppet = Puppet::of(&world).await;
    let config = world.config([puppet.url.clone(), world.url.clone()]);
    let chain = EvmLogChain::open(config).await.unwrap();
    let mut forged = block(&world, "latest").await;
    forged["number"] = json!("0x3e8");
    puppet.does(stuck_at(forged.clone()));
    assert_eq!(number(&chain).await, 1);

    let alone = Puppet::of(&world).await;
    alone.does(stuck_at(forged));
    let chain = EvmLogChain::open(world.config([alone.url.clone()]))
        .await
        .unwrap();
    let error = chain.head(LATEST).await.unwrap_err();
    assert!(matches!(error, ChainError::Inconsistent(_)), "{error}");
}

async fn transfer(world: &World, nonce: u64) -> Bytes {
    let request = TransactionRequest::default()
        .with_from(world.account)
        .with_to(world.account)
        .with_value(U256::from(1))
        .with_nonce(nonce)
        .with_chain_id(31_337)
        .with_gas_limit(21_000)
        .with_max_fee_per_gas(100_000_000_000)
        .with_max_priority_fee_per_gas(1_000_000_000);
    let signed = request.build(&world.wallet).await.unwrap();
    signed.encoded_2718().into()
}

#[tokio::test]
async fn a_transaction_is_handed_to_all_and_one_that_takes_it_is_enough() {
    let world = World::new().await;
    let (first, second) = (Puppet::of(&world).await, Puppet::of(&world).await);
    let config = world.config([first.url.clone(), second.url.clone()]);
    let chain = EvmChain::open(config).await.unwrap();
    first.always(Reply::Error(-32000, "invalid sender"));
    second.asked();
    let raw = transfer(&world, 1).await;
    let hash = chain.broadcast(&raw).await.unwrap();
    assert_eq!(second.asked(), ["eth_sendRawTransaction"]);
    assert!(
        world
            .provider
            .get_transaction_receipt(hash)
            .await
            .unwrap()
            .is_some()
    );

    let refused = chain
        .broadcast(&transfer(&world, 1).await)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, BroadcastError::Refused(_)),
        "the first's word: {refused}"
    );
    first.always(Reply::Status(503));
    let refused = chain
        .broadcast(&transfer(&world, 1).await)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, BroadcastError::NonceTooLow),
        "one's that answers: {refused}"
    );
    second.always(Reply::Error(-32000, "already known"));
    first.always(Reply::Error(-32000, "invalid sender"));
    let known = chain.broadcast(&raw).await.unwrap_err();
    assert!(matches!(known, BroadcastError::AlreadyKnown), "{known}");
}
