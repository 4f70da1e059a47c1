//! The host: has a fresh process made for each attempt, and sees how it ends.

use crate::{
    Attempt, CONTAINER, Outcome, World, loading, region,
    stand_in::{DIVIDE, ORDER_BYTES},
};
use rustix::{
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
    pipe::{PipeFlags, pipe_with},
    process::{Signal, pidfd_send_signal},
};
use std::{
    fs::{self, File},
    io::{IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child as Program, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Longest wait for anything that must come about.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a region computes before its host loses patience, in ticks of 10 ms.
const TICKS: u64 = 10;

/// A process that was divided off.
struct Child {
    process: OwnedFd,
    end: File,
    stream: UnixStream,
}

/// How an attempt went.
#[derive(Debug)]
enum Seen {
    Returned(i64),
    Signal(i32),
    /// Told by `Debug` when a test fails.
    Exit(#[allow(dead_code, reason = "only shown")] i32),
}

pub(crate) fn run() {
    let (_program, requests) = start();
    let (loaded, dividing) = loading_process(&requests, DIVIDE, world(0));
    let mut stream = &loaded.stream;
    stream.read_exact(&mut [0; 8]).unwrap();
    let neighbour = region(&dividing);
    let world = world(number(&neighbour.process));
    let mut failures = Vec::new();
    for (index, attempt) in loading::ATTEMPTS.iter().enumerate() {
        let order = i32::try_from(index).unwrap();
        let (child, _) = loading_process(&requests, order, world);
        judge("loading", attempt, child, &mut failures);
    }
    for (index, attempt) in region::ATTEMPTS.iter().enumerate() {
        let child = region(&dividing);
        send_order(&child.stream, i32::try_from(index).unwrap(), world);
        if attempt.0 == region::SENT {
            send(&child.stream, &[child.process.as_fd()]);
        }
        if attempt.2 == Outcome::EndedByHost {
            end_when_busy(&child);
        }
        judge("region", attempt, child, &mut failures);
    }
    assert!(failures.is_empty(), "{failures:#?}");
    // The neighbour has been there all the time.
    pidfd_send_signal(&neighbour.process, Signal::KILL).unwrap();
    assert!(matches!(how(neighbour), Seen::Signal(9)));
    let attempts = loading::ATTEMPTS.len() + region::ATTEMPTS.len();
    println!(
        "{attempts} attempts of machine code, each in a process of its own: as the tables say"
    );
}

fn judge(place: &str, (name, _, expected): &Attempt, child: Child, failures: &mut Vec<String>) {
    let seen = how(child);
    let as_expected = match (expected, &seen) {
        (Outcome::Killed | Outcome::KilledOrUnknown, Seen::Signal(libc::SIGSYS))
        | (Outcome::KilledOrUnknown, Seen::Signal(libc::SIGSEGV))
        | (Outcome::EndedByHost, Seen::Signal(libc::SIGKILL)) => true,
        (Outcome::Refused(error), Seen::Returned(result)) => *result == -i64::from(*error),
        (Outcome::Allowed, Seen::Returned(result)) => *result >= 0,
        _ => false,
    };
    if !as_expected {
        failures.push(format!("{place}: {name}: {seen:?}, not {expected:?}"));
    }
}

/// What it answered; if it did not, how it ended.
fn how(mut child: Child) -> Seen {
    child.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut result = [0; 8];
    if child.stream.read_exact(&mut result).is_ok() {
        return Seen::Returned(i64::from_be_bytes(result));
    }
    let mut told = [0; 5];
    child.end.read_exact(&mut told).unwrap();
    let [kind, value @ ..] = told;
    let value = i32::from_be_bytes(value);
    if kind == 1 {
        Seen::Signal(value)
    } else {
        Seen::Exit(value)
    }
}

fn world(neighbour: i32) -> World {
    World {
        host: i32::try_from(std::process::id()).unwrap(),
        neighbour,
    }
}

/// The program that was started; ends with this.
struct Running(Program);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn start() -> (Running, UnixStream) {
    let (requests, theirs) = UnixStream::pair().unwrap();
    let program = Command::new(std::env::current_exe().unwrap())
        .arg0(CONTAINER)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn();
    (Running(program.unwrap()), requests)
}

/// A process that has been isolated and given an order, and its socket for requests.
fn loading_process(requests: &UnixStream, order: i32, world: World) -> (Child, UnixStream) {
    let (stream, theirs) = UnixStream::pair().unwrap();
    let (dividing, their_requests) = UnixStream::pair().unwrap();
    let child = divide(requests, stream, &[theirs.as_fd(), their_requests.as_fd()]);
    send_order(&child.stream, order, world);
    (child, dividing)
}

fn region(dividing: &UnixStream) -> Child {
    let (stream, theirs) = UnixStream::pair().unwrap();
    divide(dividing, stream, &[theirs.as_fd()])
}

fn divide(requests: &UnixStream, stream: UnixStream, given: &[BorrowedFd<'_>]) -> Child {
    let (told, end) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let rights: Vec<_> = given.iter().copied().chain([end.as_fd()]).collect();
    send(requests, &rights);
    requests.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = [0; 5];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut bytes)];
    recvmsg(requests, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap();
    assert_eq!(bytes, [1, 0, 0, 0, 0], "does not divide");
    let process = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    Child {
        process: process.unwrap(),
        end: told.into(),
        stream,
    }
}

/// One byte with descriptors beside it.
fn send(socket: &UnixStream, rights: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(rights)));
    sendmsg(
        socket,
        &[IoSlice::new(&[0])],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )
    .unwrap();
}

fn send_order(mut stream: &UnixStream, order: i32, world: World) {
    let mut bytes = Vec::with_capacity(ORDER_BYTES);
    for number in [order, world.host, world.neighbour] {
        bytes.extend(number.to_be_bytes());
    }
    stream.write_all(&bytes).unwrap();
}

/// The process's number on this side.
fn number(process: &OwnedFd) -> i32 {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd())).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    line.unwrap().trim().parse().unwrap()
}

/// Fields 14 and 15 of the process's stat: its time on a processor. None when it is gone.
fn ticks(process: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields = stat.rsplit(')').next()?.split_whitespace();
    let times = fields.skip(11).take(2);
    Some(times.map(|field| field.parse::<u64>().unwrap()).sum())
}

/// Ends it once it has computed for a while; not at all if it has ended by itself.
fn end_when_busy(child: &Child) {
    let (process, started) = (number(&child.process), Instant::now());
    while ticks(process).is_some_and(|ticks| ticks < TICKS) {
        assert!(started.elapsed() < PATIENCE, "it never computed");
        thread::sleep(Duration::from_millis(5));
    }
    let _ = pidfd_send_signal(&child.process, Signal::KILL);
}
