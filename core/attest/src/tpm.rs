//! TPM 2.0: a quote of platform registers by an attestation key whose certificate chains to a root that policy names (TCG,
//! "TPM 2.0 Library", part 2: Structures; numbers are big-endian).

mod quote;

use crate::{
    AttestError, image,
    read::{malformed, unproven},
    x509::{Certificate, KeyKind, Rules, Scheme, check_path},
};
use alloy_primitives::{B256, Bytes};
use cryptlet_types::{Provider, UnixSeconds, policy::EvidenceRule};
use quote::{Quote, QuoteSignature};
use ring::{
    digest,
    signature::{self, UnparsedPublicKey, VerificationAlgorithm},
};
use std::collections::BTreeMap;
use subtle::ConstantTimeEq;
use x509_cert::der::asn1::ObjectIdentifier;

/// Most certificates below the root.
const MAX_CERTIFICATES: usize = 8;
/// Registers of a TPM.
const REGISTERS: u8 = 24;

const RULES: Rules<'static> = Rules {
    schemes: &[
        Scheme::EcdsaSha256,
        Scheme::EcdsaSha384,
        Scheme::RsaSha256,
        Scheme::RsaSha384,
        Scheme::RsaSha512,
    ],
    // tcg-kp-AIKCertificate: keys that sign only what a TPM says, and never what somebody hands it in that form.
    purpose: Some(ObjectIdentifier::new_unwrap("2.23.133.8.3")),
};

/// What comes with a quote, as [`cryptlet_types::Attestation::Tpm`] carries it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) quote: &'a [u8],
    pub(crate) signature: &'a [u8],
    pub(crate) registers: &'a [Bytes],
    pub(crate) certificates: &'a [Bytes],
}

pub(crate) fn judge(
    parts: Parts<'_>,
    bound: B256,
    rule: &EvidenceRule,
    at: UnixSeconds,
) -> Result<(), AttestError> {
    let quote = Quote::read(parts.quote)?;
    let signature = QuoteSignature::read(parts.signature)?;
    let leaf = check_certificates(parts.certificates, &rule.tpm_roots, at)?;
    check_signature(parts.quote, &signature, &leaf)?;
    if !bool::from(quote.extra_data.ct_eq(bound.as_slice())) {
        return Err(AttestError::Unbound {
            what: "qualifying data",
        });
    }
    let registers = check_registers(&quote, parts.registers)?;
    image::check(Provider::Tpm, rule, |name| {
        let number = image::pcr(name, REGISTERS).ok_or("is no register of a TPM")?;
        registers.get(&number).copied().ok_or("is not in the quote")
    })
}

/// The attestation key's certificate, if its path ends at one of `roots`.
fn check_certificates<'a>(
    certificates: &'a [Bytes],
    roots: &[Bytes],
    at: UnixSeconds,
) -> Result<Certificate<'a>, AttestError> {
    if roots.is_empty() {
        return Err(AttestError::Refused(
            "names no roots of TPMs (evidence.tpmRoots)".into(),
        ));
    }
    if certificates.len() > MAX_CERTIFICATES {
        let reason = format!("are more than {MAX_CERTIFICATES}");
        return Err(malformed("certificates", reason));
    }
    let mut last = Err(unproven("certificates", "chain to no root of policy's"));
    for root in roots {
        let root = Certificate::read("TPM root", root)?;
        let mut path = certificates
            .iter()
            .map(|der| Certificate::read("AK certificate", der))
            .collect::<Result<Vec<_>, _>>()?;
        if !path.last().is_some_and(|top| top.names_issuer(&root)) {
            continue;
        }
        path.push(root);
        last = check_path(&path, RULES, at);
        if last.is_ok() {
            break;
        }
    }
    last?;
    let leaf = certificates
        .first()
        .ok_or_else(|| malformed("certificates", "are missing"))?;
    let leaf = Certificate::read("AK certificate", leaf)?;
    match leaf.is_said_to_sign() {
        true => Ok(leaf),
        false => Err(unproven("AK certificate", "does not say that it signs")),
    }
}

fn check_signature(
    quote: &[u8],
    signature: &QuoteSignature,
    leaf: &Certificate<'_>,
) -> Result<(), AttestError> {
    let (algorithm, bytes): (&dyn VerificationAlgorithm, &[u8]) =
        match (signature, leaf.key_kind()?) {
            (QuoteSignature::Ecdsa(both), KeyKind::P256) => {
                (&signature::ECDSA_P256_SHA256_FIXED, both)
            }
            (QuoteSignature::RsaSsa(bytes), KeyKind::Rsa) => {
                (&signature::RSA_PKCS1_2048_8192_SHA256, bytes)
            }
            (QuoteSignature::RsaPss(bytes), KeyKind::Rsa) => {
                (&signature::RSA_PSS_2048_8192_SHA256, bytes)
            }
            _ => return Err(unproven("signature", "is of another kind than the AK")),
        };
    UnparsedPublicKey::new(algorithm, leaf.key())
        .verify(quote, bytes)
        .map_err(|_| unproven("quote", "is not signed by the AK"))
}

/// Gives the quoted registers their numbers, if they are those that were quoted.
fn check_registers<'a>(
    quote: &Quote,
    registers: &'a [Bytes],
) -> Result<BTreeMap<u8, &'a [u8]>, AttestError> {
    if registers.len() != quote.selected.len() {
        let reason = format!(
            "are {}, and the quote selects {}",
            registers.len(),
            quote.selected.len()
        );
        return Err(malformed("registers", reason));
    }
    let mut digest = digest::Context::new(&digest::SHA256);
    for register in registers {
        if register.len() != digest::SHA256_OUTPUT_LEN {
            return Err(malformed("registers", "one is not 32 bytes"));
        }
        digest.update(register);
    }
    if !bool::from(quote.pcr_digest.ct_eq(digest.finish().as_ref())) {
        return Err(unproven("registers", "are not those that were quoted"));
    }
    let numbers = quote.selected.iter().copied();
    Ok(numbers.zip(registers.iter().map(AsRef::as_ref)).collect())
}

#[cfg(test)]
mod tests;
