//! Sealed images of regions, in a folder of the host.
//!
//! The vault says which image is the last, and an image is written before the vault is told of it. So whatever moment a host is
//! killed at, the image that the vault calls the last is there: before the vault has taken the new one that is the old one, which
//! is removed only afterwards.

use crate::{
    Result, Vault, VaultError,
    storage::{at, read_private, replace_private},
};
use cryptlet_seal::sha256;
use cryptlet_types::{CryptletId, Measurement, Sha256Digest, bounded::MAX_SEALED_BYTES};
use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// A folder of sealed images. Files are named by cryptlet, measurement and the SHA-256 of what is in them.
#[derive(Clone, Debug)]
pub struct Images {
    folder: PathBuf,
}

impl Images {
    /// The images in `folder`, which is made (mode 0700) if it is not there. Its parent has to be.
    ///
    /// # Errors
    /// [`VaultError::Io`].
    pub fn at(folder: &Path) -> Result<Self> {
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(at(folder)(error)),
            _ => Ok(Self {
                folder: folder.to_owned(),
            }),
        }
    }

    /// The image that the vault calls the last. `None` if there is none, and also if it is lost: a region that should have had
    /// it refuses to start without, and names it.
    ///
    /// # Errors
    /// [`VaultError::Io`], [`VaultError::Exposed`] and other reasons not to read a file, or those of the vault.
    pub async fn last(
        &self,
        vault: &dyn Vault,
        cryptlet: CryptletId,
        measurement: Measurement,
    ) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let last = match vault.last_image(cryptlet, measurement).await {
            Err(VaultError::NoSealing) => None,
            last => last?,
        };
        let Some(digest) = last else {
            return Ok(None);
        };
        let path = self.path(cryptlet, measurement, digest);
        match read_private(&path, MAX_SEALED_BYTES) {
            Err(VaultError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            read => read,
        }
    }

    /// Writes `image`, has the vault take it as the last ([`Vault::advance`]), and then removes those before it. It writes and
    /// syncs a file on the calling thread.
    ///
    /// # Errors
    /// That the image could not be written, or those of [`Vault::advance`]. Then the image that was the last is there as before.
    pub async fn keep(
        &self,
        vault: &dyn Vault,
        cryptlet: CryptletId,
        measurement: Measurement,
        image: &[u8],
    ) -> Result<u64> {
        let path = self.path(cryptlet, measurement, sha256(image));
        replace_private(&path, image)?;
        let counter = vault.advance(cryptlet, measurement, image).await?;
        self.remove_all_but(&path, cryptlet, measurement);
        Ok(counter)
    }

    fn path(
        &self,
        cryptlet: CryptletId,
        measurement: Measurement,
        digest: Sha256Digest,
    ) -> PathBuf {
        let prefix = prefix(cryptlet, measurement);
        self.folder.join(format!("{prefix}{:x}", digest.0))
    }

    /// What stays behind here, since it cannot be removed or the host is killed, is removed after the next image.
    fn remove_all_but(&self, last: &Path, cryptlet: CryptletId, measurement: Measurement) {
        let prefix = prefix(cryptlet, measurement);
        let found = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for file in found {
            let named = file.file_name().to_string_lossy().starts_with(&prefix);
            if named && file.path() != last {
                let _ = fs::remove_file(file.path());
            }
        }
    }
}

fn prefix(cryptlet: CryptletId, measurement: Measurement) -> String {
    format!("{:x}-{:x}-", cryptlet.0, measurement.0)
}
