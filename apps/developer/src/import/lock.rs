//! `cryptlet.lock`: what was imported, with digests. It belongs into version control.

use crate::{DeveloperError, files};
use alloy_primitives::Address;
use cryptlet_types::{CryptletId, Sha256Digest, register::RegisterDomain};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Component, Path},
};

/// Name of the file, at the project's root.
pub const LOCK_FILE: &str = "cryptlet.lock";
/// Version of this format.
const VERSION: u32 = 1;
/// Largest lock file, in bytes.
const MAX_LOCK_BYTES: usize = 1 << 20;

/// Files below the project's root, by path with `/`, each with the SHA-256 of what import wrote.
pub type LockedFiles = BTreeMap<String, Sha256Digest>;

/// The lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lock {
    /// Version of this format: 1.
    version: u32,
    /// Imported cryptlets by name.
    pub cryptlets: BTreeMap<String, LockedCryptlet>,
    /// The base contracts, which all of them share.
    pub contracts: LockedFiles,
}

/// An imported cryptlet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LockedCryptlet {
    /// Its id.
    pub id: CryptletId,
    /// The register that it is in.
    pub register: RegisterDomain,
    /// Number of the version.
    pub number: u32,
    /// Its label.
    pub label: String,
    /// Digest of its header.
    pub header: Sha256Digest,
    /// Digest of its package.
    pub package: Sha256Digest,
    /// Address of its signing key.
    pub public_key: Address,
    /// What was written.
    pub files: LockedFiles,
}

impl Default for Lock {
    fn default() -> Self {
        Self {
            version: VERSION,
            cryptlets: BTreeMap::new(),
            contracts: LockedFiles::new(),
        }
    }
}

impl Lock {
    /// Reads the lock file at `root`; none is an empty one.
    ///
    /// # Errors
    /// Names what is wrong: it was edited or damaged.
    pub fn load(root: &Path) -> Result<Self, DeveloperError> {
        let path = root.join(LOCK_FILE);
        let Some(bytes) = files::read(&path, MAX_LOCK_BYTES)? else {
            return Ok(Self::default());
        };
        let wrong = |reason: String| DeveloperError::document(path.display(), reason);
        let lock: Self =
            serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if lock.version != VERSION {
            return Err(wrong(format!("this program reads version {VERSION}")));
        }
        if let Some(outside) = lock.paths().find(|path| !stays_inside(path)) {
            return Err(wrong(format!(
                "{outside:?} is not a path inside the project"
            )));
        }
        Ok(lock)
    }

    fn paths(&self) -> impl Iterator<Item = &String> {
        let sets = self.cryptlets.values().map(|locked| &locked.files);
        sets.chain([&self.contracts]).flat_map(BTreeMap::keys)
    }

    /// Writes it at `root`, whole.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn store(&self, root: &Path) -> Result<(), DeveloperError> {
        let path = root.join(LOCK_FILE);
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| DeveloperError::document(path.display(), error))?;
        bytes.push(b'\n');
        files::replace(&path, &bytes)
    }
}

/// A relative path of names only.
pub(super) fn stays_inside(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    !path.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;

    fn lock() -> Lock {
        let digest = Sha256Digest(B256::repeat_byte(1));
        let locked = LockedCryptlet {
            id: CryptletId(Address::repeat_byte(2)),
            register: RegisterDomain {
                chain_id: 1,
                register: Address::repeat_byte(3),
            },
            number: 1,
            label: "0.1.0".into(),
            header: digest,
            package: digest,
            public_key: Address::repeat_byte(4),
            files: [("src/cryptlets/GoldPrice.sol".to_owned(), digest)].into(),
        };
        Lock {
            cryptlets: [("gold-price".to_owned(), locked)].into(),
            ..Lock::default()
        }
    }

    #[test]
    fn a_lock_survives_and_is_sorted() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Lock::load(folder.path()).unwrap(), Lock::default());
        let mut lock = lock();
        let other = lock.cryptlets["gold-price"].clone();
        lock.cryptlets.insert("a".into(), other);
        lock.store(folder.path()).unwrap();
        assert_eq!(Lock::load(folder.path()).unwrap(), lock);
        let text = std::fs::read_to_string(folder.path().join(LOCK_FILE)).unwrap();
        assert!(text.find("\"a\"").unwrap() < text.find("\"gold-price\"").unwrap());
        assert!(text.ends_with("}\n"));
    }

    #[test]
    fn an_altered_lock_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        lock().store(folder.path()).unwrap();
        let path = folder.path().join(LOCK_FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        let cases = [
            ("\"version\": 1", "\"version\": 2"),
            ("\"number\": 1", "\"number\": 1, \"extra\": 1"),
            ("src/cryptlets/GoldPrice.sol", "../outside.sol"),
            ("src/cryptlets/GoldPrice.sol", "/etc/passwd"),
            ("0x0101", "0x01"),
        ];
        for (from, to) in cases {
            std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
            assert!(Lock::load(folder.path()).is_err(), "{to}");
        }
    }
}
