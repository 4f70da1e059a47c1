//! A TPM 2.0, virtual or not: quotes by the TPM2 Software Stack (TCG, TPM 2.0 Library, part 3, `TPM2_Quote`).
//!
//! The attestation key is a restricted ECDSA key on P-256 below the endorsement key of the TCG's template (EK Credential
//! Profile, template L-2), made once by [`Tpm::enroll`]. Only that TPM can load what is in its file. Whoever vouches for the
//! TPM issues a certificate for the key; that it is such a key in such a TPM is for them to see.

mod key;

use alloy_primitives::{B256, Bytes};
use cryptlet_seal::attester::{Attester, AttesterError, bounded};
use cryptlet_types::{Attestation, Provider};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest as _, Sha256};
use std::{
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Mutex, PoisonError},
};
use tss_esapi::{
    Context, TctiNameConf,
    abstraction::pcr,
    handles::KeyHandle,
    interface_types::{algorithm::HashingAlgorithm, session_handles::AuthSession},
    structures::{Attest, AttestInfo, Data, PcrSelectionList, PcrSlot, Signature, SignatureScheme},
    traits::Marshall,
};

/// Registers of a TPM for personal computers and servers.
const REGISTERS: u32 = 24;
/// Times that registers are read again because one of them changed before the quote.
const ATTEMPTS: u32 = 3;
/// Certificates from the attestation key's up to below the root.
const MAX_CERTIFICATES: usize = 8;

/// Where a TPM is, and what it is to say.
#[derive(Clone, Debug)]
pub struct TpmSettings {
    /// How it is reached, as the TPM2 Software Stack names it: `device:/dev/tpmrm0`, `swtpm:host=127.0.0.1,port=2321`.
    pub tcti: String,
    /// The attestation key's file, made by [`Tpm::enroll`].
    pub key: PathBuf,
    /// Certificates in PEM: the attestation key's first, then those above it, without the root. At most 8.
    pub certificates: PathBuf,
    /// Numbers of the SHA-256 registers to quote, 0 to 23, in any order.
    pub registers: Vec<u8>,
}

/// Gets quotes from a TPM. It is asked one question at a time.
#[derive(Debug)]
pub struct Tpm {
    context: Mutex<Context>,
    key: KeyHandle,
    certificates: Vec<Bytes>,
    selection: PcrSelectionList,
    slots: Vec<PcrSlot>,
}

impl Tpm {
    /// Makes an attestation key and writes its file, unless the file is there, and returns the public key to have certified
    /// (`SubjectPublicKeyInfo`, DER).
    ///
    /// # Errors
    /// If the TPM cannot be reached, does not have the algorithms, or cannot load the key: the file is another TPM's.
    pub fn enroll(tcti: &str, key: &Path) -> Result<Bytes, AttesterError> {
        let mut context = connect(tcti)?;
        if !key.exists() {
            key::create(&mut context)?.write(key)?;
        }
        let loaded = key::Key::read(key)?.load(&mut context)?;
        Ok(loaded.public)
    }

    /// Loads the attestation key.
    ///
    /// # Errors
    /// If the TPM cannot be reached, the key is another TPM's, the first certificate is another key's, or a register's number
    /// is wrong.
    pub fn open(settings: &TpmSettings) -> Result<Self, AttesterError> {
        let slots = slots(&settings.registers)?;
        let selection = PcrSelectionList::builder()
            .with_selection(HashingAlgorithm::Sha256, &slots)
            .build()
            .map_err(refused)?;
        let mut context = connect(&settings.tcti)?;
        let loaded = key::Key::read(&settings.key)?.load(&mut context)?;
        let certificates = read_certificates(&settings.certificates)?;
        check_certificate(&certificates, &loaded.public)?;
        Ok(Self {
            context: Mutex::new(context),
            key: loaded.handle,
            certificates,
            selection,
            slots,
        })
    }

    fn quote(
        &self,
        context: &mut Context,
        bound: B256,
    ) -> Result<(Attest, Signature), AttesterError> {
        let data = Data::try_from(bound.to_vec()).map_err(refused)?;
        context
            .execute_with_session(Some(AuthSession::Password), |context| {
                context.quote(
                    self.key,
                    data,
                    SignatureScheme::Null,
                    self.selection.clone(),
                )
            })
            .map_err(refused)
    }

    /// Values of the selected registers, ascending by number.
    fn registers(&self, context: &mut Context) -> Result<Vec<Bytes>, AttesterError> {
        let values = pcr::read_all(context, self.selection.clone()).map_err(refused)?;
        let bank = values
            .pcr_bank(HashingAlgorithm::Sha256)
            .ok_or_else(|| AttesterError::malformed("registers", "there is no bank of SHA-256"))?;
        self.slots
            .iter()
            .map(|slot| match bank.get_digest(*slot) {
                Some(digest) if digest.len() == 32 => Ok(Bytes::copy_from_slice(digest)),
                _ => Err(AttesterError::malformed(
                    "registers",
                    format!("{slot:?} is missing"),
                )),
            })
            .collect()
    }
}

impl Attester for Tpm {
    fn provider(&self) -> Provider {
        Provider::Tpm
    }

    fn attest(&self, bound: B256, _: B256) -> Result<Attestation, AttesterError> {
        let context = &mut *self.context.lock().unwrap_or_else(PoisonError::into_inner);
        let (registers, (quote, signature)) = settled(
            context,
            |context| self.registers(context),
            |context| {
                let (quote, signature) = self.quote(context, bound)?;
                Ok((quoted(&quote), (quote, signature)))
            },
        )?;
        bounded(Attestation::Tpm {
            quote: quote.marshall().map_err(refused)?.into(),
            signature: signature.marshall().map_err(refused)?.into(),
            registers,
            certificates: self.certificates.clone(),
        })
    }
}

/// Registers, and the quote of them as they were read: whoever extends one in between has both done again. `quote` also
/// returns the digest that it has of the registers.
fn settled<C, Q>(
    context: &mut C,
    registers: impl Fn(&mut C) -> Result<Vec<Bytes>, AttesterError>,
    quote: impl Fn(&mut C) -> Result<(Option<[u8; 32]>, Q), AttesterError>,
) -> Result<(Vec<Bytes>, Q), AttesterError> {
    for _ in 0..ATTEMPTS {
        let read = registers(context)?;
        let (digest, quote) = quote(context)?;
        if digest == Some(digest_of(&read)) {
            return Ok((read, quote));
        }
    }
    Err(AttesterError::Busy("tpm (registers)"))
}

fn connect(tcti: &str) -> Result<Context, AttesterError> {
    let name = TctiNameConf::from_str(tcti)
        .map_err(|_| AttesterError::Settings(format!("tcti: {tcti:?} names no TPM")))?;
    Context::new(name).map_err(refused)
}

/// Registers by number, ascending and each once.
fn slots(numbers: &[u8]) -> Result<Vec<PcrSlot>, AttesterError> {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.is_empty() {
        return Err(AttesterError::Settings("registers: none is named".into()));
    }
    numbers
        .into_iter()
        .map(|number| {
            Some(u32::from(number))
                .filter(|number| *number < REGISTERS)
                .and_then(|number| PcrSlot::try_from(1_u32 << number).ok())
                .ok_or_else(|| AttesterError::Settings(format!("registers: there is no {number}")))
        })
        .collect()
}

fn read_certificates(path: &Path) -> Result<Vec<Bytes>, AttesterError> {
    let refuse = |reason: String| {
        AttesterError::Settings(format!("certificates {}: {reason}", path.display()))
    };
    let certificates: Vec<Bytes> = CertificateDer::pem_file_iter(path)
        .map_err(|error| refuse(error.to_string()))?
        .take(MAX_CERTIFICATES + 1)
        .map(|certificate| certificate.map(|der| Bytes::copy_from_slice(&der)))
        .collect::<Result<_, _>>()
        .map_err(|error| refuse(error.to_string()))?;
    match certificates.len() {
        0 => Err(refuse("there is none".into())),
        1..=MAX_CERTIFICATES => Ok(certificates),
        _ => Err(refuse(format!("there are more than {MAX_CERTIFICATES}"))),
    }
}

/// Tells an operator who mixed up files, before the verifier does: a certificate holds its public key as it stands.
fn check_certificate(certificates: &[Bytes], public: &[u8]) -> Result<(), AttesterError> {
    let holds = |certificate: &Bytes| certificate.windows(public.len()).any(|part| part == public);
    match certificates.first() {
        Some(certificate) if holds(certificate) => Ok(()),
        _ => Err(AttesterError::Settings(
            "certificates: the first is not of the attestation key".into(),
        )),
    }
}

/// The digest of registers that a quote names.
fn quoted(quote: &Attest) -> Option<[u8; 32]> {
    match quote.attested() {
        AttestInfo::Quote { info } => info.pcr_digest().as_slice().try_into().ok(),
        _ => None,
    }
}

/// What a TPM makes of registers: the key's hash over their values (TPM 2.0 Library, part 1, section 17.6).
fn digest_of(registers: &[Bytes]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for register in registers {
        hash.update(register);
    }
    hash.finalize().into()
}

fn refused(error: tss_esapi::Error) -> AttesterError {
    AttesterError::Refused(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_sorted_and_wrong_numbers_refused() {
        assert_eq!(
            slots(&[16, 0, 16, 7]).unwrap(),
            [PcrSlot::Slot0, PcrSlot::Slot7, PcrSlot::Slot16]
        );
        for (numbers, reason) in [
            (&[][..], "none is named"),
            (&[0, 24], "no 24"),
            (&[255], "no 255"),
        ] {
            let error = slots(numbers).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    /// A register that changes after it was read, this many times.
    fn changing(mut times: u32) -> Result<(Vec<Bytes>, u32), AttesterError> {
        let value = |times: u32| vec![Bytes::copy_from_slice(&times.to_be_bytes())];
        settled(
            &mut times,
            |times| {
                let read = value(*times);
                *times = times.saturating_sub(1);
                Ok(read)
            },
            |times| Ok((Some(digest_of(&value(*times))), *times)),
        )
    }

    #[test]
    fn a_quote_of_other_registers_than_were_read_is_done_again_and_at_last_given_up() {
        assert_eq!(changing(0).unwrap().1, 0);
        let (registers, quoted) = changing(2).unwrap();
        assert_eq!((registers[0].as_ref(), quoted), (&[0; 4][..], 0));
        let error = changing(3).unwrap_err();
        assert!(error.is_retryable(), "{error}");
        let nothing = settled(&mut (), |()| Ok(Vec::new()), |()| Ok((None, ())));
        assert!(nothing.is_err());
    }

    #[test]
    fn a_name_of_no_tpm_is_refused() {
        let error = connect("telepathy").unwrap_err().to_string();
        assert!(error.contains("names no TPM"), "{error}");
    }
}
