//! Linear memory: address space that is given at once, and pages when they are touched. So a cryptlet's memory can grow
//! without being moved, and costs what it uses.

use alloc::{boxed::Box, string::String};
use core::sync::atomic::{AtomicUsize, Ordering};
use hyperlight_common::vmem::{BasicMapping, MappingKind, PAGE_SIZE};
use hyperlight_guest::prim_alloc::alloc_phys_pages;
use hyperlight_guest_bin::{
    exception::arch::{Context, ExceptionInfo, HANDLERS},
    paging::{map_region, phys_to_virt},
};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

/// Where linear memories lie, above all that the guest uses else: one after another, 8 GiB apart.
const BASE: usize = 0x100_0000_0000;
const STRIDE: usize = 8 << 30;
/// Memories of all instances since the machine was as it is before each run: no more than a component may have.
const MOST: usize = 32;
/// Number of the processor's exception for a page that is not there.
const PAGE_FAULT: usize = 14;

/// How many memories there are, and how large each is.
static COUNT: AtomicUsize = AtomicUsize::new(0);
static SIZES: [AtomicUsize; MOST] = [const { AtomicUsize::new(0) }; MOST];

/// Makes pages appear where a memory lies. To be called before any memory is touched.
pub(crate) fn enable() {
    let handler = fault as fn(u64, *mut ExceptionInfo, *mut Context, u64) -> bool;
    if let Some(place) = HANDLERS.get(PAGE_FAULT) {
        place.store(handler as *const () as u64, Ordering::Release);
    }
}

/// Whether the code may go on: a page of a memory was missing, and is there now.
fn fault(_: u64, _: *mut ExceptionInfo, _: *mut Context, address: u64) -> bool {
    let Some(address) = usize::try_from(address).ok().filter(|at| holds(*at)) else {
        return false;
    };
    let page = (address & !(PAGE_SIZE - 1)) as *mut u8;
    let kind = MappingKind::Basic(BasicMapping {
        readable: true,
        writable: true,
        executable: false,
    });
    // SAFETY: the page lies in a memory, and nothing is mapped there; what is mapped is a page that was free, emptied where it
    // is mapped already.
    #[allow(unsafe_code, reason = "page tables are addresses")]
    unsafe {
        let free = alloc_phys_pages(1);
        let Some(place) = phys_to_virt(free) else {
            return false;
        };
        place.write_bytes(0, PAGE_SIZE);
        map_region(free, page, PAGE_SIZE as u64, kind);
    }
    true
}

/// Whether `address` lies in the part of a memory that it has grown to.
fn holds(address: usize) -> bool {
    let Some(offset) = address.checked_sub(BASE) else {
        return false;
    };
    SIZES
        .get(offset / STRIDE)
        .is_some_and(|size| offset % STRIDE < size.load(Ordering::Relaxed))
}

/// Gives address space to memories.
pub(crate) struct Space;

// SAFETY: each memory has a range of its own, larger than any memory of 32-bit code, whose pages are zero when they
// appear; the range is never given again.
#[allow(unsafe_code, reason = "wasmtime relies on what is said above")]
unsafe impl MemoryCreator for Space {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        _: Option<usize>,
        _: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let place = COUNT.fetch_add(1, Ordering::Relaxed);
        let size = SIZES.get(place).ok_or("a memory too many")?;
        size.store(minimum, Ordering::Relaxed);
        Ok(Box::new(Memory { place, size }))
    }
}

struct Memory {
    place: usize,
    size: &'static AtomicUsize,
}

// SAFETY: as of `Space`.
#[allow(unsafe_code, reason = "wasmtime relies on what is said above")]
unsafe impl LinearMemory for Memory {
    fn byte_size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    fn byte_capacity(&self) -> usize {
        STRIDE
    }

    fn grow_to(&mut self, size: usize) -> wasmtime::Result<()> {
        if size > STRIDE {
            wasmtime::bail!("more than a memory's range");
        }
        self.size.store(size, Ordering::Relaxed);
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        (BASE + self.place * STRIDE) as *mut u8
    }
}
