//! A running host.

use crate::{
    HostConfig, HostError, Parts, Progress, intake::Intake, worker::Worker, workers::Workers,
};
use cryptlet_journal::Journal;
use std::sync::Arc;
use tokio::{
    sync::{broadcast, mpsc},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// How many ends of jobs a slow watcher may be behind before it misses some.
const PROGRESS_BACKLOG: usize = 4096;

/// A running host. Dropped without [`Host::stop`], it stops at once, as if it had been killed; nothing is lost.
pub struct Host {
    journal: Arc<Journal>,
    progress: broadcast::Sender<Progress>,
    stop: CancellationToken,
    intake: JoinHandle<Result<(), HostError>>,
    workers: Arc<Workers>,
    failed: mpsc::Receiver<HostError>,
}

impl Host {
    /// Starts a host from its configuration.
    ///
    /// # Errors
    /// Says which part does not work.
    pub async fn open(config: &HostConfig) -> Result<Self, HostError> {
        Self::start(Parts::open(config, None).await?).await
    }

    /// Starts a host made of `parts`: first it takes up what the journal says is unfinished.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn start(parts: Parts) -> Result<Self, HostError> {
        let (progress, _) = broadcast::channel(PROGRESS_BACKLOG);
        let stop = CancellationToken::new();
        let journal = parts.journal.clone();
        let worker = Arc::new(Worker::new(&parts, progress.clone()));
        let (workers, failed) = Workers::new(worker, stop.clone());
        let workers = Arc::new(workers);
        let intake = Intake::resume(parts, workers.clone(), progress.clone()).await?;
        let intake = tokio::spawn(intake.run(stop.clone()));
        Ok(Self {
            journal,
            progress,
            stop,
            intake,
            workers,
            failed,
        })
    }

    /// Ends of jobs from now on.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// The journal, for reading.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Waits until the host ends by itself, which it only does when it cannot go on.
    ///
    /// # Errors
    /// Why it cannot go on.
    pub async fn ended(&mut self) -> Result<(), HostError> {
        tokio::select! {
            outcome = &mut self.intake => outcome.unwrap_or(Err(HostError::Ended("intake"))),
            error = self.failed.recv() => Err(error.unwrap_or(HostError::Ended("workers"))),
        }
    }

    /// Stops: nothing new is begun, what is being done is left where the journal has it.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        self.workers.stopped().await;
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.cancel();
        self.intake.abort();
    }
}
