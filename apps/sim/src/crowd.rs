//! Many seeds, on several threads. Each seed stays on one.

use crate::{Fixture, FixtureError, Outcome, Switches, run};
use std::{
    io,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

/// Lives through `seeds` on so many threads; as many as there are processors, unless it is said. What came of each is taken by
/// `take`, in the order in which they end.
///
/// # Errors
/// A world could not be made.
pub fn each(
    seeds: Range<u64>,
    threads: Option<usize>,
    switches: Switches,
    take: impl Fn(Outcome) + Sync,
) -> Result<(), FixtureError> {
    let processors = thread::available_parallelism().map_or(1, Into::into);
    let next = AtomicU64::new(seeds.start);
    let work = || -> Result<(), FixtureError> {
        let fixture = Fixture::new()?;
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return Ok(());
            }
            take(run(&fixture, seed, switches)?);
        }
    };
    thread::scope(|scope| {
        let threads = 0..threads.unwrap_or(processors).max(1);
        let hired: Vec<_> = threads.map(|_| scope.spawn(work)).collect();
        let ended = hired.into_iter().map(|thread| {
            let panicked = |_| Err(io::Error::other("a thread of the simulation panicked").into());
            thread.join().unwrap_or_else(panicked)
        });
        ended.fold(Ok(()), Result::and)
    })
}
