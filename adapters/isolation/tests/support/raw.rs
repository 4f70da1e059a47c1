//! A container without a provider: a host that says and sends whatever it likes.

use super::container;
use cryptlet_types::region::{CallIn, CallInAnswer, RegionFault, ToHost, ToRegion, decode, encode};
use rustix::{
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
    pipe::{PipeFlags, pipe_with},
};
use std::{
    fs::{self, File},
    io::{IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child as Process, Command, Stdio},
    time::Duration,
};

/// Longest wait for anything that must come about.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub type Answer = Result<CallInAnswer, RegionFault>;

/// The program, started; ends with this.
pub struct Program {
    process: Process,
    pub requests: UnixStream,
}

impl Drop for Program {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// A process that it became.
pub struct Child {
    _process: OwnedFd,
    end: File,
    pub stream: UnixStream,
}

impl Program {
    pub fn start() -> Self {
        let (requests, theirs) = UnixStream::pair().unwrap();
        requests.set_read_timeout(Some(PATIENCE)).unwrap();
        let process = Command::new(container())
            .arg0("cryptlet-container")
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, requests }
    }

    /// How many descriptors it holds. Nothing for an ordinary user, who may not look into a process that is not dumpable.
    pub fn descriptors(&self) -> Option<usize> {
        let held = fs::read_dir(format!("/proc/{}/fd", self.process.id()));
        held.ok().map(Iterator::count)
    }

    /// A process that waits for a package, and its socket for requests.
    pub fn loading(&self) -> (Child, UnixStream) {
        let (requests, theirs) = UnixStream::pair().unwrap();
        requests.set_read_timeout(Some(PATIENCE)).unwrap();
        (child(&self.requests, &[theirs.as_fd()]).unwrap(), requests)
    }
}

/// Asks for a child that gets a stream and `more`.
pub fn child(requests: &UnixStream, more: &[BorrowedFd<'_>]) -> Result<Child, i32> {
    let (stream, theirs) = UnixStream::pair().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (told, end) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let given: Vec<_> = [theirs.as_fd()]
        .into_iter()
        .chain(more.iter().copied())
        .collect();
    let process = divide(requests, &given, Some(end.as_fd()))?;
    Ok(Child {
        _process: process,
        end: told.into(),
        stream,
    })
}

/// Sends a request with these descriptors; the process that came of it, or the error's number.
pub fn divide(
    requests: &UnixStream,
    given: &[BorrowedFd<'_>],
    end: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, i32> {
    let rights: Vec<_> = given.iter().copied().chain(end).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !rights.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&rights)));
    }
    sendmsg(
        requests,
        &[IoSlice::new(&[0])],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )
    .unwrap();
    divided(requests)
}

/// The answer to a request.
pub fn divided(requests: &UnixStream) -> Result<OwnedFd, i32> {
    let mut bytes = [0; 5];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(requests, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap();
    assert_eq!(received.bytes, 5, "it has ended");
    let process = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    let [kind, number @ ..] = bytes;
    match (kind, process) {
        (1, Some(process)) => Ok(process),
        (0, None) => Err(i32::from_be_bytes(number)),
        other => panic!("{other:?}"),
    }
}

impl Child {
    pub fn send(&mut self, message: &ToRegion) {
        self.send_frame(&encode(message).unwrap());
    }

    pub fn send_frame(&mut self, body: &[u8]) {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        self.send_bytes(&[&length, body].concat());
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        // It may have ended already.
        let _ = self.stream.write_all(bytes);
    }

    /// What it says next; none at its end.
    pub fn next(&mut self) -> Option<ToHost> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
        self.stream.read_exact(&mut body).unwrap();
        Some(decode(&body).unwrap())
    }

    /// Calls in, and the answer.
    pub fn call(&mut self, call: CallIn) -> Answer {
        self.send(&ToRegion::Call(call));
        match self.next() {
            Some(ToHost::Answer(answer)) => answer,
            other => panic!("no answer: {other:?}"),
        }
    }

    /// Waits for its end: the exit status; none if a signal ended it.
    pub fn ended(mut self) -> Option<i32> {
        let mut told = [0; 5];
        self.end.read_exact(&mut told).unwrap();
        let [kind, value @ ..] = told;
        (kind == 0).then(|| i32::from_be_bytes(value))
    }
}
