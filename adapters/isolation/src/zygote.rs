//! The host's side of processes that divide: `cryptlet_container::zygote` describes what is said.

use rustix::{
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
    pipe::{PipeFlags, pipe_with},
    process::{Signal, pidfd_send_signal},
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream as StdStream,
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, Interest},
    net::{UnixStream, unix::pipe},
    time::timeout,
};

/// Most descriptors of one request: a stream, a socket, and where the end is told.
const MAX_DESCRIPTORS: usize = 3;
/// Time that a process has to divide: it takes a fraction of a millisecond.
const DIVISION_TIME: Duration = Duration::from_secs(10);
/// The answer of a process that has divided.
const DIVIDED: u8 = 1;

/// A socket on which a process is asked to divide. It is of no use any more after a failure: an answer could be to an earlier
/// request.
#[derive(Debug)]
pub(crate) struct Requests(UnixStream);

impl Requests {
    /// A socket, and the end that the process gets.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = StdStream::pair()?;
        Ok((Self(stream_of(ours)?), theirs.into()))
    }

    /// Asks for a child that gets `descriptors`.
    pub(crate) async fn divide(&mut self, descriptors: &[BorrowedFd<'_>]) -> io::Result<Child> {
        let (told, end) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let rights: Vec<_> = descriptors.iter().copied().chain([end.as_fd()]).collect();
        let asked = self
            .0
            .async_io(Interest::WRITABLE, || ask(self.0.as_fd(), &rights));
        timeout(DIVISION_TIME, asked).await??;
        let answered = self
            .0
            .async_io(Interest::READABLE, || answer(self.0.as_fd()));
        Ok(Child {
            process: timeout(DIVISION_TIME, answered).await??,
            end: pipe::Receiver::from_owned_fd(told)?,
        })
    }
}

fn ask(socket: BorrowedFd<'_>, rights: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(rights)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let byte = [IoSlice::new(&[0])];
    sendmsg(socket, &byte, &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn answer(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut bytes = [0_u8; 5];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(socket, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut rights = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    let process = rights.next().and_then(|mut descriptors| descriptors.next());
    match (received.bytes, bytes, process) {
        (0, ..) => Err(io::ErrorKind::UnexpectedEof.into()),
        (5, [DIVIDED, ..], Some(process)) => Ok(process),
        (5, [_, number @ ..], None) => {
            Err(io::Error::from_raw_os_error(i32::from_be_bytes(number)))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// A stream for use by tokio.
pub(crate) fn stream_of(stream: StdStream) -> io::Result<UnixStream> {
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// A process that another one became when it divided. Dropping this kills it.
#[derive(Debug)]
pub(crate) struct Child {
    process: OwnedFd,
    end: pipe::Receiver,
}

impl Child {
    /// Ends it.
    pub(crate) fn kill(&self) {
        // It fails only where the process has ended already.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
    }

    /// Waits for its end; how it came about, as far as its parent could tell.
    pub(crate) async fn ended(&mut self) -> String {
        let mut told = [0_u8; 5];
        match self.end.read_exact(&mut told).await {
            Ok(_) => explain(told),
            Err(_) => "with its parent".to_owned(),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

fn explain([kind, value @ ..]: [u8; 5]) -> String {
    let value = i32::from_be_bytes(value);
    match (kind, u32::try_from(value)) {
        (0, _) => format!("exit status: {value}"),
        (_, Ok(SIGSYS)) => format!("signal: {value} (a system call that no region makes)"),
        _ => format!("signal: {value}"),
    }
}

/// What the kernel kills a process with that breaks its filter.
const SIGSYS: u32 = 31;
