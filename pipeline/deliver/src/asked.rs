//! What the delegate says to a report, asked while its host still writes the report down.

use crate::Order;
use alloy_primitives::Address;
use cryptlet_chain::{Chain, ChainError, Rejection};
use std::sync::Arc;
use tokio::task::JoinSet;

/// What the delegate says.
pub(crate) type Answer = Result<Result<(), Rejection>, ChainError>;

/// A question on its way ([`crate::Deliverer::ask`]). Dropped, it is taken back.
#[derive(Debug)]
pub struct Asked(JoinSet<Answer>);

impl Asked {
    pub(crate) fn ask(chain: Arc<dyn Chain>, order: &Order, from: Address, gas_limit: u64) -> Self {
        let (report, delegation) = (order.report.clone(), order.delegation.clone());
        let mut asking = JoinSet::new();
        asking.spawn(async move {
            let delegation = delegation.as_ref();
            chain.preflight(&report, delegation, from, gas_limit).await
        });
        Self(asking)
    }

    /// The answer; none if it was lost.
    pub(crate) async fn answer(mut self) -> Option<Answer> {
        self.0.join_next().await?.ok()
    }
}
