//! Delegations that identities gave to cryptlets of this host: one file each, named after its digest.
//!
//! Whether a delegation's signature holds, and whether it was revoked, is the delegate's to judge when a report
//! under it arrives: a wallet's signature cannot be judged off the chain.

use crate::HostError;
use alloy_primitives::{B256, hex};
use cryptlet_types::{
    ReportDomain, Subscription, bounded::MAX_DOCUMENT_BYTES, delegation::SignedDelegation,
};
use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

/// Most delegations that a host keeps.
const MAX_DELEGATIONS: usize = 100_000;

/// The delegations of a host.
pub struct Delegations {
    folder: PathBuf,
    domain: ReportDomain,
    known: RwLock<BTreeMap<B256, SignedDelegation>>,
}

impl Delegations {
    /// Opens the folder, or makes an empty one.
    ///
    /// # Errors
    /// A file cannot be read or is not a delegation at this delegate.
    pub fn open(folder: &Path, domain: ReportDomain) -> Result<Self, HostError> {
        fs::create_dir_all(folder).map_err(|error| broken(folder, &error))?;
        let mut known = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(|error| broken(folder, &error))? {
            let path = entry.map_err(|error| broken(folder, &error))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                let signed = read(&path)?;
                known.insert(signed.delegation.digest(&domain), signed);
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            domain,
            known: RwLock::new(known),
        })
    }

    /// Keeps a delegation; its digest. Keeping it again, with another signature, replaces the signature.
    ///
    /// # Errors
    /// There are too many, or the file cannot be written; then it is not kept.
    pub fn add(&self, signed: SignedDelegation) -> Result<B256, HostError> {
        let digest = signed.delegation.digest(&self.domain);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_DELEGATIONS && !known.contains_key(&digest) {
            return Err(broken(
                &self.folder,
                &"it holds as many delegations as it may",
            ));
        }
        let path = self.folder.join(format!("{}.json", hex::encode(digest)));
        write(&path, &signed)?;
        known.insert(digest, signed);
        Ok(digest)
    }

    /// What the identity that `subscription` names has given to its cryptlet, whether it covers the subscription or not:
    /// first what lasts longest.
    #[must_use]
    pub fn of(&self, subscription: &Subscription) -> Vec<SignedDelegation> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = (subscription.on_behalf_of, subscription.cryptlet);
        let mut given: Vec<_> = known
            .values()
            .filter(|signed| (signed.delegation.identity, signed.delegation.cryptlet) == wanted)
            .cloned()
            .collect();
        given.sort_by_key(|signed| Reverse(signed.delegation.expiry));
        given
    }

    /// All of them, ascending by digest.
    #[must_use]
    pub fn list(&self) -> Vec<(B256, SignedDelegation)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .map(|(digest, signed)| (*digest, signed.clone()))
            .collect()
    }
}

fn read(path: &Path) -> Result<SignedDelegation, HostError> {
    let mut bytes = Vec::new();
    let bound = u64::try_from(MAX_DOCUMENT_BYTES).unwrap_or(u64::MAX);
    let file = fs::File::open(path).map_err(|error| broken(path, &error))?;
    file.take(bound)
        .read_to_end(&mut bytes)
        .map_err(|error| broken(path, &error))?;
    serde_json::from_slice(&bytes).map_err(|error| broken(path, &error))
}

/// Temporary file, `fsync`, rename: a file is there whole or not at all.
fn write(path: &Path, signed: &SignedDelegation) -> Result<(), HostError> {
    let bytes = serde_json::to_vec_pretty(signed).map_err(|error| broken(path, &error))?;
    let temporary = path.with_extension("new");
    let written = fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| broken(path, &error))
}

fn broken(path: &Path, reason: &dyn std::fmt::Display) -> HostError {
    HostError::Delegations {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, Bytes, FixedBytes};
    use cryptlet_types::{ClockSpec, CryptletId, Subject, TriggerSpec, delegation::Delegation};

    const DOMAIN: ReportDomain = ReportDomain {
        chain_id: 1,
        delegate: Address::repeat_byte(1),
    };

    fn signed(expiry: u64) -> SignedDelegation {
        let delegation = Delegation {
            identity: Address::repeat_byte(2),
            cryptlet: CryptletId(Address::repeat_byte(3)),
            consumer: Address::ZERO,
            callback: FixedBytes::ZERO,
            expiry,
            salt: B256::ZERO,
        };
        SignedDelegation {
            delegation,
            signature: Bytes::from(vec![7; 65]),
        }
    }

    fn subscription(identity: u8) -> Subscription {
        Subscription {
            subject: Subject(B256::repeat_byte(9)),
            consumer: Address::repeat_byte(4),
            nonce: 0,
            cryptlet: CryptletId(Address::repeat_byte(3)),
            on_behalf_of: Address::repeat_byte(identity),
            callback: FixedBytes([1; 4]),
            callback_gas: 50_000,
            validity: 60,
            trigger: TriggerSpec::Clock(ClockSpec {
                cron: "0 16 * * *".into(),
                time_zone: "UTC".into(),
            }),
            params: Bytes::new(),
            since: 0,
        }
    }

    #[test]
    fn what_an_identity_gave_is_found_after_a_restart_too_the_longest_first() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Delegations::open(folder.path(), DOMAIN).unwrap();
        kept.add(signed(100)).unwrap();
        kept.add(signed(200)).unwrap();
        let kept = Delegations::open(folder.path(), DOMAIN).unwrap();
        assert_eq!(kept.list().len(), 2);
        assert_eq!(kept.of(&subscription(2)), [signed(200), signed(100)]);
        assert_eq!(kept.of(&subscription(5)), [], "another identity");
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("00.json");
        fs::write(&path, b"{").unwrap();
        let Err(error) = Delegations::open(folder.path(), DOMAIN) else {
            panic!("opened")
        };
        assert!(error.to_string().contains("00.json"), "{error}");
    }
}
