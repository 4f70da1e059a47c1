//! Proofs that transactions are in their block, made together: a block is fetched, and its tries are built, once for all
//! deliveries that it holds.

use alloy_primitives::B256;
use cryptlet_chain::{Chain, ChainError};
use cryptlet_types::receipt::Inclusion;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::sleep;

/// Deliveries of one block come to their end at about the same moment: so long they are waited for.
const GATHER: Duration = Duration::from_millis(5);
/// Blocks whose proofs are remembered.
const MAX_BLOCKS: usize = 16;

/// What is asked of one block, and what was proven.
#[derive(Default)]
struct Block {
    wanted: Mutex<BTreeSet<B256>>,
    proven: tokio::sync::Mutex<BTreeMap<B256, Inclusion>>,
}

impl Block {
    fn wanted(&self) -> MutexGuard<'_, BTreeSet<B256>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Proofs by block.
pub(crate) struct Proofs {
    chain: Arc<dyn Chain>,
    blocks: Mutex<Vec<(B256, Arc<Block>)>>,
}

impl Proofs {
    pub(crate) fn new(chain: Arc<dyn Chain>) -> Self {
        Self {
            chain,
            blocks: Mutex::default(),
        }
    }

    /// The proof that `block` holds `transaction`; none if it does not.
    pub(crate) async fn of(
        &self,
        block: B256,
        transaction: B256,
    ) -> Result<Option<Inclusion>, ChainError> {
        let place = self.place(block);
        place.wanted().insert(transaction);
        let mut proven = place.proven.lock().await;
        if let Some(found) = proven.remove(&transaction) {
            return Ok(Some(found));
        }
        sleep(GATHER).await;
        // Its own too, if somebody has asked for it in vain.
        place.wanted().insert(transaction);
        let wanted: Vec<_> = std::mem::take(&mut *place.wanted()).into_iter().collect();
        proven.extend(self.chain.inclusions(block, &wanted).await?);
        Ok(proven.remove(&transaction))
    }

    fn place(&self, block: B256) -> Arc<Block> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, place)) = blocks.iter().find(|(known, _)| *known == block) {
            return place.clone();
        }
        if blocks.len() >= MAX_BLOCKS {
            blocks.remove(0);
        }
        let place = Arc::new(Block::default());
        blocks.push((block, place.clone()));
        place
    }
}
