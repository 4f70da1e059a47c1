//! Subscriptions by what they wait for: those who wait for the same are found together.

use crate::roster::{Roster, index};
use cryptlet_types::{Subject, UnixSeconds};
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hash, RandomState};

/// Groups of subscriptions, each by its key.
#[derive(Debug)]
pub(crate) struct Groups<K> {
    members: Roster<Member>,
    groups: Vec<Option<Group<K>>>,
    free: Vec<u32>,
    by_key: HashTable<u32>,
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    since: UnixSeconds,
    group: u32,
    /// Place among the group's active ones; [`PAUSED`]: none.
    place: u32,
}

const PAUSED: u32 = u32::MAX;

#[derive(Debug)]
struct Group<K> {
    key: K,
    members: u32,
    active: Vec<u32>,
}

impl<K> Default for Groups<K> {
    fn default() -> Self {
        Self {
            members: Roster::default(),
            groups: Vec::new(),
            free: Vec::new(),
            by_key: HashTable::new(),
            hasher: RandomState::new(),
        }
    }
}

impl<K: Clone + Eq + Hash> Groups<K> {
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Adds one that is not in, active. Returns whether its group had nobody active; none if there is no room.
    pub(crate) fn add(&mut self, subject: Subject, key: K, since: UnixSeconds) -> Option<bool> {
        let group = self.group_of(key)?;
        let member = Member {
            since,
            group,
            place: PAUSED,
        };
        if self.members.insert(subject, member).is_none() {
            self.drop_if_empty(group);
            return None;
        }
        if let Some(group) = self.group_mut(group) {
            group.members = group.members.saturating_add(1);
        }
        Some(self.resume(subject)?.is_some())
    }

    /// Takes one out. None if it is not in; with the key of its group if that has nobody active any more because of it.
    pub(crate) fn remove(&mut self, subject: Subject) -> Option<Option<K>> {
        let left = self.pause(subject)?;
        let (_, member) = self.members.remove(subject)?;
        if let Some(group) = self.group_mut(member.group) {
            group.members = group.members.saturating_sub(1);
        }
        self.drop_if_empty(member.group);
        Some(left)
    }

    /// As [`Groups::remove`], but it can be resumed.
    pub(crate) fn pause(&mut self, subject: Subject) -> Option<Option<K>> {
        let member = self.members.get_mut(subject)?;
        let Member { group, place, .. } = *member;
        member.place = PAUSED;
        if place == PAUSED {
            return Some(None);
        }
        let group = self.group_mut(group)?;
        group.active.swap_remove(index(place));
        let left = group.active.is_empty().then(|| group.key.clone());
        if let Some(moved) = group.active.get(index(place)).copied()
            && let Some(moved) = self.members.at_mut(moved)
        {
            moved.place = place;
        }
        Some(left)
    }

    /// Ends a pause. None if it is not in; with the key of its group if that had nobody active.
    pub(crate) fn resume(&mut self, subject: Subject) -> Option<Option<K>> {
        let slot = self.members.place(subject)?;
        let (_, member) = *self.members.at(slot)?;
        if member.place != PAUSED {
            return Some(None);
        }
        let group = self.group_mut(member.group)?;
        let place = u32::try_from(group.active.len()).ok()?;
        group.active.push(slot);
        let first = (place == 0).then(|| group.key.clone());
        self.members.at_mut(slot)?.place = place;
        Some(first)
    }

    /// Adds to `found` whom `key` concerns at `at`.
    pub(crate) fn find(&self, key: &K, at: UnixSeconds, found: &mut Vec<Subject>) {
        let group = self.number(key).and_then(|number| self.group(number));
        let active = group.map(|group| group.active.iter());
        let members = active.into_iter().flatten();
        let members = members.filter_map(|slot| self.members.at(*slot));
        let due = members.filter(|(_, member)| member.since <= at);
        found.extend(due.map(|(subject, _)| *subject));
    }

    fn group(&self, number: u32) -> Option<&Group<K>> {
        self.groups.get(index(number))?.as_ref()
    }

    fn group_mut(&mut self, number: u32) -> Option<&mut Group<K>> {
        self.groups.get_mut(index(number))?.as_mut()
    }

    fn number(&self, key: &K) -> Option<u32> {
        let same = |number: &u32| self.group(*number).is_some_and(|group| group.key == *key);
        self.by_key.find(self.hasher.hash_one(key), same).copied()
    }

    fn group_of(&mut self, key: K) -> Option<u32> {
        if let Some(known) = self.number(&key) {
            return Some(known);
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                let number = u32::try_from(self.groups.len()).ok()?;
                self.groups.push(None);
                number
            }
        };
        let hash = self.hasher.hash_one(&key);
        *self.groups.get_mut(index(number))? = Some(Group {
            key,
            members: 0,
            active: Vec::new(),
        });
        let (groups, hasher) = (&self.groups, &self.hasher);
        let rehash = |number: &u32| {
            let group = groups.get(index(*number)).and_then(Option::as_ref);
            group.map_or(0, |group| hasher.hash_one(&group.key))
        };
        self.by_key.insert_unique(hash, number, rehash);
        Some(number)
    }

    fn drop_if_empty(&mut self, number: u32) {
        if self.group(number).is_none_or(|group| group.members > 0) {
            return;
        }
        let Some(group) = self.groups.get_mut(index(number)).and_then(Option::take) else {
            return;
        };
        let hash = self.hasher.hash_one(&group.key);
        if let Ok(entry) = self.by_key.find_entry(hash, |known| *known == number) {
            entry.remove();
        }
        self.free.push(number);
    }
}
