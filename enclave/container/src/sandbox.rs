//! What the container gives up before it reads a byte from its host.
//!
//! Seccomp is the floor: without it the container does not start. Its list has no call that opens a file or
//! a socket, runs a program or makes a process, so that a cryptlet that broke out of WebAssembly would still
//! reach nothing but the stream to the host. Everything above the floor is taken where the system grants it,
//! and the evidence names what is in force.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus,
    Scope,
};
use rustix::{
    process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit},
    thread::{CapabilitySet, CapabilitySets, UnshareFlags, set_capabilities, set_no_new_privs},
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::{collections::BTreeMap, io};

/// Memory that the process may write to, all told: 3 GiB. A cryptlet's own limit lies below.
const DATA_BYTES: u64 = 3 << 30;
/// Open descriptors: standard streams, the host's stream, one for landlock to be set up.
const DESCRIPTORS: u64 = 8;

/// Why the container cannot be isolated. No retry helps on this system.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The system refused a control that is part of the floor.
    #[error("{control}: {source}")]
    Refused {
        /// The control.
        control: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The filter cannot be made on this architecture.
    #[error("seccomp: {0}")]
    Seccomp(#[from] seccompiler::Error),
}

impl SandboxError {
    /// Whether trying again can help: never.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

fn refused(control: &'static str) -> impl Fn(rustix::io::Errno) -> SandboxError {
    move |error| SandboxError::Refused {
        control,
        source: error.into(),
    }
}

/// Takes what holds for a single thread and is inherited by later ones. Call it before any other thread
/// exists; returns the names of the controls in force, in the order in which they were applied.
///
/// # Errors
/// A control of the floor was refused.
pub fn enter() -> Result<Vec<String>, SandboxError> {
    let mut controls = Vec::new();
    close_descriptors().map_err(refused("descriptors"))?;
    controls.push("descriptors".to_owned());
    limit_resources().map_err(refused("resource-limits"))?;
    controls.push("resource-limits".to_owned());
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(refused("not-dumpable"))?;
    controls.push("not-dumpable".to_owned());
    controls.extend(leave_namespaces().into_iter().map(str::to_owned));
    if drop_capabilities().is_ok() {
        controls.push("no-capabilities".to_owned());
    }
    set_no_new_privs(true).map_err(refused("no-new-privileges"))?;
    controls.push("no-new-privileges".to_owned());
    controls.extend(apply_landlock().map(str::to_owned));
    if std::env::vars_os().next().is_none() {
        controls.push("empty-environment".to_owned());
    }
    Ok(controls)
}

/// Forbids, for all threads and for good, every system call that a running region does not need.
///
/// # Errors
/// The floor: without it there is no region.
pub fn seal() -> Result<&'static str, SandboxError> {
    let rules: BTreeMap<i64, Vec<_>> = allowed().iter().map(|call| (*call, Vec::new())).collect();
    let architecture = std::env::consts::ARCH
        .try_into()
        .map_err(seccompiler::Error::Backend)?;
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        architecture,
    )
    .map_err(seccompiler::Error::Backend)?;
    let program: BpfProgram = filter.try_into().map_err(seccompiler::Error::Backend)?;
    seccompiler::apply_filter_all_threads(&program)?;
    Ok("seccomp-kill")
}

/// Reading and writing open descriptors, memory, waiting, time, randomness, signals of the own threads, the end.
fn allowed() -> &'static [i64] {
    &[
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_recvfrom,
        libc::SYS_sendto,
        libc::SYS_close,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_mprotect,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_membarrier,
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_clock_gettime,
        libc::SYS_getrandom,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        libc::SYS_gettid,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ]
}

fn limit_resources() -> rustix::io::Result<()> {
    let fixed = |limit| Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    setrlimit(Resource::Core, fixed(0))?;
    setrlimit(Resource::Fsize, fixed(0))?;
    setrlimit(Resource::Memlock, fixed(0))?;
    setrlimit(Resource::Nofile, fixed(DESCRIPTORS))?;
    setrlimit(Resource::Data, fixed(DATA_BYTES))
}

/// New, empty namespaces, as many as the system grants: an ordinary user gets them inside a user namespace,
/// root also without one. Returns their names.
fn leave_namespaces() -> Vec<&'static str> {
    let named = [
        (UnshareFlags::NEWUSER, "user-namespace"),
        (UnshareFlags::NEWNET, "network-namespace"),
        (UnshareFlags::NEWIPC, "ipc-namespace"),
        (UnshareFlags::NEWUTS, "uts-namespace"),
        (UnshareFlags::NEWNS, "mount-namespace"),
    ];
    let all = named
        .iter()
        .fold(UnshareFlags::empty(), |all, (flag, _)| all | *flag);
    let network = UnshareFlags::NEWUSER | UnshareFlags::NEWNET;
    let granted = [all, all - UnshareFlags::NEWUSER, network]
        .into_iter()
        .find(|wanted| unshare(*wanted).is_ok())
        .unwrap_or(UnshareFlags::empty());
    let held = named.iter().filter(|(flag, _)| granted.contains(*flag));
    held.map(|(_, name)| *name).collect()
}

/// Root of a machine or of a user namespace has capabilities; the container needs none.
fn drop_capabilities() -> rustix::io::Result<()> {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none)
}

/// Everything that landlock knows is denied. Returns how far this kernel goes along.
fn apply_landlock() -> Option<&'static str> {
    let newest = ABI::V6;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(newest))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(newest)))
        .and_then(|rules| rules.scope(Scope::from_all(newest)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .ok()?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Some("landlock"),
        RulesetStatus::PartiallyEnforced => Some("landlock-partial"),
        RulesetStatus::NotEnforced => None,
    }
}

/// Closes everything but the standard streams.
#[allow(unsafe_code, reason = "no safe interface to close_range(2)")]
fn close_descriptors() -> rustix::io::Result<()> {
    // SAFETY: the program has just started and owns no descriptor but the standard streams, which stay open;
    // no other thread exists.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
    match result {
        0 => Ok(()),
        _ => Err(
            rustix::io::Errno::from_io_error(&io::Error::last_os_error())
                .unwrap_or(rustix::io::Errno::INVAL),
        ),
    }
}

#[allow(unsafe_code, reason = "no safe interface to unshare(2)")]
fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: the only thread of the process; descriptors and memory stay shared with nobody. What the
    // function's contract warns of, CLONE_FILES, is not among the flags.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}
