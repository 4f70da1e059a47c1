//! The initramfs: two archives, one after the other. The first is the same for every container; the second has the container,
//! as `/init`, and its libraries.

use crate::{
    ImageError,
    cpio::Archive,
    elf::{self, Needs},
    parts,
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

const MAX_LIBRARY_BYTES: u64 = 256 << 20;
const MAX_LIBRARIES: usize = 64;
/// The container loads no more (`enclave/container/src/init.rs`).
const MAX_MODULES: usize = 64;
/// Folders that a system without a disk starts with.
const FOLDERS: [&str; 6] = ["dev", "proc", "run", "sys", "tmp", "etc"];

/// What to do about shared libraries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Linking {
    /// There are none: a container that needs any is refused.
    Static,
    /// They are taken from these folders, absolute paths, the first that has one, and lie at the same path in the image. The
    /// loader has to look there by itself: `/lib/x86_64-linux-gnu` and `/usr/lib/x86_64-linux-gnu` with Debian's.
    From(Vec<PathBuf>),
}

/// A kernel module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The file's name, which is for people: the order is what counts.
    pub name: String,
    /// The file.
    pub bytes: Vec<u8>,
}

/// Two archives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initramfs {
    /// Folders, the devices that a program is started with, and the kernel's modules.
    pub boot: Vec<u8>,
    /// The container and its libraries.
    pub application: Vec<u8>,
}

impl Initramfs {
    /// Makes them of a container and the modules that it is to load, in this order.
    ///
    /// # Errors
    /// If the container is no program for x86-64, or needs libraries that may not be there or are not found; if a module is none,
    /// or there are more than 64.
    pub fn new(
        container: &[u8],
        linking: &Linking,
        modules: &[Module],
    ) -> Result<Self, ImageError> {
        let mut application = Archive::default();
        application.program("init", container.to_vec())?;
        let needs = Needs::read("container", container)?;
        match linking {
            Linking::Static if needs.is_static() => {}
            Linking::Static => {
                let reason = format!(
                    "is linked dynamically, to {}: build it statically, or say from which \
                     folders to take its libraries",
                    needs.libraries.join(", ")
                );
                return Err(ImageError::refused("container", reason));
            }
            Linking::From(folders) => add_libraries(&mut application, needs, folders)?,
        }
        Ok(Self {
            boot: boot(modules)?,
            application: application.bytes()?,
        })
    }

    /// Both, as a boot loader that knows of one file wants them.
    #[must_use]
    pub fn concatenated(&self) -> Vec<u8> {
        [self.boot.as_slice(), &self.application].concat()
    }
}

fn boot(modules: &[Module]) -> Result<Vec<u8>, ImageError> {
    let mut archive = Archive::default();
    for folder in FOLDERS {
        archive.folder(folder)?;
    }
    // Where the standard streams of `/init` lead, and where they lead without a console (Linux,
    // `Documentation/admin-guide/devices.txt`).
    archive.device("dev/console", 5, 1)?;
    archive.device("dev/null", 1, 3)?;
    if modules.len() > MAX_MODULES {
        let reason = format!("are more than {MAX_MODULES}");
        return Err(ImageError::refused("modules", reason));
    }
    for (number, module) in modules.iter().enumerate() {
        elf::check_module(&module.name, &module.bytes)?;
        let path = format!("modules/{number:02}-{}", module.name);
        archive.program(&path, module.bytes.clone())?;
    }
    archive.bytes()
}

/// Adds the loader, and libraries until none is missing.
fn add_libraries(
    archive: &mut Archive,
    needs: Needs,
    folders: &[PathBuf],
) -> Result<(), ImageError> {
    let mut wanted = needs.libraries;
    let mut known: BTreeSet<String> = wanted.iter().cloned().collect();
    if let Some(interpreter) = needs.interpreter {
        let bytes = parts::read(Path::new(&interpreter), MAX_LIBRARY_BYTES)?;
        archive.program(inside(&interpreter)?, bytes)?;
        known.extend(
            Path::new(&interpreter)
                .file_name()
                .and_then(|name| Some(name.to_str()?.to_owned())),
        );
    }
    while let Some(name) = wanted.pop() {
        let path = find(&name, folders)?;
        let bytes = parts::read(Path::new(&path), MAX_LIBRARY_BYTES)?;
        for further in Needs::read(&path, &bytes)?.libraries {
            if known.insert(further.clone()) {
                wanted.push(further);
            }
        }
        if known.len() > MAX_LIBRARIES {
            let reason = format!("needs more than {MAX_LIBRARIES} libraries");
            return Err(ImageError::refused("container", reason));
        }
        archive.program(inside(&path)?, bytes)?;
    }
    Ok(())
}

fn find(name: &str, folders: &[PathBuf]) -> Result<String, ImageError> {
    let path = folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    path.and_then(|path| path.to_str().map(str::to_owned))
        .ok_or_else(|| ImageError::refused(name, "is in none of the folders of libraries"))
}

/// An absolute path as archives have it.
fn inside(path: &str) -> Result<&str, ImageError> {
    path.strip_prefix('/')
        .ok_or_else(|| ImageError::refused(path, "is no absolute path"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeMap, fs};

    fn this_test() -> Vec<u8> {
        fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    fn debian() -> Linking {
        Linking::From(vec![
            "/lib/x86_64-linux-gnu".into(),
            "/usr/lib/x86_64-linux-gnu".into(),
        ])
    }

    /// Paths in an archive with their sizes, read by nothing that wrote it.
    fn paths(archive: &[u8]) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        let mut at = 0;
        loop {
            let field = |number: usize| {
                let from = at + 6 + 8 * number;
                let text = std::str::from_utf8(&archive[from..from + 8]).unwrap();
                usize::from_str_radix(text, 16).unwrap()
            };
            assert_eq!(&archive[at..at + 6], b"070701");
            let (size, name) = (field(6), field(11));
            let path = String::from_utf8(archive[at + 110..at + 110 + name - 1].to_vec()).unwrap();
            if path == "TRAILER!!!" {
                return found;
            }
            found.insert(path, size);
            at = (at + 110 + name).next_multiple_of(4) + size.next_multiple_of(4);
        }
    }

    #[test]
    fn a_container_that_needs_libraries_is_refused_unless_they_may_come_along() {
        let error = Initramfs::new(&this_test(), &Linking::Static, &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("libc.so.6") && error.contains("build it statically"),
            "{error}"
        );
        let nowhere = Linking::From(vec!["/nowhere".into()]);
        let error = Initramfs::new(&this_test(), &nowhere, &[])
            .unwrap_err()
            .to_string();
        assert!(error.contains("is in none of the folders"), "{error}");
    }

    #[test]
    fn libraries_and_the_loader_lie_where_the_loader_looks() {
        let container = this_test();
        let made = Initramfs::new(&container, &debian(), &[]).unwrap();
        let again = Initramfs::new(&container, &debian(), &[]).unwrap();
        assert_eq!(again, made);
        let application = paths(&made.application);
        assert_eq!(application["init"], container.len());
        assert!(application["lib64/ld-linux-x86-64.so.2"] > 0);
        assert!(
            application.keys().any(|path| path.ends_with("/libc.so.6")),
            "{application:?}"
        );
        let boot = paths(&made.boot);
        assert!(boot.contains_key("dev/console") && boot.contains_key("proc"));
        assert_eq!(
            made.concatenated().len(),
            made.boot.len() + made.application.len()
        );
    }
    /// What is a module as far as anything here looks: a header of ELF for x86-64, of what can be linked.
    fn module(name: &str) -> Module {
        let mut bytes = vec![0; 64];
        bytes[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
        bytes[16..20].copy_from_slice(&[1, 0, 62, 0]);
        bytes[20] = 1;
        bytes[52] = 64;
        let name = name.to_owned();
        Module { name, bytes }
    }

    #[test]
    fn modules_keep_their_order_by_their_names_and_are_part_of_what_boots() {
        let container = this_test();
        let of = |modules: &[Module]| Initramfs::new(&container, &debian(), modules);
        let one = of(&[module("z.ko"), module("a.ko")]).unwrap();
        let names: Vec<_> = paths(&one.boot).into_keys().collect();
        let modules = names.iter().filter(|path| path.starts_with("modules/"));
        let modules: Vec<_> = modules.collect();
        assert_eq!(modules, ["modules/00-z.ko", "modules/01-a.ko"]);
        let other = of(&[module("a.ko"), module("z.ko")]).unwrap();
        assert_ne!(one.boot, other.boot);
        assert_eq!(one.application, other.application);

        let compressed = Module {
            bytes: b"\xfd7zXZ\0".to_vec(),
            ..module("a.ko.xz")
        };
        for wrong in [
            vec![compressed],
            vec![Module {
                bytes: container.clone(),
                ..module("init")
            }],
            vec![module("a/b.ko")],
            vec![module("a.ko"); MAX_MODULES + 1],
        ] {
            assert!(of(&wrong).is_err(), "{:?}", wrong[0].name);
        }
    }
}
