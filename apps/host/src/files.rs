//! Files and folders of the host that are its owner's alone.
//!
//! The journal has signed reports before the chain does, and the transactions that carry them.

use cryptlet_types::bounded::MAX_DOCUMENT_BYTES;
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{Error, ErrorKind, Read, Result, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Bits of others than the owner.
const OTHERS: u32 = 0o077;

/// Makes the folder, and those above it, for its owner alone, where it is not there yet.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// As [`make_folder`]; one that is there already has to be its owner's alone.
pub(crate) fn own_folder(path: &Path) -> Result<()> {
    make_folder(path)?;
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & OTHERS == 0 {
        return Ok(());
    }
    let open = mode & 0o777;
    Err(Error::new(
        ErrorKind::PermissionDenied,
        format!(
            "others may read it (mode {open:03o}): chmod 700 {}",
            path.display()
        ),
    ))
}

/// Reads a document of [`MAX_DOCUMENT_BYTES`] at most: whatever the file is, no more of it is read.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let bound = u64::try_from(MAX_DOCUMENT_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(bound.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_DOCUMENT_BYTES {
        let reason = format!("more than {MAX_DOCUMENT_BYTES} bytes");
        return Err(Error::new(ErrorKind::FileTooLarge, reason));
    }
    Ok(bytes)
}

/// As [`read`]; nothing, if there is no such file.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Replaces the file: temporary file of its owner alone, `fsync`, rename, `fsync` of the folder. It is there whole or not at all.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_made_is_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("above/data");
        own_folder(&data).unwrap();
        assert_eq!(
            (mode(&data), mode(&folder.path().join("above"))),
            (0o700, 0o700)
        );
        own_folder(&data).unwrap();
        let file = data.join("a.json");
        replace(&file, b"one").unwrap();
        replace(&file, b"two").unwrap();
        assert_eq!(
            (fs::read(&file).unwrap(), mode(&file)),
            (b"two".to_vec(), 0o600)
        );
    }

    #[test]
    fn no_more_is_read_than_a_document_may_have() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        assert_eq!(read_if_there(&path).unwrap(), None);
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::NotFound);
        let file = File::create(&path).unwrap();
        let most = u64::try_from(MAX_DOCUMENT_BYTES).unwrap();
        file.set_len(most).unwrap();
        assert_eq!(read(&path).unwrap().len(), MAX_DOCUMENT_BYTES);
        file.set_len(most + 1).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert!(read_if_there(&path).is_err());
    }

    #[test]
    fn a_folder_that_others_may_read_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        for open in [0o750, 0o701, 0o777] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(open)).unwrap();
            let error = own_folder(folder.path()).unwrap_err().to_string();
            assert!(error.contains("chmod 700"), "{error}");
        }
    }
}
