//! What a region costs beside a program that runs the same component by itself; not part of what is measured.
//!
//! Prints one JSON object. Rates are calls in a second of this process's processor time, on one core: another process's work
//! does not count. Each figure is of this process, or of one that is isolated as a region is:
//!
//! | | |
//! |---|---|
//! | `wasmtime_fresh_calls_per_s` | wasmtime alone: an instance, a call, without limits |
//! | `in_process_fresh_calls_per_s` | the region's runtime in this process: limits, deadline and canonical NaNs |
//! | `fresh_calls_per_s` | the same in an isolated process |
//! | `in_process_call_p50_us` | a job from input to signed report, in this process: what a region does but for the stream |

mod alone;
mod job;

use cryptlet_container::{
    channel::{ChannelError, Host, SharedHost},
    deadline::Watchdog,
    sandbox,
    zygote::{Child, divide},
};
use cryptlet_types::region::{CallOut, CallOutAnswer};
use rustix::{
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    pipe::pipe,
    time::{ClockId, clock_gettime},
};
use std::{
    cell::RefCell,
    error::Error,
    io::{IoSlice, Read, Write},
    mem::MaybeUninit,
    net::Shutdown,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    rc::Rc,
    time::Duration,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Processor time for which calls are counted.
const WINDOW_SECONDS: f64 = 1.0;
/// Jobs whose times are compared.
const JOBS: u64 = 4_000;

/// A host that answers nothing.
struct Nobody;

impl Host for Nobody {
    fn call(&mut self, _: CallOut) -> Result<Result<CallOutAnswer, String>, ChannelError> {
        Ok(Err("nobody is here".into()))
    }
}

fn nobody() -> SharedHost {
    Rc::new(RefCell::new(Nobody))
}

fn main() -> Outcome<()> {
    // First: a process is divided while it has one thread.
    let isolated = in_a_region()?;
    let alone = calls_per_second(alone::caller()?)?;
    let runtime = job::Fresh::new()?;
    let watchdog = Watchdog::start()?;
    let in_process = calls_per_second(|| runtime.call(&watchdog))?;
    let call = median(job::times(JOBS, watchdog)?);
    writeln!(
        std::io::stdout(),
        "{{\"wasmtime_fresh_calls_per_s\":{alone:.0},\"in_process_fresh_calls_per_s\":{in_process:.0},\
         \"fresh_calls_per_s\":{isolated:.0},\"in_process_call_p50_us\":{call:.1}}}"
    )?;
    Ok(())
}

/// Calls a second in a process that is isolated as a region is.
fn in_a_region() -> Outcome<f64> {
    let (mut result, stream) = UnixStream::pair()?;
    let (_end, told) = pipe()?;
    let (requests, asked) = UnixStream::pair()?;
    ask(&requests, &[stream.as_fd(), told.as_fd()])?;
    // One copy is enough: whoever is asked no more does not wait for further requests.
    requests.shutdown(Shutdown::Write)?;
    if let Some(child) = divide(&asked.into(), sandbox::OWN_NAMESPACES)? {
        let outcome = isolated(child);
        if let Err(error) = &outcome {
            writeln!(std::io::stderr(), "{error}")?;
        }
        std::process::exit(i32::from(outcome.is_err()));
    }
    drop(stream);
    let mut bytes = [0; 8];
    result.read_exact(&mut bytes)?;
    Ok(f64::from_be_bytes(bytes))
}

fn ask(requests: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> Outcome<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    sendmsg(
        requests,
        &[IoSlice::new(&[0])],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// What a region does before it runs anything, and then calls.
fn isolated(child: Child) -> Outcome<()> {
    let [stream]: [OwnedFd; 1] = child.descriptors.try_into().map_err(|_| "descriptors")?;
    // The clock is looked for when it is read first, by a call that no region makes.
    worked();
    sandbox::isolate(None)?;
    let runtime = job::Fresh::new()?;
    let (mut stream, _) = sandbox::settle(stream, child.namespaces, None)?;
    let watchdog = Watchdog::start()?;
    sandbox::seal(None)?;
    let rate = calls_per_second(|| runtime.call(&watchdog))?;
    stream.write_all(&rate.to_be_bytes())?;
    Ok(())
}

/// Calls in a second of processor time.
fn calls_per_second(mut call: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    for _ in 0..1_000 {
        call()?;
    }
    let (started, mut calls) = (worked(), 0_u32);
    while worked() - started < WINDOW_SECONDS {
        for _ in 0..100 {
            call()?;
        }
        calls = calls.saturating_add(100);
    }
    Ok(f64::from(calls) / (worked() - started))
}

/// Processor time of this process, in seconds.
fn worked() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.try_into().unwrap_or_default(),
        time.tv_nsec.try_into().unwrap_or_default(),
    )
    .as_secs_f64()
}

fn median(mut micros: Vec<f64>) -> f64 {
    micros.sort_by(f64::total_cmp);
    micros.get(micros.len() / 2).copied().unwrap_or_default()
}
