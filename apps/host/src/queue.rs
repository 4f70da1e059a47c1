//! The jobs of one cryptlet that are to be run, in the order in which they came; pure.
//!
//! A subscription that has to wait (its run failed, its report is to be delivered first) lets the others pass. Its own jobs
//! never pass one another.

use cryptlet_types::Subject;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tokio::time::Instant;

/// Jobs by their numbers in the journal.
#[derive(Default)]
pub(crate) struct Queue {
    ready: BTreeMap<u64, Subject>,
    held: HashMap<Subject, Held>,
}

#[derive(Default)]
struct Held {
    /// When it may go on; none: when it is told to.
    until: Option<Instant>,
    jobs: BTreeSet<u64>,
}

impl Queue {
    /// Adds a job.
    pub(crate) fn push(&mut self, number: u64, subject: Subject) {
        match self.held.get_mut(&subject) {
            Some(held) => {
                held.jobs.insert(number);
            }
            None => {
                self.ready.insert(number, subject);
            }
        }
    }

    /// Whether there may be one that need not wait.
    pub(crate) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes the oldest jobs that need not wait, at most `limit`.
    pub(crate) fn take(&mut self, limit: usize) -> Vec<(u64, Subject)> {
        let mut taken = Vec::new();
        while taken.len() < limit {
            let Some((number, subject)) = self.ready.pop_first() else {
                break;
            };
            match self.held.get_mut(&subject) {
                Some(held) => {
                    held.jobs.insert(number);
                }
                None => taken.push((number, subject)),
            }
        }
        taken
    }

    /// Has the subscription wait until `until`, or until it is told to go on.
    pub(crate) fn hold(&mut self, subject: Subject, until: Option<Instant>) {
        self.held.entry(subject).or_default().until = until;
    }

    /// Whether the subscription waits.
    pub(crate) fn holds(&self, subject: Subject) -> bool {
        self.held.contains_key(&subject)
    }

    /// Lets the subscription go on.
    pub(crate) fn release(&mut self, subject: Subject) {
        if let Some(held) = self.held.remove(&subject) {
            let jobs = held.jobs.into_iter();
            self.ready.extend(jobs.map(|number| (number, subject)));
        }
    }

    /// Lets go on whoever has waited long enough.
    pub(crate) fn wake(&mut self, now: Instant) {
        let due = |held: &Held| held.until.is_some_and(|until| until <= now);
        let over: Vec<_> = self
            .held
            .iter()
            .filter(|(_, held)| due(held))
            .map(|(subject, _)| *subject)
            .collect();
        for subject in over {
            self.release(subject);
        }
    }

    /// When somebody will have waited long enough.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.held.values().filter_map(|held| held.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use std::time::Duration;

    const ONE: Subject = Subject(B256::repeat_byte(1));
    const TWO: Subject = Subject(B256::repeat_byte(2));

    fn numbers(taken: Vec<(u64, Subject)>) -> Vec<u64> {
        taken.into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn who_waits_lets_the_others_pass_and_keeps_its_own_order() {
        let mut queue = Queue::default();
        for (number, subject) in [(3, ONE), (1, ONE), (2, TWO)] {
            queue.push(number, subject);
        }
        assert_eq!(numbers(queue.take(1)), [1]);
        queue.hold(ONE, None);
        queue.push(1, ONE);
        queue.push(4, TWO);
        queue.push(5, ONE);
        assert!(queue.is_ready());
        assert_eq!(numbers(queue.take(10)), [2, 4]);
        assert!(queue.holds(ONE) && !queue.is_ready());
        queue.release(ONE);
        assert_eq!(numbers(queue.take(10)), [1, 3, 5]);
        assert_eq!(numbers(queue.take(10)), [0; 0]);
    }

    #[tokio::test]
    async fn who_waits_for_a_time_goes_on_by_itself() {
        let mut queue = Queue::default();
        let until = Instant::now() + Duration::from_secs(1);
        queue.push(1, ONE);
        queue.hold(ONE, Some(until));
        queue.hold(TWO, None);
        queue.wake(until - Duration::from_millis(1));
        assert_eq!(queue.next_wake(), Some(until));
        assert_eq!(numbers(queue.take(10)), [0; 0]);
        queue.wake(until);
        assert_eq!(numbers(queue.take(10)), [1]);
        assert!(queue.holds(TWO), "it waits to be told");
    }
}
