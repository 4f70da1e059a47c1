//! Bytes of a sealed vault, version 2.
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 7 | `CRVAULT` |
//! | 7 | 1 | version: 2 |
//! | 8 | 1 | unlock: 1 password (Argon2id, RFC 9106), 2 key file |
//! | 9 | 12 | memory in KiB, passes, lanes (big-endian `u32` each); zero with a key file |
//! | 21 | 16 | salt; zero with a key file |
//! | 37 | 24 | nonce, fresh at every write |
//! | 61 | … | keys, encrypted with XChaCha20-Poly1305; the 61 bytes before are associated data |
//!
//! Decrypted: 53 bytes a key: kind (1 host, 2 transmitter, 3 cryptlet, 4 authority, 5 sealing, 6 seal of a region's state),
//! registration address (20 bytes, zero unless kind 3 or 6), secret scalar (32 bytes; of P-256 for kind 4, for kinds 5 and 6 a
//! key of XChaCha20-Poly1305, else of secp256k1). A seal has 72 bytes more: measurement (32), counter of the last image
//! (big-endian `u64`), SHA-256 of the last image (32; zero as long as the counter is). The entries of
//! one cryptlet's keys stand in the order in which they were made: the last is current. Nothing protects against an
//! older copy of the same file being put back: that loses later keys and brings retired ones back, which the
//! register knows as revoked, and sets the counters of seals back.

use crate::{
    KeyId, Result, VaultError,
    keys::{AuthorityKey, Keys},
};
use alloy_primitives::Address;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce, aead::Aead, aead::Payload};
use cryptlet_seal::{SigningKey, sealed::Seal};
use cryptlet_types::{CryptletId, Measurement, Sha256Digest};
use rand::{TryRngCore, rngs::OsRng};
use std::path::Path;
use zeroize::Zeroizing;

/// A symmetric key, wiped when dropped.
pub(crate) type SealKey = Zeroizing<[u8; 32]>;

/// Largest file that is read: room for about 19,000 keys, or 8,000 seals.
pub(crate) const MAX_FILE_BYTES: usize = 1 << 20;
const MAGIC: &[u8; 7] = b"CRVAULT";
const VERSION: u8 = 2;
const HEADER_BYTES: usize = 61;
const ENTRY_BYTES: usize = 53;
const SEAL_BYTES: usize = ENTRY_BYTES + 72;
const TAG_BYTES: usize = 16;
/// Bytes of a nonce of XChaCha20-Poly1305.
const NONCE_BYTES: usize = 24;
const MAX_PLAIN_BYTES: usize = MAX_FILE_BYTES - HEADER_BYTES - TAG_BYTES;

/// What deriving a key from a password costs (Argon2id, RFC 9106).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KdfCost {
    /// Memory in KiB: at least 8 for each lane, at most 1 GiB.
    pub memory_kib: u32,
    /// Passes over the memory: 1 to 16.
    pub passes: u32,
    /// Lanes: 1 to 16.
    pub lanes: u32,
}

impl Default for KdfCost {
    /// RFC 9106's second recommendation, above OWASP's minimum: 64 MiB, 3 passes, 4 lanes.
    fn default() -> Self {
        Self {
            memory_kib: 64 << 10,
            passes: 3,
            lanes: 4,
        }
    }
}

/// The key schedule of a file: everything in its header but the nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Schedule {
    Password { cost: KdfCost, salt: [u8; 16] },
    KeyFile,
}

impl Schedule {
    /// A password's schedule with a fresh salt.
    pub(crate) fn password(cost: KdfCost) -> Result<Self> {
        let salt = random()?;
        Ok(Self::Password { cost, salt })
    }

    fn header(&self, nonce: &[u8; 24]) -> Vec<u8> {
        let (unlock, cost, salt) = match self {
            Self::Password { cost, salt } => (
                1u8,
                [cost.memory_kib, cost.passes, cost.lanes].map(u32::to_be_bytes),
                *salt,
            ),
            Self::KeyFile => (2, [[0; 4]; 3], [0; 16]),
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend([VERSION, unlock]);
        bytes.extend(cost.concat());
        bytes.extend(salt);
        bytes.extend(nonce);
        bytes
    }
}

/// A file that was split into its parts and not believed yet.
pub(crate) struct Sealed<'b> {
    pub(crate) schedule: Schedule,
    header: &'b [u8],
    nonce: [u8; 24],
    body: &'b [u8],
}

/// Takes exactly `N` bytes off the front.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

impl<'b> Sealed<'b> {
    /// Reads the header of the file at `path`.
    pub(crate) fn parse(bytes: &'b [u8], path: &Path) -> Result<Self> {
        let not = |reason| VaultError::NotAVault {
            path: path.to_owned(),
            reason,
        };
        let short = || not("it is cut short");
        let (header, body) = bytes.split_at_checked(HEADER_BYTES).ok_or_else(short)?;
        let mut rest = header;
        if take(&mut rest) != Some(*MAGIC) {
            return Err(not("it begins otherwise"));
        }
        let [version, unlock] = take(&mut rest).ok_or_else(short)?;
        if version != VERSION {
            let path = path.to_owned();
            return Err(VaultError::OtherVersion {
                path,
                found: version,
            });
        }
        let mut word = || take(&mut rest).map(u32::from_be_bytes).ok_or_else(short);
        let cost = KdfCost {
            memory_kib: word()?,
            passes: word()?,
            lanes: word()?,
        };
        let salt: [u8; 16] = take(&mut rest).ok_or_else(short)?;
        let nonce = take(&mut rest).ok_or_else(short)?;
        let schedule = match unlock {
            1 => Schedule::Password { cost, salt },
            2 => Schedule::KeyFile,
            _ => return Err(not("its kind of secret is not known")),
        };
        Ok(Self {
            schedule,
            header,
            nonce,
            body,
        })
    }

    /// Decrypts the keys. `None` if key and file do not fit.
    pub(crate) fn open(&self, key: &SealKey) -> Option<Keys> {
        let payload = Payload {
            msg: self.body,
            aad: self.header,
        };
        let plain = cipher(key)
            .decrypt(&XNonce::from(self.nonce), payload)
            .map(Zeroizing::new)
            .ok()?;
        read_keys(&plain)
    }
}

/// Encrypts `keys` with a fresh nonce.
pub(crate) fn seal(schedule: &Schedule, key: &SealKey, keys: &Keys) -> Result<Vec<u8>> {
    let plain = write_keys(keys);
    if plain.len() > MAX_PLAIN_BYTES {
        return Err(VaultError::Full);
    }
    let nonce = random()?;
    let mut bytes = schedule.header(&nonce);
    let payload = Payload {
        msg: &plain,
        aad: &bytes,
    };
    let body = cipher(key)
        .encrypt(&XNonce::from(nonce), payload)
        .map_err(|_| VaultError::Full)?;
    bytes.extend(body);
    Ok(bytes)
}

/// Derives the file's key from a password.
pub(crate) fn derive(password: &str, cost: KdfCost, salt: &[u8; 16]) -> Result<SealKey> {
    if password.is_empty() {
        return Err(VaultError::EmptyPassword);
    }
    if cost.memory_kib > 1 << 20 || cost.passes > 16 || cost.lanes > 16 {
        return Err(VaultError::Cost(
            "at most 1 GiB, 16 passes and 16 lanes are accepted",
        ));
    }
    let refused = |_| VaultError::Cost("memory, passes or lanes are too small");
    let params =
        Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(refused)?;
    let mut memory = Zeroizing::new(vec![Block::new(); params.block_count()]);
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(
            password.as_bytes(),
            salt,
            key.as_mut_slice(),
            memory.as_mut_slice(),
        )
        .map_err(refused)?;
    Ok(key)
}

/// Bytes from the operating system's generator.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|_| VaultError::NoRandomness)?;
    Ok(bytes)
}

/// Encrypts a secret for keeping outside the vault: nonce, then the ciphertext, which fits `context` alone.
pub(crate) fn seal_secret(key: &SealKey, context: &str, secret: &[u8]) -> Result<Vec<u8>> {
    let nonce: [u8; NONCE_BYTES] = random()?;
    let payload = Payload {
        msg: secret,
        aad: context.as_bytes(),
    };
    let body = cipher(key)
        .encrypt(&XNonce::from(nonce), payload)
        .map_err(|_| VaultError::Full)?;
    Ok([nonce.as_slice(), &body].concat())
}

/// Decrypts what [`seal_secret`] made. `None` if key, context and bytes do not fit.
pub(crate) fn open_secret(
    key: &SealKey,
    context: &str,
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, body) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    let payload = Payload {
        msg: body,
        aad: context.as_bytes(),
    };
    let opened = cipher(key).decrypt(&XNonce::from(*nonce), payload);
    opened.map(Zeroizing::new).ok()
}

fn cipher(key: &SealKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new((&**key).into())
}

fn write_keys(keys: &Keys) -> Zeroizing<Vec<u8>> {
    // Reserved whole: growing would leave copies of secrets behind.
    let size = keys.len() * ENTRY_BYTES + keys.seals().len() * SEAL_BYTES;
    let mut plain = Zeroizing::new(Vec::with_capacity(size));
    let mut write = |kind, address: Address, secret: &Zeroizing<[u8; 32]>| {
        plain.push(kind);
        plain.extend_from_slice(address.as_slice());
        plain.extend_from_slice(secret.as_slice());
    };
    for (id, key) in keys.signing() {
        let (kind, address) = match id {
            KeyId::Host => (1, Address::ZERO),
            KeyId::Transmitter => (2, Address::ZERO),
            KeyId::Cryptlet(CryptletId(address)) => (3, *address),
            KeyId::Authority => continue,
        };
        write(kind, address, &key.secret());
    }
    if let Ok(authority) = keys.authority() {
        write(4, Address::ZERO, &authority.secret());
    }
    if let Some(sealing) = keys.sealing() {
        write(5, Address::ZERO, sealing);
    }
    for (measurement, seal) in keys.seals() {
        plain.push(6);
        plain.extend_from_slice(seal.cryptlet.0.as_slice());
        plain.extend_from_slice(seal.key.as_slice());
        plain.extend_from_slice(measurement.0.as_slice());
        plain.extend_from_slice(&seal.counter.to_be_bytes());
        plain.extend_from_slice(seal.image.0.as_slice());
    }
    plain
}

/// `None` for bytes that [`write_keys`] does not write: authentic, but by another program.
fn read_keys(mut plain: &[u8]) -> Option<Keys> {
    let mut keys = Keys::default();
    while !plain.is_empty() {
        let [kind] = take(&mut plain)?;
        let address = Address::from(take::<20>(&mut plain)?);
        let secret = Zeroizing::new(take::<32>(&mut plain)?);
        let id = match kind {
            1 if address.is_zero() => KeyId::Host,
            2 if address.is_zero() => KeyId::Transmitter,
            3 => KeyId::Cryptlet(CryptletId(address)),
            4 if address.is_zero() => {
                let key = AuthorityKey::from_secret(&secret)?;
                keys.add_authority(key).ok()?;
                continue;
            }
            5 if address.is_zero() && keys.sealing().is_none() => {
                keys.set_sealing(Some(secret));
                continue;
            }
            6 => {
                let cryptlet = CryptletId(address);
                let measurement = Measurement(take::<32>(&mut plain)?.into());
                let seal = Seal {
                    cryptlet,
                    key: secret,
                    counter: u64::from_be_bytes(take(&mut plain)?),
                    image: Sha256Digest(take::<32>(&mut plain)?.into()),
                };
                if keys.set_seal(cryptlet, measurement, Some(seal)).is_some() {
                    return None;
                }
                continue;
            }
            _ => return None,
        };
        keys.add(id, SigningKey::from_secret(&secret).ok()?).ok()?;
    }
    Some(keys)
}
