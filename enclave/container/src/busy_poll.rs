//! A stream to a host on this machine that is awake while the next call is likely to come soon.
//!
//! Who has many jobs sends the next call as soon as the last is answered, and to be woken for it on another core takes longer than
//! many an answer. So the first moments of a wait are spent looking (as a network's driver does with `SO_BUSY_POLL`),
//! but only where the last wait was a short one too, and where there is another core for the host.

use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};
use std::{
    io::{self, Read, Write},
    num::NonZero,
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

/// Longest that is looked for; what takes longer is worth a wake-up.
const MOST: Duration = Duration::from_micros(50);
/// What is a short wait. It has the wake-up in it where nobody looked, which must not keep the next one from being looked for.
const SHORT: Duration = Duration::from_micros(200);

/// Whether there is a core beside the one that looks. It reads files, which a process that loads packages may not any more.
#[must_use]
pub fn has_cores() -> bool {
    thread::available_parallelism().map_or(1, NonZero::get) > 1
}

/// See the module.
#[derive(Debug)]
pub struct BusyPolled {
    stream: UnixStream,
    has_cores: bool,
    last_was_short: bool,
}

impl BusyPolled {
    /// Awake only where `has_cores` ([`has_cores`]).
    #[must_use]
    pub fn new(stream: UnixStream, has_cores: bool) -> Self {
        Self {
            stream,
            has_cores,
            last_was_short: true,
        }
    }

    fn looks(&self) -> bool {
        self.has_cores && self.last_was_short
    }

    fn took(&mut self, time: Duration) {
        self.last_was_short = time < SHORT;
    }

    /// What comes while it is looked for; nothing if that takes too long.
    fn look(&self, into: &mut [u8], began: Instant) -> Option<io::Result<usize>> {
        while began.elapsed() < MOST {
            match recv(&self.stream, &mut *into, RecvFlags::DONTWAIT) {
                Ok((count, _)) => return Some(Ok(count)),
                Err(Errno::AGAIN | Errno::INTR) => thread::yield_now(),
                Err(error) => return Some(Err(error.into())),
            }
        }
        None
    }
}

impl Read for BusyPolled {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let began = Instant::now();
        let seen = self.looks().then(|| self.look(into, began)).flatten();
        let read = match seen {
            Some(read) => read,
            None => self.stream.read(into),
        };
        self.took(began.elapsed());
        read
    }
}

impl Write for BusyPolled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(has_cores: bool, last_was_short: bool) -> (BusyPolled, UnixStream) {
        let (stream, host) = UnixStream::pair().unwrap();
        let mut polled = BusyPolled::new(stream, has_cores);
        polled.last_was_short = last_was_short;
        (polled, host)
    }

    const WAYS: [(bool, bool); 4] = [(true, true), (true, false), (false, true), (false, false)];

    #[test]
    fn what_comes_is_read_whether_it_is_looked_for_or_not() {
        for (has_cores, last_was_short) in WAYS {
            let (mut polled, mut host) = pair(has_cores, last_was_short);
            let mut into = [0; 4];
            host.write_all(&[1, 2]).unwrap();
            assert_eq!(polled.read(&mut into).unwrap(), 2);
            assert_eq!(into, [1, 2, 0, 0]);
            let later = thread::spawn(move || host.write_all(&[3]));
            assert_eq!(polled.read(&mut into).unwrap(), 1);
            later.join().unwrap().unwrap();
            assert_eq!(polled.read(&mut into).unwrap(), 0, "the host has gone");
        }
    }

    #[test]
    fn looking_takes_what_is_there_and_gives_up_in_time() {
        let (polled, mut host) = pair(true, true);
        let (mut into, now) = ([0; 4], Instant::now);
        assert!(polled.look(&mut into, now()).is_none());
        host.write_all(&[7]).unwrap();
        assert_eq!(polled.look(&mut into, now()).unwrap().unwrap(), 1);
        drop(host);
        assert_eq!(polled.look(&mut into, now()).unwrap().unwrap(), 0);
    }

    #[test]
    fn only_after_a_short_wait_and_beside_another_core_it_is_looked_for() {
        for (has_cores, last_was_short) in WAYS {
            let (polled, _host) = pair(has_cores, last_was_short);
            assert_eq!(polled.looks(), has_cores && last_was_short);
        }
        let (mut polled, _host) = pair(true, true);
        polled.took(SHORT);
        assert!(!polled.looks());
        polled.took(SHORT - Duration::from_nanos(1));
        assert!(polled.looks());
    }
}
