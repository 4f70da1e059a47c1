//! What the container gives up, in three steps: [`enter`] when it starts, [`isolate`] before it reads a package, [`settle`]
//! and [`seal`] in each region before its keys are made.
//!
//! Seccomp is the floor: without it the container does not start. Its list has no call that opens a file or
//! a socket, runs a program or makes a process, so that a cryptlet that broke out of WebAssembly would still
//! reach nothing but the stream to the host. Nor has a region a call that makes memory executable: its code was compiled
//! before it began. `tests/native.rs` tries each of this with machine code. Everything above the floor is taken where the
//! system grants it, and the evidence names what is in force.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus,
    Scope,
};
use rustix::{
    process::{
        DumpableBehavior, Resource, Rlimit, Signal, set_dumpable_behavior,
        set_parent_process_death_signal, setrlimit,
    },
    stdio::dup2_stdin,
    thread::{
        CapabilitySet, CapabilitySets, UnshareFlags, capabilities, set_capabilities,
        set_no_new_privs,
    },
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    os::{
        fd::{AsFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

/// Memory that the process may write to, all told: 3 GiB. A cryptlet's own limit lies below.
const DATA_BYTES: u64 = 3 << 30;
/// Addresses that a process may reserve: 256 GiB. Code reserves far more than it touches; what bounds this are page tables,
/// which no other limit counts.
const ADDRESS_BYTES: u64 = 256 << 30;
/// Open descriptors of a process that divides: two for each child, and its own. A region may open none.
const DESCRIPTORS: u64 = 1_000;
/// The first descriptor that nobody opened for this program: what lies below are the standard streams.
const FIRST_UNKNOWN: u32 = 3;
/// The first that a region does not keep.
const FIRST_BUT_STREAM: u32 = 1;
/// The first that a region does not keep whose host is on another machine.
const FIRST_BUT_BOTH: u32 = 2;

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

/// What a region's own namespaces are, where the system grants them: its parent shares none of them with it.
pub const OWN_NAMESPACES: UnshareFlags = UnshareFlags::NEWPID;

/// What the zygote gives up, and all its children with it. Returns the names of the controls in force, in the order in which
/// they were applied.
///
/// # Errors
/// A control of the floor was refused.
pub fn enter() -> Result<Vec<&'static str>, SandboxError> {
    close_descriptors(FIRST_UNKNOWN, u32::MAX).map_err(refused("descriptors"))?;
    limit_resources().map_err(refused("resource-limits"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(refused("not-dumpable"))?;
    set_no_new_privs(true).map_err(refused("no-new-privileges"))?;
    let mut controls = vec!["resource-limits", "not-dumpable", "no-new-privileges"];
    if std::env::vars_os().next().is_none() {
        controls.push("empty-environment");
    }
    Ok(controls)
}

/// What the execution of components needs of the system beside what every region does. It is said by the program that brings
/// it, so that a program without needs has no list of them in it.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// What evidence calls it.
    pub control: &'static str,
    /// What is called from loading a package on, until a region is sealed.
    pub loading: fn() -> Result<Calls, BackendError>,
    /// What is called in a sealed region: some of what is called before.
    pub sealed: fn() -> Result<Calls, BackendError>,
    /// Those among them that are answered by an error instead, from loading on: whoever calls goes on without.
    pub in_vain: &'static [(i64, i32)],
}

/// What a process gives up before it reads a package: the world outside. It can still divide, and its regions can still get
/// what they need.
///
/// # Errors
/// A control of the floor was refused.
pub fn isolate(needs: Option<Needs>) -> Result<Vec<&'static str>, SandboxError> {
    let mut controls = leave_namespaces();
    controls.extend(apply_landlock());
    drop_capabilities_but(CapabilitySet::SYS_ADMIN).map_err(refused("capabilities"))?;
    refuse(libc::SYS_openat, libc::EACCES)?;
    refuse(libc::SYS_clone3, libc::ENOSYS)?;
    let mut calls = loading_calls()?;
    if let Some(needs) = needs {
        for (call, error) in needs.in_vain {
            refuse(*call, *error)?;
        }
        allow(&mut calls, (needs.loading)().map_err(backend)?);
    }
    forbid_all_but(calls)?;
    Ok(controls)
}

/// What a region gives up before it makes its keys: everything but its stream, and `device` if it needs one. Returns the
/// stream and the controls.
///
/// # Errors
/// A control of the floor was refused.
pub fn settle(
    stream: OwnedFd,
    namespaces: UnshareFlags,
    device: Option<RawFd>,
) -> Result<(UnixStream, Vec<&'static str>), SandboxError> {
    dup2_stdin(&stream).map_err(refused("descriptors"))?;
    drop(stream);
    close_all_but(device).map_err(refused("descriptors"))?;
    let stream = io::stdin().as_fd().try_clone_to_owned();
    let stream = stream.map_err(|source| SandboxError::Refused {
        control: "descriptors",
        source,
    })?;
    Ok((UnixStream::from(stream), confine(namespaces)?))
}

/// The same in a region whose host is on another machine, which keeps standard input, a TCP or vsock stream, and standard output,
/// where it asks for what hardware says. Returns both.
///
/// # Errors
/// A control of the floor was refused.
pub fn settle_apart() -> Result<(OwnedFd, OwnedFd, Vec<&'static str>), SandboxError> {
    close_descriptors(FIRST_BUT_BOTH, u32::MAX).map_err(refused("descriptors"))?;
    let refuse = |source| SandboxError::Refused {
        control: "descriptors",
        source,
    };
    let stream = io::stdin().as_fd().try_clone_to_owned().map_err(refuse)?;
    let witness = io::stdout().as_fd().try_clone_to_owned().map_err(refuse)?;
    setrlimit(Resource::Nofile, fixed(0)).map_err(refused("descriptors"))?;
    let mut controls = confine(UnshareFlags::empty())?;
    controls.push("descriptors");
    Ok((stream, witness, controls))
}

/// What [`settle`] does about everything but descriptors.
fn confine(namespaces: UnshareFlags) -> Result<Vec<&'static str>, SandboxError> {
    let mut controls = Vec::new();
    if namespaces.contains(UnshareFlags::NEWPID) {
        controls.push("pid-namespace");
    }
    if drop_capabilities_but(CapabilitySet::empty()).is_ok() {
        controls.push("no-capabilities");
    }
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(refused("ends-with-parent"))?;
    controls.push("ends-with-parent");
    Ok(controls)
}

/// Forbids, for all threads and for good, every further descriptor, and every system call that a running region does not
/// need. Returns the controls.
///
/// # Errors
/// The floor: without it there is no region.
pub fn seal(needs: Option<Needs>) -> Result<[&'static str; 2], SandboxError> {
    setrlimit(Resource::Nofile, fixed(0)).map_err(refused("descriptors"))?;
    let mut calls = region_calls()?;
    if let Some(needs) = needs {
        allow(&mut calls, (needs.sealed)().map_err(backend)?);
    }
    forbid_all_but(calls)?;
    Ok(["descriptors", "seccomp-kill"])
}

fn backend(error: BackendError) -> SandboxError {
    seccompiler::Error::Backend(error).into()
}

/// Allows what is allowed already, and what `more` allows.
fn allow(calls: &mut Calls, more: Calls) {
    for (call, rules) in more {
        match calls.entry(call) {
            Entry::Vacant(place) => {
                place.insert(rules);
            }
            Entry::Occupied(mut known) if rules.is_empty() => known.get_mut().clear(),
            Entry::Occupied(known) if known.get().is_empty() => {}
            Entry::Occupied(mut known) => known.get_mut().extend(rules),
        }
    }
}

/// System calls, each with the rules of which one must hold; without a rule it is allowed whatever its arguments are.
pub type Calls = BTreeMap<i64, Vec<SeccompRule>>;

/// Whatever else is called kills the process. Filters add up: a later one takes more away, and gives nothing back.
fn forbid_all_but(calls: Calls) -> Result<(), SandboxError> {
    apply(calls, SeccompAction::Allow, SeccompAction::KillProcess)
}

/// Answers a call with an error, where whoever makes it knows how to go on.
///
/// `openat`: wasmtime looks for the number of processors in a file when it prepares to run, and does without if there is none.
/// `clone3`: the C library starts threads by it, and its flags lie in memory, where a filter cannot see them. Where the call is
/// unknown it takes `clone`, whose flags are an argument.
fn refuse(call: i64, error: i32) -> Result<(), SandboxError> {
    apply(
        BTreeMap::from([(call, Vec::new())]),
        SeccompAction::Errno(error.unsigned_abs()),
        SeccompAction::Allow,
    )
}

fn apply(calls: Calls, on: SeccompAction, otherwise: SeccompAction) -> Result<(), SandboxError> {
    let architecture = std::env::consts::ARCH.try_into().map_err(backend)?;
    let filter = SeccompFilter::new(calls, otherwise, on, architecture).map_err(backend)?;
    let program: BpfProgram = filter.try_into().map_err(backend)?;
    seccompiler::apply_filter_all_threads(&program)?;
    Ok(())
}

/// What a region may call.
fn region_calls() -> Result<Calls, SandboxError> {
    let plain = NEEDED.iter().map(|call| (*call, Vec::new()));
    let ruled = || -> Result<Vec<_>, BackendError> {
        Ok(vec![
            (libc::SYS_mmap, vec![rule(memory()?)?]),
            (
                libc::SYS_mprotect,
                vec![rule(vec![without(PROTECTION, libc::PROT_EXEC)?])?],
            ),
        ])
    };
    let ruled = ruled().map_err(backend)?;
    Ok(plain.chain(ruled).collect())
}

/// What a process that loads a package and becomes regions may call. What it compiles is writable first and then executable,
/// never both.
fn loading_calls() -> Result<Calls, SandboxError> {
    let plain = NEEDED.iter().chain(DIVIDING);
    let plain = plain.map(|call| (*call, Vec::new()));
    let one_of = |argument, values: &[i32]| -> Result<Vec<SeccompRule>, BackendError> {
        let rules = values.iter().map(|value| rule(vec![is(argument, *value)?]));
        rules.collect()
    };
    let ruled = || -> Result<Vec<_>, BackendError> {
        let mut fcntl = one_of(1, &[libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_GETFL])?;
        fcntl.push(rule(vec![
            is(1, libc::F_SETFL)?,
            without(2, libc::O_ASYNC)?,
        ])?);
        Ok(vec![
            (libc::SYS_mmap, vec![rule(memory()?)?]),
            (
                libc::SYS_mprotect,
                vec![
                    rule(vec![without(PROTECTION, libc::PROT_EXEC)?])?,
                    rule(vec![without(PROTECTION, libc::PROT_WRITE)?])?,
                ],
            ),
            (libc::SYS_clone, vec![rule(vec![without(0, FAR_KIN)?])?]),
            (libc::SYS_prctl, one_of(0, OWN_TRAITS)?),
            (libc::SYS_prlimit64, one_of(0, &[0])?),
            (libc::SYS_fcntl, fcntl),
        ])
    };
    let ruled = ruled().map_err(backend)?;
    Ok(plain.chain(ruled).collect())
}

/// Mappings that [`Resource::Data`] counts, and none that can be executed.
fn memory() -> Result<Vec<SeccompCondition>, BackendError> {
    Ok(vec![
        without(PROTECTION, libc::PROT_EXEC)?,
        without(3, UNCOUNTED)?,
    ])
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions)
}

/// None of these bits is set in the argument, counted from 0.
fn without(argument: u8, bits: i32) -> Result<SeccompCondition, BackendError> {
    let mask = SeccompCmpOp::MaskedEq(u64::from(bits.cast_unsigned()));
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, mask, 0)
}

/// The argument, counted from 0, is this.
fn is(argument: u8, value: i32) -> Result<SeccompCondition, BackendError> {
    let value = u64::from(value.cast_unsigned());
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

/// The argument of `mmap` and `mprotect` that says what may be done with memory.
const PROTECTION: u8 = 2;
/// Memory that no limit counts: shared with others, growing like a stack, out of the system's store of huge pages.
const UNCOUNTED: i32 = libc::MAP_SHARED | libc::MAP_GROWSDOWN | libc::MAP_HUGETLB;
/// A child that would not be this process's own, or be more of a ruler than its parent.
const FAR_KIN: i32 = libc::CLONE_PARENT
    | libc::CLONE_PTRACE
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;
/// What a process may say of itself: the names of its threads, that it ends with its parent and gains no privileges. Not, that
/// its memory may be read.
const OWN_TRAITS: &[i32] = &[
    libc::PR_SET_NAME,
    libc::PR_SET_PDEATHSIG,
    libc::PR_SET_NO_NEW_PRIVS,
];

/// Reading and writing open descriptors, memory (`mmap` and `mprotect` have rules), waiting, time, randomness, signals of the own threads, the end.
const NEEDED: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_close,
    libc::SYS_munmap,
    libc::SYS_mremap,
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
];

/// Besides, what a loaded process needs to become regions: copies of itself and their thread, requests and answers, and what
/// [`settle`] and [`seal`] do. To open a file is refused, not allowed ([`isolate`]). [`loading_calls`] has those of which the
/// arguments matter.
const DIVIDING: &[i64] = &[
    libc::SYS_openat,
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_pidfd_open,
    libc::SYS_waitid,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_fstat,
    libc::SYS_close_range,
    libc::SYS_setrlimit,
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_seccomp,
];

fn fixed(limit: u64) -> Rlimit {
    Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    }
}

fn limit_resources() -> rustix::io::Result<()> {
    setrlimit(Resource::Core, fixed(0))?;
    setrlimit(Resource::Fsize, fixed(0))?;
    setrlimit(Resource::Memlock, fixed(0))?;
    setrlimit(Resource::Nofile, fixed(DESCRIPTORS))?;
    setrlimit(Resource::As, fixed(ADDRESS_BYTES))?;
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

/// Root of a machine or of a user namespace has capabilities. A region needs none; a process that becomes regions needs the
/// one that gives them namespaces, and not, for example, the one that raises limits.
fn drop_capabilities_but(needed: CapabilitySet) -> rustix::io::Result<()> {
    let kept = capabilities(None)?.permitted & needed;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets)
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

/// Closes what a region does not keep.
fn close_all_but(device: Option<RawFd>) -> rustix::io::Result<()> {
    match device.and_then(|device| u32::try_from(device).ok()) {
        Some(device) if device > FIRST_BUT_STREAM => {
            close_descriptors(FIRST_BUT_STREAM, device - 1)?;
            close_descriptors(device + 1, u32::MAX)
        }
        _ => close_descriptors(FIRST_BUT_STREAM, u32::MAX),
    }
}

/// Closes all descriptors from `first` to `last`.
#[allow(unsafe_code, reason = "no safe interface to close_range(2)")]
fn close_descriptors(first: u32, last: u32) -> rustix::io::Result<()> {
    // SAFETY: no other thread exists, and nothing is used any more that owns one of these descriptors: neither when the
    // program has just started, nor in a region, whose stream lies below.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_u32) };
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
