//! Days go by: the chain's time is moved to 16:00 of each, and what the host makes of it is watched.

use super::stage::DemoStage;
use crate::{
    args::DemoOptions,
    error::{CliError, Doing},
    screen::{Paint, Printer, painted},
};
use alloy::sol_types::SolValue;
use cryptlet_host::{Host, Progress};
use cryptlet_types::{Receipt, UnixSeconds};
use jiff::{
    Span,
    civil::{Date, Time},
};
use std::time::Duration;
use tokio::sync::broadcast;

/// Wall-clock time for one day, after which it counts as missed.
const PATIENCE: Duration = Duration::from_secs(60);
/// When the contract wants to be woken, and where.
const WAKE: (Time, &str) = (Time::constant(16, 0, 0, 0), "Europe/Berlin");

/// What happened, by day.
#[derive(Default)]
pub(crate) struct Replay {
    /// Days on which the market was open, by the feed's own file.
    pub(crate) due: Vec<Date>,
    /// Days replayed.
    pub(crate) days: usize,
    /// Gas of the deliveries that the host told of.
    pub(crate) gas: Vec<u64>,
}

impl Replay {
    /// Replays every day of the range.
    pub(crate) async fn run(
        demo: &DemoStage,
        host: &mut Host,
        options: &DemoOptions,
        printer: Printer,
    ) -> Result<Self, CliError> {
        let mut replay = Self::default();
        let mut progress = host.watch();
        let mut day = options.from;
        while day <= options.to {
            replay.days += 1;
            if demo.rates.is_open(&day.to_string()) {
                replay.due.push(day);
            }
            let due = due_of(day)?;
            demo.stage.set_time(due).await.doing("the chain's time")?;
            tokio::select! {
                end = end_of(&mut progress, due) => replay.take(day, end?, options, printer)?,
                ended = host.ended() => ended.doing("the host cannot go on")?,
                () = tokio::time::sleep(PATIENCE) => printer.line(format_args!(
                    "{day}  {}",
                    painted("nothing happened within a minute", Paint::Bad)
                )),
            }
            day = day
                .checked_add(Span::new().days(1))
                .doing("the calendar ends")?;
        }
        Ok(replay)
    }

    fn take(
        &mut self,
        day: Date,
        end: Progress,
        options: &DemoOptions,
        printer: Printer,
    ) -> Result<(), CliError> {
        match end {
            Progress::Delivered {
                receipt,
                success,
                block,
                gas_used,
            } => {
                let rates = rates_of(&receipt, &options.pairs)?;
                let signer = receipt.report.signer;
                let reverted = if success {
                    String::new()
                } else {
                    painted("  callback reverted", Paint::Bad)
                };
                printer.line(format_args!(
                    "{day}  {rates}  block {block:>4}  gas {gas_used:>6}  signer {signer}{reverted}"
                ));
                self.gas.push(gas_used);
            }
            Progress::Skipped { reason, .. } => {
                printer.line(painted(format_args!("{day}  {reason}"), Paint::Dim))
            }
            Progress::Failed { reason, .. }
            | Progress::Parked { reason, .. }
            | Progress::Refused { reason, .. } => {
                printer.line(format_args!("{day}  {}", painted(reason, Paint::Bad)));
            }
            Progress::Retried { .. } => {}
        }
        Ok(())
    }
}

/// The moment of a day at which the contract wants to be woken.
pub(crate) fn due_of(day: Date) -> Result<UnixSeconds, CliError> {
    let (time, zone) = WAKE;
    let due = day.to_datetime(time).in_tz(zone).doing("the calendar")?;
    u64::try_from(due.timestamp().as_second()).doing("days before 1970 cannot be replayed")
}

/// Waits for the end of what was due at `due`.
async fn end_of(
    progress: &mut broadcast::Receiver<Progress>,
    due: UnixSeconds,
) -> Result<Progress, CliError> {
    loop {
        let news = match progress.recv().await {
            Err(broadcast::error::RecvError::Lagged(_)) => continue,
            news => news.doing("the host has ended")?,
        };
        let when = match &news {
            Progress::Delivered { receipt, .. } => receipt.event.trigger.due(),
            Progress::Skipped { job, .. }
            | Progress::Failed { job, .. }
            | Progress::Parked { job, .. } => job.event.trigger.due(),
            Progress::Refused { event, .. } => event.trigger.due(),
            Progress::Retried { .. } => continue,
        };
        if when == due {
            return Ok(news);
        }
    }
}

/// The rates in a report's payload, for people: `USD 1.1172  GBP 0.8338`.
fn rates_of(receipt: &Receipt, pairs: &[String]) -> Result<String, CliError> {
    let payload = &receipt.report.report.payload;
    let (_day, rates) = <(u64, Vec<alloy::primitives::U256>)>::abi_decode_params_validate(payload)
        .doing("the report's payload")?;
    let shown = pairs.iter().zip(rates).map(|(pair, rate)| {
        let figure = alloy::primitives::utils::format_ether(rate);
        let short = figure.trim_end_matches('0').trim_end_matches('.');
        format!("{pair} {short:<8}")
    });
    Ok(shown.collect::<Vec<_>>().join(" "))
}
