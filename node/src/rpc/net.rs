//! `net_` and `web3_` methods, and the chain id.

use alloy_primitives::{B256, Bytes, U64, keccak256};

use super::{args::Args, error::RpcError};
use crate::backend::Backend;

/// `eth_chainId()`.
pub(crate) fn chain_id(backend: &Backend, args: Args<'_>) -> Result<U64, RpcError> {
    args.end()?;
    Ok(U64::from(backend.head().id()))
}

/// `net_version()`.
pub(crate) fn version(backend: &Backend, args: Args<'_>) -> Result<String, RpcError> {
    args.end()?;
    Ok(backend.head().id().to_string())
}

/// `net_listening()`.
pub(crate) fn listening(_: &Backend, args: Args<'_>) -> Result<bool, RpcError> {
    args.end()?;
    Ok(true)
}

/// `net_peerCount()`: the chain has one node.
pub(crate) fn peer_count(_: &Backend, args: Args<'_>) -> Result<U64, RpcError> {
    args.end()?;
    Ok(U64::ZERO)
}

/// `web3_clientVersion()`.
pub(crate) fn client_version(_: &Backend, args: Args<'_>) -> Result<&'static str, RpcError> {
    args.end()?;
    Ok(concat!("cryptlet-node/v", env!("CARGO_PKG_VERSION")))
}

/// `bletchley_delegate()`: where the chain's delegate, register and policy are; `null` if nobody said.
pub(crate) fn delegate(
    backend: &Backend,
    args: Args<'_>,
) -> Result<Option<serde_json::Value>, RpcError> {
    args.end()?;
    Ok(backend.delegate().cloned())
}

/// `web3_sha3(data)`: Keccak-256.
pub(crate) fn sha3(_: &Backend, mut args: Args<'_>) -> Result<B256, RpcError> {
    let data: Bytes = args.required("data")?;
    args.end()?;
    Ok(keccak256(data))
}
