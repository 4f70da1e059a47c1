//! Accepting transactions, and signing with the development accounts.

use std::sync::Arc;

use alloy_consensus::{SignableTransaction, TxEnvelope, Typed2718};
use alloy_dyn_abi::eip712::TypedData;
use alloy_eips::{BlockId, Decodable2718};
use alloy_primitives::{Address, B256, Bytes, TxKind};
use alloy_rpc_types_eth::TransactionRequest;
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;

use super::{
    args::Args,
    call::{Scene, estimate},
    error::RpcError,
    fees::SUGGESTED_TIP,
};
use crate::{
    backend::{Backend, next_base_fee},
    chain::Transaction,
    pool::PoolError,
    transaction,
};

/// `eth_sendRawTransaction(transaction)`.
pub(crate) fn send_raw(backend: &Backend, mut args: Args<'_>) -> Result<B256, RpcError> {
    let raw: Bytes = args.required("transaction")?;
    args.end()?;
    let envelope = TxEnvelope::decode_2718_exact(&raw)
        .map_err(|error| RpcError::Refused(format!("could not decode transaction: {error}")))?;
    let transaction = transaction::recover(envelope)
        .map_err(|error| RpcError::Refused(format!("invalid sender: {error}")))?;
    Ok(backend.submit(Arc::new(transaction))?)
}

/// `eth_sendTransaction(transaction)`, from a development account or an impersonated one.
pub(crate) fn send(backend: &Backend, mut args: Args<'_>) -> Result<B256, RpcError> {
    let request = args.required::<TransactionRequest>("transaction")?;
    args.end()?;
    let transaction = fill_and_sign(backend, request)?;
    Ok(backend.submit(Arc::new(transaction))?)
}

fn fill_and_sign(
    backend: &Backend,
    mut request: TransactionRequest,
) -> Result<Transaction, RpcError> {
    let from = request
        .from
        .ok_or_else(|| RpcError::InvalidParams("from is missing".into()))?;
    let impersonated = backend.is_impersonated(from);
    let signer = if impersonated {
        None
    } else {
        Some(signer(backend, from)?)
    };
    fill(backend, from, &mut request)?;
    let typed = request.build_consensus_tx().map_err(|error| {
        RpcError::InvalidParams(format!("incomplete transaction: {}", error.error))
    })?;
    if typed.is_eip4844() {
        return Err(RpcError::Refused(PoolError::Blob.to_string()));
    }
    let signature = match signer {
        Some(signer) => signer
            .sign_hash_sync(&typed.signature_hash())
            .map_err(|error| RpcError::Internal(error.to_string()))?,
        None => transaction::impersonated_signature(from),
    };
    Ok(transaction::signed(typed, signature, from))
}

/// Gives the request what it leaves open: nonce, gas, prices.
fn fill(
    backend: &Backend,
    from: Address,
    request: &mut TransactionRequest,
) -> Result<(), RpcError> {
    let scene = Scene::find(backend, BlockId::pending())?;
    if request.gas.is_none() {
        request.gas = Some(estimate(&scene, request)?);
    }
    let chain = backend.head();
    if request.nonce.is_none() {
        request.nonce = Some(backend.pool().next_nonce(from, &chain.tip().state));
    }
    request.chain_id = Some(chain.id());
    request.to = request.to.or(Some(TxKind::Create));
    request.normalize_input();
    if request.gas_price.is_none() {
        let tip = request
            .max_priority_fee_per_gas
            .unwrap_or_else(|| SUGGESTED_TIP.into());
        let base = u128::from(next_base_fee(chain.tip()));
        request.max_priority_fee_per_gas = Some(tip);
        request
            .max_fee_per_gas
            .get_or_insert(base.saturating_mul(2).saturating_add(tip));
    }
    Ok(())
}

fn signer(backend: &Backend, address: Address) -> Result<&PrivateKeySigner, RpcError> {
    backend
        .signers()
        .iter()
        .find(|signer| signer.address() == address)
        .ok_or_else(|| RpcError::Refused("unknown account".into()))
}

/// `eth_accounts()`.
pub(crate) fn accounts(backend: &Backend, args: Args<'_>) -> Result<Vec<Address>, RpcError> {
    args.end()?;
    Ok(backend
        .signers()
        .iter()
        .map(PrivateKeySigner::address)
        .collect())
}

/// `eth_sign(address, message)` (EIP-191).
pub(crate) fn sign(backend: &Backend, mut args: Args<'_>) -> Result<Bytes, RpcError> {
    let address = args.required("address")?;
    let message: Bytes = args.required("message")?;
    args.end()?;
    sign_message(backend, address, &message)
}

/// `personal_sign(message, address)` (EIP-191).
pub(crate) fn personal_sign(backend: &Backend, mut args: Args<'_>) -> Result<Bytes, RpcError> {
    let message: Bytes = args.required("message")?;
    let address = args.required("address")?;
    args.end()?;
    sign_message(backend, address, &message)
}

/// `eth_signTypedData_v4(address, typedData)` (EIP-712); the data is an object or its JSON text.
pub(crate) fn sign_typed_data(backend: &Backend, mut args: Args<'_>) -> Result<Bytes, RpcError> {
    let address = args.required("address")?;
    let data: TypedData = args.required("typedData")?;
    args.end()?;
    let hash = data
        .eip712_signing_hash()
        .map_err(|error| RpcError::InvalidParams(format!("typedData: {error}")))?;
    let signature = signer(backend, address)?
        .sign_hash_sync(&hash)
        .map_err(|error| RpcError::Internal(error.to_string()))?;
    Ok(signature.as_bytes().into())
}

fn sign_message(backend: &Backend, address: Address, message: &[u8]) -> Result<Bytes, RpcError> {
    let signature = signer(backend, address)?
        .sign_message_sync(message)
        .map_err(|error| RpcError::Internal(error.to_string()))?;
    Ok(signature.as_bytes().into())
}
