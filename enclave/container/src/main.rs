//! `cryptlet-container`: see the library.

use cryptlet_container::{
    apart,
    channel::Channel,
    deadline::Watchdog,
    listen::listen,
    load, sandbox, serve,
    session::{Identity, Session},
    zygote::{Child, divide},
};
use cryptlet_seal::attester::{Attester, Simulator};
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
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::ExitCode,
    sync::Arc,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; the exit code says enough then.
            let _ = writeln!(io::stderr(), "cryptlet-container: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let container = cryptlet_seal::sha256(&fs::read("/proc/self/exe")?);
    let mut arguments = env::args().skip(1);
    match (arguments.next(), arguments.next(), arguments.next()) {
        (None, ..) => started(container),
        (Some(mode), Some(address), None) if mode == "--listen" => {
            Ok(listen(&address, hardware()?, container)?)
        }
        (Some(mode), Some(address), None) if mode == "--simulate" => Ok(listen(
            &address,
            Arc::new(Simulator::everybodys()?),
            container,
        )?),
        _ => Err("usage: cryptlet-container [--listen ADDRESS | --simulate ADDRESS]".into()),
    }
}

/// What speaks for regions of this machine.
fn hardware() -> Outcome<Arc<dyn Attester>> {
    Err("nothing on this machine attests its regions".into())
}

/// What it was started for is what its standard input leads to: a host on this machine, or one on another.
fn started(container: Sha256Digest) -> Outcome<()> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    let stream = socket_type(&input).ok() == Some(SocketType::STREAM);
    let leads_to = socket_domain(&input).ok().filter(|_| stream);
    // The copy of the descriptor would be closed with what was inherited.
    drop(input);
    match leads_to {
        Some(AddressFamily::UNIX) => zygote(container),
        Some(AddressFamily::INET | AddressFamily::INET6) => apart::region(container),
        _ => Err("a host starts this program, with a socket as its standard input".into()),
    }
}

fn zygote(container: Sha256Digest) -> Outcome<()> {
    let controls = sandbox::enter()?;
    let requests = io::stdin().as_fd().try_clone_to_owned()?;
    match divide(&requests, UnshareFlags::empty())? {
        Some(child) => {
            drop(requests);
            loaded(child, container, controls)
        }
        None => Ok(()),
    }
}

/// Loads a package and becomes regions of it.
fn loaded(child: Child, container: Sha256Digest, mut controls: Vec<&'static str>) -> Outcome<()> {
    let [stream, requests]: [OwnedFd; 2] = child
        .descriptors
        .try_into()
        .map_err(|_| "a loading process gets two descriptors")?;
    let stream = UnixStream::from(stream);
    match sandbox::isolate() {
        Ok(more) => controls.extend(more),
        Err(error) => return give_up(stream, error.into()),
    }
    let identity = Identity {
        container,
        controls: controls.into_iter().map(str::to_owned).collect(),
    };
    let Some(session) = load(stream, Session::new(identity))? else {
        return Ok(());
    };
    match divide(&requests, sandbox::OWN_NAMESPACES)? {
        Some(child) => {
            drop(requests);
            region(child, session)
        }
        None => Ok(()),
    }
}

/// A region: one session on one stream.
fn region(child: Child, mut session: Session) -> Outcome<()> {
    let [stream]: [OwnedFd; 1] = child
        .descriptors
        .try_into()
        .map_err(|_| "a region gets one descriptor")?;
    let (stream, mut controls) = sandbox::settle(stream, child.namespaces)?;
    let sealed = Watchdog::start()
        .map_err(Box::<dyn Error>::from)
        .and_then(|watchdog| Ok((watchdog, sandbox::seal()?)));
    match sealed {
        Ok((watchdog, last)) => {
            controls.push(last);
            session.settle(watchdog, &controls);
            Ok(serve(stream, session)?)
        }
        Err(error) => give_up(stream, error),
    }
}

/// Tells the host why there is no region.
fn give_up(stream: UnixStream, error: Box<dyn Error>) -> Outcome<()> {
    let fault = RegionFault::Protocol(format!("region cannot be isolated: {error}"));
    Channel::new(stream).send(&ToHost::Answer(Err(fault)))?;
    Err(error)
}
