//! Delegations that identities gave to cryptlets of this host: one file each, named after its digest.
//!
//! Whether a delegation's signature holds, and whether it was revoked, is the delegate's to judge when a report
//! under it arrives: a wallet's signature cannot be judged off the chain.

use crate::{HostError, files};
use alloy_primitives::{Address, B256, Bytes, hex};
use cryptlet_types::{
    CryptletId, ReportDomain, Subscription, UnixSeconds,
    delegation::{Delegation, SignedDelegation},
};
use serde::{Deserialize, Serialize};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

/// Most delegations that a host keeps.
const MAX_DELEGATIONS: usize = 100_000;
/// Most of them that one caller handed in.
const MAX_OF_A_CALLER: usize = 1_000;
/// Most that are tried for one report: each costs questions to the chain.
const MAX_CANDIDATES: usize = 8;

/// The delegations of a host.
pub struct Delegations {
    folder: PathBuf,
    domain: ReportDomain,
    known: RwLock<Known>,
}

/// A delegation as its file holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kept {
    /// Who handed it in.
    #[serde(default)]
    caller: String,
    delegation: Delegation,
    signature: Bytes,
}

impl Kept {
    fn signed(&self) -> SignedDelegation {
        SignedDelegation {
            delegation: self.delegation.clone(),
            signature: self.signature.clone(),
        }
    }
}

/// All of them, and which an identity gave to a cryptlet.
#[derive(Default)]
struct Known {
    by_digest: BTreeMap<B256, Kept>,
    given: HashMap<(Address, CryptletId), BTreeSet<B256>>,
    of_caller: HashMap<String, usize>,
}

impl Known {
    fn insert(&mut self, digest: B256, kept: Kept) {
        self.remove(digest);
        let parties = (kept.delegation.identity, kept.delegation.cryptlet);
        self.given.entry(parties).or_default().insert(digest);
        *self.of_caller.entry(kept.caller.clone()).or_default() += 1;
        self.by_digest.insert(digest, kept);
    }

    fn remove(&mut self, digest: B256) {
        let Some(kept) = self.by_digest.remove(&digest) else {
            return;
        };
        let parties = (kept.delegation.identity, kept.delegation.cryptlet);
        if let Some(given) = self.given.get_mut(&parties) {
            given.remove(&digest);
            if given.is_empty() {
                self.given.remove(&parties);
            }
        }
        if let Some(count) = self.of_caller.get_mut(&kept.caller) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_caller.remove(&kept.caller);
            }
        }
    }

    fn has_room(&self, digest: B256, caller: &str) -> bool {
        let of_caller = self.of_caller.get(caller).copied().unwrap_or_default();
        self.by_digest.contains_key(&digest)
            || (self.by_digest.len() < MAX_DELEGATIONS && of_caller < MAX_OF_A_CALLER)
    }
}

impl Delegations {
    /// Opens the folder, or makes an empty one. A file that is damaged, or no delegation, is named in the log and left where
    /// it is: one identity's delegation is no reason not to serve the others.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn open(folder: &Path, domain: ReportDomain) -> Result<Self, HostError> {
        files::make_folder(folder).map_err(|error| broken(folder, &error))?;
        let mut known = Known::default();
        for entry in fs::read_dir(folder).map_err(|error| broken(folder, &error))? {
            let path = entry.map_err(|error| broken(folder, &error))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read(&path) {
                Ok(kept) => known.insert(kept.delegation.digest(&domain), kept),
                Err(error) => tracing::error!(%error, "a delegation is left out"),
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            domain,
            known: RwLock::new(known),
        })
    }

    /// Keeps a delegation that `caller` handed in at `now`; its digest. Keeping it again, with another signature, replaces the
    /// signature.
    ///
    /// # Errors
    /// [`HostError::TooManyDelegations`], or the file cannot be written; then it is not kept.
    pub fn add(
        &self,
        caller: &str,
        signed: SignedDelegation,
        now: UnixSeconds,
    ) -> Result<B256, HostError> {
        let digest = signed.delegation.digest(&self.domain);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if !known.has_room(digest, caller) {
            self.drop_expired(&mut known, now)?;
        }
        if !known.has_room(digest, caller) {
            return Err(HostError::TooManyDelegations);
        }
        let kept = Kept {
            caller: caller.to_owned(),
            delegation: signed.delegation,
            signature: signed.signature,
        };
        let path = self.path(digest);
        let bytes = serde_json::to_vec_pretty(&kept).map_err(|error| broken(&path, &error))?;
        files::replace(&path, &bytes).map_err(|error| broken(&path, &error))?;
        known.insert(digest, kept);
        Ok(digest)
    }

    /// Drops what has expired at `now`.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn sweep(&self, now: UnixSeconds) -> Result<(), HostError> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        self.drop_expired(&mut known, now)
    }

    fn drop_expired(&self, known: &mut Known, now: UnixSeconds) -> Result<(), HostError> {
        let expired =
            |(digest, kept): (&B256, &Kept)| (kept.delegation.expiry < now).then_some(*digest);
        let expired: Vec<_> = known.by_digest.iter().filter_map(expired).collect();
        for digest in expired {
            let path = self.path(digest);
            fs::remove_file(&path).map_err(|error| broken(&path, &error))?;
            known.remove(digest);
        }
        Ok(())
    }

    fn path(&self, digest: B256) -> PathBuf {
        self.folder.join(format!("{}.json", hex::encode(digest)))
    }

    /// What the identity that `subscription` names has given to its cryptlet, a few at most: first what covers the subscription
    /// at `now`, of that what lasts longest.
    #[must_use]
    pub fn of(&self, subscription: &Subscription, now: UnixSeconds) -> Vec<SignedDelegation> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let parties = (subscription.on_behalf_of, subscription.cryptlet);
        let digests = known.given.get(&parties).into_iter().flatten();
        let mut given: Vec<_> = digests
            .filter_map(|digest| known.by_digest.get(digest))
            .map(Kept::signed)
            .collect();
        given.sort_by_cached_key(|signed| {
            let covers = signed.check(subscription, now).is_ok();
            (!covers, Reverse(signed.delegation.expiry))
        });
        given.truncate(MAX_CANDIDATES);
        given
    }

    /// Those behind `after`, ascending by digest, at most `most` of them.
    #[must_use]
    pub fn list(&self, after: Option<B256>, most: usize) -> Vec<(B256, SignedDelegation)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let listed = known.by_digest.range((behind, Bound::Unbounded));
        listed
            .take(most)
            .map(|(digest, kept)| (*digest, kept.signed()))
            .collect()
    }
}

fn read(path: &Path) -> Result<Kept, HostError> {
    let bytes = files::read(path).map_err(|error| broken(path, &error))?;
    serde_json::from_slice(&bytes).map_err(|error| broken(path, &error))
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
    use alloy_primitives::FixedBytes;
    use cryptlet_types::{ClockSpec, Subject, TriggerSpec};

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

    fn salted(expiry: u64, salt: usize) -> SignedDelegation {
        let mut signed = signed(expiry);
        signed.delegation.salt = B256::left_padding_from(&salt.to_be_bytes());
        signed
    }

    #[test]
    fn what_an_identity_gave_is_found_after_a_restart_too_the_longest_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("delegations");
        let kept = Delegations::open(&path, DOMAIN).unwrap();
        kept.add("a", signed(100), 1).unwrap();
        kept.add("b", signed(200), 1).unwrap();
        let kept = Delegations::open(&path, DOMAIN).unwrap();
        assert_eq!(kept.list(None, usize::MAX).len(), 2);
        assert_eq!(kept.of(&subscription(2), 1), [signed(200), signed(100)]);
        assert_eq!(kept.of(&subscription(5), 1), [], "another identity");
        let [first, second] = kept.list(None, 2).try_into().unwrap();
        assert_eq!(kept.list(None, 1), std::slice::from_ref(&first));
        assert_eq!(kept.list(Some(first.0), 9), [second]);
    }

    #[test]
    fn a_damaged_file_is_left_out_and_the_others_serve() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("delegations");
        let kept = Delegations::open(&path, DOMAIN).unwrap();
        kept.add("a", signed(100), 1).unwrap();
        fs::write(path.join("00.json"), b"{").unwrap();
        let kept = Delegations::open(&path, DOMAIN).unwrap();
        assert_eq!(kept.of(&subscription(2), 1), [signed(100)]);
        assert!(path.join("00.json").exists());
        let error = read(&path.join("00.json")).unwrap_err();
        assert!(error.to_string().contains("00.json"), "{error}");
    }

    #[test]
    fn a_few_are_tried_and_those_that_cover_the_subscription_come_first() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Delegations::open(&folder.path().join("delegations"), DOMAIN).unwrap();
        for salt in 0..20 {
            let mut narrow = salted(900, salt);
            narrow.delegation.consumer = Address::repeat_byte(8);
            kept.add("a", narrow, 1).unwrap();
        }
        kept.add("a", signed(100), 1).unwrap();
        let given = kept.of(&subscription(2), 1);
        assert_eq!(given.len(), MAX_CANDIDATES);
        assert_eq!(given.first(), Some(&signed(100)));
    }

    #[test]
    fn a_caller_has_a_bounded_number_and_what_has_expired_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("delegations");
        let kept = Delegations::open(&path, DOMAIN).unwrap();
        let mut known = kept.known.write().unwrap();
        for salt in 0..MAX_OF_A_CALLER {
            let SignedDelegation {
                delegation,
                signature,
            } = salted(900, salt);
            let caller = "greedy".to_owned();
            let digest = delegation.digest(&DOMAIN);
            known.insert(
                digest,
                Kept {
                    caller,
                    delegation,
                    signature,
                },
            );
        }
        drop(known);
        let further = salted(900, MAX_OF_A_CALLER);
        let full = kept.add("greedy", further.clone(), 1);
        assert!(matches!(full, Err(HostError::TooManyDelegations)));
        kept.add("other", further, 1).unwrap();
        let known = kept.list(None, usize::MAX);
        for (digest, _) in &known {
            fs::write(kept.path(*digest), "{}").unwrap();
        }
        kept.add("greedy", signed(2_000), 1_000).unwrap();
        assert_eq!(kept.list(None, usize::MAX).len(), 1);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    }
}
