//! ECDSA on secp256k1, as `ecrecover` checks it.

use crate::SealError;
use alloy_primitives::{Address, B256, keccak256};
use cryptlet_types::report::CompactSignature;
use k256::{
    ecdsa::{SigningKey as Inner, VerifyingKey},
    elliptic_curve::rand_core::OsRng,
};
use secp256k1::{
    Message, Secp256k1, VerifyOnly,
    ecdsa::{RecoverableSignature, RecoveryId},
};
use std::sync::LazyLock;
use zeroize::Zeroizing;

/// What recovery needs. It holds no secret. Where another crate has it blind itself, it asks the system for randomness once.
static RECOVERY: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);

/// A private key. It is wiped when dropped, and has no `Debug` that could show it.
pub struct SigningKey(Inner);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.address())
    }
}

impl SigningKey {
    /// A new key from the operating system's generator.
    #[must_use]
    pub fn generate() -> Self {
        Self(Inner::random(&mut OsRng))
    }

    /// The key of a 32-byte big-endian scalar.
    ///
    /// # Errors
    /// [`SealError::InvalidSecret`] for zero and for anything not below the group's order.
    pub fn from_secret(secret: &[u8; 32]) -> Result<Self, SealError> {
        Inner::from_bytes(secret.into())
            .map(Self)
            .map_err(|_| SealError::InvalidSecret)
    }

    /// The scalar, for sealing and wrapping only.
    #[must_use]
    pub fn secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes().into())
    }

    /// Address of the key, as chains know it.
    #[must_use]
    pub fn address(&self) -> Address {
        address_of(self.0.verifying_key())
    }

    /// Public key, SEC 1 uncompressed.
    #[must_use]
    pub fn public(&self) -> [u8; 65] {
        let point = self.0.verifying_key().to_encoded_point(false);
        let mut bytes = [0; 65];
        // A point that is not compressed has 65 bytes.
        for (to, from) in bytes.iter_mut().zip(point.as_bytes()) {
            *to = *from;
        }
        bytes
    }

    /// Signs 32 bytes, deterministically (RFC 6979), with s in the lower half.
    ///
    /// # Errors
    /// [`SealError::MalformedSignature`] if no nonce gives a signature; that has a chance of about 2^-128.
    pub fn sign(&self, digest: B256) -> Result<CompactSignature, SealError> {
        let (signature, recovery) = self
            .0
            .sign_prehash_recoverable(digest.as_slice())
            .map_err(|_| SealError::MalformedSignature)?;
        let (r, s) = signature.split_bytes();
        let mut vs: [u8; 32] = s.into();
        if let Some(first) = vs.first_mut().filter(|_| recovery.is_y_odd()) {
            *first |= 0x80;
        }
        Ok(CompactSignature {
            r: B256::from(<[u8; 32]>::from(r)),
            vs: B256::from(vs),
        })
    }
}

fn address_of(key: &VerifyingKey) -> Address {
    address_of_point(key.to_encoded_point(false).as_bytes())
}

/// Address of a public key, SEC 1 uncompressed: the last 20 bytes of the hash of its point.
fn address_of_point(point: &[u8]) -> Address {
    Address::from_word(keccak256(point.get(1..).unwrap_or_default()))
}

/// The address whose key signed `digest`.
///
/// # Errors
/// [`SealError::MalformedSignature`] if the signature is malformed, not in its low-s form, or nobody's.
pub fn recover(digest: B256, signature: &CompactSignature) -> Result<Address, SealError> {
    let malformed = |_| SealError::MalformedSignature;
    let mut scalars = [signature.r.0, signature.vs.0].concat();
    let mut odd = false;
    if let Some(first) = scalars.get_mut(32) {
        odd = *first & 0x80 != 0;
        *first &= 0x7f;
    }
    let parity = if odd {
        RecoveryId::One
    } else {
        RecoveryId::Zero
    };
    let signed = RecoverableSignature::from_compact(&scalars, parity).map_err(malformed)?;
    if is_high(&signed) {
        return Err(SealError::MalformedSignature);
    }
    let digest = Message::from_digest(digest.0);
    let key = RECOVERY.recover_ecdsa(digest, &signed).map_err(malformed)?;
    Ok(address_of_point(&key.serialize_uncompressed()))
}

/// Whether s is in the upper half, where nobody signs.
fn is_high(signed: &RecoverableSignature) -> bool {
    let given = signed.to_standard();
    let mut low = given;
    low.normalize_s();
    low != given
}

/// Checks that `expected` signed `digest`.
///
/// # Errors
/// Says who signed instead, or that the signature is malformed.
pub fn check(
    digest: B256,
    signature: &CompactSignature,
    expected: Address,
) -> Result<(), SealError> {
    let found = recover(digest, signature)?;
    if found == expected {
        Ok(())
    } else {
        Err(SealError::WrongSigner { expected, found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{U256, address, uint};
    use k256::ecdsa::Signature;
    use proptest::prelude::*;

    const ORDER: U256 =
        uint!(0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141_U256);

    fn dev_key() -> SigningKey {
        let secret = alloy_primitives::b256!(
            "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
        );
        SigningKey::from_secret(&secret).unwrap()
    }

    #[test]
    fn addresses_are_those_of_the_chain() {
        assert_eq!(
            dev_key().address(),
            address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266")
        );
    }

    fn recovered_by_k256(digest: [u8; 32], signature: &CompactSignature) -> Option<Address> {
        let mut s = signature.vs.0;
        s[0] &= 0x7f;
        let odd = signature.vs.0[0] & 0x80 != 0;
        let inner = Signature::from_scalars(signature.r.0, s).ok()?;
        let key = VerifyingKey::recover_from_prehash(
            &digest,
            &inner,
            k256::ecdsa::RecoveryId::new(odd, false),
        );
        let low = inner.normalize_s().is_none();
        key.ok().filter(|_| low).map(|key| address_of(&key))
    }

    #[test]
    fn scalars_at_the_edges_are_whose_another_library_says() {
        let edges = [
            U256::ZERO,
            U256::from(1),
            ORDER - U256::from(1),
            ORDER,
            ORDER + U256::from(1),
            U256::MAX,
        ];
        let signed = dev_key().sign(B256::repeat_byte(1)).unwrap();
        let words = edges
            .map(B256::from)
            .into_iter()
            .chain([signed.r, signed.vs]);
        let words: Vec<_> = words.collect();
        for r in &words {
            for vs in &words {
                let signature = CompactSignature { r: *r, vs: *vs };
                let digest = B256::repeat_byte(1);
                assert_eq!(
                    recover(digest, &signature).ok(),
                    recovered_by_k256(digest.0, &signature),
                    "{signature:?}"
                );
            }
        }
    }

    #[test]
    fn secrets_never_show() {
        let secret = alloy_primitives::hex::encode(dev_key().secret().as_slice());
        assert!(!format!("{:?}", dev_key()).contains(&secret));
    }

    #[test]
    fn scalars_out_of_range_are_no_keys() {
        assert_eq!(
            SigningKey::from_secret(&[0; 32]).unwrap_err(),
            SealError::InvalidSecret
        );
        assert_eq!(
            SigningKey::from_secret(&ORDER.to_be_bytes()).unwrap_err(),
            SealError::InvalidSecret
        );
    }

    #[test]
    fn a_high_s_is_refused_though_somebody_could_be_recovered_from_it() {
        let digest = B256::repeat_byte(1);
        let r = dev_key().sign(digest).unwrap().r;
        let half = ORDER >> 1;
        for (s, refused) in [
            (half, false),
            (half + U256::from(1), true),
            (U256::MAX >> 1, true),
        ] {
            let recovered = recover(
                digest,
                &CompactSignature {
                    r,
                    vs: B256::from(s),
                },
            );
            assert_eq!(
                recovered == Err(SealError::MalformedSignature),
                refused,
                "s = {s}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_signature_is_the_signers_and_over_those_bytes(digest: [u8; 32], bit in 0usize..256) {
            let key = SigningKey::generate();
            let signature = key.sign(B256::from(digest)).unwrap();
            prop_assert_eq!(check(B256::from(digest), &signature, key.address()), Ok(()));

            let mut other = digest;
            other[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(check(B256::from(other), &signature, key.address()).is_err());

            let mut altered = signature;
            altered.r.0[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(check(B256::from(digest), &altered, key.address()).is_err());
            let mut altered = signature;
            altered.vs.0[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(check(B256::from(digest), &altered, key.address()).is_err());
        }

        #[test]
        fn arbitrary_signatures_are_whose_another_library_says(digest: [u8; 32], r: [u8; 32], vs: [u8; 32]) {
            let signature = CompactSignature { r: B256::from(r), vs: B256::from(vs) };
            prop_assert_eq!(recover(B256::from(digest), &signature).ok(), recovered_by_k256(digest, &signature));
        }
    }
}
