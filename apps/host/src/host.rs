//! A running host.

use crate::{
    ApiConfig, ApiServer, DataFolder, HostConfig, HostError, Parts, Progress, Rules,
    admission::Admission,
    delivery::Delivery,
    desk::{Desk, Said},
    follower::Follower,
    intake::Intake,
    ports::{JournalOutbox, VaultTransmitter},
    yard::{Crews, Tasks, Yard},
};
use alloy_primitives::Address;
use cryptlet_chain::Chain;
use cryptlet_deliver::{DeliverConfig, Deliverer};
use cryptlet_journal::Journal;
use cryptlet_route::Router;
use cryptlet_run::{Ports, Runner};
use cryptlet_types::{Policy, Sha256Digest, policy::PolicyInForce};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{broadcast, mpsc},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Wait before a node is asked again that did not answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// How many ends of jobs a slow watcher may be behind before it misses some.
const PROGRESS_BACKLOG: usize = 4096;

/// A running host. Dropped without [`Host::stop`], it stops at once, as if it had been killed; nothing is lost.
pub struct Host {
    journal: Arc<Journal>,
    progress: broadcast::Sender<Progress>,
    stop: CancellationToken,
    /// None once it has ended and said how.
    intake: Option<JoinHandle<Result<(), HostError>>>,
    /// None once it has ended and said how.
    follower: Option<JoinHandle<Result<(), HostError>>>,
    crews: Arc<Crews>,
    failed: mpsc::Receiver<HostError>,
    rules: Arc<Rules>,
    address: Address,
    api: Option<ApiServer>,
}

impl Host {
    /// Starts a host from its configuration.
    ///
    /// # Errors
    /// Says which part does not work.
    pub async fn open(config: &HostConfig) -> Result<Self, HostError> {
        let parts = Parts::open(config, None).await?;
        let api = config.api.as_ref();
        Self::start(parts, api.map(|api| (api, DataFolder::at(&config.data)))).await
    }

    /// Starts a host made of `parts`: first it takes up what the journal says is unfinished. With `api`, it is served, with
    /// what lies in that folder.
    ///
    /// # Errors
    /// The journal cannot be read, or the API cannot be served.
    pub async fn start(
        parts: Parts,
        api: Option<(&ApiConfig, DataFolder)>,
    ) -> Result<Self, HostError> {
        let (progress, _) = broadcast::channel(PROGRESS_BACKLOG);
        let stop = CancellationToken::new();
        let journal = parts.journal.clone();
        let rules = parts.rules.clone();
        rules.refresh().await?;
        let router = Arc::new(Router::new(nothing(), parts.isolation.names()));
        let (tasks, failed) = Tasks::new(stop.clone());
        let yard = yard(&parts, router.clone(), progress.clone(), tasks);
        let crews = Arc::new(Crews::new(Arc::new(yard)));
        let (desk, said) = Desk::new(crews.clone());
        let mut host = Self {
            follower: Some(spawn(&stop, Follower::new(&parts).run())),
            intake: None,
            api: None,
            address: parts.host,
            journal,
            progress,
            stop,
            crews,
            failed,
            rules,
        };
        match host.serve(parts, router, (desk, said), api).await {
            Ok(()) => Ok(host),
            // What has begun already ends first: it holds what another attempt will need.
            Err(error) => {
                host.stop().await;
                Err(error)
            }
        }
    }

    /// Serves the API, and takes up what the journal says.
    async fn serve(
        &mut self,
        parts: Parts,
        router: Arc<Router>,
        (desk, said): (Desk, mpsc::Receiver<Said>),
        api: Option<(&ApiConfig, DataFolder)>,
    ) -> Result<(), HostError> {
        if let Some((config, data)) = api {
            let served = ApiServer::start(&parts, router.clone(), desk, config, &data);
            self.api = Some(served.await?);
        }
        let (crews, progress) = (self.crews.clone(), self.progress.clone());
        let intake = Intake::resume(parts, router, crews, said, progress).await?;
        self.intake = Some(spawn(&self.stop, intake.run()));
        let yard = self.crews.yard();
        yard.start(look_out(yard.chain.clone(), yard.deliverer.clone()));
        Ok(())
    }

    /// What is in force here.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Address of the host's key.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }

    /// The API, if it is served.
    #[must_use]
    pub fn api(&self) -> Option<&ApiServer> {
        self.api.as_ref()
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
            biased;
            outcome = end_of(&mut self.intake, "intake") => outcome,
            outcome = end_of(&mut self.follower, "register") => outcome,
            error = self.failed.recv() => Err(error.unwrap_or(HostError::Ended("workers"))),
        }
    }

    /// Stops: nothing new is begun, what is being done is left where the journal has it. Once this has returned
    /// and the host is dropped, another one can be opened on its folder.
    pub async fn stop(&mut self) {
        if let Some(api) = self.api.take() {
            api.stop().await;
        }
        self.stop.cancel();
        let ended = [
            end_of(&mut self.intake, "intake").await,
            end_of(&mut self.follower, "register").await,
        ];
        for error in ended.into_iter().filter_map(Result::err) {
            tracing::debug!(%error, "the host had ended before it was stopped");
        }
        let yard = self.crews.yard();
        yard.tasks.stopped().await;
        yard.runner.end_all().await;
    }
}

/// What crews work with.
fn yard(
    parts: &Parts,
    router: Arc<Router>,
    progress: broadcast::Sender<Progress>,
    tasks: Tasks,
) -> Yard {
    let ports = Ports {
        isolation: parts.isolation.clone(),
        vault: parts.vault.clone(),
        register: parts.replica.clone(),
        call_out: parts.call_out.clone(),
    };
    let domain = parts.chain.domain();
    let runner = Runner::new(ports, domain, nothing(), parts.host);
    let runner = match parts.images.clone() {
        Some(images) => runner.with_images(images),
        None => runner,
    };
    let runner = Arc::new(match parts.secret_codes.clone() {
        Some(codes) => runner.with_secret_codes(codes),
        None => runner,
    });
    let admission = Arc::new(Admission::new(parts, router, runner.clone(), nothing()));
    let deliverer = Arc::new(Deliverer::new(
        parts.chain.clone(),
        Arc::new(VaultTransmitter::new(
            parts.vault.clone(),
            parts.transmitter,
        )),
        Arc::new(JournalOutbox::new(parts.journal.clone())),
        DeliverConfig::default(),
    ));
    let sequences = Arc::default();
    let read = Arc::default();
    Yard {
        delivery: Delivery::new(
            parts,
            deliverer.clone(),
            admission.clone(),
            Arc::clone(&sequences),
            Arc::clone(&read),
            progress.clone(),
        ),
        read,
        journal: parts.journal.clone(),
        chain: parts.chain.clone(),
        clock: parts.clock.clone(),
        recordings: parts.recordings.clone(),
        runner,
        admission,
        deliverer,
        sequences,
        progress,
        tasks,
    }
}

/// Tells the deliverer of each new block.
async fn look_out(chain: Arc<dyn Chain>, deliverer: Arc<Deliverer>) -> Result<(), HostError> {
    let mut last = None;
    loop {
        let head = match &last {
            Some(last) => chain.next_head(last).await,
            None => chain.head().await,
        };
        match head {
            Ok(head) => {
                deliverer.observe(&head).await;
                last = Some(head);
            }
            // Deliveries look for themselves meanwhile.
            Err(error) => {
                tracing::debug!(%error, "node does not answer");
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

/// What is in force before anything is: nothing is routed or run by it.
pub(crate) fn nothing() -> PolicyInForce {
    PolicyInForce {
        policy: Policy::closed(0),
        digest: Sha256Digest(alloy_primitives::B256::ZERO),
    }
}

/// Has `part` run until the host is told to stop.
fn spawn(
    stop: &CancellationToken,
    part: impl Future<Output = Result<(), HostError>> + Send + 'static,
) -> JoinHandle<Result<(), HostError>> {
    let stopped = stop.clone();
    tokio::spawn(async move {
        let ended = stopped.run_until_cancelled(part).await;
        ended.unwrap_or(Ok(()))
    })
}

/// Waits for the end of a part. May be dropped at any point.
async fn end_of(
    part: &mut Option<JoinHandle<Result<(), HostError>>>,
    name: &'static str,
) -> Result<(), HostError> {
    let ended = Err(HostError::Ended(name));
    let Some(running) = part else {
        return ended;
    };
    let outcome = running.await.unwrap_or(ended);
    *part = None;
    outcome
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.cancel();
        for running in [&self.intake, &self.follower].into_iter().flatten() {
            running.abort();
        }
    }
}
