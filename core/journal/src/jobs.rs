//! The transitions of a job. Each is one transaction.

use crate::{
    error::{JournalError, Result},
    intake::{event_status, settle_event},
    store::{Journal, Write},
    values::{Reader, signed, write},
};
use cryptlet_types::{Job, JobId, JobState, Receipt, RunRecord, Submission, bounded::clip};

impl Journal {
    /// Takes over a job, as [`JobState::Routed`], and settles its event. Returns whether it was new; a job
    /// that is known stays as it is.
    ///
    /// # Errors
    /// [`JournalError::UnknownEvent`], [`JournalError::EventSettled`] if the event was refused,
    /// [`JournalError::OutOfRange`], [`JournalError::Full`] or [`JournalError::Database`].
    pub async fn record_job(&self, job: &Job) -> Result<bool> {
        let due = signed("event.due", job.event.trigger.due())?;
        let value = write("job", job)?;
        let mut tx = self.write().await?;
        if state_of(&mut tx, job.id).await?.is_some() {
            tx.commit().await?;
            return Ok(false);
        }
        let status = event_status(&mut tx, job.event.id).await?;
        if status != "new" {
            return Err(JournalError::EventSettled {
                event: job.event.id,
                is: status,
            });
        }
        settle_event(&mut tx, job.event.id, "routed", None).await?;
        sqlx::query(
            "INSERT INTO job (id, event, subject, due, state, value) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(job.id.to_string())
        .bind(job.event.id.to_string())
        .bind(job.event.subject.to_string())
        .bind(due)
        .bind(JobState::Routed.as_str())
        .bind(value)
        .execute(tx.conn())
        .await?;
        self.append(&mut tx, job.id, JobState::Routed, None).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// One more run came to nothing for a passing reason: counts it, the job stays routed.
    ///
    /// # Errors
    /// [`JournalError::UnknownJob`], [`JournalError::WrongState`] unless it is routed,
    /// [`JournalError::Full`] or [`JournalError::Database`].
    pub async fn record_attempt(&self, id: JobId, note: &str) -> Result<()> {
        let mut tx = self.write().await?;
        let is = known_state(&mut tx, id).await?;
        if is != JobState::Routed {
            let wanted = JobState::Routed;
            return Err(JournalError::WrongState {
                job: id,
                is,
                wanted,
            });
        }
        let note = clip(note);
        sqlx::query("UPDATE job SET attempts = attempts + 1, note = ? WHERE id = ?")
            .bind(&note)
            .bind(id.to_string())
            .execute(tx.conn())
            .await?;
        self.append(&mut tx, id, JobState::Routed, Some(&note))
            .await?;
        tx.commit().await
    }

    /// Routed -> reported: keeps the signed report and everything behind it.
    ///
    /// # Errors
    /// [`JournalError::UnknownJob`], [`JournalError::WrongState`], [`JournalError::OtherJob`],
    /// [`JournalError::Full`] or [`JournalError::Database`].
    pub async fn record_report(&self, id: JobId, run: &RunRecord) -> Result<()> {
        same_job(id, run.input.job)?;
        let value = write("job", run)?;
        let mut tx = self.write().await?;
        self.advance(&mut tx, id, JobState::Reported, None).await?;
        sqlx::query("UPDATE job SET run = ? WHERE id = ?")
            .bind(value)
            .bind(id.to_string())
            .execute(tx.conn())
            .await?;
        tx.commit().await
    }

    /// Reported or submitted -> submitted: keeps a signed transaction. To be called before it is broadcast.
    /// Earlier ones are kept too ([`Journal::submissions`]): any of them may be the one that is mined.
    ///
    /// # Errors
    /// [`JournalError::UnknownJob`], [`JournalError::WrongState`], [`JournalError::Full`] or
    /// [`JournalError::Database`].
    pub async fn record_submission(&self, id: JobId, submission: &Submission) -> Result<()> {
        let value = write("submission", submission)?;
        let mut tx = self.write().await?;
        let note = format!("transaction {}", submission.hash);
        self.advance(&mut tx, id, JobState::Submitted, Some(&note))
            .await?;
        // The same transaction once more becomes the latest.
        sqlx::query("INSERT OR REPLACE INTO submission (job, round, hash, value) SELECT id, round, ?, ? FROM job WHERE id = ?")
            .bind(submission.hash.to_string())
            .bind(value)
            .bind(id.to_string())
            .execute(tx.conn())
            .await?;
        tx.commit().await
    }

    /// Reported or submitted -> delivered: keeps the receipt. `success` is whether the callback returned.
    ///
    /// # Errors
    /// [`JournalError::UnknownJob`], [`JournalError::WrongState`], [`JournalError::OtherJob`],
    /// [`JournalError::Full`] or [`JournalError::Database`].
    pub async fn record_delivery(&self, id: JobId, receipt: &Receipt, success: bool) -> Result<()> {
        same_job(id, receipt.job)?;
        let value = write("receipt", receipt)?;
        let mut tx = self.write().await?;
        let note = (!success).then_some("callback reverted");
        self.advance(&mut tx, id, JobState::Delivered, note).await?;
        sqlx::query("INSERT INTO receipt (job, success, value) VALUES (?, ?, ?)")
            .bind(id.to_string())
            .bind(success)
            .bind(value)
            .execute(tx.conn())
            .await?;
        tx.commit().await
    }

    /// Routed -> skipped: the cryptlet had nothing to deliver.
    ///
    /// # Errors
    /// [`JournalError::UnknownJob`], [`JournalError::WrongState`], [`JournalError::Full`] or
    /// [`JournalError::Database`].
    pub async fn record_skip(&self, id: JobId, reason: &str) -> Result<()> {
        self.finish(id, JobState::Skipped, reason).await
    }

    /// Any state that is not final -> failed: given up.
    ///
    /// # Errors
    /// [`JournalError::UnknownJob`], [`JournalError::WrongState`], [`JournalError::Full`] or
    /// [`JournalError::Database`].
    pub async fn record_failure(&self, id: JobId, reason: &str) -> Result<()> {
        self.finish(id, JobState::Failed, reason).await
    }

    /// Reported or submitted -> routed: the report can no longer be delivered and another one is wanted.
    /// Forgets report and transactions, keeps the history, and counts as an attempt.
    ///
    /// # Errors
    /// [`JournalError::UnknownJob`], [`JournalError::WrongState`], [`JournalError::Full`] or
    /// [`JournalError::Database`].
    pub async fn reopen(&self, id: JobId, reason: &str) -> Result<()> {
        let mut tx = self.write().await?;
        self.advance(&mut tx, id, JobState::Routed, Some(&clip(reason)))
            .await?;
        sqlx::query(
            "UPDATE job SET run = NULL, round = round + 1, attempts = attempts + 1 WHERE id = ?",
        )
        .bind(id.to_string())
        .execute(tx.conn())
        .await?;
        tx.commit().await
    }

    async fn finish(&self, id: JobId, state: JobState, reason: &str) -> Result<()> {
        let mut tx = self.write().await?;
        self.advance(&mut tx, id, state, Some(&clip(reason)))
            .await?;
        tx.commit().await
    }

    /// Compares the state, sets it, and appends to the history.
    async fn advance(
        &self,
        tx: &mut Write<'_>,
        id: JobId,
        wanted: JobState,
        note: Option<&str>,
    ) -> Result<()> {
        let is = known_state(tx, id).await?;
        if !is.may_become(wanted) {
            return Err(JournalError::WrongState {
                job: id,
                is,
                wanted,
            });
        }
        sqlx::query("UPDATE job SET state = ?, note = ? WHERE id = ?")
            .bind(wanted.as_str())
            .bind(note)
            .bind(id.to_string())
            .execute(tx.conn())
            .await?;
        self.append(tx, id, wanted, note).await
    }

    async fn append(
        &self,
        tx: &mut Write<'_>,
        id: JobId,
        state: JobState,
        note: Option<&str>,
    ) -> Result<()> {
        sqlx::query("INSERT INTO history (job, at, state, note) VALUES (?, ?, ?, ?)")
            .bind(id.to_string())
            .bind(signed("history.at", self.now())?)
            .bind(state.as_str())
            .bind(note)
            .execute(tx.conn())
            .await?;
        Ok(())
    }
}

fn same_job(job: JobId, found: JobId) -> Result<()> {
    if job == found {
        Ok(())
    } else {
        Err(JournalError::OtherJob { job, found })
    }
}

async fn state_of(tx: &mut Write<'_>, id: JobId) -> Result<Option<JobState>> {
    let row = sqlx::query("SELECT id, state FROM job WHERE id = ?")
        .bind(id.to_string())
        .fetch_optional(tx.conn())
        .await?;
    row.map(|row| Reader::new("job", "id", &row)?.state())
        .transpose()
}

async fn known_state(tx: &mut Write<'_>, id: JobId) -> Result<JobState> {
    state_of(tx, id).await?.ok_or(JournalError::UnknownJob(id))
}
