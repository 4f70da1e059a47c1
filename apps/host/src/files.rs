//! Files and folders of the host that are its owner's alone.
//!
//! The journal has signed reports before the chain does, and the transactions that carry them.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{Error, ErrorKind, Result, Write},
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
    fn a_folder_that_others_may_read_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        for open in [0o750, 0o701, 0o777] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(open)).unwrap();
            let error = own_folder(folder.path()).unwrap_err().to_string();
            assert!(error.contains("chmod 700"), "{error}");
        }
    }
}
