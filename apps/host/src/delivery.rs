//! Reports on their way: handed to the transmitter, alone or together, until the chain has said what became of them, and the
//! receipt is written. Each step can be cut off and is done again from what the journal has.

use crate::{
    HostClock, HostError, Parts, Progress,
    admission::{Admission, Hold},
    proofs::Proofs,
    read_until::ReadUntil,
    receipt::assemble,
    retries::{backoff, is_last},
    sequences::Sequences,
};
use cryptlet_chain::{Chain, ChainError, Delivery as Delivered, Rejection};
use cryptlet_deliver::{BatchOrder, Deliverer, Order, Outcome, Place};
use cryptlet_journal::{Cursor, Delivered as Row, Journal, JournalError, Ran, RunOutcome};
use cryptlet_types::{
    Job, JobState, Receipt, Report, ReportDomain, RunId, RunRecord, Subject, Submission,
    UnixSeconds, report::CompactSignature,
};
use cryptlet_vault::Vault;
use futures::future::try_join_all;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::broadcast,
    time::{sleep, timeout},
};

/// Wait before a step is tried again that failed for reasons outside the job (a node that is down).
const PATIENCE: Duration = Duration::from_millis(500);

/// A job whose report is to be delivered.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Its number in the journal.
    pub(crate) number: u64,
    pub(crate) job: Job,
    /// Runs that came to nothing so far.
    pub(crate) attempts: u32,
    /// Which of the job's runs made the report.
    pub(crate) id: RunId,
    pub(crate) run: RunRecord,
}

impl Item {
    fn subject(&self) -> Subject {
        self.job.event.subject
    }

    fn sequence(&self) -> u64 {
        self.run.report.report.sequence
    }
}

/// What goes out by one transaction.
#[derive(Debug)]
pub(crate) enum Load {
    /// A report that may have been sent by these transactions, oldest first.
    One(Box<Item>, Vec<Submission>),
    /// Reports, with the cryptlet's signature over them together.
    Batch(Vec<Item>, CompactSignature),
    /// Reports that may have been sent together by these transactions, oldest first.
    Sent(Vec<Item>, Vec<Submission>),
}

/// What is to be done now with a job whose report was on its way.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) number: u64,
    pub(crate) subject: Subject,
    /// When it is to be run again; none: never, it has come to its end.
    pub(crate) again: Option<Duration>,
}

/// What became of the earlier reports of a job.
pub(crate) enum Recalled {
    /// One of them was delivered, and that is recorded now.
    Delivered,
    /// None was. Those with these numbers have not expired: each can still be delivered, unless another takes its number.
    Undelivered(Vec<u64>),
    /// Nobody can say now.
    Unknown(String),
}

impl Recalled {
    /// Why no report with this number may be made or sent now, if none may: of reports of one number the chain consumes one.
    pub(crate) fn hinders(&self, sequence: u64) -> Option<String> {
        match self {
            Self::Delivered => Some("an earlier report of the job was delivered".to_owned()),
            Self::Undelivered(open) => {
                let other = open.iter().find(|number| **number != sequence);
                other.map(|other| format!("the job's report {other} can still be delivered"))
            }
            Self::Unknown(reason) => Some(reason.clone()),
        }
    }
}

/// What the chain has under a report's number.
enum Found {
    Nothing,
    /// It was consumed, and the log is not found.
    Unseen,
    It(Box<Delivered>),
    Other,
}

/// Brings reports to their end.
pub(crate) struct Delivery {
    journal: Arc<Journal>,
    chain: Arc<dyn Chain>,
    domain: ReportDomain,
    proofs: Proofs,
    vault: Arc<dyn Vault>,
    deliverer: Arc<Deliverer>,
    admission: Arc<Admission>,
    sequences: Arc<Sequences>,
    clock: HostClock,
    first_block: u64,
    /// Up to which block the delegate's chain was read.
    read: Arc<ReadUntil>,
    progress: broadcast::Sender<Progress>,
}

impl Delivery {
    pub(crate) fn new(
        parts: &Parts,
        deliverer: Arc<Deliverer>,
        admission: Arc<Admission>,
        sequences: Arc<Sequences>,
        read: Arc<ReadUntil>,
        progress: broadcast::Sender<Progress>,
    ) -> Self {
        Self {
            journal: parts.journal.clone(),
            domain: parts.chain.domain(),
            chain: parts.chain.clone(),
            proofs: Proofs::new(parts.chain.clone()),
            vault: parts.vault.clone(),
            clock: parts.clock.clone(),
            first_block: parts.first_block,
            deliverer,
            admission,
            sequences,
            read,
            progress,
        }
    }

    /// Brings a load to its end, when its place has come. Of each report is told as soon as it has come to its own: others may
    /// have to wait for it.
    pub(crate) async fn bring(
        &self,
        load: Load,
        mut place: Place,
        tell: impl Fn(Settled),
    ) -> Result<(), HostError> {
        let (items, brought) = match load {
            Load::One(item, sent) => {
                tell(self.one(*item, sent, place).await?);
                return Ok(());
            }
            Load::Batch(items, signature) => {
                let brought = self.batch(&items, signature, &mut place).await?;
                (items, brought)
            }
            Load::Sent(items, sent) => {
                let orders: Vec<_> = items.iter().map(|item| self.order(item)).collect();
                let brought = self
                    .deliverer
                    .resume_batch(&mut place, &orders, &sent)
                    .await;
                let brought = brought.map_err(|error| error.to_string());
                (items, self.taken(brought).await)
            }
        };
        let left = self.record_batch(items, brought).await?;
        left.settled.into_iter().for_each(&tell);
        let lanes = by_subject(left.items).into_values();
        try_join_all(lanes.map(|items| self.one_by_one(items, &tell))).await?;
        Ok(())
    }

    /// Brings what a batch left of one subscription: its reports must not pass one another.
    async fn one_by_one(&self, items: Vec<Item>, tell: &impl Fn(Settled)) -> Result<(), HostError> {
        for item in items {
            let sent = self.journal.submissions(item.id).await?;
            tell(self.one(item, sent, Place::default()).await?);
        }
        Ok(())
    }

    /// Sends a batch, if all of it may still be sent.
    async fn batch(
        &self,
        items: &[Item],
        signature: CompactSignature,
        place: &mut Place,
    ) -> Result<Vec<Option<Delivered>>, HostError> {
        place.come().await;
        for item in items {
            if self.admission.leave(&item.job).await?.is_err() {
                return Ok(vec![]);
            }
        }
        let hindered = try_join_all(items.iter().map(|item| self.hindered(item))).await?;
        if hindered.iter().any(Option::is_some) {
            return Ok(vec![]);
        }
        let orders = items.iter().map(|item| self.order(item)).collect();
        let batch = BatchOrder { orders, signature };
        let brought = self.deliverer.deliver_batch(place, &batch).await;
        Ok(self.taken(brought.map_err(|error| error.to_string())).await)
    }

    /// What a batch brought. One that could not be brought is looked after report by report.
    async fn taken(
        &self,
        brought: Result<Vec<Option<Delivered>>, String>,
    ) -> Vec<Option<Delivered>> {
        match brought {
            Ok(brought) => brought,
            Err(reason) => {
                tracing::warn!(reason, "a batch could not be delivered");
                sleep(PATIENCE).await;
                vec![]
            }
        }
    }

    /// Writes the receipts of what was delivered; what was not is left.
    async fn record_batch(
        &self,
        items: Vec<Item>,
        brought: Vec<Option<Delivered>>,
    ) -> Result<Left, HostError> {
        let mut brought = brought.into_iter();
        let (mut done, mut left) = (Vec::new(), Left::default());
        for item in items {
            match brought.next().flatten() {
                Some(delivered) => done.push((item, delivered)),
                None => left.items.push(item),
            }
        }
        if done.is_empty() {
            return Ok(left);
        }
        if let Err(reason) = self.record(&done).await? {
            tracing::warn!(reason, "the receipts of a batch cannot be made for now");
            let back = done.into_iter().map(|(item, _)| item);
            left.items = back.chain(left.items).collect();
            left.items.sort_by_key(|item| item.number);
            sleep(PATIENCE).await;
            return Ok(left);
        }
        let ends = done.iter().map(|(item, _)| self.ended(item, true));
        left.settled = ends.collect();
        Ok(left)
    }

    /// Brings one report to its end.
    async fn one(
        &self,
        item: Item,
        mut sent: Vec<Submission>,
        mut place: Place,
    ) -> Result<Settled, HostError> {
        loop {
            let paused = match self.attempt(&item, &sent, &mut place).await? {
                Ok(settled) => return Ok(settled),
                Err(reason) => reason,
            };
            tracing::warn!(job = %item.job.id, reason = paused, "cannot go on for now");
            sleep(PATIENCE).await;
            if !self.is_wanted(&item).await? {
                return Ok(self.ended(&item, false));
            }
            sent = self.journal.submissions(item.id).await?;
        }
    }

    /// Whether the journal still wants this very report delivered: a reorganisation may have taken back what it answers.
    async fn is_wanted(&self, item: &Item) -> Result<bool, HostError> {
        let record = self.journal.job(item.job.id).await?;
        Ok(record.is_some_and(|record| {
            let state = matches!(record.state, JobState::Reported | JobState::Submitted);
            state && record.present == item.id
        }))
    }

    /// Whether the journal has the subscription.
    async fn is_served(&self, item: &Item) -> Result<bool, HostError> {
        let found = self.journal.subscription(item.subject()).await?;
        Ok(found.is_some())
    }

    /// One attempt: the end, or why it has to wait.
    async fn attempt(
        &self,
        item: &Item,
        sent: &[Submission],
        place: &mut Place,
    ) -> Result<Result<Settled, String>, HostError> {
        // Once it may have been sent, nothing can take it back.
        if sent.is_empty()
            && let Err(hold) = self.admission.leave(&item.job).await?
        {
            return match hold {
                Hold::Later(reason) => Ok(Err(reason)),
                Hold::Refused(reason) => {
                    Ok(Ok(self.failed(item, RunOutcome::Failed(reason)).await?))
                }
                Hold::Unserved(reason) => {
                    Ok(Ok(self.failed(item, RunOutcome::Unserved(reason)).await?))
                }
                Hold::Failed(_, hindrance) => Ok(Err(hindrance.reason)),
            };
        }
        if sent.is_empty() {
            place.come().await;
            if let Some(reason) = self.hindered(item).await? {
                return Ok(Err(reason));
            }
        }
        let order = Order {
            // What was sent, or stood in a line, before may be so no more.
            expected: place.is_in_line() && sent.is_empty() && self.expects(item),
            ..self.order(item)
        };
        let settled = match self.deliverer.resume_in(place, &order, sent).await {
            Ok(Outcome::Delivered(delivered)) => {
                let done = [(item.clone(), delivered)];
                match self.record(&done).await? {
                    Ok(()) => self.ended(item, true),
                    Err(reason) => return Ok(Err(reason)),
                }
            }
            Ok(Outcome::Expired) => return self.expired(item).await,
            // The delegate may have lost the subscription to a reorganisation that was not read yet, or not be as far yet.
            Ok(Outcome::Refused(Rejection::UnknownSubscription))
                if self.is_served(item).await? =>
            {
                if self.clock.now() > item.run.report.report.valid_until {
                    return self.expired(item).await;
                }
                let reason = "the delegate does not know the subscription now";
                return Ok(Err(reason.to_owned()));
            }
            Ok(Outcome::Refused(rejection)) => {
                let reason = format!("the delegate refused the report: {rejection}");
                let outcome = match rejection {
                    Rejection::UnknownSubscription => RunOutcome::Unserved(reason),
                    _ => RunOutcome::Failed(reason),
                };
                self.failed(item, outcome).await?
            }
            Ok(Outcome::Superseded(other)) => return self.superseded(item, other).await,
            Ok(Outcome::Unexplained) => {
                let reason = "its transactions revert, yet the delegate would accept the report";
                self.parked(item, reason.to_owned()).await?
            }
            Err(error) => return Ok(Err(error.to_string())),
        };
        Ok(Ok(settled))
    }

    /// Another report has consumed the number: by a reorganisation, it may be one that this host had given up.
    async fn superseded(
        &self,
        item: &Item,
        other: Delivered,
    ) -> Result<Result<Settled, String>, HostError> {
        let number = other.report.sequence;
        let found = self.journal.runs_numbered(item.subject(), number).await?;
        let domain = self.domain;
        let is_it = |run: &RunRecord| run.report.report.digest(&domain) == other.report.digest;
        let Some((id, run)) = found.into_iter().find(|(_, run)| is_it(run)) else {
            let by = other.transaction;
            let reason = format!("report {number} was delivered by another host in {by}");
            return Ok(Ok(self.failed(item, RunOutcome::Failed(reason)).await?));
        };
        let Some(record) = self.journal.job(id.job).await? else {
            return Ok(Err(format!("the journal lacks job {}", id.job)));
        };
        let brought = Item {
            number: record.number,
            job: record.job,
            attempts: record.attempts,
            id,
            run,
        };
        if let Err(reason) = self.record(&[(brought, other)]).await? {
            return Ok(Err(reason));
        }
        if id.job == item.job.id {
            return Ok(Ok(self.ended(item, true)));
        }
        let reason = "an earlier report has its number after all; it will be made anew";
        tracing::warn!(job = %item.job.id, reason);
        self.anew(item, reason, Duration::ZERO).await.map(Ok)
    }

    /// Looks whether the chain has consumed a report of a run before this one, whose report is to be made or sent, and records that
    /// it did.
    pub(crate) async fn recall(
        &self,
        number: u64,
        id: RunId,
        job: &Job,
    ) -> Result<Recalled, HostError> {
        if id.is_first() {
            return Ok(Recalled::Undelivered(vec![]));
        }
        let runs = self.journal.other_runs(job.id).await?;
        if runs.is_empty() {
            return Ok(Recalled::Undelivered(vec![]));
        }
        // Before they are looked for: one that is not found, and has not expired by then, may have been consumed since.
        let now = match self.chain.head().await {
            Ok(head) => head.timestamp,
            Err(error) => return Ok(Recalled::Unknown(error.to_string())),
        };
        let mut open = Vec::new();
        for (id, run) in runs {
            match self.find(&run.report.report).await {
                Err(error) => return Ok(Recalled::Unknown(error.to_string())),
                Ok(Found::Nothing) if run.report.report.valid_until >= now => {
                    open.push(run.report.report.sequence);
                }
                Ok(Found::Nothing | Found::Other) => {}
                Ok(Found::Unseen) => {
                    let reason = "the delegate has consumed its number, and the node does not show by which report";
                    return Ok(Recalled::Unknown(reason.to_owned()));
                }
                Ok(Found::It(delivered)) => {
                    let brought = Item {
                        number,
                        job: job.clone(),
                        attempts: 0,
                        id,
                        run,
                    };
                    return self.recalled(brought, *delivered).await;
                }
            }
        }
        Ok(Recalled::Undelivered(open))
    }

    /// Whether an earlier report of the job keeps this one, which was never sent, from being sent.
    async fn hindered(&self, item: &Item) -> Result<Option<String>, HostError> {
        let recalled = self.recall(item.number, item.id, &item.job).await?;
        Ok(recalled.hinders(item.sequence()))
    }

    /// Records the delivery of an earlier report.
    async fn recalled(&self, brought: Item, delivered: Delivered) -> Result<Recalled, HostError> {
        let (subject, sequence) = (brought.subject(), brought.sequence());
        if let Err(reason) = self.record(&[(brought, delivered)]).await? {
            return Ok(Recalled::Unknown(reason));
        }
        self.sequences.consumed(subject, sequence);
        Ok(Recalled::Delivered)
    }

    /// What the chain has consumed under the report's number.
    async fn find(&self, report: &Report) -> Result<Found, ChainError> {
        let (subject, number) = (report.subject, report.sequence);
        let consumed = self.chain.sequence(report.cryptlet, subject).await?;
        // A subscription that has ended may have consumed it before.
        let gone = consumed.is_none();
        if consumed.is_some_and(|consumed| consumed < number) {
            return Ok(Found::Nothing);
        }
        let first = self.first_block;
        Ok(match self.chain.delivery(subject, number, first).await? {
            Some(found) if found.report.digest == report.digest(&self.domain) => {
                Found::It(Box::new(found))
            }
            Some(_) => Found::Other,
            None if gone => Found::Nothing,
            None => Found::Unseen,
        })
    }

    fn order(&self, item: &Item) -> Order {
        Order {
            run: item.id,
            report: item.run.report.clone(),
            delegation: item.run.input.delegation.clone(),
            callback_gas: item.job.subscription.callback_gas,
            from_block: self.first_block,
            expected: false,
        }
    }

    /// Whether all reports before this one are on their way.
    fn expects(&self, item: &Item) -> bool {
        self.sequences.expects(item.subject(), item.sequence())
    }

    /// Waits until the block was read for what else it holds: it may have been replaced before, and is not heard of then.
    async fn until_read(&self, block: u64) {
        let _goes_on_all_the_same = timeout(PATIENCE, self.read.until(block)).await;
    }

    /// Makes and writes the receipts of reports that one transaction delivered; why that has to wait, if it has to. The delivery
    /// is on the chain and is found there again.
    async fn record(&self, done: &[(Item, Delivered)]) -> Result<Result<(), String>, HostError> {
        let Some((_, first)) = done.first() else {
            return Ok(Ok(()));
        };
        self.until_read(first.block).await;
        // Of that very block: a transaction that is in another one by now has to be looked for again.
        let (block, transaction) = (first.block_hash, first.transaction);
        let inclusion = match self.proofs.of(block, transaction).await {
            Ok(proven) => proven,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let Some(inclusion) = inclusion else {
            return Ok(Err(format!("block {block} does not hold {transaction}")));
        };
        let mut rows = Vec::with_capacity(done.len());
        for (item, delivered) in done {
            let run = item.run.clone();
            let vault = self.vault.as_ref();
            match assemble(&item.job, run, inclusion.clone(), vault).await {
                Ok(receipt) => rows.push(row(item.id, receipt, delivered)),
                Err(error) if error.is_retryable() => return Ok(Err(error.to_string())),
                Err(error) => return Err(error),
            }
        }
        let recorded = match self.journal.record_deliveries(&rows).await {
            Err(error @ JournalError::Fork { .. }) => return Ok(Err(error.to_string())),
            recorded => recorded?,
        };
        let rows = rows.into_iter().zip(recorded);
        for ((row, recorded), (_, delivered)) in rows.zip(done) {
            match recorded {
                Ok(()) => self.tell_delivered(row, delivered.gas_used),
                Err(error) => {
                    tracing::warn!(%error, "a delivery is not the one that was waited for")
                }
            }
        }
        Ok(Ok(()))
    }

    fn tell_delivered(&self, row: Row, gas_used: u64) {
        let Row {
            run: RunId { job, .. },
            receipt,
            success,
            block,
        } = row;
        tracing::info!(%job, block = block.number, success, "delivered");
        self.tell(Progress::Delivered {
            receipt: Arc::new(receipt),
            success,
            block: block.number,
            gas_used,
        });
    }

    /// A report that expired counts as a run that came to nothing: a subscription whose reports are valid for too short a time
    /// is not run for ever.
    async fn expired(&self, item: &Item) -> Result<Result<Settled, String>, HostError> {
        // How often it is tried is a policy's word: where none is in force, the job waits for one.
        let retry = match &self.admission.obey().standing().policy {
            Some(policy) => policy.policy.retry,
            None => return Ok(Err("the report expired".to_owned())),
        };
        if is_last(retry, item.attempts) {
            let reason =
                "the report expired before the chain took it, as often as policy lets it be tried";
            return Ok(Ok(self.parked(item, reason.to_owned()).await?));
        }
        let reason = "the report expired before the chain took it; it will be made anew";
        tracing::warn!(job = %item.job.id, reason);
        // By a clock that still shows the time of the first report, the next one would be the same.
        let later: UnixSeconds = item.run.report.report.issued_at.saturating_add(1);
        self.clock.clock().sleep_until(later).await;
        let pause = backoff(retry, item.attempts);
        self.anew(item, reason, pause).await.map(Ok)
    }

    /// Has the job run anew.
    async fn anew(&self, item: &Item, reason: &str, pause: Duration) -> Result<Settled, HostError> {
        let mut again = Some(pause);
        for stale in self.journal.reopen(&[(item.id, reason)]).await? {
            if let Err(error) = stale {
                tracing::warn!(%error, "a job is not where it was when it was to be run anew");
                again = None;
            }
        }
        Ok(Settled {
            again,
            ..self.ended(item, false)
        })
    }

    async fn failed(&self, item: &Item, outcome: RunOutcome) -> Result<Settled, HostError> {
        if self.give_up(item, outcome.clone()).await? {
            let again = Some(Duration::ZERO);
            let settled = self.ended(item, false);
            return Ok(Settled { again, ..settled });
        }
        if let RunOutcome::Failed(reason) | RunOutcome::Unserved(reason) = outcome {
            tracing::error!(job = %item.job.id, reason, "job failed");
            let job = Arc::new(item.job.clone());
            self.tell(Progress::Failed { job, reason });
        }
        Ok(self.ended(item, false))
    }

    async fn parked(&self, item: &Item, reason: String) -> Result<Settled, HostError> {
        tracing::error!(job = %item.job.id, reason, "job parked");
        self.give_up(item, RunOutcome::Parked(reason.clone()))
            .await?;
        let job = Arc::new(item.job.clone());
        self.tell(Progress::Parked { job, reason });
        Ok(self.ended(item, false))
    }

    /// Gives the job up. Says whether it is to be run anew instead: its subscription is back.
    async fn give_up(&self, item: &Item, outcome: RunOutcome) -> Result<bool, HostError> {
        let ran = Ran {
            run: item.id,
            outcome,
            next: None,
        };
        for told in self.journal.record_runs(&[ran]).await? {
            match told {
                Ok(_) => {}
                Err(JournalError::Served(_)) => {
                    let reason = "its subscription is there again";
                    let told = self.journal.reopen(&[(item.id, reason)]).await?;
                    return Ok(told.iter().all(Result::is_ok));
                }
                Err(error) => {
                    tracing::warn!(%error, "a job is not where it was when it was given up");
                }
            }
        }
        Ok(false)
    }

    /// A report is no more on its way: the delegate has consumed it, or its number is free.
    fn ended(&self, item: &Item, consumed: bool) -> Settled {
        let (subject, sequence) = (item.subject(), item.sequence());
        if consumed {
            self.sequences.consumed(subject, sequence);
        } else {
            self.sequences.free(subject, sequence);
        }
        Settled {
            number: item.number,
            subject,
            again: None,
        }
    }

    fn tell(&self, progress: Progress) {
        let _nobody_watches = self.progress.send(progress);
    }
}

/// Reports of each subscription, in their order.
fn by_subject(items: Vec<Item>) -> BTreeMap<Subject, Vec<Item>> {
    let mut lanes = BTreeMap::<_, Vec<_>>::new();
    for item in items {
        lanes.entry(item.subject()).or_default().push(item);
    }
    lanes
}

/// What a batch left to do.
#[derive(Default)]
struct Left {
    settled: Vec<Settled>,
    items: Vec<Item>,
}

fn row(run: RunId, receipt: Receipt, delivered: &Delivered) -> Row {
    Row {
        run,
        receipt,
        success: delivered.report.success,
        block: Cursor {
            number: delivered.block,
            hash: delivered.block_hash,
        },
    }
}
