//! Files that only their owner reads, replaced as a whole or not at all.

use crate::{Result, VaultError};
use rustix::{fs::OFlags, io::Errno, process::geteuid};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

const OWNER_ONLY: u32 = 0o600;

/// Holds the lock of the file at a path as long as it lives; the kernel releases it with the process.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Takes it, or says at once that somebody else has it. The lock lies beside the file, because the
    /// file itself is replaced at every write.
    pub(crate) fn take(path: &Path) -> Result<Self> {
        let beside = with_suffix(path, ".lock");
        check_folder(&folder_of(path))?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(OWNER_ONLY)
            .custom_flags(no_follow())
            .open(&beside)
            .map_err(at(&beside))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(VaultError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(at(&beside)(error)),
        }
    }
}

impl Drop for Lock {
    /// Closing alone would leave it to a child that was forked and has not yet become another program.
    fn drop(&mut self) {
        let _closed_next = self.file.unlock();
    }
}

/// Reads at most `limit` bytes of a file that only its owner may read, in a folder where nobody else may put
/// another in its place. `None` if it is larger.
pub(crate) fn read_private(path: &Path, limit: usize) -> Result<Option<Zeroizing<Vec<u8>>>> {
    check_folder(&folder_of(path))?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(no_follow())
        .open(path)
        .map_err(at(path))?;
    // Of the file that is open, not of the path: nobody can swap it in between.
    let metadata = file.metadata().map_err(at(path))?;
    if !metadata.is_file() {
        return Err(VaultError::NotRegular(path.to_owned()));
    }
    check_owner(path, metadata.uid(), geteuid().as_raw())?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(VaultError::Exposed { path, mode });
    }
    // Reserved whole: growing would leave copies of secrets behind.
    let size = usize::try_from(metadata.len()).map_or(limit, |size| size.min(limit));
    let mut bytes = Zeroizing::new(Vec::with_capacity(size + 1));
    let more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(more).read_to_end(&mut bytes).map_err(at(path))?;
    Ok((bytes.len() <= limit).then_some(bytes))
}

/// Replaces the file at `path`: temporary file, `fsync`, rename, `fsync` of the folder. The caller holds
/// the file's [`Lock`]; a temporary file that is found is what a killed process left behind.
///
/// [`VaultError::Unsynced`] says that the new file is in place all the same; after any other error the old one is.
pub(crate) fn replace_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = with_suffix(path, ".new");
    let _ = fs::remove_file(&temporary);
    let written = create_private(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path).map_err(at(path)));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync(&folder_of(path)).map_err(|source| VaultError::Unsynced {
        path: path.to_owned(),
        source,
    })
}

/// Writes a file that must not exist yet.
pub(crate) fn create_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(OWNER_ONLY)
        .open(path)
        .map_err(at(path))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(at(path))
}

/// Makes a new or renamed file in the folder of `path` durable.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    let folder = folder_of(path);
    sync(&folder).map_err(at(&folder))
}

fn sync(folder: &Path) -> std::io::Result<()> {
    #[cfg(test)]
    if tests::FAILS.get() {
        return Err(std::io::Error::other("injected"));
    }
    File::open(folder)?.sync_all()
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Neither a link nor a pipe that nobody writes to can lead a read astray.
fn no_follow() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed()
}

/// Whoever may write to a folder may put another vault and another key file into it. In a folder with the
/// sticky bit (`/tmp`) each may only replace what is their own.
fn check_folder(folder: &Path) -> Result<()> {
    let metadata = fs::metadata(folder).map_err(at(folder))?;
    check_owner(folder, metadata.uid(), geteuid().as_raw())?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        let path = folder.to_owned();
        return Err(VaultError::ExposedFolder { path, mode });
    }
    Ok(())
}

/// The owner of a file may do with it what they like: only this user and root may be that.
fn check_owner(path: &Path, owner: u32, me: u32) -> Result<()> {
    if owner == me || owner == 0 {
        return Ok(());
    }
    let path = path.to_owned();
    Err(VaultError::OthersFile { path, owner })
}

/// The error of a system call on `path`.
pub(crate) fn at(path: &Path) -> impl Fn(std::io::Error) -> VaultError {
    let path = path.to_owned();
    move |source| match source.kind() {
        std::io::ErrorKind::AlreadyExists => VaultError::FileExists(path.clone()),
        // What the system says of a link that it is told not to follow.
        _ if source.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            VaultError::NotRegular(path.clone())
        }
        _ => VaultError::Io {
            path: path.clone(),
            source,
        },
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        /// Whether folders of this thread's files cannot be synchronised.
        pub(crate) static FAILS: Cell<bool> = const { Cell::new(false) };
    }

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

    #[test]
    fn files_of_others_are_refused() {
        let path = Path::new("vault");
        assert!(check_owner(path, 1000, 1000).is_ok());
        assert!(check_owner(path, 0, 1000).is_ok());
        for (owner, me) in [(1001, 1000), (1000, 0)] {
            let error = check_owner(path, owner, me).unwrap_err();
            assert!(matches!(error, VaultError::OthersFile { owner: found, .. } if found == owner));
        }
    }
}
