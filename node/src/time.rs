//! The chain's clock: wall time plus an offset, as Anvil's time methods move it.

use crate::config::WallClock;

/// Timestamps and offsets stay below this (about the year 2255), so that sums cannot overflow.
const MAX_SECONDS: u64 = 9_000_000_000;

/// A time method was given a time that the chain cannot take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TimeError {
    /// Block times must rise.
    #[error("{given} is lower than or equal to previous block's timestamp {parent}")]
    NotAfterParent {
        /// The timestamp asked for.
        given: u64,
        /// The timestamp of the latest block.
        parent: u64,
    },
    /// The time lies beyond what the chain supports.
    #[error("timestamp or offset of {0} seconds is out of range")]
    OutOfRange(u64),
}

/// Decides the timestamp of the next block.
#[derive(Clone)]
pub(crate) struct ChainClock {
    wall: WallClock,
    /// Chain time minus wall time, in seconds.
    offset: i64,
    next: Option<u64>,
}

impl ChainClock {
    pub(crate) fn new(wall: WallClock) -> Self {
        Self {
            wall,
            offset: 0,
            next: None,
        }
    }

    /// Chain time minus wall time, in seconds.
    pub(crate) fn offset(&self) -> i64 {
        self.offset
    }

    /// The timestamp that was asked for the next block, if one was.
    pub(crate) fn next_exact(&self) -> Option<u64> {
        self.next
    }

    /// Sets both values, as the state file gives them back.
    pub(crate) fn restore(&mut self, offset: i64, next: Option<u64>) {
        self.offset = offset;
        self.next = next;
    }

    /// What the chain's clock shows.
    pub(crate) fn now(&self) -> u64 {
        (self.wall)()
            .min(MAX_SECONDS)
            .saturating_add_signed(self.offset)
    }

    /// Timestamp of the block after one of `parent`.
    pub(crate) fn next_timestamp(&self, parent: u64) -> u64 {
        self.next
            .unwrap_or_else(|| self.now())
            .max(parent.saturating_add(1))
    }

    /// A block of `timestamp` was made: a timestamp that was asked for becomes the clock's time.
    pub(crate) fn block_made(&mut self, timestamp: u64) {
        if self.next.take().is_some() {
            self.set_now(timestamp);
        }
    }

    /// Moves the clock forward; returns the whole offset, in seconds.
    pub(crate) fn increase(&mut self, seconds: u64) -> Result<i64, TimeError> {
        let offset = i64::try_from(seconds)
            .ok()
            .and_then(|seconds| self.offset.checked_add(seconds))
            .filter(|offset| offset.unsigned_abs() <= MAX_SECONDS)
            .ok_or(TimeError::OutOfRange(seconds))?;
        self.offset = offset;
        Ok(offset)
    }

    /// Gives the next block exactly `timestamp`.
    pub(crate) fn set_next(&mut self, timestamp: u64, parent: u64) -> Result<(), TimeError> {
        if timestamp <= parent {
            return Err(TimeError::NotAfterParent {
                given: timestamp,
                parent,
            });
        }
        self.next = Some(in_range(timestamp)?);
        Ok(())
    }

    /// Makes the clock show `timestamp` from now on; returns how far it moved, in seconds.
    pub(crate) fn set(&mut self, timestamp: u64) -> Result<u64, TimeError> {
        let before = self.now();
        self.set_now(in_range(timestamp)?);
        self.next = None;
        Ok(timestamp.saturating_sub(before))
    }

    fn set_now(&mut self, timestamp: u64) {
        let wall = (self.wall)().min(MAX_SECONDS);
        self.offset = timestamp.checked_signed_diff(wall).unwrap_or_default();
    }
}

fn in_range(timestamp: u64) -> Result<u64, TimeError> {
    if timestamp > MAX_SECONDS {
        Err(TimeError::OutOfRange(timestamp))
    } else {
        Ok(timestamp)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use proptest::prelude::*;

    use super::*;

    fn clock(wall: u64) -> (ChainClock, Arc<AtomicU64>) {
        let time = Arc::new(AtomicU64::new(wall));
        let read = Arc::clone(&time);
        (
            ChainClock::new(Arc::new(move || read.load(Ordering::SeqCst))),
            time,
        )
    }

    #[test]
    fn later_blocks_continue_from_an_exact_timestamp() {
        let (mut clock, wall) = clock(1_000);
        clock.set_next(5_000, 900).unwrap();
        assert_eq!(clock.next_timestamp(900), 5_000);
        clock.block_made(5_000);
        wall.store(1_007, Ordering::SeqCst);
        assert_eq!(clock.next_timestamp(5_000), 5_007);
    }

    #[test]
    fn a_timestamp_that_is_not_after_the_parent_is_refused() {
        let (mut clock, _) = clock(1_000);
        let refused = TimeError::NotAfterParent {
            given: 900,
            parent: 900,
        };
        assert_eq!(clock.set_next(900, 900), Err(refused));
        assert_eq!(clock.set_next(901, 900), Ok(()));
    }

    #[test]
    fn times_beyond_the_range_are_refused() {
        let (mut clock, _) = clock(1_000);
        assert_eq!(
            clock.increase(u64::MAX),
            Err(TimeError::OutOfRange(u64::MAX))
        );
        assert_eq!(clock.set(u64::MAX), Err(TimeError::OutOfRange(u64::MAX)));
        assert_eq!(clock.now(), 1_000);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Wall(u64),
        Increase(u64),
        Next(u64),
        Set(u64),
        Mine,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u64..10).prop_map(Step::Wall),
            (0u64..100).prop_map(Step::Increase),
            (0u64..2_000).prop_map(Step::Next),
            (0u64..2_000).prop_map(Step::Set),
            Just(Step::Mine),
        ]
    }

    proptest! {
        #[test]
        fn block_times_always_rise(steps in prop::collection::vec(step(), 0..60)) {
            let (mut clock, wall) = clock(1_000);
            let mut parent = 1_000;
            let mut asked = None;
            for step in steps {
                match step {
                    Step::Wall(seconds) => { wall.fetch_add(seconds, Ordering::SeqCst); }
                    Step::Increase(seconds) => { clock.increase(seconds).unwrap(); }
                    Step::Next(at) => {
                        let accepted = clock.set_next(at, parent).is_ok();
                        prop_assert_eq!(accepted, at > parent);
                        if accepted { asked = Some(at); }
                    }
                    Step::Set(at) => { clock.set(at).unwrap(); asked = None; }
                    Step::Mine => {
                        let timestamp = clock.next_timestamp(parent);
                        prop_assert!(timestamp > parent);
                        if let Some(asked) = asked.take() {
                            prop_assert_eq!(timestamp, asked);
                        }
                        clock.block_made(timestamp);
                        parent = timestamp;
                    }
                }
            }
        }
    }
}
