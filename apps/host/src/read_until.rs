//! Up to which block the delegate's chain was read, for those who wait for one: they are woken in the order in which they came.

use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// The number of the newest block that was read.
#[derive(Default)]
pub(crate) struct ReadUntil {
    number: AtomicU64,
    moved: Notify,
}

impl ReadUntil {
    /// Everything up to this block was read; after a reorganisation that may be an earlier one.
    pub(crate) fn move_to(&self, number: u64) {
        self.number.store(number, Ordering::SeqCst);
        self.moved.notify_waiters();
    }

    /// Waits until this block was read.
    pub(crate) async fn until(&self, number: u64) {
        loop {
            let moved = self.moved.notified();
            if self.number.load(Ordering::SeqCst) >= number {
                return;
            }
            moved.await;
        }
    }
}
