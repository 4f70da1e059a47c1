//! Reading a certificate: everything in it is understood, or it is refused.

use super::{
    CMW, CertificateError, EVIDENCE, MAX_CERTIFICATE_BYTES, bounded, ecdsa, encoded, malformed,
    short, spki, tbs,
};
use crate::{check, sha256};
use alloy_primitives::Bytes;
use cryptlet_types::{
    UnixSeconds,
    channel::{AttestedKey, MAX_ATTESTED_KEY_BYTES, MEDIA_TYPE, Party, Proof, TlsBinding},
    region::decode,
};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use x509_cert::{
    Certificate, TbsCertificate,
    der::{Decode, asn1::OctetString},
};

/// What a certificate shows: its key is its holder's, by the holder's own signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Who it is, to be believed or not.
    pub proof: Proof,
    /// The key, SubjectPublicKeyInfo (DER): what signatures of a TLS handshake are verified by.
    pub spki: Vec<u8>,
    /// The key's digest, and its time.
    pub binding: TlsBinding,
}

/// Reads a certificate as of `now`: form, time, its own signature and that of its holder.
///
/// # Errors
/// Names the part that is missing, too large or wrong.
pub fn read(der: &[u8], now: UnixSeconds) -> Result<Shown, CertificateError> {
    bounded("it", der.len(), MAX_CERTIFICATE_BYTES)?;
    let certificate = Certificate::from_der(der).map_err(malformed("DER"))?;
    let found = &certificate.tbs_certificate;
    let key = attested_key(found)?;
    let point = found.subject_public_key_info.subject_public_key.raw_bytes();
    let spki = encoded(&spki(point)?)?;
    let binding = TlsBinding {
        key: sha256(&spki),
        not_before: found.validity.not_before.to_unix_duration().as_secs(),
        not_after: found.validity.not_after.to_unix_duration().as_secs(),
    };
    let expected = tbs(point, &binding, &key)?;
    if *found != expected || certificate.signature_algorithm != ecdsa() {
        let part = differing(found, &expected);
        return Err(CertificateError::Malformed {
            field: part,
            reason: "not as in every certificate here".into(),
        });
    }
    // None where bits of the last byte are said not to count.
    let signature = certificate.signature.as_bytes().unwrap_or_default();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
        .verify(&encoded(found)?, signature)
        .map_err(|_| CertificateError::Altered)?;
    short(&binding)?;
    timely(&binding, now)?;
    bound(&key, &binding)?;
    Ok(Shown {
        proof: key.proof,
        spki,
        binding,
    })
}

/// The one extension's content.
fn attested_key(tbs: &TbsCertificate) -> Result<AttestedKey, CertificateError> {
    let extensions = tbs.extensions.as_deref().unwrap_or_default();
    let mut fitting = extensions.iter().filter(|each| each.extn_id == CMW);
    let first = fitting.next().ok_or(CertificateError::NoEvidence)?;
    match fitting.count() {
        0 => {}
        more => return Err(CertificateError::Repeated(more.saturating_add(1))),
    }
    let value = first.extn_value.as_bytes();
    bounded("id-pe-cmw", value.len(), MAX_ATTESTED_KEY_BYTES + 128)?;
    let cbor = OctetString::from_der(value).map_err(malformed("id-pe-cmw"))?;
    let (kind, content, indicator): (String, Bytes, u64) =
        decode(cbor.as_bytes()).map_err(malformed("id-pe-cmw"))?;
    if kind != MEDIA_TYPE || indicator != EVIDENCE {
        return Err(CertificateError::Malformed {
            field: "id-pe-cmw",
            reason: "a record of another type".into(),
        });
    }
    bounded("attested key", content.len(), MAX_ATTESTED_KEY_BYTES)?;
    decode(&content).map_err(malformed("attested key"))
}

/// Which part of a certificate is not as it has to be, for people.
fn differing(found: &TbsCertificate, expected: &TbsCertificate) -> &'static str {
    let parts = [
        ("version", found.version != expected.version),
        (
            "serialNumber",
            found.serial_number != expected.serial_number,
        ),
        ("issuer", found.issuer != expected.issuer),
        ("validity", found.validity != expected.validity),
        ("subject", found.subject != expected.subject),
        (
            "subjectPublicKeyInfo",
            found.subject_public_key_info != expected.subject_public_key_info,
        ),
        ("extensions", found.extensions != expected.extensions),
        ("signature", found.signature != expected.signature),
    ];
    let differing = parts.into_iter().find(|(_, differs)| *differs);
    differing.map_or("signatureAlgorithm", |(name, _)| name)
}

fn timely(binding: &TlsBinding, now: UnixSeconds) -> Result<(), CertificateError> {
    let (from, until) = (binding.not_before, binding.not_after);
    if from <= now && now <= until {
        Ok(())
    } else {
        Err(CertificateError::OutOfTime { from, until, now })
    }
}

/// The holder's signature, and, where hardware speaks for it, that hardware speaks of this key.
fn bound(key: &AttestedKey, binding: &TlsBinding) -> Result<(), CertificateError> {
    let party = key.proof.party();
    let digest = binding.digest(party);
    let refuse = |reason: String| CertificateError::NotBound {
        party: match party {
            Party::Host => "host",
            Party::Region => "region",
        },
        reason,
    };
    check(digest, &key.signature, key.proof.signer()).map_err(|error| refuse(error.to_string()))?;
    match &key.proof {
        Proof::Attested { statement, .. } if statement.nonce != digest => {
            Err(refuse("the statement is of another key".into()))
        }
        _ => Ok(()),
    }
}
