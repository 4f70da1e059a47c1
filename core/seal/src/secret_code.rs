//! Secret code: encrypting a component, opening it inside a region, and whether the counterparties agreed to it
//! ([`cryptlet_types::secret_code`]).
//!
//! A component is encrypted with XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03): a nonce of 24 bytes, the ciphertext, the tag of
//! 16. The associated data are a label. The nonce follows from key and component, so that the same component under the same key
//! is packed into the same bytes each time, and another one under the same key has another nonce.

use crate::{SealError, check, sha256};
use alloy_primitives::Address;
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use cryptlet_types::{
    CodeAgreement, EvidenceStatement, Sha256Digest, bounded::MAX_COMPONENT_BYTES,
    report::CompactSignature,
};
use rand_core::{OsRng, RngCore};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const LABEL: &[u8] = b"bletchley secret code v1";
const NONCE_BYTES: usize = 24;

/// The key of secret code. It is wiped when dropped, and has no `Debug` that could show it.
pub struct CodeKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for CodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CodeKey")
    }
}

/// In constant time.
impl PartialEq for CodeKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&*other.0).into()
    }
}

impl Eq for CodeKey {}

impl CodeKey {
    /// A new key from the operating system's generator.
    ///
    /// # Errors
    /// [`SealError::SecretCode`] if that gives nothing.
    pub fn generate() -> Result<Self, SealError> {
        let mut key = Zeroizing::new([0; 32]);
        OsRng
            .try_fill_bytes(key.as_mut_slice())
            .map_err(|_| SealError::SecretCode("no key could be made"))?;
        Ok(Self(key))
    }

    /// The key with these bytes.
    ///
    /// # Errors
    /// [`SealError::SecretCode`] for another number of bytes than 32.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        let key = bytes.try_into().map(Zeroizing::new);
        key.map(Self)
            .map_err(|_| SealError::SecretCode("its key has 32 bytes"))
    }

    /// The bytes, for sealing, wrapping and handing over only.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Encrypts a component.
    ///
    /// # Errors
    /// [`SealError::SecretCode`] for one that would be larger than a package may hold.
    pub fn encrypt(&self, component: &[u8]) -> Result<Vec<u8>, SealError> {
        let nonce = self.nonce(sha256(component));
        let plain = Payload {
            msg: component,
            aad: LABEL,
        };
        let sealed = self.cipher().encrypt(&nonce, plain);
        let sealed = sealed.map_err(|_| SealError::SecretCode("cannot be encrypted"))?;
        let whole = [nonce.as_slice(), &sealed].concat();
        if whole.len() > MAX_COMPONENT_BYTES {
            return Err(SealError::SecretCode("the component is too large"));
        }
        Ok(whole)
    }

    /// Decrypts what [`CodeKey::encrypt`] made of the component with the digest `code`.
    ///
    /// # Errors
    /// [`SealError::SecretCode`] if it is of another key, was altered, or is another component.
    pub fn decrypt(
        &self,
        encrypted: &[u8],
        code: Sha256Digest,
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let refused = SealError::SecretCode("is of another key, or was altered");
        let (nonce, msg) = encrypted
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or_else(|| refused.clone())?;
        let opened = self
            .cipher()
            .decrypt(&XNonce::from(*nonce), Payload { msg, aad: LABEL })
            .map(Zeroizing::new)
            .map_err(|_| refused)?;
        if sha256(&opened) == code {
            Ok(opened)
        } else {
            Err(SealError::SecretCode(
                "is another component than was agreed to",
            ))
        }
    }

    /// Whether [`CodeKey::encrypt`] made this of the component with the digest `code` under this key, as far as can be told without
    /// decrypting: by the nonce.
    #[must_use]
    pub fn made(&self, encrypted: &[u8], code: Sha256Digest) -> bool {
        encrypted.starts_with(&self.nonce(code))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }

    fn nonce(&self, code: Sha256Digest) -> XNonce {
        let mut hash = Sha256::new();
        hash.update(LABEL);
        hash.update(self.0.as_slice());
        hash.update(code.0.as_slice());
        let hash: [u8; 32] = hash.finalize().into();
        let mut nonce = XNonce::default();
        for (to, from) in nonce.iter_mut().zip(hash) {
            *to = from;
        }
        nonce
    }
}

/// What a code's key is bound to that is wrapped to a region: this measurement, this region key, this challenge.
#[must_use]
pub fn code_binding(statement: &EvidenceStatement) -> Vec<u8> {
    let mut binding = b"bletchley code key v1".to_vec();
    binding.extend_from_slice(statement.measurement.0.as_slice());
    binding.extend_from_slice(statement.region_key.as_slice());
    binding.extend_from_slice(statement.nonce.as_slice());
    binding
}

/// Whether each of `counterparties` signed the agreement, in their order.
///
/// # Errors
/// [`SealError::NotAgreed`] names the first whose signature is missing or another's; [`SealError::SecretCode`] if there are more
/// signatures than counterparties.
pub fn check_agreements(
    agreement: &CodeAgreement,
    counterparties: &[Address],
    signatures: &[CompactSignature],
) -> Result<(), SealError> {
    if signatures.len() > counterparties.len() {
        return Err(SealError::SecretCode("more agreements than counterparties"));
    }
    let digest = agreement.digest();
    let mut signatures = signatures.iter();
    for counterparty in counterparties {
        let signed = signatures.next();
        let agreed = signed.is_some_and(|signed| check(digest, signed, *counterparty).is_ok());
        if !agreed {
            return Err(SealError::NotAgreed(*counterparty));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;
    use alloy_primitives::B256;

    fn key(byte: u8) -> CodeKey {
        CodeKey::from_bytes(&[byte; 32]).unwrap()
    }

    #[test]
    fn a_component_is_packed_alike_each_time_and_opened_by_its_key_alone() {
        let encrypted = key(1).encrypt(b"component").unwrap();
        assert_eq!(encrypted, key(1).encrypt(b"component").unwrap());
        assert!(!encrypted.windows(9).any(|bytes| bytes == b"component"));
        let code = sha256(b"component");
        assert_eq!(*key(1).decrypt(&encrypted, code).unwrap(), b"component");
        assert!(key(1).made(&encrypted, code));
        assert!(!key(2).made(&encrypted, code) && !key(1).made(&encrypted, sha256(b"other")));
        assert!(!key(1).made(&encrypted[..NONCE_BYTES - 1], code));
        assert!(key(2).decrypt(&encrypted, code).is_err());
        assert!(key(1).decrypt(&encrypted, sha256(b"other")).is_err());
        let fresh = CodeKey::generate().unwrap();
        assert_ne!(fresh, CodeKey::generate().unwrap());
        assert_eq!(fresh, CodeKey::from_bytes(fresh.bytes()).unwrap());
        assert!(CodeKey::from_bytes(&[1; 31]).is_err());
        assert_eq!(format!("{fresh:?}"), "CodeKey");
    }

    #[test]
    fn two_components_under_one_key_have_two_nonces() {
        let (one, two) = (key(1).encrypt(b"one"), key(1).encrypt(b"two"));
        assert_ne!(one.unwrap()[..NONCE_BYTES], two.unwrap()[..NONCE_BYTES]);
    }

    #[test]
    fn any_altered_byte_and_any_missing_one_is_refused() {
        let encrypted = key(1).encrypt(b"component").unwrap();
        let code = sha256(b"component");
        for place in 0..encrypted.len() {
            let mut altered = encrypted.clone();
            altered[place] ^= 1;
            assert!(key(1).decrypt(&altered, code).is_err(), "byte {place}");
            assert!(key(1).decrypt(&encrypted[..place], code).is_err());
        }
    }

    #[test]
    fn a_component_that_no_package_could_hold_is_not_encrypted() {
        let most = MAX_COMPONENT_BYTES - NONCE_BYTES - 16;
        assert!(key(1).encrypt(&vec![0; most]).is_ok());
        assert!(key(1).encrypt(&vec![0; most + 1]).is_err());
    }

    #[test]
    fn every_counterparty_signs_this_code_of_this_package_in_its_place() {
        let [a, b] = [1, 2].map(|byte| SigningKey::from_secret(&[byte; 32]).unwrap());
        let parties = [a.address(), b.address()];
        let agreement = CodeAgreement {
            package: Sha256Digest(B256::repeat_byte(1)),
            code: Sha256Digest(B256::repeat_byte(2)),
        };
        let signed = [&a, &b].map(|key| key.sign(agreement.digest()).unwrap());
        assert_eq!(check_agreements(&agreement, &parties, &signed), Ok(()));

        let not = |who: &SigningKey| Err(SealError::NotAgreed(who.address()));
        let short = &signed[..1];
        assert_eq!(check_agreements(&agreement, &parties, short), not(&b));
        assert_eq!(check_agreements(&agreement, &parties, &[]), not(&a));
        let turned = [signed[1], signed[0]];
        assert_eq!(check_agreements(&agreement, &parties, &turned), not(&a));
        let twice = [signed[0], signed[0]];
        assert_eq!(check_agreements(&agreement, &parties, &twice), not(&b));
        let more = [signed[0], signed[1], signed[1]];
        assert!(check_agreements(&agreement, &parties, &more).is_err());
        for other in [
            CodeAgreement {
                code: agreement.package,
                ..agreement
            },
            CodeAgreement {
                package: agreement.code,
                ..agreement
            },
        ] {
            assert_eq!(check_agreements(&other, &parties, &signed), not(&a));
        }
    }
}
