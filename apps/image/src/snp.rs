//! The launch digest of a SEV-SNP guest (AMD 56860, section 8.17, `SNP_LAUNCH_UPDATE`, tables 67 to 69), as QEMU launches
//! OVMF: pages of the firmware, pages that it wants prepared, state of each processor.

use crate::{
    ImageError,
    firmware::{Firmware, PAGE_BYTES, Section, SectionKind},
};
use alloy_primitives::hex;
use cryptlet_seal::sha256;
use sha2::{Digest as _, Sha384};

/// Most processors of a guest.
const MAX_PROCESSORS: u32 = 512;
/// Where the state of processors counts as lying: the last page below 2^48.
const STATE_ADDRESS: u64 = 0xFFFF_FFFF_F000;
const FIRST_PROCESSOR: u32 = 0xFFFF_FFF0;
const PAGE_INFO_BYTES: u16 = 0x70;

const NORMAL: u8 = 1;
const STATE: u8 = 2;
const ZERO: u8 = 3;
const SECRETS: u8 = 5;
const CPUID: u8 = 6;

/// What of a machine is measured beside its firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnpMachine {
    /// Processors, 1 to 512.
    pub processors: u32,
    /// CPUID signature of the processor's model as QEMU shows it, see [`signature_of`].
    pub signature: u32,
    /// `SEV_FEATURES` (AMD 24593, appendix B): bit 0, SEV-SNP, and whatever else the hypervisor turns on.
    pub features: u64,
}

/// The CPUID signature of a model of QEMU, whatever its version: `EPYC`, `EPYC-Rome`, `EPYC-Milan`, `EPYC-Genoa`,
/// `EPYC-Turin`.
#[must_use]
pub fn signature_of(model: &str) -> Option<u32> {
    let name = model.split("-v").next().unwrap_or(model);
    match name {
        "EPYC" | "EPYC-IBPB" => Some(signature(23, 1, 2)),
        "EPYC-Rome" => Some(signature(23, 49, 0)),
        "EPYC-Milan" => Some(signature(25, 1, 1)),
        "EPYC-Genoa" => Some(signature(25, 17, 0)),
        "EPYC-Turin" => Some(signature(26, 0, 0)),
        _ => None,
    }
}

/// AMD 25481, CPUID Fn0000_0001_EAX: of families from 15 on, 15 and what is above it are apart.
fn signature(family: u32, model: u32, stepping: u32) -> u32 {
    let base = 15;
    ((family - base) << 20) | ((model >> 4) << 16) | (base << 8) | ((model & 0xf) << 4) | stepping
}

/// SHA-256 of what the firmware is to boot: it compares them before it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelHashes {
    kernel: [u8; 32],
    initramfs: [u8; 32],
    cmdline: [u8; 32],
}

impl KernelHashes {
    /// Of these.
    #[must_use]
    pub fn new(kernel: &[u8], initramfs: &[u8], cmdline: &str) -> Self {
        Self {
            kernel: sha256(kernel).0.0,
            initramfs: sha256(initramfs).0.0,
            // With the zero at its end.
            cmdline: sha256(&[cmdline.as_bytes(), &[0]].concat()).0.0,
        }
    }

    /// The page that has the table at this place (QEMU, `target/i386/sev.c`, `SevHashTable`): GUID and size of the table, of
    /// each entry with its hash, and padding to 16 bytes.
    fn page(&self, at: usize) -> Option<Vec<u8>> {
        const SIZE: u16 = 168;
        const ENTRY_SIZE: u16 = 50;
        let entries = [
            (hex!("d82dd09720bd944caa78e7714d36ab2a"), self.cmdline),
            (hex!("31f7ba442f3ad74b9af141e29169781d"), self.initramfs),
            (hex!("3794e74dd2ab7f42b835d5b172d2045b"), self.kernel),
        ];
        let mut page = vec![0; at];
        page.extend_from_slice(&hex!("06d63894224fc94cb479a793d411fd21"));
        page.extend_from_slice(&SIZE.to_le_bytes());
        for (guid, hash) in entries {
            page.extend_from_slice(&guid);
            page.extend_from_slice(&ENTRY_SIZE.to_le_bytes());
            page.extend_from_slice(&hash);
        }
        if page.len() > PAGE_BYTES {
            return None;
        }
        page.resize(PAGE_BYTES, 0);
        Some(page)
    }
}

/// The launch digest, 48 bytes: what the attestation report has as `MEASUREMENT`.
///
/// # Errors
/// If hashes are given and the firmware does not check them, or the machine has no or too many processors.
pub fn measurement(
    firmware: &Firmware<'_>,
    hashes: Option<&KernelHashes>,
    machine: SnpMachine,
) -> Result<[u8; 48], ImageError> {
    if !(1..=MAX_PROCESSORS).contains(&machine.processors) {
        return Err(ImageError::refused("processors", "are not 1 to 512"));
    }
    let mut launch = Launch { digest: [0; 48] };
    let mut address = firmware.address()?;
    for page in firmware.bytes.chunks(PAGE_BYTES) {
        launch.content(NORMAL, address, page);
        address = address.saturating_add(bytes(PAGE_BYTES));
    }
    let mut measured = false;
    for section in &firmware.sections {
        match (section.kind, hashes) {
            (SectionKind::KernelHashes, Some(hashes)) => {
                let page = hash_page(firmware, *section, hashes)?;
                launch.content(NORMAL, section.address, &page);
                measured = true;
            }
            (SectionKind::Memory | SectionKind::KernelHashes, _) => launch.zeros(*section),
            (SectionKind::Secrets, _) => launch.page(SECRETS, section.address, &[0; 48]),
            (SectionKind::Cpuid, _) => launch.page(CPUID, section.address, &[0; 48]),
        }
    }
    if hashes.is_some() && !measured {
        return Err(unchecked());
    }
    let first = state_page(FIRST_PROCESSOR, machine);
    let other = state_page(firmware.reset, machine);
    for number in 0..machine.processors {
        let page = if number == 0 { &first } else { &other };
        launch.content(STATE, STATE_ADDRESS, page);
    }
    Ok(launch.digest)
}

/// The page of hashes, if the firmware reads its table there.
fn hash_page(
    firmware: &Firmware<'_>,
    section: Section,
    hashes: &KernelHashes,
) -> Result<Vec<u8>, ImageError> {
    firmware
        .hash_table
        .and_then(|table| u64::from(table).checked_sub(section.address))
        .filter(|_| section.bytes == bytes(PAGE_BYTES))
        .and_then(|at| usize::try_from(at).ok())
        .filter(|at| *at < PAGE_BYTES)
        .and_then(|at| hashes.page(at))
        .ok_or_else(unchecked)
}

fn unchecked() -> ImageError {
    let reason = "does not check hashes of kernel, initramfs and command line (an OVMF of the kind AmdSev does)";
    ImageError::refused("firmware", reason)
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The digest as it grows: each page is hashed with what was there before (AMD 56860, table 67, `PAGE_INFO`).
struct Launch {
    digest: [u8; 48],
}

impl Launch {
    fn page(&mut self, kind: u8, address: u64, content: &[u8; 48]) {
        let mut hash = Sha384::new();
        hash.update(self.digest);
        hash.update(content);
        hash.update(PAGE_INFO_BYTES.to_le_bytes());
        // Kind; no migration image; no permissions of lower levels; reserved.
        hash.update([kind, 0, 0, 0, 0, 0]);
        hash.update(address.to_le_bytes());
        self.digest = hash.finalize().into();
    }

    fn content(&mut self, kind: u8, address: u64, page: &[u8]) {
        self.page(kind, address, &Sha384::digest(page).into());
    }

    fn zeros(&mut self, section: Section) {
        let end = section.address.saturating_add(section.bytes);
        for address in (section.address..end).step_by(PAGE_BYTES) {
            self.page(ZERO, address, &[0; 48]);
        }
    }
}

/// The state that a processor starts in (AMD 24593, table B-4, "VMSA"), as QEMU and KVM make it: after a reset, at this place.
fn state_page(start: u32, machine: SnpMachine) -> Vec<u8> {
    let segment = |selector: u16, attributes: u16, base: u32| {
        let mut bytes = [selector.to_le_bytes(), attributes.to_le_bytes()].concat();
        bytes.extend_from_slice(&0xffff_u32.to_le_bytes());
        bytes.extend_from_slice(&u64::from(base).to_le_bytes());
        bytes
    };
    let word = |value: u64| value.to_le_bytes().to_vec();
    let data = || segment(0, 0x93, 0);
    let fields = [
        (0x000, data()),                                     // ES
        (0x010, segment(0xf000, 0x9b, start & 0xffff_0000)), // CS
        (0x020, data()),                                     // SS
        (0x030, data()),                                     // DS
        (0x040, data()),                                     // FS
        (0x050, data()),                                     // GS
        (0x060, segment(0, 0, 0)),                           // GDTR
        (0x070, segment(0, 0x82, 0)),                        // LDTR
        (0x080, segment(0, 0, 0)),                           // IDTR
        (0x090, segment(0, 0x8b, 0)),                        // TR
        (0x0d0, word(0x1000)),                               // EFER: SVME
        (0x148, word(0x40)),                                 // CR4: MCE
        (0x158, word(0x10)),                                 // CR0: ET
        (0x160, word(0x400)),                                // DR7
        (0x168, word(0xffff_0ff0)),                          // DR6
        (0x170, word(2)),                                    // RFLAGS
        (0x178, word(u64::from(start & 0xffff))),            // RIP
        (0x268, word(0x0007_0406_0007_0406)),                // G_PAT
        (0x310, word(machine.signature.into())),             // RDX
        (0x3b0, word(machine.features)),                     // SEV_FEATURES
        (0x3e8, word(1)),                                    // XCR0
        (0x408, 0x1f80_u32.to_le_bytes().to_vec()),          // MXCSR
        (0x410, 0x37f_u16.to_le_bytes().to_vec()),           // X87_FCW
    ];
    let mut page = Vec::with_capacity(PAGE_BYTES);
    for (at, field) in fields {
        page.resize(at, 0);
        page.extend_from_slice(&field);
    }
    page.resize(PAGE_BYTES, 0);
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firmware::tests::{AMD_SEV, X64};
    use alloy_primitives::hex;

    const MACHINE: SnpMachine = SnpMachine {
        processors: 1,
        signature: 0x0080_0f12,
        features: 1,
    };

    fn of(firmware: &[u8], hashes: Option<KernelHashes>, machine: SnpMachine) -> String {
        let firmware = Firmware::parse(firmware).unwrap();
        hex::encode(measurement(&firmware, hashes.as_ref(), machine).unwrap())
    }

    /// The digests are those that the tests of the crate `sev` 8.0.0 (virtee) expect of the same firmware.
    #[test]
    fn digests_are_those_of_another_implementation() {
        let empty = KernelHashes::new(b"", b"", "");
        let console = KernelHashes::new(b"", b"", "console=ttyS0 loglevel=7");
        let four = SnpMachine {
            processors: 4,
            ..MACHINE
        };
        let kvm = |machine| SnpMachine {
            features: 0x21,
            ..machine
        };
        let cases = [
            (
                AMD_SEV,
                Some(empty),
                MACHINE,
                "ddc5224521617a536ee7ce9dd6224d1b58a8d4fda1c741f3ac99fc4bfa04ba6e9fc98646d4a07a9079397fa3852819b5",
            ),
            (
                AMD_SEV,
                Some(empty),
                kvm(MACHINE),
                "329c8ce0972ae52343b64d34a434a86f245dfd74f5ed7aae15d22efc78fb9683632b9b50e4e1d7fa41179ef98a7ef198",
            ),
            (
                AMD_SEV,
                Some(console),
                MACHINE,
                "6d287813eb5222d770f75005c664e34c204f385ce832cc2ce7d0d6f354454362f390ef83a92046c042e706363b4b08fa",
            ),
            (
                AMD_SEV,
                None,
                MACHINE,
                "19358ba9a7615534a9a1e2f0dfc29384dcd4dcb7062ff9c6013b26869a5fc6ecabe033c48dd6f6db5d6d76e7c5df632d",
            ),
            (
                AMD_SEV,
                Some(empty),
                four,
                "5061fffb019493a903613d56d54b94912a1a2f9e4502385f5c194616753720a92441310ba6c4933de877c36e23046ad5",
            ),
            (
                AMD_SEV,
                Some(empty),
                kvm(four),
                "4953b1fb416fa874980e8442b3706d345926d5f38879134e00813c5d7abcbe78eafe7b422907be0b4698e2414a631942",
            ),
            (
                X64,
                None,
                MACHINE,
                "da0296de8193586a5512078dcd719eccecbd87e2b825ad4148c44f665dc87df21e5b49e21523a9ad993afdb6a30b4005",
            ),
        ];
        for (firmware, hashes, machine, expected) in cases {
            assert_eq!(of(firmware, hashes, machine), expected);
        }
    }

    #[test]
    fn whatever_boots_changes_the_digest() {
        let of = |kernel: &[u8], initramfs: &[u8], cmdline: &str| {
            of(
                AMD_SEV,
                Some(KernelHashes::new(kernel, initramfs, cmdline)),
                MACHINE,
            )
        };
        let digests = [
            of(b"k", b"i", "c"),
            of(b"K", b"i", "c"),
            of(b"k", b"I", "c"),
            of(b"k", b"i", "C"),
        ];
        for (index, digest) in digests.iter().enumerate() {
            assert!(!digests[..index].contains(digest), "{index}");
        }
    }

    #[test]
    fn firmware_that_would_boot_anything_is_refused() {
        let hashes = KernelHashes::new(b"k", b"i", "c");
        let plain = Firmware::parse(X64).unwrap();
        let error = measurement(&plain, Some(&hashes), MACHINE).unwrap_err();
        assert!(
            error.to_string().contains("does not check hashes"),
            "{error}"
        );
        let mut elsewhere = Firmware::parse(AMD_SEV).unwrap();
        for table in [
            None,
            Some(0),
            elsewhere.hash_table.map(|table| table + 4_096),
        ] {
            elsewhere.hash_table = table;
            let error = measurement(&elsewhere, Some(&hashes), MACHINE).unwrap_err();
            assert!(
                error.to_string().contains("does not check hashes"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_machine_has_processors_of_a_known_model() {
        let firmware = Firmware::parse(AMD_SEV).unwrap();
        for processors in [0, MAX_PROCESSORS + 1] {
            let machine = SnpMachine {
                processors,
                ..MACHINE
            };
            assert!(measurement(&firmware, None, machine).is_err());
        }
        assert_eq!(signature_of("EPYC-v4"), Some(MACHINE.signature));
        assert_eq!(signature_of("EPYC-Milan-v2"), Some(0x00a0_0f11));
        assert_eq!(signature_of("EPYC-Genoa"), Some(0x00a1_0f10));
        assert_eq!(signature_of("host"), None);
    }
}
