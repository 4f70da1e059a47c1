//! The workers, one for each subscription that has something to do.

use crate::{HostError, rules::Basis, worker::Worker};
use cryptlet_types::Subject;
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Starts workers, and wakes those that are there already.
pub(crate) struct Workers {
    worker: Arc<Worker>,
    stop: CancellationToken,
    at_work: Arc<AtWork>,
    tasks: TaskTracker,
    failures: mpsc::Sender<HostError>,
}

impl Workers {
    /// No workers yet, and where the first failure of one will be said.
    pub(crate) fn new(
        worker: Arc<Worker>,
        stop: CancellationToken,
    ) -> (Self, mpsc::Receiver<HostError>) {
        let (failures, failed) = mpsc::channel(1);
        let workers = Self {
            worker,
            stop,
            at_work: Arc::default(),
            tasks: TaskTracker::new(),
            failures,
        };
        (workers, failed)
    }

    /// Says that the journal has a job of this subscription.
    pub(crate) fn wake(&self, subject: Subject) {
        if self.at_work.begins(subject) {
            self.hire(subject);
        }
    }

    /// Goes by what is in force from now on, and says what that is.
    pub(crate) fn obey(&self) -> Basis {
        self.worker.obey()
    }

    fn hire(&self, subject: Subject) {
        let (worker, at_work) = (self.worker.clone(), self.at_work.clone());
        let (stop, failures) = (self.stop.clone(), self.failures.clone());
        self.tasks.spawn(async move {
            let served = serve(&worker, subject, &at_work);
            if let Some(Err(error)) = stop.run_until_cancelled(served).await {
                let _first_failure_is_enough = failures.try_send(error);
            }
        });
    }

    /// Waits until all workers have ended, after they were told to.
    pub(crate) async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Takes the subscription's jobs from the journal, oldest first, and brings each a step further until none is left.
async fn serve(worker: &Worker, subject: Subject, at_work: &AtWork) -> Result<(), HostError> {
    loop {
        match worker.next(subject).await? {
            Some(record) => worker.step(record).await?,
            None if at_work.ends(subject) => return Ok(()),
            None => {}
        }
    }
}

/// Subscriptions that have a worker, each with whether it was woken since it last found nothing.
#[derive(Default)]
struct AtWork(Mutex<HashMap<Subject, bool>>);

impl AtWork {
    /// Wakes the worker that is there; whether there was none.
    fn begins(&self, subject: Subject) -> bool {
        match self.subjects().entry(subject) {
            Entry::Occupied(mut woken) => {
                woken.insert(true);
                false
            }
            Entry::Vacant(place) => {
                place.insert(false);
                true
            }
        }
    }

    /// Whether the worker, which has found nothing, may go: it was not woken in the meantime.
    fn ends(&self, subject: Subject) -> bool {
        let mut subjects = self.subjects();
        if let Some(woken @ true) = subjects.get_mut(&subject) {
            *woken = false;
            return false;
        }
        subjects.remove(&subject);
        true
    }

    fn subjects(&self) -> MutexGuard<'_, HashMap<Subject, bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;

    #[test]
    fn a_worker_goes_when_there_is_nothing_left_and_misses_no_call() {
        let at_work = AtWork::default();
        let subject = Subject(B256::ZERO);
        assert!(at_work.begins(subject));
        assert!(!at_work.begins(subject), "one worker a subscription");
        assert!(!at_work.ends(subject), "it was woken while it looked");
        assert!(at_work.ends(subject));
        assert_eq!(at_work.subjects().len(), 0);
        assert!(at_work.begins(subject), "the next job gets a new one");
    }
}
