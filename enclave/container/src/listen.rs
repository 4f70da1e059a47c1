//! Regions for hosts on other machines.
//!
//! This process listens; each connection becomes a process of its own ([`apart`](crate::apart)), with the connection as its
//! standard input. Of what comes over a connection this process reads nothing: it stands by as [witness](crate::witness) until the
//! region has been attested. Whoever can reach the port can have regions made, as many as fit; who that is, is for the network.

use crate::{arguments::Address, vsock, witness::stand_by};
use cryptlet_seal::attester::Attester;
use cryptlet_types::Sha256Digest;
use rustix::net::{
    AddressFamily, SocketFlags, accept_with,
    sockopt::{set_socket_keepalive, set_tcp_keepidle, set_tcp_nodelay, socket_domain},
};
use std::{
    io::{self, Write},
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

/// Most regions at a time. Further connections are closed at once.
const MAX_REGIONS: usize = 64;
/// Time that a region has to be created, from the first byte on: a handshake, a package, and its compilation.
const CREATE_TIME: Duration = Duration::from_secs(120);
/// After this much silence the system asks whether the host is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// Pause after the system refused a connection, for want of something.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens at `address` for good; says at which, on standard output.
///
/// # Errors
/// The address cannot be used.
pub fn listen(
    address: &Address,
    attester: Arc<dyn Attester>,
    container: Sha256Digest,
) -> io::Result<()> {
    let listener = bound(address)?;
    let places = Arc::new(());
    loop {
        let Ok(stream) = accept_with(&listener, SocketFlags::CLOEXEC) else {
            thread::sleep(PAUSE);
            continue;
        };
        // One of them is this function's own.
        if Arc::strong_count(&places) > MAX_REGIONS {
            continue;
        }
        let (place, attester) = (places.clone(), attester.clone());
        // Without a thread, the connection is closed.
        let _ = thread::Builder::new().spawn(move || {
            if let Err(error) = region(stream, attester.as_ref(), container) {
                // Standard error may be closed.
                let _ = writeln!(io::stderr(), "cryptlet-container: region: {error}");
            }
            drop(place);
        });
    }
}

/// A socket that takes connections there, after it has been said where that is.
fn bound(address: &Address) -> io::Result<OwnedFd> {
    let mut said = io::stdout();
    match address {
        Address::Tcp(address) => {
            let listener = TcpListener::bind(address)?;
            writeln!(said, "listening on {}", listener.local_addr()?)?;
            Ok(listener.into())
        }
        Address::Vsock(port) => {
            let listener = vsock::listen_at(*port)?;
            writeln!(said, "listening on vsock:{port}")?;
            Ok(listener)
        }
    }
}

/// One region, until it ends.
fn region(stream: OwnedFd, attester: &dyn Attester, container: Sha256Digest) -> io::Result<()> {
    // A machine that is gone from vsock has its connections reset by whoever ran it.
    if socket_domain(&stream)? != AddressFamily::VSOCK {
        set_tcp_nodelay(&stream, true)?;
        set_socket_keepalive(&stream, true)?;
        set_tcp_keepidle(&stream, KEEP_ALIVE)?;
    }
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(CREATE_TIME))?;
    let mut child = Command::new("/proc/self/exe")
        .env_clear()
        .current_dir("/")
        .stdin(stream)
        .stdout(OwnedFd::from(theirs))
        .stderr(Stdio::null())
        .spawn()?;
    let attested = stand_by(&ours, attester, container);
    drop(ours);
    if attested.is_err() {
        // It may have ended by itself.
        let _ = child.kill();
    }
    child.wait()?;
    attested
}
