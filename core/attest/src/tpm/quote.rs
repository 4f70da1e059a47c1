//! `TPMS_ATTEST` of a quote and `TPMT_SIGNATURE` (TPM 2.0 Library, part 2, sections 10.12 and 11.3).

use crate::{
    AttestError,
    read::{Fields, malformed},
};

/// `TPM_GENERATED_VALUE`: begins all that a TPM signs of itself, and nothing that a restricted key signs for others.
const GENERATED: u32 = 0xff54_4347;
/// `TPM_ST_ATTEST_QUOTE`.
const ATTEST_QUOTE: u16 = 0x8018;
const ALG_SHA256: u16 = 0x000b;
const ALG_RSASSA: u16 = 0x0014;
const ALG_RSAPSS: u16 = 0x0016;
const ALG_ECDSA: u16 = 0x0018;
/// Most bytes of a name (`TPM2B_NAME`): algorithm and SHA-512.
const MAX_NAME_BYTES: usize = 66;
/// Bytes of the bitmap that selects 24 registers.
const SELECT_BYTES: u8 = 3;
/// Bytes of a signature by a key of 2,048 bits.
const RSA_2048_BYTES: usize = 256;

/// What a quote says. Nothing of it is true before the signature is checked.
#[derive(Debug)]
pub(super) struct Quote {
    /// What the caller of the TPM had it sign along.
    pub(super) extra_data: [u8; 32],
    /// Numbers of the selected registers of the SHA-256 bank, ascending.
    pub(super) selected: Vec<u8>,
    /// SHA-256 over the selected registers.
    pub(super) pcr_digest: [u8; 32],
}

impl Quote {
    /// Reads `TPMS_ATTEST`.
    ///
    /// # Errors
    /// Not a quote; another bank than that of SHA-256, or a second one; a field of another size; bytes behind the last.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, AttestError> {
        let mut fields = Fields::of(bytes);
        if u32::from_be_bytes(fields.array("magic")?) != GENERATED {
            return Err(malformed("magic", "is not that of a TPM"));
        }
        if u16::from_be_bytes(fields.array("type")?) != ATTEST_QUOTE {
            return Err(malformed("type", "is no quote"));
        }
        sized(&mut fields, "qualified signer", 0..=MAX_NAME_BYTES)?;
        let extra_data = exact(&mut fields, "qualifying data")?;
        fields.bytes(16, "clock and counts")?;
        if fields.array::<1>("safe")? > [1] {
            return Err(malformed("safe", "is neither yes nor no"));
        }
        fields.bytes(8, "firmware version")?;
        let selected = selected(&mut fields)?;
        let pcr_digest = exact(&mut fields, "PCR digest")?;
        fields.end("quote")?;
        Ok(Self {
            extra_data,
            selected,
            pcr_digest,
        })
    }
}

/// One selection (`TPML_PCR_SELECTION`): more than one would mean registers of other banks.
fn selected(fields: &mut Fields<'_>) -> Result<Vec<u8>, AttestError> {
    const FIELD: &str = "PCR selection";
    if u32::from_be_bytes(fields.array(FIELD)?) != 1 {
        return Err(malformed(FIELD, "is not of one bank"));
    }
    if u16::from_be_bytes(fields.array(FIELD)?) != ALG_SHA256 {
        return Err(malformed(FIELD, "is not of the SHA-256 bank"));
    }
    if fields.array(FIELD)? != [SELECT_BYTES] {
        return Err(malformed(FIELD, "is not 3 bytes"));
    }
    let [a, b, c] = fields.array(FIELD)?;
    let bits = u32::from_le_bytes([a, b, c, 0]);
    Ok((0..24).filter(|number| bits >> number & 1 == 1).collect())
}

/// A signature over SHA-256 of a quote.
#[derive(Debug)]
pub(super) enum QuoteSignature {
    /// `r` and `s` on P-256, big-endian, 32 bytes each.
    Ecdsa([u8; 64]),
    /// RSASSA-PKCS1-v1_5, 2,048 bits.
    RsaSsa(Vec<u8>),
    /// RSASSA-PSS, 2,048 bits, with 32 bytes of salt.
    RsaPss(Vec<u8>),
}

impl QuoteSignature {
    /// Reads `TPMT_SIGNATURE`.
    ///
    /// # Errors
    /// Another algorithm, hash or size; bytes behind it.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, AttestError> {
        const FIELD: &str = "signature";
        let mut fields = Fields::of(bytes);
        let algorithm = u16::from_be_bytes(fields.array(FIELD)?);
        if u16::from_be_bytes(fields.array(FIELD)?) != ALG_SHA256 {
            return Err(malformed(FIELD, "is not over SHA-256"));
        }
        let signature = match algorithm {
            ALG_ECDSA => Self::Ecdsa(numbers(&mut fields)?),
            ALG_RSASSA | ALG_RSAPSS => {
                let bytes = sized(&mut fields, FIELD, RSA_2048_BYTES..=RSA_2048_BYTES)?.to_vec();
                match algorithm {
                    ALG_RSASSA => Self::RsaSsa(bytes),
                    _ => Self::RsaPss(bytes),
                }
            }
            other => {
                let reason = format!("algorithm {other:#06x} is not known");
                return Err(malformed(FIELD, reason));
            }
        };
        fields.end(FIELD)?;
        Ok(signature)
    }
}

/// `r` and `s`. A TPM may leave out zeros in front.
fn numbers(fields: &mut Fields<'_>) -> Result<[u8; 64], AttestError> {
    let mut both = [0; 64];
    let (r, s) = both.split_at_mut(32);
    for number in [r, s] {
        let bytes = sized(fields, "signature", 1..=32)?;
        for (to, from) in number.iter_mut().rev().zip(bytes.iter().rev()) {
            *to = *from;
        }
    }
    Ok(both)
}

/// A `TPM2B`: its size, which has to be one of `sizes`, and as many bytes.
fn sized<'a>(
    fields: &mut Fields<'a>,
    field: &'static str,
    sizes: std::ops::RangeInclusive<usize>,
) -> Result<&'a [u8], AttestError> {
    let size = usize::from(u16::from_be_bytes(fields.array(field)?));
    if !sizes.contains(&size) {
        return Err(malformed(field, format!("has {size} bytes")));
    }
    fields.bytes(size, field)
}

/// A `TPM2B` of 32 bytes.
fn exact(fields: &mut Fields<'_>, field: &'static str) -> Result<[u8; 32], AttestError> {
    let bytes = sized(fields, field, 32..=32)?;
    bytes
        .try_into()
        .map_err(|_| malformed(field, "is not 32 bytes"))
}
