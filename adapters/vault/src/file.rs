//! A vault in one sealed file.

use crate::{
    KdfCost, KeyId, KeyRecord, Result, Vault, VaultError, approve,
    format::{
        MAX_FILE_BYTES, Schedule, SealKey, Sealed, derive, open_secret, random, seal, seal_secret,
    },
    key_id::address_of,
    keys::{AuthorityKey, Keys, Which},
    storage::{Lock, at, create_private, read_private, replace_private, sync_folder},
};
use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use cryptlet_seal::{
    SigningKey,
    evidence::Expected,
    key_binding,
    sealed::{Release, Seal},
    wrap,
};
use cryptlet_types::{
    CryptletId, Evidence, Measurement, Sha256Digest,
    region::{KeyGrant, RegionStatement},
    report::CompactSignature,
};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};
use zeroize::Zeroizing;

/// What opens a sealed file.
pub enum Unlock {
    /// A password, stretched by Argon2id.
    Password(Zeroizing<String>),
    /// A file of 32 random bytes that only its owner may read ([`FileVault::create_key_file`]).
    KeyFile(PathBuf),
}

impl fmt::Debug for Unlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password(_) => f.write_str("Password"),
            Self::KeyFile(path) => f.debug_tuple("KeyFile").field(path).finish(),
        }
    }
}

/// Keys in one sealed file (layout: see the source of `format`), open in one process at a time. Writes are atomic:
/// a process that is killed, or a disk that is full, leaves the old file.
///
/// [`Vault::create`], [`Vault::retire`], [`Vault::discard`], [`Vault::advance`], [`Vault::reset_sealed`], the first
/// [`Vault::seal_secret`] and the first [`Vault::grant`] for a measurement write and sync a small file on the calling thread
/// (milliseconds); everything else works in memory.
pub struct FileVault {
    path: PathBuf,
    schedule: Schedule,
    key: SealKey,
    keys: Mutex<Keys>,
    _lock: Lock,
}

impl fmt::Debug for FileVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileVault")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl FileVault {
    /// Makes an empty vault at `path`, sealed with `unlock` at the default cost. With a password this takes
    /// a fraction of a second: call it where blocking is allowed.
    ///
    /// # Errors
    /// [`VaultError::FileExists`], [`VaultError::InUse`], [`VaultError::EmptyPassword`], or what is wrong with
    /// the key file.
    pub fn create(path: &Path, unlock: &Unlock) -> Result<Self> {
        Self::create_with(path, unlock, KdfCost::default())
    }

    /// [`FileVault::create`] with another cost of the key derivation. The cost is kept in the file.
    ///
    /// # Errors
    /// As [`FileVault::create`], and [`VaultError::Cost`].
    pub fn create_with(path: &Path, unlock: &Unlock, cost: KdfCost) -> Result<Self> {
        let lock = Lock::take(path)?;
        if path.try_exists().map_err(at(path))? {
            return Err(VaultError::FileExists(path.to_owned()));
        }
        let (schedule, key) = fresh_key(path, unlock, cost)?;
        let keys = Keys::default();
        replace_private(path, &seal(&schedule, &key, &keys)?)?;
        Ok(Self::over(path, schedule, key, keys, lock))
    }

    /// Opens the vault at `path`. With a password this takes a fraction of a second: call it where
    /// blocking is allowed.
    ///
    /// # Errors
    /// [`VaultError::Locked`] if the secret is wrong or the file was altered, [`VaultError::InUse`],
    /// [`VaultError::Exposed`], [`VaultError::NotAVault`], [`VaultError::OtherUnlock`], [`VaultError::Io`] (a file that is
    /// not there is not made).
    pub fn open(path: &Path, unlock: &Unlock) -> Result<Self> {
        let lock = Lock::take(path)?;
        let bytes = read_private(path, MAX_FILE_BYTES)?.ok_or_else(|| VaultError::NotAVault {
            path: path.to_owned(),
            reason: "it is larger than 1 MiB",
        })?;
        let sealed = Sealed::parse(&bytes, path)?;
        let schedule = sealed.schedule;
        let key = seal_key(path, unlock, &schedule)?;
        let keys = sealed
            .open(&key)
            .ok_or_else(|| VaultError::Locked(path.to_owned()))?;
        Ok(Self::over(path, schedule, key, keys, lock))
    }

    /// Makes a key file: 32 random bytes, mode 0600. Never overwrites one.
    ///
    /// # Errors
    /// [`VaultError::FileExists`] or [`VaultError::Io`].
    pub fn create_key_file(path: &Path) -> Result<()> {
        let secret = Zeroizing::new(random::<32>()?);
        create_private(path, secret.as_slice())?;
        sync_folder(path)
    }

    /// Takes over a key that was made elsewhere, for example a transmitter's account that holds funds. A
    /// cryptlet's becomes its current one.
    ///
    /// # Errors
    /// [`VaultError::Exists`], [`VaultError::NotForSigning`] for the authority, which is made here only,
    /// [`VaultError::Seal`] if `secret` is no scalar, or that the vault could not be written.
    pub fn import(&self, key: &KeyId, secret: &Zeroizing<[u8; 32]>) -> Result<Address> {
        if *key == KeyId::Authority {
            return Err(VaultError::NotForSigning(*key));
        }
        self.add(key, SigningKey::from_secret(secret)?)
    }

    /// Changes what opens the vault. Copies of the file that were made before still open with the old secret:
    /// after a leak, make new keys as well. With a password this takes a fraction of a second.
    ///
    /// # Errors
    /// As [`FileVault::create_with`]; then the old secret still opens the file. After [`VaultError::Unsynced`] the new one
    /// does.
    pub fn rekey(&mut self, unlock: &Unlock, cost: KdfCost) -> Result<()> {
        let (schedule, key) = fresh_key(&self.path, unlock, cost)?;
        let written = replace_private(&self.path, &seal(&schedule, &key, &self.keys())?);
        if is_in_place(&written) {
            self.schedule = schedule;
            self.key = key;
        }
        written
    }

    fn over(path: &Path, schedule: Schedule, key: SealKey, keys: Keys, lock: Lock) -> Self {
        Self {
            path: path.to_owned(),
            schedule,
            key,
            keys: Mutex::new(keys),
            _lock: lock,
        }
    }

    /// No caller can leave the keys half changed, so a panic elsewhere does not close the vault.
    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, keys: &Keys) -> Result<()> {
        replace_private(&self.path, &seal(&self.schedule, &self.key, keys)?)
    }

    fn add(&self, id: &KeyId, key: SigningKey) -> Result<Address> {
        let mut keys = self.keys();
        let address = key.address();
        keys.add(*id, key)?;
        self.write_added(&mut keys, id).map(|()| address)
    }

    fn add_authority(&self, key: AuthorityKey) -> Result<Address> {
        let mut keys = self.keys();
        let address = address_of(&key.public());
        keys.add_authority(key)?;
        let written = self.write_added(&mut keys, &KeyId::Authority);
        written.map(|()| address)
    }

    /// Writes the keys with one that was just added; if the old file stays in place, it is taken away again.
    fn write_added(&self, keys: &mut Keys, id: &KeyId) -> Result<()> {
        let written = self.write(keys);
        if !is_in_place(&written) {
            keys.undo_add(id);
        }
        written
    }

    /// The key that seals secrets, made at its first use.
    fn sealing_key(&self) -> Result<SealKey> {
        let mut keys = self.keys();
        if let Some(key) = keys.sealing() {
            return Ok(key.clone());
        }
        let key = Zeroizing::new(random()?);
        keys.set_sealing(Some(key.clone()));
        let written = self.write(&keys);
        if !is_in_place(&written) {
            keys.set_sealing(None);
        }
        written.map(|()| key)
    }

    /// The seal of a cryptlet under a measurement, made at its first use.
    fn seal_of(
        &self,
        keys: &mut Keys,
        cryptlet: CryptletId,
        measurement: Measurement,
    ) -> Result<Seal> {
        if let Ok(seal) = keys.seal(cryptlet, measurement) {
            return Ok(seal.clone());
        }
        let seal = Seal::new(cryptlet, Zeroizing::new(random()?));
        self.write_seal(keys, cryptlet, measurement, Some(seal.clone()))?;
        Ok(seal)
    }

    /// Writes the keys with another seal, or with none; if the old file stays in place, so does what there was.
    fn write_seal(
        &self,
        keys: &mut Keys,
        cryptlet: CryptletId,
        measurement: Measurement,
        seal: Option<Seal>,
    ) -> Result<()> {
        let before = keys.set_seal(cryptlet, measurement, seal);
        let written = self.write(keys);
        if !is_in_place(&written) {
            keys.set_seal(cryptlet, measurement, before);
        }
        written
    }

    fn destroy(&self, cryptlet: CryptletId, signer: Address, which: Which) -> Result<()> {
        let mut keys = self.keys();
        let (place, key) = keys.remove(cryptlet, signer, which)?;
        let written = self.write(&keys);
        if !is_in_place(&written) {
            keys.put_back(cryptlet, place, key);
        }
        written
    }
}

#[async_trait]
impl Vault for FileVault {
    async fn create(&self, key: &KeyId) -> Result<Address> {
        match key {
            KeyId::Authority => self.add_authority(AuthorityKey::generate()),
            _ => self.add(key, SigningKey::generate()),
        }
    }

    async fn address(&self, key: &KeyId) -> Result<Address> {
        let keys = self.keys();
        match key {
            KeyId::Authority => Ok(address_of(&keys.authority()?.public())),
            _ => Ok(keys.newest(key)?.address()),
        }
    }

    async fn sign(&self, key: &KeyId, digest: B256) -> Result<CompactSignature> {
        if !matches!(key, KeyId::Host | KeyId::Transmitter) {
            return Err(VaultError::NotForSigning(*key));
        }
        Ok(self.keys().newest(key)?.sign(digest)?)
    }

    async fn grant(
        &self,
        cryptlet: CryptletId,
        signer: Address,
        evidence: &Evidence,
        expected: &Expected<'_>,
    ) -> Result<KeyGrant> {
        approve::region(cryptlet, evidence, expected)?;
        let statement = &evidence.statement;
        let mut keys = self.keys();
        let key = keys.signer(cryptlet, signer)?.secret();
        let seal = self.seal_of(&mut keys, cryptlet, statement.measurement)?;
        let seal = Some(seal);
        let release = Release { key, seal }.to_bytes();
        let wrapped = wrap(statement.exchange_key, &key_binding(statement), &release)?;
        Ok(KeyGrant::Wrapped(wrapped))
    }

    async fn sign_report(
        &self,
        cryptlet: CryptletId,
        _signer: Address,
        _evidence: &Evidence,
        _expected: &Expected<'_>,
        _statement: &RegionStatement,
        _region_signature: &CompactSignature,
    ) -> Result<CompactSignature> {
        Err(VaultError::NotForSigning(KeyId::Cryptlet(cryptlet)))
    }

    async fn retire(&self, cryptlet: CryptletId, signer: Address) -> Result<()> {
        self.destroy(cryptlet, signer, Which::Earlier)
    }

    async fn discard(&self, cryptlet: CryptletId, signer: Address) -> Result<()> {
        self.destroy(cryptlet, signer, Which::Any)
    }

    async fn authority_public(&self) -> Result<[u8; 65]> {
        Ok(self.keys().authority()?.public())
    }

    async fn sign_authority(&self, message: &[u8]) -> Result<Vec<u8>> {
        self.keys().authority()?.sign(message)
    }

    async fn list(&self) -> Result<Vec<KeyRecord>> {
        Ok(self.keys().records())
    }

    async fn seal_secret(&self, context: &str, secret: &[u8]) -> Result<Vec<u8>> {
        seal_secret(&self.sealing_key()?, context, secret)
    }

    async fn open_secret(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let keys = self.keys();
        let opened = keys
            .sealing()
            .and_then(|key| open_secret(key, context, sealed));
        opened.ok_or_else(|| VaultError::NotSealedHere(context.to_owned()))
    }

    async fn last_image(
        &self,
        cryptlet: CryptletId,
        measurement: Measurement,
    ) -> Result<Option<Sha256Digest>> {
        let keys = self.keys();
        let seal = keys.seal(cryptlet, measurement).ok();
        let last = seal.filter(|seal| seal.counter > 0);
        Ok(last.map(|seal| seal.image))
    }

    async fn advance(
        &self,
        cryptlet: CryptletId,
        measurement: Measurement,
        image: &[u8],
    ) -> Result<u64> {
        let mut keys = self.keys();
        let seal = keys.seal(cryptlet, measurement)?;
        let next = seal
            .succeeded_by(measurement, image)
            .map_err(|source| VaultError::Image { cryptlet, source })?;
        let counter = next.counter;
        self.write_seal(&mut keys, cryptlet, measurement, Some(next))?;
        Ok(counter)
    }

    async fn reset_sealed(&self, cryptlet: CryptletId, measurement: Measurement) -> Result<()> {
        let mut keys = self.keys();
        keys.seal(cryptlet, measurement)?;
        self.write_seal(&mut keys, cryptlet, measurement, None)
    }
}

/// Whether the file holds what was written: what is in memory must say the same.
fn is_in_place(written: &Result<()>) -> bool {
    matches!(written, Ok(()) | Err(VaultError::Unsynced { .. }))
}

/// A schedule for `unlock`, with a fresh salt, and the key that it gives.
fn fresh_key(path: &Path, unlock: &Unlock, cost: KdfCost) -> Result<(Schedule, SealKey)> {
    let schedule = match unlock {
        Unlock::Password(_) => Schedule::password(cost)?,
        Unlock::KeyFile(_) => Schedule::KeyFile,
    };
    let key = seal_key(path, unlock, &schedule)?;
    Ok((schedule, key))
}

/// The key that `unlock` gives for the file at `path`.
fn seal_key(path: &Path, unlock: &Unlock, schedule: &Schedule) -> Result<SealKey> {
    let other = |wanted| VaultError::OtherUnlock {
        path: path.to_owned(),
        wanted,
    };
    match (unlock, schedule) {
        (Unlock::Password(password), Schedule::Password { cost, salt }) => {
            derive(password, *cost, salt)
        }
        (Unlock::KeyFile(file), Schedule::KeyFile) => read_key_file(file),
        (Unlock::KeyFile(_), Schedule::Password { .. }) => Err(other("a password")),
        (Unlock::Password(_), Schedule::KeyFile) => Err(other("a key file")),
    }
}

fn read_key_file(path: &Path) -> Result<SealKey> {
    let bytes = read_private(path, 32)?;
    let mut key = Zeroizing::new([0; 32]);
    match bytes {
        Some(bytes) if bytes.len() == key.len() => key.copy_from_slice(&bytes),
        _ => return Err(VaultError::NotAKeyFile(path.to_owned())),
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::tests::FAILS;

    fn unsynced<T: fmt::Debug>(done: Result<T>) {
        assert!(matches!(done, Err(VaultError::Unsynced { .. })), "{done:?}");
    }

    /// What is in memory is what a restart finds.
    #[tokio::test]
    async fn a_change_that_is_on_disk_stays_though_the_folder_cannot_be_synchronised() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let unlock = |name: &str| Unlock::KeyFile(at(name));
        for name in ["old", "new"] {
            FileVault::create_key_file(&at(name)).unwrap();
        }
        let id = CryptletId(Address::repeat_byte(1));
        let mut vault = FileVault::create(&at("vault"), &unlock("old")).unwrap();
        let earlier = vault.create(&KeyId::Cryptlet(id)).await.unwrap();
        vault.create(&KeyId::Cryptlet(id)).await.unwrap();

        FAILS.set(true);
        unsynced(vault.create(&KeyId::Host).await);
        unsynced(vault.create(&KeyId::Authority).await);
        unsynced(vault.retire(id, earlier).await);
        unsynced(vault.rekey(&unlock("new"), KdfCost::default()));
        FAILS.set(false);
        let listed = vault.list().await.unwrap();
        assert_eq!(listed.len(), 3);
        let again = vault.create(&KeyId::Host).await;
        assert!(matches!(again, Err(VaultError::Exists(KeyId::Host))));
        drop(vault);
        let mut vault = FileVault::open(&at("vault"), &unlock("new")).unwrap();
        assert_eq!(vault.list().await.unwrap(), listed);
        // What is written after a change of the secret is sealed by the new one.
        FAILS.set(true);
        unsynced(vault.rekey(&unlock("old"), KdfCost::default()));
        FAILS.set(false);
        vault.create(&KeyId::Transmitter).await.unwrap();
        drop(vault);
        FileVault::open(&at("vault"), &unlock("old")).unwrap();
    }
}
