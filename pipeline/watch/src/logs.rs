//! Which subscriptions a chain's logs and blocks concern. Pure.
//!
//! **Logs.** A subscription's topics say by place what a log's topics must be, a zero that any will do; a log has to have at least
//! as many as there are (as with `eth_getLogs`). Of one contract there are at most 31 ways to ask: 0 to 4 places, each fixed or
//! not. A log is looked up once in each way that somebody uses, however many subscribe: Transfer to each of a million recipients is
//! one way.
//!
//! **Blocks.** Whoever asks for every n-th block is due where the number can be divided by n. Where more different n are asked for
//! than the number has candidates for divisors, the divisors are looked up instead.
//!
//! Both are asked for each finality by itself: what is seen at `latest` concerns those who asked for `latest`. Nothing concerns a
//! subscription that is newer than the block. Subjects come in order.

use crate::groups::Groups;
use alloy_primitives::{Address, B256, keccak256};
use cryptlet_types::{
    Subject, Subscription,
    event::{BlockEntry, LogEntry},
    subscription::{BlocksSpec, Finality, LogSpec, trigger::MAX_TOPICS},
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Most first topics that a filter names; where there are more, it names none.
pub const MAX_FILTER_TOPICS: usize = 64;

/// What a node is to be asked for: logs of these contracts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// The contracts, ascending. None: there is nothing to ask for. A node takes a limited number at once.
    pub addresses: Vec<Address>,
    /// What the first topic has to be one of, ascending; empty: anything.
    pub topics: Vec<B256>,
}

/// Subscriptions to logs.
#[derive(Debug, Default)]
pub struct LogMatcher {
    groups: Groups<Key>,
    /// How many groups with somebody active ask for a contract's logs, each way.
    ways: HashMap<Contract, BTreeMap<Way, u32>>,
    /// The same by first topic.
    first: HashMap<(Contract, Option<B256>), u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Contract {
    chain_id: u64,
    finality: Finality,
    emitter: Address,
}

/// Which topics are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Way {
    /// How many topics a log has to have.
    least: u8,
    /// Bit by place: the topic is fixed.
    fixed: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    contract: Contract,
    way: Way,
    /// The fixed topics, in order.
    topics: Box<[B256]>,
}

impl Key {
    fn new(spec: &LogSpec) -> Self {
        let topics = spec.topics.iter().take(MAX_TOPICS);
        let places = (0_u8..).zip(topics.clone());
        let fixed = places.filter(|(_, topic)| !topic.is_zero());
        Self {
            contract: Contract {
                chain_id: spec.chain_id,
                finality: spec.finality,
                emitter: spec.emitter,
            },
            way: Way {
                least: u8::try_from(topics.len()).unwrap_or(u8::MAX),
                fixed: fixed.fold(0, |fixed, (place, _)| fixed | 1 << place),
            },
            topics: topics.filter(|topic| !topic.is_zero()).copied().collect(),
        }
    }

    fn first(&self) -> Option<B256> {
        let fixed = self.way.fixed & 1 == 1;
        self.topics.first().filter(|_| fixed).copied()
    }
}

impl Way {
    /// What this way looks for in a log; none, if the log has too few topics.
    fn of(self, log: &LogEntry) -> Option<Box<[B256]>> {
        if log.topics.len() < usize::from(self.least) {
            return None;
        }
        let places = (0_u8..).zip(log.topics.iter().take(MAX_TOPICS));
        let fixed = places.filter(|(place, _)| self.fixed >> place & 1 == 1);
        Some(fixed.map(|(_, topic)| *topic).collect())
    }
}

impl LogMatcher {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a subscription, or replaces it. Returns whether there was room.
    pub fn add(&mut self, subscription: &Subscription, spec: &LogSpec) -> bool {
        let (subject, key) = (subscription.subject, Key::new(spec));
        self.remove(subject);
        match self.groups.add(subject, key.clone(), subscription.since) {
            Some(true) => self.count(&key, true),
            Some(false) => {}
            None => return false,
        }
        true
    }

    /// Takes a subscription out. Returns whether it was in.
    pub fn remove(&mut self, subject: Subject) -> bool {
        let left = self.groups.remove(subject);
        self.left(left)
    }

    /// Lets no log concern a subscription until it is resumed. Returns whether it is in.
    pub fn pause(&mut self, subject: Subject) -> bool {
        let left = self.groups.pause(subject);
        self.left(left)
    }

    /// Ends a pause. Returns whether it is in.
    pub fn resume(&mut self, subject: Subject) -> bool {
        let Some(first) = self.groups.resume(subject) else {
            return false;
        };
        if let Some(key) = first {
            self.count(&key, true);
        }
        true
    }

    /// Whom `log` concerns among those who asked for `finality`.
    #[must_use]
    pub fn subjects(&self, log: &LogEntry, finality: Finality) -> Vec<Subject> {
        let contract = Contract {
            chain_id: log.chain_id,
            finality,
            emitter: log.emitter,
        };
        let mut found = Vec::new();
        for way in self.ways.get(&contract).into_iter().flatten() {
            let way = *way.0;
            if let Some(topics) = way.of(log) {
                let key = Key {
                    contract,
                    way,
                    topics,
                };
                self.groups.find(&key, log.at, &mut found);
            }
        }
        found.sort_unstable();
        found
    }

    /// What a node of `chain_id` is to be asked for at `finality`. Looks at every contract: for when subscriptions have changed.
    #[must_use]
    pub fn filter(&self, chain_id: u64, finality: Finality) -> LogFilter {
        let asked = self.first.keys();
        let asked =
            asked.filter(|(asked, _)| asked.chain_id == chain_id && asked.finality == finality);
        let mut addresses = BTreeSet::new();
        let mut topics = Some(BTreeSet::new());
        for (contract, topic) in asked {
            addresses.insert(contract.emitter);
            topics = topics.zip(*topic).map(|(mut topics, topic)| {
                topics.insert(topic);
                topics
            });
            topics = topics.filter(|topics| topics.len() <= MAX_FILTER_TOPICS);
        }
        LogFilter {
            addresses: addresses.into_iter().collect(),
            topics: topics.unwrap_or_default().into_iter().collect(),
        }
    }

    /// Chains and finalities at which somebody waits for logs.
    #[must_use]
    pub fn chains(&self) -> BTreeSet<(u64, Finality)> {
        let asked = self.ways.keys();
        asked
            .map(|asked| (asked.chain_id, asked.finality))
            .collect()
    }

    /// How many subscriptions there are, paused ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn left(&mut self, left: Option<Option<Key>>) -> bool {
        if let Some(Some(key)) = &left {
            self.count(key, false);
        }
        left.is_some()
    }

    fn count(&mut self, key: &Key, more: bool) {
        let ways = self.ways.entry(key.contract).or_default();
        step(ways.entry(key.way).or_default(), more);
        ways.retain(|_, groups| *groups > 0);
        if ways.is_empty() {
            self.ways.remove(&key.contract);
        }
        let first = (key.contract, key.first());
        let groups = self.first.entry(first).or_default();
        step(groups, more);
        if *groups == 0 {
            self.first.remove(&first);
        }
    }
}

fn step(count: &mut u32, more: bool) {
    *count = if more {
        count.saturating_add(1)
    } else {
        count.saturating_sub(1)
    };
}

/// Says of each log how many equal ones of its transaction stand before it ([`LogEntry::ordinal`]). `logs`: those of whole blocks
/// of one chain, in order; all of a contract and first topic, or none.
pub fn number_equal_logs(logs: &mut [LogEntry]) {
    let mut seen: HashMap<(B256, B256), u32> = HashMap::new();
    for log in logs {
        let mut said = Vec::with_capacity(20 + 1 + 32 * log.topics.len() + log.data.len());
        said.extend_from_slice(log.emitter.as_slice());
        said.push(u8::try_from(log.topics.len()).unwrap_or(u8::MAX));
        for topic in &log.topics {
            said.extend_from_slice(topic.as_slice());
        }
        said.extend_from_slice(&log.data);
        let before = seen.entry((log.transaction, keccak256(said))).or_default();
        log.ordinal = *before;
        *before = before.saturating_add(1);
    }
}

/// Subscriptions to blocks.
#[derive(Debug, Default)]
pub struct BlockMatcher {
    groups: Groups<(u64, Finality, u64)>,
    /// The different periods that somebody asks for.
    periods: BTreeMap<(u64, Finality), BTreeSet<u64>>,
}

impl BlockMatcher {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a subscription, or replaces it. Returns whether there was room.
    pub fn add(&mut self, subscription: &Subscription, spec: &BlocksSpec) -> bool {
        let key = (spec.chain_id, spec.finality, spec.every.max(1));
        self.remove(subscription.subject);
        let first = self
            .groups
            .add(subscription.subject, key, subscription.since);
        self.entered(first.map(|first| first.then_some(key)))
    }

    /// Takes a subscription out. Returns whether it was in.
    pub fn remove(&mut self, subject: Subject) -> bool {
        let left = self.groups.remove(subject);
        self.left(left)
    }

    /// Lets no block concern a subscription until it is resumed. Returns whether it is in.
    pub fn pause(&mut self, subject: Subject) -> bool {
        let left = self.groups.pause(subject);
        self.left(left)
    }

    /// Ends a pause. Returns whether it is in.
    pub fn resume(&mut self, subject: Subject) -> bool {
        let first = self.groups.resume(subject);
        self.entered(first)
    }

    /// Whom `block` concerns among those who asked for `finality`.
    #[must_use]
    pub fn subjects(&self, block: &BlockEntry, finality: Finality) -> Vec<Subject> {
        let mut found = Vec::new();
        let place = (block.chain_id, finality);
        let Some(periods) = self.periods.get(&place) else {
            return found;
        };
        let mut take = |every: u64| {
            let key = (block.chain_id, finality, every);
            self.groups.find(&key, block.at, &mut found);
        };
        let root = block.number.isqrt();
        if block.number == 0 || u64::try_from(periods.len()).is_ok_and(|count| count <= root) {
            let due = periods
                .iter()
                .filter(|every| block.number.is_multiple_of(**every));
            due.for_each(|every| take(*every));
        } else {
            for small in (1..=root).filter(|small| block.number.is_multiple_of(*small)) {
                take(small);
                let large = block.number / small;
                if large != small {
                    take(large);
                }
            }
        }
        found.sort_unstable();
        found
    }

    /// Chains and finalities at which somebody waits for blocks.
    #[must_use]
    pub fn chains(&self) -> BTreeSet<(u64, Finality)> {
        self.periods.keys().copied().collect()
    }

    /// The first block after `number` that somebody waits for, wherever blocks are read in leaps.
    #[must_use]
    pub fn next_after(&self, chain_id: u64, finality: Finality, number: u64) -> Option<u64> {
        let periods = self.periods.get(&(chain_id, finality))?.iter();
        let next = periods.filter_map(|every| (number / every).checked_add(1)?.checked_mul(*every));
        next.min()
    }

    /// How many subscriptions there are, paused ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn entered(&mut self, first: Option<Option<(u64, Finality, u64)>>) -> bool {
        if let Some(Some((chain_id, finality, every))) = first {
            let periods = self.periods.entry((chain_id, finality)).or_default();
            periods.insert(every);
        }
        first.is_some()
    }

    fn left(&mut self, left: Option<Option<(u64, Finality, u64)>>) -> bool {
        if let Some(Some((chain_id, finality, every))) = left
            && let Some(periods) = self.periods.get_mut(&(chain_id, finality))
        {
            periods.remove(&every);
            if periods.is_empty() {
                self.periods.remove(&(chain_id, finality));
            }
        }
        left.is_some()
    }
}

#[cfg(test)]
mod tests;
