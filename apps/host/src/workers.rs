//! The workers, one a subscription.

use crate::{HostError, Standing, worker::Worker};
use cryptlet_types::Subject;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{Notify, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Wakes workers, and starts those that are not there yet.
pub(crate) struct Workers {
    worker: Arc<Worker>,
    stop: CancellationToken,
    bells: Mutex<HashMap<Subject, Arc<Notify>>>,
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
            bells: Mutex::default(),
            tasks: TaskTracker::new(),
            failures,
        };
        (workers, failed)
    }

    /// Says that the journal has a job of this subscription.
    pub(crate) fn wake(&self, subject: Subject) {
        let mut bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        let bell = bells.entry(subject).or_insert_with(|| self.hire(subject));
        bell.notify_one();
    }

    /// Says what is in force from now on.
    pub(crate) fn obey(&self, standing: &Standing) {
        self.worker.obey(standing);
    }

    fn hire(&self, subject: Subject) -> Arc<Notify> {
        let bell = Arc::new(Notify::new());
        let (worker, rung, stop) = (self.worker.clone(), bell.clone(), self.stop.clone());
        let failures = self.failures.clone();
        self.tasks.spawn(async move {
            let ended = stop
                .run_until_cancelled(serve(&worker, subject, &rung))
                .await;
            if let Some(Err(error)) = ended {
                let _first_failure_is_enough = failures.try_send(error);
            }
        });
        bell
    }

    /// Waits until all workers have ended, after they were told to.
    pub(crate) async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Takes the subscription's jobs from the journal, oldest first, and brings each a step further until none is left.
async fn serve(worker: &Worker, subject: Subject, rung: &Notify) -> Result<(), HostError> {
    loop {
        match worker.next(subject).await? {
            Some(record) => worker.step(record).await?,
            None => rung.notified().await,
        }
    }
}
