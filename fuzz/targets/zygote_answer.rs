//! What a process says that was asked to divide. The first byte: whether a descriptor comes with it, a process's or not.
//! The host's file is compiled here by itself: nothing else of its crate shows how answers are read.
#![no_main]

#[allow(
    dead_code,
    reason = "what a host does with the child is not tried here"
)]
#[path = "../../adapters/isolation/src/zygote.rs"]
mod zygote;

use libfuzzer_sys::fuzz_target;
use rustix::{
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    process::{PidfdFlags, getpid, pidfd_open},
};
use std::{
    cell::RefCell,
    io::IoSlice,
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
};
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(
        Builder::new_current_thread().enable_all().build().expect("a runtime"),
    );
}

fuzz_target!(|bytes: &[u8]| {
    let Some((beside, answer)) = bytes.split_first() else {
        return;
    };
    RUNTIME.with_borrow(|runtime| runtime.block_on(divide(*beside, answer)));
});

async fn divide(beside: u8, answer: &[u8]) {
    let (mut requests, theirs) = zygote::Requests::pair().expect("a socket");
    // Never a child of anybody here: this very process, or no process at all.
    let process: Option<OwnedFd> = match beside % 3 {
        0 => None,
        1 => Some(pidfd_open(getpid(), PidfdFlags::empty()).expect("a descriptor of this process")),
        _ => Some(theirs.try_clone().expect("a descriptor")),
    };
    let rights: Vec<_> = process.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !rights.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&rights)));
    }
    let sent = sendmsg(
        &theirs,
        &[IoSlice::new(answer)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    );
    sent.expect("room in the socket");
    // The request that comes first is left unread. Without an answer there is an end.
    rustix::net::shutdown(&theirs, rustix::net::Shutdown::Write).expect("an end");
    let divided = requests.divide(u32::MAX, &[]).await;
    assert!(divided.is_err(), "a child that nobody has");
}
