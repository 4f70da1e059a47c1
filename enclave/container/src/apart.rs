//! A region whose host is on another machine: one process, one connection, one region.

use crate::{
    attested::{Attested, accept},
    deadline::Watchdog,
    execution::Executor,
    sandbox, serve,
    session::{Identity, Keys, Remote, Session, Witness},
    witness::Asking,
};
use cryptlet_seal::{certificate::Draft, measure_container};
use cryptlet_types::{EvidenceStatement, Sha256Digest, channel::Party};
use std::{
    error::Error,
    fs::File,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    time::{SystemTime, UNIX_EPOCH},
};

/// Seconds for which a region's certificate can be shown: it is shown once, at once.
const CERTIFICATE_SECONDS: u64 = 600;

/// Serves the host at the other end of standard input. Everything is given up before the first byte from there is read, and
/// before any key is made. The package comes last, into a process that can start nothing any more: `executor` must do without.
///
/// # Errors
/// The executor has needs; the region cannot be isolated or attested, or the host is none or broke the protocol.
pub fn region(container: Sha256Digest, executor: Box<dyn Executor>) -> Result<(), Box<dyn Error>> {
    check(executor.as_ref())?;
    let mut controls = sandbox::enter()?;
    controls.extend(sandbox::isolate(None)?);
    let (stream, witness, more) = sandbox::settle_apart()?;
    controls.extend(more);
    let watchdog = Watchdog::start()?;
    // What is in force from `isolate` on kills already; the rest follows when the package is compiled, which is new code.
    controls.push("seccomp-kill");

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
    // Whatever kind of socket it is: it is read from and written to.
    let stream = Plain(File::from(stream));
    let Attested {
        stream, exporter, ..
    } = accept(stream, &own, now)?;

    let identity = Identity {
        container,
        controls,
    };
    let mut session = Session::new(identity, executor);
    session.settle(watchdog, &[]);
    session.speak_to(Remote {
        provider,
        keys,
        exporter,
        witness: Box::new(witness),
        // What it returns is named already: it was in force when the certificate was made.
        seal: || match sandbox::seal(None) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        },
    });
    Ok(serve(stream, session)?)
}

/// Whether regions can be had here that hosts on other machines talk to.
///
/// # Errors
/// The executor needs something that such a region has given up before its package comes.
pub fn check(executor: &dyn Executor) -> Result<(), &'static str> {
    match executor.needs() {
        None => Ok(()),
        Some(_) => {
            Err("regions for hosts on other machines run components in their own process only")
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{execution::Execution, runtime::InProcess, sandbox::Needs};
    use cryptlet_types::{Limits, Provider};
    use std::{collections::BTreeMap, os::fd::RawFd};

    struct InMachine;

    impl Executor for InMachine {
        fn provider(&self) -> Provider {
            Provider::Microvm
        }

        fn needs(&self) -> Option<Needs> {
            Some(Needs {
                control: "virtual-machine",
                loading: || Ok(BTreeMap::new()),
                sealed: || Ok(BTreeMap::new()),
                in_vain: &[],
            })
        }

        fn open(&self) -> io::Result<Option<RawFd>> {
            Ok(None)
        }

        fn load(&self, _: &[u8], _: Limits) -> Result<Box<dyn Execution>, String> {
            Err("nothing is run here".into())
        }
    }

    #[test]
    fn an_executor_that_starts_machines_has_no_regions_for_other_machines() {
        assert!(check(&InMachine).is_err());
        assert_eq!(check(&InProcess), Ok(()));
    }
}
