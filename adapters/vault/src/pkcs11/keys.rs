//! The keys of a token during one session.

use super::{
    object::{ObjectId, PRIVATE_ATTRIBUTES, find_private, read_point},
    token::failed,
};
use crate::{
    KeyId, KeyRecord, Result, VaultError,
    format::random,
    key_id::{address_of, records},
    keys::Which,
};
use alloy_primitives::{Address, B256};
use cryptlet_seal::{SealError, check};
use cryptlet_types::{CryptletId, report::CompactSignature};
use cryptoki::{
    error::{Error, RvError},
    mechanism::Mechanism,
    object::{Attribute, AttributeType, ObjectHandle},
    session::Session,
};
use k256::ecdsa::Signature;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, thread, time::Duration};

/// How often a token is looked at, and how long after each time, until what another host is doing there must be done.
const LOOKS: usize = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// A key pair whose private half is in the token.
#[derive(Clone, Copy)]
pub(super) struct TokenKey {
    object: ObjectId,
    private: ObjectHandle,
    public: ObjectHandle,
    point: [u8; 65],
}

impl TokenKey {
    pub(super) fn address(&self) -> Address {
        address_of(&self.point)
    }

    /// The uncompressed public key.
    pub(super) fn point(&self) -> &[u8; 65] {
        &self.point
    }
}

/// A session that is logged in, and the keys that it found. Another host may have added some since: whoever
/// misses one looks again.
pub(super) struct TokenKeys {
    session: Session,
    /// From the oldest to the newest; never an empty list.
    keys: BTreeMap<KeyId, Vec<TokenKey>>,
}

impl TokenKeys {
    pub(super) fn load(session: Session) -> Result<Self> {
        let keys = BTreeMap::new();
        let mut loaded = Self { session, keys };
        loaded.reload()?;
        Ok(loaded)
    }

    /// Looks at the token again. A key that another host is making, or takes away again, looks wrong for a moment: what
    /// is wrong is looked at once more before it is believed.
    pub(super) fn reload(&mut self) -> Result<()> {
        for _ in 1..LOOKS {
            match self.look() {
                Err(VaultError::TokenKey { .. }) => thread::sleep(PAUSE),
                looked => return looked.map(|keys| self.keys = keys),
            }
        }
        self.keys = self.look()?;
        Ok(())
    }

    fn look(&self) -> Result<BTreeMap<KeyId, Vec<TokenKey>>> {
        let mut found: Vec<_> = self
            .private_keys()?
            .into_iter()
            .map(|private| self.read(private))
            .filter_map(Result::transpose)
            .collect::<Result<_>>()?;
        found.sort_by_key(|key| key.object);
        let mut all: BTreeMap<_, Vec<TokenKey>> = BTreeMap::new();
        for key in found {
            let keys = all.entry(key.object.id).or_default();
            if !keys.is_empty() && is_single(key.object.id) {
                return Err(key
                    .object
                    .unusable("the token holds two, and one was meant"));
            }
            keys.push(key);
        }
        Ok(all)
    }

    fn private_keys(&self) -> Result<Vec<ObjectHandle>> {
        self.session.find_objects(&find_private()).map_err(failed)
    }

    /// What the name of a private key says; `None` for another program's, and for one that was just taken away.
    fn object(&self, private: ObjectHandle) -> Result<Option<ObjectId>> {
        let found = self.session.get_attributes(private, &[AttributeType::Id]);
        match found {
            Err(Error::Pkcs11(RvError::ObjectHandleInvalid, _)) => Ok(None),
            Err(error) => Err(failed(error)),
            Ok(name) => Ok(match name.as_slice() {
                [Attribute::Id(name)] => ObjectId::from_bytes(name),
                _ => None,
            }),
        }
    }

    /// Reads a private key and its public half; `None` for another program's.
    fn read(&self, private: ObjectHandle) -> Result<Option<TokenKey>> {
        let Some(object) = self.object(private)? else {
            return Ok(None);
        };
        object.check_private(&self.attributes(private, &PRIVATE_ATTRIBUTES)?)?;
        let public = self.session.find_objects(&object.find_public());
        let &[public] = public.map_err(failed)?.as_slice() else {
            return Err(object.unusable("it has not exactly one public half"));
        };
        let curve = self.attributes(public, &[AttributeType::EcParams])?;
        if curve != [Attribute::EcParams(object.curve())] {
            return Err(object.unusable("it is on another curve"));
        }
        let point = self.attributes(public, &[AttributeType::EcPoint])?;
        let point = match point.as_slice() {
            [Attribute::EcPoint(bytes)] => read_point(bytes),
            _ => None,
        };
        let point = point.ok_or_else(|| object.unusable("its public half is not a point"))?;
        Ok(Some(TokenKey {
            object,
            private,
            public,
            point,
        }))
    }

    fn attributes(&self, of: ObjectHandle, which: &[AttributeType]) -> Result<Vec<Attribute>> {
        self.session.get_attributes(of, which).map_err(failed)
    }

    /// What `find` finds, at the second look if not at the first.
    fn find(
        &mut self,
        find: impl Fn(&BTreeMap<KeyId, Vec<TokenKey>>) -> Option<TokenKey>,
    ) -> Result<Option<TokenKey>> {
        if let Some(key) = find(&self.keys) {
            return Ok(Some(key));
        }
        self.reload()?;
        Ok(find(&self.keys))
    }

    /// The newest key of `id`.
    pub(super) fn newest(&mut self, id: &KeyId) -> Result<TokenKey> {
        self.find(|keys| keys.get(id)?.last().copied())?
            .ok_or(VaultError::Unknown(*id))
    }

    /// The key of `cryptlet` that signs as `signer`.
    pub(super) fn signer(&mut self, cryptlet: CryptletId, signer: Address) -> Result<TokenKey> {
        let id = KeyId::Cryptlet(cryptlet);
        self.find(|keys| {
            let mut all = keys.get(&id)?.iter();
            all.find(|key| key.address() == signer).copied()
        })?
        .ok_or(VaultError::UnknownSigner { cryptlet, signer })
    }

    /// Makes a key pair in the token. It is believed only if the token says of it what it says of all others.
    pub(super) fn create(&mut self, id: KeyId) -> Result<Address> {
        self.reload()?;
        let newest = self.keys.get(&id).and_then(|keys| keys.last());
        if newest.is_some() && is_single(id) {
            return Err(VaultError::Exists(id));
        }
        let number = match newest {
            None => 1,
            Some(key) => key.object.number.checked_add(1).ok_or(VaultError::Full)?,
        };
        let tail = random()?;
        let object = ObjectId { id, number, tail };
        let (public, private) = self
            .session
            .generate_key_pair(
                &Mechanism::EccKeyPairGen,
                &object.public_template(),
                &object.private_template(),
            )
            .map_err(failed)?;
        match self.believed(object, private) {
            Ok(key) => {
                self.keys.entry(id).or_default().push(key);
                Ok(key.address())
            }
            Err(error) => {
                let _ = self.session.destroy_object(private);
                let _ = self.session.destroy_object(public);
                Err(error)
            }
        }
    }

    /// The key that was just made as `object`.
    fn believed(&self, object: ObjectId, private: ObjectHandle) -> Result<TokenKey> {
        let key = self.read(private)?;
        let key = key.ok_or_else(|| object.unusable("the token gave it another name"))?;
        if is_single(object.id) {
            self.check_alone(object, private)?;
        }
        Ok(key)
    }

    /// Two hosts that start on one fresh token both find no key, and both make one. A key stays only if it was seen
    /// alone after it was made: of two, whoever looks last sees both, so never do both stay.
    ///
    /// Of two that see each other the one of the larger object id gives way at once, and the other waits for that. If it
    /// waits in vain, the other key was seen alone before this one was made: then this one gives way.
    fn check_alone(&self, own: ObjectId, private: ObjectHandle) -> Result<()> {
        for _ in 0..LOOKS {
            match self.rivals(own.id, private)?.into_iter().min() {
                None => return Ok(()),
                Some(rival) if rival < own => break,
                Some(_) => thread::sleep(PAUSE),
            }
        }
        Err(VaultError::Exists(own.id))
    }

    /// Keys of `id` beside the one at `private`.
    fn rivals(&self, id: KeyId, private: ObjectHandle) -> Result<Vec<ObjectId>> {
        let mut rivals = Vec::new();
        for other in self.private_keys()? {
            if other != private {
                rivals.extend(self.object(other)?.filter(|object| object.id == id));
            }
        }
        Ok(rivals)
    }

    /// Destroys a key of `cryptlet`: an earlier one, or any.
    pub(super) fn destroy(
        &mut self,
        cryptlet: CryptletId,
        signer: Address,
        which: Which,
    ) -> Result<()> {
        // Another host may have added a newer one: what is current here may be earlier by now, never the reverse.
        self.reload()?;
        let key = self.signer(cryptlet, signer)?;
        let newest = self.newest(&KeyId::Cryptlet(cryptlet))?;
        if which == Which::Earlier && newest.object == key.object {
            return Err(VaultError::StillCurrent { cryptlet, signer });
        }
        // In this order: a public half without a private one is nobody's key.
        self.session.destroy_object(key.private).map_err(failed)?;
        let left = self.session.destroy_object(key.public).map_err(failed);
        self.reload()?;
        left
    }

    /// Signs 32 bytes as chains check it. Tokens give either s and no recovery bit; the lower s is taken, and
    /// the bit that recovers to the key's own address.
    pub(super) fn sign(&self, key: &TokenKey, digest: B256) -> Result<CompactSignature> {
        let raw = self.raw_signature(key, digest.as_slice())?;
        let signature = Signature::from_slice(&raw).map_err(|_| SealError::MalformedSignature)?;
        let signature = signature.normalize_s().unwrap_or(signature);
        let (r, s) = signature.split_bytes();
        let compact = |odd: u8| {
            let mut vs: [u8; 32] = s.into();
            if let Some(first) = vs.first_mut() {
                *first |= odd;
            }
            CompactSignature {
                r: B256::from(<[u8; 32]>::from(r)),
                vs: B256::from(vs),
            }
        };
        let even = compact(0);
        if check(digest, &even, key.address()).is_ok() {
            return Ok(even);
        }
        let odd = compact(0x80);
        check(digest, &odd, key.address())?;
        Ok(odd)
    }

    /// Signs with P-256 and SHA-256; DER. What the public key does not confirm is not given out.
    pub(super) fn sign_authority(&self, key: &TokenKey, message: &[u8]) -> Result<Vec<u8>> {
        let malformed = |_| SealError::MalformedSignature;
        let digest = Sha256::digest(message);
        let raw = self.raw_signature(key, &digest)?;
        let signature = p256::ecdsa::Signature::from_slice(&raw).map_err(malformed)?;
        let public = p256::ecdsa::VerifyingKey::from_sec1_bytes(&key.point).map_err(malformed)?;
        public
            .verify_prehash(&digest, &signature)
            .map_err(malformed)?;
        Ok(signature.to_der().as_bytes().to_vec())
    }

    /// ECDSA over a hash: r and s, one after the other.
    fn raw_signature(&self, key: &TokenKey, digest: &[u8]) -> Result<Vec<u8>> {
        self.session
            .sign(&Mechanism::Ecdsa, key.private, digest)
            .map_err(failed)
    }

    pub(super) fn records(&self) -> Vec<KeyRecord> {
        self.keys
            .iter()
            .flat_map(|(id, keys)| records(*id, keys.iter().map(|key| key.point)))
            .collect()
    }
}

/// Whether a token holds at most one key of this kind.
fn is_single(id: KeyId) -> bool {
    !matches!(id, KeyId::Cryptlet(_))
}
