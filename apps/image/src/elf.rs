//! What a program needs beside itself: its interpreter and its shared libraries, by what its dynamic section says (ELF; System
//! V ABI, AMD64).

use crate::ImageError;
use object::{
    LittleEndian, elf,
    read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _},
};

/// What a program or library names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The program that loads it, an absolute path; none for libraries and for what is linked statically.
    pub interpreter: Option<String>,
    /// Names of shared libraries, in the order in which they stand.
    pub libraries: Vec<String>,
}

impl Needs {
    /// Whether it runs by itself.
    #[must_use]
    pub fn is_static(&self) -> bool {
        self.interpreter.is_none() && self.libraries.is_empty()
    }

    /// Reads an ELF file for x86-64. `what` names it in errors.
    ///
    /// # Errors
    /// If it is none, is malformed, or names folders to look for libraries in (`RPATH`, `RUNPATH`): what is found there would
    /// depend on the machine.
    pub fn read(what: &str, file: &[u8]) -> Result<Self, ImageError> {
        let refuse = |reason: &str| ImageError::refused(what, reason);
        let malformed = |error: object::Error| refuse(&format!("is no ELF file: {error}"));
        let header = elf::FileHeader64::<LittleEndian>::parse(file).map_err(malformed)?;
        let endian = header.endian().map_err(malformed)?;
        if header.e_machine(endian) != elf::EM_X86_64 {
            return Err(refuse("is not for x86-64"));
        }
        let segments = header.program_headers(endian, file).map_err(malformed)?;
        let mut needs = Self::default();
        let mut wanted = Vec::new();
        let mut strings = None;
        for segment in segments {
            if let Some(path) = segment.interpreter(endian, file).map_err(malformed)? {
                needs.interpreter =
                    Some(text(path).ok_or_else(|| refuse("has no plain interpreter"))?);
            }
            let entries = segment.dynamic(endian, file).map_err(malformed)?;
            for entry in entries.unwrap_or_default() {
                match entry.tag(endian) {
                    elf::DT_NULL => break,
                    elf::DT_NEEDED => wanted.push(entry.val(endian)),
                    elf::DT_STRTAB => strings = Some(entry.val(endian)),
                    elf::DT_RPATH | elf::DT_RUNPATH => {
                        return Err(refuse("names folders to look for libraries in (RPATH)"));
                    }
                    _ => {}
                }
            }
        }
        for offset in wanted {
            let name = strings
                .and_then(|strings| strings.checked_add(offset))
                .and_then(|address| string_at(segments, endian, file, address))
                .filter(|name| !name.contains('/'))
                .ok_or_else(|| refuse("names a library by no plain name"))?;
            needs.libraries.push(name);
        }
        Ok(needs)
    }
}

/// Checks that a file is a kernel module for x86-64, as far as its header says: an object that is linked into a kernel.
///
/// # Errors
/// It is none, or it is compressed.
pub fn check_module(what: &str, file: &[u8]) -> Result<(), ImageError> {
    let refuse = |reason: &str| Err(ImageError::refused(what, reason));
    let Ok(header) = elf::FileHeader64::<LittleEndian>::parse(file) else {
        return refuse("is no kernel module (or it is compressed: decompress it first)");
    };
    let kind = (header.e_type(LittleEndian), header.e_machine(LittleEndian));
    if kind != (elf::ET_REL, elf::EM_X86_64) {
        return refuse("is no kernel module for x86-64");
    }
    // A name is part of a path.
    if !what
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'/')
    {
        return refuse("has no plain name");
    }
    Ok(())
}

/// The text at an address, up to its zero.
fn string_at(
    segments: &[elf::ProgramHeader64<LittleEndian>],
    endian: LittleEndian,
    file: &[u8],
    address: u64,
) -> Option<String> {
    let segment = segments.iter().find(|segment| {
        let start = segment.p_vaddr(endian);
        let inside = address.checked_sub(start);
        segment.p_type(endian) == elf::PT_LOAD
            && inside.is_some_and(|inside| inside < segment.p_filesz(endian))
    })?;
    let inside = usize::try_from(address.checked_sub(segment.p_vaddr(endian))?).ok()?;
    let bytes = segment.data(endian, file).ok()?.get(inside..)?;
    let end = bytes.iter().position(|byte| *byte == 0)?;
    text(bytes.get(..end)?)
}

fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{fs, sync::LazyLock};

    /// Tests are programs too.
    static THIS_TEST: LazyLock<Vec<u8>> =
        LazyLock::new(|| fs::read(std::env::current_exe().unwrap()).unwrap());

    #[test]
    fn this_test_needs_the_c_library_and_its_loader() {
        let needs = Needs::read("test", &THIS_TEST).unwrap();
        assert!(!needs.is_static());
        assert_eq!(needs.interpreter.unwrap(), "/lib64/ld-linux-x86-64.so.2");
        assert!(
            needs.libraries.contains(&"libc.so.6".to_owned()),
            "{:?}",
            needs.libraries
        );
    }

    #[test]
    fn what_is_no_program_is_refused() {
        for file in [&b""[..], b"#!/bin/sh\n", b"\x7fELF"] {
            let error = Needs::read("it", file).unwrap_err().to_string();
            assert!(error.starts_with("it: is no ELF file"), "{error}");
        }
        let mut arm = THIS_TEST.clone();
        arm[18..20].copy_from_slice(&183_u16.to_le_bytes());
        let error = Needs::read("it", &arm).unwrap_err().to_string();
        assert_eq!(error, "it: is not for x86-64");
    }

    proptest! {
        #[test]
        fn an_altered_program_is_read_or_refused(
            changes in prop::collection::vec((0_usize..2_000, any::<u8>()), 1..20),
        ) {
            let mut file = THIS_TEST[..200_000].to_vec();
            for (at, byte) in changes {
                file[at] = byte;
            }
            let _read_or_refused = Needs::read("it", &file);
        }
    }
}
