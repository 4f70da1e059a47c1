//! Reading blocks, transactions, receipts and logs.

use std::time::Instant;

use alloy_eips::{BlockId, Encodable2718};
use alloy_primitives::{B256, Bytes, U64};
use alloy_rpc_types_eth::{
    Block as RpcBlock, Filter, FilterChanges, Log, Transaction as RpcTransaction,
};

use super::{
    args::{Args, Quantity},
    convert::{self, Receipt},
    error::RpcError,
};
use crate::{
    backend::Backend,
    chain::Block,
    filters::{Changes, FilterKind},
    logs,
};

/// `eth_blockNumber()`.
pub(crate) fn block_number(backend: &Backend, args: Args<'_>) -> Result<U64, RpcError> {
    args.end()?;
    Ok(U64::from(backend.head().tip().number()))
}

/// Applies `read` to the block that `id` names; there may be none.
fn with_block<T>(
    backend: &Backend,
    id: BlockId,
    read: impl FnOnce(&Block) -> T,
) -> Result<Option<T>, RpcError> {
    let chain = backend.head();
    if id.is_pending() {
        return Ok(Some(read(&backend.pending(&chain)?)));
    }
    Ok(chain.find(id).map(|block| read(block)))
}

/// `eth_getBlockByNumber(block, full)`.
pub(crate) fn block_by_number(
    backend: &Backend,
    mut args: Args<'_>,
) -> Result<Option<RpcBlock>, RpcError> {
    let id = BlockId::Number(args.required("block")?);
    let full = args.optional("full")?.unwrap_or_default();
    args.end()?;
    with_block(backend, id, |block| convert::block(block, full))
}

/// `eth_getBlockByHash(hash, full)`.
pub(crate) fn block_by_hash(
    backend: &Backend,
    mut args: Args<'_>,
) -> Result<Option<RpcBlock>, RpcError> {
    let id = BlockId::from(args.required::<B256>("hash")?);
    let full = args.optional("full")?.unwrap_or_default();
    args.end()?;
    with_block(backend, id, |block| convert::block(block, full))
}

/// `eth_getBlockReceipts(block)`.
pub(crate) fn block_receipts(
    backend: &Backend,
    mut args: Args<'_>,
) -> Result<Option<Vec<Receipt>>, RpcError> {
    let id = args.required("block")?;
    args.end()?;
    with_block(backend, id, convert::receipts)
}

/// `eth_getBlockTransactionCountByNumber(block)`.
pub(crate) fn transaction_count_by_number(
    backend: &Backend,
    mut args: Args<'_>,
) -> Result<Option<U64>, RpcError> {
    let id = BlockId::Number(args.required("block")?);
    args.end()?;
    with_block(backend, id, |block| U64::from(block.transactions.len()))
}

/// `eth_getBlockTransactionCountByHash(hash)`.
pub(crate) fn transaction_count_by_hash(
    backend: &Backend,
    mut args: Args<'_>,
) -> Result<Option<U64>, RpcError> {
    let id = BlockId::from(args.required::<B256>("hash")?);
    args.end()?;
    with_block(backend, id, |block| U64::from(block.transactions.len()))
}

fn transaction_at(
    backend: &Backend,
    id: BlockId,
    Quantity(index): Quantity,
) -> Result<Option<RpcTransaction>, RpcError> {
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    Ok(with_block(backend, id, |block| convert::transactions(block).nth(index))?.flatten())
}

/// `eth_getTransactionByBlockNumberAndIndex(block, index)`.
pub(crate) fn transaction_by_number(
    backend: &Backend,
    mut args: Args<'_>,
) -> Result<Option<RpcTransaction>, RpcError> {
    let id = BlockId::Number(args.required("block")?);
    let index = args.required("index")?;
    args.end()?;
    transaction_at(backend, id, index)
}

/// `eth_getTransactionByBlockHashAndIndex(hash, index)`.
pub(crate) fn transaction_by_block_hash(
    backend: &Backend,
    mut args: Args<'_>,
) -> Result<Option<RpcTransaction>, RpcError> {
    let id = BlockId::from(args.required::<B256>("hash")?);
    let index = args.required("index")?;
    args.end()?;
    transaction_at(backend, id, index)
}

/// `eth_getTransactionByHash(hash)`, mined or waiting.
pub(crate) fn transaction_by_hash(
    backend: &Backend,
    mut args: Args<'_>,
) -> Result<Option<RpcTransaction>, RpcError> {
    let hash = args.required("hash")?;
    args.end()?;
    let waiting = backend.pool().get(hash).map(convert::waiting);
    if let Some((block, index)) = backend.head().transaction(hash) {
        return Ok(convert::transactions(block).nth(index));
    }
    Ok(waiting)
}

/// `eth_getRawTransactionByHash(hash)`, mined or waiting.
pub(crate) fn raw_transaction(
    backend: &Backend,
    mut args: Args<'_>,
) -> Result<Option<Bytes>, RpcError> {
    let hash = args.required("hash")?;
    args.end()?;
    let waiting = backend.pool().get(hash).cloned();
    let chain = backend.head();
    let mined = chain
        .transaction(hash)
        .and_then(|(block, at)| block.transactions.get(at));
    let transaction = mined.or(waiting.as_ref());
    Ok(transaction.map(|transaction| transaction.inner().encoded_2718().into()))
}

/// `eth_getTransactionReceipt(hash)`.
pub(crate) fn receipt(backend: &Backend, mut args: Args<'_>) -> Result<Option<Receipt>, RpcError> {
    let hash = args.required("hash")?;
    args.end()?;
    let chain = backend.head();
    Ok(chain
        .transaction(hash)
        .and_then(|(block, index)| convert::receipt(block, index)))
}

/// `eth_getLogs(filter)`.
pub(crate) fn get_logs(backend: &Backend, mut args: Args<'_>) -> Result<Vec<Log>, RpcError> {
    let filter = args.required::<Filter>("filter")?;
    args.end()?;
    Ok(logs::query(&backend.head(), &filter)?)
}

fn install(backend: &Backend, kind: FilterKind) -> Result<U64, RpcError> {
    let tip = backend.head().tip().number();
    let id = backend.filters.lock().install(kind, tip, Instant::now());
    id.map(U64::from)
        .ok_or_else(|| RpcError::Limit("too many filters".into()))
}

/// `eth_newFilter(filter)`.
pub(crate) fn new_filter(backend: &Backend, mut args: Args<'_>) -> Result<U64, RpcError> {
    let filter = args.required::<Filter>("filter")?;
    args.end()?;
    install(backend, FilterKind::Logs(filter.into()))
}

/// `eth_newBlockFilter()`.
pub(crate) fn new_block_filter(backend: &Backend, args: Args<'_>) -> Result<U64, RpcError> {
    args.end()?;
    install(backend, FilterKind::Blocks)
}

/// `eth_newPendingTransactionFilter()`.
pub(crate) fn new_pending_filter(backend: &Backend, args: Args<'_>) -> Result<U64, RpcError> {
    args.end()?;
    install(backend, FilterKind::Pending)
}

/// `eth_uninstallFilter(id)`.
pub(crate) fn uninstall_filter(backend: &Backend, mut args: Args<'_>) -> Result<bool, RpcError> {
    let Quantity(id) = args.required("id")?;
    args.end()?;
    Ok(backend.filters.lock().uninstall(id))
}

/// `eth_getFilterChanges(id)`.
pub(crate) fn filter_changes(
    backend: &Backend,
    mut args: Args<'_>,
) -> Result<FilterChanges<B256>, RpcError> {
    let Quantity(id) = args.required("id")?;
    args.end()?;
    let mut filters = backend.filters.lock();
    // Taken under the filters' lock, so that a block is neither reported twice nor left out.
    let chain = backend.head();
    let tip = chain.tip().number();
    let changes = filters
        .poll(id, tip, Instant::now())
        .ok_or_else(unknown_filter)?;
    drop(filters);
    Ok(match changes {
        Changes::Pending(hashes) => FilterChanges::Hashes(hashes),
        Changes::Blocks(from) => FilterChanges::Hashes(
            (from..=tip)
                .filter_map(|n| chain.block(n))
                .map(|block| block.hash())
                .collect(),
        ),
        Changes::Logs {
            filter,
            removed,
            from,
        } => {
            let mut found: Vec<_> = removed
                .iter()
                .flat_map(|block| logs::matching(block, &filter, true))
                .collect();
            if from <= tip {
                found.extend(logs::range(&chain, &filter, from, tip)?);
            }
            let (first, last) = filter.extract_block_range();
            found.retain(|log| {
                let number = log.block_number.unwrap_or_default();
                first.is_none_or(|first| first <= number) && last.is_none_or(|last| number <= last)
            });
            FilterChanges::Logs(found)
        }
    })
}

/// `eth_getFilterLogs(id)`.
pub(crate) fn filter_logs(backend: &Backend, mut args: Args<'_>) -> Result<Vec<Log>, RpcError> {
    let Quantity(id) = args.required("id")?;
    args.end()?;
    let filter = backend
        .filters
        .lock()
        .logs(id, Instant::now())
        .ok_or_else(unknown_filter)?;
    Ok(logs::query(&backend.head(), &filter)?)
}

fn unknown_filter() -> RpcError {
    RpcError::Refused("filter not found".into())
}

/// `eth_syncing()`: a node that makes its own blocks has nothing to catch up with.
pub(crate) fn syncing(_: &Backend, args: Args<'_>) -> Result<bool, RpcError> {
    args.end()?;
    Ok(false)
}
