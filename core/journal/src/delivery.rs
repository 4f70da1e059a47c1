//! Transactions that deliver reports, and what the chain made of them.

use crate::{
    Cursor,
    chain::check,
    error::{JournalError, Result},
    jobs::{Move, Step, advance, same_job},
    store::{Journal, Write},
    values::{Insert, Reader, Values, write},
};
use alloy_primitives::{Bytes, keccak256};
use cryptlet_types::{JobId, JobState, Receipt, RunId, Submission, receipt::Inclusion};
use sqlx::{Row, sqlite::SqliteRow};
use std::collections::BTreeMap;

/// A delivery that the chain has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The job, and which of its runs made the report.
    pub run: RunId,
    /// Its receipt.
    pub receipt: Receipt,
    /// Whether the callback returned (or reverted).
    pub success: bool,
    /// The block that holds it.
    pub block: Cursor,
}

/// A receipt in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReceipt {
    /// The receipt.
    pub receipt: Receipt,
    /// Whether the callback returned (or reverted).
    pub success: bool,
}

impl Journal {
    /// Reported or submitted -> submitted: keeps a signed transaction that delivers the reports of all of these runs. To be called
    /// before it is broadcast. Earlier ones are kept too ([`Journal::submissions`]): any of them may be the one that is
    /// mined. All or none: a transaction cannot do without one of its reports.
    ///
    /// # Errors
    /// [`JournalError::UnknownJob`], [`JournalError::WrongState`], [`JournalError::OtherRun`], [`JournalError::Full`] or
    /// [`JournalError::Database`].
    pub async fn record_submission(&self, runs: &[RunId], submission: &Submission) -> Result<()> {
        let value = write("submission", submission)?;
        let mut tx = self.write().await?;
        let row = sqlx::query("INSERT INTO submission (hash, value) VALUES (?, ?) ON CONFLICT (hash) DO UPDATE SET value = excluded.value RETURNING number")
            .bind(submission.hash.to_string())
            .bind(value)
            .fetch_one(tx.conn())
            .await?;
        let number: i64 = row.try_get("number")?;
        let from = [JobState::Reported, JobState::Submitted];
        let step = Step::new(from, JobState::Submitted);
        let note = format!("transaction {}", submission.hash);
        let moves: Vec<_> = runs.iter().map(|run| Move::of(*run).note(&note)).collect();
        let moved = advance(&mut tx, &step, &moves).await?;
        let moved: Vec<i64> = moved.into_iter().collect::<Result<_>>()?;
        // The same transaction once more becomes the latest.
        sqlx::query("INSERT OR REPLACE INTO sent (job, run, submission) SELECT job.number, job.run, ? FROM json_each(?) AS m JOIN job ON job.number = m.value ORDER BY m.key")
            .bind(number)
            .bind(write("sent", &moved)?)
            .execute(tx.conn())
            .await?;
        tx.commit().await
    }

    /// -> delivered: keeps the receipts, in one transaction. A job may have been parked, withdrawn or put back to be run anew while
    /// its transaction was on its way; the run that was delivered is the one that counts then. One that is in another state (delivered already, for example) is left out, and its
    /// place holds [`JournalError::WrongState`]. A delivery may be ahead of what was read of the chain
    /// ([`crate::Applied::undelivered`]).
    ///
    /// # Errors
    /// [`JournalError::Fork`] if another block was read under that number,
    /// [`JournalError::UnknownJob`], [`JournalError::OtherJob`], [`JournalError::OutOfRange`],
    /// [`JournalError::Full`] or [`JournalError::Database`].
    pub async fn record_deliveries(&self, deliveries: &[Delivered]) -> Result<Vec<Result<()>>> {
        let moves: Result<Vec<_>> = deliveries.iter().map(Delivered::moves).collect();
        use JobState::{Parked, Reported, Routed, Submitted, Withdrawn};
        let from = [Routed, Reported, Submitted, Parked, Withdrawn];
        let step = Step::new(from, JobState::Delivered);
        let mut tx = self.write_behind().await?;
        let mut seen = None;
        for block in deliveries.iter().map(|delivered| delivered.block) {
            if seen.replace(block) != Some(block) {
                check(&mut tx, block).await?;
            }
        }
        let moved = advance(&mut tx, &step, &moves?).await?;
        let mut told = Vec::new();
        let mut receipts = Vec::new();
        let mut last = None;
        for (delivered, moved) in deliveries.iter().zip(moved) {
            told.push(match moved {
                Ok(job) => {
                    let inclusion = &delivered.receipt.inclusion;
                    let inclusion = share(&mut tx, inclusion, &mut last).await?;
                    let value = write("receipt", &without_inclusion(&delivered.receipt))?;
                    receipts.push((job, delivered.success, inclusion, value));
                    Ok(())
                }
                Err(stale) => Err(stale),
            });
        }
        let insert = Insert {
            head: "INSERT INTO receipt (job, success, inclusion, value) ",
            tail: "",
        };
        let bind = |mut row: Values<'_>, (job, success, inclusion, value)| {
            row.push_bind::<i64>(job)
                .push_bind::<bool>(success)
                .push_bind::<i64>(inclusion)
                .push_bind::<String>(value);
        };
        insert.rows(&mut tx, receipts, bind).await?;
        tx.commit().await?;
        Ok(told)
    }

    /// Every transaction of the run's report, oldest first: any of them may have been mined.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn submissions(&self, run: RunId) -> Result<Vec<Submission>> {
        let mut db = self.read().await?;
        let rows = sqlx::query("SELECT s.hash, s.value FROM job JOIN sent ON sent.job = job.number JOIN submission s ON s.number = sent.submission WHERE job.id = ? AND sent.run = ? ORDER BY sent.number")
            .bind(run.job.to_string())
            .bind(run.number)
            .fetch_all(db.conn())
            .await?;
        rows.iter().map(submission_of).collect()
    }

    /// Transactions of jobs that are submitted, oldest first, each with its jobs in the order in which they were
    /// recorded for it: what to look for on the chain after a start.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] or [`JournalError::Database`].
    pub async fn pending_submissions(&self) -> Result<Vec<(Submission, Vec<JobId>)>> {
        let mut db = self.read().await?;
        let rows = sqlx::query("SELECT s.number, s.hash, s.value, job.id AS job FROM job JOIN sent ON sent.job = job.number AND sent.run = job.run JOIN submission s ON s.number = sent.submission WHERE job.state = 'submitted' ORDER BY sent.number")
            .fetch_all(db.conn())
            .await?;
        let mut pending = BTreeMap::new();
        for row in &rows {
            let reader = Reader::new("submission", "hash", row)?;
            let number: i64 = reader.column("number")?;
            let (_, jobs) = match pending.entry(number) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert((submission_of(row)?, Vec::new()))
                }
            };
            jobs.push(reader.parsed("job")?);
        }
        Ok(pending.into_values().collect())
    }
}

pub(crate) fn submission_of(row: &SqliteRow) -> Result<Submission> {
    let reader = Reader::new("submission", "hash", row)?;
    let submission: Submission = reader.json("value")?;
    reader.same_id(submission.hash)?;
    Ok(submission)
}

impl Delivered {
    fn moves(&self) -> Result<Move> {
        same_job(self.run.job, self.receipt.job)?;
        let moved = Move::of(self.run).in_block(self.block)?;
        Ok(match self.success {
            true => moved,
            false => moved.note("callback reverted"),
        })
    }
}

/// The number of an inclusion. `last` is the one before it and its number: deliveries of one transaction share it.
async fn share<'d>(
    tx: &mut Write<'_>,
    inclusion: &'d Inclusion,
    last: &mut Option<(&'d Inclusion, i64)>,
) -> Result<i64> {
    let number = match *last {
        Some((before, number)) if before == inclusion => number,
        _ => record_inclusion(tx, inclusion).await?,
    };
    *last = Some((inclusion, number));
    Ok(number)
}

fn without_inclusion(receipt: &Receipt) -> Receipt {
    Receipt {
        inclusion: Inclusion {
            header: Bytes::new(),
            transaction_index: 0,
            transaction: Bytes::new(),
            transaction_proof: vec![],
            receipt: Bytes::new(),
            receipt_proof: vec![],
        },
        ..receipt.clone()
    }
}

async fn record_inclusion(tx: &mut Write<'_>, inclusion: &Inclusion) -> Result<i64> {
    let value = write("inclusion", inclusion)?;
    let row = sqlx::query("INSERT INTO inclusion (digest, value) VALUES (?, ?) ON CONFLICT (digest) DO UPDATE SET digest = excluded.digest RETURNING number")
        .bind(keccak256(&value).to_string())
        .bind(value)
        .fetch_one(tx.conn())
        .await?;
    Ok(row.try_get("number")?)
}

/// The columns of a receipt that [`receipt_of`] reads, and where they come from.
macro_rules! select_receipts {
    ($rest:literal) => {
        concat!(
            "SELECT receipt.number, job.id AS job, receipt.success, receipt.value, ",
            "inclusion.value AS inclusion FROM receipt JOIN job ON job.number = receipt.job ",
            "JOIN inclusion ON inclusion.number = receipt.inclusion ",
            $rest
        )
    };
}
pub(crate) use select_receipts;

pub(crate) fn receipt_of(row: &SqliteRow) -> Result<StoredReceipt> {
    let reader = Reader::new("receipt", "job", row)?;
    let kept: Receipt = reader.json("value")?;
    reader.same_id(kept.job)?;
    let inclusion = reader.json("inclusion")?;
    Ok(StoredReceipt {
        receipt: Receipt { inclusion, ..kept },
        success: reader.column("success")?,
    })
}

/// Forgets the receipt of a delivery that was taken back, and its inclusion with the last receipt that shares it.
pub(crate) async fn forget_receipt(tx: &mut Write<'_>, job: i64) -> Result<()> {
    let row = sqlx::query("DELETE FROM receipt WHERE job = ? RETURNING inclusion")
        .bind(job)
        .fetch_optional(tx.conn())
        .await?
        .ok_or_else(|| JournalError::Corrupt {
            table: "receipt",
            id: job.to_string(),
            reason: "a delivered job without a receipt".into(),
        })?;
    sqlx::query("DELETE FROM inclusion WHERE number = ?1 AND NOT EXISTS (SELECT 1 FROM receipt WHERE inclusion = ?1)")
        .bind(row.try_get::<i64, _>("inclusion")?)
        .execute(tx.conn())
        .await?;
    Ok(())
}
