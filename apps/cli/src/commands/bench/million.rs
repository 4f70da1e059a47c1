//! A host with very many subscriptions of all kinds: how long it takes to start, what it holds, how fast it finds whom a value
//! concerns, and how late its timers are.
//!
//! The subscriptions are written straight into the host's journal: no chain is asked to make a million of them. Start and memory
//! are a host's, in a process of its own. Matching and timers are then measured in this process, on what was read from the same
//! journal in the same way, since a host does not say when it found what.

use super::{
    arena::stage,
    process::HostProcess,
    progress::Steps,
    stats::{Figures, percentile},
};
use crate::{
    args::SubscriptionsBenchOptions,
    error::{CliError, Doing},
    screen::say,
};
use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256, Bytes, FixedBytes, I256, U256},
    providers::Provider,
};
use cryptlet_host::{ClockSource, DataFolder, HostConfig};
use cryptlet_journal::{Cursor, DELEGATE, Journal, SubscriptionChange, wall_clock};
use cryptlet_stage::Stage;
use cryptlet_types::{
    ClockSpec, CryptletId, ReportDomain, Subject, Subscription, TriggerSpec, UnixSeconds,
    event::Observation,
    report::CompactSignature,
    subscription::{
        ApplicationSpec, BlocksSpec, Direction, Finality, InstantsSpec, IntervalSpec, LogSpec,
        Missed, ScheduleSpec, ThresholdSpec,
    },
};
use cryptlet_watch::{Calendars, Clock, Restored, Subscriptions, SystemClock};
use serde::Serialize;
use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Subscriptions that one transaction of the journal holds.
const AT_ONCE: u64 = 10_000;
/// Values that are matched.
const VALUES: u64 = 200;
/// How far a value goes at once: a bound lies every 10.
const STEP: u64 = 1_000;
/// Seconds with timers, and how many each has.
const SECONDS: u64 = 10;
const TIMERS: u64 = 100;
/// How long a host is left alone before its memory is looked at.
const REST: Duration = Duration::from_secs(2);

#[derive(Serialize)]
struct Outcome {
    subscriptions: u64,
    write_s: f64,
    start_s: f64,
    resident_bytes: u64,
    match_100_hits_ms: f64,
    match_100_hits_p95_ms: f64,
    timer_lateness_p50_ms: f64,
    timer_lateness_p99_ms: f64,
}

pub(crate) async fn run(options: SubscriptionsBenchOptions) -> Result<ExitCode, CliError> {
    let steps = Steps::new();
    let folder = tempfile::tempdir().doing("cannot make a folder")?;
    let stage = stage(folder.path(), None).await?;
    let config = HostConfig {
        rpc: stage.ws_url(),
        clock: ClockSource::System,
        ..stage.config.clone()
    };
    let path = DataFolder::at(&config.data).journal();
    let start = Instant::now();
    write(&stage, &path, options.count, &steps).await?;
    let write_s = start.elapsed().as_secs_f64();

    steps.begin("start of a host", 1);
    let host = HostProcess::start(&config, folder.path()).await?;
    tokio::time::sleep(REST).await;
    let (start_s, resident_bytes) = (host.took.as_secs_f64(), host.resident()?);
    host.stop().await?;

    let mut engine = read(&stage, &path, options.count, &steps).await?;
    steps.begin("matching", VALUES);
    let matched = Figures::of(match_values(&mut engine, stage.cryptlet.cryptlet)?);
    let late = timers(&stage, &mut engine, &steps).await?;
    let outcome = Outcome {
        subscriptions: options.count,
        write_s,
        start_s,
        resident_bytes,
        match_100_hits_ms: matched.p50,
        match_100_hits_p95_ms: matched.p95,
        timer_lateness_p50_ms: percentile(&late, 50),
        timer_lateness_p99_ms: percentile(&late, 99),
    };
    drop(steps);
    if options.json {
        say(serde_json::to_string(&outcome).doing("cannot write JSON")?);
    } else {
        print(&outcome);
    }
    stage.close().await.doing("the chain did not stop")?;
    Ok(ExitCode::SUCCESS)
}

fn domain(stage: &Stage) -> ReportDomain {
    ReportDomain {
        chain_id: stage.chain_id,
        delegate: stage.delegate,
    }
}

/// Writes subscriptions as if they had been made in the chain's newest block.
async fn write(
    stage: &Stage,
    path: &std::path::Path,
    count: u64,
    steps: &Steps,
) -> Result<(), CliError> {
    let doing = "cannot write the journal";
    steps.begin("writing the journal", count);
    let journal = Journal::open(path, wall_clock()).await.doing(doing)?;
    let newest = stage
        .provider
        .get_block_by_number(BlockNumberOrTag::Latest)
        .await
        .doing(doing)?;
    let newest = newest.ok_or_else(|| CliError::new("the chain has no block"))?;
    let cursor = Cursor {
        number: newest.header.number,
        hash: newest.header.hash,
    };
    let maker = Maker {
        domain: domain(stage),
        cryptlet: stage.cryptlet.cryptlet,
        now: SystemClock.now(),
    };
    let mut next = 0;
    while next < count {
        let end = next.saturating_add(AT_ONCE).min(count);
        let added = (next..end).map(|number| SubscriptionChange::Added {
            subscription: maker.subscription(number, maker.mixed(number)),
            block: cursor.number,
        });
        let added: Vec<_> = added.collect();
        let applied = journal.apply(DELEGATE, cursor, &added, &[]).await;
        applied.doing(doing)?;
        next = end;
        steps.at(next);
    }
    // The host is to have it to itself.
    journal.close().await.doing(doing)
}

/// Takes up what the journal says, as a host does.
async fn read(
    stage: &Stage,
    path: &std::path::Path,
    count: u64,
    steps: &Steps,
) -> Result<Subscriptions, CliError> {
    let doing = "cannot read the journal";
    steps.begin("reading the journal", count);
    let journal = Journal::open(path, wall_clock()).await.doing(doing)?;
    let calendars = Arc::new(Calendars::bundled().doing(doing)?);
    let mut engine = Subscriptions::new(domain(stage), calendars);
    let (mut after, mut done) = (None, 0_u64);
    loop {
        let page = journal.subscriptions_page(after, 10_000).await;
        let page = page.doing(doing)?;
        let Some(last) = page.last() else {
            return Ok(engine);
        };
        after = Some(last.subscription.subject);
        for active in page {
            let restored = Restored {
                fired_until: Some(active.fired_until),
                ..Restored::default()
            };
            let added = engine.add(&active.subscription, &restored, SystemClock.now());
            added.doing(doing)?;
            done = done.saturating_add(1);
        }
        steps.at(done);
    }
}

/// How long it takes to find the 100 whose bounds lie between two values of a feed.
fn match_values(
    engine: &mut Subscriptions,
    cryptlet: CryptletId,
) -> Result<Vec<Duration>, CliError> {
    let feed = threshold(0)?.feed(cryptlet);
    let mut series = Vec::new();
    for number in 0..=VALUES {
        let observation = Observation {
            feed,
            // Just below a bound: so that each step passes as many.
            value: whole(number.saturating_mul(STEP).saturating_add(5))?,
            at: SystemClock.now().saturating_add(number),
            signature: CompactSignature::default(),
        };
        let start = Instant::now();
        let hits = engine.observe(&observation);
        let took = start.elapsed();
        engine.thresholds.take_changed();
        // The first value of a feed crosses nothing.
        if number > 0 && hits.len() == 100 {
            series.push(took);
        }
    }
    if series.is_empty() {
        return Err(CliError::new("no value has crossed 100 bounds")
            .next("ask for more subscriptions: --count 1000000"));
    }
    Ok(series)
}

/// How long after their second timers are taken, each by itself.
async fn timers(
    stage: &Stage,
    engine: &mut Subscriptions,
    steps: &Steps,
) -> Result<Vec<Duration>, CliError> {
    let doing = "cannot wait for a timer";
    steps.begin("timers", SECONDS);
    let first = SystemClock.now().saturating_add(3);
    let maker = Maker {
        domain: domain(stage),
        cryptlet: stage.cryptlet.cryptlet,
        now: first,
    };
    for number in 0..TIMERS.saturating_mul(SECONDS) {
        let at = first.saturating_add(number / TIMERS);
        let trigger = TriggerSpec::Instants(InstantsSpec {
            instants: vec![at],
            missed: Missed::CatchUp,
        });
        let mut subscription = maker.subscription(u64::MAX - number, trigger);
        subscription.since = 0;
        let added = engine.add(&subscription, &Restored::default(), 0);
        added.doing(doing)?;
    }
    // What fell due while the journal was written and read is not what is measured.
    while !engine.agenda.take_due(first - 1, 100_000).is_empty() {}
    let mut late = Vec::new();
    for second in first..first.saturating_add(SECONDS) {
        SystemClock.sleep_until(second).await;
        let events = engine.agenda.take_due(second, usize::MAX);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).doing(doing)?;
        let passed = now.saturating_sub(Duration::from_secs(second));
        late.extend(std::iter::repeat_n(passed, events.len()));
        steps.at(second.saturating_sub(first));
    }
    late.sort_unstable();
    Ok(late)
}

/// Makes subscriptions.
struct Maker {
    domain: ReportDomain,
    cryptlet: CryptletId,
    now: UnixSeconds,
}

impl Maker {
    fn subscription(&self, number: u64, trigger: TriggerSpec) -> Subscription {
        let consumer = B256::from(U256::from(number).saturating_add(U256::from(1) << 100_usize));
        let subscription = Subscription {
            subject: Subject(B256::ZERO),
            consumer: Address::from_word(consumer),
            nonce: 0,
            cryptlet: self.cryptlet,
            on_behalf_of: Address::ZERO,
            callback: FixedBytes([1; 4]),
            callback_gas: 60_000,
            validity: 86_400,
            trigger,
            params: Bytes::new(),
            since: self.now,
        };
        subscription.with_subject_in(&self.domain)
    }

    /// Of ten subscriptions: three by clock, one each by interval, market and instants, two by a bound, one each by log,
    /// block and message.
    fn mixed(&self, number: u64) -> TriggerSpec {
        match number % 10 {
            0 | 1 => clock(number),
            2 => TriggerSpec::Interval(IntervalSpec {
                seconds: 3_600_u64.saturating_add(number % 86_400),
                calendar: String::new(),
                missed: Missed::Skip,
            }),
            3 => TriggerSpec::Schedule(ScheduleSpec {
                cron: format!("close-{}", 1 + number % 300),
                time_zone: String::new(),
                calendar: "XNYS".into(),
                missed: Missed::Skip,
            }),
            4 => {
                let first = self.now.saturating_add(3_600).saturating_add(number);
                TriggerSpec::Instants(InstantsSpec {
                    instants: vec![first, first.saturating_add(86_400)],
                    missed: Missed::Skip,
                })
            }
            // Their bounds lie one after the other.
            rest @ (5 | 6) => {
                let place = (number / 10).saturating_mul(2).saturating_add(rest - 5);
                threshold(place).map_or(TriggerSpec::Request, TriggerSpec::Threshold)
            }
            7 => TriggerSpec::Log(LogSpec {
                chain_id: self.domain.chain_id,
                emitter: Address::repeat_byte(1),
                topics: vec![B256::repeat_byte(7), U256::from(number).into()],
                finality: Finality::Latest,
            }),
            8 => TriggerSpec::Blocks(BlocksSpec {
                chain_id: self.domain.chain_id,
                every: 1_000_u64.saturating_add(number % 10_000),
                finality: Finality::Latest,
            }),
            _ => TriggerSpec::Application(ApplicationSpec {
                application: format!("application {}", number % 1_000),
                kind: format!("kind {}", number % 7),
            }),
        }
    }
}

/// One of 1,440 times of day in one of three zones.
fn clock(number: u64) -> TriggerSpec {
    let zone = match number % 3 {
        0 => "Europe/Berlin",
        1 => "America/New_York",
        _ => "Asia/Tokyo",
    };
    TriggerSpec::Clock(ClockSpec {
        cron: format!("{} {} * * *", number % 60, number / 60 % 24),
        time_zone: zone.into(),
    })
}

/// The bounds of one feed are 10 apart.
fn threshold(place: u64) -> Result<ThresholdSpec, CliError> {
    Ok(ThresholdSpec {
        feed_params: Bytes::new(),
        every: 3_600,
        bound: whole(place.saturating_add(1).saturating_mul(10))?,
        direction: Direction::Rising,
        hysteresis: U256::from(500),
        repeat: true,
    })
}

fn whole(value: u64) -> Result<I256, CliError> {
    I256::try_from(value).doing("a feed's value")
}

fn print(outcome: &Outcome) {
    let row = |name: &str, value: String, limit: &str| {
        say(format_args!("{name:<46} {value:>12} {limit:>12}"));
    };
    say(format_args!(
        "\n{:<46} {:>12} {:>12}",
        format!("{} subscriptions", outcome.subscriptions),
        "measured",
        "at most"
    ));
    row(
        "written to the journal",
        format!("{:.1} s", outcome.write_s),
        "",
    );
    row(
        "start of the host",
        format!("{:.2} s", outcome.start_s),
        "10 s",
    );
    row(
        "memory of the host",
        format!("{} MiB", outcome.resident_bytes >> 20),
        "1024 MiB",
    );
    let millis = |value: f64| format!("{value:.3} ms");
    row(
        "a value that 100 wait for, p50",
        millis(outcome.match_100_hits_ms),
        "1 ms",
    );
    row(
        "a timer's lateness, p99",
        millis(outcome.timer_lateness_p99_ms),
        "10 ms",
    );
}
