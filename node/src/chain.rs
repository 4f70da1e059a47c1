//! The chain: blocks, their receipts and the state after each, as persistent collections.
//!
//! A [`Chain`] is a consistent picture of one moment. Cloning it costs a few reference counts, so
//! readers take a clone and work without a lock, and a snapshot is a clone that is kept.

use std::sync::Arc;

use alloy_consensus::{
    BlockBody, Header, ReceiptEnvelope, Sealed, TxEnvelope, TxReceipt, transaction::Recovered,
};
use alloy_eips::{BlockId, BlockNumberOrTag, eip4895::Withdrawals};
use alloy_primitives::{Address, B256};
use alloy_rlp::Encodable;

use crate::state::{Account, State};

/// A signed transaction whose sender is known.
pub(crate) type Transaction = Recovered<TxEnvelope>;

/// A mined block, with everything that its execution produced.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) header: Sealed<Header>,
    pub(crate) transactions: Vec<Arc<Transaction>>,
    pub(crate) receipts: Vec<ReceiptEnvelope>,
    /// The state after the block.
    pub(crate) state: State,
    /// Length of the block's RLP, in bytes.
    pub(crate) size: usize,
}

impl Block {
    pub(crate) fn new(
        header: Header,
        transactions: Vec<Arc<Transaction>>,
        receipts: Vec<ReceiptEnvelope>,
        state: State,
    ) -> Self {
        let body = BlockBody {
            transactions: transactions.iter().map(|tx| tx.inner()).collect(),
            ommers: Vec::<Header>::new(),
            withdrawals: Some(Withdrawals::default()),
        };
        let block = alloy_consensus::Block { header, body };
        let size = block.length();
        Self {
            header: Sealed::new(block.header),
            transactions,
            receipts,
            state,
            size,
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.header.number
    }

    pub(crate) fn hash(&self) -> B256 {
        self.header.hash()
    }

    /// The base fee, in wei; every block of this chain has one.
    pub(crate) fn base_fee(&self) -> u64 {
        self.header.base_fee_per_gas.unwrap_or_default()
    }

    /// Gas that the transaction at `index` used alone.
    pub(crate) fn gas_used(&self, index: usize) -> u64 {
        let cumulative = |index: usize| {
            self.receipts
                .get(index)
                .map_or(0, TxReceipt::cumulative_gas_used)
        };
        let before = index.checked_sub(1).map_or(0, cumulative);
        cumulative(index).saturating_sub(before)
    }

    /// The same block over a state that a development method has altered.
    fn with_state(&self, state: State) -> Self {
        Self {
            header: self.header.clone(),
            transactions: self.transactions.clone(),
            receipts: self.receipts.clone(),
            state,
            size: self.size,
        }
    }
}

/// Where a mined transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) block: u64,
    pub(crate) index: usize,
}

/// The canonical chain from genesis to the tip.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    id: u64,
    tip: Arc<Block>,
    blocks: imbl::Vector<Arc<Block>>,
    by_hash: imbl::HashMap<B256, u64>,
    by_transaction: imbl::HashMap<B256, Position>,
}

impl Chain {
    pub(crate) fn new(id: u64, genesis: Block) -> Self {
        let tip = Arc::new(genesis);
        Self {
            id,
            by_hash: imbl::HashMap::unit(tip.hash(), tip.number()),
            blocks: imbl::Vector::unit(Arc::clone(&tip)),
            by_transaction: imbl::HashMap::new(),
            tip,
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn tip(&self) -> &Arc<Block> {
        &self.tip
    }

    pub(crate) fn block(&self, number: u64) -> Option<&Arc<Block>> {
        self.blocks.get(usize::try_from(number).ok()?)
    }

    pub(crate) fn block_by_hash(&self, hash: B256) -> Option<&Arc<Block>> {
        self.block(*self.by_hash.get(&hash)?)
    }

    /// The mined block that `id` names. `pending` names none; `safe` and `finalized` are the tip,
    /// because a chain with one producer has no competing blocks.
    pub(crate) fn find(&self, id: BlockId) -> Option<&Arc<Block>> {
        match id {
            BlockId::Hash(hash) => self.block_by_hash(hash.block_hash),
            BlockId::Number(BlockNumberOrTag::Number(number)) => self.block(number),
            BlockId::Number(BlockNumberOrTag::Earliest) => self.block(0),
            BlockId::Number(BlockNumberOrTag::Pending) => None,
            BlockId::Number(
                BlockNumberOrTag::Latest | BlockNumberOrTag::Safe | BlockNumberOrTag::Finalized,
            ) => Some(&self.tip),
        }
    }

    /// The block that holds the transaction, and its index there.
    pub(crate) fn transaction(&self, hash: B256) -> Option<(&Arc<Block>, usize)> {
        let position = self.by_transaction.get(&hash)?;
        Some((self.block(position.block)?, position.index))
    }

    pub(crate) fn push(&mut self, block: Block) -> Arc<Block> {
        let block = Arc::new(block);
        let number = block.number();
        for (index, transaction) in block.transactions.iter().enumerate() {
            let position = Position {
                block: number,
                index,
            };
            self.by_transaction.insert(*transaction.tx_hash(), position);
        }
        self.by_hash.insert(block.hash(), number);
        self.blocks.push_back(Arc::clone(&block));
        self.tip = Arc::clone(&block);
        block
    }

    /// The blocks above `number`, the lowest first.
    pub(crate) fn blocks_above(&self, number: u64) -> Vec<Arc<Block>> {
        let skip = usize::try_from(number)
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        self.blocks.iter().skip(skip).cloned().collect()
    }

    /// Changes an account in the state of the tip, outside any transaction.
    pub(crate) fn update_tip(&mut self, address: Address, change: impl FnOnce(&mut Account)) {
        let mut state = self.tip.state.clone();
        state.update(address, change);
        self.tip = Arc::new(self.tip.with_state(state));
        self.blocks.pop_back();
        self.blocks.push_back(Arc::clone(&self.tip));
    }
}
