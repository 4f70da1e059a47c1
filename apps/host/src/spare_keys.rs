//! Who asked for keys that no version uses yet.
//!
//! A key costs room in the vault, and whose cryptlet it is for is the caller's word. So each caller has one for a cryptlet at
//! a time, a bounded number in all, and never stands in the way of another caller.

use crate::{HostError, files};
use alloy_primitives::Address;
use cryptlet_types::{CryptletId, bounded::MAX_DOCUMENT_BYTES};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

/// Most keys of one caller that no version uses.
const MOST_OF_A_CALLER: usize = 32;
/// Most of all callers.
const MOST: usize = 1_000;

/// Keys that were made for callers, and are not known to be enrolled.
#[derive(Debug)]
pub(crate) struct SpareKeys {
    path: PathBuf,
    keys: BTreeMap<Address, SpareKey>,
}

/// Whom a key was made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SpareKey {
    caller: String,
    cryptlet: CryptletId,
}

impl SpareKeys {
    /// Reads the file at `path`, or begins with none.
    ///
    /// # Errors
    /// The file cannot be read or is not one of these.
    pub(crate) fn open(path: &Path) -> Result<Self, HostError> {
        Ok(Self {
            path: path.to_owned(),
            keys: read(path)?,
        })
    }

    /// The key that `caller` has for `cryptlet`.
    pub(crate) fn of(&self, caller: &str, cryptlet: CryptletId) -> Option<Address> {
        let mut keys = self.keys.iter();
        let found =
            keys.find(|(_, known)| (known.caller.as_str(), known.cryptlet) == (caller, cryptlet));
        found.map(|(signer, _)| *signer)
    }

    /// The cryptlets that have such keys.
    pub(crate) fn cryptlets(&self) -> Vec<CryptletId> {
        let mut cryptlets: Vec<_> = self.keys.values().map(|known| known.cryptlet).collect();
        cryptlets.sort_unstable();
        cryptlets.dedup();
        cryptlets
    }

    /// Whether `caller` may have another one.
    ///
    /// # Errors
    /// Why not, for people.
    pub(crate) fn check_room(&self, caller: &str) -> Result<(), String> {
        let of_caller = self.keys.values().filter(|known| known.caller == caller);
        if of_caller.count() >= MOST_OF_A_CALLER {
            return Err(format!(
                "{caller} has {MOST_OF_A_CALLER} keys that no version uses"
            ));
        }
        if self.keys.len() >= MOST {
            return Err(format!("the host has {MOST} keys that no version uses"));
        }
        Ok(())
    }

    /// Remembers that `signer` was made for `caller`.
    ///
    /// # Errors
    /// The file cannot be written; then nothing changed.
    pub(crate) fn add(
        &mut self,
        signer: Address,
        caller: &str,
        cryptlet: CryptletId,
    ) -> Result<(), HostError> {
        let caller = caller.to_owned();
        let mut keys = self.keys.clone();
        keys.insert(signer, SpareKey { caller, cryptlet });
        self.keep(keys)
    }

    /// Forgets keys that came into use.
    ///
    /// # Errors
    /// As [`SpareKeys::add`].
    pub(crate) fn forget(&mut self, used: &[Address]) -> Result<(), HostError> {
        let mut keys = self.keys.clone();
        keys.retain(|signer, _| !used.contains(signer));
        if keys.len() == self.keys.len() {
            return Ok(());
        }
        self.keep(keys)
    }

    fn keep(&mut self, keys: BTreeMap<Address, SpareKey>) -> Result<(), HostError> {
        let bytes = serde_json::to_vec_pretty(&keys).map_err(|error| broken(&self.path, error))?;
        files::replace(&self.path, &bytes).map_err(|error| broken(&self.path, error))?;
        self.keys = keys;
        Ok(())
    }
}

fn read(path: &Path) -> Result<BTreeMap<Address, SpareKey>, HostError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(broken(path, error)),
    };
    let mut bytes = Vec::new();
    let bound = u64::try_from(MAX_DOCUMENT_BYTES).unwrap_or(u64::MAX);
    file.take(bound)
        .read_to_end(&mut bytes)
        .map_err(|error| broken(path, error))?;
    serde_json::from_slice(&bytes).map_err(|error| broken(path, error))
}

fn broken(path: &Path, reason: impl ToString) -> HostError {
    HostError::Api {
        what: path.display().to_string(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cryptlet(number: usize) -> CryptletId {
        CryptletId(signer(number))
    }

    fn signer(number: usize) -> Address {
        Address::left_padding_from(&number.to_be_bytes())
    }

    #[test]
    fn a_caller_has_a_bounded_number_and_stands_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spare-keys.json");
        let mut spare = SpareKeys::open(&path).unwrap();
        for number in 0..MOST_OF_A_CALLER {
            spare.check_room("greedy").unwrap();
            spare
                .add(signer(number), "greedy", cryptlet(number))
                .unwrap();
        }
        assert!(spare.check_room("greedy").unwrap_err().contains("greedy"));
        spare.check_room("other").unwrap();
        assert_eq!(spare.of("other", cryptlet(0)), None);
        let mut spare = SpareKeys::open(&path).unwrap();
        assert_eq!(spare.of("greedy", cryptlet(3)), Some(signer(3)));
        assert_eq!(spare.cryptlets().len(), MOST_OF_A_CALLER);
        spare.forget(&[signer(3)]).unwrap();
        spare.check_room("greedy").unwrap();
        assert_eq!(spare.of("greedy", cryptlet(3)), None);
    }

    #[test]
    fn a_damaged_file_is_no_file_without_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spare-keys.json");
        std::fs::write(&path, "{").unwrap();
        let error = SpareKeys::open(&path).unwrap_err().to_string();
        assert!(error.contains("spare-keys.json"), "{error}");
    }
}
