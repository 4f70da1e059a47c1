//! What deliveries cost, from the receipts.

use super::arena::Arena;
use crate::error::{CliError, Doing};
use alloy::providers::Provider;
use std::collections::BTreeMap;

/// Gas of one report's delivery: the whole transaction's, divided by its reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gas {
    /// Reports in a transaction.
    pub(crate) reports: u64,
    /// The median over the transactions of so many reports.
    pub(crate) each: u64,
}

/// The gas in transactions with the fewest reports and in those with the most, in these blocks.
pub(crate) async fn measure(arena: &Arena, blocks: (u64, u64)) -> Result<(Gas, Gas), CliError> {
    let mut reports = BTreeMap::<_, u64>::new();
    for log in arena.deliveries(blocks).await? {
        let hash = log.transaction_hash.unwrap_or_default();
        let count = reports.entry(hash).or_default();
        *count = count.saturating_add(1);
    }
    let mut used = BTreeMap::<u64, Vec<u64>>::new();
    for (hash, count) in reports {
        let doing = "cannot read a receipt";
        let receipt = arena.provider.get_transaction_receipt(hash).await;
        let receipt = receipt.doing(doing)?;
        let receipt = receipt.ok_or_else(|| CliError::new(doing))?;
        let each = receipt.gas_used.checked_div(count).unwrap_or_default();
        used.entry(count).or_default().push(each);
    }
    let of = |found: Option<(&u64, &Vec<u64>)>| found.map_or(Gas::default(), median);
    Ok((of(used.first_key_value()), of(used.last_key_value())))
}

fn median((reports, used): (&u64, &Vec<u64>)) -> Gas {
    let mut used = used.clone();
    used.sort_unstable();
    Gas {
        reports: *reports,
        each: used.get(used.len() / 2).copied().unwrap_or_default(),
    }
}
