//! Files that are read within bounds and replaced as a whole or not at all.

use crate::{RegisterError, Result};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

/// Reads a file of at most `limit` bytes; `None` if there is none.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(path)(error)),
    };
    let more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    file.take(more).read_to_end(&mut bytes).map_err(at(path))?;
    if bytes.len() > limit {
        let path = path.to_owned();
        return Err(RegisterError::TooLarge { path, limit });
    }
    Ok(Some(bytes))
}

/// Reads a JSON file strictly; `None` if there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, limit: usize) -> Result<Option<T>> {
    let Some(bytes) = read(path, limit)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| malformed(path, error))
}

/// Replaces the file at `path`: temporary file, `fsync`, rename, `fsync` of the folder.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = temporary(path);
    let written =
        write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, path).map_err(at(path)));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(at(folder))
}

/// Replaces the file at `path` by the indented JSON of `value`.
pub(crate) fn replace_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    replace(path, &json(path, value)?)
}

/// The indented JSON of `value`, for the file at `path`.
pub(crate) fn json<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| malformed(path, error))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Makes a folder and those above it, for their owner alone.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(at(path))
}

/// Opens the file for writing, or makes an empty one that is its owner's alone.
pub(crate) fn own(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
}

/// The error of a system call on `path`.
pub(crate) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> RegisterError {
    let path = path.to_owned();
    move |source| RegisterError::Io { path, source }
}

/// The error of a file that does not hold what it must.
pub(crate) fn malformed(path: &Path, reason: impl ToString) -> RegisterError {
    RegisterError::Malformed {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(at(path))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(at(path))
}

/// A name beside `path` that no other writer uses; what a killed process leaves behind is never read.
fn temporary(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.{number}.new", process::id()));
    name.into()
}
