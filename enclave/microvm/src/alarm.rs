//! What interrupts a machine: KVM leaves a guest when its thread gets a signal. The signal comes from a timer of this process,
//! which can reach no other one.

use std::{io, ptr};
use vmm_sys_util::signal::{block_signal, register_signal_handler, unblock_signal};

/// Between signals: one that comes just before the guest is entered is lost.
const MICROSECONDS: libc::suseconds_t = 1_000;

/// Has the signal do nothing, and this thread not get it, nor any that it starts.
pub(crate) fn silence() -> io::Result<()> {
    register_signal_handler(libc::SIGALRM, ignore)?;
    block_signal(libc::SIGALRM).map_err(|error| io::Error::other(error.to_string()))
}

extern "C" fn ignore(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// Has this thread get the signal.
pub(crate) fn hear() -> io::Result<()> {
    unblock_signal(libc::SIGALRM).map_err(|error| io::Error::other(error.to_string()))
}

/// Signals, one after another, as long as this lives.
pub(crate) struct Alarm;

impl Alarm {
    pub(crate) fn ring() -> Self {
        every(MICROSECONDS);
        Self
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        every(0);
    }
}

/// Never, if that is 0.
fn every(microseconds: libc::suseconds_t) {
    let time = libc::timeval {
        tv_sec: 0,
        tv_usec: microseconds,
    };
    let timer = libc::itimerval {
        it_interval: time,
        it_value: time,
    };
    // SAFETY: the timer is read, and nothing is written. It fails for no timer like this one.
    #[allow(unsafe_code, reason = "no safe interface to setitimer(2)")]
    unsafe {
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut());
    }
}
