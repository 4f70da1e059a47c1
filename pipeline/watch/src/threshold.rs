//! Which subscriptions a feed's value concerns: those whose bound it has crossed. Pure.
//!
//! **Crossing.** A rising subscription waits, once it is armed, for a value at its bound or above; a falling one for a value at its
//! bound or below; one for either waits on the side on which the value is. What arms it is a value on the other side of the bound:
//! the value that was last observed before it came, or a later one. So the first value that is ever observed of a feed fires nothing,
//! however far beyond a bound it lies. After a crossing a subscription is armed again by a value beyond the bound by more than its
//! hysteresis: below `bound - hysteresis` for rising, above `bound + hysteresis` for falling. One that fires once is done then.
//!
//! **Order.** A feed's observations are taken in order of their moments; one that is not later than the last is left aside. An
//! observation from before a subscription's block does not fire it.
//!
//! **Cost.** Those who wait are sorted by bound, those who are to be armed again by the value that does it. An observation costs a
//! few look-ups, and then a step of the logarithm of their number for each hit and for each that is armed again, of which there are
//! never more than there were hits. Only a feed's very first value looks at all. Measured: `benches/million.rs`.
//!
//! **Across a restart.** [`State`] is what the host's journal keeps of a subscription that has fired, and [`Last`] of a feed. A
//! subscription that never fired needs neither: the last value says whether it is armed.
//!
//! **When feeds are observed.** At multiples of their period, by Unix time, and at once if they never were; while at least one
//! subscription waits that is neither paused nor done. What was missed is not made up for: nobody can observe the past.

use crate::{
    roster::{Roster, index},
    schedule::next_in_phase,
};
use alloy_primitives::{B256, Bytes, I256, U256};
use cryptlet_types::{
    CryptletId, Subject, Subscription, UnixSeconds,
    event::Observation,
    subscription::{Direction, ThresholdSpec},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};

/// Where a subscription stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// It waits for the next crossing.
    pub armed: bool,
    /// It has fired.
    pub fired: bool,
}

/// A feed's newest value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// The value.
    pub value: I256,
    /// When it was observed.
    pub at: UnixSeconds,
}

/// A feed that is to be observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedDue {
    /// Its id: [`ThresholdSpec::feed`].
    pub feed: B256,
    /// Who is asked.
    pub cryptlet: CryptletId,
    /// With which parameters.
    pub params: Bytes,
    /// Seconds between two observations.
    pub every: u32,
    /// For which moment; 0 if it was never observed.
    pub due: UnixSeconds,
}

/// The subscriptions to feeds that are in force.
#[derive(Debug, Default)]
pub struct Thresholds {
    entries: Roster<Entry>,
    feeds: Vec<Option<Feed>>,
    free: Vec<u32>,
    by_id: HashMap<B256, u32>,
    restored: HashMap<B256, Last>,
    queue: BTreeSet<(UnixSeconds, B256)>,
    changed: Vec<(Subject, State)>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    bound: I256,
    hysteresis: U256,
    since: UnixSeconds,
    feed: u32,
    direction: Direction,
    repeat: bool,
    fired: bool,
    paused: bool,
    place: Place,
}

/// What a subscription waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A value at its bound or above.
    Rise,
    /// A value at its bound or below.
    Fall,
    /// A value that arms it.
    Disarmed,
    /// Nothing more.
    Done,
}

#[derive(Debug)]
struct Feed {
    id: B256,
    cryptlet: CryptletId,
    params: Bytes,
    every: u32,
    last: Option<Last>,
    due: UnixSeconds,
    /// Subscriptions, and how many of them are neither paused nor done.
    members: u32,
    waiting: u32,
    /// By bound: who waits for a value that is not less.
    rise: BTreeSet<(I256, u32)>,
    /// By bound: who waits for a value that is not greater.
    fall: BTreeSet<(I256, u32)>,
    /// Whom a lesser value arms to rise.
    below: BTreeSet<(I256, u32)>,
    /// Whom a greater value arms to fall.
    above: BTreeSet<(I256, u32)>,
}

impl Entry {
    fn state(&self) -> State {
        State {
            armed: matches!(self.place, Place::Rise | Place::Fall),
            fired: self.fired,
        }
    }

    fn waits(&self) -> bool {
        !self.paused && self.place != Place::Done
    }

    fn rises(&self) -> bool {
        self.direction != Direction::Falling
    }

    fn falls(&self) -> bool {
        self.direction != Direction::Rising
    }

    /// How far beyond the bound a value has to be; none before the first crossing.
    fn margin(&self) -> U256 {
        if self.fired {
            self.hysteresis
        } else {
            U256::ZERO
        }
    }

    /// A lesser value arms it to rise; none if no value is that small.
    fn below(&self) -> Option<I256> {
        let (bound, margin) = (self.bound.into_raw(), self.margin());
        let room = bound.wrapping_sub(I256::MIN.into_raw());
        (self.rises() && margin <= room).then(|| I256::from_raw(bound.wrapping_sub(margin)))
    }

    /// A greater value arms it to fall; none if no value is that great.
    fn above(&self) -> Option<I256> {
        let (bound, margin) = (self.bound.into_raw(), self.margin());
        let room = I256::MAX.into_raw().wrapping_sub(bound);
        (self.falls() && margin <= room).then(|| I256::from_raw(bound.wrapping_add(margin)))
    }

    /// Where one stands that is not armed, now that `value` was observed.
    fn disarmed_at(&self, value: Option<I256>) -> Place {
        let Some(value) = value else {
            return Place::Disarmed;
        };
        if self.below().is_some_and(|level| value < level) {
            Place::Rise
        } else if self.above().is_some_and(|level| value > level) {
            Place::Fall
        } else {
            Place::Disarmed
        }
    }

    /// Where one stands of which the journal says `state`, now that `value` was the last one.
    fn restored_at(&self, state: State, value: Option<I256>) -> Place {
        if state.fired && !self.repeat {
            return Place::Done;
        }
        match (state.fired && state.armed, self.direction, value) {
            (true, Direction::Rising, _) => Place::Rise,
            (true, Direction::Falling, _) => Place::Fall,
            (true, Direction::Either, Some(value)) if value < self.bound => Place::Rise,
            (true, Direction::Either, Some(value)) if value > self.bound => Place::Fall,
            _ => self.disarmed_at(value),
        }
    }

    /// Where one goes on after a pause. It waits if the value is on the other side of the bound, however near.
    fn resumed_at(&self, value: Option<I256>) -> Place {
        match (self.place, value) {
            (Place::Done, _) => Place::Done,
            (place, None) => place,
            (_, Some(value)) if self.rises() && value < self.bound => Place::Rise,
            (_, Some(value)) if self.falls() && value > self.bound => Place::Fall,
            _ => Place::Disarmed,
        }
    }
}

impl Feed {
    fn new(spec: &ThresholdSpec, id: B256, cryptlet: CryptletId, last: Option<Last>) -> Self {
        let every = spec.every.max(1);
        let due = last.and_then(|last| next_in_phase(0, every.into(), last.at));
        Self {
            id,
            cryptlet,
            params: spec.feed_params.clone(),
            every,
            last,
            due: due.unwrap_or(0),
            members: 0,
            waiting: 0,
            rise: BTreeSet::new(),
            fall: BTreeSet::new(),
            below: BTreeSet::new(),
            above: BTreeSet::new(),
        }
    }

    fn enter(&mut self, place: u32, entry: &Entry) {
        match entry.place {
            Place::Rise => {
                self.rise.insert((entry.bound, place));
            }
            Place::Fall => {
                self.fall.insert((entry.bound, place));
            }
            Place::Disarmed => {
                self.below.extend(entry.below().map(|level| (level, place)));
                self.above.extend(entry.above().map(|level| (level, place)));
            }
            Place::Done => {}
        }
    }

    fn leave(&mut self, place: u32, entry: &Entry) {
        match entry.place {
            Place::Rise => {
                self.rise.remove(&(entry.bound, place));
            }
            Place::Fall => {
                self.fall.remove(&(entry.bound, place));
            }
            Place::Disarmed => {
                if let Some(level) = entry.below() {
                    self.below.remove(&(level, place));
                }
                if let Some(level) = entry.above() {
                    self.above.remove(&(level, place));
                }
            }
            Place::Done => {}
        }
    }

    /// Takes out who is hit by `value`.
    fn take_hits(&mut self, value: I256) -> Vec<u32> {
        let mut hits = Vec::new();
        while let Some((_, place)) = self.rise.first().filter(|(bound, _)| *bound <= value) {
            hits.push(*place);
            self.rise.pop_first();
        }
        while let Some((_, place)) = self.fall.last().filter(|(bound, _)| *bound >= value) {
            hits.push(*place);
            self.fall.pop_last();
        }
        hits
    }

    /// Who is armed by `value`. They stay where they are.
    fn armed_by(&self, value: I256) -> Vec<u32> {
        let below = self.below.iter().rev();
        let below = below.take_while(|(level, _)| *level > value);
        let above = self.above.iter();
        let above = above.take_while(|(level, _)| *level < value);
        below.chain(above).map(|(_, place)| *place).collect()
    }
}

impl Thresholds {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says what was observed last of a feed, as the journal has it. Before any subscription to that feed is added; afterwards it
    /// has no effect.
    pub fn restore(&mut self, feed: B256, last: Last) {
        if !self.by_id.contains_key(&feed) {
            self.restored.insert(feed, last);
        }
    }

    /// Adds a subscription to a feed, or replaces it. `state`: as the journal has it; `None` if it never fired. Returns whether
    /// there was room.
    pub fn add(
        &mut self,
        subscription: &Subscription,
        spec: &ThresholdSpec,
        state: Option<State>,
    ) -> bool {
        let subject = subscription.subject;
        self.remove(subject);
        let Some(feed) = self.feed_of(spec, subscription.cryptlet) else {
            return false;
        };
        let last = self.feed(feed).and_then(|feed| feed.last);
        let last = last.map(|last| last.value);
        let state = state.unwrap_or_default();
        let mut entry = Entry {
            bound: spec.bound,
            hysteresis: spec.hysteresis,
            since: subscription.since,
            feed,
            direction: spec.direction,
            repeat: spec.repeat,
            fired: state.fired,
            paused: false,
            place: Place::Disarmed,
        };
        entry.place = entry.restored_at(state, last);
        let Some(place) = self.entries.insert(subject, entry) else {
            self.drop_if_empty(feed);
            return false;
        };
        if let Some(feed) = self.feed_mut(feed) {
            feed.members = feed.members.saturating_add(1);
            feed.enter(place, &entry);
        }
        if entry.waits() {
            self.wait(feed, true);
        }
        true
    }

    /// Takes a subscription out. Returns whether it was in.
    pub fn remove(&mut self, subject: Subject) -> bool {
        self.pause(subject);
        let Some((_, entry)) = self.entries.remove(subject) else {
            return false;
        };
        if let Some(feed) = self.feed_mut(entry.feed) {
            feed.members = feed.members.saturating_sub(1);
        }
        self.drop_if_empty(entry.feed);
        true
    }

    /// Lets nothing hit a subscription until it is resumed. Returns whether it is in.
    pub fn pause(&mut self, subject: Subject) -> bool {
        let Some(place) = self.entries.place(subject) else {
            return false;
        };
        let Some(entry) = self.entries.at_mut(place) else {
            return false;
        };
        let before = *entry;
        entry.paused = true;
        if !before.paused {
            if let Some(feed) = self.feed_mut(before.feed) {
                feed.leave(place, &before);
            }
            if before.waits() {
                self.wait(before.feed, false);
            }
        }
        true
    }

    /// Ends a pause. A crossing that fell into it is not made up for: what counts is from the feed's last value on, and that arms
    /// it as it would one that is new. Returns whether it is in.
    pub fn resume(&mut self, subject: Subject) -> bool {
        let Some(place) = self.entries.place(subject) else {
            return false;
        };
        let last = self.entries.at(place).map(|(_, entry)| entry.feed);
        let last = last
            .and_then(|feed| self.feed(feed))
            .and_then(|feed| feed.last);
        let Some(entry) = self.entries.at_mut(place) else {
            return false;
        };
        if !entry.paused {
            return true;
        }
        entry.paused = false;
        entry.place = entry.resumed_at(last.map(|last| last.value));
        let entry = *entry;
        if let Some(feed) = self.feed_mut(entry.feed) {
            feed.enter(place, &entry);
        }
        if entry.waits() {
            self.wait(entry.feed, true);
        }
        if entry.fired {
            self.changed.push((subject, entry.state()));
        }
        true
    }

    /// Takes a feed's value, and returns whom it concerns, by subject.
    pub fn observe(&mut self, observation: &Observation) -> Vec<Subject> {
        let (value, at) = (observation.value, observation.at);
        let Some(number) = self.by_id.get(&observation.feed).copied() else {
            return Vec::new();
        };
        let Some(feed) = self.feed_mut(number) else {
            return Vec::new();
        };
        if feed.last.is_some_and(|last| last.at >= at) {
            return Vec::new();
        }
        feed.last = Some(Last { value, at });
        let hits = feed.take_hits(value);
        let armed = feed.armed_by(value);
        for place in armed {
            self.arm(number, place, value);
        }
        let mut subjects: Vec<_> = hits
            .into_iter()
            .filter_map(|place| self.hit(number, place, value, at))
            .collect();
        subjects.sort_unstable();
        subjects
    }

    fn arm(&mut self, number: u32, place: u32, value: I256) {
        let Some((subject, before)) = self.entries.at(place).copied() else {
            return;
        };
        let mut entry = before;
        entry.place = entry.disarmed_at(Some(value));
        if let Some(feed) = self.feed_mut(number) {
            feed.leave(place, &before);
            feed.enter(place, &entry);
        }
        if let Some(slot) = self.entries.at_mut(place) {
            *slot = entry;
        }
        if entry.fired {
            self.changed.push((subject, entry.state()));
        }
    }

    /// Where one goes on that was taken out because of `value`. None, if the value is from before its time.
    fn hit(&mut self, number: u32, place: u32, value: I256, at: UnixSeconds) -> Option<Subject> {
        let (subject, mut entry) = self.entries.at(place).copied()?;
        let counts = entry.since <= at;
        if counts {
            entry.fired = true;
        }
        entry.place = match (counts, entry.repeat) {
            (true, false) => Place::Done,
            (true, true) => entry.disarmed_at(Some(value)),
            (false, _) => entry.place,
        };
        *self.entries.at_mut(place)? = entry;
        self.feed_mut(number)?.enter(place, &entry);
        if entry.place == Place::Done {
            self.wait(number, false);
        }
        if counts {
            self.changed.push((subject, entry.state()));
        }
        counts.then_some(subject)
    }

    /// Whose state has changed since this was asked last, for the journal, to be written with what [`Thresholds::observe`] hit.
    /// Of one subject the last counts.
    pub fn take_changed(&mut self) -> Vec<(Subject, State)> {
        std::mem::take(&mut self.changed)
    }

    /// Where a subscription stands.
    #[must_use]
    pub fn state(&self, subject: Subject) -> Option<State> {
        self.entries.get(subject).map(Entry::state)
    }

    /// What was observed last of a feed.
    #[must_use]
    pub fn last(&self, feed: B256) -> Option<Last> {
        let known = self.by_id.get(&feed);
        known.and_then(|feed| self.feed(*feed)?.last)
    }

    /// How many subscriptions there are, paused and done ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many feeds they have.
    #[must_use]
    pub fn feeds(&self) -> usize {
        self.by_id.len()
    }

    /// When the next feed is to be observed; 0 if at once.
    #[must_use]
    pub fn next_due(&self) -> Option<UnixSeconds> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// Takes the feeds that are to be observed at `now`, longest due first, at most `limit`. Each is due again at the next
    /// multiple of its period.
    pub fn take_due(&mut self, now: UnixSeconds, limit: usize) -> Vec<FeedDue> {
        let mut due = Vec::new();
        while due.len() < limit && self.next_due().is_some_and(|due| due <= now) {
            let Some((_, id)) = self.queue.pop_first() else {
                break;
            };
            let Some(feed) = self.by_id.get(&id).copied() else {
                continue;
            };
            let Some(feed) = self.feed_mut(feed) else {
                continue;
            };
            due.push(FeedDue {
                feed: id,
                cryptlet: feed.cryptlet,
                params: feed.params.clone(),
                every: feed.every,
                due: feed.due,
            });
            if let Some(next) = next_in_phase(0, feed.every.into(), now) {
                feed.due = next;
                self.queue.insert((next, id));
            }
        }
        due
    }

    fn feed(&self, feed: u32) -> Option<&Feed> {
        self.feeds.get(index(feed))?.as_ref()
    }

    fn feed_mut(&mut self, feed: u32) -> Option<&mut Feed> {
        self.feeds.get_mut(index(feed))?.as_mut()
    }

    /// The feed's number; it is made where there is none.
    fn feed_of(&mut self, spec: &ThresholdSpec, cryptlet: CryptletId) -> Option<u32> {
        let id = spec.feed(cryptlet);
        if let Some(known) = self.by_id.get(&id) {
            return Some(*known);
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                let number = u32::try_from(self.feeds.len()).ok()?;
                self.feeds.push(None);
                number
            }
        };
        let last = self.restored.remove(&id);
        *self.feeds.get_mut(index(number))? = Some(Feed::new(spec, id, cryptlet, last));
        self.by_id.insert(id, number);
        Some(number)
    }

    /// A feed without subscriptions is forgotten, and so is its last value.
    fn drop_if_empty(&mut self, number: u32) {
        if self.feed(number).is_none_or(|feed| feed.members > 0) {
            return;
        }
        let Some(feed) = self.feeds.get_mut(index(number)).and_then(Option::take) else {
            return;
        };
        self.by_id.remove(&feed.id);
        self.free.push(number);
    }

    /// One more, or one less, waits for a value of the feed, which is observed while somebody does.
    fn wait(&mut self, feed: u32, more: bool) {
        let Some(feed) = self.feed_mut(feed) else {
            return;
        };
        let before = feed.waiting;
        feed.waiting = if more {
            before.saturating_add(1)
        } else {
            before.saturating_sub(1)
        };
        let (entry, now) = ((feed.due, feed.id), feed.waiting);
        match (before, now) {
            (0, 1) => {
                self.queue.insert(entry);
            }
            (_, 0) => {
                self.queue.remove(&entry);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
