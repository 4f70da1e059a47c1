//! Which subscriptions are due until when. Pure: the same subscriptions and the same times give the same events.
//!
//! **Missed moments.** A subscription that catches up is due for every moment since its block, or since the last one for which an
//! event was taken, one by one. One that skips is due only from the moment on at which it was added: what was missed while nobody
//! watched stays missed, the latest included. What comes due while it is on the agenda is never left out, however late it is
//! asked for: a chain's clock leaps from block to block.
//!
//! **Pauses.** What falls into a pause is not made up for, whatever the subscription says, nor is what nobody had taken when the
//! pause began: while it lasts, no report would be delivered.
//!
//! **A million of them.** Schedules that are equal are kept once, and remember the last answers, which are those of all who share
//! them. An entry is a subject, a moment and a number. Measured with a million subscriptions (`benches/million.rs`, resident memory):
//! 146 bytes each with shared schedules, about 60 of them in the queue, a B-tree: a heap would be smaller, and could not give up what
//! ends.

use crate::{
    Calendars, End, Schedule, ScheduleError,
    roster::{Roster, index},
    schedule::next_in_phase,
};
use cryptlet_types::{
    Event, ReportDomain, Subject, Subscription, Trigger, TriggerSpec, UnixSeconds,
    subscription::Missed,
};
use hashbrown::HashTable;
use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

/// The subscriptions by the clock that are in force, each with the moment until which its events were taken.
#[derive(Debug)]
pub struct Agenda {
    domain: ReportDomain,
    entries: Roster<Entry>,
    queue: BTreeSet<(UnixSeconds, Subject)>,
    schedules: Schedules,
    ended: Vec<(Subject, End)>,
}

#[derive(Debug)]
struct Entry {
    timing: Timing,
    /// The next moment; a paused one's as it was. [`NEVER`]: none.
    next: UnixSeconds,
    paused: bool,
}

const NEVER: UnixSeconds = UnixSeconds::MAX;

#[derive(Clone, Copy, Debug)]
enum Timing {
    /// Place among the schedules that several may share.
    Shared(u32),
    /// Every so many seconds; the phase is that of the next moment.
    Every(u64),
}

impl Agenda {
    /// An empty agenda for the delegate that `domain` names, by these calendars.
    #[must_use]
    pub fn new(domain: ReportDomain, calendars: Arc<Calendars>) -> Self {
        Self {
            domain,
            entries: Roster::default(),
            queue: BTreeSet::new(),
            schedules: Schedules::new(calendars),
            ended: Vec::new(),
        }
    }

    /// Adds a subscription, or replaces it. `fired_until`: the last moment for which an event was taken, as the
    /// journal has it; `None` if there was none yet, and then everything since the subscription's block is due.
    /// `now` is from when on one is due that skips what it missed.
    ///
    /// # Errors
    /// The schedule cannot be served; the agenda is as before. A subscription that has had events is not refused because a
    /// calendar's data have ended meanwhile: it stays, without a moment, and [`Agenda::take_ended`] tells of it.
    pub fn add(
        &mut self,
        subscription: &Subscription,
        fired_until: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> Result<(), ScheduleError> {
        let subject = subscription.subject;
        let mut after = subscription.since.saturating_sub(1);
        after = after.max(fired_until.unwrap_or(0));
        if skips(&subscription.trigger) {
            after = after.max(now.saturating_sub(1));
        }
        let (timing, next) = self.schedules.timing(subscription, after)?;
        if let (Timing::Shared(place), None, Err(end @ End::Unknown { .. })) =
            (timing, fired_until, &next)
        {
            self.schedules.release(place);
            return Err(ScheduleError::Ended(end.clone()));
        }
        self.remove(subject);
        let entry = Entry {
            timing,
            next: NEVER,
            paused: false,
        };
        self.entries.insert(subject, entry);
        self.set_next(subject, next);
        Ok(())
    }

    /// Takes a subscription out. Returns whether it was in.
    pub fn remove(&mut self, subject: Subject) -> bool {
        let Some((_, entry)) = self.entries.remove(subject) else {
            return false;
        };
        self.queue.remove(&(entry.next, subject));
        if let Timing::Shared(place) = entry.timing {
            self.schedules.release(place);
        }
        true
    }

    /// Lets nothing be due for a subscription until it is resumed. Returns whether it is in.
    pub fn pause(&mut self, subject: Subject) -> bool {
        let Some(entry) = self.entries.get_mut(subject) else {
            return false;
        };
        entry.paused = true;
        self.queue.remove(&(entry.next, subject));
        true
    }

    /// Ends a pause: due is what comes from `at` on. One that is not paused stays as it is. Returns whether it is in.
    pub fn resume(&mut self, subject: Subject, at: UnixSeconds) -> bool {
        let Some(entry) = self.entries.get_mut(subject) else {
            return false;
        };
        if !entry.paused {
            return true;
        }
        entry.paused = false;
        let (timing, last) = (entry.timing, entry.next);
        if last != NEVER {
            let next = self
                .schedules
                .next(timing, last, at.max(last).saturating_sub(1));
            self.set_next(subject, next);
        }
        true
    }

    /// How many subscriptions are in force, paused ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no subscription is in force.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many different schedules they have.
    #[must_use]
    pub fn schedules(&self) -> usize {
        self.schedules.by_key.len()
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
            if let Some(timing) = self.entries.get(subject).map(|entry| entry.timing) {
                let next = self.schedules.next(timing, due, due);
                self.set_next(subject, next);
            }
        }
        events
    }

    /// Which subscriptions have come to their end since this was asked last, and why: one whose calendar's data have ended goes
    /// on when it is added again with newer ones.
    pub fn take_ended(&mut self) -> Vec<(Subject, End)> {
        std::mem::take(&mut self.ended)
    }

    fn set_next(&mut self, subject: Subject, next: Result<UnixSeconds, End>) {
        let due = match next {
            Ok(due) => {
                self.queue.insert((due, subject));
                due
            }
            Err(end) => {
                self.ended.push((subject, end));
                NEVER
            }
        };
        if let Some(entry) = self.entries.get_mut(subject) {
            entry.next = due;
        }
    }
}

fn skips(trigger: &TriggerSpec) -> bool {
    match trigger {
        TriggerSpec::Instants(spec) => spec.missed == Missed::Skip,
        TriggerSpec::Schedule(spec) => spec.missed == Missed::Skip,
        TriggerSpec::Interval(spec) => spec.missed == Missed::Skip,
        _ => false,
    }
}

/// Schedules, each once, however many share it.
#[derive(Debug)]
struct Schedules {
    calendars: Arc<Calendars>,
    all: Vec<Option<Shared>>,
    free: Vec<u32>,
    by_key: HashTable<u32>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Shared {
    key: Key,
    schedule: Schedule,
    users: u32,
    /// No occurrence lies after the first and before the second, which is one. The two answers that were found last: those who
    /// are added after a restart ask now for this occurrence, now for the one before.
    gaps: [Option<(UnixSeconds, UnixSeconds)>; 2],
}

/// What makes two schedules equal.
#[derive(Debug)]
enum Key {
    Cron([Box<str>; 3]),
    InSessions(u64, Box<str>),
    Instants(Box<[UnixSeconds]>),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum KeyRef<'a> {
    Cron([&'a str; 3]),
    InSessions(u64, &'a str),
    Instants(&'a [UnixSeconds]),
}

impl Key {
    fn view(&self) -> KeyRef<'_> {
        match self {
            Self::Cron([cron, zone, calendar]) => KeyRef::Cron([cron, zone, calendar]),
            Self::InSessions(seconds, calendar) => KeyRef::InSessions(*seconds, calendar),
            Self::Instants(instants) => KeyRef::Instants(instants),
        }
    }
}

impl<'a> KeyRef<'a> {
    /// None, if it is not to be shared, or not by the clock.
    fn of(trigger: &'a TriggerSpec) -> Option<Self> {
        match trigger {
            TriggerSpec::Clock(spec) => Some(Self::Cron([&spec.cron, &spec.time_zone, ""])),
            TriggerSpec::Schedule(spec) => {
                Some(Self::Cron([&spec.cron, &spec.time_zone, &spec.calendar]))
            }
            TriggerSpec::Interval(spec) if !spec.calendar.is_empty() => {
                Some(Self::InSessions(spec.seconds, &spec.calendar))
            }
            TriggerSpec::Instants(spec) => Some(Self::Instants(&spec.instants)),
            _ => None,
        }
    }

    fn to_key(self) -> Key {
        match self {
            Self::Cron(words) => Key::Cron(words.map(Into::into)),
            Self::InSessions(seconds, calendar) => Key::InSessions(seconds, calendar.into()),
            Self::Instants(instants) => Key::Instants(instants.into()),
        }
    }
}

impl Shared {
    fn next_after(&mut self, after: UnixSeconds) -> Result<UnixSeconds, End> {
        let mut gaps = self.gaps.into_iter().flatten();
        if let Some((_, next)) = gaps.find(|(from, next)| (*from..*next).contains(&after)) {
            return Ok(next);
        }
        let next = self.schedule.next_after(after)?;
        let [newest, _] = self.gaps;
        self.gaps = [Some((after, next)), newest];
        Ok(next)
    }
}

impl Schedules {
    fn new(calendars: Arc<Calendars>) -> Self {
        Self {
            calendars,
            all: Vec::new(),
            free: Vec::new(),
            by_key: HashTable::new(),
            hasher: RandomState::new(),
        }
    }

    /// The timing of a subscription, which has to be released, and its first moment later than `after`.
    fn timing(
        &mut self,
        subscription: &Subscription,
        after: UnixSeconds,
    ) -> Result<(Timing, Result<UnixSeconds, End>), ScheduleError> {
        let (trigger, since) = (&subscription.trigger, subscription.since);
        let Some(key) = KeyRef::of(trigger) else {
            let schedule = Schedule::parse(trigger, since, &self.calendars)?;
            let next = schedule.next_after(after);
            let Schedule::Every { seconds, .. } = schedule else {
                return Err(ScheduleError::NotByTheClock);
            };
            return Ok((Timing::Every(seconds), next));
        };
        // Whether they are past depends on the subscription, not on the schedule.
        if let KeyRef::Instants(instants) = key
            && instants.last().is_none_or(|last| *last < since)
        {
            return Err(ScheduleError::Past);
        }
        let hash = self.hasher.hash_one(key);
        let all = &self.all;
        let same = |place: &u32| {
            let known = all.get(index(*place)).and_then(Option::as_ref);
            known.is_some_and(|known| known.key.view() == key)
        };
        let place = match self.by_key.find(hash, same) {
            Some(place) => *place,
            None => {
                let schedule = Schedule::parse(trigger, since, &self.calendars)?;
                self.keep(hash, key.to_key(), schedule)?
            }
        };
        if let Some(shared) = self.at(place) {
            shared.users = shared.users.saturating_add(1);
        }
        let timing = Timing::Shared(place);
        let next = self.next(timing, after, after);
        Ok((timing, next))
    }

    fn keep(&mut self, hash: u64, key: Key, schedule: Schedule) -> Result<u32, ScheduleError> {
        let shared = Some(Shared {
            key,
            schedule,
            users: 0,
            gaps: [None; 2],
        });
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                let place = u32::try_from(self.all.len()).map_err(|_| ScheduleError::Never)?;
                self.all.push(None);
                place
            }
        };
        if let Some(slot) = self.all.get_mut(index(place)) {
            *slot = shared;
        }
        let (all, hasher) = (&self.all, &self.hasher);
        let rehash = |place: &u32| {
            let known = all.get(index(*place)).and_then(Option::as_ref);
            known.map_or(0, |known| hasher.hash_one(known.key.view()))
        };
        self.by_key.insert_unique(hash, place, rehash);
        Ok(place)
    }

    fn at(&mut self, place: u32) -> Option<&mut Shared> {
        self.all.get_mut(index(place))?.as_mut()
    }

    /// The first moment later than `after`. `moment`: one of its own, for the phase.
    fn next(
        &mut self,
        timing: Timing,
        moment: UnixSeconds,
        after: UnixSeconds,
    ) -> Result<UnixSeconds, End> {
        match timing {
            Timing::Every(seconds) => next_in_phase(moment, seconds, after).ok_or(End::Over),
            Timing::Shared(place) => match self.at(place) {
                Some(shared) => shared.next_after(after),
                None => Err(End::Over),
            },
        }
    }

    fn release(&mut self, place: u32) {
        let Some(shared) = self.at(place) else {
            return;
        };
        shared.users = shared.users.saturating_sub(1);
        if shared.users > 0 {
            return;
        }
        let hash = self.all.get(index(place)).and_then(Option::as_ref);
        let hash = hash.map(|shared| self.hasher.hash_one(shared.key.view()));
        if let Some(hash) = hash
            && let Ok(entry) = self.by_key.find_entry(hash, |known| *known == place)
        {
            entry.remove();
        }
        if let Some(slot) = self.all.get_mut(index(place)) {
            *slot = None;
        }
        self.free.push(place);
    }
}

/// When `subscription` is due next, if its events were taken until `fired_until`; none if its schedule cannot be served or
/// has an end, or if it is not by the clock.
#[must_use]
pub fn next_due(
    subscription: &Subscription,
    fired_until: UnixSeconds,
    calendars: &Calendars,
) -> Option<UnixSeconds> {
    let since = subscription.since;
    let schedule = Schedule::parse(&subscription.trigger, since, calendars).ok()?;
    schedule
        .next_after(since.saturating_sub(1).max(fired_until))
        .ok()
}

#[cfg(test)]
mod tests;
