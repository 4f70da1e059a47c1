//! What is known of the transmitter's account and of prices, so that a delivery that goes well asks nothing.
//!
//! A count that is too low shows at once (the node refuses the nonce), one that is too high when the transaction waits behind a
//! gap: either way it is forgotten and asked for again. Fees may be a few blocks old: an offer is twice the base fee.

use alloy_primitives::Address;
use cryptlet_chain::{Chain, ChainError, Fees};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Age at which what is known is asked for again in passing.
const FRESH: Duration = Duration::from_millis(250);
/// Age at which it is not believed any more.
const STALE: Duration = Duration::from_secs(12);

/// What a new transaction needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// Transactions of the account in blocks.
    pub(crate) mined: u64,
    /// Those, and those that wait in the node's pool.
    pub(crate) pending: u64,
    /// Prices.
    pub(crate) fees: Fees,
    at: Instant,
}

pub(crate) struct Account {
    chain: Arc<dyn Chain>,
    address: Address,
    known: Mutex<Option<Known>>,
}

impl Account {
    pub(crate) fn new(chain: Arc<dyn Chain>, address: Address) -> Self {
        Self {
            chain,
            address,
            known: Mutex::default(),
        }
    }

    /// What is known, or what the node says now.
    pub(crate) async fn known(&self) -> Result<Known, ChainError> {
        let known = *self.lock();
        match known.filter(|known| known.at.elapsed() < STALE) {
            Some(known) => Ok(known),
            None => self.ask().await,
        }
    }

    /// Asks in passing, if anybody has sent something lately and what is known is not fresh.
    pub(crate) async fn refresh(&self) {
        let known = *self.lock();
        let wanted = known.is_some_and(|known| known.at.elapsed() >= FRESH);
        if wanted && let Err(error) = self.ask().await {
            tracing::debug!(%error, "the transmitter's account could not be looked at");
        }
    }

    /// A transaction with this nonce is in a block.
    pub(crate) fn used(&self, nonce: u64) {
        if let Some(known) = self.lock().as_mut() {
            let count = nonce.saturating_add(1);
            known.mined = known.mined.max(count);
            known.pending = known.pending.max(count);
        }
    }

    /// Something was not as it should be: the node is asked before the next transaction.
    pub(crate) fn forget(&self) {
        *self.lock() = None;
    }

    async fn ask(&self) -> Result<Known, ChainError> {
        let (mined, pending, fees) = tokio::try_join!(
            self.chain.nonce(self.address, false),
            self.chain.nonce(self.address, true),
            self.chain.fees(),
        )?;
        let known = Known {
            mined,
            pending,
            fees,
            at: Instant::now(),
        };
        *self.lock() = Some(known);
        Ok(known)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
