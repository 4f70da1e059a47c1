//! Where regions wait for their next job.

use super::Live;
use cryptlet_types::CryptletId;
use std::{collections::HashMap, sync::Arc};
use tokio::sync::Mutex;

/// Place of a region, and who has a turn with it.
pub(super) type Slot = Arc<Mutex<Option<Live>>>;

/// Most cryptlets whose regions are kept for their next job; beyond that, the one that was idle longest makes room.
pub(super) const MAX_SLOTS: usize = 256;

/// Places of regions, one a cryptlet, each with when it was last asked for.
#[derive(Default)]
pub(super) struct Slots {
    pub(super) places: HashMap<CryptletId, (Slot, u64)>,
    asked: u64,
}

impl Slots {
    /// The one of a cryptlet.
    pub(super) fn of(&mut self, cryptlet: CryptletId) -> Slot {
        self.asked = self.asked.saturating_add(1);
        if !self.places.contains_key(&cryptlet) {
            self.cut_to(MAX_SLOTS - 1);
        }
        let (slot, last) = self.places.entry(cryptlet).or_default();
        *last = self.asked;
        slot.clone()
    }

    /// Drops regions, those first that were idle longest, until no more than `most` are left; whether that could be done. One
    /// that somebody holds is not idle.
    pub(super) fn cut_to(&mut self, most: usize) -> bool {
        while self.places.len() > most {
            let idle = self.places.iter();
            let idle = idle.filter(|(_, (slot, _))| Arc::strong_count(slot) == 1);
            let longest = idle.min_by_key(|(_, (_, last))| *last);
            let Some(cryptlet) = longest.map(|(cryptlet, _)| *cryptlet) else {
                return false;
            };
            self.places.remove(&cryptlet);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Address;

    fn cryptlet(number: usize) -> CryptletId {
        CryptletId(Address::left_padding_from(&number.to_be_bytes()))
    }

    #[test]
    fn the_place_that_was_idle_longest_makes_room_and_none_that_is_held() {
        let mut slots = Slots::default();
        let held = slots.of(cryptlet(0));
        for number in 1..MAX_SLOTS {
            slots.of(cryptlet(number));
        }
        slots.of(cryptlet(1));
        slots.of(cryptlet(MAX_SLOTS));
        assert_eq!(slots.places.len(), MAX_SLOTS);
        assert!(slots.places.contains_key(&cryptlet(0)));
        assert!(slots.places.contains_key(&cryptlet(1)));
        assert!(!slots.places.contains_key(&cryptlet(2)));
        assert!(Arc::ptr_eq(&held, &slots.of(cryptlet(0))));
    }

    #[test]
    fn after_more_cryptlets_were_due_than_may_keep_regions_the_rest_goes() {
        let mut slots = Slots::default();
        let held: Vec<_> = (0..MAX_SLOTS * 2)
            .map(|number| slots.of(cryptlet(number)))
            .collect();
        assert_eq!(slots.places.len(), held.len());
        assert!(!slots.cut_to(MAX_SLOTS), "all are waited for");
        drop(held);
        assert!(slots.cut_to(MAX_SLOTS));
        assert_eq!(slots.places.len(), MAX_SLOTS);
        assert!(slots.places.contains_key(&cryptlet(MAX_SLOTS * 2 - 1)));
    }
}
