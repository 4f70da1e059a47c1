//! Logs of any contract, from nodes that limit what may be asked for.

use crate::support::{Puppet, Reply, World, topic};
use alloy::primitives::{Address, B256, U64};
use cryptlet_chain::{
    ChainError, EvmConfig, EvmLogChain, HeaderRule, LogChain, LogFilter, LogPayload,
};
use cryptlet_types::{event::MAX_TRIGGER_BYTES, subscription::Finality};
use serde_json::{Value, json};

fn filter(world: &World) -> LogFilter {
    LogFilter {
        emitters: vec![world.logger],
        topics: [vec![topic()], vec![], vec![], vec![]],
    }
}

/// How many blocks a question about logs is about.
fn asked_for(params: &Value) -> u64 {
    let number = |key: &str| {
        let number: U64 = serde_json::from_value(params[0][key].clone()).unwrap();
        number.to::<u64>()
    };
    number("toBlock") - number("fromBlock") + 1
}

#[tokio::test]
async fn logs_are_read_whatever_the_node_lets_one_ask_for_at_once() {
    let world = World::new().await;
    for byte in 0..20_u8 {
        world.log(vec![byte]).await;
    }
    let puppet = Puppet::of(&world).await;
    let config = EvmConfig {
        log_span: 1_000,
        ..world.config([puppet.url.clone()])
    };
    for most in [1_u64, 3, 1_000] {
        puppet.does(move |method, params| {
            if method == "eth_getLogs" && asked_for(params) > most {
                Reply::Error(-32005, "query returned more than 10000 results")
            } else {
                Reply::Forward
            }
        });
        let chain = EvmLogChain::open(config.clone()).await.unwrap();
        let head = chain.head(Finality::Latest).await.unwrap().unwrap();
        let logs = chain.logs(&filter(&world), 0..=head.number).await.unwrap();
        let said: Vec<_> = logs
            .iter()
            .map(|log| match &log.data {
                LogPayload::Whole(data) => data[0],
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(said, (0..20).collect::<Vec<_>>(), "{most}");
        for log in &logs {
            let block = chain.header(log.block).await.unwrap().unwrap();
            assert_eq!((log.block_hash, log.at), (block.hash, block.timestamp));
        }
    }
    puppet.does(|method, _| match method {
        "eth_getLogs" => Reply::Status(413),
        _ => Reply::Forward,
    });
    let chain = EvmLogChain::open(config).await.unwrap();
    let error = chain.logs(&filter(&world), 0..=20).await.unwrap_err();
    assert!(error.to_string().contains("413"), "{error}");
    let asked = puppet.asked();
    let questions = asked.iter().filter(|method| *method == "eth_getLogs");
    assert!(questions.count() < 200, "it ends");
}

#[tokio::test]
async fn a_log_that_was_not_asked_for_is_asked_of_another_node() {
    let world = World::new().await;
    world.log(vec![7]).await;
    let range = json!([{ "fromBlock": "0x0", "toBlock": "0x2", "address": world.logger }]);
    let real = world.rpc("eth_getLogs", range).await;
    type Forgery = fn(&mut Value);
    let forgeries: [Forgery; 6] = [
        |logs| logs[0]["removed"] = json!(true),
        |logs| logs[0]["address"] = json!(Address::ZERO),
        |logs| logs[0]["topics"] = json!([B256::ZERO]),
        |logs| logs[0]["topics"] = json!(vec![topic(); 5]),
        |logs| logs[0]["blockNumber"] = json!("0x63"),
        |logs| *logs = json!([logs[0], logs[0]]),
    ];
    for forge in forgeries {
        let mut forged = real.clone();
        forge(&mut forged);
        let puppet = Puppet::of(&world).await;
        puppet.does(move |method, _| match method {
            "eth_getLogs" => Reply::Result(forged.clone()),
            _ => Reply::Forward,
        });
        let alone = EvmLogChain::open(world.config([puppet.url.clone()]))
            .await
            .unwrap();
        let error = alone.logs(&filter(&world), 0..=2).await.unwrap_err();
        assert!(matches!(error, ChainError::Malformed { .. }), "{error}");
        let both = world.config([puppet.url.clone(), world.url.clone()]);
        let both = EvmLogChain::open(both).await.unwrap();
        assert_eq!(both.logs(&filter(&world), 0..=2).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_log_of_a_block_that_the_chain_does_not_have_is_no_log() {
    let world = World::new().await;
    world.log(vec![7]).await;
    let range = json!([{ "fromBlock": "0x0", "toBlock": "0x2", "address": world.logger }]);
    let mut forged = world.rpc("eth_getLogs", range).await;
    forged[0]["blockHash"] = json!(B256::repeat_byte(9));
    let puppet = Puppet::of(&world).await;
    puppet.does(move |method, _| match method {
        "eth_getLogs" => Reply::Result(forged.clone()),
        _ => Reply::Forward,
    });
    let chain = EvmLogChain::open(world.config([puppet.url.clone()]))
        .await
        .unwrap();
    let error = chain.logs(&filter(&world), 0..=2).await.unwrap_err();
    assert!(
        matches!(error, ChainError::Reorged { number: 2 }),
        "{error}"
    );
}

#[tokio::test]
async fn a_node_that_does_not_have_the_last_block_yet_knows_of_no_logs() {
    let world = World::new().await;
    world.log(vec![7]).await;
    let behind = Puppet::of(&world).await;
    behind.does(|method, params| match method {
        "eth_getLogs" => Reply::Result(json!([])),
        "eth_getBlockByNumber" if params[0] == "0x2" => Reply::Result(Value::Null),
        "eth_getBlockByHash" => Reply::Result(Value::Null),
        _ => Reply::Forward,
    });
    let alone = EvmLogChain::open(world.config([behind.url.clone()]))
        .await
        .unwrap();
    let error = alone.logs(&filter(&world), 0..=2).await.unwrap_err();
    assert!(
        matches!(error, ChainError::Behind { .. }) && error.is_retryable(),
        "{error}"
    );
    let both = world.config([behind.url.clone(), world.url.clone()]);
    let both = EvmLogChain::open(both).await.unwrap();
    assert_eq!(both.logs(&filter(&world), 0..=2).await.unwrap().len(), 1);
    let head = both.header(2).await.unwrap().unwrap();
    let logs = both.logs_of_block(&head, &filter(&world)).await.unwrap();
    assert_eq!(logs.len(), 1);
    let error = alone
        .logs_of_block(&head, &filter(&world))
        .await
        .unwrap_err();
    assert!(matches!(error, ChainError::Behind { .. }), "{error}");
}

#[tokio::test]
async fn a_blocks_logs_are_those_of_that_fork_and_are_not_asked_for_where_there_are_none() {
    let world = World::new().await;
    let puppet = Puppet::of(&world).await;
    let config = EvmConfig {
        rollback_patience: std::time::Duration::ZERO,
        ..world.config([puppet.url.clone()])
    };
    let chain = EvmLogChain::open(config).await.unwrap();
    let snapshot = world.rpc("evm_snapshot", json!([])).await;
    world.log(vec![7]).await;
    let head = chain.head(Finality::Latest).await.unwrap().unwrap();
    puppet.asked();
    let logs = chain.logs_of_block(&head, &filter(&world)).await.unwrap();
    assert_eq!(puppet.asked(), ["eth_getLogs"]);
    assert_eq!(
        (logs.len(), logs[0].block_hash, logs[0].at),
        (1, head.hash, head.timestamp)
    );
    assert_eq!(
        logs,
        chain.logs(&filter(&world), 0..=head.number).await.unwrap()
    );
    puppet.asked();
    let elsewhere = LogFilter {
        emitters: vec![Address::repeat_byte(9)],
        ..LogFilter::default()
    };
    let none = chain.logs_of_block(&head, &elsewhere).await.unwrap();
    assert_eq!((none.len(), puppet.asked().len()), (0, 0));

    world.rpc("evm_revert", json!([snapshot])).await;
    world.log(vec![8]).await;
    let error = chain
        .logs_of_block(&head, &filter(&world))
        .await
        .unwrap_err();
    assert!(
        matches!(error, ChainError::Reorged { number: 2 }),
        "{error}"
    );
}

#[tokio::test]
async fn logs_too_large_for_a_cryptlet_are_there_and_said_to_be() {
    let world = World::new().await;
    world.log(vec![1; MAX_TRIGGER_BYTES + 1]).await;
    let chain = EvmLogChain::open(world.config([world.url.clone()]))
        .await
        .unwrap();
    let logs = chain.logs(&filter(&world), 0..=2).await.unwrap();
    let size = MAX_TRIGGER_BYTES + 1;
    assert_eq!(logs[0].data, LogPayload::Oversize { size });
    assert_eq!(logs[0].entry(chain.chain_id()), None);
}

#[tokio::test]
async fn blocks_are_found_by_how_sure_they_are() {
    let world = World::new().await;
    let puppet = Puppet::of(&world).await;
    let old = world
        .rpc("eth_getBlockByNumber", json!(["0x0", false]))
        .await;
    world.mine().await;
    puppet.does(move |_, params| match params[0].as_str() {
        Some("safe") => Reply::Result(old.clone()),
        Some("finalized") => Reply::Result(Value::Null),
        _ => Reply::Forward,
    });
    let chain = EvmLogChain::open(world.config([puppet.url.clone()]))
        .await
        .unwrap();
    let head = async |finality| chain.head(finality).await.unwrap().map(|head| head.number);
    assert_eq!(head(Finality::Latest).await, Some(2));
    assert_eq!(head(Finality::Safe).await, Some(0));
    assert_eq!(head(Finality::Finalized).await, None);
}

#[tokio::test]
async fn headers_of_another_kind_are_believed_only_where_that_is_said() {
    let world = World::new().await;
    world.log(vec![7]).await;
    let puppet = Puppet::of(&world).await;
    let mut other = world
        .rpc("eth_getBlockByNumber", json!(["0x2", false]))
        .await;
    other["hash"] = json!(B256::repeat_byte(9));
    puppet.does(move |method, _| match method {
        "eth_getBlockByNumber" => Reply::Result(other.clone()),
        _ => Reply::Forward,
    });
    let strict = world.config([puppet.url.clone()]);
    let lenient = EvmConfig {
        headers: HeaderRule::Believed,
        ..strict.clone()
    };
    let strict = EvmLogChain::open(strict).await.unwrap();
    assert!(strict.head(Finality::Latest).await.is_err());
    let lenient = EvmLogChain::open(lenient).await.unwrap();
    let head = lenient.head(Finality::Latest).await.unwrap().unwrap();
    assert_eq!((head.number, head.hash), (2, B256::repeat_byte(9)));
}
