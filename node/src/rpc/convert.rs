//! Blocks, transactions and receipts in the form that JSON-RPC gives them.

use std::sync::Arc;

use alloy_consensus::{ReceiptEnvelope, Transaction as _};
use alloy_eips::eip4895::Withdrawals;
use alloy_primitives::{B256, U64, U256};
use alloy_rpc_types_eth::{
    Block as RpcBlock, BlockTransactions, Header as RpcHeader, Log as RpcLog,
    Transaction as RpcTransaction, TransactionReceipt,
};
use serde::Serialize;

use crate::chain::{Block, Transaction};

/// A receipt with its block's timestamp, which newer clients ask for.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Receipt {
    #[serde(flatten)]
    inner: TransactionReceipt,
    block_timestamp: U64,
}

/// The header of the block.
pub(crate) fn header(block: &Block) -> RpcHeader {
    RpcHeader::from_consensus(block.header.clone(), None, Some(U256::from(block.size)))
}

/// The block, with whole transactions or their hashes.
pub(crate) fn block(block: &Block, full: bool) -> RpcBlock {
    let transactions = if full {
        BlockTransactions::Full(transactions(block).collect())
    } else {
        BlockTransactions::Hashes(hashes(block))
    };
    RpcBlock {
        header: header(block),
        uncles: Vec::new(),
        transactions,
        withdrawals: Some(Withdrawals::default()),
    }
}

fn hashes(block: &Block) -> Vec<B256> {
    block
        .transactions
        .iter()
        .map(|transaction| *transaction.tx_hash())
        .collect()
}

/// The block's transactions in order.
pub(crate) fn transactions(block: &Block) -> impl Iterator<Item = RpcTransaction> {
    block
        .transactions
        .iter()
        .zip(0u64..)
        .map(|(transaction, index)| RpcTransaction {
            inner: Transaction::clone(transaction),
            block_hash: Some(block.hash()),
            block_number: Some(block.number()),
            transaction_index: Some(index),
            effective_gas_price: Some(
                transaction.effective_gas_price(block.header.base_fee_per_gas),
            ),
            block_timestamp: Some(block.header.timestamp),
        })
}

/// A transaction of the pool.
pub(crate) fn waiting(transaction: &Arc<Transaction>) -> RpcTransaction {
    RpcTransaction {
        inner: Transaction::clone(transaction),
        block_hash: None,
        block_number: None,
        transaction_index: None,
        effective_gas_price: None,
        block_timestamp: None,
    }
}

/// The receipts of the block in order.
pub(crate) fn receipts(block: &Block) -> Vec<Receipt> {
    (0..block.transactions.len())
        .filter_map(|index| receipt(block, index))
        .collect()
}

/// The receipt of the transaction at `index` of the block.
pub(crate) fn receipt(block: &Block, index: usize) -> Option<Receipt> {
    let transaction = block.transactions.get(index)?;
    let creates = transaction.to().is_none();
    let inner = TransactionReceipt {
        inner: envelope(block, index)?,
        transaction_hash: *transaction.tx_hash(),
        transaction_index: u64::try_from(index).ok(),
        block_hash: Some(block.hash()),
        block_number: Some(block.number()),
        gas_used: block.gas_used(index),
        effective_gas_price: transaction.effective_gas_price(block.header.base_fee_per_gas),
        blob_gas_used: None,
        blob_gas_price: None,
        from: transaction.signer(),
        to: transaction.to(),
        contract_address: creates.then(|| transaction.signer().create(transaction.nonce())),
    };
    Some(Receipt {
        inner,
        block_timestamp: U64::from(block.header.timestamp),
    })
}

/// The consensus receipt, its logs with their place in the block.
fn envelope(block: &Block, index: usize) -> Option<ReceiptEnvelope<RpcLog>> {
    let transaction = block.transactions.get(index)?;
    let receipt = block.receipts.get(index)?;
    let before: usize = block
        .receipts
        .iter()
        .take(index)
        .map(|r| r.logs().len())
        .sum();
    let mut log_index = u64::try_from(before).ok()?;
    Some(receipt.clone().map_logs(|inner| {
        let log = RpcLog {
            inner,
            block_hash: Some(block.hash()),
            block_number: Some(block.number()),
            block_timestamp: Some(block.header.timestamp),
            transaction_hash: Some(*transaction.tx_hash()),
            transaction_index: u64::try_from(index).ok(),
            log_index: Some(log_index),
            removed: false,
        };
        log_index = log_index.saturating_add(1);
        log
    }))
}
