//! A vault in one sealed file.

use crate::{
    KdfCost, KeyId, Result, Vault, VaultError,
    format::{Keys, MAX_FILE_BYTES, Schedule, SealKey, Sealed, derive, random, seal},
    storage::{Lock, at, create_private, read_private, replace_private, sync_folder},
};
use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use cryptlet_seal::{
    SigningKey,
    evidence::{Expected, verify},
    key_binding, wrap,
};
use cryptlet_types::{Evidence, region::WrappedKey, report::CompactSignature};
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
/// [`Vault::create`] writes and syncs a small file on the calling thread (milliseconds); everything else
/// works in memory.
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
        let schedule = match unlock {
            Unlock::Password(_) => Schedule::password(cost)?,
            Unlock::KeyFile(_) => Schedule::KeyFile,
        };
        let key = seal_key(path, unlock, &schedule)?;
        let keys = Keys::new();
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

    /// Takes over a key that was made elsewhere, for example a transmitter's account that holds funds.
    ///
    /// # Errors
    /// [`VaultError::Exists`], [`VaultError::Seal`] if `secret` is no scalar, or that the vault could not be
    /// written.
    pub fn import(&self, key: &KeyId, secret: &Zeroizing<[u8; 32]>) -> Result<Address> {
        self.add(key, SigningKey::from_secret(secret)?)
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

    /// Adds a key; one that could not be written is not there.
    fn add(&self, id: &KeyId, key: SigningKey) -> Result<Address> {
        let mut keys = self.keys();
        if keys.contains_key(id) {
            return Err(VaultError::Exists(*id));
        }
        let address = key.address();
        keys.insert(*id, key);
        let written = seal(&self.schedule, &self.key, &keys)
            .and_then(|bytes| replace_private(&self.path, &bytes));
        if written.is_err() {
            keys.remove(id);
        }
        written.map(|()| address)
    }

    fn with_key<T>(&self, id: &KeyId, work: impl FnOnce(&SigningKey) -> Result<T>) -> Result<T> {
        work(self.keys().get(id).ok_or(VaultError::Unknown(*id))?)
    }
}

#[async_trait]
impl Vault for FileVault {
    async fn create(&self, key: &KeyId) -> Result<Address> {
        self.add(key, SigningKey::generate())
    }

    async fn address(&self, key: &KeyId) -> Result<Address> {
        self.with_key(key, |found| Ok(found.address()))
    }

    async fn sign(&self, key: &KeyId, digest: B256) -> Result<CompactSignature> {
        if let KeyId::Cryptlet(_) = key {
            return Err(VaultError::NotForSigning(*key));
        }
        self.with_key(key, |found| Ok(found.sign(digest)?))
    }

    async fn release(
        &self,
        key: &KeyId,
        evidence: &Evidence,
        expected: &Expected<'_>,
    ) -> Result<WrappedKey> {
        if !matches!(key, KeyId::Cryptlet(_)) {
            return Err(VaultError::NeverReleased(*key));
        }
        verify(evidence, expected).map_err(|source| VaultError::Refused { key: *key, source })?;
        let statement = &evidence.statement;
        self.with_key(key, |found| {
            let binding = key_binding(statement);
            Ok(wrap(
                statement.exchange_key,
                &binding,
                found.secret().as_slice(),
            )?)
        })
    }

    async fn list(&self) -> Result<Vec<(KeyId, Address)>> {
        let address = |(id, key): (&KeyId, &SigningKey)| (*id, key.address());
        Ok(self.keys().iter().map(address).collect())
    }
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
