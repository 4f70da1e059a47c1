//! Files in a developer's folders: replaced as a whole or not at all, read within bounds.

use crate::DeveloperError;
use cryptlet_seal::sha256;
use cryptlet_types::Sha256Digest;
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

/// Turns what the system said of `path` into an error.
pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> DeveloperError {
    let path = path.to_owned();
    move |source| DeveloperError::File {
        path: path.clone(),
        source,
    }
}

/// Reads a file of at most `limit` bytes; none if there is no such file.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, DeveloperError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(at(path))?,
    };
    let mut bytes = Vec::new();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(bound).read_to_end(&mut bytes).map_err(at(path))?;
    if bytes.len() > limit {
        let reason = format!("larger than {limit} bytes");
        return Err(DeveloperError::document(path.display(), reason));
    }
    Ok(Some(bytes))
}

/// SHA-256 of a file; none if there is no such file.
pub(crate) fn digest(path: &Path, limit: usize) -> Result<Option<Sha256Digest>, DeveloperError> {
    Ok(read(path, limit)?.map(|bytes| sha256(&bytes)))
}

/// Writes a file whole: whoever is killed on the way leaves the old one. Makes the folder.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), DeveloperError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(at(folder))?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    let write = || {
        // What lies there is an earlier run's, or a trap: a new file follows no link.
        let _none = fs::remove_file(temporary);
        let mut file = File::create_new(temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(temporary, path)
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(temporary);
    }
    written.map_err(at(path))?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(at(folder))
}

/// Makes a file that is its owner's alone, as its folder is: whole, or not at all. One that is there already is an error.
pub(crate) fn create_private(path: &Path, bytes: &[u8]) -> Result<(), DeveloperError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(at(folder))?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    let write = || {
        let _none = fs::remove_file(temporary);
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        // Unlike a rename, it takes nobody's place.
        fs::hard_link(temporary, path)?;
        fs::remove_file(temporary)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(at(path))
}

/// Removes a file; none is no error.
pub(crate) fn remove(path: &Path) -> Result<(), DeveloperError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_read_within_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/file");
        assert_eq!(read(&path, 9).unwrap(), None);
        replace(&path, b"one").unwrap();
        fs::write(folder.path().join("deep/er/file.new"), b"torn").unwrap();
        replace(&path, b"four").unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, b"whole").unwrap();
        std::os::unix::fs::symlink(&victim, folder.path().join("deep/er/file.new")).unwrap();
        replace(&path, b"four").unwrap();
        assert_eq!(read(&victim, 5).unwrap().unwrap(), b"whole");
        assert!(path.symlink_metadata().unwrap().is_file());
        assert_eq!(read(&path, 4).unwrap().unwrap(), b"four");
        assert!(read(&path, 3).is_err());
        assert_eq!(digest(&path, 4).unwrap(), Some(sha256(b"four")));
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(digest(&path, 4).unwrap(), None);
    }
}
