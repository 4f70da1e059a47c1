//! How much one host delivers when there is always more to deliver, and how much fits into a block.

use super::{
    arena::{Arena, block_of},
    ground::Ground,
    progress::Steps,
};
use crate::error::{CliError, Doing};
use alloy::providers::Provider;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Subscriptions, each woken by its own events.
const LANES: u64 = 200;
/// How long there is always more to deliver.
const WINDOW: Duration = Duration::from_secs(10);
/// Events that wait at any time.
const AHEAD: u64 = 2_500;
/// Events that are made at once.
const AT_ONCE: u64 = 500;
/// Events of the measurement with a block a second.
const SLOW_EVENTS: u64 = 2_000;

/// What a sustained load gave.
pub(crate) struct Sustained {
    pub(crate) per_second: f64,
    pub(crate) deliveries: u64,
    /// Blocks in which the reports were delivered.
    pub(crate) blocks: (u64, u64),
}

/// Deliveries a second while there is always more to deliver, until all is delivered. Returns the arena too, for its chain.
pub(crate) async fn sustained(
    ground: &Ground,
    steps: &Steps,
) -> Result<(Sustained, Arena), CliError> {
    let mut arena = Arena::build(ground, LANES).await?;
    let _host = arena.start_host().await?;
    arena.warm_up().await?;
    steps.begin("as many as it can", WINDOW.as_secs());
    let had = arena.observer.seen().delivered;
    let first = arena.height().await?.saturating_add(1);
    let (mut made, start) = (0_u64, Instant::now());
    let begin = arena.take(0).0;
    while start.elapsed() < WINDOW {
        let done = arena.observer.seen().delivered.saturating_sub(had);
        if made.saturating_sub(done) < AHEAD {
            let range = arena.take(AT_ONCE);
            arena.ping(range).await?;
            made = made.saturating_add(AT_ONCE);
        } else {
            sleep(Duration::from_millis(5)).await;
        }
        steps.at(start.elapsed().as_secs());
    }
    let all = arena.observer.all_delivered(had.saturating_add(made));
    let all = all.await;
    all.map_err(|error| arena.explained(&error))?;
    let end = arena.observer.seen().last.unwrap_or(start);
    check(&arena, (begin, made)).await?;
    let from = arena.observer.time_of(first).await?;
    let seconds = end.saturating_duration_since(from).as_secs_f64();
    let deliveries = made;
    let measured = Sustained {
        per_second: exact(deliveries) / seconds,
        deliveries,
        blocks: (first, arena.height().await?),
    };
    Ok((measured, arena))
}

/// Deliveries in a block, the middle one of those that were not cut short, where there is a block a second.
pub(crate) async fn per_block(ground: &Ground, steps: &Steps) -> Result<u64, CliError> {
    let mut arena = Arena::build(ground, LANES).await?;
    let _host = arena.start_host().await?;
    arena.warm_up().await?;
    steps.begin("a block a second", SLOW_EVENTS);
    let had = arena.observer.seen().delivered;
    let first = arena.height().await?;
    let doing = "cannot have a block made each second";
    let set = arena
        .provider
        .raw_request::<_, serde_json::Value>("evm_setIntervalMining".into(), (1_u64,));
    set.await.doing(doing)?;
    let range = arena.take(SLOW_EVENTS);
    arena.ping(range).await?;
    let all = arena
        .observer
        .all_delivered(had.saturating_add(SLOW_EVENTS));
    let all = all.await;
    all.map_err(|error| arena.explained(&error))?;
    check(&arena, range).await?;
    let blocks = (first, arena.height().await?);
    let mut counts = BTreeMap::<u64, u64>::new();
    for log in arena.deliveries(blocks).await? {
        let count = counts.entry(block_of(&log)?).or_default();
        *count = count.saturating_add(1);
    }
    Ok(middle(counts.into_values().collect()))
}

/// The median of all but the first and the last, which have what the load began and ended with.
fn middle(mut counts: Vec<u64>) -> u64 {
    if counts.len() > 2 {
        counts.pop();
        counts.remove(0);
    }
    counts.sort_unstable();
    counts.get(counts.len() / 2).copied().unwrap_or_default()
}

/// A load counts only if all of it came back, once.
async fn check(arena: &Arena, range: (u64, u64)) -> Result<(), CliError> {
    let tally = arena.tally(range).await?;
    if tally.delivered == range.1 && tally.doubled == 0 {
        return Ok(());
    }
    Err(CliError::new(format_args!(
        "of {} events {} came back, {} of them more than once",
        range.1, tally.delivered, tally.doubled
    )))
}

/// A count that a float holds exactly.
fn exact(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_are_cut_short_do_not_count() {
        assert_eq!(middle(vec![1, 300, 200, 250, 7]), 250);
        assert_eq!(middle(vec![5, 9]), 9);
        assert_eq!(middle(vec![]), 0);
    }
}
