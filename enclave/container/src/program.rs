//! The program from its start: a zygote, processes that load a package, and regions.

use crate::{
    channel::Channel,
    deadline::Watchdog,
    execution::Executor,
    load,
    sandbox::{self, Needs},
    serve,
    session::{Identity, Session},
    zygote::{Child, divide},
};
use cryptlet_types::region::{RegionFault, ToHost};
use rustix::{
    net::{SocketType, sockopt::socket_type},
    thread::UnshareFlags,
};
use std::{
    error::Error,
    fs,
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    process::ExitCode,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The program `name`, whose cryptlets `executor` runs: a zygote, and all that it becomes.
#[must_use]
pub fn run(name: &str, executor: Box<dyn Executor>) -> ExitCode {
    match zygote(executor) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; the exit code says enough then.
            let _ = writeln!(io::stderr(), "{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn zygote(executor: Box<dyn Executor>) -> Outcome<()> {
    let container = cryptlet_seal::sha256(&fs::read("/proc/self/exe")?);
    let requests = io::stdin().as_fd().try_clone_to_owned()?;
    if socket_type(&requests).ok() != Some(SocketType::STREAM) {
        return Err("a host starts this program, with a socket as its standard input".into());
    }
    // The copy of the descriptor would be closed with what was inherited.
    drop(requests);
    let controls = sandbox::enter()?;
    let device = executor.open()?;
    let requests = io::stdin().as_fd().try_clone_to_owned()?;
    match divide(&requests, UnshareFlags::empty())? {
        Some(child) => {
            drop(requests);
            let identity = Identity {
                container,
                controls: controls.into_iter().map(str::to_owned).collect(),
            };
            loaded(child, identity, executor, device)
        }
        None => Ok(()),
    }
}

/// Loads a package and becomes regions of it.
fn loaded(
    child: Child,
    mut identity: Identity,
    executor: Box<dyn Executor>,
    device: Option<RawFd>,
) -> Outcome<()> {
    let needs = executor.needs();
    let [stream, requests]: [OwnedFd; 2] = child
        .descriptors
        .try_into()
        .map_err(|_| "a loading process gets two descriptors")?;
    let stream = UnixStream::from(stream);
    match sandbox::isolate(needs) {
        Ok(more) => {
            let more = more.into_iter().map(str::to_owned);
            identity.controls.extend(more);
        }
        Err(error) => return give_up(stream, error.into()),
    }
    let Some(session) = load(stream, Session::new(identity, executor))? else {
        return Ok(());
    };
    match divide(&requests, sandbox::OWN_NAMESPACES)? {
        Some(child) => {
            drop(requests);
            region(child, session, needs, device)
        }
        None => Ok(()),
    }
}

/// A region: one session on one stream.
fn region(child: Child, mut session: Session, needs: Needs, device: Option<RawFd>) -> Outcome<()> {
    let [stream]: [OwnedFd; 1] = child
        .descriptors
        .try_into()
        .map_err(|_| "a region gets one descriptor")?;
    let (stream, mut controls) = sandbox::settle(stream, child.namespaces, device)?;
    match sealed(&mut session, needs) {
        Ok((watchdog, last)) => {
            controls.extend(last);
            session.settle(watchdog, &controls);
            Ok(serve(stream, session)?)
        }
        Err(error) => give_up(stream, error),
    }
}

fn sealed(session: &mut Session, needs: Needs) -> Outcome<(Watchdog, Vec<&'static str>)> {
    session.begin()?;
    let watchdog = Watchdog::start()?;
    let mut controls = sandbox::seal(needs)?.to_vec();
    if needs == Needs::VirtualMachine {
        controls.push("virtual-machine");
    }
    Ok((watchdog, controls))
}

/// Tells the host why there is no region.
fn give_up(stream: UnixStream, error: Box<dyn Error>) -> Outcome<()> {
    let fault = RegionFault::Protocol(format!("region cannot be isolated: {error}"));
    Channel::new(stream).send(&ToHost::Answer(Err(fault)))?;
    Err(error)
}
