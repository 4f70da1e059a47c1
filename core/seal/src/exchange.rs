//! Secrets wrapped to one region: HPKE base mode (RFC 9180) with X25519, HKDF-SHA256 and ChaCha20-Poly1305.

use crate::SealError;
use alloy_primitives::B256;
use cryptlet_types::{EvidenceStatement, region::WrappedKey};
use hpke::{
    Deserializable, Kem as _, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305,
    kdf::HkdfSha256, kem::X25519HkdfSha256 as X25519, single_shot_open, single_shot_seal,
};
use zeroize::Zeroizing;

const INFO: &[u8] = b"bletchley wrapped key v1";

/// A region's key for receiving secrets: made in the region, never leaves it.
pub struct ExchangeKey {
    private: <X25519 as hpke::Kem>::PrivateKey,
    public: <X25519 as hpke::Kem>::PublicKey,
}

impl std::fmt::Debug for ExchangeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ExchangeKey({})", self.public())
    }
}

impl ExchangeKey {
    /// A new key from the operating system's generator.
    #[must_use]
    pub fn generate() -> Self {
        let (private, public) = X25519::gen_keypair();
        Self { private, public }
    }

    /// The public key, as evidence carries it.
    #[must_use]
    pub fn public(&self) -> B256 {
        B256::from(<[u8; 32]>::from(self.public.to_bytes()))
    }

    /// Opens a secret that was wrapped to this key under the same `binding`.
    ///
    /// # Errors
    /// [`SealError::Exchange`], without saying more, if it was wrapped to another key, bound to something else, or altered.
    pub fn open(
        &self,
        wrapped: &WrappedKey,
        binding: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let encapsulated = <X25519 as hpke::Kem>::EncappedKey::from_bytes(&wrapped.encapsulated)
            .map_err(|_| SealError::Exchange)?;
        single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519>(
            &OpModeR::Base,
            &self.private,
            &encapsulated,
            INFO,
            &wrapped.ciphertext,
            binding,
        )
        .map(Zeroizing::new)
        .map_err(|_| SealError::Exchange)
    }
}

/// Wraps `secret` so that only the holder of the exchange key `public` can open it, under the same `binding`.
///
/// # Errors
/// [`SealError::Exchange`] if `public` is not a usable key.
pub fn wrap(public: B256, binding: &[u8], secret: &[u8]) -> Result<WrappedKey, SealError> {
    let public = <X25519 as hpke::Kem>::PublicKey::from_bytes(public.as_slice())
        .map_err(|_| SealError::Exchange)?;
    let (encapsulated, ciphertext) = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519>(
        &OpModeS::Base,
        &public,
        INFO,
        secret,
        binding,
    )
    .map_err(|_| SealError::Exchange)?;
    Ok(WrappedKey {
        encapsulated: encapsulated.to_bytes().to_vec().into(),
        ciphertext: ciphertext.into(),
    })
}

/// What a wrapped signing key is bound to: this measurement, this region key, this challenge.
#[must_use]
pub fn key_binding(statement: &EvidenceStatement) -> Vec<u8> {
    let mut binding = b"bletchley signing key v1".to_vec();
    binding.extend_from_slice(statement.measurement.0.as_slice());
    binding.extend_from_slice(statement.region_key.as_slice());
    binding.extend_from_slice(statement.nonce.as_slice());
    binding
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_named_region_opens_and_only_under_the_same_binding() {
        let (mine, other) = (ExchangeKey::generate(), ExchangeKey::generate());
        let wrapped = wrap(mine.public(), b"this region", &[7; 32]).unwrap();
        assert_eq!(
            mine.open(&wrapped, b"this region").unwrap().as_slice(),
            [7; 32]
        );
        assert_eq!(
            mine.open(&wrapped, b"that region").unwrap_err(),
            SealError::Exchange
        );
        assert_eq!(
            other.open(&wrapped, b"this region").unwrap_err(),
            SealError::Exchange
        );
    }

    proptest! {
        #[test]
        fn an_altered_wrapping_is_refused(bit in 0usize..8 * 80) {
            let key = ExchangeKey::generate();
            let wrapped = wrap(key.public(), b"b", &[7; 32]).unwrap();
            let mut bytes = [wrapped.encapsulated.to_vec(), wrapped.ciphertext.to_vec()].concat();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (encapsulated, ciphertext) = bytes.split_at(32);
            let altered = WrappedKey {
                encapsulated: encapsulated.to_vec().into(),
                ciphertext: ciphertext.to_vec().into(),
            };
            prop_assert!(key.open(&altered, b"b").is_err());
        }
    }
}
