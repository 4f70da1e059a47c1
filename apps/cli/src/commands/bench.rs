//! `cryptlet bench`: the path from the block that holds an event to the block that holds its callback, beside a bare transaction
//! in the same run; what a host delivers in a second, what it costs, and what it loses when it is killed. And a host with a
//! million subscriptions.
//!
//! The host is a process of its own on its folder, the cryptlet is the one that answers at once, and each part has a stage of its
//! own. No figure is judged here.

mod arena;
mod faults;
mod gas;
mod ground;
pub(crate) mod isolation;
mod latency;
mod logs;
pub(crate) mod million;
mod observer;
mod process;
mod progress;
mod proxy;
mod stats;
mod throughput;

use crate::{
    args::PathBenchOptions,
    error::{CliError, Doing},
    screen::say,
};
use arena::Arena;
use ground::Ground;
use progress::Steps;
use serde::Serialize;
use std::process::ExitCode;

/// What `--json` prints.
#[derive(Serialize)]
struct Outcome {
    chain: &'static str,
    deliveries: u32,
    p50_ms: f64,
    p95_ms: f64,
    back_to_back_p50_ms: f64,
    back_to_back_p95_ms: f64,
    pipelined_p50_ms: f64,
    pipelined_p95_ms: f64,
    bare_tx_p50_ms: f64,
    deliveries_per_s: f64,
    sustained_deliveries: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries_per_block: Option<u64>,
    gas_single: u64,
    gas_in_batch: u64,
    /// Reports in the batches that `gas_in_batch` is of.
    batch: u64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    faults: Option<Faults>,
}

#[derive(Serialize)]
struct Faults {
    kill9: faults::Outcome,
    down: faults::Outcome,
    ws_cut: faults::Outcome,
}

pub(crate) async fn run(options: PathBenchOptions) -> Result<ExitCode, CliError> {
    let steps = Steps::new();
    let ground = Ground::of(&options.chain)?;
    let outcome = measure(&ground, &options, &steps).await?;
    drop(steps);
    if options.json {
        say(serde_json::to_string(&outcome).doing("cannot write JSON")?);
    } else {
        print(&outcome);
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(
    ground: &Ground,
    options: &PathBenchOptions,
    steps: &Steps,
) -> Result<Outcome, CliError> {
    steps.begin("a stage", 1);
    let mut arena = Arena::build(ground, 1).await?;
    let latency = latency::measure(&mut arena, options.deliveries, steps).await?;
    let (single, _) = gas::measure(&arena, latency.idle_blocks).await?;
    drop(arena);
    let (sustained, arena) = throughput::sustained(ground, steps).await?;
    let (_, batch) = gas::measure(&arena, sustained.blocks).await?;
    drop(arena);
    let deliveries_per_block = match ground.is_own() {
        true => Some(throughput::per_block(ground, steps).await?),
        false => None,
    };
    let faults = match options.no_faults {
        true => None,
        false => Some(Faults {
            kill9: faults::kill9(ground, steps).await?,
            down: faults::down(ground, steps).await?,
            ws_cut: faults::ws_cut(ground, steps).await?,
        }),
    };
    Ok(Outcome {
        chain: ground.name(),
        deliveries: options.deliveries,
        p50_ms: latency.idle.p50,
        p95_ms: latency.idle.p95,
        back_to_back_p50_ms: latency.back_to_back.p50,
        back_to_back_p95_ms: latency.back_to_back.p95,
        pipelined_p50_ms: latency.pipelined.p50,
        pipelined_p95_ms: latency.pipelined.p95,
        bare_tx_p50_ms: latency.bare.p50,
        deliveries_per_s: sustained.per_second,
        sustained_deliveries: sustained.deliveries,
        deliveries_per_block,
        gas_single: single.each,
        gas_in_batch: batch.each,
        batch: batch.reports,
        faults,
    })
}

fn print(outcome: &Outcome) {
    say(format_args!(
        "\n{:<46} {:>9} {:>9}",
        format!(
            "milliseconds, {} events on {}",
            outcome.deliveries, outcome.chain
        ),
        "p50",
        "p95"
    ));
    let times = |name: &str, p50: f64, p95: f64| {
        say(format_args!("{name:<46} {p50:>9.3} {p95:>9.3}"));
    };
    times("event to callback, idle", outcome.p50_ms, outcome.p95_ms);
    times(
        "event to callback, back to back",
        outcome.back_to_back_p50_ms,
        outcome.back_to_back_p95_ms,
    );
    times(
        "event to callback, all events at once",
        outcome.pipelined_p50_ms,
        outcome.pipelined_p95_ms,
    );
    say(format_args!(
        "{:<46} {:>9.3}",
        "limit: a bare transaction, sent and mined", outcome.bare_tx_p50_ms
    ));
    let count = |name: &str, value: String| say(format_args!("{name:<46} {value:>9}"));
    say("");
    count(
        "deliveries a second, sustained",
        format!("{:.0}", outcome.deliveries_per_s),
    );
    if let Some(deliveries) = outcome.deliveries_per_block {
        count(
            "deliveries a block, a block a second",
            deliveries.to_string(),
        );
    }
    count(
        "gas of a delivery by itself",
        outcome.gas_single.to_string(),
    );
    count(
        &format!("gas of each in a batch of {}", outcome.batch),
        outcome.gas_in_batch.to_string(),
    );
    if let Some(faults) = &outcome.faults {
        print_faults(faults);
    }
}

fn print_faults(faults: &Faults) {
    say(format_args!(
        "\n{:<46} {:>9} {:>9} {:>9} {:>9}",
        format!("of {} events", faults.kill9.events),
        "delivered",
        "doubled",
        "lost",
        "seconds"
    ));
    let rows = [
        ("host killed with SIGKILL in the burst", &faults.kill9),
        ("host away meanwhile", &faults.down),
        ("host cut off from its node in the burst", &faults.ws_cut),
    ];
    for (name, found) in rows {
        say(format_args!(
            "{name:<46} {:>9} {:>9} {:>9} {:>9.1}",
            found.delivered, found.doubled, found.lost, found.seconds
        ));
    }
}
