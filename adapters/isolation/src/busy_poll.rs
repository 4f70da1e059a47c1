//! Waiting awake for a region on this machine: what it says soon is seen at once.
//!
//! A region answers many a call in less time than a system takes to wake who waits for it on another core. So the first moments
//! of a wait are spent looking (as a network's driver does with `SO_BUSY_POLL`), but only where the last wait was a short
//! one too and a core stays free for the region: one of this process's waits fewer than it has cores looks, all others sleep.

use rustix::net::{RecvFlags, recv};
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

/// Longest that is looked for; what takes longer is worth a wake-up.
const MOST: Duration = Duration::from_micros(250);

/// How many may look at a time, and how many do.
static PLACES: LazyLock<Places> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    Places::new(cores - 1)
});

struct Places {
    all: usize,
    taken: AtomicUsize,
}

impl Places {
    fn new(all: usize) -> Self {
        Self {
            all,
            taken: AtomicUsize::new(0),
        }
    }

    fn take(&self) -> Option<Place<'_>> {
        let more = |taken| (taken < self.all).then_some(taken + 1);
        let order = Ordering::Relaxed;
        self.taken.fetch_update(order, order, more).ok()?;
        Some(Place(self))
    }
}

/// Given back when it is dropped, as with a future that nobody waits for any more.
struct Place<'a>(&'a Places);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The waits of one conversation.
#[derive(Debug)]
pub(crate) struct Waits {
    last_was_short: bool,
}

impl Waits {
    pub(crate) fn new() -> Self {
        Self {
            last_was_short: true,
        }
    }

    /// Looks at `socket` until something has come or the time for that is over. It does not let the runtime go on meanwhile: that
    /// would have another of its threads woken, on the core where the region runs. Nothing waits longer for it than for the
    /// check of a few signatures.
    pub(crate) fn look(&self, socket: &OwnedFd) {
        if self.last_was_short
            && let Some(_place) = PLACES.take()
        {
            look(socket);
        }
    }

    /// Remembers how long a wait took, its looking included.
    pub(crate) fn took(&mut self, time: Duration) {
        self.last_was_short = time < MOST;
    }
}

fn look(socket: &OwnedFd) {
    let began = Instant::now();
    while nothing_came(socket) && began.elapsed() < MOST {
        thread::yield_now();
    }
}

/// Whether the stream is open and empty.
fn nothing_came(socket: &OwnedFd) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(
        recv(socket, &mut [0_u8], flags),
        Err(rustix::io::Errno::AGAIN)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write, os::unix::net::UnixStream};

    #[test]
    fn no_more_look_than_there_are_places_and_each_is_given_back() {
        let places = Places::new(2);
        let (first, second) = (places.take(), places.take());
        assert!(first.is_some() && second.is_some() && places.take().is_none());
        drop(second);
        let again = places.take();
        assert!(again.is_some() && places.take().is_none());
        drop((first, again));
        assert_eq!(places.taken.into_inner(), 0);
        assert!(Places::new(0).take().is_none(), "one core");
    }

    #[test]
    fn looking_ends_with_the_first_byte_or_the_end_or_in_time() {
        let (ours, mut region) = UnixStream::pair().unwrap();
        let socket = OwnedFd::from(ours);
        let began = Instant::now();
        look(&socket);
        assert!(began.elapsed() >= MOST);
        region.write_all(&[1]).unwrap();
        assert!(!nothing_came(&socket));
        drop(region);
        recv(&socket, &mut [0_u8], RecvFlags::empty()).unwrap();
        assert!(!nothing_came(&socket), "the region has ended");
    }

    #[test]
    fn a_long_wait_is_not_looked_for_again_until_one_was_short() {
        let mut waits = Waits::new();
        assert!(waits.last_was_short);
        waits.took(MOST);
        assert!(!waits.last_was_short);
        waits.took(MOST - Duration::from_nanos(1));
        assert!(waits.last_was_short);
    }
}
