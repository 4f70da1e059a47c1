//! AWS's enclave image format, version 4 (`aws-nitro-enclaves-image-format`, "Enclave Image File (EIF) Specification",
//! 2024-06-21), unsigned, for x86-64.

use crate::ImageError;
use sha2::{Digest as _, Sha384};

const MAGIC: &[u8; 4] = b".eif";
const VERSION: u16 = 4;
const MAX_SECTIONS: usize = 32;
const HEADER_BYTES: usize = 548;
#[cfg(test)]
const SECTION_HEADER_BYTES: usize = 12;

const KERNEL: u16 = 1;
const CMDLINE: u16 = 2;
const RAMDISK: u16 = 3;
const METADATA: u16 = 5;

/// Metadata have to be there and are not measured. Nothing of the machine that builds goes into them.
const BUILD: &str = r#"{"ImageName":"cryptlet","ImageVersion":"1","BuildMetadata":{"BuildTime":"1970-01-01T00:00:00Z","BuildTool":"cryptlet","BuildToolVersion":"1","OperatingSystem":"Linux","KernelVersion":"unknown"},"DockerInfo":{},"CustomMetadata":{}}"#;

/// An image, with what an enclave that boots it reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eif {
    /// The file.
    pub bytes: Vec<u8>,
    /// PCR0, PCR1 and PCR2, SHA-384 each: all of it; kernel, command line and first ramdisk; the other ramdisks.
    pub registers: [[u8; 48]; 3],
}

/// Makes an image of a kernel, its command line and ramdisks, of which the first boots.
///
/// # Errors
/// If there is no ramdisk, or more than the format has sections for.
pub fn image(kernel: &[u8], cmdline: &str, ramdisks: &[&[u8]]) -> Result<Eif, ImageError> {
    let Some((boot, application)) = ramdisks.split_first() else {
        return Err(ImageError::refused("ramdisks", "there is none"));
    };
    let mut sections = vec![
        (KERNEL, kernel),
        (CMDLINE, cmdline.as_bytes()),
        (METADATA, BUILD.as_bytes()),
    ];
    sections.extend(ramdisks.iter().map(|ramdisk| (RAMDISK, *ramdisk)));
    let started = [kernel, cmdline.as_bytes(), boot];
    let all = [&started[..], application].concat();
    Ok(Eif {
        bytes: file(&sections)?,
        registers: [register(&all), register(&started), register(application)],
    })
}

/// A register that was extended once, from zeros, by the digest of these parts together.
fn register(parts: &[&[u8]]) -> [u8; 48] {
    let mut content = Sha384::new();
    for part in parts {
        content.update(part);
    }
    let mut register = Sha384::new();
    register.update([0; 48]);
    register.update(content.finalize());
    register.finalize().into()
}

fn file(sections: &[(u16, &[u8])]) -> Result<Vec<u8>, ImageError> {
    let too_large = |_| ImageError::refused("image", "is too large");
    let number = |length: usize| u64::try_from(length).map_err(too_large);
    if sections.len() > MAX_SECTIONS {
        let reason = format!("has more than {MAX_SECTIONS} sections");
        return Err(ImageError::refused("image", reason));
    }
    let (mut offsets, mut sizes) = ([0_u64; MAX_SECTIONS], [0_u64; MAX_SECTIONS]);
    let mut body = Vec::new();
    let places = offsets.iter_mut().zip(&mut sizes);
    for ((kind, content), (offset, size)) in sections.iter().zip(places) {
        *offset = number(HEADER_BYTES + body.len())?;
        *size = number(content.len())?;
        body.extend_from_slice(&kind.to_be_bytes());
        body.extend_from_slice(&[0; 2]);
        body.extend_from_slice(&size.to_be_bytes());
        body.extend_from_slice(content);
    }
    let mut file = MAGIC.to_vec();
    file.extend_from_slice(&VERSION.to_be_bytes());
    // Flags (x86-64), default memory, default processors, reserved.
    file.extend_from_slice(&[0; 2 + 8 + 8 + 2]);
    let count = u16::try_from(sections.len()).map_err(too_large)?;
    file.extend_from_slice(&count.to_be_bytes());
    for value in offsets.iter().chain(&sizes) {
        file.extend_from_slice(&value.to_be_bytes());
    }
    file.extend_from_slice(&[0; 4]);
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&file);
    checksum.update(&body);
    file.extend_from_slice(&checksum.finalize().to_be_bytes());
    file.append(&mut body);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::hex;
    use cryptlet_seal::sha256;

    const LINE: &str = "console=ttyS0 panic=-1";

    fn kernel() -> Vec<u8> {
        (0..=255_u8).cycle().take(5 * 256).collect()
    }

    fn ramdisks() -> [Vec<u8>; 2] {
        [b"boot ramdisk".repeat(7), b"application ramdisk".repeat(9)]
    }

    /// The values are those of an independent writer, in Python, whose PCRs an emulated enclave has reported.
    #[test]
    fn registers_are_those_of_another_writer() {
        let [boot, application] = ramdisks();
        let made = image(&kernel(), LINE, &[&boot, &application]).unwrap();
        assert_eq!(
            made.registers.map(hex::encode),
            [
                "d55c41c3c113ed175b742dfa5aa5f6db7b166af643a79a8164cd9b5c56eaa2ba467f20c741e9402e0a1e3cd767ea49c0",
                "8073edca6d12599dd14295c69a6a2202f902056a33aa05dbbbe774e5b1f55449b9b973b487322665de6e4073b4395f82",
                "c0be3a0eaef5e47d8aae1e4780e675dd1c52e2dd27072cd1dd45ead09729d68bc94bc41cb05cb195bc3afca915028f63",
            ]
        );
        let alone = image(&kernel(), LINE, &[&boot]).unwrap();
        assert_eq!(alone.registers[0], alone.registers[1]);
        assert_eq!(alone.registers[1], made.registers[1]);
        assert_eq!(
            hex::encode(alone.registers[2]),
            "21b9efbc184807662e966d34f390821309eeac6802309798826296bf3e8bec7c10edb30948c90ba67310f7b964fc500a"
        );
    }

    /// The same writer's file, down to the last byte, with the metadata that it had.
    #[test]
    fn the_file_is_that_of_another_writer() {
        let metadata = r#"{"ImageName": "cryptlet", "ImageVersion": "1", "BuildMetadata": {"BuildTime": "1970-01-01T00:00:00Z", "BuildTool": "t", "BuildToolVersion": "0", "OperatingSystem": "Linux", "KernelVersion": "6.12"}, "DockerInfo": {}, "CustomMetadata": {}}"#;
        let (kernel, [boot, application]) = (kernel(), ramdisks());
        let made = file(&[
            (KERNEL, &kernel),
            (CMDLINE, LINE.as_bytes()),
            (METADATA, metadata.as_bytes()),
            (RAMDISK, &boot),
            (RAMDISK, &application),
        ]);
        assert_eq!(
            hex::encode(sha256(&made.unwrap()).0),
            "a8fa502d5f8be822e0c26bc690b5ffe6dca9a989cc3ff7314057936fc3c97c14"
        );
    }

    #[test]
    fn whatever_boots_changes_the_registers_that_cover_it() {
        let of = |kernel: &[u8], cmdline: &str, boot: &[u8], application: &[u8]| {
            image(kernel, cmdline, &[boot, application])
                .unwrap()
                .registers
        };
        let before = of(b"k", "c", b"b", b"a");
        let changed =
            |after: [[u8; 48]; 3]| [0, 1, 2].map(|number| after[number] != before[number]);
        assert_eq!(changed(of(b"K", "c", b"b", b"a")), [true, true, false]);
        assert_eq!(changed(of(b"k", "C", b"b", b"a")), [true, true, false]);
        assert_eq!(changed(of(b"k", "c", b"B", b"a")), [true, true, false]);
        assert_eq!(changed(of(b"k", "c", b"b", b"A")), [true, false, true]);
    }

    #[test]
    fn an_image_without_a_ramdisk_or_with_too_many_is_refused() {
        assert!(image(b"k", "c", &[]).is_err());
        let most = [&b"r"[..]; MAX_SECTIONS - 3];
        let made = image(b"k", "c", &most).unwrap();
        // All 32 places of the header are used, and point to where the sections are.
        let at = 28 + 8 * (MAX_SECTIONS - 1);
        let offset = u64::from_be_bytes(made.bytes[at..at + 8].try_into().unwrap());
        let last = made.bytes.len() - SECTION_HEADER_BYTES - 1;
        assert_eq!(usize::try_from(offset).unwrap(), last);
        assert!(image(b"k", "c", &[&b"r"[..]; MAX_SECTIONS - 2]).is_err());
    }
}
