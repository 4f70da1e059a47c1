//! The delegate's logs about subscriptions, from a cursor to the head (see [`crate::log_watch`]).

use crate::log_watch::{Advance, Cursor, LogSource, LogWatch, WatchError};
use async_trait::async_trait;
use cryptlet_chain::{Chain, ChainError, Head, SubscriptionChange};
use std::{ops::RangeInclusive, sync::Arc};

struct Source(Arc<dyn Chain>);

#[async_trait]
impl LogSource for Source {
    type Change = SubscriptionChange;

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
        self.0.subscription_changes(blocks).await
    }

    async fn changes_of(&self, block: &Head) -> Result<Vec<Self::Change>, ChainError> {
        self.0.subscription_changes_of(block).await
    }
}

/// Reads changes of subscriptions in order, block after block.
pub struct SubscriptionWatch {
    watch: LogWatch<Source>,
}

impl SubscriptionWatch {
    /// Reads from `first_block` (the delegate's own, or 0), at most `span` blocks at once (at least one).
    #[must_use]
    pub fn new(chain: Arc<dyn Chain>, first_block: u64, span: u64) -> Self {
        Self {
            watch: LogWatch::new(Source(chain), first_block, span),
        }
    }

    /// Waits until there are blocks after `cursor` (from the first block on if there is none yet) and reads them.
    /// May be dropped at any point: the cursor is the caller's.
    ///
    /// # Errors
    /// The cursor's block was replaced, or the chain cannot be read.
    pub async fn next(
        &self,
        cursor: Option<Cursor>,
    ) -> Result<Advance<SubscriptionChange>, WatchError> {
        self.watch.next(cursor).await
    }
}
