//! The transitions of a job. Each hands over a whole batch in one transaction.

use crate::{
    Cursor,
    error::{JournalError, Result},
    events::{Occurred, Taken, take},
    store::{Journal, Write},
    values::{Reader, signed, write},
};
use cryptlet_types::{Job, JobId, JobState, RunRecord, bounded::clip};
use sqlx::Row;

/// What became of a job's run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// Routed -> reported: a signed report, with everything behind it.
    Reported(Box<RunRecord>),
    /// Routed -> skipped: the cryptlet had nothing to deliver, or goes on in another step.
    Skipped(String),
    /// Stays routed: the run came to nothing for a passing reason. Counted.
    Attempt(String),
    /// Routed, reported or submitted -> failed: given up.
    Failed(String),
    /// Routed, reported or submitted -> parked: it came to nothing too often.
    Parked(String),
}

/// One job's outcome, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The job.
    pub job: JobId,
    /// What became of it.
    pub outcome: RunOutcome,
    /// The next step of a long computation.
    pub next: Option<Occurred>,
}

impl Journal {
    /// Takes over the outcomes of many runs, in one transaction. A job that is not where its outcome starts is left
    /// out, together with what follows from it: its place holds [`JournalError::WrongState`]. The others hold what
    /// became of the event that follows, if there is one.
    ///
    /// # Errors
    /// [`JournalError::UnknownJob`], [`JournalError::OtherJob`], those of [`Journal::record_events`] for what follows,
    /// [`JournalError::Full`] or [`JournalError::Database`].
    pub async fn record_runs(&self, runs: &[Ran]) -> Result<Vec<Result<Option<Taken>>>> {
        let mut tx = self.write().await?;
        let mut told = Vec::new();
        for ran in runs {
            told.push(match record_run(&mut tx, ran).await? {
                Err(stale) => Err(stale),
                Ok(_) => match &ran.next {
                    Some(next) => Ok(Some(take(&mut tx, None, next).await?)),
                    None => Ok(None),
                },
            });
        }
        tx.commit().await?;
        Ok(told)
    }

    /// Reported or submitted -> routed: the reports can no longer be delivered and others are wanted, for the reasons
    /// given. Forgets reports and transactions, keeps the history, and counts as an attempt. One transaction; a job
    /// that is somewhere else is left out, and its place holds [`JournalError::WrongState`].
    ///
    /// # Errors
    /// [`JournalError::UnknownJob`], [`JournalError::Full`] or [`JournalError::Database`].
    pub async fn reopen(&self, jobs: &[(JobId, &str)]) -> Result<Vec<Result<()>>> {
        let mut tx = self.write().await?;
        let mut told = Vec::new();
        for (id, reason) in jobs {
            let step = Step::new([JobState::Reported, JobState::Submitted], JobState::Routed)
                .note(&clip(reason))
                .counted()
                .anew();
            told.push(start_over(&mut tx, *id, &step).await?);
        }
        tx.commit().await?;
        Ok(told)
    }

    /// Parked -> routed: somebody has it tried again, as if it had never been tried.
    ///
    /// # Errors
    /// [`JournalError::UnknownJob`], [`JournalError::WrongState`], [`JournalError::Full`] or
    /// [`JournalError::Database`].
    pub async fn unpark(&self, id: JobId) -> Result<()> {
        let mut tx = self.write().await?;
        let step = Step::new([JobState::Parked], JobState::Routed)
            .note("tried again by hand")
            .anew()
            .uncounted();
        start_over(&mut tx, id, &step).await??;
        tx.commit().await
    }
}

async fn record_run(tx: &mut Write<'_>, ran: &Ran) -> Result<Result<i64>> {
    use JobState::{Failed, Parked, Reported, Routed, Skipped, Submitted};
    let unfinished = [Routed, Reported, Submitted];
    let step = match &ran.outcome {
        RunOutcome::Reported(run) => {
            same_job(ran.job, run.input.job)?;
            Step::new([Routed], Reported)
        }
        RunOutcome::Skipped(reason) => Step::new([Routed], Skipped).note(&clip(reason)),
        RunOutcome::Attempt(reason) => Step::new([Routed], Routed).note(&clip(reason)).counted(),
        RunOutcome::Failed(reason) => Step::new(unfinished, Failed).note(&clip(reason)),
        RunOutcome::Parked(reason) => Step::new(unfinished, Parked).note(&clip(reason)),
    };
    let job = advance(tx, ran.job, &step).await?;
    if let (Ok(job), RunOutcome::Reported(run)) = (&job, &ran.outcome) {
        sqlx::query("INSERT INTO run (job, value) VALUES (?, ?)")
            .bind(job)
            .bind(write("run", run)?)
            .execute(tx.conn())
            .await?;
    }
    Ok(job)
}

async fn start_over(tx: &mut Write<'_>, id: JobId, step: &Step) -> Result<Result<()>> {
    match advance(tx, id, step).await? {
        Ok(job) => forget_run(tx, job).await.map(Ok),
        Err(stale) => Ok(Err(stale)),
    }
}

async fn forget_run(tx: &mut Write<'_>, job: i64) -> Result<()> {
    sqlx::query("DELETE FROM run WHERE job = ?")
        .bind(job)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Makes the job of an event, or has a withdrawn one start over. Returns its number.
pub(crate) async fn make(tx: &mut Write<'_>, job: &Job, event: i64) -> Result<u64> {
    same_job(Job::id_of(&job.event), job.id)?;
    let at = tx.at;
    let row = sqlx::query("INSERT INTO job (id, event, subject, cryptlet, due, state, at) VALUES (?, ?, ?, ?, ?, 'routed', ?) ON CONFLICT (id) DO UPDATE SET state = 'routed', due = excluded.due, at = excluded.at, note = 'its event occurred again', round = round + 1, attempts = 0 WHERE state = 'withdrawn' RETURNING id, number, round > 0 AS again")
        .bind(job.id.to_string())
        .bind(event)
        .bind(job.event.subject.to_string())
        .bind(job.subscription.cryptlet.to_string())
        .bind(signed("event.due", job.event.trigger.due())?)
        .bind(at)
        .fetch_optional(tx.conn())
        .await?;
    let Some(row) = row else {
        let is = state_of(tx, job.id).await?;
        return Err(wrong(job.id, is, JobState::Routed));
    };
    let number: i64 = row.try_get("number")?;
    if row.try_get("again")? {
        forget_run(tx, number).await?;
    }
    sqlx::query("INSERT OR REPLACE INTO work (job, value) VALUES (?, ?)")
        .bind(number)
        .bind(write("work", job)?)
        .execute(tx.conn())
        .await?;
    Reader::new("job", "id", &row)?.unsigned("number")
}

/// Where a job may come from, where it goes, and what changes with it.
pub(crate) struct Step {
    from: Vec<JobState>,
    to: JobState,
    note: Option<String>,
    /// What was sent belongs to the round: a new one starts without.
    anew: bool,
    /// Attempts become `attempts * keep + add`.
    keep: bool,
    add: bool,
    block: Option<Cursor>,
}

/// Most states that one step may start from.
const ORIGINS: usize = 4;

impl Step {
    pub(crate) fn new<const N: usize>(from: [JobState; N], to: JobState) -> Self {
        const { assert!(N <= ORIGINS) };
        Self {
            from: from.to_vec(),
            to,
            note: None,
            anew: false,
            keep: true,
            add: false,
            block: None,
        }
    }

    pub(crate) fn note(mut self, note: &str) -> Self {
        self.note = Some(note.to_owned());
        self
    }

    fn anew(mut self) -> Self {
        self.anew = true;
        self
    }

    fn counted(mut self) -> Self {
        self.add = true;
        self
    }

    fn uncounted(mut self) -> Self {
        self.keep = false;
        self
    }

    /// The block that holds the delivery.
    pub(crate) fn in_block(mut self, block: Cursor) -> Self {
        self.block = Some(block);
        self
    }
}

/// Compares the state and sets it. Returns the job's number, or why it cannot go that way. Nothing is delivered that was
/// not reported.
pub(crate) async fn advance(tx: &mut Write<'_>, id: JobId, step: &Step) -> Result<Result<i64>> {
    let at = tx.at;
    let block = step.block.map(|block| signed("block", block.number));
    let mut query = sqlx::query("UPDATE job SET state = ?1, note = ?2, at = ?3, round = round + ?4, attempts = attempts * ?5 + ?6, block = ?7, block_hash = ?8 WHERE id = ?9 AND state IN (?10, ?11, ?12, ?13) AND (?1 <> 'delivered' OR EXISTS (SELECT 1 FROM run WHERE run.job = job.number)) RETURNING number")
        .bind(step.to.as_str())
        .bind(&step.note)
        .bind(at)
        .bind(step.anew)
        .bind(step.keep)
        .bind(step.add)
        .bind(block.transpose()?)
        .bind(step.block.map(|block| block.hash.to_string()))
        .bind(id.to_string());
    for place in 0..ORIGINS {
        query = query.bind(step.from.get(place).map(|state| state.as_str()));
    }
    match query.fetch_optional(tx.conn()).await? {
        Some(row) => Ok(Ok(row.try_get("number")?)),
        None => Ok(Err(wrong(id, state_of(tx, id).await?, step.to))),
    }
}

fn wrong(job: JobId, is: JobState, wanted: JobState) -> JournalError {
    JournalError::WrongState { job, is, wanted }
}

pub(crate) fn same_job(job: JobId, found: JobId) -> Result<()> {
    if job == found {
        Ok(())
    } else {
        Err(JournalError::OtherJob { job, found })
    }
}

async fn state_of(tx: &mut Write<'_>, id: JobId) -> Result<JobState> {
    let row = sqlx::query("SELECT id, state FROM job WHERE id = ?")
        .bind(id.to_string())
        .fetch_optional(tx.conn())
        .await?
        .ok_or(JournalError::UnknownJob(id))?;
    Reader::new("job", "id", &row)?.state()
}
