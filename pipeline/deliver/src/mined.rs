//! What new blocks hold, told to all deliveries that wait: one question a block, however many wait.

use alloy_primitives::B256;
use cryptlet_chain::{Chain, ChainError, Head, TransactionOutcome};
use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{Mutex, broadcast};

/// Blocks that a slow delivery may be behind before it has to look for itself.
const BACKLOG: usize = 256;

/// Most blocks that are looked at behind the newest one, where the node told of that one only.
const MAX_GAP: u64 = 16;

/// The transactions of one block, by hash; none where blocks could not be looked at: whoever waits looks for itself.
pub(crate) type Block = Option<Arc<HashMap<B256, TransactionOutcome>>>;

pub(crate) struct Mined {
    chain: Arc<dyn Chain>,
    blocks: broadcast::Sender<Block>,
    last: Mutex<Option<Head>>,
    told: AtomicBool,
}

impl Mined {
    pub(crate) fn new(chain: Arc<dyn Chain>) -> Self {
        let (blocks, _) = broadcast::channel(BACKLOG);
        Self {
            chain,
            blocks,
            last: Mutex::default(),
            told: AtomicBool::new(false),
        }
    }

    /// Blocks that are looked at from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Block> {
        self.blocks.subscribe()
    }

    /// Whether it is told of blocks.
    pub(crate) fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }

    /// Looks at a block, and at those between the last one and this, if anybody waits for one.
    pub(crate) async fn look(&self, head: &Head) {
        self.told.store(true, Ordering::Relaxed);
        let mut last = self.last.lock().await;
        let before = last.replace(*head);
        if self.blocks.receiver_count() == 0 || before == Some(*head) {
            return;
        }
        match between(before, head) {
            Some(skipped) => {
                for number in skipped {
                    self.tell(self.skipped(number).await);
                }
            }
            None => self.tell(Ok(None)),
        }
        self.tell(self.of(head.hash).await);
    }

    fn tell(&self, block: Result<Block, ChainError>) {
        let block = block.unwrap_or_else(|error| {
            tracing::debug!(%error, "a block could not be looked at");
            None
        });
        let _nobody_waits_any_more = self.blocks.send(block);
    }

    async fn skipped(&self, number: u64) -> Result<Block, ChainError> {
        match self.chain.header(number).await? {
            Some(head) => self.of(head.hash).await,
            None => Ok(None),
        }
    }

    async fn of(&self, hash: B256) -> Result<Block, ChainError> {
        let outcomes = self.chain.block_outcomes(hash).await?;
        Ok(outcomes.map(|outcomes| {
            let outcomes = outcomes.into_iter();
            let block = outcomes.map(|outcome| (outcome.transaction, outcome));
            Arc::new(block.collect())
        }))
    }
}

/// The numbers of the blocks between two that a node told of; none if they do not follow one another, or too many lie between.
fn between(before: Option<Head>, head: &Head) -> Option<Range<u64>> {
    let Some(before) = before else {
        return Some(head.number..head.number);
    };
    let first = before.number.checked_add(1)?;
    let gap = head.number.checked_sub(first)?;
    let follows = gap > 0 || head.parent == before.hash;
    (follows && gap <= MAX_GAP).then_some(first..head.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(number: u64, fork: u8) -> Head {
        let hash = |number: u64| B256::with_last_byte(u8::try_from(number).unwrap() ^ fork);
        Head {
            number,
            hash: hash(number),
            parent: hash(number - 1),
            timestamp: number,
        }
    }

    #[test]
    fn blocks_that_were_skipped_are_looked_at_and_a_reorganisation_is_no_gap() {
        let from = Some(head(5, 0));
        assert_eq!(between(None, &head(5, 0)), Some(5..5));
        assert_eq!(between(from, &head(6, 0)), Some(6..6));
        assert_eq!(between(from, &head(9, 0)), Some(6..9));
        assert_eq!(between(from, &head(6, 128)), None, "another branch");
        assert_eq!(between(from, &head(5, 128)), None);
        assert_eq!(between(from, &head(3, 0)), None);
        assert_eq!(between(from, &head(6 + MAX_GAP + 1, 0)), None);
    }
}
