//! What is counted by who asks, and slowed down when it is too much: failed attempts to authenticate and reads over the
//! gateway by where they come from, messages by application.
//!
//! Of attempts to authenticate only failures are counted: a right token is always let through, so that a stranger cannot
//! lock out those who share an address with them.

use cryptlet_types::UnixSeconds;
use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
};

/// Seconds in which is counted.
pub(crate) const WINDOW_SECONDS: u64 = 60;
/// Most who are counted at the same time.
const MAX_COUNTED: usize = 4_096;

#[derive(Debug, Clone, Copy)]
struct Count {
    since: UnixSeconds,
    number: u32,
}

/// Counts by who asks.
#[derive(Debug)]
pub(crate) struct Throttle<K> {
    most: u32,
    counts: Mutex<HashMap<K, Count>>,
}

impl<K: Eq + Hash> Throttle<K> {
    /// Lets `most` of each pass in [`WINDOW_SECONDS`].
    pub(crate) fn new(most: u32) -> Self {
        Self {
            most,
            counts: Mutex::new(HashMap::new()),
        }
    }

    /// Counts one more. If there were too many: for how many seconds `who` is to wait.
    pub(crate) fn over(&self, who: K, now: UnixSeconds) -> Option<u64> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if !counts.contains_key(&who) && counts.len() >= MAX_COUNTED {
            counts.retain(|_, count| now < end(count));
            if counts.len() >= MAX_COUNTED {
                return Some(WINDOW_SECONDS);
            }
        }
        let fresh = Count {
            since: now,
            number: 0,
        };
        let count = counts.entry(who).or_insert(fresh);
        if now >= end(count) {
            *count = fresh;
        }
        count.number = count.number.saturating_add(1);
        (count.number > self.most).then(|| end(count).saturating_sub(now).max(1))
    }
}

fn end(count: &Count) -> UnixSeconds {
    count.since.saturating_add(WINDOW_SECONDS)
}

/// An address, or in IPv6 the network of 64 bits that one customer gets.
pub(crate) fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_waits_until_its_window_is_over() {
        let throttle = Throttle::new(2);
        let from: IpAddr = "2001:db8::1".parse().unwrap();
        let beside: IpAddr = "2001:db8::2".parse().unwrap();
        let other: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(throttle.over(origin(from), 100), None);
        assert_eq!(throttle.over(origin(beside), 110), None);
        assert_eq!(throttle.over(origin(from), 120), Some(40));
        assert_eq!(throttle.over(origin(other), 120), None);
        assert_eq!(throttle.over(origin(from), 160), None);
    }

    #[test]
    fn the_number_of_origins_is_bounded() {
        let throttle = Throttle::new(1);
        let address = |n: u32| IpAddr::V4(n.into());
        for n in 0..4_096 {
            assert_eq!(throttle.over(address(n), 0), None);
        }
        assert_eq!(throttle.over(address(5_000), 0), Some(WINDOW_SECONDS));
        assert_eq!(throttle.over(address(5_000), 60), None);
        assert!(throttle.counts.lock().unwrap().len() < 10);
    }
}
