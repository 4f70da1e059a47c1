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
use alloy_trie::{
    HashBuilder, Nibbles,
    proof::{ProofNodes, ProofRetainer},
    root::adjust_index_for_rlp,
};
use cryptlet_types::receipt::Inclusion;
use std::collections::{BTreeMap, HashMap};

/// Builds and checks the proof for `transaction` within its block.
///
/// # Errors
/// [`ChainError::Inconsistent`] if block, receipts and hashes do not belong together.
pub fn prove(
    block: Block,
    receipts: Vec<TransactionReceipt>,
    transaction: B256,
) -> Result<Inclusion, ChainError> {
    let mut proven = prove_all(block, receipts, &[transaction])?;
    proven.remove(&transaction).ok_or_else(not_held)
}

/// As [`prove`], of many transactions of one block: both tries are built once.
///
/// # Errors
/// As [`prove`]; of any one of them.
pub fn prove_all(
    block: Block,
    receipts: Vec<TransactionReceipt>,
    transactions: &[B256],
) -> Result<BTreeMap<B256, Inclusion>, ChainError> {
    let claimed = block.header.hash;
    let header: Header = block.header.inner;
    let header_bytes = Bytes::from(alloy_rlp::encode(&header));
    if keccak256(&header_bytes) != claimed {
        return Err(inconsistent("header does not hash to the block hash"));
    }
    let bodies: Vec<Bytes> = block
        .transactions
        .into_transactions_vec()
        .iter()
        .map(|transaction| transaction.inner.inner().encoded_2718().into())
        .collect();
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
    if receipts.len() != bodies.len() {
        return Err(inconsistent("a block has one receipt a transaction"));
    }
    let places: HashMap<B256, usize> = bodies.iter().map(keccak256).zip(0..).collect();
    let place = |hash: &B256| places.get(hash).copied().map(|place| (*hash, place));
    let wanted: Option<Vec<(B256, usize)>> = transactions.iter().map(place).collect();
    let wanted = wanted.ok_or_else(not_held)?;
    let targets: Vec<usize> = wanted.iter().map(|(_, place)| *place).collect();
    let transaction_proofs = proofs(&bodies, &targets, header.transactions_root)?;
    let receipt_proofs = proofs(&receipts, &targets, header.receipts_root)?;
    let item = |items: &[Bytes], index: usize| items.get(index).cloned().unwrap_or_default();
    let proven = wanted.iter().map(|&(hash, index)| {
        let inclusion = Inclusion {
            header: header_bytes.clone(),
            transaction_index: index as u64,
            transaction: item(&bodies, index),
            transaction_proof: nodes(&transaction_proofs, index),
            receipt: item(&receipts, index),
            receipt_proof: nodes(&receipt_proofs, index),
        };
        (hash, inclusion)
    });
    Ok(proven.collect())
}

/// Nodes from the root to each of `targets`, in a trie keyed by the RLP of the index.
fn proofs(items: &[Bytes], targets: &[usize], root: B256) -> Result<ProofNodes, ChainError> {
    let retainer = ProofRetainer::from_iter(targets.iter().map(|target| key(*target)));
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
    Ok(builder.take_proof_nodes())
}

/// Those on the way to `target`, root first.
fn nodes(proofs: &ProofNodes, target: usize) -> Vec<Bytes> {
    let nodes = proofs.matching_nodes_sorted(&key(target));
    nodes.into_iter().map(|(_, node)| node).collect()
}

fn key(index: usize) -> Nibbles {
    Nibbles::unpack(alloy_rlp::encode_fixed_size(&index))
}

fn inconsistent(what: &str) -> ChainError {
    ChainError::Inconsistent(what.to_owned())
}

fn not_held() -> ChainError {
    inconsistent("the block does not hold the transaction")
}
