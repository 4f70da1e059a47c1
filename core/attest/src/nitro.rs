//! AWS Nitro enclaves: a document that the hypervisor signs with a key whose certificate AWS signs (AWS, "Nitro Enclaves
//! Attestation Process"; RFC 9052).

mod document;

use crate::{
    AttestError, image,
    read::{malformed, unproven},
    x509::{Certificate, KeyKind, Rules, Scheme, check_path},
};
use alloy_primitives::B256;
use cryptlet_types::{Provider, UnixSeconds, policy::EvidenceRule};
use document::Document;
use ring::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use subtle::ConstantTimeEq;

/// AWS's root `aws.nitro-enclaves`, G1. `roots/README.md` has its digest.
const AWS: &[u8] = include_bytes!("../roots/aws-nitro-g1.der");

/// Every certificate of AWS's is signed so.
const RULES: Rules<'static> = Rules {
    schemes: &[Scheme::EcdsaSha384],
    purpose: None,
};

/// Registers that policy can name.
const REGISTERS: u8 = 16;

pub(crate) fn judge(
    document: &[u8],
    bound: B256,
    nonce: B256,
    rule: &EvidenceRule,
    at: UnixSeconds,
) -> Result<(), AttestError> {
    judge_under(AWS, document, bound, nonce, rule, at)
}

fn judge_under(
    root: &[u8],
    document: &[u8],
    bound: B256,
    nonce: B256,
    rule: &EvidenceRule,
    at: UnixSeconds,
) -> Result<(), AttestError> {
    let document = Document::read(document)?;
    check_signatures(root, &document, at)?;
    check_age(&document, rule, at)?;
    check_equal("user_data", document.user_data.as_deref(), bound)?;
    check_equal("nonce", document.nonce.as_deref(), nonce)?;
    check_image(&document, rule)
}

/// Checks that AWS made the document.
fn check_signatures(root: &[u8], document: &Document, at: UnixSeconds) -> Result<(), AttestError> {
    if document.bundle.first().map(Vec::as_slice) != Some(root) {
        return Err(unproven("cabundle", "does not begin with AWS's root"));
    }
    let mut path = vec![Certificate::read("certificate", &document.certificate)?];
    for above in document.bundle.iter().rev() {
        path.push(Certificate::read("cabundle", above)?);
    }
    check_path(&path, RULES, at)?;
    let [leaf, ..] = path.as_slice() else {
        return Err(malformed("certificate", "is missing"));
    };
    if leaf.key_kind()? != KeyKind::P384 {
        return Err(malformed("certificate", "has no key on P-384"));
    }
    if !leaf.is_said_to_sign() {
        return Err(unproven("certificate", "does not say that it signs"));
    }
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, leaf.key())
        .verify(&document.signed, &document.signature)
        .map_err(|_| unproven("document", "is not signed by its certificate"))
}

fn check_age(document: &Document, rule: &EvidenceRule, at: UnixSeconds) -> Result<(), AttestError> {
    let Some(age) = at.checked_sub(document.milliseconds / 1000) else {
        return Err(unproven("timestamp", "lies in the future"));
    };
    match age <= rule.max_age_seconds {
        true => Ok(()),
        false => Err(AttestError::Refused(format!(
            "the document is {age} s old, more than {} s",
            rule.max_age_seconds
        ))),
    }
}

fn check_equal(what: &'static str, own: Option<&[u8]>, wanted: B256) -> Result<(), AttestError> {
    let equal = own.is_some_and(|own| bool::from(own.ct_eq(wanted.as_slice())));
    match equal {
        true => Ok(()),
        false => Err(AttestError::Unbound { what }),
    }
}

/// A host that debugs an enclave has it say zero in the registers of the image: nothing is measured then.
fn check_image(document: &Document, rule: &EvidenceRule) -> Result<(), AttestError> {
    let measured = document
        .pcrs
        .get(&0)
        .is_some_and(|first| first.iter().any(|byte| *byte != 0));
    if !measured {
        return Err(AttestError::Refused(
            "pcr0 is zero or missing: the host debugs the enclave".into(),
        ));
    }
    image::check(Provider::Nitro, rule, |name| {
        let number = image::pcr(name, REGISTERS).ok_or("is no register of Nitro")?;
        let register = document.pcrs.get(&number).ok_or("is not in the document")?;
        Ok(register)
    })
}

#[cfg(test)]
mod tests;
