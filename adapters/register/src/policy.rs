//! The operator's policy, and the memory of how far it has come.

use crate::{
    RegisterError, Result,
    file::{at, create_folder, read, read_json, replace_json},
};
use cryptlet_seal::sha256;
use cryptlet_types::{Policy, Sha256Digest, bounded::MAX_DOCUMENT_BYTES, policy::PolicyInForce};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// The newest policy that was in force here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Highest {
    epoch: u64,
    digest: Sha256Digest,
}

/// Loads policies and never goes back: an older epoch, or another document under the same epoch, is refused.
#[derive(Clone, Debug)]
pub struct PolicyStore {
    folder: PathBuf,
}

impl PolicyStore {
    /// Opens the memory in `folder` of the host's data, or makes an empty one there.
    ///
    /// # Errors
    /// [`RegisterError::Io`].
    pub fn open(folder: &Path) -> Result<Self> {
        create_folder(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// Reads the policy at `path` and puts it in force. There is no default: without a policy nothing runs.
    ///
    /// The digest is that of [`Policy::to_json`], so that its layout does not matter.
    ///
    /// # Errors
    /// [`RegisterError::Io`] if there is none, [`RegisterError::Document`] naming the field that is wrong,
    /// [`RegisterError::OlderPolicy`], [`RegisterError::OtherPolicy`], [`RegisterError::Malformed`] if the memory
    /// of the last epoch was damaged.
    pub fn load(&self, path: &Path) -> Result<PolicyInForce> {
        let bytes =
            read(path, MAX_DOCUMENT_BYTES)?.ok_or_else(|| at(path)(ErrorKind::NotFound.into()))?;
        let document = |source| RegisterError::Document {
            path: path.to_owned(),
            source,
        };
        let policy = Policy::from_json(&bytes).map_err(document)?;
        let digest = sha256(&policy.to_json().map_err(document)?);
        self.advance(Highest {
            epoch: policy.epoch,
            digest,
        })?;
        Ok(PolicyInForce { policy, digest })
    }

    /// Remembers `found` if it is newer than all before, under a lock that other processes respect.
    fn advance(&self, found: Highest) -> Result<()> {
        let lock = File::open(&self.folder).map_err(at(&self.folder))?;
        lock.lock().map_err(at(&self.folder))?;
        let path = self.folder.join("policy-in-force.json");
        let highest: Option<Highest> = read_json(&path, MAX_DOCUMENT_BYTES)?;
        match highest {
            Some(known) if found.epoch < known.epoch => Err(RegisterError::OlderPolicy {
                found: found.epoch,
                highest: known.epoch,
            }),
            Some(known) if found.epoch == known.epoch && found.digest != known.digest => {
                Err(RegisterError::OtherPolicy {
                    epoch: found.epoch,
                    found: found.digest,
                    known: known.digest,
                })
            }
            Some(known) if known == found => Ok(()),
            _ => replace_json(&path, &found),
        }
    }
}
