//! What new blocks hold, told to all deliveries that wait: one question a block, however many wait.

use alloy_primitives::B256;
use cryptlet_chain::{Chain, Head, TransactionOutcome};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{Mutex, broadcast};

/// Blocks that a slow delivery may be behind before it has to look for itself.
const BACKLOG: usize = 256;

/// The transactions of one block, by hash.
pub(crate) type Block = Arc<HashMap<B256, TransactionOutcome>>;

pub(crate) struct Mined {
    chain: Arc<dyn Chain>,
    blocks: broadcast::Sender<Block>,
    last: Mutex<Option<B256>>,
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

    /// Looks at a block, if anybody waits for one.
    pub(crate) async fn look(&self, head: &Head) {
        self.told.store(true, Ordering::Relaxed);
        let mut last = self.last.lock().await;
        if self.blocks.receiver_count() == 0 || *last == Some(head.hash) {
            return;
        }
        match self.chain.block_outcomes(head.hash).await {
            Ok(outcomes) => {
                let outcomes = outcomes.unwrap_or_default().into_iter();
                let block = outcomes
                    .map(|outcome| (outcome.transaction, outcome))
                    .collect();
                *last = Some(head.hash);
                let _nobody_waits_any_more = self.blocks.send(Arc::new(block));
            }
            // Whoever waits looks for itself then.
            Err(error) => {
                tracing::debug!(block = head.number, %error, "block could not be looked at")
            }
        }
    }
}
