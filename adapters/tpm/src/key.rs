//! The attestation key and its file: `TPM2B_PRIVATE`, then `TPM2B_PUBLIC` (TPM 2.0 Library, part 2), as a TPM gives them out.
//! The private part is encrypted by the TPM; nobody else can use it.

use super::refused;
use alloy_primitives::{Bytes, hex};
use cryptlet_seal::attester::AttesterError;
use std::{fs, path::Path};
use tss_esapi::{
    Context,
    abstraction::{AsymmetricAlgorithmSelection, ak, ek},
    handles::KeyHandle,
    interface_types::{
        algorithm::{HashingAlgorithm, SignatureSchemeAlgorithm},
        ecc::EccCurve,
    },
    structures::{Private, Public},
    traits::{Marshall, UnMarshall},
};

const P256: AsymmetricAlgorithmSelection = AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256);
/// `SubjectPublicKeyInfo` of a key on P-256 up to the coordinates (RFC 5480), with the 04 of an uncompressed point.
const P256_PREFIX: [u8; 27] = hex!("3059301306072a8648ce3d020106082a8648ce3d03010703420004");
const COORDINATE_BYTES: usize = 32;
const MAX_FILE_BYTES: usize = 4_096;

/// What the file holds.
pub(super) struct Key {
    private: Private,
    public: Public,
}

/// A key that the TPM has loaded.
pub(super) struct Loaded {
    pub(super) handle: KeyHandle,
    /// `SubjectPublicKeyInfo`, DER.
    pub(super) public: Bytes,
}

/// Makes a key.
pub(super) fn create(context: &mut Context) -> Result<Key, AttesterError> {
    below_endorsement(context, |context, parent| {
        let made = ak::create_ak_2(
            context,
            parent,
            HashingAlgorithm::Sha256,
            P256,
            SignatureSchemeAlgorithm::EcDsa,
            None,
            None,
        )?;
        Ok(Key {
            private: made.out_private,
            public: made.out_public,
        })
    })
}

/// With the endorsement key, which is made anew from the TPM's seed each time and takes no room afterwards.
fn below_endorsement<T>(
    context: &mut Context,
    work: impl FnOnce(&mut Context, KeyHandle) -> tss_esapi::Result<T>,
) -> Result<T, AttesterError> {
    let parent = ek::create_ek_object_2(context, P256, None).map_err(refused)?;
    context
        .execute_with_temporary_object(parent.into(), |context, _| work(context, parent))
        .map_err(refused)
}

impl Key {
    pub(super) fn load(self, context: &mut Context) -> Result<Loaded, AttesterError> {
        let public = subject_public_key_info(&self.public)?;
        let handle = below_endorsement(context, |context, parent| {
            ak::load_ak(context, parent, None, self.private, self.public)
        })?;
        Ok(Loaded { handle, public })
    }

    pub(super) fn read(path: &Path) -> Result<Self, AttesterError> {
        let bytes = fs::read(path).map_err(AttesterError::system(path.display().to_string()))?;
        parse(&bytes).ok_or_else(|| {
            let reason = format!("{}: holds no attestation key", path.display());
            AttesterError::Settings(reason)
        })
    }

    /// Writes a new file; there must be none. It appears whole or not at all.
    pub(super) fn write(&self, path: &Path) -> Result<(), AttesterError> {
        let system = |path: &Path| AttesterError::system(path.display().to_string());
        let public = self.public.marshall().map_err(refused)?;
        let mut bytes = Vec::new();
        for part in [self.private.as_slice(), &public] {
            let length = u16::try_from(part.len())
                .map_err(|_| AttesterError::malformed("key", "is too large"))?;
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(part);
        }
        let beside = path.with_extension("new");
        fs::write(&beside, bytes).map_err(system(&beside))?;
        fs::hard_link(&beside, path).map_err(system(path))?;
        fs::remove_file(&beside).map_err(system(&beside))
    }
}

fn parse(bytes: &[u8]) -> Option<Key> {
    if bytes.len() > MAX_FILE_BYTES {
        return None;
    }
    let (private, rest) = sized(bytes)?;
    let (public, rest) = sized(rest)?;
    if !rest.is_empty() {
        return None;
    }
    Some(Key {
        private: Private::try_from(private.to_vec()).ok()?,
        public: Public::unmarshall(public).ok()?,
    })
}

/// What a length of two bytes, big-endian, is followed by; and the rest.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}

fn subject_public_key_info(public: &Public) -> Result<Bytes, AttesterError> {
    let refuse = || AttesterError::malformed("key", "is not on P-256");
    let Public::Ecc {
        parameters, unique, ..
    } = public
    else {
        return Err(refuse());
    };
    if parameters.ecc_curve() != EccCurve::NistP256 {
        return Err(refuse());
    }
    let mut der = P256_PREFIX.to_vec();
    for coordinate in [unique.x(), unique.y()] {
        // A TPM may leave out leading zeros.
        let zeros = COORDINATE_BYTES
            .checked_sub(coordinate.len())
            .ok_or_else(refuse)?;
        der.resize(der.len() + zeros, 0);
        der.extend_from_slice(coordinate);
    }
    Ok(der.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_hold_no_key_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ak");
        for bytes in [
            &b""[..],
            b"\0",
            b"\0\x01x",
            b"\0\x01x\0\x01y",
            &[0xff; MAX_FILE_BYTES + 1],
        ] {
            fs::write(&path, bytes).unwrap();
            let error = Key::read(&path).err().unwrap().to_string();
            assert!(error.contains("holds no attestation key"), "{error}");
        }
    }
}
