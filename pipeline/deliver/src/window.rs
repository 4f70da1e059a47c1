//! How many of the transmitter's transactions wait for blocks at once: as many as the chain mines before their reports expire. On
//! a chain that is full, more of them would be mined too late, and take the room of those that are not. Pure bookkeeping.
//!
//! Grows and shrinks as the congestion window of TCP does (RFC 5681, RFC 6582), only that it grows by an eighth (at least by one)
//! for each window full that was mined in time; half of what waits once reports expire, and no less again until what waited then is
//! through.

/// Most that wait at once on a chain that takes all.
const WIDEST: usize = 1024;

/// The transmitter's window.
#[derive(Debug)]
pub(crate) struct Window {
    limit: usize,
    /// Most that waited at once since the window last shrank.
    most: usize,
    /// Whether somebody had to wait since there was last much room.
    crowded: bool,
    /// Mined in time since the window last changed.
    in_time: usize,
    /// The nonce after the highest that was given out.
    next: u64,
    /// Nonces below were given out before the window last shrank.
    recover: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            limit: WIDEST,
            most: 0,
            crowded: false,
            in_time: 0,
            next: 0,
            recover: 0,
        }
    }
}

impl Window {
    /// Whether one more, with this nonce, may wait beside so many. Asked before each.
    pub(crate) fn has_room(&mut self, nonce: u64, waiting: usize) -> bool {
        let has_room = waiting < self.limit;
        if has_room {
            self.most = self.most.max(waiting.saturating_add(1));
            self.next = self.next.max(nonce.saturating_add(1));
        }
        self.crowded = !has_room || (self.crowded && waiting >= self.limit / 2);
        has_room
    }

    /// Whether reports wait for room: what was handed in before another one is not sent before it for certain.
    pub(crate) const fn is_crowded(&self) -> bool {
        self.crowded
    }

    /// A transaction was mined and brought something.
    pub(crate) fn in_time(&mut self) {
        self.in_time += 1;
        if self.in_time >= self.limit {
            self.in_time = 0;
            let more = (self.limit / 8).max(1);
            self.limit = self.limit.saturating_add(more).min(WIDEST);
        }
    }

    /// What a transaction with this nonce was to bring has expired. One that waited alone was not kept from its block by others.
    pub(crate) fn too_late(&mut self, nonce: u64) {
        if nonce >= self.recover && self.most > 1 {
            self.limit = (self.most.min(self.limit) / 2).max(1);
            self.most = 0;
            self.in_time = 0;
            self.recover = self.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_once_for_all_that_waited_and_grows_again() {
        let mut window = Window::default();
        assert!(window.has_room(43, 39));
        window.too_late(4);
        window.too_late(43);
        assert!(window.has_room(59, 19) && !window.is_crowded());
        assert!(!window.has_room(60, 20) && window.is_crowded());
        assert!(window.has_room(60, 10) && window.is_crowded());
        assert!(window.has_room(60, 9) && !window.is_crowded());
        window.too_late(44);
        assert!(window.has_room(61, 9) && !window.has_room(61, 10));
        for _ in 0..10 {
            window.in_time();
        }
        assert!(window.has_room(61, 10) && !window.has_room(61, 11));
    }

    #[test]
    fn what_waits_alone_is_not_kept_by_others() {
        let mut window = Window::default();
        for nonce in 0..20 {
            assert!(window.has_room(nonce, 0));
            window.too_late(nonce);
        }
        assert!(window.has_room(20, WIDEST - 1));
    }

    #[test]
    fn one_may_always_wait_and_a_chain_that_takes_all_is_no_limit() {
        let mut window = Window::default();
        for nonce in 0..20 {
            let _only_for_the_nonce = window.has_room(nonce, 1);
            window.too_late(nonce);
        }
        assert!(window.has_room(20, 0) && !window.has_room(20, 1));
        for _ in 0..20 * WIDEST {
            window.in_time();
        }
        assert!(window.has_room(20, WIDEST - 1) && !window.has_room(20, WIDEST));
    }
}
