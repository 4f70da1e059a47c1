//! The wall-clock end of a run, and the thread that enforces it on running code.
//!
//! Fuel bounds what a cryptlet computes, always at the same instruction; the deadline is the backstop for what
//! fuel cannot count: waiting for sources, and a slow machine.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, Instant},
};

/// When a run must be over.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    millis: u64,
}

/// A run took longer than this many milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("run took longer than {0} ms")]
pub struct DeadlinePassed(pub u64);

impl Deadline {
    /// `millis` from now; none if there is no such moment.
    #[must_use]
    pub fn after(millis: u64) -> Option<Self> {
        let at = Instant::now().checked_add(Duration::from_millis(millis))?;
        Some(Self { at, millis })
    }

    /// # Errors
    /// It has passed.
    pub fn check(&self) -> Result<(), DeadlinePassed> {
        match Instant::now() < self.at {
            true => Ok(()),
            false => Err(self.passed()),
        }
    }

    /// The error of a run that is over.
    #[must_use]
    pub fn passed(&self) -> DeadlinePassed {
        DeadlinePassed(self.millis)
    }
}

/// Stops running code, or does nothing if none runs.
pub type Stop = Box<dyn Fn() + Send>;

/// Code that was told to stop, and has not said so, is told again after this long: it may not have run yet.
const AGAIN: Duration = Duration::from_millis(10);

#[derive(Default)]
struct Watched {
    armed: Option<(Stop, Instant)>,
    /// When the thread looks again without being woken; none while it sleeps until it is.
    looks_at: Option<Instant>,
}

#[derive(Default)]
struct Shared {
    watched: Mutex<Watched>,
    changed: Condvar,
}

impl Shared {
    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that stops running code at its deadline. It sleeps until the first deadline after a run began, whether that run
/// still lasts or not, and for good when nothing runs then: to wake it for each run would cost every run a switch.
#[derive(Clone)]
pub struct Watchdog {
    shared: Arc<Shared>,
}

impl Watchdog {
    /// Starts the thread and waits until it runs: later a sandbox may forbid new threads.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start() -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (ready, started) = mpsc::channel();
        let watched = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("watchdog".into())
            .spawn(move || {
                if ready.send(()).is_ok() {
                    watch(&watched);
                }
            })?;
        started.recv().map_err(std::io::Error::other)?;
        Ok(Self { shared })
    }

    /// Calls `stop` at `deadline` and from then on, until the guard is dropped.
    #[must_use]
    pub fn arm(&self, stop: Stop, deadline: Deadline) -> Armed<'_> {
        let mut watched = self.shared.watched();
        watched.armed = Some((stop, deadline.at));
        if is_late(watched.looks_at, deadline.at) {
            self.shared.changed.notify_one();
        }
        Armed(self)
    }
}

/// While this lives, the watchdog watches.
pub struct Armed<'a>(&'a Watchdog);

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        self.0.shared.watched().armed = None;
    }
}

/// Whether who looks again then, or only when it is woken, is late for a deadline.
fn is_late(looks_at: Option<Instant>, deadline: Instant) -> bool {
    looks_at.is_none_or(|looks| looks > deadline)
}

fn watch(shared: &Shared) -> ! {
    let mut watched = shared.watched();
    loop {
        let now = Instant::now();
        let pause = watched.armed.as_ref().map(|(stop, at)| {
            let left = at.saturating_duration_since(now);
            if left.is_zero() {
                stop();
                AGAIN
            } else {
                left
            }
        });
        watched.looks_at = pause.and_then(|pause| now.checked_add(pause));
        watched = match pause {
            None => shared
                .changed
                .wait(watched)
                .unwrap_or_else(PoisonError::into_inner),
            Some(pause) => {
                let waited = shared.changed.wait_timeout(watched, pause);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: u64 = 20;
    const FAR: u64 = 600_000;
    const PATIENCE: Duration = Duration::from_secs(60);

    /// What is stopped says its name.
    fn stop(name: &'static str, stopped: &mpsc::Sender<&'static str>) -> Stop {
        let stopped = stopped.clone();
        Box::new(move || stopped.send(name).unwrap_or_default())
    }

    /// The thread sleeps on for a run that is over, and must not be late for the next, nor stop it too soon.
    #[test]
    fn each_run_is_stopped_at_its_own_deadline_whatever_ran_before() {
        let watchdog = Watchdog::start().unwrap();
        let (sender, stopped) = mpsc::channel();
        for earlier in [FAR, NEAR] {
            let deadline = Deadline::after(earlier).unwrap();
            // On a slow machine it may be stopped, and rightly so.
            drop(watchdog.arm(Box::new(|| ()), deadline));
            let far = watchdog.arm(stop("far", &sender), Deadline::after(FAR).unwrap());
            while earlier == NEAR && deadline.check().is_ok() {
                std::thread::yield_now();
            }
            drop(far);
            let near = watchdog.arm(stop("near", &sender), Deadline::after(NEAR).unwrap());
            for _ in 0..2 {
                let heard = stopped.recv_timeout(PATIENCE);
                assert_eq!(heard, Ok("near"), "again and again");
            }
            drop(near);
            while stopped.try_recv().is_ok() {}
        }
    }

    #[test]
    fn who_looks_in_time_is_not_woken() {
        let now = Instant::now();
        let later = now + Duration::from_nanos(1);
        assert!(is_late(None, now));
        assert!(is_late(Some(later), now));
        assert!(!is_late(Some(now), now));
        assert!(!is_late(Some(now), later));
    }
}
