//! From the block that holds an event to the block that holds its callback, one event or several at a time.

use super::{arena::Arena, observer::PATIENCE, progress::Steps, stats::Figures};
use crate::error::CliError;
use alloy::primitives::{Address, U256};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Wait before the next event where the path is to be idle.
const PAUSE: Duration = Duration::from_millis(25);

/// The series that were measured.
pub(crate) struct Latencies {
    /// A transfer, from sending to the notice of its block.
    pub(crate) bare: Figures,
    /// One event at a time, with a pause between.
    pub(crate) idle: Figures,
    /// One event as soon as the callback before was seen.
    pub(crate) back_to_back: Figures,
    /// All events without waiting.
    pub(crate) pipelined: Figures,
    /// Blocks of the idle series, in which each report is delivered by itself.
    pub(crate) idle_blocks: (u64, u64),
}

pub(crate) async fn measure(
    arena: &mut Arena,
    count: u32,
    steps: &Steps,
) -> Result<Latencies, CliError> {
    let bare = bare_transfers(arena, count, steps).await?;
    let _host = arena.start_host().await?;
    // The first runs of a region and first stores of a contract are slower than all others.
    for _ in 0..5 {
        arena.warm_up().await?;
    }
    steps.begin("one event at a time", count.into());
    let from = arena.height().await?.saturating_add(1);
    let idle = one_by_one(arena, count, PAUSE, steps).await?;
    let idle_blocks = (from, arena.height().await?);
    steps.begin("back to back", count.into());
    let back_to_back = one_by_one(arena, count, Duration::ZERO, steps).await?;
    steps.begin("without waiting", count.into());
    let pipelined = without_waiting(arena, count).await?;
    Ok(Latencies {
        bare,
        idle,
        back_to_back,
        pipelined,
        idle_blocks,
    })
}

/// Transfers, signed beforehand.
async fn bare_transfers(arena: &mut Arena, count: u32, steps: &Steps) -> Result<Figures, CliError> {
    steps.begin("bare transfers", count.into());
    let mut series = Vec::new();
    for number in 0..count {
        let to = Address::repeat_byte(9);
        let raw = arena.sender.sign(to, U256::from(1), vec![], 21_000).await?;
        let block = arena.height().await?.saturating_add(1);
        let start = Instant::now();
        arena.send(&raw).await?;
        let noticed = arena.observer.time_of(block).await?;
        series.push(noticed.saturating_duration_since(start));
        steps.at(number.into());
    }
    Ok(Figures::of(series))
}

async fn one_by_one(
    arena: &mut Arena,
    count: u32,
    pause: Duration,
    steps: &Steps,
) -> Result<Figures, CliError> {
    let from = arena.height().await?.saturating_add(1);
    for number in 0..count {
        let range = arena.take(1);
        let raw = arena.signed_ping(range).await?;
        sleep(pause).await;
        let had = arena.observer.seen().delivered;
        arena.send(&raw).await?;
        let delivered = arena.observer.delivered(had.saturating_add(1), PATIENCE);
        let delivered = delivered.await;
        delivered.map_err(|error| arena.explained(&error))?;
        steps.at(number.into());
    }
    latencies(arena, from, count).await
}

async fn without_waiting(arena: &mut Arena, count: u32) -> Result<Figures, CliError> {
    let from = arena.height().await?.saturating_add(1);
    let mut signed = Vec::new();
    for _ in 0..count {
        let range = arena.take(1);
        signed.push(arena.signed_ping(range).await?);
    }
    let had = arena.observer.seen().delivered;
    for raw in &signed {
        arena.send(raw).await?;
    }
    let delivered = arena
        .observer
        .all_delivered(had.saturating_add(count.into()));
    let delivered = delivered.await;
    delivered.map_err(|error| arena.explained(&error))?;
    latencies(arena, from, count).await
}

/// What lies between the notices of each event's block and of its callback's, in the blocks since `from`.
async fn latencies(arena: &Arena, from: u64, count: u32) -> Result<Figures, CliError> {
    let blocks = (from, arena.height().await?);
    let events = arena.event_blocks(blocks).await?;
    let mut series = Vec::new();
    for callback in arena.callbacks(blocks).await? {
        if let Some(event) = events.get(&callback.n) {
            let start = arena.observer.time_of(*event).await?;
            let end = arena.observer.time_of(callback.block).await?;
            series.push(end.saturating_duration_since(start));
        }
    }
    if u32::try_from(series.len()).is_ok_and(|found| found == count) {
        return Ok(Figures::of(series));
    }
    let found = series.len();
    Err(CliError::new(format_args!(
        "{found} callbacks of {count} events are in the blocks {blocks:?}"
    )))
}
