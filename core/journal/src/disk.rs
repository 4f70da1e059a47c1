//! The disk below a journal in a simulation: it may be full, and the host may die while it writes.

use crate::error::{JournalError, Result};
use std::sync::Arc;

/// A moment in the life of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Something is read. It cannot fail, but the host may die.
    Read,
    /// It begins.
    Begin,
    /// It is about to happen.
    Commit,
    /// It has happened, and the host does not know yet. It cannot fail, but the host may die.
    Committed,
}

/// What comes of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It passes.
    Passes,
    /// There is no room.
    Full,
    /// The host dies: the call never returns.
    Dies,
}

/// A disk that a simulation holds in its hand.
pub trait Disk: Send + Sync {
    /// What comes of this moment.
    fn fate(&self, moment: Moment) -> Fate;
}

/// The disk of a journal, if somebody holds it.
#[derive(Clone, Default)]
pub(crate) struct Held(Option<Arc<dyn Disk>>);

impl Held {
    pub(crate) fn by(disk: Arc<dyn Disk>) -> Self {
        Self(Some(disk))
    }

    /// Lets the moment pass, or not.
    pub(crate) async fn pass(&self, moment: Moment) -> Result<()> {
        let fate = self
            .0
            .as_ref()
            .map_or(Fate::Passes, |disk| disk.fate(moment));
        match fate {
            Fate::Passes => Ok(()),
            Fate::Full => Err(JournalError::Full(sqlx::Error::Io(
                std::io::ErrorKind::StorageFull.into(),
            ))),
            Fate::Dies => std::future::pending().await,
        }
    }
}
