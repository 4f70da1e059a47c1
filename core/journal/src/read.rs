//! What the journal tells: jobs, receipts, histories, counts.

use crate::{
    error::{JournalError, Result},
    store::Journal,
    values::{Reader, signed},
};
use cryptlet_types::{Job, JobId, JobState, Receipt, RunRecord, Subject, Submission, UnixSeconds};
use sqlx::{
    Sqlite, SqliteExecutor,
    sqlite::{SqliteArguments, SqliteRow},
};
use std::collections::BTreeMap;

/// A job with all that it has gathered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRecord {
    /// The job.
    pub job: Job,
    /// Where it stands.
    pub state: JobState,
    /// Runs that came to nothing so far.
    pub attempts: u32,
    /// What the last transition had to say.
    pub note: Option<String>,
    /// The signed report and what is behind it.
    pub run: Option<RunRecord>,
    /// The latest transaction; [`Journal::submissions`] has the earlier ones.
    pub submission: Option<Submission>,
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

/// A receipt in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReceipt {
    /// The receipt.
    pub receipt: Receipt,
    /// Whether the callback returned (or reverted).
    pub success: bool,
}

/// Which jobs to list; nothing said lets all through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only those of this subscription.
    pub subject: Option<Subject>,
    /// Only those in this state.
    pub state: Option<JobState>,
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
macro_rules! select_jobs {
    ($rest:literal) => {
        concat!(
            "SELECT job.number, job.id, job.state, job.attempts, job.note, job.value, job.run, ",
            "(SELECT s.value FROM submission s WHERE s.job = job.id AND s.round = job.round ",
            "ORDER BY s.number DESC LIMIT 1) AS submission FROM job ",
            $rest
        )
    };
}

impl Journal {
    /// A job, if it is known.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn job(&self, id: JobId) -> Result<Option<JobRecord>> {
        let mut db = self.read().await?;
        let row = sqlx::query(select_jobs!("WHERE job.id = ?"))
            .bind(id.to_string())
            .fetch_optional(db.conn())
            .await?;
        row.as_ref().map(job_of).transpose()
    }

    /// Subscriptions that have jobs which are not in a final state.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn unfinished_subjects(&self) -> Result<Vec<Subject>> {
        let mut db = self.read().await?;
        let rows = sqlx::query(
            "SELECT DISTINCT subject FROM job WHERE state IN ('routed', 'reported', 'submitted') ORDER BY subject",
        )
        .fetch_all(db.conn())
        .await?;
        rows.iter()
            .map(|row| Reader::new("job", "subject", row)?.parsed("subject"))
            .collect()
    }

    /// The oldest unfinished job of a subscription: what its worker does next.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn next_job(&self, subject: Subject) -> Result<Option<JobRecord>> {
        let mut db = self.read().await?;
        let row = sqlx::query(select_jobs!(
            "WHERE job.subject = ? AND job.state IN ('routed', 'reported', 'submitted') ORDER BY job.due LIMIT 1"
        ))
        .bind(subject.to_string())
        .fetch_optional(db.conn())
        .await?;
        row.as_ref().map(job_of).transpose()
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
    pub async fn jobs(&self, filter: JobFilter, page: Page) -> Result<Listing<JobRecord>> {
        let mut db = self.read().await?;
        let sql = select_jobs!(
            "WHERE job.number > ?1 AND (?3 IS NULL OR job.subject = ?3) AND (?4 IS NULL OR job.state = ?4) ORDER BY job.number LIMIT ?2"
        );
        let query = page_query(sql, page)?
            .bind(filter.subject.map(|subject| subject.to_string()))
            .bind(filter.state.map(JobState::as_str));
        let (rows, next) = fetch_page(db.conn(), query, page).await?;
        Ok(Listing {
            items: rows.iter().map(job_of).collect::<Result<_>>()?,
            next,
        })
    }

    /// Every transaction of the job's present report, oldest first: any of them may have been mined.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn submissions(&self, id: JobId) -> Result<Vec<Submission>> {
        let mut db = self.read().await?;
        let rows = sqlx::query("SELECT s.hash, s.value FROM submission s JOIN job ON job.id = s.job AND job.round = s.round WHERE job.id = ? ORDER BY s.number")
            .bind(id.to_string())
            .fetch_all(db.conn())
            .await?;
        rows.iter()
            .map(|row| {
                let reader = Reader::new("submission", "hash", row)?;
                let submission: Submission = reader.json("value")?;
                reader.same_id(submission.hash)?;
                Ok(submission)
            })
            .collect()
    }

    /// What happened to a job, oldest first. Empty for a job that is not known.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn history(&self, id: JobId) -> Result<Vec<HistoryEntry>> {
        let mut db = self.read().await?;
        let rows =
            sqlx::query("SELECT job, at, state, note FROM history WHERE job = ? ORDER BY number")
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

    /// The receipt of a delivered job.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn receipt(&self, id: JobId) -> Result<Option<StoredReceipt>> {
        let mut db = self.read().await?;
        let row = sqlx::query("SELECT job, success, value FROM receipt WHERE job = ?")
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
        let mut db = self.read().await?;
        let sql = "SELECT number, job, success, value FROM receipt WHERE number > ?1 ORDER BY number LIMIT ?2";
        let (rows, next) = fetch_page(db.conn(), page_query(sql, page)?, page).await?;
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
        let rows = sqlx::query("SELECT state, count(*) AS jobs FROM job GROUP BY state")
            .fetch_all(db.conn())
            .await?;
        let mut counts: BTreeMap<_, _> = JobState::ALL.map(|state| (state, 0)).into();
        for row in &rows {
            let reader = Reader::new("job", "state", row)?;
            counts.insert(reader.state()?, reader.unsigned("jobs")?);
        }
        Ok(counts)
    }
}

fn job_of(row: &SqliteRow) -> Result<JobRecord> {
    let reader = Reader::new("job", "id", row)?;
    let job: Job = reader.json("value")?;
    reader.same_id(job.id)?;
    Ok(JobRecord {
        job,
        state: reader.state()?,
        attempts: reader.unsigned("attempts")?,
        note: reader.column("note")?,
        run: reader.optional_json("run")?,
        submission: reader.optional_json("submission")?,
    })
}

fn receipt_of(row: &SqliteRow) -> Result<StoredReceipt> {
    let reader = Reader::new("receipt", "job", row)?;
    let receipt: Receipt = reader.json("value")?;
    reader.same_id(receipt.job)?;
    Ok(StoredReceipt {
        receipt,
        success: reader.column("success")?,
    })
}

type Query = sqlx::query::Query<'static, Sqlite, SqliteArguments>;

/// A query whose first argument is the place before the page, and whose second the rows to ask for: one more than wanted,
/// which is how a next page shows.
fn page_query(sql: &'static str, page: Page) -> Result<Query> {
    let limit = page.limit.clamp(1, LARGEST_PAGE);
    let after = signed("page.after", page.after)?;
    Ok(sqlx::query(sql).bind(after).bind(i64::from(limit) + 1))
}

async fn fetch_page(
    conn: impl SqliteExecutor<'_>,
    query: Query,
    page: Page,
) -> Result<(Vec<SqliteRow>, Option<u64>)> {
    let limit = page.limit.clamp(1, LARGEST_PAGE);
    let mut rows = query.fetch_all(conn).await?;
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
