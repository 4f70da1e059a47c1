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
    /// None once it has ended and said how.
    intake: Option<JoinHandle<Result<(), HostError>>>,
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
        let stopped = stop.clone();
        let intake = tokio::spawn(async move {
            let ended = stopped.run_until_cancelled(intake.run()).await;
            ended.unwrap_or(Ok(()))
        });
        Ok(Self {
            journal,
            progress,
            stop,
            intake: Some(intake),
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
            outcome = end_of(&mut self.intake) => outcome,
            error = self.failed.recv() => Err(error.unwrap_or(HostError::Ended("workers"))),
        }
    }

    /// Stops: nothing new is begun, what is being done is left where the journal has it. Once this has returned
    /// and the host is dropped, another one can be opened on its folder.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        if let Err(error) = end_of(&mut self.intake).await {
            tracing::debug!(%error, "the host had ended before it was stopped");
        }
        self.workers.stopped().await;
    }
}

/// Waits for the end of the intake. May be dropped at any point.
async fn end_of(intake: &mut Option<JoinHandle<Result<(), HostError>>>) -> Result<(), HostError> {
    let ended = Err(HostError::Ended("intake"));
    let Some(running) = intake else {
        return ended;
    };
    let outcome = running.await.unwrap_or(ended);
    *intake = None;
    outcome
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(running) = &self.intake {
            running.abort();
        }
    }
}
