//! The policy in force: the document, the approvals that it needs, and the memory of how far it has come.
//!
//! The register's chain says which policy is in force (epoch and digest); the document itself comes from the operator.
//! It is taken if it is that one, if the board that set it approved it ([`check_approvals`]), and if it is not older
//! than one that was in force here. What was taken is kept, so that a host whose register is down goes on with it:
//! never with anything wider, for only the next approved document replaces it.

use crate::{
    PolicySet, RegisterError, Result,
    file::{at, create_folder, malformed, read, replace},
};
use cryptlet_seal::{check_approvals, sha256};
use cryptlet_types::{
    bounded::MAX_DOCUMENT_BYTES,
    policy::{PolicyInForce, SignedPolicy},
    register::{PolicyRecord, RegisterDomain},
};
use std::{
    fs::File,
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// Takes policies and never goes back: an older epoch, or another document under the same epoch, is refused. How far an
/// epoch may leap is for the contract to say, which sees each step; a host may have missed some.
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

    /// Takes the policy file `bytes` and keeps it durably. `set` is what the register at `domain` says is in force.
    /// There is no default: without a policy nothing runs. The same document may be handed over again.
    ///
    /// The digest is that of [`Policy::to_json`](cryptlet_types::Policy::to_json), so that the file's layout does not
    /// matter.
    ///
    /// # Errors
    /// [`RegisterError::PolicyDocument`] naming the field that is wrong, [`RegisterError::NotTheRegisters`],
    /// [`RegisterError::PolicyApprovals`], [`RegisterError::OlderPolicy`], [`RegisterError::OtherPolicy`],
    /// [`RegisterError::Malformed`] if the memory was damaged, [`RegisterError::Io`]. Then the last policy stays.
    pub fn install(
        &self,
        bytes: &[u8],
        domain: &RegisterDomain,
        set: Option<&PolicySet>,
    ) -> Result<PolicyInForce> {
        let signed = SignedPolicy::from_json(bytes)?;
        let found = in_force(&signed)?;
        let _lock = self.lock()?;
        let last = self.read()?;
        check_epoch(last.as_ref(), &found)?;
        let named = set.filter(|set| is_the_registers(&found, Some(&set.record)));
        let named = named.ok_or_else(|| not_the_registers(&found, set.map(|set| &set.record)))?;
        let found = check_approvals(&signed, domain, &named.board)
            .map_err(RegisterError::PolicyApprovals)?;
        if last.is_none_or(|last| last.digest != found.digest) {
            replace(&self.path(), bytes)?;
        }
        Ok(found)
    }

    /// As [`PolicyStore::install`], from the file at `path`.
    ///
    /// # Errors
    /// As [`PolicyStore::install`]; [`RegisterError::Io`] if there is no such file.
    pub fn load(
        &self,
        path: &Path,
        domain: &RegisterDomain,
        set: Option<&PolicySet>,
    ) -> Result<PolicyInForce> {
        let bytes =
            read(path, MAX_DOCUMENT_BYTES)?.ok_or_else(|| at(path)(ErrorKind::NotFound.into()))?;
        self.install(&bytes, domain, set)
    }

    /// The last policy that was taken here, if it still is the one that the register says is in force, as far as
    /// that is known.
    ///
    /// # Errors
    /// [`RegisterError::NoPolicy`], [`RegisterError::NotTheRegisters`] once the register has moved on, or
    /// [`RegisterError::Malformed`] if the memory was damaged.
    pub fn current(&self, record: Option<&PolicyRecord>) -> Result<PolicyInForce> {
        let last = self.read()?.ok_or(RegisterError::NoPolicy)?;
        if is_the_registers(&last, record) {
            Ok(last)
        } else {
            Err(not_the_registers(&last, record))
        }
    }

    /// The file that the last policy was taken from, approvals included; none if none was ever taken.
    ///
    /// # Errors
    /// [`RegisterError::Malformed`] if the memory was damaged.
    pub fn document(&self) -> Result<Option<SignedPolicy>> {
        let path = self.path();
        let Some(bytes) = read(&path, MAX_DOCUMENT_BYTES)? else {
            return Ok(None);
        };
        let signed = SignedPolicy::from_json(&bytes).map_err(|error| malformed(&path, error))?;
        Ok(Some(signed))
    }

    fn read(&self) -> Result<Option<PolicyInForce>> {
        self.document()?.map(|signed| in_force(&signed)).transpose()
    }

    /// Held while a policy is taken; other processes respect it.
    fn lock(&self) -> Result<File> {
        let lock = File::open(&self.folder).map_err(at(&self.folder))?;
        lock.lock().map_err(at(&self.folder))?;
        Ok(lock)
    }

    fn path(&self) -> PathBuf {
        self.folder.join("policy-in-force.json")
    }
}

/// Whether `policy` is the one that the register says is in force. With no word of the register it is not.
#[must_use]
pub fn is_the_registers(policy: &PolicyInForce, record: Option<&PolicyRecord>) -> bool {
    record
        .is_some_and(|record| record.epoch == policy.policy.epoch && record.digest == policy.digest)
}

fn in_force(signed: &SignedPolicy) -> Result<PolicyInForce> {
    let policy = signed.policy.clone();
    let digest = sha256(&policy.to_json()?);
    Ok(PolicyInForce { policy, digest })
}

fn not_the_registers(found: &PolicyInForce, record: Option<&PolicyRecord>) -> RegisterError {
    RegisterError::NotTheRegisters {
        epoch: found.policy.epoch,
        digest: found.digest,
        record: record.cloned(),
    }
}

fn check_epoch(last: Option<&PolicyInForce>, found: &PolicyInForce) -> Result<()> {
    let Some(last) = last else {
        return Ok(());
    };
    let (epoch, highest) = (found.policy.epoch, last.policy.epoch);
    if epoch < highest {
        let found = epoch;
        return Err(RegisterError::OlderPolicy { found, highest });
    }
    if epoch == highest && found.digest != last.digest {
        return Err(RegisterError::OtherPolicy {
            epoch,
            found: found.digest,
            known: last.digest,
        });
    }
    Ok(())
}
