//! A million subscriptions in one process: `cargo bench -p cryptlet-watch`. Prints what it takes to add them, the memory that each
//! holds, and how late a timer is; criterion measures what one observation, log, block or moment costs then.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a benchmark prints its figures and stops where it cannot run"
)]

use alloy_primitives::{Address, B256, Bytes, FixedBytes, I256, U256, keccak256};
use criterion::{BatchSize, Criterion};
use cryptlet_types::{
    ClockSpec, CryptletId, ReportDomain, Subject, Subscription, TriggerSpec,
    event::{BlockEntry, LogEntry, Message, Observation},
    report::CompactSignature,
    subscription::{
        ApplicationSpec, BlocksSpec, Direction, Finality, InstantsSpec, IntervalSpec, LogSpec,
        Missed, ScheduleSpec, ThresholdSpec,
    },
};
use cryptlet_watch::{Calendars, Clock, Restored, Subscriptions, SystemClock};
use std::{
    hint::black_box,
    process::Command,
    sync::{Arc, LazyLock},
    time::{Duration, Instant, SystemTime},
};

const MILLION: u64 = 1_000_000;
/// When the benchmark began.
static NOW: LazyLock<u64> = LazyLock::new(|| SystemClock.now());
const LATEST: Finality = Finality::Latest;

fn subscription(number: u64, trigger: TriggerSpec) -> Subscription {
    Subscription {
        subject: Subject(keccak256(number.to_be_bytes())),
        consumer: Address::ZERO,
        nonce: number,
        cryptlet: CryptletId(Address::ZERO),
        on_behalf_of: Address::ZERO,
        callback: FixedBytes([1; 4]),
        callback_gas: 50_000,
        validity: 60,
        trigger,
        params: Bytes::new(),
        since: *NOW - number % 100_000,
    }
}

/// One of 1,440 times of day in one of three zones.
fn clock(number: u64) -> TriggerSpec {
    let (minute, hour) = (number % 60, number / 60 % 24);
    let zones = ["Europe/Berlin", "America/New_York", "Asia/Tokyo"];
    TriggerSpec::Clock(ClockSpec {
        cron: format!("{minute} {hour} * * *"),
        time_zone: zones[(number % 3) as usize].into(),
    })
}

/// Of its own: one expression for each.
fn own_clock(number: u64) -> TriggerSpec {
    let (minute, hour, day) = (number % 60, number / 60 % 24, number / 1_440 % 28 + 1);
    TriggerSpec::Clock(ClockSpec {
        cron: format!("{minute} {hour} {day},{} * *", 1 + number / 40_320),
        time_zone: "Europe/Berlin".into(),
    })
}

fn instants(number: u64) -> TriggerSpec {
    TriggerSpec::Instants(InstantsSpec {
        instants: vec![*NOW + number, *NOW + 2 * number + 1],
        missed: Missed::Skip,
    })
}

fn schedule(number: u64) -> TriggerSpec {
    TriggerSpec::Schedule(ScheduleSpec {
        cron: format!("close-{}", 1 + number % 300),
        time_zone: String::new(),
        calendar: "XNYS".into(),
        missed: Missed::Skip,
    })
}

fn interval(number: u64) -> TriggerSpec {
    TriggerSpec::Interval(IntervalSpec {
        seconds: 60 + number % 86_400,
        calendar: String::new(),
        missed: Missed::Skip,
    })
}

/// Of one feed. The bounds are 10 apart.
fn threshold(number: u64) -> ThresholdSpec {
    ThresholdSpec {
        feed_params: Bytes::from_static(b"XAU/USD"),
        every: 60,
        bound: I256::try_from(10 * number).unwrap(),
        direction: Direction::Rising,
        hysteresis: U256::from(500),
        repeat: true,
    }
}

/// Transfers of one token to one of a million.
fn log_spec(number: u64) -> LogSpec {
    LogSpec {
        chain_id: 1,
        emitter: Address::repeat_byte(1),
        topics: vec![B256::repeat_byte(7), B256::ZERO, U256::from(number).into()],
        finality: LATEST,
    }
}

fn blocks(number: u64) -> TriggerSpec {
    TriggerSpec::Blocks(BlocksSpec {
        chain_id: 1,
        every: 1 + number % 10_000,
        finality: LATEST,
    })
}

fn application(number: u64) -> TriggerSpec {
    TriggerSpec::Application(ApplicationSpec {
        application: format!("application {}", number % 1_000),
        kind: format!("kind {}", number % 7),
    })
}

fn mixed(number: u64) -> TriggerSpec {
    match number % 10 {
        0 | 1 => clock(number),
        2 => interval(number),
        3 => schedule(number),
        4 => instants(number),
        5 | 6 => TriggerSpec::Threshold(threshold(number)),
        7 => TriggerSpec::Log(log_spec(number)),
        8 => blocks(number),
        _ => application(number),
    }
}

/// A kind of subscription, how many of them, and how they are made.
type Kind = (&'static str, u64, fn(u64) -> TriggerSpec);

const KINDS: [Kind; 9] = [
    ("all kinds mixed", MILLION, mixed),
    ("clock, shared", MILLION, clock),
    ("clock, each its own", 100_000, own_clock),
    ("schedule of a market", MILLION, schedule),
    ("interval", MILLION, interval),
    ("instants, each its own", MILLION, instants),
    ("threshold, one feed", MILLION, |number| {
        TriggerSpec::Threshold(threshold(number))
    }),
    ("log, one contract", MILLION, |number| {
        TriggerSpec::Log(log_spec(number))
    }),
    ("blocks", MILLION, blocks),
];

/// Names the kind that a process is to fill up with, and nothing else: so that its memory is that kind's alone.
const FILL: &str = "MILLION_FILL";

/// Adds them, and says what it took.
fn fill((what, count, trigger): Kind) -> (Subscriptions, String) {
    let domain = ReportDomain {
        chain_id: 1,
        delegate: Address::ZERO,
    };
    let calendars = Arc::new(Calendars::bundled().unwrap());
    let before = resident();
    let mut all = Subscriptions::new(domain, calendars);
    let mut took = Duration::ZERO;
    for number in 1..=count {
        let subscription = subscription(number, trigger(number));
        let start = Instant::now();
        let added = all.add(&subscription, &Restored::default(), *NOW);
        took += start.elapsed();
        added.unwrap();
    }
    let held = resident() - before;
    let told = format!(
        "{what:<24} {count:>9} added in {:>6} ms, {:>5} bytes each",
        took.as_millis(),
        held / count,
    );
    (all, told)
}

fn kind(what: &str) -> Kind {
    KINDS.into_iter().find(|kind| kind.0 == what).unwrap()
}

fn filled(what: &str) -> Subscriptions {
    fill(kind(what)).0
}

fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

fn observation(value: u64, at: u64) -> Observation {
    Observation {
        feed: threshold(1).feed(CryptletId(Address::ZERO)),
        value: I256::try_from(value).unwrap(),
        at,
        signature: CompactSignature::default(),
    }
}

/// From 1 below a bound to 99 bounds further is 100 hits.
fn thresholds(criterion: &mut Criterion) {
    let mut all = filled("threshold, one feed");
    let mut at = *NOW;
    let mut value = 0;
    let start = Instant::now();
    all.observe(&observation(value, at));
    println!("first value of the feed: {:?}", start.elapsed());
    criterion.bench_function("observation with 100 hits of 1,000,000", |bench| {
        bench.iter(|| {
            at += 1;
            value = (value + 1_000) % 9_000_000;
            let hits = all.observe(&observation(value, at));
            assert!(value == 0 || hits.len() == 100, "{}", hits.len());
            all.thresholds.take_changed();
            black_box(hits)
        });
    });
}

fn logs(criterion: &mut Criterion) {
    let all = filled("log, one contract");
    let mut number = 0;
    criterion.bench_function("log with 1 hit of 1,000,000", |bench| {
        bench.iter(|| {
            number = number % MILLION + 1;
            let log = LogEntry {
                chain_id: 1,
                block: 1,
                block_hash: B256::ZERO,
                at: *NOW,
                transaction: B256::ZERO,
                index: 0,
                ordinal: 0,
                emitter: Address::repeat_byte(1),
                topics: vec![B256::repeat_byte(7), B256::ZERO, U256::from(number).into()],
                data: Bytes::new(),
            };
            let hits = all.log(&log, LATEST);
            assert_eq!(hits.len(), 1);
            black_box(hits)
        });
    });
}

fn clocks(criterion: &mut Criterion) {
    let mut all = filled("clock, shared");
    criterion.bench_function("64 due of 1,000,000 by the clock", |bench| {
        bench.iter(|| {
            let due = all.agenda.next_due().unwrap();
            black_box(all.agenda.take_due(due, 64))
        });
    });
}

fn mixture(criterion: &mut Criterion) {
    let mut all = filled("all kinds mixed");
    let block = BlockEntry {
        chain_id: 1,
        number: 20_000_003,
        hash: B256::ZERO,
        at: *NOW,
    };
    criterion.bench_function("block among 100,000 of 1,000 periods", |bench| {
        bench.iter(|| black_box(all.block(&block, LATEST)));
    });
    let message = Message {
        application: "application 9".into(),
        id: "1".into(),
        kind: "kind 1".into(),
        at: *NOW,
        data: Bytes::new(),
    };
    criterion.bench_function("message among 100,000", |bench| {
        bench.iter_batched(
            || message.clone(),
            |message| black_box(all.message(&message)),
            BatchSize::SmallInput,
        );
    });
    lateness(&mut all);
}

/// Waits for a dozen seconds as a host does, with a million in force, and says how long after its second each was taken.
fn lateness(all: &mut Subscriptions) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_time()
        .build()
        .unwrap();
    // Those of the last day are caught up first.
    let first = SystemClock.now() + 2;
    let seconds = 12;
    for number in 0..100 * seconds {
        let trigger = TriggerSpec::Instants(InstantsSpec {
            instants: vec![first + number / 100],
            missed: Missed::CatchUp,
        });
        let mut subscription = subscription(MILLION + 1 + number, trigger);
        subscription.since = 0;
        all.add(&subscription, &Restored::default(), 0).unwrap();
    }
    while !all.agenda.take_due(first - 1, 100_000).is_empty() {}
    let mut late = Vec::new();
    runtime.block_on(async {
        for second in first..first + seconds {
            SystemClock.sleep_until(second).await;
            let events = all.agenda.take_due(second, usize::MAX);
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let passed = now.unwrap().checked_sub(Duration::from_secs(second));
            assert!(events.len() >= 100);
            late.push(passed.unwrap());
        }
    });
    late.sort_unstable();
    println!(
        "lateness over {seconds} seconds with events: p50 {:?}, worst {:?}",
        late[late.len() / 2],
        late[late.len() - 1]
    );
}

fn main() {
    if let Ok(what) = std::env::var(FILL) {
        println!("{}", fill(kind(&what)).1);
        return;
    }
    // Who names a benchmark wants that one only.
    let named = std::env::args()
        .skip(1)
        .any(|argument| !argument.starts_with('-'));
    for (what, ..) in KINDS.into_iter().filter(|_| !named) {
        let mut child = Command::new(std::env::current_exe().unwrap());
        assert!(child.env(FILL, what).status().unwrap().success());
    }
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    thresholds(&mut criterion);
    mixture(&mut criterion);
    logs(&mut criterion);
    clocks(&mut criterion);
    criterion.final_summary();
}
