//! Streams between a virtual machine and what runs it, which need no network (vsock(7)). Linux, `include/uapi/linux/vm_sockets.h`.

use rustix::net::{
    AddressFamily, SocketFlags, SocketType,
    addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque},
    bind, connect, listen, socket_with,
};
use std::{io, os::fd::OwnedFd, ptr};

/// Connections that wait to be taken.
const BACKLOG: i32 = 128;
/// Bytes of an address (`struct sockaddr_vm`).
const BYTES: SocketAddrLen = 16;

/// A port, from decimal digits; nothing for the number that stands for any port (`VMADDR_PORT_ANY`).
pub(crate) fn port(digits: &str) -> Option<u32> {
    let plain = digits.bytes().all(|digit| digit.is_ascii_digit());
    let port = digits.parse().ok().filter(|_| plain)?;
    (port != libc::VMADDR_PORT_ANY).then_some(port)
}

/// A socket that takes connections to `port`, from any machine that reaches this one.
pub(crate) fn listen_at(port: u32) -> io::Result<OwnedFd> {
    let socket = socket()?;
    bind(&socket, &Address::new(libc::VMADDR_CID_ANY, port))?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A connection to `port` of the machine with the number `cid`. The kernel waits for two seconds
/// (`VSOCK_DEFAULT_CONNECT_TIMEOUT`).
pub(crate) fn connect_to(cid: u32, port: u32) -> io::Result<OwnedFd> {
    let socket = socket()?;
    connect(&socket, &Address::new(cid, port))?;
    Ok(socket)
}

fn socket() -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::VSOCK, SocketType::STREAM);
    Ok(socket_with(family, kind, SocketFlags::CLOEXEC, None)?)
}

struct Address(libc::sockaddr_vm);

impl Address {
    fn new(cid: u32, port: u32) -> Self {
        Self(libc::sockaddr_vm {
            svm_family: AddressFamily::VSOCK.as_raw(),
            svm_reserved1: 0,
            svm_port: port,
            svm_cid: cid,
            svm_zero: [0; 4],
        })
    }
}

// SAFETY: what is passed on is a whole `sockaddr_vm`, which lives until the call returns.
#[allow(unsafe_code, reason = "rustix knows the family, and not its addresses")]
unsafe impl SocketAddrArg for Address {
    unsafe fn with_sockaddr<R>(
        &self,
        call: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        const { assert!(size_of::<libc::sockaddr_vm>() == BYTES as usize) };
        call(ptr::from_ref(&self.0).cast(), BYTES)
    }
}
