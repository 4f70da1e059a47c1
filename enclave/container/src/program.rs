//! The program from its start: a zygote, processes that load a package, and regions; or one that listens for hosts on other
//! machines, and the regions that it has. The first process of a machine prepares that first ([`init`]).

use crate::{
    apart,
    arguments::{self, USAGE},
    busy_poll::{self, BusyPolled},
    channel::Channel,
    deadline::Watchdog,
    execution::Executor,
    hardware, init,
    listen::listen,
    load,
    sandbox::{self, Needs},
    serve,
    session::{Identity, Session},
    zygote::{Child, divide},
};
use cryptlet_types::{
    Sha256Digest,
    region::{RegionFault, ToHost},
};
use rustix::{
    net::{
        AddressFamily, SocketType,
        sockopt::{socket_domain, socket_type},
    },
    thread::UnshareFlags,
};
use std::{
    env,
    error::Error,
    fs,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    process::ExitCode,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The program `name`, whose cryptlets `executor` runs.
#[must_use]
pub fn run(name: &str, executor: Box<dyn Executor>) -> ExitCode {
    if init::is_wanted() {
        return init::run(name);
    }
    match begin(name, executor) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; the exit code says enough then.
            let _ = writeln!(io::stderr(), "{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn begin(name: &str, executor: Box<dyn Executor>) -> Outcome<()> {
    let told = arguments::parse(env::args_os().skip(1));
    let told = told.map_err(|arguments::Unknown| format!("usage: {name} {USAGE}"))?;
    let container = cryptlet_seal::sha256(&fs::read("/proc/self/exe")?);
    let Some(listening) = told else {
        return started(container, executor);
    };
    apart::check(executor.as_ref())?;
    let attester = hardware::attester(&listening.attest)?;
    Ok(listen(&listening.address, attester, container)?)
}

/// What it was started for is what its standard input leads to: a host on this machine, or one on another.
fn started(container: Sha256Digest, executor: Box<dyn Executor>) -> Outcome<()> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    let stream = socket_type(&input).ok() == Some(SocketType::STREAM);
    let leads_to = socket_domain(&input).ok().filter(|_| stream);
    // The copy of the descriptor would be closed with what was inherited.
    drop(input);
    match leads_to {
        Some(AddressFamily::UNIX) => zygote(container, executor),
        Some(AddressFamily::INET | AddressFamily::INET6 | AddressFamily::VSOCK) => {
            apart::region(container, executor)
        }
        _ => Err("a host starts this program, with a socket as its standard input".into()),
    }
}

fn zygote(container: Sha256Digest, executor: Box<dyn Executor>) -> Outcome<()> {
    let has_cores = busy_poll::has_cores();
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
            let kept = Kept { device, has_cores };
            loaded(child, identity, executor, kept)
        }
        None => Ok(()),
    }
}

/// What the first process found out and its regions keep.
#[derive(Clone, Copy)]
struct Kept {
    /// What the execution of components needs beside the stream.
    device: Option<RawFd>,
    has_cores: bool,
}

/// Loads a package and becomes regions of it.
fn loaded(
    child: Child,
    mut identity: Identity,
    executor: Box<dyn Executor>,
    kept: Kept,
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
            region(child, session, needs, kept)
        }
        None => Ok(()),
    }
}

/// A region: one session on one stream.
fn region(child: Child, mut session: Session, needs: Option<Needs>, kept: Kept) -> Outcome<()> {
    let [stream]: [OwnedFd; 1] = child
        .descriptors
        .try_into()
        .map_err(|_| "a region gets one descriptor")?;
    let (stream, mut controls) = sandbox::settle(stream, child.namespaces, kept.device)?;
    let stream = BusyPolled::new(stream, kept.has_cores);
    match sealed(&mut session, needs) {
        Ok((watchdog, last)) => {
            controls.extend(last);
            session.settle(watchdog, &controls);
            Ok(serve(stream, session)?)
        }
        Err(error) => give_up(stream, error),
    }
}

fn sealed(session: &mut Session, needs: Option<Needs>) -> Outcome<(Watchdog, Vec<&'static str>)> {
    session.begin()?;
    let watchdog = Watchdog::start()?;
    let mut controls = sandbox::seal(needs)?.to_vec();
    controls.extend(needs.map(|needs| needs.control));
    Ok((watchdog, controls))
}

/// Tells the host why there is no region.
fn give_up(stream: impl Read + Write, error: Box<dyn Error>) -> Outcome<()> {
    let fault = RegionFault::Protocol(format!("region cannot be isolated: {error}"));
    Channel::new(stream).send(&ToHost::Answer(Err(fault)))?;
    Err(error)
}
