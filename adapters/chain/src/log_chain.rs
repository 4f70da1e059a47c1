//! Any chain whose contracts log events, with no contract of ours on it.

use crate::{ChainError, Head};
use alloy_primitives::{Address, B256, Bytes};
use async_trait::async_trait;
use cryptlet_types::{
    UnixSeconds,
    event::{LogEntry, MAX_TRIGGER_BYTES},
    subscription::Finality,
};
use std::ops::RangeInclusive;

/// A blockchain with contracts that log, as one node serves it, or several.
///
/// Every method asks once and gives up after a bounded time, [`LogChain::next_head`] excepted; retries are the
/// caller's (see [`ChainError::is_retryable`]). All futures may be dropped at any point.
#[async_trait]
pub trait LogChain: Send + Sync {
    /// EIP-155 id.
    fn chain_id(&self) -> u64;

    /// The newest block that is as sure as that; `None` while there is none.
    async fn head(&self, finality: Finality) -> Result<Option<Head>, ChainError>;

    /// The canonical block of that number, if there is one yet.
    async fn header(&self, number: u64) -> Result<Option<Head>, ChainError>;

    /// Waits until the newest block is another one than `after`, for as long as that takes. Of a block that is safe or
    /// final nothing is pushed: [`LogChain::head`] is to be asked then.
    async fn next_head(&self, after: &Head) -> Result<Head, ChainError>;

    /// The logs in these blocks that `filter` selects, in order.
    async fn logs(
        &self,
        filter: &LogFilter,
        blocks: RangeInclusive<u64>,
    ) -> Result<Vec<RawLog>, ChainError>;

    /// As [`LogChain::logs`], of this very block: of no other one of its number, whatever the chain has there now. Asks
    /// nothing where the block's header says that there is nothing.
    async fn logs_of_block(
        &self,
        block: &Head,
        filter: &LogFilter,
    ) -> Result<Vec<RawLog>, ChainError>;
}

/// Which logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Contracts that log; none: any.
    pub emitters: Vec<Address>,
    /// By place, the topics of which a log has one there; none: any.
    pub topics: [Vec<B256>; 4],
}

/// A log, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawLog {
    /// Number of its block.
    pub block: u64,
    /// Hash of its block.
    pub block_hash: B256,
    /// Timestamp of its block.
    pub at: UnixSeconds,
    /// Hash of the transaction.
    pub transaction: B256,
    /// Place of the log within the block.
    pub index: u64,
    /// How many equal logs (emitter, topics, data) of the same transaction stand before it.
    pub ordinal: u32,
    /// The contract that logged.
    pub emitter: Address,
    /// At most four.
    pub topics: Vec<B256>,
    /// What it says.
    pub data: LogPayload,
}

/// A log's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPayload {
    /// All of it.
    Whole(Bytes),
    /// More than a cryptlet is woken with.
    Oversize {
        /// How many bytes.
        size: usize,
    },
}

impl LogPayload {
    /// The data, or how large it is where that is more than [`MAX_TRIGGER_BYTES`].
    #[must_use]
    pub fn of(data: Bytes) -> Self {
        match data.len() {
            size if size > MAX_TRIGGER_BYTES => Self::Oversize { size },
            _ => Self::Whole(data),
        }
    }
}

impl RawLog {
    /// As the occurrence of a trigger on chain `chain_id`; none if its data is too large for one.
    #[must_use]
    pub fn entry(&self, chain_id: u64) -> Option<LogEntry> {
        let LogPayload::Whole(data) = &self.data else {
            return None;
        };
        Some(LogEntry {
            chain_id,
            block: self.block,
            block_hash: self.block_hash,
            at: self.at,
            transaction: self.transaction,
            index: self.index,
            ordinal: self.ordinal,
            emitter: self.emitter,
            topics: self.topics.clone(),
            data: data.clone(),
        })
    }
}
