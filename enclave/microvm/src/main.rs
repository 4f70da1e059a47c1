//! `cryptlet-container-microvm`: the container of `enclave/container`, whose cryptlets run in virtual machines.
//!
//! Session, keys, TLS and sandbox are those of the library; only the execution of the component differs. The evidence
//! says provider `microvm`.

extern crate alloc;

mod compile;
mod executor;
mod machine;
#[path = "../guest/src/wire.rs"]
mod wire;

use cryptlet_container::{
    channel::Channel,
    deadline::Watchdog,
    sandbox::{self, Needs},
    serve,
    session::{Identity, Session},
};
use cryptlet_types::region::{RegionFault, ToHost};
use executor::InMachine;
use machine::Machine;
use std::{
    error::Error,
    fs,
    io::{self, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    process::ExitCode,
};

/// What the evidence names beside the controls of the process.
const CONTROL: &str = "virtual-machine";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; the exit code says enough then.
            let _ = writeln!(io::stderr(), "cryptlet-container-microvm: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let container = cryptlet_seal::sha256(&fs::read("/proc/self/exe")?);
    let isolated = sandbox::enter(|| Machine::try_out().map_err(io::Error::other));
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    stream
        .peer_addr()
        .map_err(|_| "a host starts this program, with a socket as its standard input")?;
    let sealed = isolated
        .map_err(Box::<dyn Error>::from)
        .and_then(|mut controls| {
            let watchdog = Watchdog::start()?;
            controls.push(sandbox::seal(Needs::VirtualMachines)?.to_owned());
            controls.push(CONTROL.to_owned());
            let identity = Identity {
                container,
                controls,
            };
            Ok(Session::new(identity, Box::new(InMachine(watchdog))))
        });
    match sealed {
        Ok(session) => Ok(serve(stream, session)?),
        Err(error) => {
            let fault = RegionFault::Protocol(format!("region cannot be isolated: {error}"));
            Channel::new(stream).send(&ToHost::Answer(Err(fault)))?;
            Err(error)
        }
    }
}
