//! Every kind of trigger in a real region: what the cryptlet is told, and computations of several steps.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use alloy_primitives::{Address, B256, Bytes, I256, U256, keccak256};
use alloy_sol_types::SolValue;
use cryptlet_types::{
    Trigger, TriggerSpec,
    event::{BlockEntry, LogEntry, Message},
    region::{ObserveInput, RunInput},
    subscription::{ApplicationSpec, BlocksSpec, Direction, Finality, LogSpec, ThresholdSpec},
};
use support::{DUE, HOSTILE, MONTE_CARLO, RELAY, Setup, behave, input, payload, said, subscribed};

fn log() -> (TriggerSpec, Trigger) {
    let (emitter, topic) = (Address::repeat_byte(4), B256::repeat_byte(5));
    let spec = LogSpec {
        chain_id: 1,
        emitter,
        topics: vec![topic],
        finality: Finality::Latest,
    };
    let entry = LogEntry {
        chain_id: 1,
        block: 10,
        block_hash: B256::repeat_byte(1),
        at: 100,
        transaction: B256::repeat_byte(2),
        index: 3,
        ordinal: 0,
        emitter,
        topics: vec![topic, B256::repeat_byte(6)],
        data: U256::from(77).abi_encode().into(),
    };
    (TriggerSpec::Log(spec), Trigger::Log(entry))
}

fn block() -> (TriggerSpec, Trigger) {
    let spec = BlocksSpec {
        chain_id: 1,
        every: 5,
        finality: Finality::Latest,
    };
    let entry = BlockEntry {
        chain_id: 1,
        number: 10,
        hash: B256::repeat_byte(8),
        at: 100,
    };
    (TriggerSpec::Blocks(spec), Trigger::Block(entry))
}

fn application() -> (TriggerSpec, Trigger) {
    let spec = ApplicationSpec {
        application: "crm".into(),
        kind: String::new(),
    };
    let message = Message {
        application: "crm".into(),
        id: "order-1".into(),
        kind: "order".into(),
        at: 100,
        data: U256::from(78).abi_encode().into(),
    };
    (
        TriggerSpec::Application(spec),
        Trigger::Application(message),
    )
}

fn woken(mut input: RunInput, (spec, trigger): (TriggerSpec, Trigger)) -> RunInput {
    input.subscription.trigger = spec;
    input.trigger = trigger;
    subscribed(input)
}

fn request(mut input: RunInput) -> RunInput {
    input.subscription.since = DUE;
    woken(input, (TriggerSpec::Request, Trigger::Request { at: DUE }))
}

#[tokio::test]
async fn a_relay_tells_at_once_what_it_was_woken_with() {
    let mut region = Setup::new(RELAY).ready().await;
    let crm = keccak256("order-1");
    let cases = [
        (woken(input(vec![]), log()), 77, B256::repeat_byte(2)),
        (woken(input(vec![]), block()), 10, B256::repeat_byte(8)),
        (woken(input(vec![]), application()), 78, crm),
        (request(input(vec![])), DUE, B256::ZERO),
        (input(vec![]), DUE, B256::ZERO),
    ];
    for (input, number, hash) in cases {
        let answer = region.run(input).await.unwrap();
        let told = <(U256, B256)>::abi_decode_params_validate(&payload(&answer)).unwrap();
        assert_eq!(told, (U256::from(number), hash));
        assert!(answer.fuel_used < 100_000, "{} is much", answer.fuel_used);
    }
}

#[tokio::test]
async fn a_value_that_was_observed_wakes_who_waited_for_it() {
    let mut region = Setup::new(RELAY).ready().await;
    let of = input(vec![]);
    let asked = ObserveInput {
        domain: of.domain,
        cryptlet: of.subscription.cryptlet,
        params: Bytes::new(),
        every: 1,
        at: of.issued_at,
        settings: of.settings.clone(),
    };
    let observation = region.observe(asked).await.unwrap().observation;
    let feed = observation.feed;
    let spec = TriggerSpec::Threshold(ThresholdSpec {
        feed_params: Bytes::new(),
        every: 1,
        bound: I256::try_from(DUE).unwrap(),
        direction: Direction::Rising,
        hysteresis: U256::ZERO,
        repeat: false,
    });
    let answer = region.run(woken(of, (spec, Trigger::Threshold { observation })));
    let told = payload(&answer.await.unwrap());
    let told = <(U256, B256)>::abi_decode_params_validate(&told).unwrap();
    assert_eq!(told, (U256::from(DUE), feed));
}

#[tokio::test]
async fn all_that_a_trigger_says_reaches_the_cryptlet() {
    let mut region = Setup::new(HOSTILE).ready().await;
    let of = behave("relay", "");
    let cases = [
        (
            woken(of.clone(), log()),
            ["LogEntry", "index: 3", "timestamp: 100", "0x0505"].as_slice(),
        ),
        (
            woken(of.clone(), block()),
            &["BlockEntry", "number: 10", "0x0808"],
        ),
        (
            woken(of.clone(), application()),
            &["Message", "order-1", "\"order\"", "crm", "at: 100"],
        ),
        (request(of.clone()), &["Request(1792159200)"]),
        (of, &["Clock(1792159200)"]),
    ];
    for (input, parts) in cases {
        let said = said(&region.run(input).await.unwrap());
        for part in parts {
            assert!(said.contains(part), "{part} is not in {said}");
        }
    }
}

type Price = (u64, u64, U256, U256);

#[tokio::test]
async fn a_price_takes_several_runs_and_tells_how_far_it_is() {
    let mut setup = Setup::new(MONTE_CARLO);
    setup.limits.fuel = 500_000_000;
    let mut region = setup.ready().await;
    let ether = |parts: u64| U256::from(parts) * U256::from(10).pow(U256::from(15));
    let params = (
        ether(100_000),
        ether(100_000),
        ether(200),
        I256::from_raw(ether(50)),
        ether(1_000),
        150_000_u64,
        7_u64,
    );
    let first = request(input(params.abi_encode_params()));
    let told = |payload: Bytes| Price::abi_decode_params_validate(&payload).unwrap();
    let answer = region.run(first.clone()).await.unwrap();
    let (done, total, _, early) = told(payload(&answer));
    assert_eq!((done, total), (100_000, 150_000));
    assert!(answer.fuel_used < setup.limits.fuel, "{}", answer.fuel_used);

    let step = answer.proceed.unwrap();
    assert_eq!((step.of, step.number), (first.event().id, 1));
    let mut second = first.clone();
    (second.trigger, second.sequence) = (Trigger::Step(step), 2);
    let last = region.run(subscribed(second.clone())).await.unwrap();
    assert_eq!(last.proceed, None);
    let (done, _, price, error) = told(payload(&last));
    assert_eq!(done, 150_000);
    assert!(error < early, "more paths, less error");
    // Black and Scholes: 10.4506.
    let off = price.abs_diff(U256::from(10_450_600_000_000_000_000_u64));
    assert!(off < error * U256::from(3), "{price} +- {error}");

    // The same to the last bit in another region.
    let mut other = setup.ready().await;
    let again = other.run(subscribed(second)).await.unwrap();
    assert_eq!(payload(&again), payload(&last));
}
