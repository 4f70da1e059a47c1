//! Machine code inside a region: what a cryptlet could do that broke out of WebAssembly.
//!
//! This program plays both parts. Started by cargo it is the host; started by itself, under the container's name, it becomes
//! the container's processes by the same steps as `src/main.rs`, and does one attempt in place of a package. The tables in
//! [`region`] and [`loading`] say what each attempt comes to: they are the documentation of the sandbox.
//!
//! No attempt would do harm if it succeeded: signals are number 0, and files that would be written have names of their own.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test without a harness, which makes system calls that have no safe interface"
)]

mod calls;
mod host;
mod loading;
mod region;
mod stand_in;

/// Name under which the program is started as a container.
const CONTAINER: &str = "cryptlet-container";

/// What an attempt comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The kernel kills the process, all its threads, by SIGSYS (31).
    Killed,
    /// As [`Outcome::Killed`], or by SIGSEGV where the kernel does not know such calls at all.
    KilledOrUnknown,
    /// It goes on until the host ends it.
    EndedByHost,
    /// The call is known and refused with this error.
    Refused(i32),
    /// It succeeds, and that is how it should be.
    Allowed,
}

/// Who is outside, for attempts that look for somebody.
#[derive(Clone, Copy, Debug)]
struct World {
    /// The host's process.
    host: i32,
    /// A region that is no business of this one.
    neighbour: i32,
}

/// Something that a process tries: its name, how, and what comes of it. It returns what the system call did: an error as a
/// negative number.
type Attempt = (&'static str, fn(World) -> i64, Outcome);

fn main() {
    if std::env::args_os()
        .next()
        .is_some_and(|name| name == CONTAINER)
    {
        stand_in::divide_and_attempt();
    } else {
        host::run();
    }
}
