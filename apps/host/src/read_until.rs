//! Up to which block the delegate's chain was read, for those who wait for one: they are woken in the order in which they came.

use cryptlet_journal::Cursor;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The newest block that was read.
#[derive(Default)]
pub(crate) struct ReadUntil {
    cursor: Mutex<Option<Cursor>>,
    moved: Notify,
}

impl ReadUntil {
    /// Everything up to this block was read, and the journal is at it; after a reorganisation that may be an earlier one.
    pub(crate) fn move_to(&self, cursor: Cursor) {
        *self.lock() = Some(cursor);
        self.moved.notify_waiters();
    }

    /// The journal is being taken back to an earlier block.
    pub(crate) fn leave(&self) {
        *self.lock() = None;
    }

    /// Where the journal is; none while it moves.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        *self.lock()
    }

    /// Waits until this block was read.
    pub(crate) async fn until(&self, number: u64) {
        loop {
            let moved = self.moved.notified();
            if self.cursor().is_some_and(|at| at.number >= number) {
                return;
            }
            moved.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Cursor>> {
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
