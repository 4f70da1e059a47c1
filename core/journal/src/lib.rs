//! The durable log of a host: what it has seen, what it owes, what it has done.
//!
//! Every stage of the path writes here before it hands on, so that a host that is killed at any moment
//! takes up where it was: nothing acknowledged is lost, nothing is done twice. One SQLite file (WAL), one connection, one host.
//! The disk is flushed before anything leaves the host: a transaction's bytes, the answer to a message, a frozen answer, a
//! hand's command. What was read from a chain or due by the clock, runs, and deliveries that the chain has, are flushed with the
//! next of those; until then a loss of power takes them back together with the cursor under which they are found again.
//!
//! A job moves as [`JobState::may_become`](cryptlet_types::JobState::may_become) allows and no other way:
//!
//! ```text
//! apply, record_events, settle_events   -> routed, with its event
//! record_runs         routed -> reported | skipped | routed (one more run came to nothing)
//!                     routed | reported | submitted -> failed | parked
//! record_submission   reported | submitted -> submitted
//! record_deliveries   routed | reported | submitted | parked | withdrawn -> delivered
//! reopen              reported | submitted -> routed
//! unpark              parked -> routed
//! rewind              routed | reported | submitted | parked -> withdrawn
//!                     delivered -> submitted | reported
//!                     failed -> routed | withdrawn, if its subscription had ended and has not
//! apply               withdrawn -> routed, when the event occurs again
//! ```
//!
//! Each of these hands over a whole batch in one transaction: a block with its events and their jobs, the outcomes of
//! many runs, the deliveries of one block. States are compared, set and appended to the jobs' histories there. A caller
//! whose view of a job is stale is told so ([`JournalError::WrongState`]): in place of that job, which is left out, where
//! jobs are independent of each other; else for all, and nothing changes.
//!
//! Every method may be cancelled: a transaction that was not acknowledged is undone, or done whole, never half.

mod at_once;
mod chain;
mod delivery;
mod disk;
mod error;
mod events;
mod jobs;
mod lock;
mod read;
mod said;
mod schema;
mod store;
mod subscriptions;
mod values;

pub use at_once::{Connection, at_once};
pub use chain::{Applied, Cursor, DELEGATE, Rewound, TRAIL};
pub use delivery::{Delivered, StoredReceipt};
pub use disk::{Disk, Fate, Moment};
pub use error::{JournalError, Result};
pub use events::{How, Occurred, Routed, Taken};
pub use jobs::{Ran, RunOutcome};
pub use read::{HistoryEntry, JobFilter, JobRecord, Listing, Page, Unfinished};
pub use said::{FrozenAnswer, MessageOutcome};
pub use store::{Clock, Journal, wall_clock};
pub use subscriptions::{ActiveSubscription, SubscriptionChange};
