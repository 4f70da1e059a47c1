//! The transitions of a job. Each hands over a whole batch in one transaction.

use crate::{
    Cursor, chain,
    error::{JournalError, Result},
    events::{Occurred, Taken, take_all},
    store::{Journal, Write},
    values::{Insert, Reader, Values, signed, write},
};
use alloy_primitives::B256;
use cryptlet_types::{Job, JobId, JobState, RunId, RunRecord, bounded::clip};
use serde::Serialize;
use sqlx::Row;
use std::{
    collections::HashMap,
    mem::{Discriminant, discriminant},
};

/// The number of a job's next run. One that was delivered may be an earlier run than others that were sent.
macro_rules! next_run {
    () => {
        "1 + max(job.run, coalesce((SELECT max(run.number) FROM run WHERE run.job = job.number), 0))"
    };
}
pub(crate) use next_run;

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
    /// Routed, reported or submitted -> failed: its subscription is gone. If a reorganisation brings that back, it is to be done
    /// after all.
    Unserved(String),
    /// Routed, reported or submitted -> parked: it came to nothing too often.
    Parked(String),
}

/// One run's outcome, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The job's present run.
    pub run: RunId,
    /// What became of it.
    pub outcome: RunOutcome,
    /// The next step of a long computation.
    pub next: Option<Occurred>,
}

impl Journal {
    /// Takes over the outcomes of many runs, in one transaction. A job that is not where its outcome starts, or at
    /// another run by now, is left out, together with what follows from it: its place holds [`JournalError::WrongState`] or
    /// [`JournalError::OtherRun`], or [`JournalError::Served`] if it was to fail for want of a subscription that is
    /// there. The others hold what became of the event that follows, if there is one.
    ///
    /// # Errors
    /// [`JournalError::UnknownJob`], [`JournalError::OtherJob`], those of [`Journal::record_events`] for what follows,
    /// [`JournalError::Full`] or [`JournalError::Database`].
    pub async fn record_runs(&self, runs: &[Ran]) -> Result<Vec<Result<Option<Taken>>>> {
        let mut tx = self.write_behind().await?;
        let mut told = Vec::new();
        for alike in runs.chunk_by(|one, next| one.outcome.kind() == next.outcome.kind()) {
            told.extend(record_alike(&mut tx, alike).await?);
        }
        tx.commit().await?;
        Ok(told)
    }

    /// Reported or submitted -> routed: the reports can no longer be delivered and others are wanted, for the reasons
    /// given. What was sent is not forgotten ([`Journal::other_runs`]). Counts as an attempt. A job whose event a
    /// reorganisation took back meanwhile is withdrawn. One transaction; a job that is somewhere else, or at another run, is left
    /// out, and its place holds [`JournalError::WrongState`] or [`JournalError::OtherRun`].
    ///
    /// # Errors
    /// [`JournalError::UnknownJob`], [`JournalError::Full`] or [`JournalError::Database`].
    pub async fn reopen(&self, runs: &[(RunId, &str)]) -> Result<Vec<Result<()>>> {
        let moves: Vec<_> = runs
            .iter()
            .map(|(run, reason)| Move::of(*run).note(&clip(reason)))
            .collect();
        let step = Step::new([JobState::Reported, JobState::Submitted], JobState::Routed)
            .counted()
            .anew();
        let mut tx = self.write_behind().await?;
        let told = start_over(&mut tx, &step, &moves).await?;
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
            .anew()
            .uncounted();
        let moves = [Move::new(id).note("tried again by hand")];
        for told in start_over(&mut tx, &step, &moves).await? {
            told?;
        }
        tx.commit().await
    }
}

impl RunOutcome {
    fn kind(&self) -> Discriminant<Self> {
        discriminant(self)
    }

    fn step(&self) -> Step {
        use JobState::{Failed, Parked, Reported, Routed, Skipped, Submitted};
        let unfinished = [Routed, Reported, Submitted];
        match self {
            Self::Reported(_) => Step::new([Routed], Reported),
            Self::Skipped(_) => Step::new([Routed], Skipped),
            Self::Attempt(_) => Step::new([Routed], Routed).counted(),
            Self::Failed(_) | Self::Unserved(_) => Step::new(unfinished, Failed),
            Self::Parked(_) => Step::new(unfinished, Parked),
        }
    }

    fn moves(&self, run: RunId) -> Result<Move> {
        match self {
            Self::Reported(record) => same_job(run.job, record.input.job).map(|()| Move::of(run)),
            Self::Skipped(reason)
            | Self::Attempt(reason)
            | Self::Failed(reason)
            | Self::Unserved(reason)
            | Self::Parked(reason) => Ok(Move::of(run).note(&clip(reason))),
        }
    }
}

/// Outcomes of one kind, and what follows from them.
async fn record_alike(tx: &mut Write<'_>, alike: &[Ran]) -> Result<Vec<Result<Option<Taken>>>> {
    let Some(first) = alike.first() else {
        return Ok(Vec::new());
    };
    let moves: Result<Vec<_>> = alike.iter().map(|ran| ran.outcome.moves(ran.run)).collect();
    let moved = match first.outcome {
        RunOutcome::Unserved(_) => advance_unserved(tx, &first.outcome.step(), &moves?).await?,
        _ => advance(tx, &first.outcome.step(), &moves?).await?,
    };
    let (mut values, mut next) = (Vec::new(), Vec::new());
    for (ran, moved) in alike.iter().zip(&moved) {
        let Ok(job) = moved else { continue };
        if let RunOutcome::Reported(run) = &ran.outcome {
            values.push((*job, ran.run.number, write("run", run)?));
        }
        next.extend(ran.next.clone());
    }
    let insert = Insert {
        head: "INSERT INTO run (job, number, value) ",
        tail: "",
    };
    let bind = |mut row: Values<'_>, (job, number, value): (i64, u32, String)| {
        row.push_bind(job).push_bind(number).push_bind(value);
    };
    insert.rows(tx, values, bind).await?;
    let mut taken = take_all(tx, None, &next).await?.into_iter();
    let told = alike.iter().zip(moved).map(|(ran, moved)| {
        let follows = ran.next.is_some();
        moved.map(|_| follows.then(|| taken.next()).flatten())
    });
    Ok(told.collect())
}

fn bind_value(mut row: Values<'_>, (job, value): (i64, String)) {
    row.push_bind(job).push_bind(value);
}

async fn start_over(tx: &mut Write<'_>, step: &Step, moves: &[Move]) -> Result<Vec<Result<()>>> {
    let (mut told, mut jobs) = (Vec::new(), Vec::new());
    for moved in advance(tx, step, moves).await? {
        told.push(match moved {
            Ok(job) => {
                jobs.push(job);
                Ok(forget_unsent(tx, job).await?)
            }
            Err(stale) => Err(stale),
        });
    }
    chain::withdraw_of(tx, &jobs).await?;
    Ok(told)
}

/// Reports that were never sent can never be delivered.
pub(crate) async fn forget_unsent(tx: &mut Write<'_>, job: i64) -> Result<()> {
    sqlx::query("DELETE FROM run WHERE job = ? AND NOT EXISTS (SELECT 1 FROM sent WHERE sent.job = run.job AND sent.run = run.number)")
        .bind(job)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Makes the jobs of new events. Returns their numbers, in the order given.
pub(crate) async fn make_all(tx: &mut Write<'_>, jobs: &[(&Job, i64)]) -> Result<Vec<u64>> {
    let mut rows = Vec::new();
    for (job, event) in jobs {
        same_job(Job::id_of(&job.event), job.id)?;
        rows.push((*job, *event, signed("event.due", job.event.trigger.due())?));
    }
    let at = tx.at;
    let insert = Insert {
        head: "INSERT INTO job (id, event, subject, cryptlet, due, state, at) ",
        tail: " RETURNING id, number",
    };
    let bind = |mut row: Values<'_>, (job, event, due): (&Job, i64, i64)| {
        row.push_bind(job.id.to_string())
            .push_bind(event)
            .push_bind(job.event.subject.to_string())
            .push_bind(job.subscription.cryptlet.to_string())
            .push_bind(due)
            .push_bind(JobState::Routed.as_str())
            .push_bind(at);
    };
    let mut made: HashMap<JobId, i64> = HashMap::new();
    for row in insert.rows(tx, rows, bind).await? {
        let reader = Reader::new("job", "id", &row)?;
        made.insert(reader.parsed("id")?, reader.column("number")?);
    }
    let (mut numbers, mut values) = (Vec::new(), Vec::new());
    for (job, _) in jobs {
        let number = *made.get(&job.id).ok_or(JournalError::UnknownJob(job.id))?;
        values.push((number, write("work", job)?));
        numbers.push(number.unsigned_abs());
    }
    let insert = Insert {
        head: "INSERT INTO work (job, value) ",
        tail: "",
    };
    insert.rows(tx, values, bind_value).await?;
    Ok(numbers)
}

/// Makes the job of an event that waited, or has a withdrawn one start over. Returns its number.
pub(crate) async fn make(tx: &mut Write<'_>, job: &Job, event: i64) -> Result<u64> {
    same_job(Job::id_of(&job.event), job.id)?;
    let at = tx.at;
    let row = sqlx::query(concat!("INSERT INTO job (id, event, subject, cryptlet, due, state, at) VALUES (?, ?, ?, ?, ?, 'routed', ?) ON CONFLICT (id) DO UPDATE SET state = 'routed', due = excluded.due, at = excluded.at, note = 'its event occurred again', run = ", next_run!(), ", attempts = 0 WHERE state = 'withdrawn' RETURNING id, number, run > 0 AS again"))
        .bind(job.id.to_string())
        .bind(event)
        .bind(job.event.subject.to_string())
        .bind(job.subscription.cryptlet.to_string())
        .bind(signed("event.due", job.event.trigger.due())?)
        .bind(at)
        .fetch_optional(tx.conn())
        .await?;
    let Some(row) = row else {
        let (is, _) = standing(tx, job.id).await?;
        return Err(wrong(job.id, is, JobState::Routed));
    };
    let number: i64 = row.try_get("number")?;
    if row.try_get("again")? {
        forget_unsent(tx, number).await?;
    }
    sqlx::query("INSERT OR REPLACE INTO work (job, value) VALUES (?, ?)")
        .bind(number)
        .bind(write("work", job)?)
        .execute(tx.conn())
        .await?;
    Reader::new("job", "id", &row)?.unsigned("number")
}

/// Where jobs may come from, where they go, and what changes with it.
pub(crate) struct Step {
    from: Vec<JobState>,
    to: JobState,
    /// What was sent belongs to the run: a new one starts without.
    anew: bool,
    /// Attempts become `attempts * keep + add`.
    keep: bool,
    add: bool,
}

/// Most states that one step may start from.
const ORIGINS: usize = 5;

impl Step {
    pub(crate) fn new<const N: usize>(from: [JobState; N], to: JobState) -> Self {
        const { assert!(N <= ORIGINS) };
        Self {
            from: from.to_vec(),
            to,
            anew: false,
            keep: true,
            add: false,
        }
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
}

/// One job that takes a step, in the JSON that the statement reads.
#[derive(Serialize)]
pub(crate) struct Move {
    id: JobId,
    /// Only if this is the run, or, for a delivery, one of the runs.
    run: Option<u32>,
    note: Option<String>,
    block: Option<i64>,
    hash: Option<B256>,
}

impl Move {
    pub(crate) fn new(id: JobId) -> Self {
        Self {
            id,
            run: None,
            note: None,
            block: None,
            hash: None,
        }
    }

    pub(crate) fn of(run: RunId) -> Self {
        Self {
            run: Some(run.number),
            ..Self::new(run.job)
        }
    }

    pub(crate) fn note(mut self, note: &str) -> Self {
        self.note = Some(note.to_owned());
        self
    }

    /// The block that holds the delivery.
    pub(crate) fn in_block(mut self, block: Cursor) -> Result<Self> {
        self.block = Some(signed("block", block.number)?);
        self.hash = Some(block.hash);
        Ok(self)
    }
}

/// Compares the states and sets them. Returns the jobs' numbers, or why they cannot go that way, in the order given.
/// Nothing is delivered that was not reported.
///
/// One statement for all: each one more would cost a change of threads, there and back.
pub(crate) async fn advance(
    tx: &mut Write<'_>,
    step: &Step,
    moves: &[Move],
) -> Result<Vec<Result<i64>>> {
    let at = tx.at;
    let mut query = sqlx::query(concat!("UPDATE job SET state = ?1, note = m.value ->> 'note', at = ?2, run = CASE WHEN ?3 THEN ", next_run!(), " WHEN ?1 = 'delivered' THEN m.value ->> 'run' ELSE run END, attempts = attempts * ?4 + ?5, block = m.value ->> 'block', block_hash = m.value ->> 'hash' FROM json_each(?6) AS m WHERE job.id = m.value ->> 'id' AND +state IN (?7, ?8, ?9, ?10, ?11) AND CASE ?1 WHEN 'delivered' THEN EXISTS (SELECT 1 FROM run WHERE run.job = job.number AND run.number = m.value ->> 'run') ELSE job.run = coalesce(m.value ->> 'run', job.run) END RETURNING id, number"))
        .bind(step.to.as_str())
        .bind(at)
        .bind(step.anew)
        .bind(step.keep)
        .bind(step.add)
        .bind(write("job", &moves)?);
    for place in 0..ORIGINS {
        query = query.bind(step.from.get(place).map(|state| state.as_str()));
    }
    let mut numbers = HashMap::new();
    for row in query.fetch_all(tx.conn()).await? {
        let id: JobId = Reader::new("job", "id", &row)?.parsed("id")?;
        numbers.insert(id, row.try_get("number")?);
    }
    let mut moved = Vec::new();
    for one in moves {
        // The same job once more is where it went.
        moved.push(match numbers.remove(&one.id) {
            Some(number) => Ok(number),
            None => Err(stale(tx, step, one).await?),
        });
    }
    Ok(moved)
}

/// Why a job did not move.
async fn stale(tx: &mut Write<'_>, step: &Step, one: &Move) -> Result<JournalError> {
    let (is, present) = standing(tx, one.id).await?;
    Ok(match one.run {
        Some(number) if number != present && step.from.contains(&is) => JournalError::OtherRun {
            given: RunId {
                job: one.id,
                number,
            },
            is: present,
        },
        _ => wrong(one.id, is, step.to),
    })
}

/// As [`advance`], of jobs whose subscriptions are gone: one that is served, since a reorganisation brought it back, is refused.
async fn advance_unserved(
    tx: &mut Write<'_>,
    step: &Step,
    moves: &[Move],
) -> Result<Vec<Result<i64>>> {
    let mut told = Vec::new();
    let mut jobs = Vec::new();
    for one in moves {
        let moved = match is_served(tx, one.id).await? {
            true => Err(JournalError::Served(one.id)),
            false => advance_one(tx, step, one).await?,
        };
        jobs.extend(moved.as_ref().ok().copied());
        told.push(moved);
    }
    chain::unserve(tx, &jobs).await?;
    Ok(told)
}

async fn advance_one(tx: &mut Write<'_>, step: &Step, one: &Move) -> Result<Result<i64>> {
    let moved = advance(tx, step, std::slice::from_ref(one)).await?;
    let moved = moved.into_iter().next();
    Ok(moved.unwrap_or(Err(JournalError::UnknownJob(one.id))))
}

async fn is_served(tx: &mut Write<'_>, id: JobId) -> Result<bool> {
    let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM job JOIN subscription s ON s.subject = job.subject WHERE job.id = ? AND s.status = 'active')")
        .bind(id.to_string())
        .fetch_one(tx.conn())
        .await?;
    Ok(row.try_get(0)?)
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

/// Where the job stands, and the number of its present run.
async fn standing(tx: &mut Write<'_>, id: JobId) -> Result<(JobState, u32)> {
    let row = sqlx::query("SELECT id, state, run FROM job WHERE id = ?")
        .bind(id.to_string())
        .fetch_optional(tx.conn())
        .await?
        .ok_or(JournalError::UnknownJob(id))?;
    let reader = Reader::new("job", "id", &row)?;
    Ok((reader.state()?, reader.unsigned("run")?))
}
