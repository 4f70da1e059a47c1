//! Proof that a transaction and its receipt belong to a block.
//!
//! A block's header holds the roots of two Merkle-Patricia tries: the transactions and the receipts, each keyed
//! by the RLP of the index, each value in EIP-2718 form. Both tries are built here from the whole block, and a
//! proof is kept of one key. Nothing of what the node says is believed: the header must hash to the block hash
//! and both roots must come out as the header has them.

use crate::ChainError;
use alloy::rpc::types::{Block, TransactionReceipt};
use alloy_consensus::Header;
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{B256, Bytes, keccak256};
use alloy_trie::{HashBuilder, Nibbles, proof::ProofRetainer, root::adjust_index_for_rlp};
use cryptlet_types::receipt::Inclusion;

/// Builds and checks the proof for `transaction` within its block.
///
/// # Errors
/// [`ChainError::Inconsistent`] if block, receipts and hashes do not belong together.
pub fn prove(
    block: Block,
    receipts: Vec<TransactionReceipt>,
    transaction: B256,
) -> Result<Inclusion, ChainError> {
    let claimed = block.header.hash;
    let header: Header = block.header.inner;
    let header_bytes = alloy_rlp::encode(&header);
    if keccak256(&header_bytes) != claimed {
        return Err(inconsistent("header does not hash to the block hash"));
    }
    let transactions: Vec<Bytes> = block
        .transactions
        .into_transactions_vec()
        .iter()
        .map(|transaction| transaction.inner.inner().encoded_2718().into())
        .collect();
    let index = transactions
        .iter()
        .position(|bytes| keccak256(bytes) == transaction)
        .ok_or_else(|| inconsistent("the block does not hold the transaction"))?;
    let receipts: Vec<Bytes> = receipts
        .into_iter()
        .map(|receipt| {
            receipt
                .into_primitives_receipt()
                .inner
                .encoded_2718()
                .into()
        })
        .collect();
    if receipts.len() != transactions.len() {
        return Err(inconsistent("a block has one receipt a transaction"));
    }
    let transaction_proof = proof(&transactions, index, header.transactions_root)?;
    let receipt_proof = proof(&receipts, index, header.receipts_root)?;
    let item = |items: &[Bytes]| items.get(index).cloned().unwrap_or_default();
    Ok(Inclusion {
        header: header_bytes.into(),
        transaction_index: index as u64,
        transaction: item(&transactions),
        transaction_proof,
        receipt: item(&receipts),
        receipt_proof,
    })
}

/// Nodes from the root to `items[target]`, root first, in a trie keyed by the RLP of the index.
fn proof(items: &[Bytes], target: usize, root: B256) -> Result<Vec<Bytes>, ChainError> {
    let retainer = ProofRetainer::from_iter([key(target)]);
    let mut builder = HashBuilder::default().with_proof_retainer(retainer);
    for place in 0..items.len() {
        let index = adjust_index_for_rlp(place, items.len());
        let item = items
            .get(index)
            .ok_or_else(|| inconsistent("a trie has as many keys as items"))?;
        builder.add_leaf(key(index), item);
    }
    if builder.root() != root {
        return Err(inconsistent("items do not have the root of the header"));
    }
    let nodes = builder
        .take_proof_nodes()
        .matching_nodes_sorted(&key(target));
    Ok(nodes.into_iter().map(|(_, node)| node).collect())
}

fn key(index: usize) -> Nibbles {
    Nibbles::unpack(alloy_rlp::encode_fixed_size(&index))
}

fn inconsistent(what: &str) -> ChainError {
    ChainError::Inconsistent(what.to_owned())
}
