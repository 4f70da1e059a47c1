//! A region whose host is on another machine: one process, one connection, one region.

use crate::{
    attested::{Attested, accept},
    deadline::Watchdog,
    sandbox, serve,
    session::{Identity, Keys, Remote, Session, Witness},
    witness::Asking,
};
use cryptlet_seal::{certificate::Draft, measure_container};
use cryptlet_types::{EvidenceStatement, Sha256Digest, channel::Party};
use std::{
    error::Error,
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    time::{SystemTime, UNIX_EPOCH},
};

/// Seconds for which a region's certificate can be shown: it is shown once, at once.
const CERTIFICATE_SECONDS: u64 = 600;

/// Serves the host at the other end of standard input. Everything is given up before the first byte from there is read, and
/// before any key is made.
///
/// # Errors
/// The region cannot be isolated or attested, or the host is none or broke the protocol.
pub fn region(container: Sha256Digest) -> Result<(), Box<dyn Error>> {
    let mut controls = sandbox::enter()?;
    controls.extend(sandbox::isolate()?);
    let (stream, witness, more) = sandbox::settle_apart()?;
    controls.extend(more);
    let watchdog = Watchdog::start()?;
    controls.push(sandbox::seal()?);

    let mut witness = Asking::new(Plain(UnixStream::from(witness)))?;
    let (provider, keys) = (witness.provider(), Keys::generate());
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let draft = Draft::new(now, CERTIFICATE_SECONDS)?;
    let statement = EvidenceStatement {
        provider,
        controls: controls.iter().map(|name| (*name).to_owned()).collect(),
        measurement: measure_container(container),
        region_key: keys.region_key.address(),
        exchange_key: keys.exchange_key.public(),
        nonce: draft.digest(Party::Region),
    };
    let attestation = witness.attest(&statement)?;
    let controls = statement.controls.clone();
    let own = draft.attested(statement, attestation, &keys.region_key)?;
    let stream = Plain(TcpStream::from(stream));
    let Attested {
        stream, exporter, ..
    } = accept(stream, &own, now)?;

    let identity = Identity {
        container,
        controls,
    };
    let mut session = Session::new(identity);
    session.settle(watchdog, &[]);
    session.speak_to(Remote {
        provider,
        keys,
        exporter,
        witness: Box::new(witness),
    });
    Ok(serve(stream, session)?)
}

/// Reads and writes one buffer at a time: a region may make no other calls.
struct Plain<S>(S);

impl<S: Read> Read for Plain<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<S: Write> Write for Plain<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
