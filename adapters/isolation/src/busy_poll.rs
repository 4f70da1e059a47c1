//! Waiting awake for a region on this machine: what it says soon is seen at once.
//!
//! A region answers many a call in less time than a system takes to wake who waits for it on another core. So the first moments
//! of a wait are spent looking (as a network's driver does with `SO_BUSY_POLL`), but only where the last wait was a short
//! one too, for a bounded time of each call, and by half as many of this process's waits as it has cores; all others sleep.

use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};
use std::{
    num::NonZero,
    os::fd::OwnedFd,
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Longest look; what takes longer is worth a wake-up.
const MOST: Duration = Duration::from_micros(250);
/// Longest that one call into a region is looked for, all its waits together: a region that asks for much is not the only one.
const MOST_OF_A_CALL: Duration = Duration::from_millis(1);

/// Who may look in this process.
static SEATS: LazyLock<Seats> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    Seats::new(cores / 2)
});

#[derive(Debug)]
struct Seats {
    all: usize,
    taken: AtomicUsize,
}

impl Seats {
    fn new(all: usize) -> Self {
        Self {
            all,
            taken: AtomicUsize::new(0),
        }
    }

    fn take(&self) -> Option<Seat<'_>> {
        let more = |taken| (taken < self.all).then_some(taken + 1);
        let order = Ordering::Relaxed;
        self.taken.fetch_update(order, order, more).ok()?;
        Some(Seat(self))
    }
}

/// Given back when it is dropped.
struct Seat<'a>(&'a Seats);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The waits of one conversation.
#[derive(Debug)]
pub(crate) struct Waits {
    seats: &'static Seats,
    last_was_short: bool,
    /// Of this call.
    left: Duration,
}

impl Waits {
    pub(crate) fn new() -> Self {
        Self::with(&SEATS)
    }

    fn with(seats: &'static Seats) -> Self {
        Self {
            seats,
            last_was_short: true,
            left: Duration::ZERO,
        }
    }

    /// A call into the region begins.
    pub(crate) fn begin(&mut self) {
        self.left = MOST_OF_A_CALL;
    }

    /// Looks at `socket` until something has come or the time for that is over. Returns how often nothing had; none if it did
    /// not look. It does not let the runtime go on meanwhile: that would have another of its threads woken, on the core where
    /// the region runs.
    pub(crate) fn look(&mut self, socket: &OwnedFd) -> Option<u64> {
        if !self.last_was_short || self.left.is_zero() {
            return None;
        }
        let _seat = self.seats.take()?;
        let (began, most) = (Instant::now(), MOST.min(self.left));
        let mut looks = 0;
        while nothing_came(socket) {
            looks += 1;
            if began.elapsed() >= most {
                break;
            }
            thread::yield_now();
        }
        self.left = self.left.saturating_sub(began.elapsed());
        Some(looks)
    }

    /// Remembers how long a wait took, its looking included.
    pub(crate) fn took(&mut self, time: Duration) {
        self.last_was_short = time < MOST;
    }
}

/// Whether the stream is open and empty.
fn nothing_came(socket: &OwnedFd) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(recv(socket, &mut [0_u8], flags), Err(Errno::AGAIN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write, os::unix::net::UnixStream};

    fn seats(all: usize) -> &'static Seats {
        Box::leak(Box::new(Seats::new(all)))
    }

    fn begun(seats: &'static Seats) -> Waits {
        let mut waits = Waits::with(seats);
        waits.begin();
        waits
    }

    #[test]
    fn no_more_look_than_there_are_seats_and_each_is_given_back() {
        let (seats, socket) = (seats(2), OwnedFd::from(UnixStream::pair().unwrap().0));
        let first = seats.take();
        assert!(first.is_some() && begun(seats).look(&socket).is_some());
        let second = seats.take();
        assert!(second.is_some() && begun(seats).look(&socket).is_none());
        drop((first, second));
        assert_eq!(seats.taken.load(Ordering::Relaxed), 0);
        assert!(begun(self::seats(0)).look(&socket).is_none(), "one core");
    }

    #[test]
    fn looking_ends_with_the_first_byte_the_end_or_the_time() {
        let (ours, mut region) = UnixStream::pair().unwrap();
        let (socket, seats) = (OwnedFd::from(ours), seats(1));
        assert!(begun(seats).look(&socket) > Some(0), "nothing has come");
        region.write_all(&[1]).unwrap();
        assert_eq!(begun(seats).look(&socket), Some(0));
        recv(&socket, &mut [0_u8], RecvFlags::empty()).unwrap();
        drop(region);
        assert_eq!(begun(seats).look(&socket), Some(0), "the region has ended");
    }

    #[test]
    fn a_call_is_looked_for_until_its_time_is_used_up() {
        let (ours, _region) = UnixStream::pair().unwrap();
        let (socket, mut waits) = (OwnedFd::from(ours), Waits::with(seats(1)));
        assert_eq!(waits.look(&socket), None, "no call has begun");
        for _ in 0..2 {
            waits.begin();
            let mut looks = 0;
            while waits.look(&socket).is_some() {
                looks += 1;
            }
            assert!((1..=4).contains(&looks), "{looks}");
        }
    }

    #[test]
    fn after_a_long_wait_nobody_looks_until_one_was_short() {
        let socket = OwnedFd::from(UnixStream::pair().unwrap().0);
        let mut waits = begun(seats(1));
        waits.took(MOST);
        assert_eq!(waits.look(&socket), None);
        waits.took(MOST - Duration::from_nanos(1));
        assert!(waits.look(&socket).is_some());
    }
}
