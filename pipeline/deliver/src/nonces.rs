//! Which nonces of the transmitter are in use. Pure bookkeeping; the chain has the last word.

use cryptlet_types::outbox::{RunId, Submission};
use std::collections::BTreeMap;

/// Nonces that a node has accepted a transaction for and that are in no block yet, as far as is known here.
#[derive(Debug, Default)]
pub struct Nonces {
    waiting: BTreeMap<u64, RunId>,
    abandoned: BTreeMap<u64, Submission>,
}

/// The nonce for a new transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The nonce.
    pub nonce: u64,
    /// A transaction of a report given up, still in the way, that has to be outbid.
    pub outbid: Option<Submission>,
}

impl Nonces {
    /// The next nonce: that of an abandoned transaction first, because all later ones queue behind it; otherwise
    /// the first that neither the node's pool (`pending`) nor this host has used. `mined`: nonces below are used up.
    #[must_use]
    pub fn next(&mut self, mined: u64, pending: u64) -> Slot {
        self.abandoned.retain(|nonce, _| *nonce >= mined);
        self.waiting.retain(|nonce, _| *nonce >= mined);
        if let Some((nonce, submission)) = self.abandoned.first_key_value() {
            return Slot {
                nonce: *nonce,
                outbid: Some(submission.clone()),
            };
        }
        let own = self
            .waiting
            .last_key_value()
            .map_or(0, |(nonce, _)| nonce.saturating_add(1));
        Slot {
            nonce: pending.max(own),
            outbid: None,
        }
    }

    /// Transactions that wait for a block, as far as is known here.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// A node has accepted a transaction of `run` with this nonce.
    pub fn accepted(&mut self, nonce: u64, run: RunId) {
        self.abandoned.remove(&nonce);
        self.waiting.insert(nonce, run);
    }

    /// Whether another run's transaction holds the nonce.
    #[must_use]
    pub fn is_taken_from(&self, nonce: u64, run: RunId) -> bool {
        self.waiting
            .get(&nonce)
            .is_some_and(|holder| *holder != run)
    }

    /// The lowest nonce below `nonce` that is in no block and that no run here waits for: whatever holds it (or
    /// nothing does) keeps `nonce` from being mined.
    #[must_use]
    pub fn gap_below(&self, nonce: u64, mined: u64) -> Option<u64> {
        (mined..nonce).find(|lower| !self.waiting.contains_key(lower))
    }

    /// Nobody waits for `run`'s transaction any more: it is mined, lost, or its waiter is gone.
    pub fn settled(&mut self, nonce: u64, run: RunId) {
        if self.waiting.get(&nonce) == Some(&run) {
            self.waiting.remove(&nonce);
        }
    }

    /// `run` is given up while its transaction may still wait in the pool.
    pub fn abandon(&mut self, submission: &Submission, run: RunId) {
        self.settled(submission.nonce, run);
        self.abandoned.insert(submission.nonce, submission.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, B256, Bytes};
    use cryptlet_types::JobId;

    fn run(n: u8) -> RunId {
        RunId {
            job: JobId(B256::ZERO),
            number: n.into(),
        }
    }

    fn submission(nonce: u64) -> Submission {
        Submission {
            transmitter: Address::ZERO,
            nonce,
            hash: B256::with_last_byte(7),
            raw: Bytes::new(),
            max_fee_per_gas: 1,
            max_priority_fee_per_gas: 1,
        }
    }

    fn next(nonces: &mut Nonces, mined: u64, pending: u64) -> u64 {
        nonces.next(mined, pending).nonce
    }

    #[test]
    fn a_nonce_advances_only_after_an_accepted_broadcast() {
        let mut nonces = Nonces::default();
        assert_eq!(next(&mut nonces, 5, 5), 5);
        assert_eq!(next(&mut nonces, 5, 5), 5);
        nonces.accepted(5, run(1));
        assert_eq!(next(&mut nonces, 5, 5), 6, "the node's count lags behind");
    }

    #[test]
    fn the_pool_may_know_of_more_than_this_host() {
        let mut nonces = Nonces::default();
        nonces.accepted(5, run(1));
        assert_eq!(next(&mut nonces, 5, 9), 9);
    }

    #[test]
    fn a_chain_that_went_back_is_followed_once_nothing_waits() {
        let mut nonces = Nonces::default();
        nonces.accepted(8, run(1));
        nonces.settled(8, run(2));
        assert_eq!(next(&mut nonces, 3, 3), 9);
        nonces.settled(8, run(1));
        assert_eq!(next(&mut nonces, 3, 3), 3);
    }

    #[test]
    fn an_abandoned_nonce_is_used_first_until_it_is_mined() {
        let mut nonces = Nonces::default();
        nonces.accepted(5, run(1));
        nonces.accepted(6, run(2));
        nonces.abandon(&submission(5), run(1));
        assert_eq!(nonces.next(5, 7).outbid, Some(submission(5)));
        assert_eq!(next(&mut nonces, 6, 7), 7, "it was mined after all");
        nonces.abandon(&submission(7), run(3));
        nonces.accepted(7, run(4));
        assert_eq!(nonces.next(6, 7).outbid, None, "it was replaced");
    }

    #[test]
    fn a_gap_is_the_lowest_nonce_that_nobody_waits_for() {
        let mut nonces = Nonces::default();
        nonces.accepted(5, run(1));
        nonces.accepted(7, run(2));
        assert_eq!(nonces.gap_below(7, 5), Some(6));
        assert_eq!(nonces.gap_below(6, 5), None);
        assert_eq!(nonces.gap_below(7, 7), None);
    }

    #[test]
    fn a_nonce_belongs_to_one_run() {
        let mut nonces = Nonces::default();
        nonces.accepted(5, run(1));
        assert!(nonces.is_taken_from(5, run(2)));
        assert!(!nonces.is_taken_from(5, run(1)));
        assert!(!nonces.is_taken_from(6, run(1)));
    }
}
