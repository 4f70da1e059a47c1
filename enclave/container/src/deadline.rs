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
struct Shared {
    armed: Mutex<Option<(Stop, Instant)>>,
    changed: Condvar,
}

impl Shared {
    fn armed(&self) -> MutexGuard<'_, Option<(Stop, Instant)>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that stops running code at its deadline. It sleeps while nothing runs.
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
        *self.shared.armed() = Some((stop, deadline.at));
        self.shared.changed.notify_one();
        Armed(self)
    }
}

/// While this lives, the watchdog watches.
pub struct Armed<'a>(&'a Watchdog);

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        *self.0.shared.armed() = None;
    }
}

fn watch(shared: &Shared) -> ! {
    let mut armed = shared.armed();
    loop {
        let pause = armed.as_ref().map(|(stop, at)| {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                stop();
                AGAIN
            } else {
                left
            }
        });
        armed = match pause {
            None => shared
                .changed
                .wait(armed)
                .unwrap_or_else(PoisonError::into_inner),
            Some(pause) => {
                let waited = shared.changed.wait_timeout(armed, pause);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
    }
}
