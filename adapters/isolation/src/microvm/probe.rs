//! Whether KVM can run guests here. That `/dev/kvm` exists, and even that it makes machines, says little: some nested
//! KVMs fail at the first instruction that they have to emulate and cannot. So a guest is run, in 64-bit mode, that
//! reckons with SSE registers, as all compiled code does, and the result is looked at.

use std::fmt;

/// Answer of [`probe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A guest ran SSE instructions, with the right result, and halted.
    Works,
    /// There is no `/dev/kvm`.
    NoDevice,
    /// `/dev/kvm` is there, and this user may not open it.
    NotPermitted,
    /// `/dev/kvm` is there, and no guest can be run; with the reason, for people.
    CannotRun(String),
}

impl Probe {
    /// Whether a region's machine would run.
    #[must_use]
    pub fn works(&self) -> bool {
        *self == Self::Works
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Works => to.write_str("KVM runs guests"),
            Self::NoDevice => to.write_str("there is no /dev/kvm"),
            Self::NotPermitted => to.write_str("/dev/kvm may not be opened by this user"),
            Self::CannotRun(reason) => write!(to, "KVM cannot run guests: {reason}"),
        }
    }
}

/// Runs a guest of a few instructions. Takes some milliseconds, and at most five seconds.
#[must_use]
pub fn probe() -> Probe {
    guest::probe()
}

#[cfg(not(target_arch = "x86_64"))]
mod guest {
    use super::Probe;

    pub(super) fn probe() -> Probe {
        Probe::CannotRun("only x86-64 is known".into())
    }
}

#[cfg(target_arch = "x86_64")]
mod guest {
    use super::Probe;
    use kvm_bindings::{
        KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_segment, kvm_sregs, kvm_userspace_memory_region,
    };
    use kvm_ioctls::{Error, Kvm, VcpuExit, VcpuFd};
    use std::{
        io,
        sync::mpsc::{self, RecvTimeoutError},
        thread,
        time::Duration,
    };

    /// Time for the guest to halt. One that does not is left behind in its thread.
    const PATIENCE: Duration = Duration::from_secs(5);
    const PAGE: usize = 4_096;
    /// Physical addresses in the guest, one page each: code, then the tables of the first 2 MiB.
    const CODE: usize = PAGE;
    const TABLES: [usize; 3] = [2 * PAGE, 3 * PAGE, 4 * PAGE];
    const MEMORY: usize = 8 * PAGE;
    /// `movd xmm0, eax; paddd xmm0, xmm0; movd ebx, xmm0; hlt`
    const PROGRAM: [u8; 13] = [
        0x66, 0x0f, 0x6e, 0xc0, 0x66, 0x0f, 0xfe, 0xc0, 0x66, 0x0f, 0x7e, 0xc3, 0xf4,
    ];
    /// Put into `rax`; the guest leaves the double in `rbx`.
    const GIVEN: u64 = 0x1234_5678;
    const EXPECTED: u64 = 0x2468_acf0;

    /// A page table entry that is present and writable, and one that is a page of 2 MiB as well.
    const PRESENT: u64 = 0x3;
    const LARGE: u64 = 0x83;
    /// Protection, paging, native FPU errors, no FPU emulation.
    const CR0: u64 = 0x8000_0023;
    /// Physical address extension, and SSE enabled.
    const CR4: u64 = 0x620;
    /// Long mode, enabled and active.
    const EFER: u64 = 0x500;

    #[repr(align(4096))]
    struct Memory([u8; MEMORY]);

    /// How the guest's only run ended.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(super) enum Ended {
        /// It halted, with this in `rbx`.
        Halted(u64),
        /// In another way.
        Otherwise(String),
    }

    pub(super) fn probe() -> Probe {
        let kvm = match Kvm::new() {
            Ok(kvm) => kvm,
            Err(error) => return refused(error),
        };
        let (tell, told) = mpsc::channel();
        let started = thread::Builder::new()
            .name("kvm-probe".into())
            .spawn(move || {
                // Whoever asked may have lost patience.
                let _ = tell.send(run(&kvm));
            });
        if let Err(error) = started {
            return Probe::CannotRun(format!("no thread: {error}"));
        }
        match told.recv_timeout(PATIENCE) {
            Ok(Ok(ended)) => judge(&ended),
            Ok(Err((what, error))) => Probe::CannotRun(format!("{what}: {error}")),
            Err(RecvTimeoutError::Timeout) => Probe::CannotRun("the guest does not halt".into()),
            Err(RecvTimeoutError::Disconnected) => Probe::CannotRun("the probe failed".into()),
        }
    }

    #[cfg(test)]
    pub(super) fn run_here() -> Option<Ended> {
        run(&Kvm::new().ok()?).ok()
    }

    fn refused(error: Error) -> Probe {
        let error = io::Error::from_raw_os_error(error.errno());
        match error.kind() {
            io::ErrorKind::NotFound => Probe::NoDevice,
            io::ErrorKind::PermissionDenied => Probe::NotPermitted,
            _ => Probe::CannotRun(error.to_string()),
        }
    }

    pub(super) fn judge(ended: &Ended) -> Probe {
        match ended {
            Ended::Halted(EXPECTED) => Probe::Works,
            Ended::Halted(other) => Probe::CannotRun(format!(
                "SSE: the guest reckons {other:#x}, not {EXPECTED:#x}"
            )),
            Ended::Otherwise(how) => Probe::CannotRun(format!("SSE: the guest ended with {how}")),
        }
    }

    fn run(kvm: &Kvm) -> Result<Ended, (&'static str, Error)> {
        let at = |what| move |error| (what, error);
        let memory = memory();
        let machine = kvm.create_vm().map_err(at("create a machine"))?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: u64::try_from(MEMORY).unwrap_or_default(),
            userspace_addr: u64::try_from(memory.0.as_ptr().addr()).unwrap_or_default(),
        };
        // SAFETY: the memory is page-aligned, on the heap, and dropped after the machine; nothing else uses it.
        #[allow(unsafe_code, reason = "KVM is told an address")]
        unsafe { machine.set_user_memory_region(region) }.map_err(at("give it memory"))?;
        let mut processor = machine.create_vcpu(0).map_err(at("create a processor"))?;
        let features = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES);
        let features = features.map_err(at("ask for features"))?;
        processor
            .set_cpuid2(&features)
            .map_err(at("set features"))?;
        let mut special = processor.get_sregs().map_err(at("read registers"))?;
        long_mode(&mut special);
        processor
            .set_sregs(&special)
            .map_err(at("set 64-bit mode"))?;
        let registers = kvm_regs {
            rip: u64::try_from(CODE).unwrap_or_default(),
            rax: GIVEN,
            rflags: 2,
            ..kvm_regs::default()
        };
        processor
            .set_regs(&registers)
            .map_err(at("set registers"))?;
        let ended = step(&mut processor).map_err(at("run it"));
        // The machine's memory must outlive it.
        drop((processor, machine));
        drop(memory);
        ended
    }

    /// The program, and tables that map the first 2 MiB to themselves.
    fn memory() -> Box<Memory> {
        let mut memory = Box::new(Memory([0; MEMORY]));
        let [fourth, third, second] = TABLES;
        let entry = |table: usize| u64::try_from(table).unwrap_or_default() | PRESENT;
        memory.put(CODE, &PROGRAM);
        memory.put(fourth, &entry(third).to_le_bytes());
        memory.put(third, &entry(second).to_le_bytes());
        memory.put(second, &LARGE.to_le_bytes());
        memory
    }

    impl Memory {
        /// What does not fit is left out, and then the guest does not reckon.
        fn put(&mut self, at: usize, bytes: &[u8]) {
            if let Some(place) = self.0.get_mut(at..at.saturating_add(bytes.len())) {
                place.copy_from_slice(bytes);
            }
        }
    }

    /// Flat 64-bit segments, paging on, SSE on.
    fn long_mode(registers: &mut kvm_sregs) {
        let code = kvm_segment {
            limit: u32::MAX,
            selector: 8,
            present: 1,
            type_: 11,
            s: 1,
            l: 1,
            g: 1,
            ..kvm_segment::default()
        };
        let data = kvm_segment {
            selector: 16,
            type_: 3,
            l: 0,
            db: 1,
            ..code
        };
        registers.cs = code;
        for segment in [
            &mut registers.ds,
            &mut registers.es,
            &mut registers.fs,
            &mut registers.gs,
            &mut registers.ss,
        ] {
            *segment = data;
        }
        let [table, ..] = TABLES;
        registers.cr3 = u64::try_from(table).unwrap_or_default();
        (registers.cr0, registers.cr4, registers.efer) = (CR0, CR4, EFER);
    }

    fn step(processor: &mut VcpuFd) -> Result<Ended, Error> {
        let exit = match processor.run()? {
            VcpuExit::Hlt => None,
            other => Some(format!("{other:?}")),
        };
        Ok(match exit {
            None => Ended::Halted(processor.get_regs()?.rbx),
            Some(how) => Ended::Otherwise(how),
        })
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]
mod tests {
    use super::{
        Probe,
        guest::{self, Ended},
        probe,
    };

    #[test]
    fn only_a_guest_that_halted_with_the_right_result_works() {
        assert_eq!(guest::judge(&Ended::Halted(0x2468_acf0)), Probe::Works);
        for wrong in [0, 0x1234_5678, 0x2468_acf1, u64::MAX] {
            let said = guest::judge(&Ended::Halted(wrong));
            assert!(matches!(said, Probe::CannotRun(_)), "{said}");
        }
        let said = guest::judge(&Ended::Otherwise("InternalError".into()));
        assert!(matches!(said, Probe::CannotRun(_)), "{said}");
    }

    /// Whatever this machine can do: the probe says that it works exactly if the guest's register says so.
    #[test]
    fn the_probe_of_this_machine_goes_by_the_guests_register() {
        let said = probe();
        assert_eq!(
            said.works(),
            guest::run_here() == Some(Ended::Halted(0x2468_acf0)),
            "{said}"
        );
        if !std::fs::exists("/dev/kvm").unwrap() {
            assert_eq!(said, Probe::NoDevice);
        }
    }
}
