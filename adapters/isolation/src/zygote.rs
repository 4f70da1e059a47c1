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
    fs,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
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

    /// Asks process `parent` for a child that gets `descriptors`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if the answer is none, or names a process that is no child of `parent`: a process that
    /// was taken over could otherwise have this one kill any other.
    pub(crate) async fn divide(
        &mut self,
        parent: u32,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<Child> {
        let (told, end) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let rights: Vec<_> = descriptors.iter().copied().chain([end.as_fd()]).collect();
        let asked = self
            .0
            .async_io(Interest::WRITABLE, || ask(self.0.as_fd(), &rights));
        timeout(DIVISION_TIME, asked).await??;
        let answered = self
            .0
            .async_io(Interest::READABLE, || answer(self.0.as_fd()));
        let process = timeout(DIVISION_TIME, answered)
            .await??
            .map_err(io::Error::from_raw_os_error)?;
        let number = number_of_child(process.as_fd(), parent)?;
        Ok(Child {
            process,
            number,
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

/// What it answers: a process, or the number of an error. That error is not the socket's, which `EAGAIN` would mean to be asked
/// again.
fn answer(socket: BorrowedFd<'_>) -> io::Result<Result<OwnedFd, i32>> {
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
        (5, [DIVIDED, 0, 0, 0, 0], Some(process)) => Ok(Ok(process)),
        (5, [0, number @ ..], None) => Ok(Err(i32::from_be_bytes(number))),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The number of the process behind a descriptor; none once its parent has taken leave of it.
fn number_of(process: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd()))?;
    let number = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    let number = number.and_then(|number| number.trim().parse::<i32>().ok());
    // What is no process has no such line.
    let number = number.ok_or(io::ErrorKind::InvalidData)?;
    Ok(u32::try_from(number).ok())
}

/// Who a process is a child of: the fourth field of its [stat](https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html).
/// The second is a name between parentheses, which may contain any.
fn parent_of(number: u32) -> io::Result<u32> {
    let stat = fs::read_to_string(format!("/proc/{number}/stat"))?;
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
    let parent = fields.and_then(|fields| fields.split_whitespace().nth(1)?.parse().ok());
    parent.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The number of a child of `parent`; none if it has ended already, and then nothing is done to it any more.
fn number_of_child(process: BorrowedFd<'_>, parent: u32) -> io::Result<Option<u32>> {
    let Some(number) = number_of(process)? else {
        return Ok(None);
    };
    let found = parent_of(number);
    // Only while the process is there its number is nobody else's.
    if number_of(process)? != Some(number) {
        return Ok(None);
    }
    if found? == parent {
        Ok(Some(number))
    } else {
        Err(io::ErrorKind::InvalidData.into())
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
    number: Option<u32>,
    end: pipe::Receiver,
}

impl Child {
    /// Its number; none if it had ended when it was looked for.
    pub(crate) fn number(&self) -> Option<u32> {
        self.number
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::process::{PidfdFlags, getpid, getppid, pidfd_open};

    /// What is read of an answer of these bytes, with this descriptor beside it.
    fn answered(bytes: &[u8], beside: Option<&OwnedFd>) -> io::Result<Result<OwnedFd, i32>> {
        let (ours, theirs) = StdStream::pair().unwrap();
        let rights: Vec<_> = beside.iter().map(|beside| beside.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !rights.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(&rights)));
        }
        let sent = [IoSlice::new(bytes)];
        sendmsg(&theirs, &sent, &mut ancillary, SendFlags::NOSIGNAL).unwrap();
        drop(theirs);
        answer(ours.as_fd())
    }

    fn this_process() -> OwnedFd {
        pidfd_open(getpid(), PidfdFlags::empty()).unwrap()
    }

    #[test]
    fn a_child_is_one_of_whom_was_asked() {
        let parent = u32::try_from(getppid().unwrap().as_raw_nonzero().get()).unwrap();
        let process = this_process();
        let number = number_of_child(process.as_fd(), parent).unwrap();
        assert_eq!(number, Some(std::process::id()));
        for stranger in [parent + 1, std::process::id(), 0] {
            let error = number_of_child(process.as_fd(), stranger).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        let (no_process, _other) = StdStream::pair().unwrap();
        assert!(number_of_child(no_process.as_fd(), parent).is_err());
    }

    #[test]
    fn what_has_ended_is_nobodys_child_and_no_error() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let number = rustix::process::Pid::from_child(&child);
        let process = pidfd_open(number, PidfdFlags::empty()).unwrap();
        child.wait().unwrap();
        assert_eq!(
            number_of_child(process.as_fd(), std::process::id()).unwrap(),
            None
        );
    }

    #[test]
    fn a_refusal_is_the_systems_error() {
        assert_eq!(answered(&[0, 0, 0, 0, 11], None).unwrap().err(), Some(11));
        assert!(answered(&[0, 0, 0, 0, 11], Some(&this_process())).is_err());
        assert!(matches!(
            answered(&[1, 0, 0, 0, 0], Some(&this_process())),
            Ok(Ok(_))
        ));
        assert!(answered(&[1, 0, 0, 0, 0], None).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_are_no_child(
            bytes in proptest::collection::vec(any::<u8>(), 1..8),
            beside: bool,
        ) {
            let process = beside.then(this_process);
            let answered = answered(&bytes, process.as_ref());
            let whole = bytes.starts_with(&[1, 0, 0, 0, 0]) && beside;
            prop_assert_eq!(matches!(answered, Ok(Ok(_))), whole);
        }
    }
}
