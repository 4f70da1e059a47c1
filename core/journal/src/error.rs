//! Why the journal said no.

use crate::Cursor;
use cryptlet_types::{EventId, JobId, JobState, RunId, Subject};
use std::{io, path::PathBuf};

/// Result of a journal operation.
pub type Result<T> = std::result::Result<T, JournalError>;

/// Why the journal said no. Whatever it was, the transaction as a whole did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Another process, or another part of this one, has the journal open.
    #[error("journal {0} is in use by another host; only one may write to it")]
    InUse(PathBuf),
    /// The file was written by another version of this program.
    #[error("journal has schema {found}, this program reads schema {known}: {}", next_step(*.found, *.known))]
    OtherSchema {
        /// Version in the file.
        found: i64,
        /// The version that this program reads and writes.
        known: i64,
    },
    /// The file is some other program's database.
    #[error("{0} is an SQLite file, but not a journal")]
    NotAJournal(PathBuf),
    /// The journal's lock file could not be opened.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no room for another write. What was acknowledged is safe.
    #[error("no room left for the journal: {0}")]
    Full(sqlx::Error),
    /// SQLite said no.
    #[error("journal database: {0}")]
    Database(sqlx::Error),
    /// A row does not hold what it must. The file was altered or damaged.
    #[error("journal is corrupt: table {table}, row {id}: {reason}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// Key of the row.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value has no JSON form.
    #[error("{table}: value cannot be written: {reason}")]
    Unwritable {
        /// The table that it was for.
        table: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A number is larger than the journal can order by (2^63 - 1).
    #[error("{field}: {value} is larger than the journal can hold")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// No such subscription was ever recorded.
    #[error("subscription {0} is not in the journal")]
    UnknownSubscription(Subject),
    /// No such event was ever recorded.
    #[error("event {0} is not in the journal")]
    UnknownEvent(EventId),
    /// The event was routed or refused before.
    #[error("event {event} is {is} already")]
    EventSettled {
        /// The event.
        event: EventId,
        /// `routed` or `refused`.
        is: String,
    },
    /// No such job was ever recorded.
    #[error("job {0} is not in the journal")]
    UnknownJob(JobId),
    /// The job is not where the caller believed.
    #[error("job {job} is {}, it cannot become {}", is.as_str(), wanted.as_str())]
    WrongState {
        /// The job.
        job: JobId,
        /// Where it stands.
        is: JobState,
        /// Where the caller wanted it.
        wanted: JobState,
    },
    /// The job was begun anew meanwhile, or the run was never taken over.
    #[error("job {} is at run {is}, not at run {}", given.job, given.number)]
    OtherRun {
        /// The run that was meant.
        given: RunId,
        /// The number of the job's present run.
        is: u32,
    },
    /// The job's subscription is served: it cannot fail for want of it.
    #[error("the subscription of job {0} is served")]
    Served(JobId),
    /// The blocks read so far do not lead to this one: another block has its place, or it lies behind.
    #[error("{name} was read up to block {} ({}), {} ({}) does not follow: rewind first", known.number, known.hash, given.number, given.hash)]
    Fork {
        /// The cursor.
        name: String,
        /// Where it stands.
        known: Cursor,
        /// Where it was to go.
        given: Cursor,
    },
    /// A reorganisation goes back further than the journal can follow.
    #[error(
        "{name} cannot be rewound to block {to}: nothing before block {oldest} is known any more"
    )]
    TooDeep {
        /// The cursor.
        name: String,
        /// The block to go back to.
        to: u64,
        /// The oldest block that is known.
        oldest: u64,
    },
    /// The value names another event than the one that it was recorded for.
    #[error("value of event {found} recorded for event {event}")]
    OtherEvent {
        /// The event that was meant.
        event: EventId,
        /// The event that the value names.
        found: EventId,
    },
    /// The value names another job than the one that it was recorded for.
    #[error("value of job {found} recorded for job {job}")]
    OtherJob {
        /// The job that was meant.
        job: JobId,
        /// The job that the value names.
        found: JobId,
    },
}

impl JournalError {
    /// Whether the same call, tried again, may succeed: once there is room again, or the other writer is gone.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::InUse(_) | Self::Full(_) => true,
            Self::Database(error) => matches!(primary_code(error), Some(BUSY | LOCKED)),
            _ => false,
        }
    }
}

fn next_step(found: i64, known: i64) -> &'static str {
    if found > known {
        "use a newer program"
    } else {
        "move the file away and start with an empty one; before the first release older files are not converted"
    }
}

/// SQLite's primary result codes (<https://www.sqlite.org/rescode.html>).
const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const FULL: u32 = 13;
/// Extended code: a write failed, by a quota or a file size limit for example.
const IOERR_WRITE: u32 = 778;

fn extended_code(error: &sqlx::Error) -> Option<u32> {
    error.as_database_error()?.code()?.parse().ok()
}

fn primary_code(error: &sqlx::Error) -> Option<u32> {
    extended_code(error).map(|code| code & 0xff)
}

impl From<sqlx::Error> for JournalError {
    fn from(error: sqlx::Error) -> Self {
        match extended_code(&error) {
            Some(FULL | IOERR_WRITE) => Self::Full(error),
            _ => Self::Database(error),
        }
    }
}
