//! What a region tries, sealed. It may compute, and read from and write to its stream; what else it may is said here.

use crate::{
    Attempt,
    Outcome::{Allowed, EndedByHost, Killed, KilledOrUnknown, Refused},
    calls::{by_interrupt, call, map, raw, remap, space, text},
    stand_in::BY_ANOTHER_THREAD,
};
use libc::{
    AF_INET, AF_NETLINK, AF_UNIX, AF_VSOCK, AT_FDCWD, CLONE_NEWUSER, MAP_FIXED, MAP_GROWSDOWN,
    MAP_HUGETLB, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, O_CREAT, O_RDONLY, O_RDWR, O_WRONLY,
    PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM,
};

const PAGE: i64 = 4_096;
const GIB: i64 = 1 << 30;
const BOTH: i32 = PROT_READ | PROT_WRITE;
/// x32: the numbers of 64-bit calls, marked.
const X32: i64 = 0x4000_0000;
/// `getpid` of the 32-bit numbers.
const GETPID_32: u32 = 20;
/// How far [`descriptors`] looks.
const LOOKED_AT: i64 = 32;
/// An attempt that the host has to end.
pub(crate) const ENDLESS: &str = "computing without end";
/// An attempt for which the host sends a descriptor.
pub(crate) const SENT: &str = "read, of bytes with a descriptor beside them: none arrives";

// A table reads better with one row a line.
#[rustfmt::skip]
pub(crate) const ATTEMPTS: &[Attempt] = &[
    // Files.
    ("openat, to read", |_| call!(libc::SYS_openat, AT_FDCWD, text("/etc/passwd\0"), O_RDONLY), Killed),
    ("openat, to write", |_| call!(libc::SYS_openat, AT_FDCWD, text("/tmp/of-a-region\0"), O_WRONLY | O_CREAT, 0o600), Killed),
    ("open", |_| call!(libc::SYS_open, text("/etc/passwd\0"), O_RDONLY), Killed),
    ("openat2", |_| call!(libc::SYS_openat2, AT_FDCWD, text("/etc/passwd\0"), space(), 24), Killed),
    ("creat", |_| call!(libc::SYS_creat, text("/tmp/of-a-region\0"), 0o600), Killed),
    ("openat, of /proc/self/maps", |_| call!(libc::SYS_openat, AT_FDCWD, text("/proc/self/maps\0"), O_RDONLY), Killed),
    ("openat, of /proc/self/mem", |_| call!(libc::SYS_openat, AT_FDCWD, text("/proc/self/mem\0"), O_RDWR), Killed),
    ("open_by_handle_at", |_| call!(libc::SYS_open_by_handle_at, AT_FDCWD, space(), O_RDONLY), Killed),
    ("readlink, of /proc/self/exe", |_| call!(libc::SYS_readlink, text("/proc/self/exe\0"), space(), 100), Killed),
    ("stat", |_| call!(libc::SYS_stat, text("/\0"), space()), Killed),
    ("statx", |_| call!(libc::SYS_statx, AT_FDCWD, text("/\0"), 0, 0, space()), Killed),
    ("getdents64", |_| call!(libc::SYS_getdents64, 0, space(), 100), Killed),
    ("unlink", |_| call!(libc::SYS_unlink, text("/tmp/of-a-region\0")), Killed),
    ("mkdir", |_| call!(libc::SYS_mkdir, text("/tmp/of-a-region\0"), 0o700), Killed),
    ("chroot", |_| call!(libc::SYS_chroot, text("/\0")), Killed),
    ("chdir", |_| call!(libc::SYS_chdir, text("/\0")), Killed),
    ("memfd_create", |_| call!(libc::SYS_memfd_create, text("x\0"), 0), Killed),
    ("memfd_secret", |_| call!(libc::SYS_memfd_secret, 0), Killed),
    // Sockets.
    ("socket, internet", |_| call!(libc::SYS_socket, AF_INET, SOCK_STREAM, 0), Killed),
    ("socket, raw", |_| call!(libc::SYS_socket, AF_INET, SOCK_RAW, 1), Killed),
    ("socket, local", |_| call!(libc::SYS_socket, AF_UNIX, SOCK_STREAM, 0), Killed),
    ("socket, netlink", |_| call!(libc::SYS_socket, AF_NETLINK, SOCK_DGRAM, 0), Killed),
    ("socket, to the machine's owner", |_| call!(libc::SYS_socket, AF_VSOCK, SOCK_STREAM, 0), Killed),
    ("socketpair", |_| call!(libc::SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, space()), Killed),
    ("connect, of the stream", |_| call!(libc::SYS_connect, 0, space(), 16), Killed),
    ("bind", |_| call!(libc::SYS_bind, 0, space(), 16), Killed),
    ("listen", |_| call!(libc::SYS_listen, 0, 1), Killed),
    ("accept", |_| call!(libc::SYS_accept, 0, 0, 0), Killed),
    ("shutdown", |_| call!(libc::SYS_shutdown, 0, 2), Killed),
    ("setsockopt", |_| call!(libc::SYS_setsockopt, 0, libc::SOL_SOCKET, libc::SO_PASSCRED, space(), 4), Killed),
    ("recvmsg, which would bring descriptors", |_| call!(libc::SYS_recvmsg, 0, space(), 0), Killed),
    ("recvmmsg", |_| call!(libc::SYS_recvmmsg, 0, space(), 1, 0, 0), Killed),
    ("sendmsg, which would give descriptors away", |_| call!(libc::SYS_sendmsg, 0, space(), 0), Killed),
    ("sendto, to somebody else than the host", |_| call!(libc::SYS_sendto, 0, text("x\0"), 1, 0, address(), 16), Refused(libc::EISCONN)),
    // Descriptors.
    ("dup", |_| call!(libc::SYS_dup, 0), Killed),
    ("fcntl", |_| call!(libc::SYS_fcntl, 0, libc::F_DUPFD, 10), Killed),
    ("pipe2", |_| call!(libc::SYS_pipe2, space(), 0), Killed),
    ("eventfd2", |_| call!(libc::SYS_eventfd2, 0, 0), Killed),
    ("epoll_create1", |_| call!(libc::SYS_epoll_create1, 0), Killed),
    ("inotify_init1", |_| call!(libc::SYS_inotify_init1, 0), Killed),
    ("ioctl", |_| call!(libc::SYS_ioctl, 0, libc::FIONREAD, space()), Killed),
    ("read, of a descriptor that nobody gave", |_| call!(libc::SYS_read, 7, space(), 1), Refused(libc::EBADF)),
    ("mmap, of the stream", |_| call!(libc::SYS_mmap, 0, PAGE, PROT_READ, MAP_PRIVATE, 0, 0), Refused(libc::ENODEV)),
    (SENT, |_| received(), Allowed),
    // Processes.
    ("fork", |_| call!(libc::SYS_fork), Killed),
    ("vfork", |_| call!(libc::SYS_vfork), Killed),
    ("clone", |_| call!(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0), Killed),
    ("clone, of a thread", |_| call!(libc::SYS_clone, libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD, 0, 0, 0, 0), Killed),
    ("clone3", |_| call!(libc::SYS_clone3, space(), 64), Killed),
    ("execve", |_| call!(libc::SYS_execve, text("/bin/true\0"), 0, 0), Killed),
    ("execveat", |_| call!(libc::SYS_execveat, AT_FDCWD, text("/bin/true\0"), 0, 0, 0), Killed),
    ("wait4", |_| call!(libc::SYS_wait4, -1, 0, libc::WNOHANG, 0), Killed),
    ("getpid", |_| call!(libc::SYS_getpid), Killed),
    (BY_ANOTHER_THREAD, |_| 0, Killed),
    ("getppid", |_| call!(libc::SYS_getppid), Killed),
    // Other processes.
    ("kill, of everybody", |_| call!(libc::SYS_kill, -1, 0), Killed),
    ("kill, of the host", |world| call!(libc::SYS_kill, world.host, 0), Killed),
    ("tkill", |world| call!(libc::SYS_tkill, world.host, 0), Killed),
    ("tgkill, of the host", |world| call!(libc::SYS_tgkill, world.host, world.host, 0), Killed),
    ("rt_sigqueueinfo", |world| call!(libc::SYS_rt_sigqueueinfo, world.host, 0, space()), Killed),
    ("pidfd_open", |world| call!(libc::SYS_pidfd_open, world.host, 0), Killed),
    ("pidfd_send_signal", |_| call!(libc::SYS_pidfd_send_signal, 0, 0, 0, 0), Killed),
    ("pidfd_getfd", |_| call!(libc::SYS_pidfd_getfd, 0, 0, 0), Killed),
    ("ptrace, by whoever is the parent", |_| call!(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0), Killed),
    ("ptrace, of the host", |world| call!(libc::SYS_ptrace, libc::PTRACE_SEIZE, world.host, 0, 0), Killed),
    ("ptrace, of another region", |world| call!(libc::SYS_ptrace, libc::PTRACE_SEIZE, world.neighbour, 0, 0), Killed),
    ("process_vm_readv, of the host", |world| call!(libc::SYS_process_vm_readv, world.host, 0, 0, 0, 0, 0), Killed),
    ("process_vm_readv, of another region", |world| call!(libc::SYS_process_vm_readv, world.neighbour, 0, 0, 0, 0, 0), Killed),
    ("process_vm_writev, of another region", |world| call!(libc::SYS_process_vm_writev, world.neighbour, 0, 0, 0, 0, 0), Killed),
    ("process_madvise", |_| call!(libc::SYS_process_madvise, 0, 0, 0, 0, 0), Killed),
    ("kcmp", |world| call!(libc::SYS_kcmp, world.host, world.neighbour, 0, 0, 0), Killed),
    ("shmget", |_| call!(libc::SYS_shmget, 0, PAGE, 0), Killed),
    ("msgget", |_| call!(libc::SYS_msgget, 0, 0), Killed),
    ("semget", |_| call!(libc::SYS_semget, 0, 1, 0), Killed),
    ("mq_open", |_| call!(libc::SYS_mq_open, text("x\0"), O_RDONLY, 0, 0), Killed),
    // The system.
    ("mount", |_| call!(libc::SYS_mount, 0, text("/\0"), text("tmpfs\0"), 0, 0), Killed),
    ("umount2", |_| call!(libc::SYS_umount2, text("/of-a-region\0"), 0), Killed),
    ("pivot_root", |_| call!(libc::SYS_pivot_root, text("/\0"), text("/\0")), Killed),
    ("unshare", |_| call!(libc::SYS_unshare, CLONE_NEWUSER), Killed),
    ("setns", |_| call!(libc::SYS_setns, 0, 0), Killed),
    ("bpf", |_| call!(libc::SYS_bpf, 0, 0, 0), Killed),
    ("io_uring_setup", |_| call!(libc::SYS_io_uring_setup, 1, space()), Killed),
    ("io_uring_enter", |_| call!(libc::SYS_io_uring_enter, 0, 0, 0, 0, 0, 0), Killed),
    ("userfaultfd", |_| call!(libc::SYS_userfaultfd, 0), Killed),
    ("perf_event_open", |_| call!(libc::SYS_perf_event_open, 0, 0, 0, 0, 0), Killed),
    ("keyctl", |_| call!(libc::SYS_keyctl, 0, 0, 0, 0, 0), Killed),
    ("add_key", |_| call!(libc::SYS_add_key, 0, 0, 0, 0, 0), Killed),
    ("request_key", |_| call!(libc::SYS_request_key, 0, 0, 0, 0), Killed),
    ("finit_module", |_| call!(libc::SYS_finit_module, 0, 0, 0), Killed),
    ("syslog", |_| call!(libc::SYS_syslog, 10, 0, 0), Killed),
    ("uname", |_| call!(libc::SYS_uname, space()), Killed),
    ("clock_settime", |_| call!(libc::SYS_clock_settime, 99, 0), Killed),
    // What the process gave up.
    ("prctl, to be dumpable", |_| call!(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0), Killed),
    ("prctl, to outlive its parent", |_| call!(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, 0, 0, 0, 0), Killed),
    ("seccomp", |_| call!(libc::SYS_seccomp, 0, 0, 0), Killed),
    ("capset", |_| call!(libc::SYS_capset, space(), space()), Killed),
    ("setuid", |_| call!(libc::SYS_setuid, 0), Killed),
    ("personality, in which all memory is executable", |_| call!(libc::SYS_personality, 0x0040_0000), Killed),
    ("setrlimit", |_| call!(libc::SYS_setrlimit, libc::RLIMIT_DATA, space()), Killed),
    ("prlimit64", |_| call!(libc::SYS_prlimit64, 0, libc::RLIMIT_DATA, space(), 0), Killed),
    ("setpriority", |_| call!(libc::SYS_setpriority, 0, 0, 0), Killed),
    ("sched_setaffinity", |_| call!(libc::SYS_sched_setaffinity, 0, 8, space()), Killed),
    ("arch_prctl", |_| call!(libc::SYS_arch_prctl, 0x1003, space()), Killed),
    ("modify_ldt", |_| call!(libc::SYS_modify_ldt, 0, space(), 0), Killed),
    ("iopl", |_| call!(libc::SYS_iopl, 3), Killed),
    // Other ways into the kernel.
    ("a 32-bit call", |_| by_interrupt(GETPID_32), KilledOrUnknown),
    ("an x32 call", |_| raw(X32 | libc::SYS_getpid, &[]), Killed),
    ("an x32 call of an allowed number", |_| raw(X32 | libc::SYS_gettid, &[]), Killed),
    ("a call that does not exist", |_| raw(9_999, &[]), Killed),
    ("getpid, when SIGSYS is ignored", |_| ignore_and_call(), Killed),
    // Code.
    ("mmap, executable", |_| map(PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE), Killed),
    ("mmap, writable and executable", |_| map(PAGE, BOTH | PROT_EXEC, MAP_PRIVATE), Killed),
    ("mprotect, executable", |_| remap(PAGE, BOTH, PROT_READ | PROT_EXEC), Killed),
    ("pkey_mprotect", |_| call!(libc::SYS_pkey_mprotect, 0, PAGE, PROT_READ, -1), Killed),
    ("mprotect, writable: where wasmtime grows a memory", |_| remap(PAGE, PROT_NONE, BOTH), Allowed),
    // Memory.
    ("mmap, small", |_| map(PAGE, BOTH, MAP_PRIVATE), Allowed),
    ("mmap, past the limit", |_| map(4 * GIB, BOTH, MAP_PRIVATE), Refused(libc::ENOMEM)),
    ("mmap, past the limit in small pieces", |_| until_refused(), Refused(libc::ENOMEM)),
    ("mmap, past the limit without reserve", |_| map(4 * GIB, BOTH, MAP_PRIVATE | MAP_NORESERVE), Refused(libc::ENOMEM)),
    ("mmap, addresses only: where wasmtime reserves a memory", |_| map(8 * GIB, PROT_NONE, MAP_PRIVATE), Allowed),
    ("mmap, of addresses past the limit", |_| map(300 * GIB, PROT_READ, MAP_PRIVATE), Refused(libc::ENOMEM)),
    ("mprotect, past the limit", |_| remap(8 * GIB, PROT_NONE, BOTH), Refused(libc::ENOMEM)),
    ("mremap, past the limit", |_| grow(), Refused(libc::ENOMEM)),
    ("mmap, at address 0", |_| map(PAGE, BOTH, MAP_PRIVATE | MAP_FIXED), Refused(libc::EPERM)),
    ("mmap, shared, which no limit counts", |_| map(PAGE, BOTH, MAP_SHARED), Killed),
    ("mmap, growing, which no limit counts", |_| map(PAGE, BOTH, MAP_PRIVATE | MAP_GROWSDOWN), Killed),
    ("mmap, of the system's huge pages", |_| map(2 << 20, BOTH, MAP_PRIVATE | MAP_HUGETLB), Killed),
    ("mlock", |_| call!(libc::SYS_mlock, space(), PAGE), Killed),
    ("an allocation past the limit", |_| allocate(), Refused(libc::ENOMEM)),
    // Time.
    ("clock_gettime", |_| call!(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, space()), Allowed),
    ("nanosleep", |_| call!(libc::SYS_nanosleep, space(), 0), Killed),
    ("setitimer", |_| call!(libc::SYS_setitimer, 0, 0, 0), Killed),
    (ENDLESS, |_| compute(), EndedByHost),
];

/// A local address.
fn address() -> i64 {
    let mut bytes = [0_u8; 16];
    bytes[..2].copy_from_slice(&1_u16.to_ne_bytes());
    bytes[2..4].copy_from_slice(b"/x");
    Box::leak(Box::new(bytes)).as_ptr() as i64
}

/// Which of the lowest descriptors are open, as bits.
fn descriptors() -> u64 {
    let open = |number: &i64| call!(libc::SYS_read, *number, space(), 0) != -i64::from(libc::EBADF);
    (0..LOOKED_AT)
        .filter(open)
        .fold(0, |all, number| all | 1 << number)
}

/// Reads the byte that has a descriptor beside it. Nothing if there are as many open descriptors as before.
fn received() -> i64 {
    let before = descriptors();
    assert_eq!(call!(libc::SYS_read, 0, space(), 1), 1);
    i64::from(descriptors() == before) - 1
}

fn ignore_and_call() -> i64 {
    let ignore: &'static [usize; 4] = Box::leak(Box::new([libc::SIG_IGN, 0, 0, 0]));
    let ignored = call!(libc::SYS_rt_sigaction, libc::SIGSYS, ignore.as_ptr(), 0, 8);
    assert_eq!(ignored, 0);
    call!(libc::SYS_getpid)
}

/// 64 MiB more until there are no more; not 64 times as much as the limit.
fn until_refused() -> i64 {
    let pieces = (0..4_096).map(|_| map(64 << 20, BOTH, MAP_PRIVATE));
    pieces.into_iter().find(|at| *at < 0).unwrap_or_default()
}

fn grow() -> i64 {
    let at = map(PAGE, BOTH, MAP_PRIVATE);
    call!(libc::SYS_mremap, at, PAGE, 4 * GIB, libc::MREMAP_MAYMOVE)
}

fn allocate() -> i64 {
    let mut much = Vec::<u8>::new();
    match much.try_reserve_exact(4 << 30) {
        Ok(()) => i64::from(std::hint::black_box(much).is_empty()),
        Err(_) => -i64::from(libc::ENOMEM),
    }
}

fn compute() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns).wrapping_add(1);
    }
}
