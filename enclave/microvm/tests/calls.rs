//! Machine code in a process of the container, with what is allowed for virtual machines: what it could do with that.
//!
//! This program plays both parts: it starts itself once for each attempt, gives up what the container's processes do, and
//! tries. No machine is needed: the filter judges requests by their numbers, whatever they are sent to.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test without a harness, which makes system calls that have no safe interface"
)]

#[path = "../src/calls.rs"]
mod calls;

use Outcome::{Allowed, Killed, Refused};
use calls::NEEDS;
use cryptlet_container::sandbox;
use libc::{MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE};
use std::{
    io::Write,
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
};

/// What an attempt comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The kernel kills the process by SIGSYS.
    Killed,
    /// The call is known and answered with this error.
    Refused(i32),
    Allowed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A package is loaded, or a region begins.
    Loading,
    /// The region has keys.
    Sealed,
}
use Stage::{Loading, Sealed};

/// What is tried, when, how, and what comes of it.
type Attempt = (&'static str, Stage, fn() -> i64, Outcome);

const PAGE: i64 = 4_096;
const BOTH: i32 = PROT_READ | PROT_WRITE;
/// Standard input, which is no machine.
const NO_MACHINE: i64 = 0;

// A table reads better with one row a line.
#[rustfmt::skip]
const ATTEMPTS: &[Attempt] = &[
    ("KVM_CREATE_VM", Loading, || kvm(0, 0x01), Refused(libc::ENOTTY)),
    ("KVM_CREATE_VM", Sealed, || kvm(0, 0x01), Killed),
    ("KVM_CREATE_VCPU", Sealed, || kvm(0, 0x41), Killed),
    ("KVM_SET_USER_MEMORY_REGION, which gives a guest memory of this process", Sealed, || kvm(0x4020, 0x46), Killed),
    ("KVM_X86_SET_MSR_FILTER", Sealed, || kvm(0x4188, 0xc6), Killed),
    ("KVM_RUN", Loading, || kvm(0, 0x80), Refused(libc::ENOTTY)),
    ("KVM_RUN", Sealed, || kvm(0, 0x80), Refused(libc::ENOTTY)),
    ("KVM_CREATE_IRQCHIP, a device", Loading, || kvm(0, 0x60), Killed),
    ("KVM_CREATE_PIT2, a device", Loading, || kvm(0x4040, 0x77), Killed),
    ("KVM_IRQFD, a device", Loading, || kvm(0x4020, 0x76), Killed),
    ("KVM_IOEVENTFD, a device", Loading, || kvm(0x4040, 0x79), Killed),
    ("KVM_CREATE_DEVICE", Loading, || kvm(0xc00c, 0xe0), Killed),
    ("KVM_ENABLE_CAP", Loading, || kvm(0x4068, 0xa3), Killed),
    ("KVM_SET_TSC_KHZ, which has the number of KVM_SET_DEBUGREGS", Loading, || kvm(0, 0xa2), Killed),
    ("KVM_CREATE_GUEST_MEMFD", Loading, || kvm(0xc040, 0xd4), Killed),
    ("a request to another driver", Loading, || call(libc::SYS_ioctl, &[NO_MACHINE, 0x5412, 0]), Killed),
    ("a request to another driver", Sealed, || call(libc::SYS_ioctl, &[NO_MACHINE, 0x5412, 0]), Killed),
    ("mmap, shared with nobody, which no limit counts", Loading, || map(PAGE, BOTH, MAP_SHARED | MAP_ANONYMOUS), Killed),
    ("mmap, shared and executable", Loading, || map(PAGE, BOTH | PROT_EXEC, MAP_SHARED), Killed),
    ("mmap, shared and large", Loading, || map(1 << 20, BOTH, MAP_SHARED), Killed),
    ("mmap, shared and larger than a filter sees at once", Loading, || map((4 << 30) + PAGE, BOTH, MAP_SHARED), Killed),
    ("mmap, shared with what is no processor", Loading, || map(PAGE, BOTH, MAP_SHARED), Refused(libc::EACCES)),
    ("mmap, shared", Sealed, || map(PAGE, BOTH, MAP_SHARED), Killed),
    ("mmap, executable", Loading, || map(PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS), Killed),
    ("mmap, executable", Sealed, || map(PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS), Killed),
    ("tgkill, of any process", Loading, || call(libc::SYS_tgkill, &[1, 1, 0]), Refused(libc::EPERM)),
    ("tgkill, of any process", Sealed, || call(libc::SYS_tgkill, &[1, 1, 0]), Refused(libc::EPERM)),
    ("kill", Loading, || call(libc::SYS_kill, &[1, 0]), Killed),
    ("a timer of what the process computes", Loading, || call(libc::SYS_setitimer, &[1, 0, 0]), Killed),
    ("a timer of what the process computes", Sealed, || call(libc::SYS_setitimer, &[1, 0, 0]), Killed),
    ("a timer", Sealed, || call(libc::SYS_setitimer, &[0, 0, 0]), Allowed),
    ("openat, of /dev/kvm", Loading, || open(), Refused(libc::EACCES)),
    ("openat, of /dev/kvm", Sealed, || open(), Killed),
    ("execve", Loading, || call(libc::SYS_execve, &[c"/bin/true".as_ptr() as i64, 0, 0]), Killed),
];

/// A request to KVM with this number; `size_and_direction` is its upper half.
fn kvm(size_and_direction: i64, number: i64) -> i64 {
    call(
        libc::SYS_ioctl,
        &[NO_MACHINE, size_and_direction << 16 | 0xae << 8 | number, 0],
    )
}

fn map(bytes: i64, protection: i32, flags: i32) -> i64 {
    let (protection, flags) = (protection.into(), flags.into());
    call(
        libc::SYS_mmap,
        &[0, bytes, protection, flags, NO_MACHINE, 0],
    )
}

fn open() -> i64 {
    call(
        libc::SYS_openat,
        &[libc::AT_FDCWD.into(), c"/dev/kvm".as_ptr() as i64, 0],
    )
}

/// A system call; its error as a negative number.
fn call(number: i64, given: &[i64]) -> i64 {
    let mut arguments = [0_i64; 6];
    arguments[..given.len()].copy_from_slice(given);
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: pointers are null or to memory that lives as long as the process, and no call that succeeds changes memory that
    // Rust knows of.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    match result {
        -1 => -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap()),
        other => other,
    }
}

fn main() {
    let order = std::env::args()
        .nth(1)
        .and_then(|it| it.parse::<usize>().ok());
    match order {
        Some(order) => attempt(order),
        None => host(),
    }
}

/// The container's process, which says what came of the attempt.
fn attempt(order: usize) {
    let (_, stage, attempt, _) = ATTEMPTS[order];
    sandbox::enter().unwrap();
    sandbox::isolate(Some(NEEDS)).unwrap();
    if stage == Sealed {
        sandbox::seal(Some(NEEDS)).unwrap();
    }
    let result = attempt();
    std::io::stdout().write_all(&result.to_be_bytes()).unwrap();
}

fn host() {
    let mut failures = Vec::new();
    for (order, (name, stage, _, expected)) in ATTEMPTS.iter().enumerate() {
        let output = Command::new(std::env::current_exe().unwrap())
            .arg(order.to_string())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let result = output.stdout.try_into().ok().map(i64::from_be_bytes);
        let seen = match (output.status.signal(), result) {
            (Some(libc::SIGSYS), None) => Some(Killed),
            (None, Some(result)) if result >= 0 => Some(Allowed),
            (None, Some(error)) => Some(Refused(i32::try_from(-error).unwrap())),
            _ => None,
        };
        if seen != Some(*expected) {
            failures.push((stage, name, output.status, result));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    println!(
        "{} attempts, each in a process of its own: as the table says",
        ATTEMPTS.len()
    );
}
