//! Raw system calls, since the C library's wrappers hide which call is made.

use std::arch::asm;

/// A system call with up to six arguments; its error as a negative number.
macro_rules! call {
    ($number:expr $(, $argument:expr)*) => {{
        let arguments: &[i64] = &[$($argument as i64),*];
        crate::calls::raw($number, arguments)
    }};
}
pub(crate) use call;

pub(crate) fn raw(number: i64, given: &[i64]) -> i64 {
    let mut arguments = [0_i64; 6];
    arguments[..given.len()].copy_from_slice(given);
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the tables pass pointers to memory that lives as long as the process, or null, and no call among those that
    // could succeed changes memory which Rust knows of.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    match result {
        -1 => -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap()),
        other => other,
    }
}

/// Address of a string that ends with a zero.
pub(crate) fn text(text: &'static str) -> i64 {
    assert!(text.ends_with('\0'));
    text.as_ptr() as i64
}

/// Memory for a call to write to.
pub(crate) fn space() -> i64 {
    Box::leak(vec![0_u64; 512].into_boxed_slice()).as_mut_ptr() as i64
}

/// The 32-bit entry to the kernel, where other numbers mean other calls: 20 is `getpid`.
pub(crate) fn by_interrupt(number: u32) -> i64 {
    let result: i64;
    // SAFETY: `getpid` takes nothing and touches no memory.
    unsafe { asm!("int 0x80", inlateout("rax") i64::from(number) => result) };
    result
}

/// Memory of this size, mapped like this.
pub(crate) fn map(bytes: i64, protection: i32, flags: i32) -> i64 {
    call!(
        libc::SYS_mmap,
        0,
        bytes,
        protection,
        flags | libc::MAP_ANONYMOUS,
        -1,
        0
    )
}

/// Memory of this size mapped for reading and writing, then given this protection.
pub(crate) fn remap(bytes: i64, first: i32, then: i32) -> i64 {
    let at = map(bytes, first, libc::MAP_PRIVATE);
    assert!(at > 0, "memory to try it with: {at}");
    call!(libc::SYS_mprotect, at, bytes, then)
}
