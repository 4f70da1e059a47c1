//! The durable log of a host: what it has seen, what it owes, what it has done.
//!
//! Every stage of the path writes here before it hands on, so that a host that is killed at any moment
//! takes up where it was: nothing acknowledged is lost, nothing is done twice. One SQLite file (WAL, one
//! `fdatasync` a transition), one connection, one host.
//!
//! A job moves as [`JobState::may_become`](cryptlet_types::JobState::may_become) allows and no other way:
//!
//! ```text
//! record_job      ->  routed      record_attempt: one more run came to nothing, stays routed
//! record_report   routed -> reported
//! record_submission         reported -> submitted -> submitted (a replacement with higher fees)
//! record_delivery           reported | submitted -> delivered
//! record_skip     routed -> skipped
//! record_failure  routed | reported | submitted -> failed
//! reopen          reported | submitted -> routed
//! ```
//!
//! Each of these is one transaction that compares the state, sets it and appends to the job's history; a
//! caller whose view is stale gets [`JournalError::WrongState`] and nothing changes. Values are kept as
//! JSON text of their types and read back strictly.
//!
//! Every method may be cancelled: a transaction that was not acknowledged is undone, or done whole, never half.

mod at_once;
mod disk;
mod error;
mod intake;
mod jobs;
mod lock;
mod read;
mod schema;
mod store;
mod values;

pub use at_once::{Connection, at_once};
pub use disk::{Disk, Fate, Moment};
pub use error::{JournalError, Result};
pub use intake::{ActiveSubscription, Cursor, SubscriptionChange};
pub use read::{HistoryEntry, JobFilter, JobRecord, Listing, Page, StoredReceipt};
pub use store::{Clock, Journal, wall_clock};
