//! Sealed images: what a region leaves to its successor, encrypted for regions of the same cryptlet and measurement alone.
//!
//! A vault has, for each cryptlet and measurement, a [`Seal`]: a key, and which image is the last. It gives the seal to a
//! region together with the cryptlet's key ([`Release`]), so that no host can have one without the other. The region opens the
//! last image with it, and makes the next ([`Seal::close`]); the vault takes that as the last from then on
//! ([`Seal::succeeded_by`]). Which image is the last is said by a counter and by the SHA-256 of its bytes: two images may have
//! one counter, where a host had two regions at once, and the vault takes one of them.
//!
//! An image is CBOR (RFC 8949): version, cryptlet, measurement, counter and nonce in the clear, and the state, encrypted with
//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03; the nonce of 24 bytes is random). The associated data are a label, version,
//! cryptlet, measurement and counter, each of a fixed length.

use crate::{SealError, sha256};
use alloy_primitives::{Bytes, FixedBytes};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use cryptlet_types::{
    CryptletId, Measurement, Sha256Digest,
    bounded::MAX_SEALED_BYTES,
    region::{decode, encode},
};
use rand_core::{OsRng, RngCore};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const LABEL: &[u8] = b"bletchley sealed image v1";
/// Bytes of a released signing key.
const KEY_BYTES: usize = 32;
/// Bytes of a seal in a release: cryptlet, key, counter, digest.
const SEAL_BYTES: usize = 20 + 32 + 8 + 32;

/// Why a sealed image is refused. Nothing here carries a secret, and no retry helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    /// It is longer than an image may be.
    #[error("sealed image: {0} bytes, at most {MAX_SEALED_BYTES}")]
    TooLong(usize),
    /// It is not the CBOR of an image.
    #[error("sealed image: {0}")]
    Malformed(String),
    /// It is of another version of the format.
    #[error("sealed image: version {0}, this program reads version 1 only")]
    OtherVersion(u8),
    /// It is another cryptlet's.
    #[error("sealed image: of cryptlet {found}, not of {expected}")]
    OtherCryptlet {
        /// Who should have sealed it.
        expected: CryptletId,
        /// Who it says did.
        found: CryptletId,
    },
    /// It was sealed where something else ran.
    #[error("sealed image: of measurement {found}, not of {expected}")]
    OtherMeasurement {
        /// What should have sealed it.
        expected: Measurement,
        /// What it says did.
        found: Measurement,
    },
    /// It is older than the last one.
    #[error("sealed image: rolled back to counter {found}, the vault's is {last}")]
    RolledBack {
        /// The vault's counter.
        last: u64,
        /// The image's.
        found: u64,
    },
    /// It is newer than the vault knows.
    #[error("sealed image: counter {found}, the vault's is {last}")]
    Ahead {
        /// The vault's counter.
        last: u64,
        /// The image's.
        found: u64,
    },
    /// It has the last one's counter and is another: a host had two regions at once.
    #[error("sealed image: not the one that the vault took for counter {0}")]
    Replaced(u64),
    /// There is an image, and none was handed over.
    #[error("sealed image: missing, the vault's counter is {0}")]
    Missing(u64),
    /// It was altered, or sealed with a key that was destroyed.
    #[error("sealed image: altered, or of a seal that was reset")]
    Altered,
    /// No image comes after the last of all counters.
    #[error("sealed image: the counter is used up")]
    Exhausted,
    /// The state has more bytes than an image can hold, or no nonce could be had.
    #[error("sealed image: cannot be made")]
    NotMade,
}

impl SealedError {
    /// Whether trying again with the same image can help: never.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Image {
    version: u8,
    cryptlet: CryptletId,
    measurement: Measurement,
    counter: u64,
    nonce: FixedBytes<24>,
    ciphertext: Bytes,
}

impl Image {
    /// Splits an image into its parts, of which nothing is believed yet.
    fn parse(bytes: &[u8]) -> Result<Self, SealedError> {
        if bytes.len() > MAX_SEALED_BYTES {
            return Err(SealedError::TooLong(bytes.len()));
        }
        let image: Self =
            decode(bytes).map_err(|error| SealedError::Malformed(error.to_string()))?;
        if image.version != VERSION {
            return Err(SealedError::OtherVersion(image.version));
        }
        // CBOR has several forms for one value; what is hashed has one.
        if encode(&image).ok().as_deref() == Some(bytes) {
            Ok(image)
        } else {
            Err(SealedError::Malformed("not in its one encoding".into()))
        }
    }

    fn associated(&self) -> Vec<u8> {
        let mut data = LABEL.to_vec();
        data.push(self.version);
        data.extend_from_slice(self.cryptlet.0.as_slice());
        data.extend_from_slice(self.measurement.0.as_slice());
        data.extend_from_slice(&self.counter.to_be_bytes());
        data
    }
}

/// What seals the state of one cryptlet under one measurement: a key, and which image is the last.
#[derive(Clone)]
pub struct Seal {
    /// The cryptlet.
    pub cryptlet: CryptletId,
    /// Key of XChaCha20-Poly1305.
    pub key: Zeroizing<[u8; 32]>,
    /// The last image's counter; 0 before there is any.
    pub counter: u64,
    /// SHA-256 of the last image's bytes; zero before there is any.
    pub image: Sha256Digest,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seal")
            .field("cryptlet", &self.cryptlet)
            .field("counter", &self.counter)
            .finish_non_exhaustive()
    }
}

impl Seal {
    /// A seal with this key, under which there is no image yet.
    #[must_use]
    pub fn new(cryptlet: CryptletId, key: Zeroizing<[u8; 32]>) -> Self {
        Self {
            cryptlet,
            key,
            counter: 0,
            image: Sha256Digest(FixedBytes::ZERO),
        }
    }

    /// The image that follows the last one, holding `state`.
    ///
    /// # Errors
    /// [`SealedError::TooLong`], [`SealedError::Exhausted`], [`SealedError::NotMade`].
    pub fn close(&self, measurement: Measurement, state: &[u8]) -> Result<Vec<u8>, SealedError> {
        let mut nonce = [0; 24];
        OsRng
            .try_fill_bytes(&mut nonce)
            .map_err(|_| SealedError::NotMade)?;
        let mut image = Image {
            version: VERSION,
            cryptlet: self.cryptlet,
            measurement,
            counter: self.next()?,
            nonce: nonce.into(),
            ciphertext: Bytes::new(),
        };
        let payload = Payload {
            msg: state,
            aad: &image.associated(),
        };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload);
        image.ciphertext = sealed.map_err(|_| SealedError::NotMade)?.into();
        let bytes = encode(&image).map_err(|_| SealedError::NotMade)?;
        if bytes.len() > MAX_SEALED_BYTES {
            return Err(SealedError::TooLong(bytes.len()));
        }
        Ok(bytes)
    }

    /// The state in the last image, if `image` is that. `None` is right only as long as there is none.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn open(
        &self,
        measurement: Measurement,
        image: Option<&[u8]>,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, SealedError> {
        let Some(bytes) = image else {
            return match self.counter {
                0 => Ok(None),
                last => Err(SealedError::Missing(last)),
            };
        };
        let image = self.own(measurement, bytes)?;
        let (last, found) = (self.counter, image.counter);
        if found < last {
            return Err(SealedError::RolledBack { last, found });
        }
        if found > last {
            return Err(SealedError::Ahead { last, found });
        }
        let state = self.decrypt(&image)?;
        if sha256(bytes) == self.image {
            Ok(Some(state))
        } else {
            Err(SealedError::Replaced(last))
        }
    }

    /// This seal with `image` as the last one, if it was closed with it and follows the last one.
    ///
    /// # Errors
    /// Says what is wrong with it: [`SealedError::RolledBack`] if it does not follow the last one, but that or one before.
    pub fn succeeded_by(
        &self,
        measurement: Measurement,
        image: &[u8],
    ) -> Result<Self, SealedError> {
        let bytes = image;
        let image = self.own(measurement, bytes)?;
        let (last, found, next) = (self.counter, image.counter, self.next()?);
        if found <= last {
            return Err(SealedError::RolledBack { last, found });
        }
        if found != next {
            return Err(SealedError::Ahead { last, found });
        }
        self.decrypt(&image)?;
        Ok(Self {
            counter: next,
            image: sha256(bytes),
            ..self.clone()
        })
    }

    fn next(&self) -> Result<u64, SealedError> {
        self.counter.checked_add(1).ok_or(SealedError::Exhausted)
    }

    /// The parts of an image that says it is of this cryptlet and this measurement.
    fn own(&self, measurement: Measurement, bytes: &[u8]) -> Result<Image, SealedError> {
        let image = Image::parse(bytes)?;
        if image.cryptlet != self.cryptlet {
            let (expected, found) = (self.cryptlet, image.cryptlet);
            return Err(SealedError::OtherCryptlet { expected, found });
        }
        if image.measurement != measurement {
            let (expected, found) = (measurement, image.measurement);
            return Err(SealedError::OtherMeasurement { expected, found });
        }
        Ok(image)
    }

    fn decrypt(&self, image: &Image) -> Result<Zeroizing<Vec<u8>>, SealedError> {
        let payload = Payload {
            msg: &image.ciphertext,
            aad: &image.associated(),
        };
        let opened = self.cipher().decrypt(&XNonce::from(image.nonce.0), payload);
        opened.map(Zeroizing::new).map_err(|_| SealedError::Altered)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.key).into())
    }
}

/// What a vault releases to one region: the cryptlet's signing key and, where the vault keeps seals, the seal beside it. They
/// are wrapped as one secret: a host that could leave the seal away could have a region that remembers nothing.
pub struct Release {
    /// The signing key's secret.
    pub key: Zeroizing<[u8; 32]>,
    /// What seals the region's state.
    pub seal: Option<Seal>,
}

impl std::fmt::Debug for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Release")
            .field("seal", &self.seal)
            .finish_non_exhaustive()
    }
}

impl Release {
    /// The bytes that are wrapped: 32 of the key and, with a seal, 92 more (cryptlet, key, counter, digest).
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Reserved whole: growing would leave copies of secrets behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_BYTES + SEAL_BYTES));
        bytes.extend_from_slice(self.key.as_slice());
        if let Some(seal) = &self.seal {
            bytes.extend_from_slice(seal.cryptlet.0.as_slice());
            bytes.extend_from_slice(seal.key.as_slice());
            bytes.extend_from_slice(&seal.counter.to_be_bytes());
            bytes.extend_from_slice(seal.image.0.as_slice());
        }
        bytes
    }

    /// Reads what [`Release::to_bytes`] makes.
    ///
    /// # Errors
    /// [`SealError::Exchange`] for any other length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        let wrong = SealError::Exchange;
        let (key, mut rest) = bytes
            .split_first_chunk::<KEY_BYTES>()
            .ok_or(wrong.clone())?;
        let key = Zeroizing::new(*key);
        if rest.is_empty() {
            return Ok(Self { key, seal: None });
        }
        let cryptlet = take::<20>(&mut rest).ok_or(wrong.clone())?;
        let sealing = take::<32>(&mut rest).ok_or(wrong.clone())?;
        let counter = take::<8>(&mut rest).ok_or(wrong.clone())?;
        let image = take::<32>(&mut rest).ok_or(wrong.clone())?;
        if !rest.is_empty() {
            return Err(wrong);
        }
        let seal = Seal {
            cryptlet: CryptletId(cryptlet.into()),
            key: Zeroizing::new(sealing),
            counter: u64::from_be_bytes(counter),
            image: Sha256Digest(image.into()),
        };
        let seal = Some(seal);
        Ok(Self { key, seal })
    }
}

/// Takes exactly `N` bytes off the front.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

#[cfg(test)]
mod tests;
