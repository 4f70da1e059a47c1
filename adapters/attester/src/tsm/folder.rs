//! The folder of reports: configfs itself, behind a trait so that tests need no such guest.

use cryptlet_types::attestation::MAX_ATTESTATION_BYTES;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::PathBuf,
};

/// A folder in which every entry is a request for a report.
pub trait ReportFolder: Send + Sync {
    /// Makes an entry; the kernel fills it with attributes.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one of that name; otherwise what the operating system says.
    fn create(&self, entry: &str) -> io::Result<()>;

    /// All of an attribute, at most 256 KiB.
    ///
    /// # Errors
    /// `NotFound` if there is no such attribute, `FileTooLarge`; otherwise what the operating system says.
    fn read(&self, entry: &str, attribute: &str) -> io::Result<Vec<u8>>;

    /// Sets an attribute.
    ///
    /// # Errors
    /// What the operating system says. That nothing is said does not mean that the kernel took it: see `generation`.
    fn write(&self, entry: &str, attribute: &str, bytes: &[u8]) -> io::Result<()>;

    /// Removes an entry with all of its attributes.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove(&self, entry: &str) -> io::Result<()>;
}

/// The kernel's own.
#[derive(Clone, Debug)]
pub struct Configfs {
    root: PathBuf,
}

impl Configfs {
    /// At this path, which is [`FOLDER`](super::FOLDER) as a rule.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn attribute(&self, entry: &str, attribute: &str) -> PathBuf {
        self.root.join(entry).join(attribute)
    }
}

impl ReportFolder for Configfs {
    fn create(&self, entry: &str) -> io::Result<()> {
        fs::create_dir(self.root.join(entry))
    }

    fn read(&self, entry: &str, attribute: &str) -> io::Result<Vec<u8>> {
        let limit = u64::try_from(MAX_ATTESTATION_BYTES).unwrap_or(u64::MAX);
        let mut bytes = Vec::new();
        File::open(self.attribute(entry, attribute))?
            .take(limit.saturating_add(1))
            .read_to_end(&mut bytes)?;
        if bytes.len() > MAX_ATTESTATION_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }

    fn write(&self, entry: &str, attribute: &str, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new()
            .write(true)
            .open(self.attribute(entry, attribute))?
            .write_all(bytes)
    }

    fn remove(&self, entry: &str) -> io::Result<()> {
        fs::remove_dir(self.root.join(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_folders_that_come_and_go_and_attributes_are_never_made() {
        let root = tempfile::tempdir().unwrap();
        let folder = Configfs::new(root.path());
        folder.create("one").unwrap();
        assert!(root.path().join("one").is_dir());
        let again = folder.create("one").unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        let written = folder.write("one", "inblob", b"x").unwrap_err();
        assert_eq!(written.kind(), io::ErrorKind::NotFound);
        let read = folder.read("one", "outblob").unwrap_err();
        assert_eq!(read.kind(), io::ErrorKind::NotFound);
        folder.remove("one").unwrap();
        assert!(!root.path().join("one").exists());
    }

    #[test]
    fn an_attribute_is_read_whole_and_never_beyond_the_limit() {
        let root = tempfile::tempdir().unwrap();
        let folder = Configfs::new(root.path());
        folder.create("one").unwrap();
        let path = root.path().join("one/outblob");
        fs::write(&path, vec![7; MAX_ATTESTATION_BYTES]).unwrap();
        let whole = folder.read("one", "outblob").unwrap();
        assert_eq!(whole.len(), MAX_ATTESTATION_BYTES);
        fs::write(&path, vec![7; MAX_ATTESTATION_BYTES + 1]).unwrap();
        let large = folder.read("one", "outblob").unwrap_err();
        assert_eq!(large.kind(), io::ErrorKind::FileTooLarge);
    }
}
