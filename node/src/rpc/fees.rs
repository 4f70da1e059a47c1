//! Prices: `eth_gasPrice` and its relatives.

use alloy_consensus::Transaction as _;
use alloy_eips::BlockId;
use alloy_primitives::{U64, U256};
use alloy_rpc_types_eth::{FeeHistory, TxGasAndReward};

use super::{
    args::{Args, Quantity},
    call::unknown_block,
    error::RpcError,
};
use crate::{
    backend::{Backend, next_base_fee},
    chain::Block,
};

/// The tip that the node suggests, in wei. Any tip is mined.
pub(crate) const SUGGESTED_TIP: u64 = 1_000_000_000;
/// Price of blob gas, in wei: the least there is, since no block carries blobs.
const BLOB_BASE_FEE: u64 = 1;
const MAX_FEE_HISTORY: u64 = 1_024;
const MAX_PERCENTILES: usize = 100;

/// `eth_gasPrice()`.
pub(crate) fn gas_price(backend: &Backend, args: Args<'_>) -> Result<U256, RpcError> {
    args.end()?;
    Ok(U256::from(next_base_fee(backend.head().tip())).saturating_add(U256::from(SUGGESTED_TIP)))
}

/// `eth_maxPriorityFeePerGas()`.
pub(crate) fn tip(_: &Backend, args: Args<'_>) -> Result<U64, RpcError> {
    args.end()?;
    Ok(U64::from(SUGGESTED_TIP))
}

/// `eth_blobBaseFee()`.
pub(crate) fn blob_base_fee(_: &Backend, args: Args<'_>) -> Result<U64, RpcError> {
    args.end()?;
    Ok(U64::from(BLOB_BASE_FEE))
}

/// `eth_feeHistory(blockCount, newestBlock, rewardPercentiles)`.
pub(crate) fn history(backend: &Backend, mut args: Args<'_>) -> Result<FeeHistory, RpcError> {
    let Quantity(count) = args.required("blockCount")?;
    let newest = args.block()?;
    let percentiles: Option<Vec<f64>> = args.optional("rewardPercentiles")?;
    args.end()?;
    check(percentiles.as_deref().unwrap_or_default())?;
    let chain = backend.head();
    let newest = if newest.is_pending() {
        BlockId::latest()
    } else {
        newest
    };
    let newest = chain.find(newest).ok_or_else(unknown_block)?.number();
    let count = count.min(MAX_FEE_HISTORY).min(newest.saturating_add(1));
    if count == 0 {
        return Ok(FeeHistory::default());
    }
    let oldest = newest.saturating_add(1).saturating_sub(count);
    let blocks: Vec<_> = (oldest..=newest)
        .filter_map(|number| chain.block(number))
        .collect();
    let mut base_fees: Vec<u128> = blocks.iter().map(|block| block.base_fee().into()).collect();
    base_fees.extend(blocks.last().map(|block| u128::from(next_base_fee(block))));
    Ok(FeeHistory {
        oldest_block: oldest,
        base_fee_per_blob_gas: vec![BLOB_BASE_FEE.into(); base_fees.len()],
        base_fee_per_gas: base_fees,
        gas_used_ratio: blocks.iter().map(|block| gas_used_ratio(block)).collect(),
        blob_gas_used_ratio: vec![0.0; blocks.len()],
        reward: percentiles.map(|percentiles| {
            blocks
                .iter()
                .map(|block| rewards(block, &percentiles))
                .collect()
        }),
    })
}

fn check(percentiles: &[f64]) -> Result<(), RpcError> {
    let refused = |reason: &str| {
        Err(RpcError::InvalidParams(format!(
            "rewardPercentiles: {reason}"
        )))
    };
    if percentiles.len() > MAX_PERCENTILES {
        return refused("over the query limit of 100");
    }
    if percentiles
        .iter()
        .any(|percentile| !(0.0..=100.0).contains(percentile))
    {
        return refused("must be from 0 to 100");
    }
    if !percentiles.is_sorted() {
        return refused("must rise");
    }
    Ok(())
}

#[allow(
    clippy::cast_precision_loss,
    reason = "gas is far below the 2^53 that a float holds"
)]
fn gas_used_ratio(block: &Block) -> f64 {
    block.header.gas_used as f64 / block.header.gas_limit.max(1) as f64
}

/// The tips at the percentiles of the block's gas, as geth weighs them.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a fraction of the block's gas is positive and far below 2^53"
)]
fn rewards(block: &Block, percentiles: &[f64]) -> Vec<u128> {
    let mut tips: Vec<_> = block
        .transactions
        .iter()
        .enumerate()
        .map(|(index, transaction)| TxGasAndReward {
            gas_used: block.gas_used(index),
            reward: transaction
                .effective_tip_per_gas(block.base_fee())
                .unwrap_or_default(),
        })
        .collect();
    tips.sort_unstable();
    let mut rest = tips.into_iter();
    let Some(mut tip) = rest.next() else {
        return vec![0; percentiles.len()];
    };
    let mut gas = tip.gas_used;
    let reward = |percentile: &f64| {
        let threshold = (block.header.gas_used as f64 * percentile / 100.0) as u64;
        while gas < threshold
            && let Some(next) = rest.next()
        {
            gas = gas.saturating_add(next.gas_used);
            tip = next;
        }
        tip.reward
    };
    percentiles.iter().map(reward).collect()
}
