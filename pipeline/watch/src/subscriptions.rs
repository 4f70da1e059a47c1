//! All subscriptions that are in force, of every kind, and the events that they are due. Pure.
//!
//! What is kept of a subscription is its subject and what tells when it is due; the rest is read from the journal where it is
//! needed. Measured with a million of all kinds mixed: `benches/million.rs`, figures in `docs/benchmarks.md`.

use crate::{
    Agenda, Applications, BlockMatcher, Calendars, LogMatcher, ScheduleError, State, Thresholds,
};
use cryptlet_types::{
    Event, ReportDomain, Subject, Subscription, Trigger, TriggerSpec, UnixSeconds,
    event::{BlockEntry, LogEntry, Message, Observation},
    subscription::Finality,
};
use std::sync::Arc;

/// What the journal knows of a subscription; the default for one that is new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The last moment for which an event was taken.
    pub fired_until: Option<UnixSeconds>,
    /// Where it stands with its bound, once it has fired.
    pub threshold: Option<State>,
    /// It is paused.
    pub paused: bool,
}

/// Why a subscription is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// Its schedule cannot be served.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// There is no room for another one of its kind.
    #[error("subscription: {} are in force already", u32::MAX)]
    Full,
}

impl AddError {
    /// Whether trying again can help: not with the schedule, and else when others have ended.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Schedule(error) => error.is_retryable(),
            Self::Full => true,
        }
    }
}

/// The subscriptions in force. Where its methods do not say enough, its parts do.
#[derive(Debug)]
pub struct Subscriptions {
    domain: ReportDomain,
    /// Those by the clock.
    pub agenda: Agenda,
    /// Those to a feed's value.
    pub thresholds: Thresholds,
    /// Those to logs.
    pub logs: LogMatcher,
    /// Those to blocks.
    pub blocks: BlockMatcher,
    /// Those to messages.
    pub applications: Applications,
}

impl Subscriptions {
    /// None, at the delegate that `domain` names, by these calendars.
    #[must_use]
    pub fn new(domain: ReportDomain, calendars: Arc<Calendars>) -> Self {
        Self {
            domain,
            agenda: Agenda::new(domain, calendars),
            thresholds: Thresholds::new(),
            logs: LogMatcher::new(),
            blocks: BlockMatcher::new(),
            applications: Applications::new(),
        }
    }

    /// Adds a subscription, or replaces it. Of a request nothing is kept: its only event is returned, unless it was taken
    /// before or the request is paused; then [`Subscriptions::request`] makes it when the pause ends.
    ///
    /// # Errors
    /// Says what cannot be served.
    pub fn add(
        &mut self,
        subscription: &Subscription,
        restored: &Restored,
        now: UnixSeconds,
    ) -> Result<Option<Event>, AddError> {
        let room = match &subscription.trigger {
            TriggerSpec::Clock(_)
            | TriggerSpec::Instants(_)
            | TriggerSpec::Schedule(_)
            | TriggerSpec::Interval(_) => {
                self.agenda.add(subscription, restored.fired_until, now)?;
                true
            }
            TriggerSpec::Threshold(spec) => {
                self.thresholds.add(subscription, spec, restored.threshold)
            }
            TriggerSpec::Log(spec) => self.logs.add(subscription, spec),
            TriggerSpec::Blocks(spec) => self.blocks.add(subscription, spec),
            TriggerSpec::Application(spec) => self.applications.add(subscription, spec),
            TriggerSpec::Request => {
                let due = restored.fired_until.is_none() && !restored.paused;
                return Ok(self.request(subscription).filter(|_| due));
            }
        };
        if !room {
            return Err(AddError::Full);
        }
        if restored.paused {
            self.pause(subscription.subject);
        }
        Ok(None)
    }

    /// The one event of a request; none of another subscription.
    #[must_use]
    pub fn request(&self, subscription: &Subscription) -> Option<Event> {
        let at = subscription.since;
        let request = subscription.trigger == TriggerSpec::Request;
        request.then(|| Event::new(&self.domain, subscription.subject, Trigger::Request { at }))
    }

    /// Takes a subscription out. Returns whether it was in.
    pub fn remove(&mut self, subject: Subject) -> bool {
        self.agenda.remove(subject)
            || self.thresholds.remove(subject)
            || self.logs.remove(subject)
            || self.blocks.remove(subject)
            || self.applications.remove(subject)
    }

    /// Lets nothing be due for a subscription until it is resumed. Returns whether it is in.
    pub fn pause(&mut self, subject: Subject) -> bool {
        self.agenda.pause(subject)
            || self.thresholds.pause(subject)
            || self.logs.pause(subject)
            || self.blocks.pause(subject)
            || self.applications.pause(subject)
    }

    /// Ends a pause, at `at`. What came due before is not made up for. Returns whether it is in.
    pub fn resume(&mut self, subject: Subject, at: UnixSeconds) -> bool {
        self.agenda.resume(subject, at)
            || self.thresholds.resume(subject)
            || self.logs.resume(subject)
            || self.blocks.resume(subject)
            || self.applications.resume(subject)
    }

    /// How many subscriptions are in force, paused ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.agenda.len()
            + self.thresholds.len()
            + self.logs.len()
            + self.blocks.len()
            + self.applications.len()
    }

    /// Whether none is in force.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When the clock has to be looked at next: an event is due, or a feed is to be observed.
    #[must_use]
    pub fn next_due(&self) -> Option<UnixSeconds> {
        let times = [self.agenda.next_due(), self.thresholds.next_due()];
        times.into_iter().flatten().min()
    }

    /// The events of those whose bound the value has crossed, by subject.
    pub fn observe(&mut self, observation: &Observation) -> Vec<Event> {
        let subjects = self.thresholds.observe(observation);
        let observation = observation.clone();
        self.events(subjects, &Trigger::Threshold { observation })
    }

    /// The events of a log that was seen at `finality`, by subject.
    #[must_use]
    pub fn log(&self, log: &LogEntry, finality: Finality) -> Vec<Event> {
        let subjects = self.logs.subjects(log, finality);
        self.events(subjects, &Trigger::Log(log.clone()))
    }

    /// The events of a block that was seen at `finality`, by subject.
    #[must_use]
    pub fn block(&self, block: &BlockEntry, finality: Finality) -> Vec<Event> {
        let subjects = self.blocks.subjects(block, finality);
        self.events(subjects, &Trigger::Block(*block))
    }

    /// The events of an application's message, by subject.
    #[must_use]
    pub fn message(&self, message: &Message) -> Vec<Event> {
        let subjects = self.applications.subjects(message);
        self.events(subjects, &Trigger::Application(message.clone()))
    }

    fn events(&self, subjects: Vec<Subject>, trigger: &Trigger) -> Vec<Event> {
        let subjects = subjects.into_iter();
        subjects
            .map(|subject| Event::new(&self.domain, subject, trigger.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests;
