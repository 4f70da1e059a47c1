//! What a process tries that loads a package: after [`isolate`](cryptlet_container::sandbox::isolate), before any key exists.
//! It can become regions, and that is all that it can besides.

use crate::{
    Attempt,
    Outcome::{Allowed, Killed, Refused},
    calls::{call, map, remap, space, text},
};
use libc::{
    CLONE_NEWNET, CLONE_NEWUSER, CLONE_PARENT, MAP_GROWSDOWN, MAP_HUGETLB, MAP_PRIVATE, MAP_SHARED,
    O_ASYNC, PROT_EXEC, PROT_READ, PROT_WRITE,
};

const PAGE: i64 = 4_096;
const CHILD: i32 = libc::SIGCHLD;

// A table reads better with one row a line.
#[rustfmt::skip]
pub(crate) const ATTEMPTS: &[Attempt] = &[
    ("openat, to read", |_| call!(libc::SYS_openat, libc::AT_FDCWD, text("/etc/passwd\0"), libc::O_RDONLY), Refused(libc::EACCES)),
    ("openat, of /proc/self/mem", |_| call!(libc::SYS_openat, libc::AT_FDCWD, text("/proc/self/mem\0"), libc::O_RDWR), Refused(libc::EACCES)),
    ("openat, of a place and nothing in it, which landlock would allow", |_| call!(libc::SYS_openat, libc::AT_FDCWD, text("/\0"), libc::O_PATH), Refused(libc::EACCES)),
    ("openat2", |_| call!(libc::SYS_openat2, libc::AT_FDCWD, text("/etc/passwd\0"), space(), 24), Killed),
    ("open", |_| call!(libc::SYS_open, text("/etc/passwd\0"), libc::O_RDONLY), Killed),
    ("socket", |_| call!(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0), Killed),
    ("execve", |_| call!(libc::SYS_execve, text("/bin/true\0"), 0, 0), Killed),
    ("fork", |_| call!(libc::SYS_fork), Killed),
    ("clone, into a user namespace", |_| call!(libc::SYS_clone, CLONE_NEWUSER | CHILD, 0, 0, 0, 0), Killed),
    ("clone, into a network namespace", |_| call!(libc::SYS_clone, CLONE_NEWNET | CHILD, 0, 0, 0, 0), Killed),
    ("clone, of a child that is its parent's", |_| call!(libc::SYS_clone, CLONE_PARENT | CHILD, 0, 0, 0, 0), Killed),
    ("clone3", |_| call!(libc::SYS_clone3, space(), 64), Refused(libc::ENOSYS)),
    ("unshare", |_| call!(libc::SYS_unshare, CLONE_NEWUSER), Killed),
    ("setns", |_| call!(libc::SYS_setns, 0, 0), Killed),
    ("mount", |_| call!(libc::SYS_mount, 0, text("/\0"), text("tmpfs\0"), 0, 0), Killed),
    ("kill, of the host", |world| call!(libc::SYS_kill, world.host, 0), Killed),
    ("pidfd_send_signal", |_| call!(libc::SYS_pidfd_send_signal, 0, 0, 0, 0), Killed),
    ("pidfd_getfd", |_| call!(libc::SYS_pidfd_getfd, 0, 0, 0), Killed),
    ("ptrace, of the host", |world| call!(libc::SYS_ptrace, libc::PTRACE_SEIZE, world.host, 0, 0), Killed),
    ("process_vm_readv, of the host", |world| call!(libc::SYS_process_vm_readv, world.host, 0, 0, 0, 0, 0), Killed),
    ("memfd_create", |_| call!(libc::SYS_memfd_create, text("x\0"), 0), Killed),
    ("fcntl, to have signals sent to the host", |world| call!(libc::SYS_fcntl, 0, libc::F_SETOWN, world.host), Killed),
    ("fcntl, to choose the signal", |_| call!(libc::SYS_fcntl, 0, F_SETSIG, 0), Killed),
    ("fcntl, to have signals sent", |_| call!(libc::SYS_fcntl, 0, libc::F_SETFL, O_ASYNC), Killed),
    ("prctl, to be dumpable", |_| call!(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0), Killed),
    ("prctl, to be traced", |world| call!(libc::SYS_prctl, libc::PR_SET_PTRACER, world.host, 0, 0, 0), Killed),
    ("prlimit64, of the host", |world| call!(libc::SYS_prlimit64, world.host, libc::RLIMIT_NOFILE, 0, space()), Killed),
    ("setrlimit, to raise a limit", |_| raise(), Refused(libc::EPERM)),
    ("mmap, executable", |_| map(PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE), Killed),
    ("mmap, shared, which no limit counts", |_| map(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED), Killed),
    ("mmap, growing, which no limit counts", |_| map(PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_GROWSDOWN), Killed),
    ("mmap, of the system's huge pages", |_| map(2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_HUGETLB), Killed),
    ("mprotect, writable and executable", |_| remap(PAGE, PROT_READ, PROT_READ | PROT_WRITE | PROT_EXEC), Killed),
    ("mprotect, executable and not writable: what is compiled", |_| remap(PAGE, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC), Allowed),
    ("io_uring_setup", |_| call!(libc::SYS_io_uring_setup, 1, space()), Killed),
    ("bpf", |_| call!(libc::SYS_bpf, 0, 0, 0), Killed),
    ("userfaultfd", |_| call!(libc::SYS_userfaultfd, 0), Killed),
    ("keyctl", |_| call!(libc::SYS_keyctl, 0, 0, 0, 0, 0), Killed),
    ("perf_event_open", |_| call!(libc::SYS_perf_event_open, 0, 0, 0, 0, 0), Killed),
];

/// `F_SETSIG`, which the `libc` crate does not name everywhere.
const F_SETSIG: i32 = 10;

fn raise() -> i64 {
    let more: &'static [u64; 2] = Box::leak(Box::new([2_000, 2_000]));
    call!(libc::SYS_setrlimit, libc::RLIMIT_NOFILE, more.as_ptr())
}
