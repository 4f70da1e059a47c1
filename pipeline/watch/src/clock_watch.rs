//! Agenda and clock together: waits until something is due, then yields it.

use crate::{Agenda, Clock};
use cryptlet_types::Event;
use std::sync::Arc;

/// Yields events as the clock reaches them.
pub struct ClockWatch {
    /// The subscriptions in force; the host adds and removes as the delegate's logs say.
    pub agenda: Agenda,
    clock: Arc<dyn Clock>,
    batch: usize,
}

impl ClockWatch {
    /// Watches `agenda` by `clock`; at most `batch` events are yielded at once (at least one).
    #[must_use]
    pub fn new(agenda: Agenda, clock: Arc<dyn Clock>, batch: usize) -> Self {
        Self {
            agenda,
            clock,
            batch: batch.max(1),
        }
    }

    /// Waits until at least one event is due and takes the oldest ones, in order. Waits for ever while the agenda
    /// is empty. May be dropped at any point without losing an event: they are taken only as it returns.
    pub async fn next(&mut self) -> Vec<Event> {
        loop {
            let events = self.agenda.take_due(self.clock.now(), self.batch);
            if !events.is_empty() {
                return events;
            }
            match self.agenda.next_due() {
                Some(due) => self.clock.sleep_until(due).await,
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManualClock;
    use alloy_primitives::{Address, B256, Bytes, FixedBytes};
    use cryptlet_types::{ClockSpec, CryptletId, ReportDomain, Subject, Subscription, TriggerSpec};
    use std::time::Duration;

    #[tokio::test]
    async fn missed_events_come_one_by_one_and_later_ones_when_their_time_comes() {
        let domain = ReportDomain {
            chain_id: 1,
            delegate: Address::ZERO,
        };
        let mut agenda = Agenda::new(domain, Arc::default());
        let subscription = Subscription {
            subject: Subject(B256::ZERO),
            consumer: Address::ZERO,
            nonce: 0,
            cryptlet: CryptletId(Address::ZERO),
            on_behalf_of: Address::ZERO,
            callback: FixedBytes([1; 4]),
            callback_gas: 50_000,
            validity: 60,
            trigger: TriggerSpec::Clock(ClockSpec {
                cron: "0 * * * *".into(),
                time_zone: "UTC".into(),
            }),
            params: Bytes::new(),
            since: 1,
        };
        agenda.add(&subscription, None, 0).unwrap();
        let clock = Arc::new(ManualClock::new(3 * 3600));
        let mut watch = ClockWatch::new(agenda, clock.clone(), 2);
        let mut due = Vec::new();
        for _ in 0..2 {
            due.extend(watch.next().await.iter().map(|event| event.trigger.due()));
        }
        assert_eq!(due, [3600, 7200, 10800]);
        let early = tokio::time::timeout(Duration::from_millis(5), watch.next()).await;
        assert!(early.is_err(), "nothing is due");
        clock.advance_to(4 * 3600);
        assert_eq!(watch.next().await[0].trigger.due(), 14400);
    }
}
