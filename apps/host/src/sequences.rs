//! Which number a subscription's next report gets.
//!
//! Reports of one subscription may be on their way at the same time: the next number is the lowest that neither the delegate has
//! consumed nor a report on its way holds. What the delegate has consumed is asked once and counted on from there; whatever
//! does not go as expected has it asked again.

use cryptlet_types::Subject;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Subscriptions that are remembered though nothing of them is on its way; beyond that all such are asked for again.
const MAX_IDLE: usize = 100_000;

/// Numbers by subscription.
#[derive(Default)]
pub(crate) struct Sequences(Mutex<HashMap<Subject, Known>>);

#[derive(Default)]
struct Known {
    /// How many reports the delegate has consumed; none where it has to be asked.
    consumed: Option<u64>,
    /// The highest number that was consumed since blocks were last taken back: what an older answer does not know.
    floor: u64,
    /// Numbers of reports that are on their way.
    live: BTreeSet<u64>,
}

impl Sequences {
    /// The next report's number; none if the delegate has to be asked first.
    pub(crate) fn next(&self, subject: Subject) -> Option<u64> {
        let known = self.known();
        let Known { consumed, live, .. } = known.get(&subject)?;
        let first = consumed.as_ref()?.saturating_add(1);
        (first..).find(|number| !live.contains(number))
    }

    /// The delegate has consumed that many.
    pub(crate) fn learn(&self, subject: Subject, consumed: u64) {
        let mut known = self.known();
        if known.len() >= MAX_IDLE {
            known.retain(|_, known| !known.live.is_empty());
        }
        let entry = known.entry(subject).or_default();
        // What was counted here meanwhile may be newer than an answer that was long in coming.
        let known = entry.consumed.unwrap_or(entry.floor);
        entry.consumed = Some(known.max(consumed));
    }

    /// A report with this number is on its way. Says whether none was before.
    pub(crate) fn hold(&self, subject: Subject, number: u64) -> bool {
        self.known().entry(subject).or_default().live.insert(number)
    }

    /// The delegate has consumed the report with this number.
    pub(crate) fn consumed(&self, subject: Subject, number: u64) {
        if let Some(known) = self.known().get_mut(&subject) {
            known.live.remove(&number);
            known.consumed = known.consumed.map(|consumed| consumed.max(number));
            known.floor = known.floor.max(number);
        }
    }

    /// The report with this number will not come, or by somebody else: the delegate is asked again.
    pub(crate) fn free(&self, subject: Subject, number: u64) {
        if let Some(known) = self.known().get_mut(&subject) {
            known.live.remove(&number);
            known.consumed = None;
        }
    }

    /// Blocks were taken back: everything is asked again.
    pub(crate) fn doubt(&self) {
        for known in self.known().values_mut() {
            known.consumed = None;
            known.floor = 0;
        }
    }

    /// Whether reports are on their way that the delegate consumes first, so that it cannot be asked about this number yet, but
    /// will expect it then, as far as is known.
    pub(crate) fn expects(&self, subject: Subject, number: u64) -> bool {
        let known = self.known();
        let Some(Known { consumed, live, .. }) = known.get(&subject) else {
            return false;
        };
        let Some(consumed) = consumed else {
            return false;
        };
        let mut before = consumed.saturating_add(1)..number;
        !before.is_empty() && before.all(|before| live.contains(&before))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Subject, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;

    const SUBJECT: Subject = Subject(B256::ZERO);

    #[test]
    fn numbers_follow_one_another_without_a_question() {
        let sequences = Sequences::default();
        assert_eq!(sequences.next(SUBJECT), None, "the delegate is asked first");
        sequences.learn(SUBJECT, 4);
        for number in 5..8 {
            assert_eq!(sequences.next(SUBJECT), Some(number));
            assert!(sequences.hold(SUBJECT, number));
            assert!(!sequences.hold(SUBJECT, number));
            assert_eq!(sequences.expects(SUBJECT, number), number > 5);
        }
        sequences.consumed(SUBJECT, 5);
        sequences.consumed(SUBJECT, 6);
        assert_eq!(sequences.next(SUBJECT), Some(8));
        assert!(!sequences.expects(SUBJECT, 9), "7 is on its way, 8 is not");
    }

    #[test]
    fn a_number_that_became_free_is_given_out_again() {
        let sequences = Sequences::default();
        sequences.learn(SUBJECT, 0);
        for number in 1..=3 {
            assert!(sequences.hold(SUBJECT, number));
        }
        sequences.free(SUBJECT, 1);
        assert_eq!(sequences.next(SUBJECT), None);
        sequences.learn(SUBJECT, 0);
        assert_eq!(sequences.next(SUBJECT), Some(1));
        assert!(!sequences.expects(SUBJECT, 2));
    }

    #[test]
    fn an_old_answer_does_not_take_a_number_back() {
        let sequences = Sequences::default();
        sequences.learn(SUBJECT, 1);
        assert!(sequences.hold(SUBJECT, 2));
        sequences.consumed(SUBJECT, 2);
        sequences.learn(SUBJECT, 1);
        assert_eq!(sequences.next(SUBJECT), Some(3));
        // Nor does one that was asked for since, and was longer in coming than the delivery.
        sequences.free(SUBJECT, 9);
        sequences.learn(SUBJECT, 1);
        assert_eq!(sequences.next(SUBJECT), Some(3));
        sequences.doubt();
        assert_eq!(sequences.next(SUBJECT), None);
        sequences.learn(SUBJECT, 1);
        assert_eq!(sequences.next(SUBJECT), Some(2));
    }
}
