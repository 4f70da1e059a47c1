//! What the journal tells: jobs, receipts, histories, counts.

use crate::{
    Connection, Cursor,
    delivery::{StoredReceipt, receipt_of, select_receipts},
    error::{JournalError, Result},
    store::Journal,
    values::{Reader, signed, write},
};
use alloy_primitives::B256;
use cryptlet_types::{
    CryptletId, Job, JobId, JobState, RunId, RunRecord, Subject, Submission, UnixSeconds,
};
use sqlx::{QueryBuilder, Sqlite, sqlite::SqliteRow};
use std::collections::BTreeMap;

/// A job with all that it has gathered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRecord {
    /// Its number: jobs are numbered in the order in which they were recorded.
    pub number: u64,
    /// The job.
    pub job: Job,
    /// Where it stands.
    pub state: JobState,
    /// Runs that came to nothing so far.
    pub attempts: u32,
    /// What the last transition had to say.
    pub note: Option<String>,
    /// Which of its runs `run` and `submission` are of; nothing is known of the others here ([`Journal::other_runs`]).
    pub present: RunId,
    /// The signed report and what is behind it.
    pub run: Option<RunRecord>,
    /// The latest transaction; [`Journal::submissions`] has the earlier ones.
    pub submission: Option<Submission>,
    /// The block that holds its delivery.
    pub block: Option<Cursor>,
}

/// A job that there is something to do for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Its number: jobs are numbered in the order in which they were recorded.
    pub number: u64,
    /// Its id.
    pub id: JobId,
    /// Its subscription.
    pub subject: Subject,
    /// Its cryptlet.
    pub cryptlet: CryptletId,
    /// Where it stands.
    pub state: JobState,
    /// Runs that came to nothing so far.
    pub attempts: u32,
}

/// One line of a job's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// When, by the journal's clock, in milliseconds since 1970.
    pub at: u64,
    /// The state that it was in from then on.
    pub state: JobState,
    /// What there was to say.
    pub note: Option<String>,
}

/// Which jobs to list; nothing said lets all through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only those of this subscription.
    pub subject: Option<Subject>,
    /// Only those of this cryptlet.
    pub cryptlet: Option<CryptletId>,
    /// Only those in one of these states; empty for all.
    pub states: Vec<JobState>,
}

/// Which part of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Entries after this place: 0 at first, then [`Listing::next`].
    pub after: u64,
    /// At most so many; more than 1,000 are never given.
    pub limit: u32,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            after: 0,
            limit: 100,
        }
    }
}

/// One page, in the order in which entries were recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Where the next page starts; none if this was the last.
    pub next: Option<u64>,
}

const LARGEST_PAGE: u32 = 1000;

/// A job's columns and its latest transaction.
const JOBS: &str = "SELECT job.number, job.id, job.state, job.run AS present, job.attempts, job.note, job.block, job.block_hash, work.value, run.value AS run, (SELECT s.value FROM sent JOIN submission s ON s.number = sent.submission WHERE sent.job = job.number AND sent.run = job.run ORDER BY sent.number DESC LIMIT 1) AS submission FROM job JOIN work ON work.job = job.number LEFT JOIN run ON run.job = job.number AND run.number = job.run WHERE ";

fn select_jobs(condition: &'static str) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(JOBS);
    query.push(condition);
    query
}

impl Journal {
    /// A job, if it is known.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn job(&self, id: JobId) -> Result<Option<JobRecord>> {
        let mut db = self.read().await?;
        let row = select_jobs("job.id = ")
            .push_bind(id.to_string())
            .build()
            .fetch_optional(db.conn())
            .await?;
        row.as_ref().map(job_of).transpose()
    }

    /// The jobs with these numbers, in the order of their numbers; those that are not known are left out.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`], [`JournalError::Database`] or [`JournalError::OutOfRange`].
    pub async fn jobs_by_number(&self, numbers: &[u64]) -> Result<Vec<JobRecord>> {
        let numbers: Result<Vec<_>> = numbers
            .iter()
            .map(|number| signed("job.number", *number))
            .collect();
        let mut db = self.read().await?;
        let rows = select_jobs("job.number IN (SELECT value FROM json_each(")
            .push_bind(write("job", &numbers?)?)
            .push(")) ORDER BY job.number")
            .build()
            .fetch_all(db.conn())
            .await?;
        drop(db);
        rows.iter().map(job_of).collect()
    }

    /// All jobs that there is something to do for, in the order of their numbers: what a host starts with.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn unfinished(&self) -> Result<Vec<Unfinished>> {
        let mut db = self.read().await?;
        let rows = sqlx::query("SELECT number, id, subject, cryptlet, state, attempts FROM job WHERE state IN ('routed', 'reported', 'submitted') ORDER BY number")
            .fetch_all(db.conn())
            .await?;
        drop(db);
        rows.iter()
            .map(|row| {
                let reader = Reader::new("job", "id", row)?;
                Ok(Unfinished {
                    number: reader.unsigned("number")?,
                    id: reader.parsed("id")?,
                    subject: reader.parsed("subject")?,
                    cryptlet: reader.parsed("cryptlet")?,
                    state: reader.state()?,
                    attempts: reader.unsigned("attempts")?,
                })
            })
            .collect()
    }

    /// When the latest job of a subscription before `due` was due; none if there was none.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn due_before(
        &self,
        subject: Subject,
        due: UnixSeconds,
    ) -> Result<Option<UnixSeconds>> {
        let due = signed("due", due)?;
        let mut db = self.read().await?;
        let row = sqlx::query(
            "SELECT id, due FROM job WHERE subject = ? AND due < ? ORDER BY due DESC LIMIT 1",
        )
        .bind(subject.to_string())
        .bind(due)
        .fetch_optional(db.conn())
        .await?;
        row.map(|row| Reader::new("job", "id", &row)?.unsigned("due"))
            .transpose()
    }

    /// A page of the jobs that `filter` lets through.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn jobs(&self, filter: &JobFilter, page: Page) -> Result<Listing<JobRecord>> {
        let mut query = select_jobs("job.number IN (");
        if filter.states.is_empty() {
            select_numbers(&mut query, filter, None, page)?;
        }
        for (place, state) in filter.states.iter().enumerate() {
            if place > 0 {
                query.push(" UNION ALL ");
            }
            select_numbers(&mut query, filter, Some(*state), page)?;
        }
        query.push(") ORDER BY job.number LIMIT ");
        let mut db = self.read().await?;
        let (rows, next) = fetch_page(db.conn(), query, page).await?;
        drop(db);
        Ok(Listing {
            items: rows.iter().map(job_of).collect::<Result<_>>()?,
            next,
        })
    }

    /// What happened to a job, oldest first. Empty for a job that is not known.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn history(&self, id: JobId) -> Result<Vec<HistoryEntry>> {
        let mut db = self.read().await?;
        let rows =
            sqlx::query("SELECT job.id AS job, h.at, h.state, h.note FROM job JOIN history h ON h.job = job.number WHERE job.id = ? ORDER BY h.number")
                .bind(id.to_string())
                .fetch_all(db.conn())
                .await?;
        rows.iter()
            .map(|row| {
                let reader = Reader::new("history", "job", row)?;
                Ok(HistoryEntry {
                    at: reader.unsigned("at")?,
                    state: reader.state()?,
                    note: reader.column("note")?,
                })
            })
            .collect()
    }

    /// Runs of a job, but for the present one, whose reports may have been sent, oldest first: a reorganisation of the chain may
    /// bring each of them back.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn other_runs(&self, id: JobId) -> Result<Vec<(RunId, RunRecord)>> {
        let mut db = self.read().await?;
        let rows = sqlx::query("SELECT job.id AS job, run.number, run.value FROM job JOIN run ON run.job = job.number WHERE job.id = ? AND run.number <> job.run AND EXISTS (SELECT 1 FROM sent WHERE sent.job = run.job AND sent.run = run.number) ORDER BY run.number")
            .bind(id.to_string())
            .fetch_all(db.conn())
            .await?;
        rows.iter().map(run_of).collect()
    }

    /// Runs, of whatever job, whose report has this number within the subscription and may have been sent, oldest first. Reads
    /// all runs of the subscription: for what is rare.
    ///
    /// # Errors
    /// [`JournalError::OutOfRange`], [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn runs_numbered(
        &self,
        subject: Subject,
        sequence: u64,
    ) -> Result<Vec<(RunId, RunRecord)>> {
        let mut db = self.read().await?;
        let rows = sqlx::query("SELECT job.id AS job, run.number, run.value FROM job JOIN run ON run.job = job.number WHERE job.subject = ? AND run.value ->> '$.input.sequence' = ? AND EXISTS (SELECT 1 FROM sent WHERE sent.job = run.job AND sent.run = run.number) ORDER BY job.number, run.number")
            .bind(subject.to_string())
            .bind(signed("sequence", sequence)?)
            .fetch_all(db.conn())
            .await?;
        rows.iter().map(run_of).collect()
    }

    /// The receipt of a delivered job.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn receipt(&self, id: JobId) -> Result<Option<StoredReceipt>> {
        let mut db = self.read().await?;
        let row = sqlx::query(select_receipts!("WHERE job.id = ?"))
            .bind(id.to_string())
            .fetch_optional(db.conn())
            .await?;
        row.as_ref().map(receipt_of).transpose()
    }

    /// A page of all receipts, in the order of delivery.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn receipts(&self, page: Page) -> Result<Listing<StoredReceipt>> {
        let mut query = QueryBuilder::new(select_receipts!("WHERE receipt.number > "));
        query
            .push_bind(signed("page.after", page.after)?)
            .push(" ORDER BY receipt.number LIMIT ");
        let mut db = self.read().await?;
        let (rows, next) = fetch_page(db.conn(), query, page).await?;
        drop(db);
        Ok(Listing {
            items: rows.iter().map(receipt_of).collect::<Result<_>>()?,
            next,
        })
    }

    /// How many jobs there are in each state; every state is there.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn counts(&self) -> Result<BTreeMap<JobState, u64>> {
        let mut db = self.read().await?;
        let rows = sqlx::query("SELECT state, jobs FROM tally")
            .fetch_all(db.conn())
            .await?;
        let mut counts: BTreeMap<_, _> = JobState::ALL.map(|state| (state, 0)).into();
        for row in &rows {
            let reader = Reader::new("tally", "state", row)?;
            counts.insert(reader.state()?, reader.unsigned("jobs")?);
        }
        Ok(counts)
    }
}

fn job_of(row: &SqliteRow) -> Result<JobRecord> {
    let reader = Reader::new("job", "id", row)?;
    let job: Job = reader.json("value")?;
    reader.same_id(job.id)?;
    let present = RunId {
        job: job.id,
        number: reader.unsigned("present")?,
    };
    Ok(JobRecord {
        number: reader.unsigned("number")?,
        present,
        job,
        state: reader.state()?,
        attempts: reader.unsigned("attempts")?,
        note: reader.column("note")?,
        run: reader.optional_json("run")?,
        submission: reader.optional_json("submission")?,
        block: block_of(&reader)?,
    })
}

fn run_of(row: &SqliteRow) -> Result<(RunId, RunRecord)> {
    let reader = Reader::new("run", "job", row)?;
    let run = RunId {
        job: reader.parsed("job")?,
        number: reader.unsigned("number")?,
    };
    Ok((run, reader.json("value")?))
}

fn block_of(reader: &Reader<'_>) -> Result<Option<Cursor>> {
    if reader.column::<Option<i64>>("block")?.is_none() {
        return Ok(None);
    }
    let number = reader.unsigned("block")?;
    let hash = reader.parsed::<B256>("block_hash")?;
    Ok(Some(Cursor { number, hash }))
}

/// Numbers of one page of the jobs in one state, or in any: few states among many jobs are found by the index, one at a time.
fn select_numbers(
    query: &mut QueryBuilder<Sqlite>,
    filter: &JobFilter,
    state: Option<JobState>,
    page: Page,
) -> Result<()> {
    query
        .push("SELECT number FROM (SELECT number FROM job WHERE number > ")
        .push_bind(signed("page.after", page.after)?);
    if let Some(state) = state {
        query.push(" AND state = ").push_bind(state.as_str());
    }
    if let Some(subject) = filter.subject {
        query.push(" AND subject = ").push_bind(subject.to_string());
    }
    if let Some(cryptlet) = filter.cryptlet {
        query
            .push(" AND cryptlet = ")
            .push_bind(cryptlet.to_string());
    }
    query
        .push(" ORDER BY number LIMIT ")
        .push_bind(rows_of(page))
        .push(")");
    Ok(())
}

/// One row more than wanted, which is how a next page shows.
fn rows_of(page: Page) -> i64 {
    i64::from(page.limit.clamp(1, LARGEST_PAGE)) + 1
}

/// A page of a query that still lacks its limit.
async fn fetch_page(
    conn: &mut Connection,
    mut query: QueryBuilder<Sqlite>,
    page: Page,
) -> Result<(Vec<SqliteRow>, Option<u64>)> {
    let limit = page.limit.clamp(1, LARGEST_PAGE);
    query.push_bind(rows_of(page));
    let mut rows = query.build().fetch_all(conn).await?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    if rows.len() <= wanted {
        return Ok((rows, None));
    }
    rows.truncate(wanted);
    let last = rows.last().ok_or(JournalError::Corrupt {
        table: "sqlite",
        id: "page".into(),
        reason: "an empty page has no next".into(),
    })?;
    let number: i64 = sqlx::Row::try_get(last, "number")?;
    Ok((rows, u64::try_from(number).ok()))
}
