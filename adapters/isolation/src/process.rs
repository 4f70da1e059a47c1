//! The process provider: the container as a process of its own.
//!
//! The container isolates itself before it reads a byte (namespaces, landlock, seccomp; its evidence names
//! what is in force). This side starts it with an empty environment, no arguments, and one end of a socket
//! pair as its only open descriptor beside two that lead nowhere. What is started is a sealed copy in memory
//! of the bytes that were hashed: changing the file afterwards changes nothing.

use crate::{
    CallOutHandler, IsolationError, IsolationProvider, Region,
    region::{Conversation, RegionProcess},
};
use alloy_primitives::B256;
use async_trait::async_trait;
use cryptlet_seal::{measure, package, sha256};
use cryptlet_types::{
    EvidenceStatement, Measurement, Provider, Sha256Digest,
    region::{CallIn, CallInAnswer, Package, RegionConfig, RegionSettings},
};
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::Errno,
};
use std::{
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream as StdStream,
    },
    path::Path,
    process::Stdio,
    sync::Arc,
    thread,
    time::Duration,
};
use tokio::{net::UnixStream, process::Command};

/// Time that a region has to load a package: the largest component compiles in a fraction of it.
const CREATE_TIME: Duration = Duration::from_secs(60);

/// Starts containers.
#[derive(Debug)]
pub struct ProcessProvider {
    container: File,
    digest: Sha256Digest,
}

impl ProcessProvider {
    /// A provider of regions in which `container`, the program `cryptlet-container`, runs. The file is read
    /// once, here.
    ///
    /// # Errors
    /// [`IsolationError::Start`] if it cannot be read.
    pub fn new(container: &Path) -> Result<Self, IsolationError> {
        let start = |what| move |source| IsolationError::Start { what, source };
        let bytes = std::fs::read(container).map_err(start("cannot be read"))?;
        Ok(Self {
            digest: sha256(&bytes),
            container: sealed_copy(&bytes).map_err(start("cannot be copied"))?,
        })
    }

    fn start(&self) -> io::Result<RegionProcess> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = Command::new(format!("/proc/self/fd/{}", self.container.as_raw_fd()))
            .arg0("cryptlet-container")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        Ok(RegionProcess {
            child,
            stream: UnixStream::from_std(ours)?,
        })
    }

    fn compare(
        statement: &EvidenceStatement,
        measurement: Measurement,
        nonce: B256,
    ) -> Result<(), IsolationError> {
        let mismatch = |what, expected: String, found: String| {
            Err(IsolationError::Mismatch {
                what,
                expected,
                found,
            })
        };
        if statement.provider != Provider::Process {
            let (expected, found) = (Provider::Process, statement.provider);
            return mismatch("provider", expected.as_str().into(), found.as_str().into());
        }
        if statement.measurement != measurement {
            let (expected, found) = (measurement, statement.measurement);
            return mismatch("measurement", expected.to_string(), found.to_string());
        }
        if statement.nonce != nonce {
            return mismatch("nonce", nonce.to_string(), statement.nonce.to_string());
        }
        Ok(())
    }
}

/// How often, and after what pause, it is tried again to seal a file.
const SEAL_ATTEMPTS: u32 = 50;
const SEAL_PAUSE: Duration = Duration::from_millis(20);

/// An anonymous file with these bytes, which nobody can change any more; not inherited by programs.
fn sealed_copy(bytes: &[u8]) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know the flag and let such files be executed anyway.
    let descriptor = memfd_create("cryptlet-container", flags | MemfdFlags::EXEC)
        .or_else(|_| memfd_create("cryptlet-container", flags))?;
    let mut file = File::from(descriptor);
    file.write_all(bytes)?;
    seal(&file)?;
    // Opened again for reading: a file that is open for writing cannot be executed.
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// The kernel refuses to seal (`EBUSY`) while it holds pages of the file for reasons of its own, which passes.
fn seal(file: &File) -> io::Result<()> {
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    for _ in 0..SEAL_ATTEMPTS {
        match fcntl_add_seals(file, seals) {
            Err(Errno::BUSY) => thread::sleep(SEAL_PAUSE),
            sealed => return Ok(sealed?),
        }
    }
    Ok(fcntl_add_seals(file, seals)?)
}

#[async_trait]
impl IsolationProvider for ProcessProvider {
    fn provider(&self) -> Provider {
        Provider::Process
    }

    fn measurement(
        &self,
        package: &Package,
        settings: &RegionSettings,
    ) -> Result<Measurement, IsolationError> {
        let opened = package::open(package)?;
        Ok(measure(self.digest, settings, opened.digest)?)
    }

    async fn create(
        &self,
        package: Package,
        settings: RegionSettings,
        nonce: B256,
        call_out: Arc<dyn CallOutHandler>,
    ) -> Result<Box<dyn Region>, IsolationError> {
        let measurement = self.measurement(&package, &settings)?;
        let process = self.start().map_err(|source| IsolationError::Start {
            what: "cannot be started",
            source,
        })?;
        let session = call_out.open(&settings);
        let wall = Duration::from_millis(settings.limits.wall_millis);
        let mut conversation = Conversation::new(process, session);
        let config = RegionConfig {
            package,
            settings,
            nonce,
        };
        let call = CallIn::Create(Box::new(config));
        let CallInAnswer::Created(statement) = conversation.call(call, CREATE_TIME).await? else {
            return Err(IsolationError::Protocol(
                "another answer than asked for".into(),
            ));
        };
        Self::compare(&statement, measurement, nonce)?;
        Ok(Box::new(conversation.into_region(statement, wall)))
    }
}
