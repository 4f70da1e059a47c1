//! The keys of an open sealed file.

use crate::{KeyId, KeyRecord, Result, VaultError, key_id::records};
use alloy_primitives::Address;
use cryptlet_seal::{SigningKey, sealed::Seal};
use cryptlet_types::{CryptletId, Measurement};
use p256::{ecdsa::DerSignature, ecdsa::signature::Signer, elliptic_curve::rand_core::OsRng};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// The authority's private key. It is wiped when dropped.
pub(crate) struct AuthorityKey(p256::ecdsa::SigningKey);

impl AuthorityKey {
    pub(crate) fn generate() -> Self {
        Self(p256::ecdsa::SigningKey::random(&mut OsRng))
    }

    /// `None` for zero and for anything not below the group's order.
    pub(crate) fn from_secret(secret: &[u8; 32]) -> Option<Self> {
        let key = p256::ecdsa::SigningKey::from_bytes(secret.into());
        key.ok().map(Self)
    }

    pub(crate) fn secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes().into())
    }

    /// The uncompressed point.
    pub(crate) fn public(&self) -> [u8; 65] {
        let point = self.0.verifying_key().to_encoded_point(false);
        let mut bytes = [0; 65];
        // A point that is not compressed has 65 bytes.
        for (to, from) in bytes.iter_mut().zip(point.as_bytes()) {
            *to = *from;
        }
        bytes
    }

    /// ECDSA with SHA-256, deterministic (RFC 6979), DER.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let signature: DerSignature = self
            .0
            .try_sign(message)
            .map_err(|_| cryptlet_seal::SealError::MalformedSignature)?;
        Ok(signature.as_bytes().to_vec())
    }
}

/// Which keys of a cryptlet may be destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// All but the current one.
    Earlier,
    /// The current one as well.
    Any,
}

/// The keys of an open vault.
#[derive(Default)]
pub(crate) struct Keys {
    /// From the oldest to the newest; never an empty list.
    signing: BTreeMap<KeyId, Vec<SigningKey>>,
    authority: Option<AuthorityKey>,
    /// Seals what others gave the host to keep. It signs nothing, and so has no [`KeyId`].
    sealing: Option<Zeroizing<[u8; 32]>>,
    /// What seals regions' states. Each is its cryptlet's.
    seals: BTreeMap<(CryptletId, Measurement), Seal>,
}

impl Keys {
    /// Keys that are no seals.
    pub(crate) fn len(&self) -> usize {
        let signing: usize = self.signing.values().map(Vec::len).sum();
        signing + usize::from(self.authority.is_some()) + usize::from(self.sealing.is_some())
    }

    /// Every measurement with a seal, in order.
    pub(crate) fn seals(&self) -> impl ExactSizeIterator<Item = (Measurement, &Seal)> {
        self.seals
            .iter()
            .map(|((_, measurement), seal)| (*measurement, seal))
    }

    pub(crate) fn seal(&self, cryptlet: CryptletId, measurement: Measurement) -> Result<&Seal> {
        let none = VaultError::NoSeal {
            cryptlet,
            measurement,
        };
        self.seals.get(&(cryptlet, measurement)).ok_or(none)
    }

    /// Puts a seal, or none, in the place of what there was, which it returns.
    pub(crate) fn set_seal(
        &mut self,
        cryptlet: CryptletId,
        measurement: Measurement,
        seal: Option<Seal>,
    ) -> Option<Seal> {
        let place = (cryptlet, measurement);
        match seal {
            Some(seal) => self.seals.insert(place, seal),
            None => self.seals.remove(&place),
        }
    }

    /// Every id with its keys, in order, without the authority.
    pub(crate) fn signing(&self) -> impl Iterator<Item = (&KeyId, &SigningKey)> {
        self.signing
            .iter()
            .flat_map(|(id, keys)| keys.iter().map(move |key| (id, key)))
    }

    pub(crate) fn authority(&self) -> Result<&AuthorityKey> {
        let unknown = VaultError::Unknown(KeyId::Authority);
        self.authority.as_ref().ok_or(unknown)
    }

    pub(crate) fn sealing(&self) -> Option<&Zeroizing<[u8; 32]>> {
        self.sealing.as_ref()
    }

    pub(crate) fn set_sealing(&mut self, key: Option<Zeroizing<[u8; 32]>>) {
        self.sealing = key;
    }

    /// The newest key of `id`.
    pub(crate) fn newest(&self, id: &KeyId) -> Result<&SigningKey> {
        let newest = self.signing.get(id).and_then(|keys| keys.last());
        newest.ok_or(VaultError::Unknown(*id))
    }

    /// The key of `cryptlet` that signs as `signer`.
    pub(crate) fn signer(&self, cryptlet: CryptletId, signer: Address) -> Result<&SigningKey> {
        self.signing
            .get(&KeyId::Cryptlet(cryptlet))
            .and_then(|keys| keys.iter().find(|key| key.address() == signer))
            .ok_or(VaultError::UnknownSigner { cryptlet, signer })
    }

    /// Adds a key as the newest of its id.
    pub(crate) fn add(&mut self, id: KeyId, key: SigningKey) -> Result<()> {
        let several = matches!(id, KeyId::Cryptlet(_));
        let keys = self.signing.get(&id).map_or(&[][..], Vec::as_slice);
        let twice = keys.iter().any(|found| found.address() == key.address());
        if id == KeyId::Authority || twice || (!keys.is_empty() && !several) {
            return Err(VaultError::Exists(id));
        }
        self.signing.entry(id).or_default().push(key);
        Ok(())
    }

    pub(crate) fn add_authority(&mut self, key: AuthorityKey) -> Result<()> {
        if self.authority.is_some() {
            return Err(VaultError::Exists(KeyId::Authority));
        }
        self.authority = Some(key);
        Ok(())
    }

    /// Takes the newest key of `id` away again.
    pub(crate) fn undo_add(&mut self, id: &KeyId) {
        if *id == KeyId::Authority {
            self.authority = None;
        }
        if let Some(keys) = self.signing.get_mut(id) {
            keys.pop();
            if keys.is_empty() {
                self.signing.remove(id);
            }
        }
    }

    /// Takes a key of `cryptlet` out, with its place in the order: an earlier one, or any.
    pub(crate) fn remove(
        &mut self,
        cryptlet: CryptletId,
        signer: Address,
        which: Which,
    ) -> Result<(usize, SigningKey)> {
        let unknown = VaultError::UnknownSigner { cryptlet, signer };
        let id = KeyId::Cryptlet(cryptlet);
        let Some(keys) = self.signing.get_mut(&id) else {
            return Err(unknown);
        };
        let found = keys.iter().position(|key| key.address() == signer);
        let place = found.ok_or(unknown)?;
        if which == Which::Earlier && place + 1 == keys.len() {
            return Err(VaultError::StillCurrent { cryptlet, signer });
        }
        let key = keys.remove(place);
        if keys.is_empty() {
            self.signing.remove(&id);
        }
        Ok((place, key))
    }

    /// Puts back what [`Keys::remove`] took out.
    pub(crate) fn put_back(&mut self, cryptlet: CryptletId, place: usize, key: SigningKey) {
        let keys = self.signing.entry(KeyId::Cryptlet(cryptlet)).or_default();
        keys.insert(place.min(keys.len()), key);
    }

    pub(crate) fn records(&self) -> Vec<KeyRecord> {
        let mut all: Vec<_> = self
            .signing
            .iter()
            .flat_map(|(id, keys)| records(*id, keys.iter().map(SigningKey::public)))
            .collect();
        if let Some(key) = &self.authority {
            all.extend(records(KeyId::Authority, [key.public()].into_iter()));
            // Stable: a cryptlet's keys stay in the order of their making.
            all.sort_by_key(|record| record.id);
        }
        all
    }
}
