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

use cryptlet_journal::{Journal, JournalError};
use cryptlet_types::{Job, JobId, JobState, RunRecord, Submission};
use proptest::prelude::*;
use std::collections::BTreeMap;
use support::*;

#[derive(Clone, Debug)]
enum Operation {
    Route(u8),
    Attempt(u8),
    Report(u8, u8),
    Submit(u8, u8),
    Deliver(u8, bool),
    Skip(u8),
    Fail(u8),
    Reopen(u8),
    Restart,
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let job = 0u8..4;
    prop_oneof![
        2 => job.clone().prop_map(Route),
        2 => job.clone().prop_map(Attempt),
        4 => (job.clone(), any::<u8>()).prop_map(|(job, salt)| Report(job, salt)),
        4 => (job.clone(), 0u8..4).prop_map(|(job, fee)| Submit(job, fee)),
        2 => (job.clone(), any::<bool>()).prop_map(|(job, success)| Deliver(job, success)),
        1 => job.clone().prop_map(Skip),
        1 => job.clone().prop_map(Fail),
        2 => job.prop_map(Reopen),
        1 => Just(Restart),
    ]
}

/// What the journal should know about one job.
#[derive(Clone, Debug)]
struct Known {
    job: Job,
    state: JobState,
    attempts: u32,
    run: Option<RunRecord>,
    submissions: Vec<Submission>,
    success: Option<bool>,
    transitions: usize,
}

impl Known {
    fn new(job: Job) -> Self {
        Self {
            job,
            state: JobState::Routed,
            attempts: 0,
            run: None,
            submissions: vec![],
            success: None,
            transitions: 1,
        }
    }

    fn go(&mut self, next: JobState) -> bool {
        let allowed = self.state.may_become(next);
        if allowed {
            self.state = next;
            self.transitions += 1;
        }
        allowed
    }
}

#[derive(Default)]
struct Model(BTreeMap<JobId, Known>);

fn numbered(n: u8) -> Job {
    job(n % 2 + 1, u64::from(n))
}

/// Does `operation` in both; both must agree on whether it is allowed.
async fn step(journal: &Journal, model: &mut Model, operation: &Operation) {
    use Operation::*;
    if let Route(n) = operation {
        routed(journal, n % 2 + 1, u64::from(*n)).await;
        let job = numbered(*n);
        model.0.entry(job.id).or_insert_with(|| Known::new(job));
        return;
    }
    let (Attempt(n) | Report(n, _) | Submit(n, _) | Deliver(n, _) | Skip(n) | Fail(n) | Reopen(n)) =
        operation
    else {
        return;
    };
    let job = numbered(*n);
    let run_of = |salt| run(&job, salt);
    let done = match operation {
        Attempt(_) => journal.record_attempt(job.id, "later").await,
        Report(_, salt) => journal.record_report(job.id, &run_of(*salt)).await,
        Submit(_, fee) => {
            let submission = submission(u64::from(*n), u128::from(*fee));
            journal.record_submission(job.id, &submission).await
        }
        Deliver(_, success) => {
            let receipt = receipt(&job, &run_of(0));
            journal.record_delivery(job.id, &receipt, *success).await
        }
        Skip(_) => journal.record_skip(job.id, "closed").await,
        Fail(_) => journal.record_failure(job.id, "given up").await,
        _ => journal.reopen(job.id, "expired").await,
    };
    let Some(known) = model.0.get_mut(&job.id) else {
        assert!(matches!(done, Err(JournalError::UnknownJob(_))), "{done:?}");
        return;
    };
    let allowed = apply(known, operation, *n, run_of);
    assert_eq!(done.is_ok(), allowed, "{operation:?}: {done:?}");
    if !allowed {
        assert!(
            matches!(done, Err(JournalError::WrongState { is, .. }) if is == known.state),
            "{done:?}"
        );
    }
}

fn apply(
    known: &mut Known,
    operation: &Operation,
    n: u8,
    run_of: impl Fn(u8) -> RunRecord,
) -> bool {
    use Operation::*;
    match operation {
        Attempt(_) if known.state == JobState::Routed => {
            known.attempts += 1;
            known.transitions += 1;
            true
        }
        Report(_, salt) if known.go(JobState::Reported) => {
            known.run = Some(run_of(*salt));
            true
        }
        Submit(_, fee) if known.go(JobState::Submitted) => {
            let submission = submission(u64::from(n), u128::from(*fee));
            known.submissions.retain(|earlier| *earlier != submission);
            known.submissions.push(submission);
            true
        }
        Deliver(_, success) if known.go(JobState::Delivered) => {
            known.success = Some(*success);
            true
        }
        Skip(_) => known.go(JobState::Skipped),
        Fail(_) => known.go(JobState::Failed),
        Reopen(_) if known.go(JobState::Routed) => {
            known.run = None;
            known.submissions.clear();
            known.attempts += 1;
            true
        }
        _ => false,
    }
}

async fn compare(journal: &Journal, model: &Model) {
    let mut unfinished = Vec::new();
    for (id, known) in &model.0 {
        let record = journal.job(*id).await.unwrap().unwrap();
        assert_eq!(
            (&record.job, record.state, record.attempts),
            (&known.job, known.state, known.attempts)
        );
        assert_eq!(record.run, known.run);
        assert_eq!(record.submission.as_ref(), known.submissions.last());
        assert_eq!(journal.submissions(*id).await.unwrap(), known.submissions);
        let receipt = journal.receipt(*id).await.unwrap();
        assert_eq!(receipt.map(|stored| stored.success), known.success);
        let history = journal.history(*id).await.unwrap();
        assert_eq!(history.len(), known.transitions);
        assert_eq!(history.last().unwrap().state, known.state);
        if !known.state.is_final() {
            unfinished.push((
                known.job.subscription.subject,
                known.job.event.trigger.due(),
            ));
        }
    }
    unfinished.sort_unstable();
    let found: Vec<_> = unfinished_jobs(journal)
        .await
        .iter()
        .map(|record| {
            (
                record.job.subscription.subject,
                record.job.event.trigger.due(),
            )
        })
        .collect();
    assert_eq!(found, unfinished);
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
            let mut model = Model::default();
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
