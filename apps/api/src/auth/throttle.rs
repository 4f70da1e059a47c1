//! Failed attempts to authenticate, counted by where they come from.
//!
//! Only failures are slowed down: a right token is always let through, so that a stranger cannot lock out those who
//! share an address with them.

use cryptlet_types::UnixSeconds;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
};

/// Seconds in which failures are counted.
pub(crate) const WINDOW_SECONDS: u64 = 60;
/// Most origins that are counted at the same time.
const MAX_ORIGINS: usize = 4_096;

#[derive(Debug, Clone, Copy)]
struct Count {
    since: UnixSeconds,
    failures: u32,
}

/// Counts failures by origin.
#[derive(Debug)]
pub(crate) struct Throttle {
    most: u32,
    counts: Mutex<HashMap<IpAddr, Count>>,
}

impl Throttle {
    /// Lets `most` failures of one origin pass in [`WINDOW_SECONDS`].
    pub(crate) fn new(most: u32) -> Self {
        Self {
            most,
            counts: Mutex::new(HashMap::new()),
        }
    }

    /// Notes a failure. If there were too many: for how many seconds the origin is to wait.
    pub(crate) fn failed(&self, from: IpAddr, now: UnixSeconds) -> Option<u64> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let origin = origin(from);
        if !counts.contains_key(&origin) && counts.len() >= MAX_ORIGINS {
            counts.retain(|_, count| now < end(count));
            if counts.len() >= MAX_ORIGINS {
                return Some(WINDOW_SECONDS);
            }
        }
        let fresh = Count {
            since: now,
            failures: 0,
        };
        let count = counts.entry(origin).or_insert(fresh);
        if now >= end(count) {
            *count = fresh;
        }
        count.failures = count.failures.saturating_add(1);
        (count.failures > self.most).then(|| end(count).saturating_sub(now).max(1))
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
        assert_eq!(throttle.failed(from, 100), None);
        assert_eq!(throttle.failed(beside, 110), None);
        assert_eq!(throttle.failed(from, 120), Some(40));
        assert_eq!(throttle.failed(other, 120), None);
        assert_eq!(throttle.failed(from, 160), None);
    }

    #[test]
    fn the_number_of_origins_is_bounded() {
        let throttle = Throttle::new(1);
        let address = |n: u32| IpAddr::V4(n.into());
        for n in 0..4_096 {
            assert_eq!(throttle.failed(address(n), 0), None);
        }
        assert_eq!(throttle.failed(address(5_000), 0), Some(WINDOW_SECONDS));
        assert_eq!(throttle.failed(address(5_000), 60), None);
        assert!(throttle.counts.lock().unwrap().len() < 10);
    }
}
