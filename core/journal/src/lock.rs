//! One host a journal: an exclusive `flock` on a file beside it.
//!
//! The kernel releases it when the process ends, however it ends. SQLite's own exclusive mode would keep
//! readers (backup, `sqlite3`) out as well.

use crate::error::{JournalError, Result};
use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Opens the file for writing, or makes an empty one that is its owner's alone.
pub(crate) fn own(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
}

/// Holds the lock as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of the journal at `path`, or says at once that somebody else has it.
    pub(crate) fn take(path: &Path) -> Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let beside = PathBuf::from(name);
        let io = |source| JournalError::Io {
            path: beside.clone(),
            source,
        };
        let file = own(&beside).map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(JournalError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }
}

impl Drop for Lock {
    /// Closing alone would leave it to a child that was forked and has not yet become another program.
    fn drop(&mut self) {
        let _closed_next = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_the_file_in_a_forked_child_keeps_nobody_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        let lock = Lock::take(&path).unwrap();
        let _as_a_fork_has = lock.file.try_clone().unwrap();
        assert!(Lock::take(&path).is_err(), "held");
        drop(lock);
        Lock::take(&path).unwrap();
    }
}
