//! Records that were looked up lately: each job asks for its cryptlet's several times.

use super::Known;
use cryptlet_types::CryptletId;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Most records that are kept; beyond that all are read anew.
const MAX_KEPT: usize = 1_000;

/// Records as of one edition of the index: after a change none of them is believed any more.
#[derive(Default)]
pub(super) struct Recent(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    edition: u64,
    closed: bool,
    records: HashMap<CryptletId, Known>,
}

impl Recent {
    /// What has to be the same still when something is kept that was read from now on.
    pub(super) fn edition(&self) -> u64 {
        self.kept().edition
    }

    pub(super) fn get(&self, cryptlet: CryptletId) -> Option<Known> {
        self.kept().records.get(&cryptlet).cloned()
    }

    /// Keeps what was read since `edition`, unless the index has changed meanwhile.
    pub(super) fn keep(&self, edition: u64, cryptlet: CryptletId, known: &Known) {
        let mut kept = self.kept();
        if kept.edition != edition || kept.closed {
            return;
        }
        if kept.records.len() >= MAX_KEPT {
            kept.records.clear();
        }
        kept.records.insert(cryptlet, known.clone());
    }

    /// The index is about to change: nothing is kept until it is known to have changed. A writer that is cancelled on the way
    /// leaves it so for the next one.
    pub(super) fn close(&self) {
        let mut kept = self.kept();
        kept.closed = true;
        kept.records.clear();
    }

    /// The index has changed.
    pub(super) fn open(&self) {
        let mut kept = self.kept();
        kept.edition = kept.edition.wrapping_add(1);
        kept.closed = false;
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Address;
    use cryptlet_types::register::CryptletRecord;

    const CRYPTLET: CryptletId = CryptletId(Address::ZERO);

    fn known() -> Known {
        Known {
            record: CryptletRecord {
                cryptlet: CRYPTLET,
                name: "one".into(),
                publisher: Address::ZERO,
                owner: Address::ZERO,
                revoked: false,
                versions: vec![],
                signers: vec![],
                hosts: vec![],
            },
            description: None,
            flaw: None,
        }
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let recent = Recent::default();
        let edition = recent.edition();
        recent.keep(edition, CRYPTLET, &known());
        assert!(recent.get(CRYPTLET).is_some());
        recent.close();
        assert!(recent.get(CRYPTLET).is_none());
        recent.keep(recent.edition(), CRYPTLET, &known());
        assert!(recent.get(CRYPTLET).is_none(), "while it changes");
        recent.open();
        recent.keep(edition, CRYPTLET, &known());
        assert!(recent.get(CRYPTLET).is_none(), "read before the change");
    }
}
