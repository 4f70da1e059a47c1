//! Which subscriptions are due until when. Pure: the same subscriptions and the same times give the same events.

use crate::{Schedule, ScheduleError};
use cryptlet_types::{
    Event, ReportDomain, Subject, Subscription, Trigger, TriggerSpec, UnixSeconds,
};
use std::collections::{BTreeMap, BTreeSet};

/// The clock subscriptions in force, each with the moment until which its events were taken.
#[derive(Debug)]
pub struct Agenda {
    domain: ReportDomain,
    schedules: BTreeMap<Subject, Entry>,
    queue: BTreeSet<(UnixSeconds, Subject)>,
}

#[derive(Debug)]
struct Entry {
    schedule: Schedule,
    next: Option<UnixSeconds>,
}

impl Agenda {
    /// An empty agenda for the delegate that `domain` names.
    #[must_use]
    pub fn new(domain: ReportDomain) -> Self {
        Self {
            domain,
            schedules: BTreeMap::new(),
            queue: BTreeSet::new(),
        }
    }

    /// Adds a subscription, or replaces it. `fired_until`: the last moment for which an event was taken, as the
    /// journal has it; `None` if there was none yet, and then everything since the subscription's block is due.
    ///
    /// # Errors
    /// The schedule cannot be served; the agenda is as before.
    pub fn add(
        &mut self,
        subscription: &Subscription,
        fired_until: Option<UnixSeconds>,
    ) -> Result<(), ScheduleError> {
        let TriggerSpec::Clock(spec) = &subscription.trigger else {
            return Err(ScheduleError::Never);
        };
        let schedule = Schedule::parse(spec)?;
        self.remove(subscription.subject);
        let before_first = subscription.since.saturating_sub(1);
        let next = schedule.next_after(before_first.max(fired_until.unwrap_or(0)));
        self.queue
            .extend(next.map(|due| (due, subscription.subject)));
        self.schedules
            .insert(subscription.subject, Entry { schedule, next });
        Ok(())
    }

    /// Takes a subscription out. Returns whether it was in.
    pub fn remove(&mut self, subject: Subject) -> bool {
        let Some(entry) = self.schedules.remove(&subject) else {
            return false;
        };
        if let Some(due) = entry.next {
            self.queue.remove(&(due, subject));
        }
        true
    }

    /// How many subscriptions are in force.
    #[must_use]
    pub fn len(&self) -> usize {
        self.schedules.len()
    }

    /// Whether no subscription is in force.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.schedules.is_empty()
    }

    /// When the next event is due, be it in the past or the future.
    #[must_use]
    pub fn next_due(&self) -> Option<UnixSeconds> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// Takes the events that are due at `now`, oldest first (of one moment, by subject), at most `limit`. Each is
    /// taken once; what `limit` leaves behind comes with the next call.
    pub fn take_due(&mut self, now: UnixSeconds, limit: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < limit && self.next_due().is_some_and(|due| due <= now) {
            let Some((due, subject)) = self.queue.pop_first() else {
                break;
            };
            events.push(Event::new(&self.domain, subject, Trigger::Clock { due }));
            if let Some(entry) = self.schedules.get_mut(&subject) {
                entry.next = entry.schedule.next_after(due);
                self.queue.extend(entry.next.map(|next| (next, subject)));
            }
        }
        events
    }
}

/// When `subscription` is due next, if its events were taken until `fired_until`; none if its schedule cannot be served or
/// has an end.
#[must_use]
pub fn next_due(subscription: &Subscription, fired_until: UnixSeconds) -> Option<UnixSeconds> {
    let TriggerSpec::Clock(spec) = &subscription.trigger else {
        return None;
    };
    let schedule = Schedule::parse(spec).ok()?;
    schedule.next_after(subscription.since.saturating_sub(1).max(fired_until))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, B256, Bytes, FixedBytes};
    use cryptlet_types::{ClockSpec, CryptletId};
    use proptest::prelude::*;

    fn subscription(subject: u8, cron: &str, since: UnixSeconds) -> Subscription {
        Subscription {
            subject: Subject(B256::repeat_byte(subject)),
            consumer: Address::ZERO,
            nonce: 0,
            cryptlet: CryptletId(Address::ZERO),
            on_behalf_of: Address::ZERO,
            callback: FixedBytes([1; 4]),
            callback_gas: 50_000,
            validity: 60,
            trigger: TriggerSpec::Clock(ClockSpec {
                cron: cron.into(),
                time_zone: "UTC".into(),
            }),
            params: Bytes::new(),
            since,
        }
    }

    fn agenda() -> Agenda {
        Agenda::new(ReportDomain {
            chain_id: 31337,
            delegate: Address::repeat_byte(7),
        })
    }

    fn dues(events: &[Event]) -> Vec<(UnixSeconds, u8)> {
        events
            .iter()
            .map(|event| (event.trigger.due(), event.subject.0[0]))
            .collect()
    }

    #[test]
    fn events_come_in_order_of_time_then_subject_and_once_each() {
        let mut agenda = agenda();
        agenda.add(&subscription(2, "* * * * *", 60), None).unwrap();
        agenda
            .add(&subscription(1, "*/2 * * * *", 60), None)
            .unwrap();
        assert_eq!(
            dues(&agenda.take_due(240, 3)),
            [(60, 2), (120, 1), (120, 2)]
        );
        assert_eq!(
            dues(&agenda.take_due(240, 10)),
            [(180, 2), (240, 1), (240, 2)]
        );
        assert_eq!(agenda.take_due(299, 10), []);
        assert_eq!(agenda.next_due(), Some(300));
    }

    #[test]
    fn nothing_before_the_subscription_and_nothing_twice_after_a_restart() {
        let mut agenda = agenda();
        agenda
            .add(&subscription(1, "* * * * *", 121), None)
            .unwrap();
        assert_eq!(agenda.next_due(), Some(180));
        agenda
            .add(&subscription(1, "* * * * *", 121), Some(240))
            .unwrap();
        assert_eq!(dues(&agenda.take_due(300, 10)), [(300, 1)]);
    }

    #[test]
    fn what_was_removed_is_not_due() {
        let mut agenda = agenda();
        agenda.add(&subscription(1, "* * * * *", 0), None).unwrap();
        assert!(agenda.remove(Subject(B256::repeat_byte(1))));
        assert!(!agenda.remove(Subject(B256::repeat_byte(1))));
        assert_eq!(agenda.take_due(u64::MAX, 10), []);
        assert!(agenda.is_empty());
    }

    #[test]
    fn a_schedule_that_cannot_be_served_changes_nothing() {
        let mut agenda = agenda();
        agenda.add(&subscription(1, "* * * * *", 0), None).unwrap();
        assert!(agenda.add(&subscription(1, "* * *", 0), None).is_err());
        assert_eq!(agenda.len(), 1);
        assert_eq!(agenda.next_due(), Some(60));
    }

    proptest! {
        #[test]
        fn interruptions_and_restarts_neither_lose_nor_double(
            steps in prop::collection::vec((0_u64..600, 1_usize..5, any::<bool>()), 1..40),
        ) {
            let all = [subscription(1, "*/3 * * * *", 0), subscription(2, "* * * * *", 200)];
            let mut agenda = agenda();
            let mut fired = BTreeMap::new();
            for subscription in &all {
                agenda.add(subscription, None).unwrap();
            }
            let (mut now, mut seen) = (0, Vec::new());
            for (pause, limit, restart) in steps {
                now += pause;
                for event in agenda.take_due(now, limit) {
                    fired.insert(event.subject, event.trigger.due());
                    seen.push(event);
                }
                if restart {
                    agenda = self::agenda();
                    for subscription in &all {
                        agenda.add(subscription, fired.get(&subscription.subject).copied()).unwrap();
                    }
                }
            }
            seen.extend(agenda.take_due(now, usize::MAX));
            let mut expected: Vec<_> = (1..=now / 60).map(|n| n * 60).filter(|due| due % 180 == 0).map(|due| (due, 1)).collect();
            expected.extend((1..=now / 60).map(|n| n * 60).filter(|due| *due >= 200).map(|due| (due, 2)));
            expected.sort_unstable();
            prop_assert_eq!(dues(&seen), expected);
        }
    }
}
