//! What chain and clock say, turned into jobs in the journal.

use crate::{
    HostClock, HostError, Parts, Progress, Standing,
    fetcher::{Fetcher, Hope},
    manifests::Manifests,
    rules::Basis,
    workers::Workers,
};
use cryptlet_chain::{Chain, ChangeKind, SubscriptionChange as Change};
use cryptlet_journal::{Cursor, Journal, SubscriptionChange};
use cryptlet_register::{Current, Register, Replica};
use cryptlet_route::{Registered, Router};
use cryptlet_types::{CryptletId, Event, Job, Subject, Subscription};
use cryptlet_watch::{self as watch, Advance, Agenda, ClockWatch, SubscriptionWatch, WatchError};
use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};
use tokio::sync::{broadcast, watch as standings};

/// Name of the one cursor in the journal.
const CURSOR: &str = "delegate";
/// Blocks read at once.
const SPAN: u64 = 1_000;
/// Events taken at once.
const BATCH: usize = 64;
/// Wait before a node is asked again that did not answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// Follows chain and clock.
pub(crate) struct Intake {
    journal: Arc<Journal>,
    chain: Arc<dyn Chain>,
    replica: Arc<Replica>,
    fetcher: Arc<Fetcher>,
    clock: HostClock,
    router: Arc<Router>,
    standing: standings::Receiver<Standing>,
    subscriptions: Arc<SubscriptionWatch>,
    schedule: ClockWatch,
    cursor: Option<watch::Cursor>,
    /// Nothing is due before all logs were read once: a subscription may have ended long ago.
    caught_up: bool,
    active: HashMap<Subject, Subscription>,
    manifests: Arc<Manifests>,
    workers: Arc<Workers>,
    progress: broadcast::Sender<Progress>,
}

impl Intake {
    /// Takes up what the journal says: subscriptions, events without a job, jobs without an end.
    pub(crate) async fn resume(
        parts: Parts,
        router: Arc<Router>,
        workers: Arc<Workers>,
        progress: broadcast::Sender<Progress>,
    ) -> Result<Self, HostError> {
        let Parts {
            journal,
            chain,
            replica,
            fetcher,
            manifests,
            rules,
            clock,
            first_block,
            ..
        } = parts;
        let mut agenda = Agenda::new(chain.domain());
        let mut active = HashMap::new();
        for known in journal.subscriptions().await? {
            let subscription = known.subscription;
            if let Err(error) = agenda.add(&subscription, Some(known.fired_until)) {
                tracing::error!(subject = %subscription.subject, %error, "subscription cannot be served");
            }
            active.insert(subscription.subject, subscription);
        }
        let cursor = journal.cursor(CURSOR).await?;
        let mut intake = Self {
            caught_up: cursor.is_some(),
            cursor: cursor.map(|Cursor { number, hash }| watch::Cursor { number, hash }),
            router,
            standing: rules.watch(),
            subscriptions: Arc::new(SubscriptionWatch::new(chain.clone(), first_block, SPAN)),
            schedule: ClockWatch::new(agenda, clock.clock(), BATCH),
            manifests,
            journal,
            chain,
            replica,
            fetcher,
            clock,
            active,
            workers,
            progress,
        };
        intake.route_waiting().await?;
        for subject in intake.journal.unfinished_subjects().await? {
            intake.workers.wake(subject);
        }
        Ok(intake)
    }

    /// Goes on until it cannot. May be dropped at any point: what the journal does not have is found again.
    pub(crate) async fn run(mut self) -> Result<(), HostError> {
        let subscriptions = self.subscriptions.clone();
        // One read, whatever else happens meanwhile: what is begun again at each turn may never come to its end.
        let mut reading = pin!(subscriptions.next(self.cursor));
        loop {
            // In a fixed order, so that a simulation can be repeated. What the chain says comes first: an event that is due is
            // not made of a subscription whose end is there to be read.
            tokio::select! {
                biased;
                advance = &mut reading => {
                    let taken = match advance {
                        Ok(advance) => self.take_blocks(advance).await,
                        Err(error) => Err(error.into()),
                    };
                    if let Err(error) = taken {
                        self.trouble(error).await?;
                    }
                    reading.set(subscriptions.next(self.cursor));
                }
                changed = self.standing.changed() => match changed {
                    Ok(()) => self.route_waiting().await?,
                    Err(_) => return Err(HostError::Ended("rules")),
                },
                events = self.schedule.next(), if self.caught_up => for event in events {
                    self.take_event(event).await?;
                },
            }
        }
    }

    /// Everything that the chain has to be asked for is asked first: blocks are taken as a whole or not at all.
    async fn take_blocks(&mut self, advance: Advance<Change>) -> Result<(), HostError> {
        let mut consumed = Vec::with_capacity(advance.changes.len());
        for change in &advance.changes {
            consumed.push(self.consumed(change).await?);
        }
        let read = advance.changes.iter().zip(consumed);
        let changes: Vec<_> = read
            .map(|(change, consumed)| self.take_change(change, consumed))
            .collect();
        let watch::Cursor { number, hash } = advance.cursor;
        self.journal
            .apply_subscriptions(CURSOR, Cursor { number, hash }, &changes)
            .await?;
        self.cursor = Some(advance.cursor);
        self.caught_up = advance.is_caught_up();
        if self.caught_up {
            self.clock.observe(&advance.head);
        }
        Ok(())
    }

    /// How many reports a subscription that is new here has consumed; `None` if it has ended since.
    async fn consumed(&self, change: &Change) -> Result<Option<u64>, HostError> {
        let ChangeKind::Subscribed(subscription) = &change.kind else {
            return Ok(None);
        };
        Ok(self
            .chain
            .sequence(subscription.cryptlet, change.subject)
            .await?)
    }

    fn take_change(&mut self, change: &Change, consumed: Option<u64>) -> SubscriptionChange {
        let subject = change.subject;
        match &change.kind {
            ChangeKind::Subscribed(subscription) => self.adopt((**subscription).clone(), consumed),
            ChangeKind::Unsubscribed => {
                self.schedule.agenda.remove(subject);
                self.active.remove(&subject);
                tracing::info!(%subject, "subscription ended");
                SubscriptionChange::Ended(subject)
            }
            ChangeKind::Refused { reason } => {
                tracing::warn!(%subject, reason, "subscription cannot be served");
                SubscriptionChange::Refused {
                    subject,
                    reason: reason.clone(),
                }
            }
        }
    }

    /// Takes over a subscription. One that has consumed reports which this journal knows nothing of is served
    /// from now on only: what was due before may have been delivered by the host that lost its journal. One that is
    /// known already, or that has ended since, is not put on the agenda.
    fn adopt(
        &mut self,
        mut subscription: Subscription,
        consumed: Option<u64>,
    ) -> SubscriptionChange {
        let subject = subscription.subject;
        let Some(consumed) = consumed.filter(|_| !self.active.contains_key(&subject)) else {
            return SubscriptionChange::Added(subscription);
        };
        if consumed > 0 {
            subscription.since = subscription.since.max(self.clock.now().saturating_add(1));
            tracing::warn!(%subject, consumed, "subscription was served by another journal; it is served from now on");
        }
        match self.schedule.agenda.add(&subscription, None) {
            Ok(()) => {
                tracing::info!(%subject, consumer = %subscription.consumer, cryptlet = %subscription.cryptlet, "subscription");
                self.active.insert(subject, subscription.clone());
                SubscriptionChange::Added(subscription)
            }
            Err(error) => {
                tracing::warn!(%subject, %error, "subscription cannot be served");
                SubscriptionChange::Refused {
                    subject,
                    reason: error.to_string(),
                }
            }
        }
    }

    async fn take_event(&mut self, event: Event) -> Result<(), HostError> {
        if self.journal.record_event(&event).await? {
            self.route_waiting().await?;
        }
        Ok(())
    }

    /// Routes, oldest first, the events that have no job yet: those that have just occurred, and those that occurred while no
    /// job could start.
    async fn route_waiting(&mut self) -> Result<(), HostError> {
        self.standing.mark_unchanged();
        if self.basis().is_none() {
            return Ok(());
        }
        for event in self.journal.unrouted_events().await? {
            let Some(basis) = self.basis() else {
                return Ok(());
            };
            self.route(event, &basis).await?;
        }
        Ok(())
    }

    /// What events are decided by, unless they have to wait.
    fn basis(&self) -> Option<Basis> {
        let basis = self.workers.obey();
        match basis.standing().admits_jobs(self.clock.now()) {
            Ok(_) => Some(basis),
            Err(reason) => {
                tracing::debug!(reason, "events wait");
                None
            }
        }
    }

    /// Makes a job of the event, or refuses it for good. It is left as it is where nobody can say yet, or where what it was
    /// decided by has changed on the way: then it is decided anew.
    async fn route(&mut self, event: Event, basis: &Basis) -> Result<(), HostError> {
        let subject = event.subject;
        let subscription = self.active.get(&subject).cloned();
        let registered = match &subscription {
            Some(subscription) => self.registered(subscription.cryptlet).await,
            None => Ok(Runs::Nothing(None)),
        };
        let routed = match registered {
            Ok(Runs::Later) => return Ok(()),
            Ok(Runs::Nothing(Some(reason))) => Err(reason),
            Ok(Runs::Nothing(None)) => self.decide(&event, subscription, None).await?,
            Ok(Runs::This(registered)) => {
                self.decide(&event, subscription, Some(&registered)).await?
            }
            Err(error) if error.is_retryable() => {
                tracing::warn!(event = %event.id, %error, "event waits");
                return Ok(());
            }
            // One cryptlet's damaged package is no reason to stop serving the others.
            Err(error) => Err(error.to_string()),
        };
        match routed {
            Ok(job) => {
                self.journal.record_job(&job).await?;
                self.workers.wake(subject);
            }
            Err(reason) if !basis.stands(self.clock.now()) => {
                tracing::debug!(event = %event.id, reason, "decided by what has changed meanwhile, event waits");
            }
            Err(reason) => {
                tracing::error!(event = %event.id, reason, "event refused");
                self.journal.refuse_event(event.id, &reason).await?;
                let _nobody_watches = self.progress.send(Progress::Refused {
                    event: Arc::new(event),
                    reason,
                });
            }
        }
        Ok(())
    }

    async fn decide(
        &self,
        event: &Event,
        subscription: Option<Subscription>,
        registered: Option<&Registered>,
    ) -> Result<Result<Job, String>, HostError> {
        let due = event.trigger.due();
        let last_due = self.journal.due_before(event.subject, due).await?;
        let routed = self
            .router
            .route(event.clone(), subscription, registered, last_due);
        Ok(routed.map_err(|refusal| refusal.to_string()))
    }

    /// What the register lets `cryptlet` run now.
    async fn registered(&self, cryptlet: CryptletId) -> Result<Runs, HostError> {
        let entry = match self.replica.current(cryptlet).await? {
            Current::Runs(entry) => *entry,
            Current::Unknown => return Ok(Runs::Nothing(None)),
            Current::Revoked => return Ok(nothing(format!("cryptlet {cryptlet} was revoked"))),
            Current::NoVersion => {
                let reason = format!("cryptlet {cryptlet} has no version that is not revoked");
                return Ok(nothing(reason));
            }
        };
        let (name, publisher, owner) = (
            &entry.record.name,
            entry.record.publisher,
            entry.record.owner,
        );
        let Some(manifest) = self.manifests.of(name, &entry.version).await? else {
            if let Err(refusal) = self.router.trusts(cryptlet, publisher, owner) {
                return Ok(nothing(refusal.to_string()));
            }
            return Ok(match self.fetcher.fetch(cryptlet, &entry.version) {
                Hope::Later => Runs::Later,
                Hope::None(reason) => nothing(reason),
            });
        };
        Ok(Runs::This(Box::new(Registered {
            package: entry.version.package,
            publisher,
            owner,
            manifest,
        })))
    }

    /// A node that cannot be asked is asked again. A chain that was reorganised is read again from its start: that adds
    /// what is new, and does not take back what a removed block had said (an end, a delivery).
    async fn trouble(&mut self, error: HostError) -> Result<(), HostError> {
        match &error {
            HostError::Watch(WatchError::Reorged { .. }) => {
                tracing::error!(%error, "reading the delegate's logs again from the first block");
                self.cursor = None;
            }
            HostError::Watch(WatchError::Chain(cause)) | HostError::Chain(cause)
                if !cause.is_misconfigured() =>
            {
                tracing::warn!(%error, "node does not answer");
                tokio::time::sleep(PATIENCE).await;
            }
            _ => return Err(error),
        }
        Ok(())
    }
}

/// What a cryptlet runs.
enum Runs {
    /// This.
    This(Box<Registered>),
    /// A package that is being fetched.
    Later,
    /// Nothing, for a reason, or because nobody knows it.
    Nothing(Option<String>),
}

fn nothing(reason: String) -> Runs {
    Runs::Nothing(Some(reason))
}
