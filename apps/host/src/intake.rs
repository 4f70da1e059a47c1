//! What chain and clock say, turned into jobs in the journal.

use crate::{
    HostClock, HostError, Parts, Progress, Standing,
    crew::{Due, Word},
    desk::Said,
    feeds::Feeds,
    fetcher::{Fetcher, Hope},
    known::Known,
    manifests::Manifests,
    rules::Basis,
    streams::{self, Brought, Streams},
    yard::Crews,
};
use alloy_primitives::B256;
use cryptlet_chain::{Chain, ChangeKind, LogFilter, RawLog, SubscriptionChange as Change};
use cryptlet_journal::{
    ActiveSubscription, Cursor, DELEGATE, How, Journal, JournalError, MessageOutcome, Occurred,
    Rewound, Routed, SubscriptionChange, Taken,
};
use cryptlet_register::{Current, Register, Replica};
use cryptlet_route::{Registered, Router};
use cryptlet_types::{
    CryptletId, Event, Job, JobId, JobState, Subject, Subscription, UnixSeconds,
    event::{BlockEntry, Observation},
    subscription::{Finality, TriggerSpec},
};
use cryptlet_watch::{
    self as watch, Advance, FeedDue, Last, Restored, State, SubscriptionWatch, Subscriptions,
    WatchError,
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};
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

    async fn take_change(
        &mut self,
        change: &Change,
        consumed: Option<u64>,
    ) -> Result<(Option<SubscriptionChange>, Option<Event>), HostError> {
        let (subject, block) = (change.subject, change.block);
        let changed = match &change.kind {
            ChangeKind::Subscribed(subscription) => {
                let adopted = self
                    .adopt((**subscription).clone(), block, consumed)
                    .await?;
                return Ok((Some(adopted.0), adopted.1));
            }
            // Of that is told once the journal has the block.
            ChangeKind::Consumed { .. } => return Ok((None, None)),
            ChangeKind::Unsubscribed => {
                self.stop_serving(subject);
                tracing::info!(%subject, "subscription ended");
                SubscriptionChange::Ended { subject, block }
            }
            ChangeKind::Paused => {
                self.engine.pause(subject);
                tracing::info!(%subject, "subscription paused");
                SubscriptionChange::Paused { subject, block }
            }
            ChangeKind::Resumed { at } => {
                self.engine.resume(subject, *at);
                tracing::info!(%subject, "subscription goes on");
                SubscriptionChange::Resumed {
                    subject,
                    block,
                    at: *at,
                }
            }
            ChangeKind::Refused { reason } => {
                tracing::warn!(%subject, reason, "subscription cannot be served");
                SubscriptionChange::Refused {
                    subject,
                    block,
                    reason: reason.clone(),
                }
            }
        };
        Ok((Some(changed), None))
    }

    fn stop_serving(&mut self, subject: Subject) {
        self.engine.remove(subject);
        self.known.forget(subject);
    }

    /// Takes over a subscription. One that has consumed reports which this journal knows nothing of is served
    /// from now on only: what was due before may have been delivered by the host that lost its journal. One that is
    /// known already, or that has ended since, is not served anew.
    async fn adopt(
        &mut self,
        mut subscription: Subscription,
        block: u64,
        consumed: Option<u64>,
    ) -> Result<(SubscriptionChange, Option<Event>), HostError> {
        let subject = subscription.subject;
        let is_known = self.known.of(subject).await?.is_some();
        let Some(consumed) = consumed.filter(|_| !is_known) else {
            let added = SubscriptionChange::Added {
                subscription,
                block,
            };
            return Ok((added, None));
        };
        // What a reorganisation took away and brought back is known here, and so is what it consumed.
        let consumed = match consumed {
            1.. if self.journal.was_served(subject).await? => 0,
            consumed => consumed,
        };
        if consumed > 0 {
            subscription.since = subscription.since.max(self.clock.now().saturating_add(1));
            tracing::warn!(%subject, consumed, "subscription was served by another journal; it is served from now on");
        }
        let served = self.begin(&subscription, consumed);
        let event = match served {
            Ok(event) => event,
            Err(reason) => {
                tracing::warn!(%subject, reason, "subscription cannot be served");
                let refused = SubscriptionChange::Refused {
                    subject,
                    block,
                    reason,
                };
                return Ok((refused, None));
            }
        };
        tracing::info!(%subject, consumer = %subscription.consumer, cryptlet = %subscription.cryptlet, "subscription");
        self.known.learn(&subscription);
        let added = SubscriptionChange::Added {
            subscription,
            block,
        };
        Ok((added, event))
    }

    /// Looks out for a new subscription's trigger; the event of one that is itself the request.
    fn begin(
        &mut self,
        subscription: &Subscription,
        consumed: u64,
    ) -> Result<Option<Event>, String> {
        let stream = stream_of(&subscription.trigger);
        if let Some((chain, _)) = stream.filter(|(chain, _)| !self.streams.knows(*chain)) {
            return Err(format!(
                "condition.chainId: this host reads no chain {chain}"
            ));
        }
        self.await_chain(subscription);
        let restored = Restored::default();
        let added = self.engine.add(subscription, &restored, self.clock.now());
        let event = added.map_err(|error| error.to_string())?;
        // Another journal's host has answered the request.
        Ok(event.filter(|_| consumed == 0))
    }

    /// What happens on the subscription's chain after the subscription is waited for, however late that chain is read.
    fn await_chain(&mut self, subscription: &Subscription) {
        if let Some(key) = stream_of(&subscription.trigger) {
            self.streams.wanted_since(key, subscription.since);
        }
    }

    /// The first block that was not read yet.
    fn next_block(&self) -> u64 {
        let after = |cursor: watch::Cursor| cursor.number.saturating_add(1);
        self.cursor.map_or(0, after)
    }

    /// What the delegate's own chain brings for subscriptions, beside what the delegate said.
    async fn own_events(
        &self,
        from: u64,
        advance: &Advance<Change>,
    ) -> Result<Vec<Event>, HostError> {
        let key = (self.chain.domain().chain_id, Finality::Latest);
        let Some(chain) = self.streams.chain(key) else {
            return Ok(vec![]);
        };
        let (cursor, head) = (advance.cursor, &advance.head);
        let filter = &self.own_filter;
        let logs = streams::own_logs(chain.as_ref(), filter, from, cursor, head).await?;
        let made = advance.changes.iter();
        let made = made.filter(|change| matches!(change.kind, ChangeKind::Subscribed(_)));
        let made: HashMap<_, _> = made
            .map(|change| (change.subject, (change.block, change.log_index)))
            .collect();
        let mut events = Vec::new();
        for log in &logs {
            let later = |event: &Event| {
                made.get(&event.subject)
                    .is_none_or(|made| *made < (log.block, log.index))
            };
            events.extend(self.log_events(key, log).into_iter().filter(later));
        }
        let range = (from, cursor.number);
        events.extend(self.block_events(key, range, Some(head)).await?);
        Ok(events)
    }

    /// Subscriptions have changed: chains are to be told what to look for.
    fn ask_anew(&mut self) {
        self.unasked = true;
        self.own_filter = self.filter((self.chain.domain().chain_id, Finality::Latest));
    }

    /// What a stream is to look for.
    fn filter(&self, (chain, finality): streams::Key) -> LogFilter {
        let asked = self.engine.logs.filter(chain, finality);
        LogFilter {
            emitters: asked.addresses,
            topics: [asked.topics, vec![], vec![], vec![]],
        }
    }

    fn log_events(&self, (chain, finality): streams::Key, log: &RawLog) -> Vec<Event> {
        let Some(entry) = log.entry(chain) else {
            let (emitter, block, index) = (log.emitter, log.block, log.index);
            tracing::warn!(chain, block, index, %emitter, "a log is too large to wake anybody with");
            return vec![];
        };
        self.engine.log(&entry, finality)
    }

    /// The blocks of a range that somebody waits for.
    async fn block_events(
        &self,
        key: streams::Key,
        (from, to): (u64, u64),
        head: Option<&cryptlet_chain::Head>,
    ) -> Result<Vec<Event>, HostError> {
        let (chain_id, finality) = key;
        let mut events = Vec::new();
        let Some(chain) = self.streams.chain(key) else {
            return Ok(events);
        };
        let blocks = &self.engine.blocks;
        let mut next = blocks.next_after(chain_id, finality, from.saturating_sub(1));
        while let Some(number) = next.filter(|number| *number <= to) {
            let known = head.filter(|head| head.number == number).copied();
            let found = match known {
                Some(head) => Some(head),
                None => chain.header(number).await?,
            };
            let Some(head) = found else {
                return Err(cryptlet_chain::ChainError::Reorged { number }.into());
            };
            let block = BlockEntry {
                chain_id,
                number,
                hash: head.hash,
                at: head.timestamp,
            };
            events.extend(self.engine.block(&block, finality));
            next = blocks.next_after(chain_id, finality, number);
        }
        Ok(events)
    }

    /// Has each chain asked for what subscriptions wait for, as it is now. The newest blocks of the delegate's own chain are
    /// read together with what the delegate says.
    async fn look_for_logs(&mut self) {
        if !self.caught_up || !std::mem::take(&mut self.unasked) {
            return;
        }
        let own = (self.chain.domain().chain_id, Finality::Latest);
        let mut wanted = self.engine.logs.chains();
        wanted.extend(self.engine.blocks.chains());
        wanted.extend(self.streams.keys());
        for key in wanted.into_iter().filter(|key| *key != own) {
            let filter = self.filter(key);
            if let Err(error) = self.streams.look_for(key, filter).await {
                tracing::warn!(stream = streams::name(key), %error, "chain cannot be read yet");
                self.unasked = true;
            }
        }
    }

    /// Takes over what a chain brought.
    async fn take_stream(&mut self, brought: Brought) -> Result<(), HostError> {
        let (key, taken) = match brought {
            Brought::Blocks(key, advance) => (key, self.take_logs(key, advance).await),
            Brought::Reorged(key) => (key, self.take_back(key).await),
        };
        match taken {
            // The other chains go on meanwhile.
            Err(HostError::Chain(error)) => self.streams.again(key, &error),
            taken => taken?,
        }
        Ok(())
    }

    async fn take_logs(
        &mut self,
        key: streams::Key,
        advance: Advance<RawLog>,
    ) -> Result<(), HostError> {
        let watch::Cursor { number, hash } = advance.cursor;
        let first = self.journal.cursor(&streams::name(key)).await?;
        let from = first.map_or(number, |cursor| cursor.number.saturating_add(1));
        let mut events = Vec::new();
        for log in &advance.changes {
            events.extend(self.log_events(key, log));
        }
        events.extend(self.block_events(key, (from, number), None).await?);
        let occurred = self.occurred(events).await?;
        let cursor = Cursor { number, hash };
        let name = streams::name(key);
        let applied = self.journal.apply(&name, cursor, &[], &occurred).await?;
        self.put_to_work(&occurred, &applied.events);
        self.streams.go_on(key, advance.cursor);
        self.route_rest(&occurred).await
    }

    /// Another chain than the delegate's was reorganised.
    async fn take_back(&mut self, key: streams::Key) -> Result<(), HostError> {
        let name = streams::name(key);
        let to = self.streams.shared(key).await?;
        let rewound = match self.journal.rewind(&name, to).await {
            Err(JournalError::TooDeep { .. }) => {
                tracing::error!(
                    stream = name,
                    "the chain has none of the blocks that the journal remembers: it is another chain now, and not read any more"
                );
                return Ok(());
            }
            rewound => rewound?,
        };
        let withdrawn = rewound.withdrawn.len();
        tracing::warn!(stream = name, withdrawn, "the chain was reorganised");
        let Cursor { number, hash } = to;
        self.streams.go_on(key, watch::Cursor { number, hash });
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

    /// Events with what they lead to, as far as that can be said now. Where policy has subscriptions woken at intervals, that
    /// depends on the events before, which have to be in the journal first.
    async fn occurred(&mut self, events: Vec<Event>) -> Result<Vec<Occurred>, HostError> {
        let basis = self.basis().filter(|_| !self.waiting);
        let at_once = basis.filter(|basis| {
            let policy = basis.standing().policy.as_ref();
            policy.is_some_and(|policy| policy.policy.serve.minimum_interval_seconds == 0)
        });
        let Some(basis) = at_once else {
            self.waiting |= !events.is_empty();
            return Ok(events.into_iter().map(Occurred::from).collect());
        };
        let mut occurred = Vec::with_capacity(events.len());
        for event in events {
            let routed = match self.waiting {
                true => None,
                false => self.route(&event, None, &basis).await?,
            };
            self.waiting |= routed.is_none();
            occurred.push(Occurred { event, routed });
        }
        Ok(occurred)
    }

    /// Tells crews of jobs that the journal has now, and whoever watches of events that get none.
    fn put_to_work(&self, occurred: &[Occurred], taken: &[Taken]) {
        for (occurred, taken) in occurred.iter().zip(taken) {
            match (&occurred.routed, taken.job) {
                (Some(Routed::Job(job)), Some(number)) => {
                    let word = match taken.how {
                        How::New => Word::New(Box::new(Due::new(number, Job::clone(job)))),
                        _ => Word::Job(number, job.event.subject),
                    };
                    self.crews.tell(job.subscription.cryptlet, word);
                }
                (Some(Routed::Refused { reason, .. }), _) => {
                    self.tell_refused(&occurred.event, reason);
                }
                _ => {}
            }
        }
    }

    fn tell_refused(&self, event: &Event, reason: &str) {
        tracing::error!(event = %event.id, reason, "event refused");
        let _nobody_watches = self.progress.send(Progress::Refused {
            event: Arc::new(event.clone()),
            reason: reason.to_owned(),
        });
    }

    /// Routes, oldest first, the events that have no job yet: those that have just occurred, and those that occurred while no
    /// job could start.
    async fn route_waiting(&mut self) -> Result<(), HostError> {
        self.standing.mark_unchanged();
        if self.basis().is_none() {
            return Ok(());
        }
        let mut left = HashSet::new();
        for event in self.journal.unrouted_events().await? {
            let Some(basis) = self.basis() else {
                return Ok(());
            };
            if left.contains(&event.subject) {
                continue;
            }
            let due = event.trigger.due();
            let last_due = self.journal.due_before(event.subject, due).await?;
            match self.route(&event, last_due, &basis).await? {
                Some(routed) => self.settle(&event, routed).await?,
                None => {
                    left.insert(event.subject);
                }
            }
        }
        self.waiting = !left.is_empty();
        Ok(())
    }

    async fn settle(&self, event: &Event, routed: Routed) -> Result<(), HostError> {
        let settled = self
            .journal
            .settle_events(std::slice::from_ref(&routed))
            .await?;
        match (routed, settled.into_iter().flatten().next()) {
            (Routed::Job(job), Some(number)) => {
                let word = Word::Job(number, job.event.subject);
                self.crews.tell(job.subscription.cryptlet, word);
            }
            (Routed::Refused { reason, .. }, _) => self.tell_refused(event, &reason),
            (Routed::Job(_), None) => {}
        }
        Ok(())
    }

    /// What events are decided by, unless they have to wait.
    fn basis(&self) -> Option<Basis> {
        let basis = self.crews.yard().admission.obey();
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
    async fn route(
        &mut self,
        event: &Event,
        last_due: Option<UnixSeconds>,
        basis: &Basis,
    ) -> Result<Option<Routed>, HostError> {
        let subscription = self.known.of(event.subject).await?;
        let registered = match &subscription {
            Some(subscription) => self.registered(subscription.cryptlet).await,
            None => Ok(Runs::Nothing(None)),
        };
        let routed = match registered {
            Ok(Runs::Later) => return Ok(None),
            Ok(Runs::Nothing(Some(reason))) => Err(reason),
            Ok(Runs::Nothing(None)) => self.decide(event, subscription, None, last_due),
            Ok(Runs::This(registered)) => {
                self.decide(event, subscription, Some(&registered), last_due)
            }
            Err(error) if error.is_retryable() => {
                tracing::warn!(event = %event.id, %error, "event waits");
                return Ok(None);
            }
            // One cryptlet's damaged package is no reason to stop serving the others.
            Err(error) => Err(error.to_string()),
        };
        match routed {
            Ok(job) => Ok(Some(Routed::Job(Box::new(job)))),
            Err(reason) if !basis.stands(self.clock.now()) => {
                tracing::debug!(event = %event.id, reason, "decided by what has changed meanwhile, event waits");
                Ok(None)
            }
            Err(reason) => Ok(Some(Routed::Refused {
                event: event.id,
                reason,
            })),
        }
    }

    fn decide(
        &self,
        event: &Event,
        subscription: Option<Arc<Subscription>>,
        registered: Option<&Registered>,
        last_due: Option<UnixSeconds>,
    ) -> Result<Job, String> {
        let subscription = subscription.map(Arc::unwrap_or_clone);
        let routed = self
            .router
            .route(event.clone(), subscription, registered, last_due);
        routed.map_err(|refusal| refusal.to_string())
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

    /// A node that cannot be asked is asked again; a chain that was reorganised is followed back.
    async fn trouble(&mut self, error: HostError) -> Result<(), HostError> {
        match &error {
            HostError::Watch(WatchError::Reorged { .. })
            | HostError::Journal(JournalError::Fork { .. }) => {
                tracing::warn!(%error, "going back");
                match self.go_back().await {
                    Err(HostError::Chain(error)) if !error.is_misconfigured() => {
                        tracing::warn!(%error, "node does not answer");
                        tokio::time::sleep(PATIENCE).await;
                    }
                    gone => gone?,
                }
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

    /// Takes back what was read of blocks that the chain has no more.
    async fn go_back(&mut self) -> Result<(), HostError> {
        for cursor in self.journal.trail(DELEGATE).await? {
            let found = self.chain.header(cursor.number).await?;
            if found.is_some_and(|head| head.hash == cursor.hash) {
                return self.rewind(cursor).await;
            }
        }
        // Of a host that has not read for long, all blocks may have been replaced: then it begins anew.
        let before = streams::before(
            self.chain
                .header(self.first_block.saturating_sub(1))
                .await?,
        );
        self.rewind(before?).await
    }

    async fn rewind(&mut self, to: Cursor) -> Result<(), HostError> {
        self.crews.yard().read.leave();
        let rewound = match self.journal.rewind(DELEGATE, to).await {
            Err(JournalError::TooDeep { .. }) => return Err(HostError::TooDeep),
            rewound => rewound?,
        };
        let Cursor { number, hash } = to;
        self.cursor = Some(watch::Cursor { number, hash });
        self.undo(rewound).await?;
        self.crews.yard().read.move_to(to);
        Ok(())
    }

    async fn undo(&mut self, rewound: Rewound) -> Result<(), HostError> {
        let (vanished, restored) = (rewound.vanished.len(), rewound.restored.len());
        let (withdrawn, undelivered) = (rewound.withdrawn.len(), rewound.undelivered.len());
        tracing::warn!(
            vanished,
            restored,
            withdrawn,
            undelivered,
            "the chain was reorganised"
        );
        for subject in rewound.vanished {
            self.stop_serving(subject);
        }
        for subject in rewound.restored {
            self.serve_as_kept(subject).await?;
        }
        self.ask_anew();
        self.deliver_again(rewound.undelivered).await?;
        for job in rewound.revived {
            if let Some(record) = self.journal.job(job).await? {
                let word = Word::Job(record.number, record.job.event.subject);
                self.crews.tell(record.job.subscription.cryptlet, word);
            }
        }
        Ok(())
    }

    /// Has deliveries looked for again whose blocks are not part of the chain; nothing that was remembered of it is believed.
    async fn deliver_again(&self, undelivered: Vec<(JobId, JobState)>) -> Result<(), HostError> {
        let yard = self.crews.yard();
        yard.deliverer.doubt();
        let mut numbers = Vec::new();
        for (job, _) in undelivered {
            numbers.extend(self.journal.job(job).await?.map(|record| record.number));
        }
        self.resume_reports(&numbers).await?;
        yard.sequences.doubt();
        Ok(())
    }
}

/// Where what a subscription waits for happens, if that is on a chain.
fn stream_of(trigger: &TriggerSpec) -> Option<streams::Key> {
    match trigger {
        TriggerSpec::Log(spec) => Some((spec.chain_id, spec.finality)),
        TriggerSpec::Blocks(spec) => Some((spec.chain_id, spec.finality)),
        _ => None,
    }
}

fn is_about_subscriptions(change: &Change) -> bool {
    !matches!(change.kind, ChangeKind::Consumed { .. })
}

/// What the journal keeps of where a subscription stands with its bound.
fn kept(subject: Subject, state: &State) -> Option<(Subject, String)> {
    Some((subject, serde_json::to_string(state).ok()?))
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
