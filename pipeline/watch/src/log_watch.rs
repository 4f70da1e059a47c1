//! A contract's logs, from a cursor to the head.
//!
//! The cursor is a block's number and hash. Before anything is read on from it, the block must still be canonical;
//! where it is not, the chain has been reorganised below the cursor and [`WatchError::Reorged`] says so, every
//! time, until the host has dealt with it. The end of what was read is checked too: its hash is the same before
//! and after the logs were read, so that logs of two forks never mix.
//!
//! A head whose parent is the cursor's block needs none of these questions: its hashes say the same, and its logs are asked
//! for by its hash.

use alloy_primitives::B256;
use async_trait::async_trait;
use cryptlet_chain::{ChainError, Head};
use std::{ops::RangeInclusive, time::Duration};
use tokio::time::{Instant, sleep, timeout_at};

/// A block up to which everything has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
}

impl Cursor {
    fn is_parent_of(&self, head: &Head) -> bool {
        head.parent == self.hash && head.number == self.number.saturating_add(1)
    }

    /// The block, as far as it takes part in a comparison.
    fn head(&self) -> Head {
        Head {
            number: self.number,
            hash: self.hash,
            parent: B256::ZERO,
            timestamp: 0,
        }
    }
}

/// What lies between two cursors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advance<C> {
    /// The changes, in the order in which the chain made them.
    pub changes: Vec<C>,
    /// Everything up to this block has been read.
    pub cursor: Cursor,
    /// The newest block, as seen before the logs were read.
    pub head: Head,
}

impl<C> Advance<C> {
    /// Whether the cursor has reached the head.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.cursor.number >= self.head.number
    }
}

/// Why nothing could be read on from a cursor.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The cursor's block is not part of the chain any more. What was read up to it may not have happened.
    #[error("block {number} was {expected} and is now {found:?}: the chain was reorganised")]
    Reorged {
        /// The cursor's number.
        number: u64,
        /// The cursor's hash.
        expected: B256,
        /// What the chain has there now; `None` if it is shorter now.
        found: Option<B256>,
    },
    /// The chain could not be read.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

impl WatchError {
    /// Whether the same cursor may work later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Reorged { .. } => false,
            Self::Chain(error) => error.is_retryable(),
        }
    }
}

/// A contract on a chain, as far as its logs go.
#[async_trait]
pub(crate) trait LogSource: Send + Sync {
    /// What a log says.
    type Change: Send;

    async fn head(&self) -> Result<Head, ChainError>;
    async fn header(&self, number: u64) -> Result<Option<Head>, ChainError>;
    async fn next_head(&self, after: &Head) -> Result<Head, ChainError>;
    async fn changes(&self, blocks: RangeInclusive<u64>) -> Result<Vec<Self::Change>, ChainError>;
    /// Those of this very block.
    async fn changes_of(&self, block: &Head) -> Result<Vec<Self::Change>, ChainError>;
}

/// Reads a contract's logs in order, block after block.
pub(crate) struct LogWatch<S> {
    source: S,
    first_block: u64,
    span: u64,
    settle: Duration,
}

impl<S: LogSource> LogWatch<S> {
    /// Reads from `first_block`, at most `span` blocks at once (at least one).
    pub(crate) fn new(source: S, first_block: u64, span: u64) -> Self {
        Self {
            source,
            first_block,
            span: span.max(1),
            settle: Duration::ZERO,
        }
    }

    /// Lets blocks gather for so long after a new one, so that those of a burst are read together, and after whoever is in a
    /// hurry.
    pub(crate) fn gathering(self, settle: Duration) -> Self {
        Self { settle, ..self }
    }

    /// Waits until there are blocks after `cursor` (from the first block on if there is none yet) and reads them.
    pub(crate) async fn next(
        &self,
        cursor: Option<Cursor>,
    ) -> Result<Advance<S::Change>, WatchError> {
        let mut head = match cursor {
            // Which may be known without a question, where it is pushed.
            Some(cursor) => self.source.next_head(&cursor.head()).await?,
            None => self.source.head().await?,
        };
        loop {
            if let Some(advance) = self.advance(cursor, head).await? {
                return Ok(advance);
            }
            head = self.source.next_head(&head).await?;
        }
    }

    /// As [`LogWatch::next`], but waits for a block no longer than `patience`; nothing, if none came. Reading is not part of
    /// that time: it takes as long as it takes, or it would be begun again for ever where it takes longer.
    pub(crate) async fn next_within(
        &self,
        cursor: Option<Cursor>,
        patience: Duration,
    ) -> Result<Option<Advance<S::Change>>, WatchError> {
        let mut head = self.source.head().await?;
        let until = Instant::now() + patience;
        loop {
            if let Some(advance) = self.advance(cursor, head).await? {
                return Ok(Some(advance));
            }
            match timeout_at(until, self.source.next_head(&head)).await {
                Ok(next) if self.settle.is_zero() => head = next?,
                Ok(next) => {
                    next?;
                    sleep(self.settle).await;
                    head = self.source.head().await?;
                }
                Err(_no_new_block) => return Ok(None),
            }
        }
    }

    /// What lies between `cursor`, whose block must still be canonical, and `head`; nothing, if there is none.
    async fn advance(
        &self,
        cursor: Option<Cursor>,
        head: Head,
    ) -> Result<Option<Advance<S::Change>>, WatchError> {
        if let Some(cursor) = cursor {
            if cursor.is_parent_of(&head) {
                return self.read_head(head).await.map(Some);
            }
            self.check(cursor).await?;
        }
        self.read(cursor, head).await
    }

    async fn read_head(&self, head: Head) -> Result<Advance<S::Change>, WatchError> {
        let cursor = Cursor {
            number: head.number,
            hash: head.hash,
        };
        Ok(Advance {
            changes: self.source.changes_of(&head).await?,
            cursor,
            head,
        })
    }

    async fn check(&self, cursor: Cursor) -> Result<(), WatchError> {
        let found = self.source.header(cursor.number).await?;
        let found = found.map(|head| head.hash);
        if found == Some(cursor.hash) {
            return Ok(());
        }
        Err(WatchError::Reorged {
            number: cursor.number,
            expected: cursor.hash,
            found,
        })
    }

    async fn read(
        &self,
        cursor: Option<Cursor>,
        head: Head,
    ) -> Result<Option<Advance<S::Change>>, WatchError> {
        let from = cursor.map_or(self.first_block, |cursor| cursor.number.saturating_add(1));
        let to = from.saturating_add(self.span - 1).min(head.number);
        if from > to {
            return Ok(None);
        }
        let before = self.hash(to).await?;
        if let Some(cursor) = cursor {
            self.check(cursor).await?;
        }
        let changes = self.source.changes(from..=to).await?;
        if self.hash(to).await? != before {
            return Err(ChainError::Reorged { number: to }.into());
        }
        let cursor = Cursor {
            number: to,
            hash: before,
        };
        Ok(Some(Advance {
            changes,
            cursor,
            head,
        }))
    }

    async fn hash(&self, number: u64) -> Result<B256, ChainError> {
        let head = self.source.header(number).await?;
        Ok(head.ok_or(ChainError::Reorged { number })?.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chain of three blocks whose logs take a while, and which makes no further block.
    struct Slow;

    fn head(number: u64) -> Head {
        Head {
            number,
            hash: B256::with_last_byte(1),
            parent: B256::ZERO,
            timestamp: number,
        }
    }

    #[async_trait]
    impl LogSource for Slow {
        type Change = u64;

        async fn head(&self) -> Result<Head, ChainError> {
            Ok(head(3))
        }

        async fn header(&self, number: u64) -> Result<Option<Head>, ChainError> {
            Ok(Some(head(number)))
        }

        async fn next_head(&self, _: &Head) -> Result<Head, ChainError> {
            std::future::pending().await
        }

        async fn changes(&self, blocks: RangeInclusive<u64>) -> Result<Vec<u64>, ChainError> {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            Ok(blocks.collect())
        }

        async fn changes_of(&self, block: &Head) -> Result<Vec<u64>, ChainError> {
            Ok(vec![block.number])
        }
    }

    #[tokio::test]
    async fn patience_is_for_the_next_block_and_not_for_what_is_read() {
        let watch = LogWatch::new(Slow, 1, 1_000);
        let read = watch.next_within(None, Duration::ZERO).await.unwrap();
        let read = read.unwrap();
        assert_eq!(read.changes, [1, 2, 3]);
        let none = watch.next_within(Some(read.cursor), Duration::ZERO).await;
        assert_eq!(none.unwrap(), None, "no block came");
    }

    /// A chain that is asked for nothing but the logs of its head.
    struct Pushed;

    #[async_trait]
    impl LogSource for Pushed {
        type Change = u64;

        async fn head(&self) -> Result<Head, ChainError> {
            panic!("head")
        }

        async fn header(&self, number: u64) -> Result<Option<Head>, ChainError> {
            panic!("header {number}")
        }

        async fn next_head(&self, after: &Head) -> Result<Head, ChainError> {
            Ok(Head {
                number: after.number + 1,
                hash: B256::with_last_byte(2),
                parent: B256::with_last_byte(1),
                timestamp: 0,
            })
        }

        async fn changes(&self, blocks: RangeInclusive<u64>) -> Result<Vec<u64>, ChainError> {
            panic!("changes of {blocks:?}")
        }

        async fn changes_of(&self, block: &Head) -> Result<Vec<u64>, ChainError> {
            Ok(vec![block.number])
        }
    }

    #[tokio::test]
    async fn a_head_upon_the_cursor_costs_one_question() {
        let watch = LogWatch::new(Pushed, 1, 1_000);
        let cursor = Cursor {
            number: 7,
            hash: B256::with_last_byte(1),
        };
        let read = watch.next(Some(cursor)).await.unwrap();
        assert_eq!(
            (read.changes.as_slice(), read.is_caught_up()),
            (&[8][..], true)
        );
        let expected = Cursor {
            number: 8,
            hash: B256::with_last_byte(2),
        };
        assert_eq!(read.cursor, expected);
    }

    #[tokio::test]
    #[should_panic(expected = "header 7")]
    async fn a_head_upon_another_block_is_not_taken_on_its_own_word() {
        let watch = LogWatch::new(Pushed, 1, 1_000);
        let cursor = Cursor {
            number: 7,
            hash: B256::with_last_byte(3),
        };
        let _never = watch.next(Some(cursor)).await;
    }
}
