//! What was done already of a version that is not published yet.

use crate::{DeveloperError, SignedTransaction, error::id_text, files};
use alloy_primitives::Address;
use cryptlet_types::{CryptletId, Sha256Digest, register::RegisterDomain};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::path::{Path, PathBuf};

/// Largest file of this kind, in bytes: a transaction is the most of it.
const MAX_BYTES: usize = 256 << 10;

/// Whose progress it is. A host that was set up anew has other keys, and its progress begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Place {
    pub(crate) register: RegisterDomain,
    pub(crate) host: Address,
    pub(crate) cryptlet: CryptletId,
}

/// The steps of an unfinished version, kept in a file. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    path: PathBuf,
    place: Place,
    kept: Option<Kept>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kept {
    place: Place,
    label: String,
    signer: Address,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sent: Option<Sent>,
}

/// A rotation on its way: which version takes the place of which. Nothing in the register tells it from a rotation that
/// was to keep its old key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Rotation {
    pub(crate) place: Place,
    /// Number of the version whose keys end.
    pub(crate) old: u32,
    /// Label of the version that comes after it.
    pub(crate) label: String,
    /// They do not end after all.
    pub(crate) keep: bool,
}

impl Rotation {
    fn path(folder: &Path, place: Place) -> PathBuf {
        folder.join(format!("rotate-{}.json", id_text(place.cryptlet)))
    }

    /// Reads which rotation of a cryptlet was begun, if one was.
    ///
    /// # Errors
    /// The file cannot be read, or is not one of these.
    pub(crate) fn load(folder: &Path, place: Place) -> Result<Option<Self>, DeveloperError> {
        let begun: Option<Self> = read(&Self::path(folder, place))?;
        Ok(begun.filter(|begun| begun.place == place))
    }

    /// Keeps it, before anything is made.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn keep(&self, folder: &Path) -> Result<(), DeveloperError> {
        write(&Self::path(folder, self.place), self)
    }

    /// Forgets it: it is done.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(crate) fn forget(&self, folder: &Path) -> Result<(), DeveloperError> {
        files::remove(&Self::path(folder, self.place))
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DeveloperError> {
    let Some(bytes) = files::read(path, MAX_BYTES)? else {
        return Ok(None);
    };
    let read = serde_json::from_slice(&bytes);
    read.map_err(|error| DeveloperError::document(path.display(), error))
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), DeveloperError> {
    let bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| DeveloperError::document(path.display(), error))?;
    files::replace(path, &bytes)
}

/// A transaction that was signed, and perhaps sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Sent {
    pub(crate) package: Sha256Digest,
    pub(crate) transaction: SignedTransaction,
}

impl Progress {
    /// Reads what is kept in `folder` about a cryptlet.
    ///
    /// # Errors
    /// The file cannot be read, or is not one of these.
    pub(crate) fn load(folder: &Path, place: Place) -> Result<Self, DeveloperError> {
        let path = folder.join(format!("publish-{}.json", id_text(place.cryptlet)));
        let kept: Option<Kept> = read(&path)?;
        let kept = kept.filter(|kept| kept.place == place);
        Ok(Self { path, place, kept })
    }

    /// The key that was made for the version of this label.
    pub(crate) fn signer(&self, label: &str) -> Option<Address> {
        let kept = self.kept.as_ref().filter(|kept| kept.label == label);
        kept.map(|kept| kept.signer)
    }

    /// The transaction that was signed last.
    pub(crate) fn sent(&self) -> Option<&Sent> {
        self.kept.as_ref().and_then(|kept| kept.sent.as_ref())
    }

    /// Keeps the key of a version, and forgets another version's.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn keep_key(&mut self, label: &str, signer: Address) -> Result<(), DeveloperError> {
        self.keep(Kept {
            place: self.place,
            label: label.to_owned(),
            signer,
            sent: None,
        })
    }

    /// Keeps a transaction, before it is sent.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn keep_sent(&mut self, sent: Sent) -> Result<(), DeveloperError> {
        match self.kept.clone() {
            Some(kept) => self.keep(Kept {
                sent: Some(sent),
                ..kept
            }),
            None => Ok(()),
        }
    }

    fn keep(&mut self, kept: Kept) -> Result<(), DeveloperError> {
        write(&self.path, &kept)?;
        self.kept = Some(kept);
        Ok(())
    }

    /// Forgets it all: the version is published.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(crate) fn forget(&self) -> Result<(), DeveloperError> {
        files::remove(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{B256, U256};

    fn place(host: u8) -> Place {
        Place {
            register: RegisterDomain {
                chain_id: 31_337,
                register: Address::repeat_byte(1),
            },
            host: Address::repeat_byte(host),
            cryptlet: CryptletId(Address::repeat_byte(2)),
        }
    }

    #[test]
    fn what_was_kept_is_there_after_an_interruption_and_for_the_same_version_only() {
        let folder = tempfile::tempdir().unwrap();
        let load = |host| Progress::load(folder.path(), place(host)).unwrap();
        let mut progress = load(1);
        assert_eq!(progress.signer("0.1.0"), None);
        progress.keep_key("0.1.0", Address::repeat_byte(9)).unwrap();
        let sent = Sent {
            package: B256::repeat_byte(3).into(),
            transaction: SignedTransaction {
                hash: B256::repeat_byte(4),
                nonce: 7,
                raw: vec![1, 2].into(),
                max_cost: U256::from(5),
            },
        };
        progress.keep_sent(sent.clone()).unwrap();
        let again = load(1);
        assert_eq!(again, progress);
        assert_eq!(again.signer("0.1.0"), Some(Address::repeat_byte(9)));
        assert_eq!(again.signer("0.1.1"), None);
        assert_eq!(again.sent(), Some(&sent));
        assert_eq!(load(2).signer("0.1.0"), None, "another host has other keys");
        again.forget().unwrap();
        assert_eq!(load(1).sent(), None);
    }

    #[test]
    fn a_rotation_that_was_begun_is_found_by_the_same_cryptlet_only() {
        let folder = tempfile::tempdir().unwrap();
        let load = |host| Rotation::load(folder.path(), place(host)).unwrap();
        assert_eq!(load(1), None);
        let begun = Rotation {
            place: place(1),
            old: 2,
            label: "0.1.0+key.2".into(),
            keep: true,
        };
        begun.keep(folder.path()).unwrap();
        assert_eq!(load(1).as_ref(), Some(&begun));
        assert_eq!(load(2), None);
        begun.forget(folder.path()).unwrap();
        assert_eq!(load(1), None);
    }

    #[test]
    fn a_file_that_was_written_by_somebody_else_is_not_guessed_at() {
        let folder = tempfile::tempdir().unwrap();
        let mut progress = Progress::load(folder.path(), place(1)).unwrap();
        progress.keep_key("a", Address::ZERO).unwrap();
        std::fs::write(&progress.path, "{}").unwrap();
        assert!(Progress::load(folder.path(), place(1)).is_err());
    }
}
