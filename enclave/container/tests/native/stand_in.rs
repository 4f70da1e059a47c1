//! The container's processes, with an attempt in place of a package. The steps are those of `src/main.rs`.

use crate::{Attempt, World, calls::call, loading, region};
use cryptlet_container::{deadline::Watchdog, sandbox, zygote::divide};
use rustix::thread::UnshareFlags;
use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::mpsc,
    thread,
};

/// What the host orders: which attempt of the table, and who is outside.
pub(crate) const ORDER_BYTES: usize = 12;
/// No attempt: the loading process is to divide.
pub(crate) const DIVIDE: i32 = -1;

/// An attempt of [`region`]'s that another thread makes: one that runs already when the filter is put on.
pub(crate) const BY_ANOTHER_THREAD: &str = "getpid, by a thread that ran before";

pub(crate) fn divide_and_attempt() {
    sandbox::enter().unwrap();
    let requests = io::stdin().as_fd().try_clone_to_owned().unwrap();
    let Some(child) = divide(&requests, UnshareFlags::empty()).unwrap() else {
        return;
    };
    drop(requests);
    let [stream, requests]: [OwnedFd; 2] = child.descriptors.try_into().unwrap();
    let mut stream = UnixStream::from(stream);
    sandbox::isolate(None).unwrap();
    let (order, world) = ordered(&mut stream);
    if let Ok(order) = usize::try_from(order) {
        return attempt(&mut stream, &loading::ATTEMPTS[order], world);
    }
    // The host hears of nothing else on this stream than that regions can be asked for.
    stream.write_all(&[0; 8]).unwrap();
    let Some(child) = divide(&requests, sandbox::OWN_NAMESPACES).unwrap() else {
        return;
    };
    drop(requests);
    let [stream]: [OwnedFd; 1] = child.descriptors.try_into().unwrap();
    let (stream, _) = sandbox::settle(stream, child.namespaces, None).unwrap();
    be_region(stream);
}

fn be_region(mut stream: UnixStream) {
    let _watchdog = Watchdog::start().unwrap();
    let (other, orders) = mpsc::channel::<()>();
    let (answers, answer) = mpsc::channel();
    thread::spawn(move || {
        answers.send(0).unwrap();
        for () in orders {
            answers.send(call!(libc::SYS_getpid)).unwrap();
        }
    });
    // A thread that is still beginning would not survive what comes.
    answer.recv().unwrap();
    assert_eq!(
        sandbox::seal(None).unwrap(),
        ["descriptors", "seccomp-kill"]
    );
    let (order, world) = ordered(&mut stream);
    let entry = &region::ATTEMPTS[usize::try_from(order).unwrap()];
    if entry.0 == BY_ANOTHER_THREAD {
        other.send(()).unwrap();
        let result = answer.recv().unwrap();
        return stream.write_all(&result.to_be_bytes()).unwrap();
    }
    attempt(&mut stream, entry, world);
}

fn ordered(stream: &mut UnixStream) -> (i32, World) {
    let mut order = [0; ORDER_BYTES];
    stream.read_exact(&mut order).unwrap();
    let number = |at: usize| i32::from_be_bytes(order[at..at + 4].try_into().unwrap());
    let world = World {
        host: number(4),
        neighbour: number(8),
    };
    (number(0), world)
}

fn attempt(stream: &mut UnixStream, (_, act, _): &Attempt, world: World) {
    let result = act(world);
    stream.write_all(&result.to_be_bytes()).unwrap();
}
