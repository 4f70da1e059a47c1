//! Connections to containers that listen: by TCP, or by vsock (vsock(7)) to a virtual machine of this one.

use crate::{IsolationError, region::ByteStream};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType,
    addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque},
    connect, socket_with,
};
use std::{io, os::unix::net::UnixStream as Stream, ptr};
use tokio::{
    net::{TcpStream, UnixStream},
    task::spawn_blocking,
};

/// What an address of vsock begins with. A machine in a network that is called so has to be named otherwise.
const VSOCK: &str = "vsock:";
/// Bytes of an address of vsock (Linux, `include/uapi/linux/vm_sockets.h`, `struct sockaddr_vm`).
const BYTES: SocketAddrLen = 16;

/// Where a container listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// `host:port`. What is no such thing shows when it is dialled.
    Tcp(String),
    /// `vsock:CID:PORT`: number of the machine, and port.
    Vsock { cid: u32, port: u32 },
}

impl Address {
    /// Reads one.
    pub(crate) fn read(address: &str) -> Result<Self, IsolationError> {
        let Some(numbers) = address.strip_prefix(VSOCK) else {
            return Ok(Self::Tcp(address.to_owned()));
        };
        let read = numbers
            .split_once(':')
            .and_then(|(cid, port)| Some((number(cid)?, number(port)?)));
        let (cid, port) = read.ok_or_else(|| IsolationError::Mismatch {
            what: "address",
            expected: "host:port or vsock:CID:PORT".into(),
            found: address.into(),
        })?;
        Ok(Self::Vsock { cid, port })
    }

    /// Connects. By vsock the kernel gives up after two seconds (`VSOCK_DEFAULT_CONNECT_TIMEOUT`), by TCP when it likes.
    pub(crate) async fn dial(&self) -> io::Result<Box<dyn ByteStream>> {
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Self::Vsock { cid, port } => {
                let to = Vm::new(*cid, *port);
                let stream = spawn_blocking(move || to.connect()).await??;
                Ok(Box::new(UnixStream::from_std(stream)?))
            }
        }
    }
}

/// A number, but for the one that stands for any (`VMADDR_CID_ANY`, `VMADDR_PORT_ANY`).
fn number(digits: &str) -> Option<u32> {
    let plain = digits.bytes().all(|digit| digit.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| plain)?;
    (number != u32::MAX).then_some(number)
}

/// A port of a virtual machine.
struct Vm(libc::sockaddr_vm);

impl Vm {
    fn new(cid: u32, port: u32) -> Self {
        Self(libc::sockaddr_vm {
            svm_family: AddressFamily::VSOCK.as_raw(),
            svm_reserved1: 0,
            svm_port: port,
            svm_cid: cid,
            svm_zero: [0; 4],
        })
    }

    /// Connects, and waits for it. The stream is handed on as one of Unix sockets: nothing is done with it but what all streams
    /// have in common.
    fn connect(&self) -> io::Result<Stream> {
        let (family, kind) = (AddressFamily::VSOCK, SocketType::STREAM);
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        connect(&socket, self)?;
        let stream = Stream::from(socket);
        stream.set_nonblocking(true)?;
        Ok(stream)
    }
}

// SAFETY: what is passed on is a whole `sockaddr_vm`, which lives until the call returns.
#[allow(unsafe_code, reason = "rustix knows the family, and not its addresses")]
unsafe impl SocketAddrArg for Vm {
    unsafe fn with_sockaddr<R>(
        &self,
        call: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        const { assert!(size_of::<libc::sockaddr_vm>() == BYTES as usize) };
        call(ptr::from_ref(&self.0).cast(), BYTES)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_tcp_or_of_vsock_in_decimal_digits() {
        let vsock = |cid, port| Address::Vsock { cid, port };
        assert_eq!(Address::read("vsock:16:8700").unwrap(), vsock(16, 8_700));
        assert_eq!(Address::read("vsock:1:0").unwrap(), vsock(1, 0));
        for tcp in ["10.0.0.9:8700", "machine.example:8700", "[::1]:8700"] {
            assert_eq!(Address::read(tcp).unwrap(), Address::Tcp(tcp.into()));
        }
        for other in [
            "vsock:",
            "vsock:8700",
            "vsock:16:",
            "vsock::8700",
            "vsock:16:8700:1",
            "vsock:+16:8700",
            "vsock:0x10:8700",
            "vsock:4294967295:8700",
            "vsock:16:4294967295",
            "vsock:4294967296:8700",
        ] {
            let error = Address::read(other).unwrap_err().to_string();
            assert!(error.contains("vsock:CID:PORT"), "{other}: {error}");
        }
    }

    /// No machine has this number here: it is the hypervisor's own, which takes no connections.
    #[tokio::test]
    async fn a_machine_that_is_not_there_is_an_error_in_time() {
        let nobody = Address::read("vsock:0:8700").unwrap();
        assert!(nobody.dial().await.is_err());
    }
}
