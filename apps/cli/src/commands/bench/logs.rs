//! The chain's logs, in spans that any node answers.

use crate::error::{CliError, Doing};
use alloy::{
    primitives::Address,
    providers::{DynProvider, Provider},
    rpc::types::{Filter, Log},
    sol_types::SolEvent,
};
use cryptlet_chain::evm::abi::CryptoDelegate;

/// Blocks whose logs are asked for at once.
const SPAN: u64 = 500;

/// Reports that the delegate consumed.
pub(crate) fn deliveries(delegate: Address) -> Filter {
    Filter::new()
        .address(delegate)
        .event_signature(CryptoDelegate::Delivered::SIGNATURE_HASH)
}

/// The logs in these blocks, both ends included.
pub(crate) async fn logs(
    provider: &DynProvider,
    filter: &Filter,
    (from, to): (u64, u64),
) -> Result<Vec<Log>, CliError> {
    let (mut next, mut logs) = (from, Vec::new());
    while next <= to {
        let last = next.saturating_add(SPAN - 1).min(to);
        let part = filter.clone().select(next..=last);
        let part = provider.get_logs(&part).await;
        logs.extend(part.doing("cannot read the chain's logs")?);
        next = last.saturating_add(1);
    }
    Ok(logs)
}
