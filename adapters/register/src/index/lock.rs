//! One host an index: an exclusive `flock` on a file beside it. The kernel releases it when the process ends, however it
//! ends.

use crate::{
    RegisterError, Result,
    file::{at, own},
};
use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
};

/// Holds the lock as long as it lives.
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of the index at `path`, or says at once that somebody else has it.
    pub(super) fn take(path: &Path) -> Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let beside = PathBuf::from(name);
        let file = own(&beside).map_err(at(&beside))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(RegisterError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(at(&beside)(source)),
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
