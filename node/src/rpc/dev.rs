//! Methods that only a development node has, named and behaving as Anvil's do.

use std::time::Duration;

use alloy_primitives::{Address, Bytes, U64, U256};
use alloy_serde::JsonStorageKey;
use serde::Deserialize;

use super::{
    args::{Args, Quantity},
    error::RpcError,
};
use crate::{backend::Backend, config::Mining, journal::AccountChange};

/// The argument of `evm_mine`: a timestamp, or an object with one.
#[derive(Deserialize)]
#[serde(untagged)]
enum MineOptions {
    Timestamp(Quantity),
    Options(MineObject),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MineObject {
    timestamp: Option<Quantity>,
    blocks: Option<Quantity>,
}

/// `evm_mine(timestamp?)`.
pub(crate) fn evm_mine(backend: &Backend, mut args: Args<'_>) -> Result<&'static str, RpcError> {
    let options: Option<MineOptions> = args.optional("options")?;
    args.end()?;
    let (timestamp, blocks) = match options {
        None => (None, None),
        Some(MineOptions::Timestamp(timestamp)) => (Some(timestamp), None),
        Some(MineOptions::Options(options)) => (options.timestamp, options.blocks),
    };
    if let Some(Quantity(timestamp)) = timestamp {
        backend.set_next_timestamp(timestamp)?;
    }
    backend.mine(blocks.map_or(1, |Quantity(blocks)| blocks), None)?;
    Ok("0x0")
}

/// `anvil_mine(blocks?, interval?)`.
pub(crate) fn anvil_mine(backend: &Backend, mut args: Args<'_>) -> Result<(), RpcError> {
    let blocks = args
        .optional("blocks")?
        .map_or(1, |Quantity(blocks)| blocks);
    let interval = args.optional("interval")?.map(|Quantity(seconds)| seconds);
    args.end()?;
    Ok(backend.mine(blocks, interval)?)
}

/// `evm_increaseTime(seconds)`; returns the whole offset in seconds.
pub(crate) fn increase_time(backend: &Backend, mut args: Args<'_>) -> Result<i64, RpcError> {
    let Quantity(seconds) = args.required("seconds")?;
    args.end()?;
    Ok(backend.increase_time(seconds)?)
}

/// `evm_setNextBlockTimestamp(timestamp)`.
pub(crate) fn set_next_timestamp(backend: &Backend, mut args: Args<'_>) -> Result<(), RpcError> {
    let Quantity(timestamp) = args.required("timestamp")?;
    args.end()?;
    Ok(backend.set_next_timestamp(timestamp)?)
}

/// `evm_setTime(timestamp)`; returns how far the clock moved, in seconds.
pub(crate) fn set_time(backend: &Backend, mut args: Args<'_>) -> Result<u64, RpcError> {
    let Quantity(timestamp) = args.required("timestamp")?;
    args.end()?;
    Ok(backend.set_time(timestamp)?)
}

/// `evm_snapshot()`; returns the snapshot's id.
pub(crate) fn snapshot(backend: &Backend, args: Args<'_>) -> Result<U64, RpcError> {
    args.end()?;
    Ok(U64::from(backend.snapshot()?))
}

/// `evm_revert(id)`; returns whether there was such a snapshot.
pub(crate) fn revert(backend: &Backend, mut args: Args<'_>) -> Result<bool, RpcError> {
    let Quantity(id) = args.required("id")?;
    args.end()?;
    Ok(backend.revert(id)?)
}

/// `evm_setAutomine(enabled)`.
pub(crate) fn set_automine(backend: &Backend, mut args: Args<'_>) -> Result<(), RpcError> {
    let enabled: bool = args.required("enabled")?;
    args.end()?;
    Ok(backend.set_mining(if enabled {
        Mining::Instant
    } else {
        Mining::Manual
    })?)
}

/// `evm_setIntervalMining(seconds)`; zero stops it.
pub(crate) fn set_interval_mining(backend: &Backend, mut args: Args<'_>) -> Result<(), RpcError> {
    let Quantity(seconds) = args.required("seconds")?;
    args.end()?;
    let mining = match seconds {
        0 => Mining::Manual,
        seconds => Mining::Interval(Duration::from_secs(seconds)),
    };
    Ok(backend.set_mining(mining)?)
}

/// `anvil_setBalance(address, balance)`.
pub(crate) fn set_balance(backend: &Backend, mut args: Args<'_>) -> Result<(), RpcError> {
    let address = args.required("address")?;
    let balance: U256 = args.required("balance")?;
    args.end()?;
    Ok(backend.change_account(address, AccountChange::Balance(balance))?)
}

/// `anvil_setNonce(address, nonce)`.
pub(crate) fn set_nonce(backend: &Backend, mut args: Args<'_>) -> Result<(), RpcError> {
    let address = args.required("address")?;
    let Quantity(nonce) = args.required("nonce")?;
    args.end()?;
    Ok(backend.change_account(address, AccountChange::Nonce(nonce))?)
}

/// `anvil_setCode(address, code)`.
pub(crate) fn set_code(backend: &Backend, mut args: Args<'_>) -> Result<(), RpcError> {
    let address = args.required("address")?;
    let code: Bytes = args.required("code")?;
    args.end()?;
    Ok(backend.change_account(address, AccountChange::Code(code))?)
}

/// `anvil_setStorageAt(address, slot, value)`.
pub(crate) fn set_storage(backend: &Backend, mut args: Args<'_>) -> Result<bool, RpcError> {
    let address: Address = args.required("address")?;
    let slot: JsonStorageKey = args.required("slot")?;
    let value: JsonStorageKey = args.required("value")?;
    args.end()?;
    let (slot, value) = (slot.as_b256().into(), value.as_b256().into());
    backend.change_account(address, AccountChange::Storage { slot, value })?;
    Ok(true)
}

/// `anvil_impersonateAccount(address)`.
pub(crate) fn impersonate(backend: &Backend, mut args: Args<'_>) -> Result<(), RpcError> {
    let address = args.required("address")?;
    args.end()?;
    backend.set_impersonated(address, true);
    Ok(())
}

/// `anvil_stopImpersonatingAccount(address)`.
pub(crate) fn stop_impersonating(backend: &Backend, mut args: Args<'_>) -> Result<(), RpcError> {
    let address = args.required("address")?;
    args.end()?;
    backend.set_impersonated(address, false);
    Ok(())
}
