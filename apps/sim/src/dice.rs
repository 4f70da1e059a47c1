//! All the chance of a simulation, from one seed.
//!
//! Each place that needs chance has a stream of its own, by name. A place that is added, or asked more often, therefore changes
//! nothing for the others.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{Mutex, PoisonError},
};

/// A place that needs chance, and what for.
type Place = (&'static str, &'static str);

/// Chance that can be repeated.
#[derive(Debug)]
pub struct Dice {
    seed: u64,
    thrown: Mutex<BTreeMap<Place, u64>>,
}

impl Dice {
    /// The dice of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            thrown: Mutex::default(),
        }
    }

    /// The next 64 bits for `what` at `place`.
    #[must_use]
    pub fn throw(&self, place: &'static str, what: &'static str) -> u64 {
        let mut thrown = self.thrown.lock().unwrap_or_else(PoisonError::into_inner);
        let count = thrown.entry((place, what)).or_default();
        *count = count.wrapping_add(1);
        let stream = hash(place.as_bytes()) ^ hash(what.as_bytes()).rotate_left(32);
        mixed(mixed(self.seed ^ stream).wrapping_add(*count))
    }

    /// A number of `range`; both ends may come.
    #[must_use]
    pub fn between(
        &self,
        place: &'static str,
        what: &'static str,
        range: RangeInclusive<u64>,
    ) -> u64 {
        let (least, most) = range.into_inner();
        let count = most.saturating_sub(least).saturating_add(1);
        let thrown = self.throw(place, what).checked_rem(count);
        least.saturating_add(thrown.unwrap_or_default())
    }

    /// Whether what happens `in_a_million` times in a million happens now.
    #[must_use]
    pub fn happens(&self, place: &'static str, what: &'static str, in_a_million: u64) -> bool {
        self.between(place, what, 0..=999_999) < in_a_million
    }

    /// One of four; say one twice where it is to come twice as often.
    #[must_use]
    pub fn choice<T>(&self, place: &'static str, what: &'static str, choices: [T; 4]) -> T {
        let [first, second, third, fourth] = choices;
        match self.between(place, what, 0..=3) {
            0 => first,
            1 => second,
            2 => third,
            _ => fourth,
        }
    }
}

/// FNV-1a, 64 bits.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    hash_on(0xcbf2_9ce4_8422_2325, bytes)
}

/// FNV-1a, 64 bits, from where an earlier one stopped.
#[must_use]
pub fn hash_on(start: u64, bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(start, step)
}

/// `SplitMix64`'s finish: every bit of the input changes every bit of the output.
#[must_use]
pub fn mixed(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_asked_more_often_changes_nothing_for_the_others() {
        let (one, other) = (Dice::new(7), Dice::new(7));
        for _ in 0..100 {
            let _more = other.throw("b", "x");
        }
        let throws = |dice: &Dice| [(); 5].map(|()| dice.throw("a", "x"));
        assert_eq!(throws(&one), throws(&other));
        assert_ne!(throws(&one), throws(&Dice::new(8)));
    }

    #[test]
    fn both_ends_come_and_nothing_beyond() {
        let dice = Dice::new(1);
        let mut seen = BTreeMap::new();
        for _ in 0..1000 {
            *seen.entry(dice.between("a", "n", 3..=6)).or_insert(0) += 1;
        }
        assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [3, 4, 5, 6]);
        assert!(!dice.happens("a", "never", 0));
        assert!(dice.happens("a", "always", 1_000_000));
    }
}
