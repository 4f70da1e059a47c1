//! What time it is, injected: nothing in the pipeline asks the machine by itself.

use async_trait::async_trait;
use cryptlet_chain::Head;
use cryptlet_types::UnixSeconds;
use std::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};
use tokio::sync::Notify;

/// A source of time.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The present second.
    fn now(&self) -> UnixSeconds;

    /// Returns once [`Clock::now`] has reached `at`. May be dropped at any point.
    async fn sleep_until(&self, at: UnixSeconds);
}

/// Longest sleep before the system's clock is read again: it may have been set in the meantime.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl SystemClock {
    fn since_epoch() -> Duration {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> UnixSeconds {
        Self::since_epoch().as_secs()
    }

    async fn sleep_until(&self, at: UnixSeconds) {
        loop {
            let left = Duration::from_secs(at).saturating_sub(Self::since_epoch());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
        }
    }
}

/// A clock that stands still until it is moved: for tests and replays. It never goes back. Who waited longest is woken first,
/// so that a simulation can be repeated.
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicU64,
    moved: Notify,
}

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn new(now: UnixSeconds) -> Self {
        Self {
            now: AtomicU64::new(now),
            moved: Notify::new(),
        }
    }

    /// Moves the clock on to `now`; an earlier time changes nothing.
    pub fn advance_to(&self, now: UnixSeconds) {
        if self.now.fetch_max(now, Ordering::SeqCst) < now {
            self.moved.notify_waiters();
        }
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> UnixSeconds {
        self.now.load(Ordering::SeqCst)
    }

    async fn sleep_until(&self, at: UnixSeconds) {
        loop {
            // Who waits is on the list before the clock is read: it cannot be moved unnoticed in between.
            let mut moved = pin!(self.moved.notified());
            moved.as_mut().enable();
            if self.now() >= at {
                return;
            }
            moved.await;
        }
    }
}

/// A chain's own time: the timestamp of the newest block that was observed. It stands still while the chain does,
/// and never goes back, not even when the chain does.
#[derive(Debug)]
pub struct ChainClock {
    clock: ManualClock,
}

impl ChainClock {
    /// A clock that shows the time of `head`.
    #[must_use]
    pub fn new(head: &Head) -> Self {
        Self {
            clock: ManualClock::new(head.timestamp),
        }
    }

    /// Moves the clock on to the time of `head`.
    pub fn observe(&self, head: &Head) {
        self.clock.advance_to(head.timestamp);
    }
}

#[async_trait]
impl Clock for ChainClock {
    fn now(&self) -> UnixSeconds {
        self.clock.now()
    }

    async fn sleep_until(&self, at: UnixSeconds) {
        self.clock.sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_manual_clock_wakes_who_waits_and_never_goes_back() {
        let clock = Arc::new(ManualClock::new(100));
        let waiting = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(200).await }
        });
        clock.advance_to(199);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        clock.advance_to(200);
        waiting.await.unwrap();
        clock.advance_to(50);
        assert_eq!(clock.now(), 200);
        clock.sleep_until(200).await;
    }

    #[tokio::test]
    async fn the_system_clock_wakes_at_the_second_and_not_before() {
        let at = SystemClock.now() + 1;
        SystemClock.sleep_until(at).await;
        assert!(SystemClock.now() >= at);
    }
}
