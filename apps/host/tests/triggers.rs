//! Every kind of trigger, on a real node with the real contracts: subscribed from Solidity, answered by a cryptlet in its region,
//! kept by a message queue.

use crate::support::{
    Play,
    account::{Watched, assert_hold, receipts},
    eventually,
    office::{client, open, with_api},
    retry, within_patience,
};
use alloy::{
    network::{EthereumWallet, TransactionBuilder},
    primitives::{Address, B256, Bytes, I256, U256, hex, keccak256},
    providers::{Provider, ProviderBuilder},
    rpc::types::TransactionRequest,
    signers::local::PrivateKeySigner,
    sol_types::{SolType, SolValue},
};
use cryptlet_api::{
    Outgoing,
    types::{ApplicationKind, NewApplication, Role},
    wall_clock,
    webhook::SigningKey,
};
use cryptlet_host::{Host, HostConfig, OtherChain};
use cryptlet_journal::JobRecord;
use cryptlet_node::{Node, NodeConfig};
use cryptlet_stage::CryptletSource;
use cryptlet_types::{
    JobState, TriggerSpec,
    subscription::{
        ApplicationSpec, BlocksSpec, Direction, Finality, InstantsSpec, IntervalSpec, LogSpec,
        Missed, ScheduleSpec, ThresholdSpec,
    },
};
use std::collections::BTreeSet;

const QUEUE: &str = include_str!("../../../contracts/artifacts/MessageQueue.json");
/// A contract that logs what it is called with, under the topic 42.
const EMITTER: [u8; 18] = hex!("69365f5f37602a365fa1005f52600a6016f3");

alloy::sol! {
    #[sol(rpc)]
    contract MessageQueue {
        struct Message {
            uint64 sequence;
            uint64 takenAt;
            bytes32 digest;
            address signer;
            bytes32 chainHash;
            bytes payload;
        }
        function count() external view returns (uint256);
        function pause() external;
        function resume() external;
    }
}

/// A stage with the relay, which answers whatever wakes it.
async fn relay() -> Play {
    Play::with(CryptletSource::relay(), retry(3)).await
}

/// A stage with the cryptlet that prices options.
async fn monte_carlo() -> Play {
    let cryptlet = CryptletSource {
        manifest: include_bytes!("../../../cryptlets/monte-carlo/cryptlet.json").to_vec(),
        interface: include_str!("../../../cryptlets/monte-carlo/interface.sol").into(),
        code: include_bytes!("../../../cryptlets/dist/monte-carlo.wasm").to_vec(),
    };
    Play::with(cryptlet, retry(3)).await
}

/// A queue that is woken by `trigger`.
async fn queue(play: &Play, trigger: &TriggerSpec) -> Watched {
    queue_of(play, trigger, Bytes::new()).await
}

/// A queue that is woken by `trigger` with these parameters.
async fn queue_of(play: &Play, trigger: &TriggerSpec, params: Bytes) -> Watched {
    let arguments = (
        play.stage.delegate,
        play.stage.cryptlet.cryptlet.0,
        U256::from(400_000),
        U256::from(86_400),
        U256::from(trigger.number()),
        trigger.encode_condition(),
        params,
    )
        .abi_encode_params();
    let (consumer, subject) = play.stage.deploy_consumer(QUEUE, &arguments).await.unwrap();
    Watched { consumer, subject }
}

async fn count(play: &Play, queue: Watched) -> u64 {
    let queue = MessageQueue::new(queue.consumer, &play.stage.provider);
    queue.count().call().await.unwrap().to()
}

/// Waits until the queue has that many messages, and says what they were: number and hash of each.
async fn messages(play: &Play, host: &Host, queue: Watched, many: u64) -> Vec<(U256, B256)> {
    payloads(play, host, queue, many).await
}

/// Waits until the queue has that many messages, and says what all reports up to now say.
async fn payloads<T>(play: &Play, host: &Host, queue: Watched, many: u64) -> Vec<T>
where
    T: SolValue + From<<T::SolType as SolType>::RustType>,
{
    let came = within_patience(|| async { (count(play, queue).await >= many).then_some(()) });
    if came.await.is_none() {
        let jobs = crate::support::account::jobs(host.journal(), queue.subject).await;
        let states: Vec<_> = jobs
            .iter()
            .map(|job| (job.state, job.note.clone()))
            .collect();
        panic!(
            "{} of {many} messages came: {states:?}",
            count(play, queue).await
        );
    }
    let jobs = crate::support::account::jobs(host.journal(), queue.subject).await;
    jobs.iter()
        .filter_map(|job| job.run.as_ref())
        .map(|run| T::abi_decode(&run.report.report.payload).unwrap())
        .collect()
}

/// Waits until the host has heard of the subscription.
async fn heard_of(host: &Host, queue: Watched) {
    eventually("the host hears of the subscription", || async {
        let known = host.journal().subscription(queue.subject).await;
        known.unwrap().map(drop)
    })
    .await;
}

async fn send(play: &Play, request: TransactionRequest) -> alloy::rpc::types::TransactionReceipt {
    let sent = play.stage.provider.send_transaction(request).await.unwrap();
    let receipt = sent.get_receipt().await.unwrap();
    assert!(receipt.status());
    receipt
}

async fn emitter(play: &Play) -> Address {
    let request = TransactionRequest::default().with_deploy_code(EMITTER);
    send(play, request).await.contract_address.unwrap()
}

async fn emit(play: &Play, emitter: Address, word: u64) -> B256 {
    let input = U256::from(word).to_be_bytes::<32>();
    let request = TransactionRequest::default()
        .with_to(emitter)
        .with_input(input.to_vec());
    send(play, request).await.transaction_hash
}

fn logs_of(play: &Play, emitter: Address, finality: Finality) -> TriggerSpec {
    TriggerSpec::Log(log_spec(play.stage.chain_id, emitter, finality))
}

fn log_spec(chain_id: u64, emitter: Address, finality: Finality) -> LogSpec {
    LogSpec {
        chain_id,
        emitter,
        topics: vec![B256::from(U256::from(42))],
        finality,
    }
}

fn word_of(job: &JobRecord) -> U256 {
    let payload = &job.run.as_ref().expect("a report").report.report.payload;
    <(U256, B256)>::abi_decode(payload).unwrap().0
}

/// What the reports said that the chain has consumed.
async fn canonical_words(play: &Play, host: &Host, queue: Watched) -> Vec<U256> {
    let consumed = play.consumed(queue.subject).await.len() as u64;
    let jobs = crate::support::account::jobs(host.journal(), queue.subject).await;
    let delivered = jobs.iter().filter(|job| job.state == JobState::Delivered);
    let words: Vec<_> = delivered.map(word_of).collect();
    assert_eq!(words.len() as u64, consumed, "journal and chain agree");
    words
}

#[tokio::test]
async fn a_log_wakes_its_subscribers_once_each_and_in_order() {
    let play = relay().await;
    let emitter = emitter(&play).await;
    let trigger = logs_of(&play, emitter, Finality::Latest);
    let (one, two) = (queue(&play, &trigger).await, queue(&play, &trigger).await);
    let host = play.host().await;
    let mut sent = Vec::new();
    for word in 1..=20 {
        sent.push((U256::from(word), emit(&play, emitter, word).await));
    }
    for queue in [one, two] {
        assert_eq!(messages(&play, &host, queue, 20).await, sent);
        let consumed = play.consumed(queue.subject).await;
        let expected: Vec<_> = (1..=20).map(|sequence| (sequence, true)).collect();
        assert_eq!(consumed, expected);
    }
}

#[tokio::test]
async fn logs_of_a_host_that_was_down_are_made_up_for() {
    let play = relay().await;
    let emitter = emitter(&play).await;
    let queue = queue(&play, &logs_of(&play, emitter, Finality::Latest)).await;
    let mut host = play.host().await;
    emit(&play, emitter, 1).await;
    messages(&play, &host, queue, 1).await;
    host.stop().await;
    drop(host);
    for word in 2..=60 {
        emit(&play, emitter, word).await;
    }
    let host = play.host().await;
    let numbers: Vec<_> = messages(&play, &host, queue, 60).await;
    let expected: Vec<_> = (1..=60).map(U256::from).collect();
    let numbers: Vec<_> = numbers.into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, expected);
    assert_eq!(play.consumed(queue.subject).await.len(), 60);
    audit(&play, &host, queue, 60).await;
}

/// Has the auditor judge every receipt. At least two are of reports that one transaction brought together.
async fn audit(play: &Play, host: &Host, queue: Watched, many: usize) {
    let receipts = eventually("all receipts are written", || async {
        let receipts = receipts(host.journal(), queue.subject).await;
        (receipts.len() == many).then_some(receipts)
    });
    let receipts = receipts.await;
    assert_hold(play, &receipts).await;
    let transactions = receipts.iter();
    let transactions = transactions.map(|stored| &stored.receipt.inclusion.transaction);
    let transactions: BTreeSet<_> = transactions.collect();
    assert!(transactions.len() < many, "none came together");
}

#[tokio::test]
async fn logs_of_another_chain_and_of_final_blocks_wake_and_a_dead_chain_stops_no_other() {
    let play = relay().await;
    let node = Node::start(NodeConfig {
        chain_id: 4_242,
        ..NodeConfig::default()
    });
    let node = node.await.unwrap();
    let account = PrivateKeySigner::from_bytes(&node.accounts()[0].1).unwrap();
    let provider = ProviderBuilder::new()
        .wallet(EthereumWallet::from(account))
        .connect_http(node.url().parse().unwrap());
    let sent = async |request: TransactionRequest| {
        let sent = provider.send_transaction(request).await.unwrap();
        sent.get_receipt().await.unwrap()
    };
    let created = sent(TransactionRequest::default().with_deploy_code(EMITTER)).await;
    let there = created.contract_address.unwrap();
    let elsewhere = TriggerSpec::Log(log_spec(4_242, there, Finality::Latest));
    let here = emitter(&play).await;
    let elsewhere = queue(&play, &elsewhere).await;
    let sure = queue(&play, &logs_of(&play, here, Finality::Finalized)).await;
    let config = HostConfig {
        chains: vec![OtherChain {
            rpc: vec![node.url()],
        }],
        ..play.config()
    };
    let host = open(&config).await;
    heard_of(&host, sure).await;
    // What was logged before the stream begins is not looked for.
    let read = within_patience(|| async {
        let cursor = host.journal().cursor("logs:4242:latest").await.unwrap();
        cursor.map(drop)
    });
    read.await.expect("the other chain is read");
    let words = async |queue, many| {
        let told = messages(&play, &host, queue, many).await;
        told.into_iter().map(|(word, _)| word).collect::<Vec<_>>()
    };

    let word = U256::from(7).to_be_bytes::<32>();
    let said = TransactionRequest::default().with_to(there);
    sent(said.with_input(word.to_vec())).await;
    emit(&play, here, 8).await;
    assert_eq!(words(elsewhere, 1).await, [U256::from(7)]);
    assert_eq!(words(sure, 1).await, [U256::from(8)]);

    node.shutdown().await.unwrap();
    emit(&play, here, 9).await;
    assert_eq!(words(sure, 2).await, [U256::from(8), U256::from(9)]);
}

#[tokio::test]
async fn blocks_requests_and_pauses() {
    let play = relay().await;
    let blocks = TriggerSpec::Blocks(BlocksSpec {
        chain_id: play.stage.chain_id,
        every: 5,
        finality: Finality::Latest,
    });
    let request = queue(&play, &TriggerSpec::Request).await;
    let every = queue(&play, &blocks).await;
    let host = play.host().await;
    assert_eq!(messages(&play, &host, request, 1).await.len(), 1);
    for _ in 0..10 {
        play.stage.rpc("evm_mine", ()).await.unwrap();
    }
    let numbers = messages(&play, &host, every, 2).await;
    assert!(
        numbers
            .iter()
            .all(|(number, _)| number % U256::from(5) == U256::ZERO)
    );
    let contract = MessageQueue::new(every.consumer, &play.stage.provider);
    send(&play, contract.pause().into_transaction_request()).await;
    let paused = within_patience(|| async {
        let known = host.journal().subscription(every.subject).await.unwrap();
        known.is_some_and(|known| known.paused).then_some(())
    });
    paused.await.expect("the host hears of the pause");
    assert_eq!(count(&play, request).await, 1, "a request is answered once");
}

/// Paths done, paths in all, price and standard error.
type Price = (u64, u64, U256, U256);

#[tokio::test]
async fn a_long_computation_goes_on_after_a_restart_and_ends_at_the_contract() {
    let play = monte_carlo().await;
    let ether = |parts: u64| U256::from(parts) * U256::from(10).pow(U256::from(15));
    let paths = 3_000_000_u64;
    let params = (
        ether(100_000),
        ether(100_000),
        ether(200),
        I256::from_raw(ether(50)),
        ether(1_000),
        paths,
        7_u64,
    );
    let params = params.abi_encode_params().into();
    let queue = queue_of(&play, &TriggerSpec::Request, params).await;
    let mut host = play.host().await;
    payloads::<Price>(&play, &host, queue, 2).await;
    host.stop().await;
    drop(host);
    assert!(count(&play, queue).await < 30, "it is over already");

    let host = play.host().await;
    let told = payloads::<Price>(&play, &host, queue, 30).await;
    let progress: Vec<_> = told.iter().map(|(done, ..)| *done).collect();
    let expected: Vec<_> = (1..=30).map(|runs| runs * 100_000).collect();
    assert_eq!(progress, expected, "no run is lost, none is doubled");
    let (_, total, price, error) = told[29];
    assert_eq!(total, paths);
    // Black and Scholes: 10.4506.
    let off = price.abs_diff(U256::from(10_450_600_000_000_000_000_u64));
    assert!(off < error * U256::from(3), "{price} +- {error}");
    assert_eq!(play.consumed(queue.subject).await.len(), 30);
}

#[tokio::test]
async fn a_message_of_an_application_reaches_the_contracts_that_wait_for_its_kind_once() {
    let play = relay().await;
    let of = |kind: &str| {
        TriggerSpec::Application(ApplicationSpec {
            application: "crm".into(),
            kind: kind.into(),
        })
    };
    let any = queue(&play, &of("")).await;
    let orders = queue(&play, &of("order")).await;
    let others = queue(&play, &of("invoice")).await;
    let config = with_api(play.config());
    let mut host = open(&config).await;
    heard_of(&host, others).await;
    let operator = client(&host, &config, Role::Operator);
    let new = NewApplication {
        name: "crm".parse().unwrap(),
        kind: ApplicationKind::Hmac,
        public_key: None,
    };
    let made = operator.add_application(&new).await.unwrap();
    let key = SigningKey::parse(made.secret.as_deref().unwrap()).unwrap();
    let word = U256::from(42);
    let event = serde_json::json!({
        "specversion": "1.0",
        "id": "order-1",
        "source": "/orders",
        "type": "order",
        "data_base64": "A".repeat(40) + "ACo=",
    });
    let body = event.to_string();
    let message = || Outgoing {
        id: "order-1",
        at: wall_clock()(),
        media_type: "application/cloudevents+json",
        body: body.as_bytes(),
    };
    let said = operator.send_message(&new.name, &key, message()).await;
    assert!(!said.unwrap().known);
    let expected = (word, keccak256("order-1"));
    for queue in [any, orders] {
        assert_eq!(messages(&play, &host, queue, 1).await, [expected]);
    }

    // Said again, to the host that comes after: it is known, and wakes nobody.
    host.stop().await;
    drop(host);
    let host = open(&config).await;
    let operator = client(&host, &config, Role::Operator);
    let again = operator.send_message(&new.name, &key, message()).await;
    assert!(again.unwrap().known);
    let later = Outgoing {
        id: "order-2",
        ..message()
    };
    let later_body = body.replace("order-1", "order-2");
    let later = Outgoing {
        body: later_body.as_bytes(),
        ..later
    };
    operator.send_message(&new.name, &key, later).await.unwrap();
    for queue in [any, orders] {
        let all = messages(&play, &host, queue, 2).await;
        assert_eq!(all, [expected, (word, keccak256("order-2"))]);
    }
    assert_eq!(count(&play, others).await, 0);
}

#[tokio::test]
async fn moments_intervals_and_market_hours() {
    let play = relay().await;
    let now = crate::support::due(12);
    let instants = TriggerSpec::Instants(InstantsSpec {
        instants: vec![now, now + 60],
        missed: Missed::CatchUp,
    });
    let interval = TriggerSpec::Interval(IntervalSpec {
        seconds: 7_200,
        calendar: String::new(),
        missed: Missed::Skip,
    });
    let close = TriggerSpec::Schedule(ScheduleSpec {
        cron: "close".into(),
        time_zone: String::new(),
        calendar: "XNYS".into(),
        missed: Missed::CatchUp,
    });
    let instants = queue(&play, &instants).await;
    let interval = queue(&play, &interval).await;
    let close = queue(&play, &close).await;
    let host = play.host().await;
    // Monday 12 October 2026: New York trades, 16:00 there is 22:00 in Berlin.
    play.noon(12).await;
    play.stage.set_time(now + 60).await.unwrap();
    play.stage.set_time(now + 6 * 3_600 + 60).await.unwrap();
    let moments = messages(&play, &host, instants, 2).await;
    assert_eq!(moments[0].0, U256::from(now));
    assert_eq!(moments[1].0, U256::from(now + 60));
    let closed = messages(&play, &host, close, 1).await;
    assert_eq!(closed[0].0, U256::from(now + 6 * 3_600));
    assert!(!messages(&play, &host, interval, 1).await.is_empty());
}

#[tokio::test]
async fn a_value_that_crosses_a_bound_wakes_those_who_wait_for_it() {
    let play = relay().await;
    let start = play
        .stage
        .provider
        .get_block(alloy::eips::BlockId::latest());
    let start = start.await.unwrap().unwrap().header.timestamp;
    // The relay's feed is the time itself.
    let above = |bound: u64| {
        TriggerSpec::Threshold(ThresholdSpec {
            feed_params: Bytes::new(),
            every: 60,
            bound: I256::try_from(bound).unwrap(),
            direction: Direction::Rising,
            hysteresis: U256::ZERO,
            repeat: false,
        })
    };
    let (near, far) = (above(start + 600), above(start + 1_000_000));
    let (near, far) = (queue(&play, &near).await, queue(&play, &far).await);
    let host = play.host().await;
    for minutes in 1..=15 {
        play.stage
            .set_time(start + 60 + minutes * 60)
            .await
            .unwrap();
        let at = start + 60 + minutes * 60;
        let seen = within_patience(|| async {
            let feeds = host.journal().feeds().await.unwrap();
            feeds.iter().any(|seen| seen.at >= at).then_some(())
        });
        seen.await.expect("the feed is observed");
    }
    let woken = messages(&play, &host, near, 1).await;
    assert!(woken[0].0 >= U256::from(start + 600));
    assert_eq!(count(&play, near).await, 1, "once");
    assert_eq!(count(&play, far).await, 0);
}

#[tokio::test]
async fn a_log_that_a_reorganisation_takes_away_is_withdrawn_and_one_that_comes_back_is_not_doubled()
 {
    let play = relay().await;
    let emitter = emitter(&play).await;
    let queue = queue(&play, &logs_of(&play, emitter, Finality::Latest)).await;
    let host = play.host().await;
    emit(&play, emitter, 1).await;
    messages(&play, &host, queue, 1).await;
    let snapshot = play.snapshot().await;
    emit(&play, emitter, 2).await;
    messages(&play, &host, queue, 2).await;
    play.revert(&snapshot).await;
    assert_eq!(count(&play, queue).await, 1, "the second is undone");
    // What the provider remembers of the account is wrong now.
    let account = play.stage.account.address();
    let nonce = play.stage.provider.get_transaction_count(account).await;
    let input = U256::from(3).to_be_bytes::<32>();
    let request = TransactionRequest::default()
        .with_to(emitter)
        .with_input(input.to_vec())
        .with_nonce(nonce.unwrap());
    send(&play, request).await;
    let third = within_patience(|| async {
        let jobs = crate::support::account::jobs(host.journal(), queue.subject).await;
        let delivered =
            |job: &&JobRecord| job.state == JobState::Delivered && word_of(job) == U256::from(3);
        jobs.iter().find(delivered).map(|_| ())
    });
    third
        .await
        .expect("what occurs after the reorganisation is answered");
    let consumed = play.consumed(queue.subject).await;
    let expected: Vec<_> = (1..=consumed.len() as u64)
        .map(|number| (number, true))
        .collect();
    assert_eq!(consumed, expected, "no gap, and nothing twice");
    let words: Vec<_> = canonical_words(&play, &host, queue).await;
    let once: std::collections::BTreeSet<_> = words.iter().collect();
    assert_eq!(once.len(), words.len(), "no log is answered twice");
}
