//! Logs that subscriptions wait for on any chain, from a cursor to the newest block that is sure enough (see
//! [`crate::log_watch`]).

use crate::log_watch::{Advance, Cursor, LogSource, LogWatch, WatchError};
use async_trait::async_trait;
use cryptlet_chain::{ChainError, Head, LogChain, LogFilter, RawLog};
use cryptlet_types::subscription::Finality;
use std::{
    ops::RangeInclusive,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::time::sleep;

/// Pause between two looks for a block that is safe or final, which nodes do not push.
const PAUSE: Duration = Duration::from_secs(1);

/// What is looked for. It may change while the watch waits for a block; the block is read by what it is then.
#[derive(Clone, Debug, Default)]
pub struct SharedFilter(Arc<RwLock<LogFilter>>);

impl SharedFilter {
    /// Looks for something else from now on.
    pub fn set(&self, filter: LogFilter) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = filter;
    }

    /// What is looked for.
    #[must_use]
    pub fn get(&self) -> LogFilter {
        let filter = self.0.read();
        filter.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Source {
    chain: Arc<dyn LogChain>,
    finality: Finality,
    filter: SharedFilter,
}

impl Source {
    /// A filter without a contract would ask for all logs of the chain.
    fn asked(&self) -> Option<LogFilter> {
        Some(self.filter.get()).filter(|filter| !filter.emitters.is_empty())
    }
}

#[async_trait]
impl LogSource for Source {
    type Change = RawLog;

    async fn head(&self) -> Result<Head, ChainError> {
        loop {
            match self.chain.head(self.finality).await? {
                Some(head) => return Ok(head),
                None => sleep(PAUSE).await,
            }
        }
    }

    async fn header(&self, number: u64) -> Result<Option<Head>, ChainError> {
        self.chain.header(number).await
    }

    async fn next_head(&self, after: &Head) -> Result<Head, ChainError> {
        if self.finality == Finality::Latest {
            return self.chain.next_head(after).await;
        }
        loop {
            let head = self.head().await?;
            if head.hash != after.hash {
                return Ok(head);
            }
            sleep(PAUSE).await;
        }
    }

    async fn changes(&self, blocks: RangeInclusive<u64>) -> Result<Vec<RawLog>, ChainError> {
        match self.asked() {
            Some(filter) => self.chain.logs(&filter, blocks).await,
            None => Ok(vec![]),
        }
    }

    async fn changes_of(&self, block: &Head) -> Result<Vec<RawLog>, ChainError> {
        match self.asked() {
            Some(filter) => self.chain.logs_of_block(block, &filter).await,
            None => Ok(vec![]),
        }
    }
}

/// Reads logs of one chain in order, block after block.
pub struct ChainWatch {
    watch: LogWatch<Source>,
    chain: Arc<dyn LogChain>,
    finality: Finality,
}

impl ChainWatch {
    /// Reads logs that `filter` selects, at most `span` blocks at once (at least one).
    #[must_use]
    pub fn new(
        chain: Arc<dyn LogChain>,
        finality: Finality,
        filter: SharedFilter,
        span: u64,
    ) -> Self {
        let source = Source {
            chain: chain.clone(),
            finality,
            filter,
        };
        Self {
            watch: LogWatch::new(source, 0, span),
            chain,
            finality,
        }
    }

    /// The newest block that is sure enough: where a watch begins that has no cursor yet.
    ///
    /// # Errors
    /// The chain cannot be read.
    pub async fn start(&self) -> Result<Option<Cursor>, ChainError> {
        let head = self.chain.head(self.finality).await?;
        Ok(head.map(|head| Cursor {
            number: head.number,
            hash: head.hash,
        }))
    }

    /// Waits until there are blocks after `cursor` and reads them. May be dropped at any point: the cursor is the caller's.
    ///
    /// # Errors
    /// The cursor's block was replaced, or the chain cannot be read.
    pub async fn next(&self, cursor: Cursor) -> Result<Advance<RawLog>, WatchError> {
        self.watch.next(Some(cursor)).await
    }
}
