//! Files that hold secrets: only their owner reads them, and they are replaced as a whole or not at all. Their owner is
//! who runs this program: what somebody else has put there does not count.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

const OWNER_ONLY: u32 = 0o600;

/// Why a private file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than the owner may read or write it.
    #[error("{path} has mode {mode:03o}: others may read it; chmod 600 it")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is somebody else's.
    #[error("{path} belongs to user {owner}, not to the one who runs this ({user}); chown it")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Numeric id of its owner.
        owner: u32,
        /// Numeric id of who runs this.
        user: u32,
    },
    /// It is larger than it can be.
    #[error("{path} is larger than {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Most bytes.
        limit: u64,
    },
}

impl FileError {
    /// Whether trying again can help: when the disk has room again, or the call was interrupted.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        use io::ErrorKind::{Interrupted, QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded | Interrupted))
    }
}

pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io {
        path: path.clone(),
        source,
    }
}

/// Tells one content of a file from another without reading it. Files are replaced by rename, so that a new
/// content has a new inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// Says which content the file has now, if only its owner may read it.
pub(crate) fn mark(path: &Path) -> Result<Mark, FileError> {
    check(path, &fs::metadata(path).map_err(at(path))?)
}

fn check(path: &Path, metadata: &fs::Metadata) -> Result<Mark, FileError> {
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(FileError::Exposed { path, mode });
    }
    check_owner(path, metadata.uid(), rustix::process::geteuid().as_raw())?;
    Ok(Mark {
        inode: metadata.ino(),
        size: metadata.size(),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

fn check_owner(path: &Path, owner: u32, user: u32) -> Result<(), FileError> {
    if owner == user {
        return Ok(());
    }
    let path = path.to_owned();
    Err(FileError::Foreign { path, owner, user })
}

/// Reads a file of at most `limit` bytes that only its owner may read.
pub(crate) fn read_private(
    path: &Path,
    limit: u64,
) -> Result<(Mark, Zeroizing<Vec<u8>>), FileError> {
    let file = File::open(path).map_err(at(path))?;
    let mark = check(path, &file.metadata().map_err(at(path))?)?;
    let mut bytes = Zeroizing::new(Vec::new());
    let read = file.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(at(path))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        let path = path.to_owned();
        return Err(FileError::TooLarge { path, limit });
    }
    Ok((mark, bytes))
}

/// Replaces the file: temporary file, `fsync`, rename, `fsync` of the folder. Whoever is killed on the way leaves
/// the old file.
pub(crate) fn replace_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let temporary = beside(path, ".new");
    let _ = fs::remove_file(&temporary);
    let written = create(&temporary, bytes)
        .map_err(at(&temporary))
        .and_then(|()| fs::rename(&temporary, path).map_err(at(path)));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(at(folder))
}

fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(OWNER_ONLY)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Waits for, and holds, the lock of the file at `path`; the kernel releases it with the process.
pub(crate) fn lock(path: &Path) -> Result<File, FileError> {
    let beside = beside(path, ".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(OWNER_ONLY)
        .open(&beside)
        .map_err(at(&beside))?;
    file.lock().map_err(at(&beside))?;
    Ok(file)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_private_and_has_another_mark() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        replace_private(&path, b"one").unwrap();
        let (first, bytes) = read_private(&path, 3).unwrap();
        assert_eq!(bytes.as_slice(), b"one");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        // What a killed process left behind is in nobody's way.
        fs::write(beside(&path, ".new"), b"torn").unwrap();
        replace_private(&path, b"two").unwrap();
        assert_ne!(mark(&path).unwrap(), first);
        assert!(matches!(
            read_private(&path, 2),
            Err(FileError::TooLarge { .. })
        ));
    }

    #[test]
    fn a_file_of_somebody_else_is_refused() {
        assert!(check_owner(Path::new("a"), 1_000, 1_000).is_ok());
        for (owner, user) in [(0, 1_000), (1_000, 0), (1_001, 1_000)] {
            assert!(matches!(
                check_owner(Path::new("a"), owner, user),
                Err(FileError::Foreign { .. })
            ));
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        replace_private(&path, b"one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            mark(&path),
            Err(FileError::Exposed { mode: 0o640, .. })
        ));
        assert!(matches!(
            read_private(&path, 9),
            Err(FileError::Exposed { .. })
        ));
    }
}
