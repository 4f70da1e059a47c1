//! The register's logs, from a cursor to the head (see [`crate::log_watch`]).

use crate::log_watch::{Advance, Cursor, LogSource, LogWatch, WatchError};
use async_trait::async_trait;
use cryptlet_chain::{ChainError, Head, RegisterChain};
use cryptlet_types::register::RegisterChange;
use std::{ops::RangeInclusive, sync::Arc, time::Duration};

/// Blocks are read together that come within so long: jobs of the newest block are not to wait for what the register says of it,
/// which the delegate looks at itself.
const GATHER: Duration = Duration::from_millis(40);

struct Source(Arc<dyn RegisterChain>);

#[async_trait]
impl LogSource for Source {
    type Change = (u64, RegisterChange);

    async fn head(&self) -> Result<Head, ChainError> {
        self.0.head().await
    }

    async fn header(&self, number: u64) -> Result<Option<Head>, ChainError> {
        self.0.header(number).await
    }

    async fn next_head(&self, after: &Head) -> Result<Head, ChainError> {
        self.0.next_head(after).await
    }

    async fn changes(&self, blocks: RangeInclusive<u64>) -> Result<Vec<Self::Change>, ChainError> {
        self.0.changes(blocks).await
    }

    async fn changes_of(&self, block: &Head) -> Result<Vec<Self::Change>, ChainError> {
        self.0.changes_of(block).await
    }
}

/// Reads changes of the register in order, block after block.
pub struct RegisterWatch {
    watch: LogWatch<Source>,
}

impl RegisterWatch {
    /// Reads from `first_block` (the register's own, or 0), at most `span` blocks at once (at least one).
    #[must_use]
    pub fn new(chain: Arc<dyn RegisterChain>, first_block: u64, span: u64) -> Self {
        Self {
            watch: LogWatch::new(Source(chain), first_block, span).gathering(GATHER),
        }
    }

    /// Waits until there are blocks after `cursor` (from the first block on if there is none yet), no longer than `patience`,
    /// and reads them, however long that takes: each change with its block's number; nothing, if there came no block. May
    /// be dropped at any point: the cursor is the caller's.
    ///
    /// # Errors
    /// The cursor's block was replaced ([`WatchError::Reorged`]: what was read since a block that both forks share
    /// has to be read again), or the chain cannot be read.
    pub async fn next(
        &self,
        cursor: Option<Cursor>,
        patience: Duration,
    ) -> Result<Option<Advance<(u64, RegisterChange)>>, WatchError> {
        self.watch.next_within(cursor, patience).await
    }
}
