//! Processes that divide: a region begins as a copy of one that has everything but secrets.
//!
//! The program that the host starts (the zygote) does nothing but divide. Each of its children loads one package and then
//! divides as well: its children are the regions. A region so costs neither the start of a program nor a compilation, and no
//! key of a region exists before the copy is made. Secret code does, compiled: it is the same in all of them.
//!
//! Requests come on a stream socket, one at a time: one byte, with descriptors beside it (`SCM_RIGHTS`). The last of them is
//! where the child's end will be told; the others are the child's. The answer is five bytes: 1 and four times 0 with a
//! descriptor of the child ([pidfd]) beside them, or 0 and the system's error number, big-endian. When a child has ended, its
//! parent writes five bytes to where it was asked to, which is a pipe: 0 and the exit code, or 1 and the signal, big-endian. A parent whose
//! socket is closed ends; children end with their parents.
//!
//! [pidfd]: https://man7.org/linux/man-pages/man2/pidfd_open.2.html

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{FileType, OFlags, fcntl_setfl, fstat},
    io::{Errno, write},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
    process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, waitid},
    thread::UnshareFlags,
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// Most descriptors of one request.
const MAX_DESCRIPTORS: usize = 3;
/// Most children at a time; each takes two descriptors of its parent.
const MAX_CHILDREN: usize = 480;
/// Answer to a request that was met.
const DIVIDED: [u8; 5] = [1, 0, 0, 0, 0];

/// What a child begins with.
#[derive(Debug)]
pub struct Child {
    /// What the request brought for it.
    pub descriptors: Vec<OwnedFd>,
    /// Namespaces that are its own.
    pub namespaces: UnshareFlags,
}

/// A child, as its parent knows it.
struct Living {
    process: OwnedFd,
    end: OwnedFd,
}

/// Divides as often as it is asked to on `requests`. Returns in each child; in the parent, nothing when `requests` is closed.
/// Children get those namespaces of `wanted` that the system grants together, or none.
///
/// The process must have one thread.
///
/// # Errors
/// The socket cannot be used.
pub fn divide(requests: &OwnedFd, wanted: UnshareFlags) -> io::Result<Option<Child>> {
    let mut living: Vec<Living> = Vec::new();
    loop {
        if !wait(requests, &mut living)? {
            continue;
        }
        let Some(mut descriptors) = receive(requests.as_fd())? else {
            return Ok(None);
        };
        let Some(end) = descriptors.pop() else {
            refuse(requests.as_fd(), Errno::INVAL)?;
            continue;
        };
        if let Err(error) = harmless(&end) {
            refuse(requests.as_fd(), error)?;
            continue;
        }
        if living.len() >= MAX_CHILDREN {
            refuse(requests.as_fd(), Errno::AGAIN)?;
            continue;
        }
        match copy(wanted) {
            Ok(Copied::Child(namespaces)) => {
                return Ok(Some(Child {
                    descriptors,
                    namespaces,
                }));
            }
            Ok(Copied::Parent(process)) => {
                answer(requests.as_fd(), &process)?;
                living.push(Living { process, end });
            }
            Err(error) => refuse(requests.as_fd(), error)?,
        }
    }
}

/// Where an end is told must be a pipe: to write to a file, which has no room here, would end the writer. A pipe that is full
/// must not hold it up either.
fn harmless(end: &OwnedFd) -> Result<(), Errno> {
    if FileType::from_raw_mode(fstat(end)?.st_mode) != FileType::Fifo {
        return Err(Errno::INVAL);
    }
    fcntl_setfl(end, OFlags::NONBLOCK)
}

/// Waits for a request or the end of children, and tells of those. Whether there is a request.
fn wait(requests: &OwnedFd, living: &mut Vec<Living>) -> io::Result<bool> {
    let mut watched = vec![PollFd::new(requests, PollFlags::IN)];
    let children = living.iter();
    watched.extend(children.map(|child| PollFd::new(&child.process, PollFlags::IN)));
    match poll(&mut watched, None) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    let mut seen = watched.iter().map(|entry| !entry.revents().is_empty());
    let asked = seen.next().unwrap_or_default();
    let ended: Vec<bool> = seen.collect();
    drop(watched);
    let mut ended = ended.into_iter();
    living.retain(|child| !(ended.next().unwrap_or_default() && bury(child)));
    Ok(asked)
}

/// Takes leave of a child that has ended, and tells how. Whether it has.
fn bury(child: &Living) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let Ok(Some(status)) = waitid(WaitId::PidFd(child.process.as_fd()), options) else {
        return false;
    };
    // Who asked may have gone.
    let _ = write(&child.end, &told(&status));
    true
}

fn told(status: &WaitIdStatus) -> [u8; 5] {
    let (kind, value) = match status.terminating_signal() {
        Some(signal) => (1, signal),
        None => (0, status.exit_status().unwrap_or(-1)),
    };
    let [a, b, c, d] = value.to_be_bytes();
    [kind, a, b, c, d]
}

fn receive(requests: BorrowedFd<'_>) -> io::Result<Option<Vec<OwnedFd>>> {
    let mut byte = [0_u8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut byte)];
    let received = recvmsg(requests, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok(Some(descriptors))
}

fn answer(requests: BorrowedFd<'_>, process: &OwnedFd) -> io::Result<()> {
    let rights = [process.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&rights));
    send(requests, DIVIDED, &mut ancillary)
}

fn refuse(requests: BorrowedFd<'_>, error: Errno) -> io::Result<()> {
    let [a, b, c, d] = error.raw_os_error().to_be_bytes();
    let refused = [0, a, b, c, d];
    send(requests, refused, &mut SendAncillaryBuffer::default())
}

fn send(
    requests: BorrowedFd<'_>,
    bytes: [u8; 5],
    ancillary: &mut SendAncillaryBuffer<'_, '_, '_>,
) -> io::Result<()> {
    sendmsg(
        requests,
        &[IoSlice::new(&bytes)],
        ancillary,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// On which side of a division this is.
enum Copied {
    Child(UnshareFlags),
    Parent(OwnedFd),
}

fn copy(wanted: UnshareFlags) -> Result<Copied, Errno> {
    for namespaces in [wanted, UnshareFlags::empty()] {
        match clone(namespaces) {
            Ok(None) => return Ok(Copied::Child(namespaces)),
            // It is there until this process has taken leave of it, so that its number is nobody else's.
            Ok(Some(child)) => return pidfd_open(child, PidfdFlags::empty()).map(Copied::Parent),
            Err(Errno::PERM | Errno::NOSPC | Errno::USERS) if !namespaces.is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::PERM)
}

/// The child's number in the parent, nothing in the child.
#[allow(unsafe_code, reason = "no safe interface to clone(2)")]
fn clone(namespaces: UnshareFlags) -> Result<Option<Pid>, Errno> {
    let flags = i64::from(namespaces.bits()) | i64::from(libc::SIGCHLD);
    // SAFETY: nothing is shared with the child but by copy (neither CLONE_VM nor CLONE_FILES), and the calling thread, the
    // only one, goes on in it on a copy of its stack. No lock is held by another thread, since there is none. The C library is
    // passed by, which keeps the old thread number of the calling thread: it is used for locks that know their owner, where
    // it need only be the same each time.
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, 0_u64, 0_u64, 0_u64, 0_u64) };
    match i32::try_from(result) {
        Ok(0) => Ok(None),
        Ok(number) if number > 0 => Pid::from_raw(number).map(Some).ok_or(Errno::CHILD),
        _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
    }
}
