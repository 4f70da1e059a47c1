//! OVMF, as far as its launch is measured: the table of GUIDs at its end, and the pages that it wants prepared
//! (edk2, `OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm`, `OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm`).

use crate::ImageError;
use alloy_primitives::hex;

/// The table ends this many bytes before the end of the firmware.
const TABLE_END: usize = 32;
/// Size (two bytes) and GUID, after the data of an entry.
const ENTRY_BYTES: usize = 18;
pub(crate) const PAGE_BYTES: usize = 4_096;
const FOUR_GIB: u64 = 1 << 32;
const METADATA_SIGNATURE: &[u8] = b"ASEV";
const METADATA_HEADER_BYTES: usize = 16;
const SECTION_BYTES: usize = 12;
const MAX_SECTIONS: u32 = 64;
const MAX_SECTION_BYTES: u64 = 64 << 20;

// As they lie in the file: the first three groups little-endian.
const TABLE: [u8; 16] = hex!("de82b596b21ff745baeaa366c55a082d");
const HASH_TABLE: [u8; 16] = hex!("1f3755723b3a044b927b1da6efa8d454");
const RESET_BLOCK: [u8; 16] = hex!("de71f7007e1acb4f890e68c77e2fb44e");
const METADATA: [u8; 16] = hex!("666588dc4a989847a75e5585a7bf67cc");

/// A firmware volume that a machine starts with.
#[derive(Clone, Debug)]
pub struct Firmware<'a> {
    /// All of it. It ends at 4 GiB.
    pub(crate) bytes: &'a [u8],
    /// Where other processors than the first start.
    pub(crate) reset: u32,
    /// Where it wants the table of hashes, if it checks any.
    pub(crate) hash_table: Option<u32>,
    /// Pages that it wants prepared, in this order.
    pub(crate) sections: Vec<Section>,
}

/// Pages that are prepared before the first processor starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) address: u64,
    pub(crate) bytes: u64,
    pub(crate) kind: SectionKind,
}

/// What they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SectionKind {
    /// Zeros.
    Memory,
    /// What the processor's firmware puts there: keys.
    Secrets,
    /// What the processor can do, checked by its firmware.
    Cpuid,
    /// The table of hashes.
    KernelHashes,
}

impl<'a> Firmware<'a> {
    /// Reads what it says about itself.
    ///
    /// # Errors
    /// If it is no firmware for SEV-SNP.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ImageError> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(PAGE_BYTES) {
            return Err(refuse("is not made of whole pages"));
        }
        let table = table(bytes).ok_or_else(|| refuse("has no table of OVMF at its end"))?;
        let number = |guid| entry(table, guid).and_then(|data| number(data, 0));
        let reset = number(&RESET_BLOCK).ok_or_else(|| refuse("has no reset block for SEV-ES"))?;
        let metadata = number(&METADATA).ok_or_else(|| refuse("has no metadata for SEV"))?;
        Ok(Self {
            bytes,
            reset,
            hash_table: number(&HASH_TABLE).filter(|address| *address != 0),
            sections: sections(bytes, metadata)?,
        })
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> Result<u64, ImageError> {
        u64::try_from(self.bytes.len())
            .ok()
            .and_then(|length| FOUR_GIB.checked_sub(length))
            .ok_or_else(|| refuse("has more than 4 GiB"))
    }
}

/// The entries of the table, the last of which is its footer, left out here.
fn table(bytes: &[u8]) -> Option<&[u8]> {
    let above = bytes.get(..bytes.len().checked_sub(TABLE_END)?)?;
    let (rest, size) = footer(above, &TABLE)?;
    rest.get(rest.len().checked_sub(size)?..)
}

/// Splits off size and GUID at the end, if it is this GUID: what is before, and how many bytes of that belong to it.
fn footer<'a>(bytes: &'a [u8], guid: &[u8; 16]) -> Option<(&'a [u8], usize)> {
    let (rest, size, found) = last(bytes)?;
    (found == guid).then_some((rest, size))
}

fn last(bytes: &[u8]) -> Option<(&[u8], usize, &[u8])> {
    let (rest, end) = bytes.split_at_checked(bytes.len().checked_sub(ENTRY_BYTES)?)?;
    let (size, guid) = end.split_first_chunk::<2>()?;
    let size = usize::from(u16::from_le_bytes(*size)).checked_sub(ENTRY_BYTES)?;
    Some((rest, size, guid))
}

/// The data of an entry. They are read from the end.
fn entry<'a>(mut table: &'a [u8], guid: &[u8; 16]) -> Option<&'a [u8]> {
    loop {
        let (rest, size, found) = last(table)?;
        let (further, data) = rest.split_at_checked(rest.len().checked_sub(size)?)?;
        if found == guid {
            return Some(data);
        }
        table = further;
    }
}

fn sections(bytes: &[u8], from_end: u32) -> Result<Vec<Section>, ImageError> {
    let cut = || refuse("has metadata for SEV that are cut short");
    let start = usize::try_from(from_end)
        .ok()
        .and_then(|from_end| bytes.len().checked_sub(from_end))
        .ok_or_else(cut)?;
    let metadata = bytes.get(start..).ok_or_else(cut)?;
    let field = |at| number(metadata, at).ok_or_else(cut);
    if metadata.get(..METADATA_SIGNATURE.len()) != Some(METADATA_SIGNATURE) || field(8)? != 1 {
        return Err(refuse("has metadata for SEV of another version"));
    }
    let count = field(12)?;
    if count > MAX_SECTIONS {
        return Err(refuse("has more than 64 sections"));
    }
    metadata
        .get(METADATA_HEADER_BYTES..)
        .ok_or_else(cut)?
        .chunks_exact(SECTION_BYTES)
        .chain(std::iter::repeat(&[][..]))
        .take(usize::try_from(count).map_err(|_| cut())?)
        .map(|section| {
            let field = |at| number(section, at).ok_or_else(cut);
            let section = Section {
                address: field(0)?.into(),
                bytes: field(4)?.into(),
                kind: SectionKind::of(field(8)?)?,
            };
            let page = u64::try_from(PAGE_BYTES).unwrap_or(u64::MAX);
            let whole = section.address.is_multiple_of(page) && section.bytes.is_multiple_of(page);
            if !whole || section.bytes == 0 || section.bytes > MAX_SECTION_BYTES {
                return Err(refuse("has a section that is not made of whole pages"));
            }
            Ok(section)
        })
        .collect()
}

impl SectionKind {
    fn of(number: u32) -> Result<Self, ImageError> {
        match number {
            // The second for services below the guest's kernel (SVSM); zeros both.
            1 | 4 => Ok(Self::Memory),
            2 => Ok(Self::Secrets),
            3 => Ok(Self::Cpuid),
            0x10 => Ok(Self::KernelHashes),
            other => Err(refuse(&format!("has a section of unknown kind {other}"))),
        }
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

fn refuse(reason: &str) -> ImageError {
    ImageError::refused("firmware", reason)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The last page of a genuine OVMF (`AmdSev`), from the tests of the crate `sev` 8.0.0.
    pub(crate) const AMD_SEV: &[u8] = include_bytes!("../tests/data/ovmf_AmdSev_suffix.bin");
    /// The same of one that checks no hashes.
    pub(crate) const X64: &[u8] = include_bytes!("../tests/data/ovmf_OvmfX64_suffix.bin");

    #[test]
    fn genuine_firmware_says_what_it_wants() {
        let firmware = Firmware::parse(AMD_SEV).unwrap();
        assert!(firmware.hash_table.is_some());
        assert!(
            firmware
                .sections
                .iter()
                .any(|section| section.kind == SectionKind::KernelHashes)
        );
        assert!(
            firmware
                .sections
                .iter()
                .any(|section| section.kind == SectionKind::Cpuid)
        );
        let plain = Firmware::parse(X64).unwrap();
        assert!(
            plain
                .sections
                .iter()
                .all(|section| section.kind != SectionKind::KernelHashes)
        );
    }

    #[test]
    fn what_is_no_firmware_is_refused() {
        for (bytes, reason) in [
            (&b""[..], "whole pages"),
            (&AMD_SEV[1..], "whole pages"),
            (&[0; PAGE_BYTES], "no table"),
        ] {
            let error = Firmware::parse(bytes).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    proptest! {
        #[test]
        fn altered_firmware_is_read_or_refused(
            changes in prop::collection::vec((0_usize..PAGE_BYTES, any::<u8>()), 1..40),
        ) {
            let mut bytes = AMD_SEV.to_vec();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            let _read_or_refused = Firmware::parse(&bytes);
        }
    }
}
