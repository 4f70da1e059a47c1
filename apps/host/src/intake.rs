//! What chain and clock say, turned into jobs in the journal.

mod changes;
mod logs;
mod reorganisation;
mod routing;

use self::routing::Runs;
use crate::{
    HostClock, HostError, Parts, Progress, Standing, crew::Word, desk::Said, feeds::Feeds,
    fetcher::Fetcher, known::Known, manifests::Manifests, streams::Streams, yard::Crews,
};
use alloy_primitives::B256;
use cryptlet_chain::{Chain, ChangeKind, LogFilter, SubscriptionChange as Change};
use cryptlet_journal::{ActiveSubscription, Cursor, DELEGATE, Journal, MessageOutcome, Occurred};
use cryptlet_register::Replica;
use cryptlet_route::Router;
use cryptlet_types::{Event, JobState, Subject, event::Observation};
use cryptlet_watch::{
    self as watch, Advance, FeedDue, Last, Restored, State, SubscriptionWatch, Subscriptions,
};
use std::{collections::BTreeMap, collections::HashMap, pin::pin, sync::Arc, time::Duration};
use tokio::sync::{broadcast, mpsc, watch as standings};

/// Blocks read at once.
const SPAN: u64 = 1_000;
/// Events taken at once.
const BATCH: usize = 256;
/// Subscriptions read at once at the start.
const PAGE: u32 = 10_000;
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
    engine: Subscriptions,
    streams: Streams,
    feeds: Feeds,
    /// Feeds that are to be observed once cryptlets may run.
    unseen: BTreeMap<B256, FeedDue>,
    cursor: Option<watch::Cursor>,
    first_block: u64,
    /// Nothing is due before all logs were read once: a subscription may have ended long ago.
    caught_up: bool,
    /// Events wait in the journal to be routed: none that occurs later may pass them.
    waiting: bool,
    /// Subscriptions have changed since chains were told what to look for.
    unasked: bool,
    own_filter: LogFilter,
    known: Known,
    manifests: Arc<Manifests>,
    crews: Arc<Crews>,
    said: mpsc::Receiver<Said>,
    progress: broadcast::Sender<Progress>,
}

impl Intake {
    /// Takes up what the journal says: subscriptions, events without a job, jobs without an end.
    pub(crate) async fn resume(
        parts: Parts,
        router: Arc<Router>,
        crews: Arc<Crews>,
        said: mpsc::Receiver<Said>,
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
            calendars,
            log_chains,
            ..
        } = parts;
        let cursor = journal.cursor(DELEGATE).await?;
        let mut intake = Self {
            caught_up: cursor.is_some(),
            cursor: cursor.map(|Cursor { number, hash }| watch::Cursor { number, hash }),
            router,
            standing: rules.watch(),
            first_block,
            subscriptions: Arc::new(SubscriptionWatch::new(chain.clone(), first_block, SPAN)),
            engine: Subscriptions::new(chain.domain(), calendars),
            streams: Streams::new(log_chains, journal.clone()),
            feeds: Feeds::new(crews.yard().runner.clone()),
            unseen: BTreeMap::new(),
            waiting: true,
            unasked: true,
            own_filter: LogFilter::default(),
            known: Known::new(journal.clone()),
            manifests,
            journal,
            chain,
            replica,
            fetcher,
            clock,
            crews,
            said,
            progress,
        };
        intake.load().await?;
        if let Some(cursor) = cursor {
            intake.crews.yard().read.move_to(cursor);
        }
        // Older jobs first: none that is routed now may pass them.
        intake.take_up().await?;
        intake.route_waiting().await?;
        Ok(intake)
    }

    /// Reads the subscriptions that are served.
    async fn load(&mut self) -> Result<(), HostError> {
        for seen in self.journal.feeds().await? {
            let last = Last {
                value: seen.value,
                at: seen.at,
            };
            self.engine.thresholds.restore(seen.feed, last);
        }
        let mut after = None;
        loop {
            let page = self.journal.subscriptions_page(after, PAGE).await?;
            let Some(last) = page.last() else {
                break;
            };
            after = Some(last.subscription.subject);
            for active in page {
                self.serve(&active);
            }
        }
        self.ask_anew();
        Ok(())
    }

    /// Puts a subscription where its trigger is looked out for.
    fn serve(&mut self, active: &ActiveSubscription) {
        let subscription = &active.subscription;
        self.await_chain(subscription);
        let state = active.state.as_deref();
        let restored = Restored {
            fired_until: Some(active.fired_until),
            threshold: state.and_then(|state| serde_json::from_str(state).ok()),
            paused: active.paused,
        };
        let added = self.engine.add(subscription, &restored, self.clock.now());
        if let Err(error) = added {
            tracing::error!(subject = %subscription.subject, %error, "subscription cannot be served");
        }
    }

    /// Hands the crews what an earlier life of this host left undone.
    async fn take_up(&mut self) -> Result<(), HostError> {
        let unfinished = self.journal.unfinished().await?;
        let (routed, on_the_way): (Vec<_>, Vec<_>) = unfinished
            .into_iter()
            .partition(|job| job.state == JobState::Routed);
        // Reports first: they hold numbers that no other report may get.
        let numbers: Vec<_> = on_the_way.iter().map(|job| job.number).collect();
        self.resume_reports(&numbers).await?;
        for job in routed {
            let word = Word::Job(job.number, job.subject);
            self.crews.tell(job.cryptlet, word);
        }
        Ok(())
    }

    /// Hands the crews reports that were on their way: those together that were sent together.
    async fn resume_reports(&self, numbers: &[u64]) -> Result<(), HostError> {
        let sequences = &self.crews.yard().sequences;
        let mut together = Vec::new();
        for chunk in numbers.chunks(BATCH) {
            for record in self.journal.jobs_by_number(chunk).await? {
                // At once: a crew that is at work must not give their numbers to other reports.
                if let Some(run) = &record.run {
                    let report = &run.report.report;
                    let _first = sequences.hold(report.subject, report.sequence);
                }
                let last = record.submission.as_ref().map(|sent| sent.hash);
                let cryptlet = record.job.subscription.cryptlet;
                together.push(((cryptlet, last), record));
            }
        }
        together.sort_by_key(|((cryptlet, last), record)| (*cryptlet, *last, record.number));
        for group in together.chunk_by(|(one, _), (other, _)| one == other) {
            let records: Vec<_> = group.iter().map(|(_, record)| record.clone()).collect();
            let Some(((cryptlet, _), first)) = group.first() else {
                continue;
            };
            let sent = self.journal.submissions(first.present).await?;
            self.crews.tell(*cryptlet, Word::Resume(records, sent));
        }
        Ok(())
    }

    /// Goes on until it cannot. May be dropped at any point: what the journal does not have is found again.
    pub(crate) async fn run(mut self) -> Result<(), HostError> {
        let subscriptions = self.subscriptions.clone();
        // One read, whatever else happens meanwhile: what is begun again at each turn may never come to its end.
        let mut reading = pin!(subscriptions.next(self.cursor));
        let clock = self.clock.clock();
        loop {
            self.look_for_logs().await;
            let next = self.engine.next_due().filter(|_| self.caught_up);
            let due = async {
                match next {
                    Some(at) => clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            // In a fixed order, so that a simulation can be repeated. What the chain says comes first: an event that is due is
            // not made of a subscription whose end is there to be read. What is in force comes before what is due for the
            // same reason.
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
                    Ok(()) => {
                        self.observe_feeds().await;
                        self.route_waiting().await?;
                    }
                    Err(_) => return Err(HostError::Ended("rules")),
                },
                brought = self.streams.next(), if self.caught_up => {
                    self.take_stream(brought).await?;
                }
                seen = self.feeds.next() => self.take_observation(seen).await?,
                () = due => self.take_due().await?,
                Some(said) = self.said.recv() => self.take_message(said).await?,
            }
        }
    }

    /// Blocks are taken as a whole or not at all: what cannot be, because a node does not answer, has changed nothing here.
    async fn take_blocks(&mut self, advance: Advance<Change>) -> Result<(), HostError> {
        let taken = self.take_all(&advance).await;
        if taken.is_err() {
            for change in &advance.changes {
                self.serve_as_kept(change.subject).await?;
            }
        }
        taken
    }

    /// Serves a subscription as the journal has it, or not at all.
    async fn serve_as_kept(&mut self, subject: Subject) -> Result<(), HostError> {
        self.stop_serving(subject);
        if let Some(active) = self.journal.subscription(subject).await? {
            self.serve(&active);
        }
        Ok(())
    }

    async fn take_all(&mut self, advance: &Advance<Change>) -> Result<(), HostError> {
        let mut consumed = HashMap::new();
        for change in &advance.changes {
            if let Some(count) = self.consumed(change).await? {
                consumed.insert(change.subject, count);
            }
        }
        let head = advance.head;
        let caught_up = advance.is_caught_up();
        if caught_up {
            self.clock.observe(&head);
        }
        let from = self.next_block();
        let mut changes = Vec::with_capacity(advance.changes.len());
        let mut events = Vec::new();
        for change in &advance.changes {
            let count = consumed.get(&change.subject).copied();
            let (change, event) = self.take_change(change, count).await?;
            changes.extend(change);
            events.extend(event);
        }
        if advance.changes.iter().any(is_about_subscriptions) {
            self.ask_anew();
        }
        events.extend(self.own_events(from, advance).await?);
        let watch::Cursor { number, hash } = advance.cursor;
        let cursor = Cursor { number, hash };
        let occurred = self.occurred(events).await?;
        let applied = self
            .journal
            .apply(DELEGATE, cursor, &changes, &occurred)
            .await?;
        for change in &advance.changes {
            // Perhaps by another host: the next number is the one after it.
            if let ChangeKind::Consumed { sequence } = change.kind {
                let sequences = &self.crews.yard().sequences;
                sequences.consumed(change.subject, sequence);
            }
        }
        self.put_to_work(&occurred, &applied.events);
        self.cursor = Some(advance.cursor);
        self.crews.yard().read.move_to(cursor);
        self.caught_up = caught_up;
        if !applied.undelivered.is_empty() {
            self.deliver_again(applied.undelivered).await?;
        }
        let waits = |occurred: &Occurred| occurred.routed.is_none();
        if !applied.restored.is_empty() || occurred.iter().any(waits) {
            self.route_waiting().await?;
        }
        Ok(())
    }

    /// What the clock says is due: events, and feeds that are to be observed.
    async fn take_due(&mut self) -> Result<(), HostError> {
        let now = self.clock.now();
        let feeds = self.engine.thresholds.take_due(now, BATCH);
        self.unseen
            .extend(feeds.into_iter().map(|feed| (feed.feed, feed)));
        self.observe_feeds().await;
        let events = self.engine.agenda.take_due(now, BATCH);
        for (subject, end) in self.engine.agenda.take_ended() {
            tracing::warn!(%subject, %end, "nothing will be due any more");
        }
        self.take_events(events).await
    }

    /// Has feeds observed whose moment has come, as soon as a policy lets cryptlets run.
    async fn observe_feeds(&mut self) {
        if self.unseen.is_empty() || self.basis().is_none() {
            return;
        }
        let now = self.clock.now();
        for feed in std::mem::take(&mut self.unseen).into_values() {
            match self.registered(feed.cryptlet).await {
                Ok(Runs::This(registered)) => match self.router.runs(feed.cryptlet, &registered) {
                    Ok(()) => self.feeds.observe(&feed, &registered, now),
                    Err(error) => {
                        tracing::warn!(feed = %feed.feed, %error, "feed cannot be observed");
                    }
                },
                Ok(_) => {
                    tracing::warn!(feed = %feed.feed, cryptlet = %feed.cryptlet, "feed cannot be observed: its cryptlet does not run here")
                }
                Err(error) => tracing::warn!(feed = %feed.feed, %error, "feed cannot be observed"),
            }
        }
    }

    /// Takes over a feed's value, with the events of those whose bound it has crossed.
    async fn take_observation(&mut self, seen: Observation) -> Result<(), HostError> {
        let events = self.engine.observe(&seen);
        let states: Vec<_> = self.engine.thresholds.take_changed();
        let states = states
            .iter()
            .filter_map(|(subject, state)| kept(*subject, state));
        let states: Vec<_> = states.collect();
        let occurred = self.occurred(events).await?;
        let recorded = self.journal.record_observation(&seen, &occurred, &states);
        let taken = recorded.await?;
        self.put_to_work(&occurred, &taken);
        self.route_rest(&occurred).await
    }

    /// Routes what could not be routed at once.
    async fn route_rest(&mut self, occurred: &[Occurred]) -> Result<(), HostError> {
        if occurred.iter().any(|occurred| occurred.routed.is_none()) {
            self.route_waiting().await?;
        }
        Ok(())
    }

    /// Takes over events that no block holds.
    async fn take_events(&mut self, events: Vec<Event>) -> Result<(), HostError> {
        let occurred = self.occurred(events).await?;
        let taken = self.journal.record_events(&occurred).await?;
        self.put_to_work(&occurred, &taken);
        self.route_rest(&occurred).await
    }

    /// Takes over what an application said, with the events that it causes.
    async fn take_message(&mut self, said: Said) -> Result<(), HostError> {
        let Said { message, answer } = said;
        let events = self.engine.message(&message);
        let occurred = self.occurred(events).await?;
        let outcome = self.journal.record_message(&message, &occurred).await?;
        if let MessageOutcome::New(taken) = &outcome {
            self.put_to_work(&occurred, taken);
            self.route_rest(&occurred).await?;
        }
        let _the_caller_has_gone = answer.send(outcome);
        Ok(())
    }
}

fn is_about_subscriptions(change: &Change) -> bool {
    !matches!(change.kind, ChangeKind::Consumed { .. })
}

/// What the journal keeps of where a subscription stands with its bound.
fn kept(subject: Subject, state: &State) -> Option<(Subject, String)> {
    Some((subject, serde_json::to_string(state).ok()?))
}
