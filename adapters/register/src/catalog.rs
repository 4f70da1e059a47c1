//! Which package a cryptlet runs: one small file for each cryptlet, named after its id.

use crate::{
    Result,
    file::{at, create_folder, malformed, read_json, replace_json},
};
use alloy_primitives::hex;
use cryptlet_types::{CryptletId, Sha256Digest, bounded::MAX_DOCUMENT_BYTES};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What is published under a cryptlet's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// The cryptlet.
    pub cryptlet: CryptletId,
    /// The package that it runs.
    pub package: Sha256Digest,
}

/// Which package each cryptlet runs. Cheap to clone; several processes may use the same folder.
#[derive(Clone, Debug)]
pub struct Catalog {
    folder: PathBuf,
}

impl Catalog {
    /// Opens the catalog in `folder`, or makes an empty one there.
    ///
    /// # Errors
    /// [`RegisterError::Io`](crate::RegisterError::Io).
    pub fn open(folder: &Path) -> Result<Self> {
        create_folder(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// From now on `cryptlet` runs `package`.
    ///
    /// # Errors
    /// [`RegisterError::Io`](crate::RegisterError::Io); then it runs what it ran before.
    pub fn publish(&self, cryptlet: CryptletId, package: Sha256Digest) -> Result<()> {
        replace_json(&self.path(cryptlet), &Entry { cryptlet, package })
    }

    /// What `cryptlet` runs, if it was published.
    ///
    /// # Errors
    /// [`RegisterError::Malformed`](crate::RegisterError::Malformed) or [`RegisterError::Io`](crate::RegisterError::Io).
    pub fn current(&self, cryptlet: CryptletId) -> Result<Option<Entry>> {
        let path = self.path(cryptlet);
        let entry: Option<Entry> = read_json(&path, MAX_DOCUMENT_BYTES)?;
        match entry {
            Some(entry) if entry.cryptlet != cryptlet => {
                Err(malformed(&path, format!("is about {}", entry.cryptlet)))
            }
            entry => Ok(entry),
        }
    }

    /// Everything that is published, ordered by cryptlet.
    ///
    /// # Errors
    /// [`RegisterError::Malformed`](crate::RegisterError::Malformed) or [`RegisterError::Io`](crate::RegisterError::Io).
    pub fn list(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for file in fs::read_dir(&self.folder).map_err(at(&self.folder))? {
            let name = file.map_err(at(&self.folder))?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".json"));
            if let Some(id) = id.and_then(|id| id.parse().ok()) {
                entries.extend(self.current(id)?);
            }
        }
        entries.sort_by_key(|entry| entry.cryptlet);
        Ok(entries)
    }

    fn path(&self, cryptlet: CryptletId) -> PathBuf {
        self.folder
            .join(format!("{}.json", hex::encode(cryptlet.0)))
    }
}
