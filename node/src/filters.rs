//! Polling filters: `eth_newFilter` and its relatives.
//!
//! A log or block filter is a cursor into the chain, so a filter costs nothing while blocks are
//! made. Filters that nobody polls for five minutes are dropped, as geth does.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use alloy_primitives::B256;
use alloy_rpc_types_eth::Filter as LogFilter;

use crate::chain::Block;

const MAX_FILTERS: usize = 1_024;
const IDLE_LIMIT: Duration = Duration::from_secs(300);
/// Accepted transactions that are remembered for pending-transaction filters.
const ACCEPTED_BUFFER: usize = 8_192;
/// Removed blocks that a log filter remembers; beyond it the oldest removals go unreported.
const REMOVED_BUFFER: usize = 1_024;

/// What a filter reports.
#[derive(Debug, Clone)]
pub(crate) enum FilterKind {
    Logs(Arc<LogFilter>),
    Blocks,
    Pending,
}

#[derive(Debug)]
struct Filter {
    kind: FilterKind,
    /// The next block, or for pending transactions the next acceptance, to report.
    next: u64,
    /// Blocks that were reported and then removed; only log filters report them.
    removed: VecDeque<Arc<Block>>,
    polled: Instant,
}

/// What has happened since a filter was last polled.
#[derive(Debug)]
pub(crate) enum Changes {
    /// Logs of the removed blocks, then of the blocks from `from` on.
    Logs {
        filter: Arc<LogFilter>,
        removed: Vec<Arc<Block>>,
        from: u64,
    },
    /// The blocks from this number on.
    Blocks(u64),
    /// These transactions.
    Pending(Vec<B256>),
}

/// All filters of the node.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    live: HashMap<u64, Filter>,
    last_id: u64,
    accepted: VecDeque<B256>,
    /// How many transactions were accepted before the first one in `accepted`.
    forgotten: u64,
}

impl Filters {
    /// Installs a filter that reports what happens after the block `tip`. None if there are too
    /// many filters.
    pub(crate) fn install(&mut self, kind: FilterKind, tip: u64, now: Instant) -> Option<u64> {
        self.live
            .retain(|_, filter| now.duration_since(filter.polled) < IDLE_LIMIT);
        if self.live.len() >= MAX_FILTERS {
            return None;
        }
        let next = match kind {
            FilterKind::Pending => self.accepted_total(),
            FilterKind::Logs(_) | FilterKind::Blocks => tip.saturating_add(1),
        };
        self.last_id = self.last_id.saturating_add(1);
        let filter = Filter {
            kind,
            next,
            removed: VecDeque::new(),
            polled: now,
        };
        self.live.insert(self.last_id, filter);
        Some(self.last_id)
    }

    /// Reports what is new up to the block `tip`, and advances the filter.
    pub(crate) fn poll(&mut self, id: u64, tip: u64, now: Instant) -> Option<Changes> {
        let total = self.accepted_total();
        let filter = self.live.get_mut(&id)?;
        filter.polled = now;
        let from = filter.next;
        Some(match &filter.kind {
            FilterKind::Pending => {
                filter.next = total;
                let skip = usize::try_from(from.saturating_sub(self.forgotten)).ok()?;
                Changes::Pending(self.accepted.iter().skip(skip).copied().collect())
            }
            FilterKind::Blocks => {
                filter.next = tip.saturating_add(1);
                Changes::Blocks(from)
            }
            FilterKind::Logs(logs) => {
                filter.next = tip.saturating_add(1);
                let removed = std::mem::take(&mut filter.removed).into();
                Changes::Logs {
                    filter: Arc::clone(logs),
                    removed,
                    from,
                }
            }
        })
    }

    /// The log filter under `id`.
    pub(crate) fn logs(&mut self, id: u64, now: Instant) -> Option<Arc<LogFilter>> {
        let filter = self.live.get_mut(&id)?;
        filter.polled = now;
        match &filter.kind {
            FilterKind::Logs(logs) => Some(Arc::clone(logs)),
            FilterKind::Blocks | FilterKind::Pending => None,
        }
    }

    /// Returns whether there was such a filter.
    pub(crate) fn uninstall(&mut self, id: u64) -> bool {
        self.live.remove(&id).is_some()
    }

    /// The pool accepted a transaction.
    pub(crate) fn accepted(&mut self, hash: B256) {
        self.accepted.push_back(hash);
        if self.accepted.len() > ACCEPTED_BUFFER {
            self.accepted.pop_front();
            self.forgotten = self.forgotten.saturating_add(1);
        }
    }

    /// The blocks above `tip` were removed; `removed` has the highest first.
    pub(crate) fn reverted(&mut self, tip: u64, removed: &[Arc<Block>]) {
        for filter in self.live.values_mut() {
            if matches!(filter.kind, FilterKind::Pending) || filter.next <= tip.saturating_add(1) {
                continue;
            }
            if matches!(filter.kind, FilterKind::Logs(_)) {
                let reported = removed.iter().filter(|block| block.number() < filter.next);
                filter.removed.extend(reported.cloned());
                let excess = filter.removed.len().saturating_sub(REMOVED_BUFFER);
                filter.removed.drain(..excess);
            }
            filter.next = tip.saturating_add(1);
        }
    }

    fn accepted_total(&self) -> u64 {
        self.forgotten
            .saturating_add(u64::try_from(self.accepted.len()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pending_filter_reports_each_transaction_once() {
        let now = Instant::now();
        let mut filters = Filters::default();
        filters.accepted(B256::repeat_byte(1));
        let id = filters.install(FilterKind::Pending, 0, now).unwrap();
        filters.accepted(B256::repeat_byte(2));
        let poll = |filters: &mut Filters| match filters.poll(id, 0, now) {
            Some(Changes::Pending(hashes)) => hashes,
            other => panic!("{other:?}"),
        };
        assert_eq!(poll(&mut filters), [B256::repeat_byte(2)]);
        assert!(poll(&mut filters).is_empty());
        for _ in 0..=ACCEPTED_BUFFER {
            filters.accepted(B256::repeat_byte(3));
        }
        assert_eq!(poll(&mut filters).len(), ACCEPTED_BUFFER);
    }

    #[test]
    fn filters_are_bounded_and_idle_ones_make_room() {
        let now = Instant::now();
        let mut filters = Filters::default();
        for _ in 0..MAX_FILTERS {
            filters.install(FilterKind::Blocks, 0, now).unwrap();
        }
        assert_eq!(filters.install(FilterKind::Blocks, 0, now), None);
        assert!(
            filters
                .install(FilterKind::Blocks, 0, now + IDLE_LIMIT)
                .is_some()
        );
        assert!(!filters.uninstall(1));
    }
}
