//! What wasmtime asks of an operating system, where there is none.

use core::{
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};
use wasmtime::CustomCodeMemory;

/// Machine code lies in the guest's heap, which the container maps executable: the virtual machine is the border, not
/// its page tables.
pub(crate) struct Heap;

impl CustomCodeMemory for Heap {
    fn required_alignment(&self) -> usize {
        4_096
    }

    fn publish_executable(&self, _: *const u8, _: usize) -> wasmtime::Result<()> {
        Ok(())
    }

    fn unpublish_executable(&self, _: *const u8, _: usize) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// One processor and one thread: what is local to the thread is global.
static SLOTS: [AtomicPtr<u8>; 2] = [const { AtomicPtr::new(ptr::null_mut()) }; 2];

#[unsafe(no_mangle)]
#[allow(unsafe_code, reason = "the name by which wasmtime finds it")]
extern "C" fn wasmtime_tls_get(slot: usize) -> *mut u8 {
    let slot = SLOTS.get(slot).map(|slot| slot.load(Ordering::Relaxed));
    slot.unwrap_or(ptr::null_mut())
}

#[unsafe(no_mangle)]
#[allow(unsafe_code, reason = "the name by which wasmtime finds it")]
extern "C" fn wasmtime_tls_set(slot: usize, value: *mut u8) {
    if let Some(slot) = SLOTS.get(slot) {
        slot.store(value, Ordering::Relaxed);
    }
}
