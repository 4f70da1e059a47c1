//! `cryptlet demo`: the paper's MarketWatcher, with real figures, on a chain of its own.

pub(crate) mod replay;
pub(crate) mod stage;
mod summary;
mod tally;

use crate::{
    args::DemoOptions,
    commands::node::interrupted,
    error::{CliError, Doing},
    screen::{Printer, say},
};
use cryptlet_feed::Rates;
use cryptlet_host::Host;
use replay::Replay;
use stage::DemoStage;
use std::process::ExitCode;
use summary::Summary;

/// The European Central Bank's euro reference rates; see `data/README.md`.
const RATES: &str = include_str!("../../../../../data/ecb-reference-rates.csv");

/// The rates that the demo's feed serves.
pub(crate) fn rates() -> Result<Rates, CliError> {
    Rates::parse(RATES).doing("cannot read the rates")
}

pub(crate) async fn run(options: DemoOptions) -> Result<ExitCode, CliError> {
    let rates = rates()?;
    check_range(&options, &rates)?;
    let printer = Printer::new(options.json);
    let demo = DemoStage::build(&options.out, options.from, &options.pairs, rates, printer).await?;
    let mut host = Host::open(&demo.stage.config)
        .await
        .doing("the host did not start")?;
    printer.line("");
    let replay = Replay::run(&demo, &mut host, &options, printer).await?;
    let summary = Summary::collect(&demo, &host, &options, replay, printer).await?;
    summary.print(&demo, printer);
    if options.json {
        say(summary.to_json().doing("cannot write JSON")?);
    }
    if options.keep_running {
        demo.introduce(printer);
        tokio::select! {
            outcome = interrupted() => outcome?,
            ended = host.ended() => ended.doing("the host cannot go on")?,
        }
    }
    host.stop().await;
    demo.stage
        .close()
        .await
        .doing("the demo did not end cleanly")?;
    Ok(if summary.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn check_range(options: &DemoOptions, rates: &Rates) -> Result<(), CliError> {
    if options.from > options.to {
        let (from, to) = (options.from, options.to);
        return Err(
            CliError::new(format_args!("--from {from} is after --to {to}")).next("swap them"),
        );
    }
    let (first, last) = rates
        .range()
        .ok_or_else(|| CliError::new("the rates' file is empty"))?;
    let outside =
        options.to.to_string().as_str() < first || options.from.to_string().as_str() > last;
    if outside {
        let what = format!("there are rates from {first} to {last}, none in the range asked for");
        return Err(CliError::new(what).next(format!("for example --from {last} --to {last}")));
    }
    Ok(())
}
