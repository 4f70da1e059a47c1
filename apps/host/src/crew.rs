//! One cryptlet's jobs, from the journal to reports that are on their way.
//!
//! A crew takes what is ready, at most [`AT_ONCE`] jobs, has the cryptlet's region answer them one after the other, writes down all
//! that came of it at once, and hands the reports over in batches. What comes in meanwhile is the next round's: a single event
//! is answered at once, many are answered together. Reports of one subscription are on their way at the same time, each with
//! the number after the one before; but for those on somebody's behalf, whose delegation may be taken back in between.

use crate::{
    HostError, Progress,
    admission::{Hindrance, Hold},
    delivery::{Item, Load, Recalled, Settled},
    queue::Queue,
    retries::{backoff, is_last},
    yard::Yard,
};
use cryptlet_deliver::{Line, gas};
use cryptlet_isolation::IsolationError;
use cryptlet_journal::{JobRecord, Occurred, Ran as Recorded, RunOutcome, Taken};
use cryptlet_run::{Program, Ran, RunError, Turn};
use cryptlet_types::{
    Event, Job, JobState, RunId, Subject, Submission, Subscription, Trigger, event::Step,
    policy::Retry, region::RegionFault,
};
use futures::future::try_join_all;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, sleep_until},
};

/// Most jobs that are run before their reports are sent.
const AT_ONCE: usize = 64;
/// After so long, a round's reports are sent before more jobs are run: the first must not expire while the last are made.
const ROUND: Duration = Duration::from_secs(2);
/// Most reports of one transaction.
const MAX_BATCH: usize = 50;
/// Most gas that one transaction of a batch asks for: half of what the smallest blocks of today's chains hold.
const MAX_BATCH_GAS: u64 = 15_000_000;
/// Most reports of one cryptlet that are on their way at once.
const MAX_ON_THE_WAY: usize = 2_048;
/// Wait before a job is looked at again that could not go on for reasons outside of it (a node that is down).
const PATIENCE: Duration = Duration::from_millis(500);

/// What a crew is told.
#[derive(Debug)]
pub(crate) enum Word {
    /// The journal has this job, to be run.
    Job(u64, Subject),
    /// The journal has this job since just now, to be run.
    New(Box<Due>),
    /// The journal has jobs whose reports may have been sent together before this host was started.
    Resume(Vec<JobRecord>, Vec<Submission>),
    /// This became of a report that was on its way.
    Settled(Settled),
}

/// Serves one cryptlet.
pub(crate) struct Crew {
    yard: Arc<Yard>,
    words: mpsc::UnboundedReceiver<Word>,
    /// For those who bring reports, to tell what became of them.
    back: mpsc::UnboundedSender<Word>,
    queue: Queue,
    /// Of the jobs in the queue, a few as they were when they were made: they need not be read from the journal.
    new: BTreeMap<u64, Due>,
    line: Line,
    on_the_way: Arc<Semaphore>,
    /// Reports that were signed, and not sent, before this host was started.
    unsent: Vec<Item>,
}

/// A report, and its place among those on the way, if it has one already.
struct Reported {
    item: Item,
    permit: Option<OwnedSemaphorePermit>,
}

/// A job that is to be run.
#[derive(Debug)]
pub(crate) struct Due {
    number: u64,
    job: Job,
    /// Which of its runs this is.
    id: RunId,
    attempts: u32,
}

impl Due {
    /// A job that was never run.
    pub(crate) fn new(number: u64, job: Job) -> Self {
        Self {
            number,
            id: RunId::first(job.id),
            job,
            attempts: 0,
        }
    }
}

impl From<JobRecord> for Due {
    fn from(record: JobRecord) -> Self {
        Self {
            number: record.number,
            id: record.present,
            job: record.job,
            attempts: record.attempts,
        }
    }
}

/// What one round made.
#[derive(Default)]
struct Round {
    outcomes: Vec<Recorded>,
    /// The number and the subscription of each outcome's job.
    places: Vec<(u64, Subject)>,
    reported: Vec<Reported>,
    news: Vec<(RunId, Progress)>,
}

impl Crew {
    pub(crate) fn new(
        yard: Arc<Yard>,
        words: mpsc::UnboundedReceiver<Word>,
        back: mpsc::UnboundedSender<Word>,
    ) -> Self {
        Self {
            yard,
            words,
            back,
            queue: Queue::default(),
            new: BTreeMap::new(),
            line: Line::default(),
            on_the_way: Arc::new(Semaphore::new(MAX_ON_THE_WAY)),
            unsent: Vec::new(),
        }
    }

    /// Goes on until the host is stopped. May be dropped at any point: the journal has what was done.
    pub(crate) async fn run(mut self) -> Result<(), HostError> {
        loop {
            while let Ok(word) = self.words.try_recv() {
                self.hear(word);
            }
            if !self.unsent.is_empty() {
                self.send_unsent().await;
            }
            self.queue.wake(Instant::now());
            let room = self.on_the_way.available_permits().min(AT_ONCE);
            let taken = self.queue.take(room);
            if taken.is_empty() {
                self.wait().await;
            } else {
                self.round(taken).await?;
            }
        }
    }

    /// Waits for a word, until somebody has waited long enough, or until there is room for who is ready.
    async fn wait(&mut self) {
        let next = self.queue.next_wake();
        let (room, is_ready) = (self.on_the_way.clone(), self.queue.is_ready());
        let woken = async {
            match next {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            word = self.words.recv() => {
                if let Some(word) = word {
                    self.hear(word);
                }
            }
            () = woken => {}
            // It is given back at once: whoever goes on takes it for what it then has.
            _room = room.acquire(), if is_ready => {}
        }
    }

    fn hear(&mut self, word: Word) {
        match word {
            Word::Job(number, subject) => {
                // It may be at another run than when it was made.
                self.new.remove(&number);
                self.queue.push(number, subject);
            }
            Word::New(due) => {
                self.queue.push(due.number, due.job.event.subject);
                if self.new.len() < AT_ONCE {
                    self.new.insert(due.number, *due);
                }
            }
            Word::Resume(records, sent) => self.resume(records, sent),
            Word::Settled(settled) => self.settle(settled),
        }
    }

    fn settle(&mut self, settled: Settled) {
        let Settled {
            number,
            subject,
            again,
        } = settled;
        match again {
            Some(pause) => self.put_off(number, subject, pause),
            None => self.queue.release(subject),
        }
    }

    /// Takes up reports that were signed before this host was started.
    fn resume(&mut self, records: Vec<JobRecord>, sent: Vec<Submission>) {
        let items = records.into_iter().filter_map(item_of);
        let mut items: Vec<_> = items.collect();
        for item in &items {
            self.hold_if_alone(&item.job.subscription);
        }
        if sent.is_empty() {
            self.unsent.extend(items);
        } else if items.len() > 1 {
            self.send(Load::Sent(items, sent), vec![]);
        } else if let Some(item) = items.pop() {
            self.send(Load::One(Box::new(item), sent), vec![]);
        }
    }

    async fn send_unsent(&mut self) {
        let items = std::mem::take(&mut self.unsent);
        let Some(first) = items.first() else { return };
        let (yard, cryptlet) = (self.yard.clone(), first.job.subscription.cryptlet);
        let turn = yard.runner.turn(cryptlet).await;
        let reported = items
            .into_iter()
            .map(|item| Reported { item, permit: None });
        let reported = reported.collect();
        self.hand_over_all(reported, turn).await;
    }

    /// One turn of the cryptlet's region.
    async fn round(&mut self, taken: Vec<(u64, Subject)>) -> Result<(), HostError> {
        let jobs: Vec<_> = self.jobs(taken).await?.into_values().collect();
        let Some(first) = jobs.first() else {
            return Ok(());
        };
        let yard = self.yard.clone();
        let mut turn = yard.runner.turn(first.job.subscription.cryptlet).await;
        let mut round = Round::default();
        let delivery = &yard.delivery;
        let recalled = jobs
            .iter()
            .map(|due| delivery.recall(due.number, due.id, &due.job));
        let recalled = try_join_all(recalled).await?;
        let until = Instant::now() + ROUND;
        for (due, recalled) in jobs.into_iter().zip(recalled) {
            if Instant::now() < until {
                self.answer(due, recalled, &mut turn, &mut round).await?;
            } else {
                self.queue.push(due.number, due.job.event.subject);
            }
        }
        self.conclude(round, turn).await
    }

    /// The jobs that were taken from the queue, by their numbers. What was withdrawn meanwhile shows when its run is written down.
    async fn jobs(&mut self, taken: Vec<(u64, Subject)>) -> Result<BTreeMap<u64, Due>, HostError> {
        let mut jobs = BTreeMap::new();
        let mut others = Vec::new();
        for (number, _) in taken {
            match self.new.remove(&number) {
                Some(due) => {
                    jobs.insert(number, due);
                }
                None => others.push(number),
            }
        }
        if !others.is_empty() {
            let records = self.yard.journal.jobs_by_number(&others).await?;
            let routed = records
                .into_iter()
                .filter(|record| record.state == JobState::Routed);
            jobs.extend(routed.map(|record| (record.number, record.into())));
        }
        Ok(jobs)
    }

    /// Has the cryptlet answer one job, if nothing keeps it from it.
    async fn answer(
        &mut self,
        due: Due,
        recalled: Recalled,
        turn: &mut Turn<'_>,
        round: &mut Round,
    ) -> Result<(), HostError> {
        let (number, subject) = (due.number, due.job.event.subject);
        // A job before it in this round has to be done first.
        if self.queue.holds(subject) {
            self.queue.push(number, subject);
            return Ok(());
        }
        let Ok(permit) = self.on_the_way.clone().try_acquire_owned() else {
            self.queue.push(number, subject);
            return Ok(());
        };
        let asked = match &recalled {
            Recalled::Delivered => return Ok(()),
            Recalled::Unknown(reason) => Err(Hold::Later(reason.clone())),
            Recalled::Undelivered(_) => self.ask(&due.job, &recalled, turn).await?,
        };
        match asked {
            Ok(Ran::Reported {
                run,
                next,
                recording,
            }) => {
                let number = run.report.report.sequence;
                if !self.yard.sequences.hold(subject, number) {
                    let reason = format!("report {number} is on its way again");
                    self.held(due, Hold::Later(reason), round);
                    return Ok(());
                }
                if let Some(recording) = recording {
                    let keep = &self.yard.recordings;
                    keep.keep(&due.job, due.id, &run, next.as_deref(), *recording)
                        .await;
                }
                self.hold_if_alone(&due.job.subscription);
                let outcome = RunOutcome::Reported(run.clone());
                round.note(&due, outcome, self.step(&due.job, next));
                let item = Item {
                    number: due.number,
                    job: due.job,
                    attempts: due.attempts,
                    id: due.id,
                    run: *run,
                };
                let permit = Some(permit);
                round.reported.push(Reported { item, permit });
            }
            Ok(Ran::Skipped { reason, next }) => {
                let outcome = RunOutcome::Skipped(reason.clone());
                round.note(&due, outcome, self.step(&due.job, next));
                let job = Arc::new(due.job);
                round.news.push((due.id, Progress::Skipped { job, reason }));
            }
            Err(hold) => self.held(due, hold, round),
        }
        Ok(())
    }

    /// Asks the cryptlet, and says why not if that is not to be.
    async fn ask(
        &self,
        job: &Job,
        recalled: &Recalled,
        turn: &mut Turn<'_>,
    ) -> Result<Result<Ran, Hold>, HostError> {
        let (yard, subscription) = (&self.yard, &job.subscription);
        // The turn may have been long in coming, and register and policy may have changed.
        let policy = match yard.admission.leave(job).await? {
            Ok(policy) => policy,
            Err(hold) => return Ok(Err(hold)),
        };
        let sequence = match self.sequence(subscription).await {
            Ok(sequence) => sequence,
            Err(hold) => return Ok(Err(hold)),
        };
        if let Some(reason) = recalled.hinders(sequence) {
            return Ok(Err(Hold::Later(reason)));
        }
        let now = yard.clock.now();
        // The chain's clock may be ahead of the host's.
        if matches!(job.event.trigger, Trigger::Request { at } if at > now) {
            let reason = "by this host's clock the request is not made yet";
            return Ok(Err(Hold::Later(reason.to_owned())));
        }
        let delegation = match yard.admission.delegation(subscription, now).await {
            Ok(Ok(delegation)) => delegation,
            Ok(Err(hindrance)) => return Ok(Err(Hold::Failed(policy.policy.retry, hindrance))),
            Err(error) => return Ok(Err(Hold::Later(error.to_string()))),
        };
        let ran = turn.run(job, sequence, now, delegation).await;
        Ok(ran.map_err(|error| {
            // The number may be wrong, for all that is known.
            yard.sequences.free(subscription.subject, 0);
            if is_promised(&error) {
                // Nothing came of what the region said under this number, and it says nothing else yet.
                Hold::Later(error.to_string())
            } else if yard.runner.policy().digest == policy.digest {
                Hold::Failed(policy.policy.retry, error.into())
            } else {
                // What another policy refused, the one in force may admit, once there is one.
                Hold::Later(error.to_string())
            }
        }))
    }

    /// What goes on after a run that has not come to its end.
    fn step(&self, job: &Job, next: Option<Box<Step>>) -> Option<Occurred> {
        let trigger = Trigger::Step(*next?);
        let event = Event::new(&self.yard.chain.domain(), job.event.subject, trigger);
        let job = Job {
            id: Job::id_of(&event),
            event,
            ..job.clone()
        };
        Some(Occurred::from(job))
    }

    /// The number of the subscription's next report.
    async fn sequence(&self, subscription: &Subscription) -> Result<u64, Hold> {
        let subject = subscription.subject;
        if let Some(next) = self.yard.sequences.next(subject) {
            return Ok(next);
        }
        match self.consumed(subscription).await {
            Ok(Some(consumed)) => self.yard.sequences.learn(subject, consumed),
            Ok(None) => {
                let found = self.yard.journal.subscription(subject).await;
                return Err(match found {
                    Ok(None) => Hold::Unserved("the subscription has ended".to_owned()),
                    // A reorganisation that was not read yet may have taken it away, and bring it back.
                    Ok(Some(_)) => Hold::Later("the delegate does not know it now".to_owned()),
                    Err(error) => Hold::Later(error.to_string()),
                });
            }
            Err(reason) => return Err(Hold::Later(reason)),
        }
        let next = self.yard.sequences.next(subject);
        next.ok_or_else(|| Hold::Later("the delegate's word has changed".to_owned()))
    }

    /// How many reports the delegate has consumed, on a chain that has the blocks that the journal has: on another one, the numbers
    /// of reports that were delivered, and are so no more, seem free.
    async fn consumed(&self, subscription: &Subscription) -> Result<Option<u64>, String> {
        let Yard { chain, read, .. } = &*self.yard;
        let Some(at) = read.cursor() else {
            return Err("the journal is being taken back".to_owned());
        };
        let (cryptlet, subject) = (subscription.cryptlet, subscription.subject);
        let consumed = chain.sequence(cryptlet, subject);
        let consumed = consumed.await.map_err(|error| error.to_string())?;
        let header = chain.header(at.number).await;
        let header = header.map_err(|error| error.to_string())?;
        if header.is_none_or(|header| header.hash != at.hash) {
            return Err("blocks were replaced, and that was not read yet".to_owned());
        }
        Ok(consumed)
    }

    /// What keeps a job from going on.
    fn held(&mut self, due: Due, hold: Hold, round: &mut Round) {
        match hold {
            Hold::Later(reason) => {
                tracing::warn!(job = %due.job.id, reason, "cannot go on for now");
                self.put_off(due.number, due.job.event.subject, PATIENCE);
            }
            Hold::Refused(reason) => round.give_up(due, RunOutcome::Failed(reason)),
            Hold::Unserved(reason) => round.give_up(due, RunOutcome::Unserved(reason)),
            Hold::Failed(retry, hindrance) => self.failed_run(due, retry, hindrance, round),
        }
    }

    fn failed_run(&mut self, due: Due, retry: Retry, hindrance: Hindrance, round: &mut Round) {
        let Hindrance { reason, passes } = hindrance;
        if !passes {
            return round.give_up(due, RunOutcome::Failed(reason));
        }
        let attempts = due.attempts;
        if is_last(retry, attempts) {
            return round.give_up(due, RunOutcome::Parked(reason));
        }
        tracing::warn!(job = %due.job.id, attempts, reason, "run failed, it will be tried again");
        let pause = backoff(retry, attempts);
        self.put_off(due.number, due.job.event.subject, pause);
        round.note(&due, RunOutcome::Attempt(reason.clone()), None);
        let job = due.job.id;
        round.news.push((due.id, Progress::Retried { job, reason }));
    }

    fn put_off(&mut self, number: u64, subject: Subject, pause: Duration) {
        self.queue.push(number, subject);
        self.queue.hold(subject, Some(Instant::now() + pause));
    }

    /// Reports on somebody's behalf go one by one: a delegation may be taken back between two of them.
    fn hold_if_alone(&mut self, subscription: &Subscription) {
        if subscription.needs_delegation() {
            self.queue.hold(subscription.subject, None);
        }
    }

    /// Writes down what came of a round, and hands its reports over.
    async fn conclude(&mut self, round: Round, turn: Turn<'_>) -> Result<(), HostError> {
        let Round {
            outcomes,
            places,
            mut reported,
            mut news,
        } = round;
        let recorded = self.yard.journal.record_runs(&outcomes).await?;
        for ((ran, recorded), (number, subject)) in outcomes.iter().zip(recorded).zip(places) {
            match recorded {
                Ok(None) => {}
                Ok(Some(next)) => self.follow(ran, next),
                // A reorganisation has taken back what it answers, or somebody has given it up: if it is to be done all the same,
                // the journal says so when it is taken from the queue.
                Err(error) => {
                    tracing::info!(%error, "a run came too late");
                    reported.retain(|report| report.item.id != ran.run || !self.forget(report));
                    news.retain(|(run, _)| *run != ran.run);
                    self.queue.push(number, subject);
                }
            }
        }
        for (_, news) in news {
            self.yard.tell(news);
        }
        self.hand_over_all(reported, turn).await;
        Ok(())
    }

    /// The next step of a long computation is a job as any other.
    fn follow(&mut self, ran: &Recorded, next: Taken) {
        if let (Some(number), Some(occurred)) = (next.job, &ran.next) {
            self.queue.push(number, occurred.event.subject);
        }
    }

    /// A report that is not to be delivered gives its number back.
    fn forget(&mut self, report: &Reported) -> bool {
        let said = &report.item.run.report.report;
        self.yard.sequences.free(said.subject, said.sequence);
        self.queue.release(said.subject);
        true
    }

    async fn hand_over_all(&mut self, reported: Vec<Reported>, mut turn: Turn<'_>) {
        for batch in batches(reported) {
            self.hand_over(batch, &mut turn).await;
        }
    }

    /// Hands over reports together where the cryptlet signs for them together, and one by one where not.
    async fn hand_over(&mut self, batch: Vec<Reported>, turn: &mut Turn<'_>) {
        if batch.len() > 1 {
            let reports = batch.iter().map(|one| one.item.run.report.clone());
            let reports: Vec<_> = reports.collect();
            let program = batch.first().map(|one| Program::of(&one.item.job));
            let now = self.yard.clock.now();
            let signed = match program {
                Some(program) => turn.sign_batch(&program, &reports, now).await,
                None => return,
            };
            match signed {
                Ok(signature) => {
                    let (items, permits) = apart(batch);
                    return self.send(Load::Batch(items, signature), permits);
                }
                Err(error) => tracing::debug!(%error, "reports go one by one"),
            }
        }
        for Reported { item, permit } in batch {
            let load = Load::One(Box::new(item), vec![]);
            self.send(load, permit.into_iter().collect());
        }
    }

    fn send(&mut self, load: Load, permits: Vec<OwnedSemaphorePermit>) {
        let (yard, back) = (self.yard.clone(), self.back.clone());
        let place = self.line.place();
        self.yard.start(async move {
            let tell = |settled| {
                let _the_host_has_stopped = back.send(Word::Settled(settled));
            };
            yard.delivery.bring(load, place, tell).await?;
            drop(permits);
            Ok(())
        });
    }
}

impl Round {
    fn give_up(&mut self, due: Due, outcome: RunOutcome) {
        self.note(&due, outcome.clone(), None);
        let run = due.id;
        let (id, shared) = (due.job.id, Arc::new(due.job));
        let news = match &outcome {
            RunOutcome::Parked(reason) => {
                tracing::error!(job = %id, reason, "job parked");
                Progress::Parked {
                    job: shared,
                    reason: reason.clone(),
                }
            }
            RunOutcome::Failed(reason) | RunOutcome::Unserved(reason) => {
                tracing::error!(job = %id, reason, "job failed");
                Progress::Failed {
                    job: shared,
                    reason: reason.clone(),
                }
            }
            _ => return,
        };
        self.news.push((run, news));
    }

    fn note(&mut self, due: &Due, outcome: RunOutcome, next: Option<Occurred>) {
        let run = due.id;
        self.outcomes.push(Recorded { run, outcome, next });
        self.places.push((due.number, due.job.event.subject));
    }
}

fn is_promised(error: &RunError) -> bool {
    let RunError::Isolation(IsolationError::Fault(fault)) = error else {
        return false;
    };
    matches!(fault, RegionFault::Promised { .. })
}

fn item_of(record: JobRecord) -> Option<Item> {
    let JobRecord {
        number,
        job,
        attempts,
        present,
        run,
        ..
    } = record;
    Some(Item {
        number,
        job,
        attempts,
        id: present,
        run: run?,
    })
}

fn apart(batch: Vec<Reported>) -> (Vec<Item>, Vec<OwnedSemaphorePermit>) {
    let parts = batch.into_iter().map(|one| (one.item, one.permit));
    let (items, permits): (Vec<_>, Vec<_>) = parts.unzip();
    (items, permits.into_iter().flatten().collect())
}

/// Reports that can go together, in their order. Those on somebody's behalf go alone.
fn batches(reported: Vec<Reported>) -> Vec<Vec<Reported>> {
    let mut batches: Vec<(Vec<Reported>, u64)> = Vec::new();
    for report in reported {
        let payload = report.item.run.report.report.payload.len();
        let gas = gas::item(payload, report.item.job.subscription.callback_gas);
        match batches.last_mut() {
            Some((batch, used))
                if batch.len() < MAX_BATCH
                    && used.saturating_add(gas) <= MAX_BATCH_GAS
                    && batch
                        .last()
                        .is_some_and(|one| fits(&one.item, &report.item)) =>
            {
                batch.push(report);
                *used = used.saturating_add(gas);
            }
            _ => batches.push((vec![report], gas)),
        }
    }
    batches.into_iter().map(|(batch, _)| batch).collect()
}

/// Whether one signature can be over both: the same region says them, on nobody's behalf.
fn fits(one: &Item, other: &Item) -> bool {
    let (first, second) = (&one.run.report, &other.run.report);
    let alone = |item: &Item| item.job.subscription.needs_delegation();
    !alone(one)
        && !alone(other)
        && first.report.region == second.report.region
        && first.signer == second.signer
}
