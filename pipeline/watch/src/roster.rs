//! Subscriptions by subject, in as little memory as it takes: a value's place is four bytes, its subject is kept once.

use cryptlet_types::Subject;
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

/// Values by subject, each at a place that stays its own until it is removed.
#[derive(Debug)]
pub(crate) struct Roster<T> {
    slots: Vec<Option<(Subject, T)>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    /// Seeded at random: whoever subscribes cannot choose subjects that collide.
    hasher: RandomState,
}

impl<T> Default for Roster<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher: RandomState::new(),
        }
    }
}

impl<T> Roster<T> {
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn place(&self, subject: Subject) -> Option<u32> {
        let same = |place: &u32| self.at(*place).is_some_and(|(known, _)| *known == subject);
        self.index
            .find(self.hasher.hash_one(subject), same)
            .copied()
    }

    pub(crate) fn get(&self, subject: Subject) -> Option<&T> {
        self.at(self.place(subject)?).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, subject: Subject) -> Option<&mut T> {
        let place = self.place(subject)?;
        self.at_mut(place)
    }

    pub(crate) fn at(&self, place: u32) -> Option<&(Subject, T)> {
        self.slots.get(index(place))?.as_ref()
    }

    pub(crate) fn at_mut(&mut self, place: u32) -> Option<&mut T> {
        let slot = self.slots.get_mut(index(place))?.as_mut();
        slot.map(|(_, value)| value)
    }

    /// Puts `value` at a new place. The subject must not be in. None if there is no place left (four thousand million).
    pub(crate) fn insert(&mut self, subject: Subject, value: T) -> Option<u32> {
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                let place = u32::try_from(self.slots.len()).ok()?;
                self.grow();
                self.slots.push(None);
                place
            }
        };
        if let Some(slot) = self.slots.get_mut(index(place)) {
            *slot = Some((subject, value));
        }
        let (slots, hasher) = (&self.slots, &self.hasher);
        let hash = |place: &u32| {
            let slot = slots.get(index(*place)).and_then(Option::as_ref);
            slot.map_or(0, |(subject, _)| hasher.hash_one(subject))
        };
        self.index
            .insert_unique(hasher.hash_one(subject), place, hash);
        Some(place)
    }

    pub(crate) fn remove(&mut self, subject: Subject) -> Option<(u32, T)> {
        let slots = &self.slots;
        let same = |place: &u32| {
            let slot = slots.get(index(*place)).and_then(Option::as_ref);
            slot.is_some_and(|(known, _)| *known == subject)
        };
        let found = self.index.find_entry(self.hasher.hash_one(subject), same);
        let (place, _) = found.ok()?.remove();
        let (_, value) = self.slots.get_mut(index(place))?.take()?;
        self.free.push(place);
        Some((place, value))
    }

    /// By an eighth: doubling would hold twice what is needed.
    fn grow(&mut self) {
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact((self.slots.len() / 8).max(64));
        }
    }
}

/// A place as an index. 32 bits fit everywhere that this program runs.
pub(crate) fn index(place: u32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn a_roster_is_a_map(steps in prop::collection::vec((0_u8..20, any::<bool>(), any::<u16>()), 0..200)) {
            let (mut roster, mut map) = (Roster::default(), BTreeMap::new());
            for (subject, add, value) in steps {
                let subject = Subject(B256::repeat_byte(subject));
                if add && roster.place(subject).is_none() {
                    prop_assert!(roster.insert(subject, value).is_some());
                    map.insert(subject, value);
                } else if !add {
                    prop_assert_eq!(roster.remove(subject).map(|(_, value)| value), map.remove(&subject));
                }
                prop_assert_eq!(roster.len(), map.len());
                for subject in 0..20 {
                    let subject = Subject(B256::repeat_byte(subject));
                    prop_assert_eq!(roster.get(subject), map.get(&subject));
                    if let Some(place) = roster.place(subject) {
                        prop_assert_eq!(roster.at(place).map(|(subject, _)| *subject), Some(subject));
                    }
                }
            }
        }
    }
}
