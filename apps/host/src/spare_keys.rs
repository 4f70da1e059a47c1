//! Who asked for keys that no version uses yet.
//!
//! A key costs room in the vault, and whose cryptlet it is for is the caller's word. So each caller has one for a cryptlet at
//! a time and a bounded number in all; a cryptlet has a few, which further callers share, so that nobody is kept from
//! publishing it; and a key that came into no use in a week is destroyed.

use crate::{HostError, files};
use alloy_primitives::Address;
use cryptlet_types::{CryptletId, UnixSeconds};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Most keys of one caller that no version uses.
const MOST_OF_A_CALLER: usize = 32;
/// Most of one cryptlet. A key that two share is no danger: nobody has it but the vault, and versions are published by the
/// cryptlet's owner alone.
const MOST_OF_A_CRYPTLET: usize = 8;
/// Most of all callers.
const MOST: usize = 1_000;
/// Seconds after which a key that was not asked for again, and came into no use, goes.
const LIFETIME_SECONDS: u64 = 7 * 86_400;

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
    /// When it was last given out.
    given_at: UnixSeconds,
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

    /// Gives `caller` the key that it has for `cryptlet`, or, if the cryptlet has as many as it may, the one that was given
    /// out longest ago.
    ///
    /// # Errors
    /// As [`SpareKeys::add`].
    pub(crate) fn give(
        &mut self,
        caller: &str,
        cryptlet: CryptletId,
        now: UnixSeconds,
    ) -> Result<Option<Address>, HostError> {
        let of_cryptlet = self.keys.iter();
        let of_cryptlet: Vec<_> = of_cryptlet
            .filter(|(_, known)| known.cryptlet == cryptlet)
            .collect();
        let own = of_cryptlet.iter().find(|(_, known)| known.caller == caller);
        let oldest = of_cryptlet.iter().min_by_key(|(_, known)| known.given_at);
        let shared = oldest.filter(|_| of_cryptlet.len() >= MOST_OF_A_CRYPTLET);
        let Some(signer) = own.or(shared).map(|(signer, _)| **signer) else {
            return Ok(None);
        };
        let mut keys = self.keys.clone();
        if let Some(known) = keys.get_mut(&signer) {
            known.given_at = now;
        }
        self.keep(keys)?;
        Ok(Some(signer))
    }

    /// Keys that came into no use in time, oldest first.
    pub(crate) fn expired(&self, now: UnixSeconds) -> Vec<(CryptletId, Address)> {
        let keys = self.keys.iter();
        let mut expired: Vec<_> = keys
            .filter(|(_, known)| known.given_at.saturating_add(LIFETIME_SECONDS) < now)
            .collect();
        expired.sort_by_key(|(_, known)| known.given_at);
        let named = expired.into_iter();
        named
            .map(|(signer, known)| (known.cryptlet, *signer))
            .collect()
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

    /// Remembers that `signer` was made for `caller` at `now`.
    ///
    /// # Errors
    /// The file cannot be written; then nothing changed.
    pub(crate) fn add(
        &mut self,
        signer: Address,
        caller: &str,
        cryptlet: CryptletId,
        now: UnixSeconds,
    ) -> Result<(), HostError> {
        let known = SpareKey {
            caller: caller.to_owned(),
            cryptlet,
            given_at: now,
        };
        let mut keys = self.keys.clone();
        keys.insert(signer, known);
        self.keep(keys)
    }

    /// Forgets keys that came into use, or are no more.
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
    match files::read_if_there(path).map_err(|error| broken(path, error))? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| broken(path, error)),
        None => Ok(BTreeMap::new()),
    }
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
                .add(signer(number), "greedy", cryptlet(number), 1)
                .unwrap();
        }
        assert!(spare.check_room("greedy").unwrap_err().contains("greedy"));
        spare.check_room("other").unwrap();
        assert_eq!(spare.give("other", cryptlet(0), 1).unwrap(), None);
        let mut spare = SpareKeys::open(&path).unwrap();
        let own = spare.give("greedy", cryptlet(3), 1).unwrap();
        assert_eq!(own, Some(signer(3)));
        assert_eq!(spare.cryptlets().len(), MOST_OF_A_CALLER);
        spare.forget(&[signer(3)]).unwrap();
        spare.check_room("greedy").unwrap();
        assert_eq!(spare.give("greedy", cryptlet(3), 1).unwrap(), None);
    }

    #[test]
    fn a_cryptlet_has_a_few_which_further_callers_share() {
        let folder = tempfile::tempdir().unwrap();
        let mut spare = SpareKeys::open(&folder.path().join("spare-keys.json")).unwrap();
        let caller = |number: usize| format!("caller {number}");
        for number in 0..MOST_OF_A_CRYPTLET {
            let (name, at) = (caller(number), 10 + u64::try_from(number).unwrap());
            assert_eq!(spare.give(&name, cryptlet(1), at).unwrap(), None);
            spare.add(signer(number), &name, cryptlet(1), at).unwrap();
        }
        let shared = |spare: &mut SpareKeys| spare.give("late", cryptlet(1), 100).unwrap();
        assert_eq!(shared(&mut spare), Some(signer(0)), "given out longest ago");
        assert_eq!(shared(&mut spare), Some(signer(1)));
        let own = spare.give(&caller(5), cryptlet(1), 100).unwrap();
        assert_eq!(own, Some(signer(5)));
        assert_eq!(spare.give("late", cryptlet(2), 100).unwrap(), None);
    }

    #[test]
    fn what_came_into_no_use_expires_unless_it_is_asked_for_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spare-keys.json");
        let mut spare = SpareKeys::open(&path).unwrap();
        for number in 0..3 {
            spare
                .add(signer(number), "a", cryptlet(number), 10)
                .unwrap();
        }
        let end = 10 + LIFETIME_SECONDS;
        spare.give("a", cryptlet(1), 11).unwrap();
        let mut spare = SpareKeys::open(&path).unwrap();
        assert_eq!(spare.expired(end), []);
        let expired = [0, 2].map(|number| (cryptlet(number), signer(number)));
        assert_eq!(spare.expired(end + 1), expired);
        spare.forget(&[signer(0)]).unwrap();
        assert_eq!(spare.expired(end + 2).len(), 2);
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
