//! Connections counted by where they come from, so that one origin cannot hold all places.

use crate::auth::throttle::origin;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Counts open connections by origin.
#[derive(Clone, Debug)]
pub(crate) struct Origins {
    most: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection's place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct OriginPlace {
    origins: Origins,
    origin: IpAddr,
}

impl Origins {
    /// Lets an origin have `most` connections at the same time.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            open: Arc::default(),
        }
    }

    /// A place for one more connection from `address`; none if its origin has as many as it may.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<OriginPlace> {
        let origin = origin(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.get(&origin).copied().unwrap_or_default();
        if count >= self.most {
            return None;
        }
        open.insert(origin, count.saturating_add(1));
        let origins = self.clone();
        Some(OriginPlace { origins, origin })
    }
}

impl Drop for OriginPlace {
    fn drop(&mut self) {
        let open = &self.origins.open;
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.origin) {
            Some(count) if *count > 1 => *count = count.saturating_sub(1),
            _ => drop(open.remove(&self.origin)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_so_many_places_and_gets_them_back() {
        let origins = Origins::new(2);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = origins.enter(address("2001:db8::1")).unwrap();
        let _second = origins.enter(address("2001:db8::2")).unwrap();
        assert!(origins.enter(address("2001:db8::3")).is_none());
        let other = origins.enter(address("192.0.2.1")).unwrap();
        drop(first);
        assert!(origins.enter(address("2001:db8::3")).is_some());
        drop(other);
        assert_eq!(
            origins.open.lock().unwrap().len(),
            1,
            "who left is forgotten"
        );
    }
}
