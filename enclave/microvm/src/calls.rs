//! What a container with virtual machines asks of the kernel beside what every container does. Requests to KVM are listed one
//! by one: those that make a machine are possible while a package is loaded, and in a sealed region only those that run one.

use cryptlet_container::sandbox::{Calls, Needs};
use kvm_bindings::{
    kvm_cpuid2, kvm_debugregs, kvm_fpu, kvm_msr_filter, kvm_msrs, kvm_regs, kvm_sregs,
    kvm_userspace_memory_region, kvm_xcrs, kvm_xsave,
};
use libc::{_IO, _IOR, _IOW, _IOWR, Ioctl};
use seccompiler::{BackendError, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};
use std::collections::BTreeMap;

pub(crate) const NEEDS: Needs = Needs {
    control: "virtual-machine",
    loading,
    sealed,
    // Hyperlight would stop a machine by a signal to its thread. By the same call signals could go to other processes, so
    // they come from a timer instead: see `alarm`.
    in_vain: &[(libc::SYS_tgkill, libc::EPERM)],
};

/// Type of KVM's requests (`KVMIO` in `linux/kvm.h`).
const KVM: u32 = 0xae;

/// To run a machine, and to bring it back to an earlier state.
const RUN: [Ioctl; 9] = [
    _IO(KVM, 0x80),                   // KVM_RUN
    _IOW::<kvm_regs>(KVM, 0x82),      // KVM_SET_REGS
    _IOW::<kvm_sregs>(KVM, 0x84),     // KVM_SET_SREGS
    _IOW::<kvm_msrs>(KVM, 0x89),      // KVM_SET_MSRS
    _IOW::<kvm_fpu>(KVM, 0x8d),       // KVM_SET_FPU
    _IOW::<kvm_debugregs>(KVM, 0xa2), // KVM_SET_DEBUGREGS
    _IOW::<kvm_xsave>(KVM, 0xa5),     // KVM_SET_XSAVE
    _IOR::<kvm_xcrs>(KVM, 0xa6),      // KVM_GET_XCRS
    _IOW::<kvm_xcrs>(KVM, 0xa7),      // KVM_SET_XCRS
];

/// To make a machine, give it memory, and look at its state.
const MAKE: [Ioctl; 11] = [
    _IO(KVM, 0x01),                                 // KVM_CREATE_VM
    _IO(KVM, 0x03),                                 // KVM_CHECK_EXTENSION
    _IO(KVM, 0x04),                                 // KVM_GET_VCPU_MMAP_SIZE
    _IOWR::<kvm_cpuid2>(KVM, 0x05),                 // KVM_GET_SUPPORTED_CPUID
    _IO(KVM, 0x41),                                 // KVM_CREATE_VCPU
    _IOW::<kvm_userspace_memory_region>(KVM, 0x46), // KVM_SET_USER_MEMORY_REGION
    _IOR::<kvm_regs>(KVM, 0x81),                    // KVM_GET_REGS
    _IOR::<kvm_sregs>(KVM, 0x83),                   // KVM_GET_SREGS
    _IOWR::<kvm_msrs>(KVM, 0x88),                   // KVM_GET_MSRS
    _IOW::<kvm_cpuid2>(KVM, 0x90),                  // KVM_SET_CPUID2
    _IOW::<kvm_msr_filter>(KVM, 0xc6),              // KVM_X86_SET_MSR_FILTER
];

/// Most that a processor's state takes which KVM shares with the process: some pages.
const STATE_BYTES: u64 = 64 << 10;

fn loading() -> Result<Calls, BackendError> {
    let mut calls = running(RUN.iter().chain(&MAKE))?;
    // Memory that is shared with KVM: it has a descriptor, and there is none whose memory could be shared with anybody else.
    let shared = vec![
        SeccompCondition::new(1, SeccompCmpArgLen::Qword, SeccompCmpOp::Le, STATE_BYTES)?,
        is(2, libc::PROT_READ | libc::PROT_WRITE)?,
        is(3, libc::MAP_SHARED)?,
    ];
    calls.insert(libc::SYS_mmap, vec![SeccompRule::new(shared)?]);
    Ok(calls)
}

fn sealed() -> Result<Calls, BackendError> {
    running(RUN.iter())
}

/// These requests to KVM and to no other driver, the timer that stops a machine, and a pause until it has stopped.
fn running<'a>(requests: impl Iterator<Item = &'a Ioctl>) -> Result<Calls, BackendError> {
    let rules = requests.map(|request| only_if(compare(1, SeccompCmpOp::Eq, *request)?));
    Ok(BTreeMap::from([
        (libc::SYS_ioctl, rules.collect::<Result<_, _>>()?),
        (
            libc::SYS_setitimer,
            vec![only_if(is(0, libc::ITIMER_REAL)?)?],
        ),
        (libc::SYS_clock_nanosleep, Vec::new()),
        (libc::SYS_getpid, Vec::new()),
        (libc::SYS_tgkill, Vec::new()),
    ]))
}

fn only_if(condition: SeccompCondition) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![condition])
}

/// The argument, counted from 0, is this.
fn is(argument: u8, value: i32) -> Result<SeccompCondition, BackendError> {
    compare(argument, SeccompCmpOp::Eq, u64::from(value.cast_unsigned()))
}

fn compare(argument: u8, how: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, value)
}
