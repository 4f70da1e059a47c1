//! Random operations against a model that holds the same promises in memory, with the file closed and
//! opened again at random points.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops where it goes wrong"
)]

mod support;

use cryptlet_journal::{DELEGATE, Delivered, How, Journal, JournalError, RunOutcome};
use cryptlet_types::{Job, JobId, JobState, RunId, RunRecord, Submission};
use proptest::prelude::*;
use std::collections::BTreeMap;
use support::*;

/// Jobs 0 to 3 are of the clock, 4 and 5 of logs in the delegate's chain.
#[derive(Clone, Debug)]
enum Operation {
    Occur(u8),
    Attempt(u8),
    Report(u8, u8),
    Submit(Vec<u8>, u8),
    Deliver(u8, bool, u32),
    Skip(u8),
    Fail(u8),
    Park(u8),
    Unpark(u8),
    Reopen(u8),
    Rewind(u8),
    Restart,
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let job = 0u8..6;
    let jobs = proptest::collection::btree_set(job.clone(), 1..3);
    prop_oneof![
        5 => job.clone().prop_map(Occur),
        2 => job.clone().prop_map(Attempt),
        5 => (job.clone(), any::<u8>()).prop_map(|(job, salt)| Report(job, salt)),
        4 => (jobs, 0u8..4).prop_map(|(jobs, fee)| Submit(jobs.into_iter().collect(), fee)),
        4 => (job.clone(), any::<bool>(), 0u32..3)
            .prop_map(|(job, success, back)| Deliver(job, success, back)),
        1 => job.clone().prop_map(Skip),
        1 => job.clone().prop_map(Fail),
        1 => job.clone().prop_map(Park),
        1 => job.clone().prop_map(Unpark),
        2 => job.prop_map(Reopen),
        3 => (1u8..4).prop_map(Rewind),
        1 => Just(Restart),
    ]
}

/// What the journal should know about one job.
#[derive(Clone, Debug)]
struct Known {
    job: Job,
    state: JobState,
    attempts: u32,
    /// Number of the present run.
    present: u32,
    /// Reports, and what was sent of them, by the number of the run.
    runs: BTreeMap<u32, (RunRecord, Vec<Submission>)>,
    success: Option<bool>,
    /// Block of the log, and whether the chain still has it there.
    event: Option<(u64, bool)>,
    delivered: Option<u64>,
    transitions: usize,
}

impl Known {
    fn new(job: Job, block: Option<u64>) -> Self {
        Self {
            job,
            state: JobState::Routed,
            attempts: 0,
            present: 0,
            runs: BTreeMap::new(),
            success: None,
            event: block.map(|block| (block, true)),
            delivered: None,
            transitions: 1,
        }
    }

    fn go(&mut self, from: &[JobState], next: JobState) -> bool {
        let allowed = from.contains(&self.state);
        if allowed {
            assert!(self.state == next || self.state.may_become(next));
            self.state = next;
            self.transitions += 1;
        }
        allowed
    }

    fn start_over(&mut self, attempts: u32) {
        let last = self.runs.keys().copied().max().unwrap_or(0);
        self.present = self.present.max(last) + 1;
        self.runs.retain(|_, (_, sent)| !sent.is_empty());
        self.attempts = attempts;
        if matches!(self.event, Some((_, false))) {
            self.go(&[JobState::Routed], JobState::Withdrawn);
        }
    }

    fn submissions(&self) -> &[Submission] {
        self.runs.get(&self.present).map_or(&[], |(_, sent)| sent)
    }

    /// The log is in `block` now. Returns whether it had been taken back.
    fn reappear(&mut self, job: Job, block: u64) -> bool {
        if !matches!(self.event, Some((_, false))) {
            return false;
        }
        self.event = Some((block, true));
        if self.go(&[JobState::Withdrawn], JobState::Routed) {
            self.job = job;
            self.start_over(0);
        }
        true
    }

    fn rewind(&mut self, to: u64) {
        if self.delivered.is_some_and(|block| block > to) {
            let back = match self.submissions().is_empty() {
                true => JobState::Reported,
                false => JobState::Submitted,
            };
            self.go(&[JobState::Delivered], back);
            (self.delivered, self.success) = (None, None);
        }
        if let Some((block, held)) = &mut self.event {
            *held &= *block <= to;
            if !*held {
                use JobState::{Parked, Reported, Routed, Withdrawn};
                self.go(&[Routed, Reported, Parked], Withdrawn);
            }
        }
    }
}

struct Model {
    jobs: BTreeMap<JobId, Known>,
    height: u64,
}

fn numbered(n: u8, block: u64) -> Job {
    let subject = n % 2 + 1;
    match n {
        4.. => job_of(subject, log(subject, u64::from(n), block)),
        _ => job(subject, u64::from(n)),
    }
}

/// Does `operation` in both; both must agree on whether it is allowed.
async fn step(journal: &Journal, model: &mut Model, operation: &Operation) {
    use Operation::*;
    match operation {
        Occur(n) => occur(journal, model, *n).await,
        Rewind(depth) => rewind(journal, model, u64::from(*depth)).await,
        Submit(jobs, fee) => submit(journal, model, jobs, *fee).await,
        Attempt(n)
        | Report(n, _)
        | Deliver(n, ..)
        | Skip(n)
        | Fail(n)
        | Park(n)
        | Unpark(n)
        | Reopen(n) => one(journal, model, operation, *n).await,
        Restart => {}
    }
}

async fn occur(journal: &Journal, model: &mut Model, n: u8) {
    model.height += u64::from(n >= 4);
    let (height, job) = (model.height, numbered(n, model.height));
    let events = [job.clone().into()];
    let taken = match n {
        4.. => {
            let applied = journal.apply(DELEGATE, cursor(height), &[], &events);
            applied.await.unwrap().events
        }
        _ => journal.record_events(&events).await.unwrap(),
    };
    let block = (n >= 4).then_some(height);
    let known = model.jobs.get_mut(&job.id);
    let how = match known {
        None => {
            model.jobs.insert(job.id, Known::new(job, block));
            How::New
        }
        Some(known) => match known.reappear(job, height) {
            true => How::Revived,
            false => How::Known,
        },
    };
    assert_eq!(taken[0].how, how);
}

async fn rewind(journal: &Journal, model: &mut Model, depth: u64) {
    let to = model.height.saturating_sub(depth).max(1);
    let rewound = journal.rewind(DELEGATE, cursor(to)).await.unwrap();
    model.height = to;
    let before: BTreeMap<_, _> = model.jobs.iter().map(|(id, k)| (*id, k.state)).collect();
    let (mut withdrawn, mut undelivered) = (vec![], vec![]);
    for (id, known) in &mut model.jobs {
        known.rewind(to);
        match known.state {
            state if state == before[id] => {}
            JobState::Withdrawn => withdrawn.push(*id),
            state => undelivered.push((*id, state)),
        }
    }
    let sorted = |mut ids: Vec<JobId>| {
        ids.sort_unstable();
        ids
    };
    assert_eq!(sorted(rewound.withdrawn), withdrawn);
    let mut found = rewound.undelivered;
    found.sort_unstable();
    assert_eq!(found, undelivered);
    assert_eq!((rewound.vanished, rewound.restored), (vec![], vec![]));
}

async fn submit(journal: &Journal, model: &mut Model, jobs: &[u8], fee: u8) {
    let submission = submission(u64::from(jobs[0]), u128::from(fee));
    let ids: Vec<_> = jobs.iter().map(|n| numbered(*n, 0).id).collect();
    let mut runs = Vec::new();
    for id in &ids {
        runs.push(present(journal, *id).await);
    }
    let done = journal.record_submission(&runs, &submission).await;
    let from = [JobState::Reported, JobState::Submitted];
    let states = ids
        .iter()
        .map(|id| model.jobs.get(id).map(|known| known.state));
    let allowed = states
        .into_iter()
        .all(|state| state.is_some_and(|state| from.contains(&state)));
    assert_eq!(done.is_ok(), allowed, "{done:?}");
    for id in ids.iter().filter(|_| allowed) {
        let known = model.jobs.get_mut(id).unwrap();
        known.go(&from, JobState::Submitted);
        let (_, sent) = known.runs.get_mut(&known.present).unwrap();
        sent.retain(|earlier| *earlier != submission);
        sent.push(submission.clone());
    }
}

async fn one(journal: &Journal, model: &mut Model, operation: &Operation, n: u8) {
    use Operation::*;
    let job = numbered(n, 0);
    let id = job.id;
    let run_of = |salt| run(&job, salt);
    let done = match operation {
        Attempt(_) => ran(journal, id, RunOutcome::Attempt("later".into())).await,
        Report(_, salt) => report(journal, id, &run_of(*salt)).await,
        Deliver(_, success, back) => {
            let run = present(journal, id).await;
            let delivered = Delivered {
                run: RunId {
                    number: run.number.saturating_sub(*back),
                    ..run
                },
                ..delivered(&job, &run_of(0), *success, model.height)
            };
            let told = journal.record_deliveries(&[delivered]).await;
            told.and_then(|mut told| told.pop().unwrap())
        }
        Skip(_) => ran(journal, id, RunOutcome::Skipped("closed".into())).await,
        Fail(_) => ran(journal, id, RunOutcome::Failed("given up".into())).await,
        Park(_) => ran(journal, id, RunOutcome::Parked("again and again".into())).await,
        Unpark(_) => journal.unpark(id).await,
        _ => reopen(journal, id, "expired").await,
    };
    let Some(known) = model.jobs.get_mut(&id) else {
        assert!(matches!(done, Err(JournalError::UnknownJob(_))), "{done:?}");
        return;
    };
    let allowed = go(known, operation, model.height, run_of);
    assert_eq!(done.is_ok(), allowed, "{operation:?}: {done:?}");
    if !allowed {
        let told = match done {
            Err(JournalError::WrongState { is, .. }) => is == known.state,
            Err(JournalError::OtherRun { is, .. }) => is == known.present,
            _ => false,
        };
        assert!(told, "{done:?}");
    }
}

fn go(
    known: &mut Known,
    operation: &Operation,
    height: u64,
    run_of: impl Fn(u8) -> RunRecord,
) -> bool {
    use JobState::*;
    let unfinished = [Routed, Reported, Submitted];
    match operation {
        Operation::Attempt(_) if known.go(&[Routed], Routed) => known.attempts += 1,
        Operation::Report(_, salt) if known.go(&[Routed], Reported) => {
            let run = (run_of(*salt), vec![]);
            known.runs.insert(known.present, run);
        }
        Operation::Deliver(_, success, back)
            if known
                .runs
                .contains_key(&known.present.saturating_sub(*back))
                && known.go(&[Routed, Reported, Submitted, Parked, Withdrawn], Delivered) =>
        {
            known.present = known.present.saturating_sub(*back);
            (known.success, known.delivered) = (Some(*success), Some(height));
        }
        Operation::Skip(_) => return known.go(&[Routed], Skipped),
        Operation::Fail(_) => return known.go(&unfinished, Failed),
        Operation::Park(_) => return known.go(&unfinished, Parked),
        Operation::Unpark(_) if known.go(&[Parked], Routed) => known.start_over(0),
        Operation::Reopen(_) if known.go(&[Reported, Submitted], Routed) => {
            known.start_over(known.attempts + 1);
        }
        _ => return false,
    }
    true
}

async fn compare(journal: &Journal, model: &Model) {
    let mut unfinished = Vec::new();
    let mut counts: BTreeMap<_, _> = JobState::ALL.map(|state| (state, 0)).into();
    for (id, known) in &model.jobs {
        let record = journal.job(*id).await.unwrap().unwrap();
        assert_eq!(
            (&record.job, record.state, record.attempts),
            (&known.job, known.state, known.attempts)
        );
        assert_eq!(record.present.number, known.present);
        let run = known.runs.get(&known.present).map(|(run, _)| run);
        assert_eq!(record.run.as_ref(), run);
        others(journal, known).await;
        assert_eq!(record.block, known.delivered.map(cursor));
        assert_eq!(record.submission.as_ref(), known.submissions().last());
        let sent = journal.submissions(record.present).await.unwrap();
        assert_eq!(sent, known.submissions());
        let receipt = journal.receipt(*id).await.unwrap();
        assert_eq!(receipt.map(|stored| stored.success), known.success);
        let history = journal.history(*id).await.unwrap();
        assert_eq!(history.len(), known.transitions);
        assert_eq!(history.last().unwrap().state, known.state);
        *counts.get_mut(&known.state).unwrap() += 1;
        if known.state.is_unfinished() {
            unfinished.push(*id);
        }
    }
    assert_eq!(journal.counts().await.unwrap(), counts);
    let found = unfinished_jobs(journal).await;
    let mut found: Vec<_> = found.iter().map(|record| record.job.id).collect();
    found.sort_unstable();
    assert_eq!(found, unfinished);
    pending(journal, model).await;
}

/// Every run but the present one of which something was sent.
async fn others(journal: &Journal, known: &Known) {
    let found = journal.other_runs(known.job.id).await.unwrap();
    let found = found.into_iter().map(|(id, run)| (id.number, run));
    let others = known.runs.iter();
    let others = others.filter(|(number, (_, sent))| **number != known.present && !sent.is_empty());
    let others = others.map(|(number, (run, _))| (*number, run.clone()));
    assert_eq!(found.collect::<Vec<_>>(), others.collect::<Vec<_>>());
}

/// Every transaction of a submitted job, and no other.
async fn pending(journal: &Journal, model: &Model) {
    let mut found = Vec::new();
    for (submission, jobs) in journal.pending_submissions().await.unwrap() {
        found.extend(jobs.iter().map(|job| (*job, submission.hash)));
    }
    found.sort_unstable();
    let submitted = model.jobs.iter();
    let submitted = submitted.filter(|(_, known)| known.state == JobState::Submitted);
    let mut expected: Vec<_> = submitted
        .flat_map(|(id, known)| known.submissions().iter().map(|sent| (*id, sent.hash)))
        .collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_journal_does_what_its_model_does(operations in proptest::collection::vec(operation(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("journal.db");
            let mut journal = open(&path).await;
            apply(&journal, 1, &[added(1, 1), added(2, 1)]).await;
            let mut model = Model { jobs: BTreeMap::new(), height: 1 };
            for operation in &operations {
                if let Operation::Restart = operation {
                    drop(journal);
                    journal = open(&path).await;
                    compare(&journal, &model).await;
                } else {
                    step(&journal, &mut model, operation).await;
                }
            }
            compare(&journal, &model).await;
        });
    }
}
