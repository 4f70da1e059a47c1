//! `cryptlet bench path`: from trigger to mined callback, beside the limit measured in the same run.
//!
//! The limit is the sum of a bare component call (a component that only returns what it is given, in the same
//! kind of region), one secp256k1 signature, and one transaction sent to the same node and mined. What is above it
//! is the path's own work: the question to the feed, journal, routing, checks. The cryptlet's own call, with its
//! question to the feed, is measured beside them.

mod limits;
mod path;
mod stats;

use crate::{
    args::BenchOptions,
    commands::demo::{rates, stage::DemoStage},
    error::{CliError, Doing},
    screen::{Printer, say},
};
use jiff::civil::Date;
use serde::Serialize;
use stats::Figures;
use std::process::ExitCode;

/// First day that is replayed: the rates' file has about 700 open days from here on.
const FIRST: Date = Date::constant(2024, 1, 2);
/// Consumers that are woken at the same moments when deliveries a second are counted.
const CONSUMERS: u32 = 16;

/// What `--json` prints; times in milliseconds.
#[derive(Serialize)]
struct Outcome {
    deliveries: u32,
    path: Figures,
    component_call: Figures,
    cryptlet_call: Figures,
    signature: Figures,
    transaction: Figures,
    sum_of_limits_p50: f64,
    above_limits_p50: f64,
    deliveries_a_second: f64,
    transactions_a_second: f64,
}

pub(crate) async fn run(options: BenchOptions) -> Result<ExitCode, CliError> {
    let printer = Printer::new(options.json);
    let folder = tempfile::tempdir().doing("cannot make a folder")?;
    let pairs = ["USD".to_owned(), "GBP".to_owned()];
    let out = folder.path().join("bench");
    let demo = DemoStage::build(&out, FIRST, &pairs, rates()?, printer).await?;

    let component_call = limits::bare_calls(&demo, options.deliveries).await?;
    let cryptlet_call = limits::watcher_calls(&demo, options.deliveries).await?;
    let signature = limits::signatures(options.deliveries)?;
    let transaction = limits::transactions(&demo.stage, options.deliveries).await?;
    let path = path::measure(&demo, options.deliveries, CONSUMERS).await?;

    let sum = component_call.p50 + signature.p50 + transaction.p50;
    let outcome = Outcome {
        deliveries: options.deliveries,
        sum_of_limits_p50: sum,
        above_limits_p50: path.latency.p50 - sum,
        transactions_a_second: 1_000.0 / transaction.mean,
        deliveries_a_second: path.a_second,
        path: path.latency,
        component_call,
        cryptlet_call,
        signature,
        transaction,
    };
    if options.json {
        say(serde_json::to_string(&outcome).doing("cannot write JSON")?);
    } else {
        print(&outcome);
    }
    demo.stage.close().await.doing("the chain did not stop")?;
    Ok(ExitCode::SUCCESS)
}

fn print(outcome: &Outcome) {
    say(format_args!(
        "\n{:<46} {:>9} {:>9} {:>9}",
        "milliseconds", "p50", "p95", "mean"
    ));
    let row = |name: &str, figures: &Figures| {
        say(format_args!(
            "{name:<46} {:>9.3} {:>9.3} {:>9.3}",
            figures.p50, figures.p95, figures.mean
        ));
    };
    row("trigger to mined callback", &outcome.path);
    row("limit: a bare component call", &outcome.component_call);
    row("limit: one secp256k1 signature", &outcome.signature);
    row(
        "limit: one transaction, sent and mined",
        &outcome.transaction,
    );
    row(
        "beside: the cryptlet with its HTTPS question",
        &outcome.cryptlet_call,
    );
    say(format_args!(
        "{:<46} {:>9.3}",
        "sum of the limits", outcome.sum_of_limits_p50
    ));
    say(format_args!(
        "{:<46} {:>9.3}",
        "above the limits", outcome.above_limits_p50
    ));
    say(format_args!(
        "{:<46} {:>9.1}",
        format!("deliveries a second ({CONSUMERS} subscriptions)"),
        outcome.deliveries_a_second
    ));
    say(format_args!(
        "{:<46} {:>9.1}",
        "limit: transactions a second, one by one", outcome.transactions_a_second
    ));
}
