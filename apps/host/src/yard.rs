//! What all crews work with, and the crews: one for each cryptlet that has something to do.

use crate::{
    HostClock, HostError, Progress,
    admission::Admission,
    crew::{Crew, Word},
    delivery::Delivery,
    read_until::ReadUntil,
    recordings::Recordings,
    sequences::Sequences,
};
use cryptlet_chain::Chain;
use cryptlet_deliver::Deliverer;
use cryptlet_journal::Journal;
use cryptlet_run::Runner;
use cryptlet_types::CryptletId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{broadcast, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What all crews work with.
pub(crate) struct Yard {
    pub(crate) journal: Arc<Journal>,
    pub(crate) chain: Arc<dyn Chain>,
    pub(crate) runner: Arc<Runner>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) sequences: Arc<Sequences>,
    pub(crate) delivery: Delivery,
    pub(crate) deliverer: Arc<Deliverer>,
    pub(crate) clock: HostClock,
    pub(crate) recordings: Recordings,
    /// Up to which block the delegate's chain was read.
    pub(crate) read: Arc<ReadUntil>,
    pub(crate) progress: broadcast::Sender<Progress>,
    pub(crate) tasks: Tasks,
}

impl Yard {
    /// Tells whoever watches.
    pub(crate) fn tell(&self, progress: Progress) {
        let _nobody_watches = self.progress.send(progress);
    }

    /// Has `task` run until it ends or the host is stopped.
    pub(crate) fn start(&self, task: impl Future<Output = Result<(), HostError>> + Send + 'static) {
        self.tasks.start(task);
    }
}

/// Tasks that end with the host, and where the first failure of one is said.
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failures: mpsc::Sender<HostError>,
}

impl Tasks {
    pub(crate) fn new(stop: CancellationToken) -> (Self, mpsc::Receiver<HostError>) {
        let (failures, failed) = mpsc::channel(1);
        let tasks = Self {
            tracker: TaskTracker::new(),
            stop,
            failures,
        };
        (tasks, failed)
    }

    fn start(&self, task: impl Future<Output = Result<(), HostError>> + Send + 'static) {
        let (stop, failures) = (self.stop.clone(), self.failures.clone());
        self.tracker.spawn(async move {
            if let Some(Err(error)) = stop.run_until_cancelled(task).await {
                let _first_failure_is_enough = failures.try_send(error);
            }
        });
    }

    /// Waits until all have ended, after they were told to.
    pub(crate) async fn stopped(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Crews by cryptlet.
pub(crate) struct Crews {
    yard: Arc<Yard>,
    at_work: Mutex<HashMap<CryptletId, mpsc::UnboundedSender<Word>>>,
}

impl Crews {
    pub(crate) fn new(yard: Arc<Yard>) -> Self {
        Self {
            yard,
            at_work: Mutex::default(),
        }
    }

    /// Tells the crew of `cryptlet`, which is called together if there is none yet.
    pub(crate) fn tell(&self, cryptlet: CryptletId, word: Word) {
        let mut at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        let crew = at_work
            .entry(cryptlet)
            .or_insert_with(|| self.call_together());
        let _the_host_has_stopped = crew.send(word);
    }

    fn call_together(&self) -> mpsc::UnboundedSender<Word> {
        let (words, heard) = mpsc::unbounded_channel();
        let crew = Crew::new(self.yard.clone(), heard, words.clone());
        self.yard.start(crew.run());
        words
    }

    pub(crate) fn yard(&self) -> &Yard {
        &self.yard
    }
}
