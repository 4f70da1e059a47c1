//! Reading accounts.

use alloy_eips::BlockId;
use alloy_primitives::{Address, B256, Bytes, U64, U256};
use alloy_rpc_types_eth::{EIP1186AccountProofResponse, EIP1186StorageProof};
use alloy_serde::JsonStorageKey;

use super::{
    args::Args,
    call::{Scene, unknown_block},
    error::RpcError,
};
use crate::{
    backend::Backend,
    state::{Account, State},
};

/// Most storage keys in one proof request (geth's limit).
const MAX_PROOF_KEYS: usize = 1_024;

fn state_at(backend: &Backend, id: BlockId) -> Result<State, RpcError> {
    Ok(Scene::find(backend, id)?.state)
}

/// `eth_getBalance(address, block)`.
pub(crate) fn balance(backend: &Backend, mut args: Args<'_>) -> Result<U256, RpcError> {
    let address = args.required("address")?;
    let block = args.block()?;
    args.end()?;
    Ok(state_at(backend, block)?.balance(address))
}

/// `eth_getTransactionCount(address, block)`; `pending` counts what waits without a gap.
pub(crate) fn transaction_count(backend: &Backend, mut args: Args<'_>) -> Result<U64, RpcError> {
    let address = args.required("address")?;
    let block = args.block()?;
    args.end()?;
    if block.is_pending() {
        let chain = backend.head();
        return Ok(U64::from(
            backend.pool().next_nonce(address, &chain.tip().state),
        ));
    }
    Ok(U64::from(state_at(backend, block)?.nonce(address)))
}

/// `eth_getCode(address, block)`.
pub(crate) fn code(backend: &Backend, mut args: Args<'_>) -> Result<Bytes, RpcError> {
    let address = args.required("address")?;
    let block = args.block()?;
    args.end()?;
    Ok(state_at(backend, block)?
        .account(address)
        .map(Account::code)
        .unwrap_or_default())
}

/// `eth_getStorageAt(address, slot, block)`.
pub(crate) fn storage(backend: &Backend, mut args: Args<'_>) -> Result<B256, RpcError> {
    let address: Address = args.required("address")?;
    let slot: JsonStorageKey = args.required("slot")?;
    let block = args.block()?;
    args.end()?;
    let state = state_at(backend, block)?;
    let value = state
        .account(address)
        .map(|account| account.storage(slot.as_b256().into()));
    Ok(value.unwrap_or_default().into())
}

/// `eth_getProof(address, slots, block)` (EIP-1186), against the state root of a mined block.
pub(crate) fn proof(
    backend: &Backend,
    mut args: Args<'_>,
) -> Result<EIP1186AccountProofResponse, RpcError> {
    let address = args.required("address")?;
    let slots: Vec<JsonStorageKey> = args.required("slots")?;
    let block = args.block()?;
    args.end()?;
    if slots.len() > MAX_PROOF_KEYS {
        return Err(RpcError::Limit(format!(
            "at most {MAX_PROOF_KEYS} storage keys"
        )));
    }
    let chain = backend.head();
    let state = &chain.find(block).ok_or_else(unknown_block)?.state;
    let account = state.account(address).cloned().unwrap_or_default();
    let commitment = account.commitment();
    let storage_proof = slots
        .into_iter()
        .map(|key| {
            let slot = key.as_b256().into();
            EIP1186StorageProof {
                key,
                value: account.storage(slot),
                proof: account.storage_proof(slot),
            }
        })
        .collect();
    Ok(EIP1186AccountProofResponse {
        address,
        balance: commitment.balance,
        code_hash: commitment.code_hash,
        nonce: commitment.nonce,
        storage_hash: commitment.storage_root,
        account_proof: state.proof(address),
        storage_proof,
    })
}
