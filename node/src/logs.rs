//! Finding logs.

use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_rpc_types_eth::{Filter, FilterBlockOption, Log};

use crate::chain::{Block, Chain};

/// Most blocks that one query may span.
pub(crate) const MAX_BLOCKS: u64 = 100_000;
/// Most logs that one query may return.
pub(crate) const MAX_LOGS: usize = 50_000;

/// Why a query was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LogsError {
    #[error("unknown block")]
    UnknownBlock,
    #[error("invalid block range params")]
    InvalidRange,
    #[error("query exceeds the limit of {MAX_BLOCKS} blocks")]
    TooManyBlocks,
    #[error("query returned more than {MAX_LOGS} results")]
    TooManyLogs,
}

/// All logs of the block, with their place in it.
pub(crate) fn all(block: &Block, removed: bool) -> impl Iterator<Item = Log> {
    let receipts = block.transactions.iter().zip(&block.receipts).zip(0u64..);
    let logs = receipts.flat_map(|((transaction, receipt), index)| {
        receipt
            .logs()
            .iter()
            .map(move |log| (*transaction.tx_hash(), index, log))
    });
    logs.zip(0u64..)
        .map(move |((hash, transaction_index, log), log_index)| Log {
            inner: log.clone(),
            block_hash: Some(block.hash()),
            block_number: Some(block.number()),
            block_timestamp: Some(block.header.timestamp),
            transaction_hash: Some(hash),
            transaction_index: Some(transaction_index),
            log_index: Some(log_index),
            removed,
        })
}

/// The logs of the block that have the addresses and topics of `filter`.
pub(crate) fn matching(block: &Block, filter: &Filter, removed: bool) -> Vec<Log> {
    if !filter.matches_bloom(block.header.logs_bloom) {
        return Vec::new();
    }
    all(block, removed)
        .filter(|log| filter.matches(&log.inner))
        .collect()
}

/// The logs that `filter` selects from the chain, in their order there.
pub(crate) fn query(chain: &Chain, filter: &Filter) -> Result<Vec<Log>, LogsError> {
    match filter.block_option {
        FilterBlockOption::AtBlockHash(hash) => {
            let block = chain.block_by_hash(hash).ok_or(LogsError::UnknownBlock)?;
            Ok(matching(block, filter, false))
        }
        FilterBlockOption::Range {
            from_block,
            to_block,
        } => {
            let from = number(chain, from_block)?;
            let to = number(chain, to_block)?;
            if from > to {
                return Err(LogsError::InvalidRange);
            }
            range(chain, filter, from, to)
        }
    }
}

/// The logs of the blocks `from..=to`, as far as the chain has them.
pub(crate) fn range(
    chain: &Chain,
    filter: &Filter,
    from: u64,
    to: u64,
) -> Result<Vec<Log>, LogsError> {
    let to = to.min(chain.tip().number());
    if to.saturating_sub(from) >= MAX_BLOCKS {
        return Err(LogsError::TooManyBlocks);
    }
    let mut logs = Vec::new();
    for block in (from..=to).filter_map(|number| chain.block(number)) {
        logs.extend(matching(block, filter, false));
        if logs.len() > MAX_LOGS {
            return Err(LogsError::TooManyLogs);
        }
    }
    Ok(logs)
}

/// The height that a tag stands for; a height above the tip stays as it is.
fn number(chain: &Chain, tag: Option<BlockNumberOrTag>) -> Result<u64, LogsError> {
    let tip = chain.tip().number();
    match tag.unwrap_or_default() {
        BlockNumberOrTag::Number(number) => Ok(number),
        BlockNumberOrTag::Pending => Ok(tip),
        tag => chain
            .find(BlockId::Number(tag))
            .map(|b| b.number())
            .ok_or(LogsError::UnknownBlock),
    }
}
