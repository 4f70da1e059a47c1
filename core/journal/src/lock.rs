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
    _file: File,
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
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(JournalError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }
}
