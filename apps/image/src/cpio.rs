//! Archives that Linux unpacks as initramfs: cpio in the form `newc` (Linux,
//! `Documentation/driver-api/early-userspace/buffer-format.rst`).

use crate::ImageError;
use std::collections::BTreeMap;

const MAGIC: &str = "070701";
const TRAILER: &str = "TRAILER!!!";
/// Archives are padded to this many bytes, as cpio does, so that the next one may follow.
const BLOCK_BYTES: usize = 512;
const MAX_PATH_BYTES: usize = 1_024;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// What stands under a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Folder,
    Program(Vec<u8>),
    Device { major: u32, minor: u32 },
}

/// Files of the superuser, without times, in the order of their paths: the same content makes the same bytes.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    nodes: BTreeMap<String, Node>,
}

impl Archive {
    /// Adds a folder, with those above it.
    ///
    /// # Errors
    /// If the path is not plain, or something else stands there.
    pub fn folder(&mut self, path: &str) -> Result<(), ImageError> {
        self.add(path, Node::Folder)
    }

    /// Adds a file that may be executed, with the folders above it.
    ///
    /// # Errors
    /// As for folders.
    pub fn program(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), ImageError> {
        self.add(path, Node::Program(bytes))
    }

    /// Adds a character device, with the folders above it.
    ///
    /// # Errors
    /// As for folders.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) -> Result<(), ImageError> {
        self.add(path, Node::Device { major, minor })
    }

    fn add(&mut self, path: &str, node: Node) -> Result<(), ImageError> {
        let plain = path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..");
        if !plain || path.len() > MAX_PATH_BYTES || path.contains('\0') || path == TRAILER {
            return Err(ImageError::refused(format!("{path:?}"), "is no plain path"));
        }
        let above = path
            .match_indices('/')
            .filter_map(|(end, _)| path.get(..end));
        for folder in above {
            self.place(folder, Node::Folder)?;
        }
        self.place(path, node)
    }

    fn place(&mut self, path: &str, node: Node) -> Result<(), ImageError> {
        match self.nodes.get(path) {
            None => {
                self.nodes.insert(path.to_owned(), node);
                Ok(())
            }
            Some(there) if *there == node => Ok(()),
            Some(_) => Err(ImageError::refused(path, "is there twice, and differs")),
        }
    }

    /// The archive.
    ///
    /// # Errors
    /// If a file has 4 GiB or more, which the format has no room for.
    pub fn bytes(&self) -> Result<Vec<u8>, ImageError> {
        let mut archive = Vec::new();
        let numbered = (1_u32..).zip(&self.nodes);
        for (number, (path, node)) in numbered {
            append(&mut archive, number, path, node)?;
        }
        let end = Header {
            links: 1,
            ..Header::default()
        };
        end.write(&mut archive, TRAILER, &[])?;
        pad(&mut archive, BLOCK_BYTES);
        Ok(archive)
    }
}

/// The fields of a header that are not always zero here.
#[derive(Default)]
struct Header {
    number: u32,
    mode: u32,
    links: u32,
    major: u32,
    minor: u32,
}

impl Header {
    fn write(&self, archive: &mut Vec<u8>, path: &str, content: &[u8]) -> Result<(), ImageError> {
        let size = |length: usize| {
            u32::try_from(length).map_err(|_| ImageError::refused(path, "has 4 GiB or more"))
        };
        let fields = [
            self.number,
            self.mode,
            0, // user
            0, // group
            self.links,
            0, // time
            size(content.len())?,
            0, // device that the file is on, major
            0, // and minor
            self.major,
            self.minor,
            size(path.len() + 1)?,
            0, // checksum, unused in this form
        ];
        archive.extend_from_slice(MAGIC.as_bytes());
        for field in fields {
            archive.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        archive.extend_from_slice(path.as_bytes());
        archive.push(0);
        pad(archive, 4);
        archive.extend_from_slice(content);
        pad(archive, 4);
        Ok(())
    }
}

fn append(archive: &mut Vec<u8>, number: u32, path: &str, node: &Node) -> Result<(), ImageError> {
    let file = Header {
        number,
        mode: PROGRAM,
        links: 1,
        ..Header::default()
    };
    match node {
        Node::Program(bytes) => file.write(archive, path, bytes),
        Node::Folder => Header {
            mode: FOLDER,
            links: 2,
            ..file
        }
        .write(archive, path, &[]),
        Node::Device { major, minor } => Header {
            mode: CHARACTER_DEVICE,
            major: *major,
            minor: *minor,
            ..file
        }
        .write(archive, path, &[]),
    }
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::hex;
    use cryptlet_seal::sha256;

    fn sample() -> Archive {
        let mut archive = Archive::default();
        archive.program("init", b"#!/bin/true\n".to_vec()).unwrap();
        archive.device("dev/console", 5, 1).unwrap();
        archive.folder("proc").unwrap();
        archive
    }

    /// GNU cpio 2.13 listed of it what was put in. The digest is of the bytes that it read.
    #[test]
    fn an_archive_is_what_gnu_cpio_has_read() {
        let bytes = sample().bytes().unwrap();
        assert_eq!(bytes.len() % BLOCK_BYTES, 0);
        assert_eq!(
            hex::encode(sha256(&bytes).0),
            "83efba7e6b29d57c747fefe0ec43fe9ad414049ed23d8d255bace78efb2d080f"
        );
    }

    #[test]
    fn folders_come_before_what_is_in_them_and_the_order_of_adding_does_not_matter() {
        let mut other = Archive::default();
        other.folder("proc").unwrap();
        other.folder("dev").unwrap();
        other.device("dev/console", 5, 1).unwrap();
        other.program("init", b"#!/bin/true\n".to_vec()).unwrap();
        assert_eq!(other.bytes().unwrap(), sample().bytes().unwrap());
        let paths: Vec<_> = sample().nodes.into_keys().collect();
        assert_eq!(paths, ["dev", "dev/console", "init", "proc"]);
    }

    #[test]
    fn paths_that_are_not_plain_or_taken_are_refused() {
        let mut archive = sample();
        for path in ["", "/init", "a//b", "../a", "a/./b", "a/", "a\0b", TRAILER] {
            let error = archive.folder(path).unwrap_err().to_string();
            assert!(error.contains("no plain path"), "{path:?}: {error}");
        }
        assert!(archive.program("init", b"other".to_vec()).is_err());
        assert!(archive.folder("init/below").is_err());
        assert!(archive.program("init", b"#!/bin/true\n".to_vec()).is_ok());
    }
}
