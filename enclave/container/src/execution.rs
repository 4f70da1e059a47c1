//! Where components run: in this process ([`crate::runtime`]), or where another program that is built on this library
//! takes them.

use crate::{
    channel::SharedHost,
    deadline::Watchdog,
    http::Egress,
    recording::Answers,
    runtime::{Ran, RunError, Wake},
    sandbox::Needs,
};
use cryptlet_types::{Limits, Provider, UnixSeconds};
use std::{io, os::fd::RawFd, sync::Arc};

/// A place where components run.
pub trait Executor {
    /// Which provider a region's evidence names.
    fn provider(&self) -> Provider;

    /// What it needs of the system in its regions and where they come from.
    fn needs(&self) -> Option<Needs>;

    /// Called once, in the process that all others are copies of, while files can still be opened. Returns the descriptor that
    /// regions keep beside their stream.
    ///
    /// # Errors
    /// Components cannot run here.
    fn open(&self) -> io::Result<Option<RawFd>>;

    /// Makes `code` ready to run, having checked that it implements the world `utility` and imports nothing else. It leaves
    /// neither thread nor descriptor behind: regions will be copies of the process.
    ///
    /// # Errors
    /// Says why it is no cryptlet, or why it cannot run under these limits here.
    fn load(&self, code: &[u8], limits: Limits) -> Result<Box<dyn Execution>, String>;
}

/// A component, ready to run.
pub trait Execution {
    /// Names of the interfaces that the component imports, as manifests write them: `log`, `http`, `signing`, `regions`.
    fn imports(&self) -> &[String];

    /// Called once in each region, before it is sealed: starts what a copy of a process cannot have.
    ///
    /// # Errors
    /// Says why there can be no region.
    fn begin(&mut self) -> Result<(), String>;

    /// Wakes the cryptlet in a fresh instance at the job's time `now`, whose requests `answers` answers, and which `watchdog`
    /// stops when its time is up.
    ///
    /// # Errors
    /// See [`RunError`].
    fn run(
        &self,
        wake: Wake,
        host: &SharedHost,
        egress: &Arc<Egress>,
        now: UnixSeconds,
        answers: Answers,
        watchdog: &Watchdog,
    ) -> Result<Ran, RunError>;
}
