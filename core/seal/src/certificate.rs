//! Certificates of attested TLS: made and read here, in one form and no other.
//!
//! X.509 version 3 (RFC 5280), self-signed with ECDSA on P-256 and SHA-256 (RFC 5758), at most a day long, with one extension:
//! `id-pe-cmw` (1.3.6.1.5.5.7.1.35, RFC 9999), in it the CBOR record `[media type, bytes, 4]`, 4 for evidence, in it an
//! [`AttestedKey`]. Names, serial number and everything else are the same in all of them: what is read is built anew from what
//! was understood and compared byte by byte, so that nothing is overlooked and nothing has two forms.
//!
//! Whether the evidence is believed is not decided here.

mod read;

pub use read::{Shown, read};

use crate::{SigningKey, sha256};
use alloy_primitives::{B256, Bytes};
use cryptlet_types::{
    Attestation, EvidenceStatement, UnixSeconds,
    channel::{
        AttestedKey, CERTIFICATE_SKEW_SECONDS, MAX_ATTESTED_KEY_BYTES, MAX_CERTIFICATE_SECONDS,
        MEDIA_TYPE, Party, Proof, TlsBinding,
    },
    region::encode,
    report::CompactSignature,
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use std::{str::FromStr, time::Duration};
use x509_cert::{
    Certificate, TbsCertificate, Version,
    der::{
        Any, Encode,
        asn1::{BitString, GeneralizedTime, ObjectIdentifier, OctetString, UtcTime},
    },
    ext::Extension,
    name::Name,
    serial_number::SerialNumber,
    spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
    time::{Time, Validity},
};
use zeroize::Zeroizing;

/// `id-pe-cmw`.
const CMW: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.35");
/// `ecdsa-with-SHA256`.
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
/// `id-ecPublicKey`, on the curve `prime256v1`.
const EC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// RFC 9999, section 3.1: the record is evidence.
const EVIDENCE: u64 = 1 << 2;
/// Bytes beside the attested key, at most.
const MAX_CERTIFICATE_BYTES: usize = MAX_ATTESTED_KEY_BYTES + 2048;
/// The first second that needs the longer form of time (RFC 5280, section 4.1.2.5): 2050.
const LONG_TIME: UnixSeconds = 2_524_608_000;

/// Why a certificate was refused, or could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It is not in the one form that certificates have here.
    #[error("certificate: {field}: {reason}")]
    Malformed {
        /// Which part.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// It carries no evidence: a certificate of something else.
    #[error("certificate: extension id-pe-cmw is missing")]
    NoEvidence,
    /// It carries evidence twice.
    #[error("certificate: extension id-pe-cmw is there {0} times")]
    Repeated(usize),
    /// It is larger than it may be.
    #[error("certificate: {what} has {found} bytes, at most {most}")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Bytes that it has.
        found: usize,
        /// Bytes that it may have.
        most: usize,
    },
    /// Its own signature does not hold: it was altered.
    #[error("certificate: its own signature does not hold (altered)")]
    Altered,
    /// It is not valid yet, or not any more.
    #[error("certificate: valid from {from} to {until}, it is {now}")]
    OutOfTime {
        /// First second.
        from: UnixSeconds,
        /// Last second.
        until: UnixSeconds,
        /// The moment at which it was judged.
        now: UnixSeconds,
    },
    /// It is valid for longer than a day, or ends before it begins.
    #[error("certificate: valid from {from} to {until}, a day at most")]
    LongLived {
        /// First second.
        from: UnixSeconds,
        /// Last second.
        until: UnixSeconds,
    },
    /// Its key is not that of whoever it names.
    #[error("certificate: its key is not bound to the {party}: {reason}")]
    NotBound {
        /// `host` or `region`.
        party: &'static str,
        /// Why.
        reason: String,
    },
    /// The system has no randomness, or a value no encoding.
    #[error("certificate cannot be made: {0}")]
    Make(&'static str),
}

impl CertificateError {
    /// Whether a new connection can help: only if time was the reason, since whoever is out of time makes a new certificate.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::OutOfTime { .. })
    }
}

/// A fresh TLS key, before anybody has said whose it is.
pub struct Draft {
    pair: EcdsaKeyPair,
    secret: Zeroizing<Vec<u8>>,
    binding: TlsBinding,
}

/// A certificate and its key, ready for TLS.
pub struct Identity {
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// Its secret key, PKCS #8.
    pub secret: Zeroizing<Vec<u8>>,
    /// Last second at which it can be shown.
    pub not_after: UnixSeconds,
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft")
            .field("binding", &self.binding)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Draft {
    /// A new key whose certificate will be valid from five minutes ago, since clocks differ, until `seconds` after `now`.
    ///
    /// # Errors
    /// [`CertificateError::Make`] without randomness; [`CertificateError::LongLived`].
    pub fn new(now: UnixSeconds, seconds: u64) -> Result<Self, CertificateError> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let secret = EcdsaKeyPair::generate_pkcs8(algorithm, &random)
            .map_err(|_| CertificateError::Make("no randomness"))?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, secret.as_ref(), &random)
            .map_err(|_| CertificateError::Make("the new key is none"))?;
        let spki = encoded(&spki(pair.public_key().as_ref())?)?;
        let binding = TlsBinding {
            key: sha256(&spki),
            not_before: now.saturating_sub(CERTIFICATE_SKEW_SECONDS),
            not_after: now.saturating_add(seconds),
        };
        short(&binding)?;
        Ok(Self {
            pair,
            secret: Zeroizing::new(secret.as_ref().to_vec()),
            binding,
        })
    }

    /// What the holder signs; for a region that hardware speaks for, also the nonce of its statement.
    #[must_use]
    pub fn digest(&self, party: Party) -> B256 {
        self.binding.digest(party)
    }

    /// The certificate of a host, with its host key's signature over [`Draft::digest`].
    ///
    /// # Errors
    /// As [`Draft::finish`].
    pub fn of_host(
        self,
        host: alloy_primitives::Address,
        signature: CompactSignature,
    ) -> Result<Identity, CertificateError> {
        self.finish(AttestedKey {
            proof: Proof::Host(host),
            signature,
        })
    }

    /// The certificate of a region, or of a container without a package, that hardware speaks for. The statement's nonce is
    /// [`Draft::digest`].
    ///
    /// # Errors
    /// As [`Draft::finish`].
    pub fn attested(
        self,
        statement: EvidenceStatement,
        attestation: Attestation,
        region_key: &SigningKey,
    ) -> Result<Identity, CertificateError> {
        let signed = region_key.sign(self.digest(Party::Region));
        let signature = signed.map_err(|_| CertificateError::Make("no signature"))?;
        self.finish(AttestedKey {
            proof: Proof::Attested {
                statement: Box::new(statement),
                attestation,
            },
            signature,
        })
    }

    /// The certificate. What no reader would take is not made.
    ///
    /// # Errors
    /// As [`read`].
    pub fn finish(self, key: AttestedKey) -> Result<Identity, CertificateError> {
        let tbs = tbs(self.pair.public_key().as_ref(), &self.binding, &key)?;
        let signed = self.pair.sign(&SystemRandom::new(), &encoded(&tbs)?);
        let signature = signed.map_err(|_| CertificateError::Make("no randomness"))?;
        let certificate = encoded(&Certificate {
            tbs_certificate: tbs,
            signature_algorithm: ecdsa(),
            signature: BitString::from_bytes(signature.as_ref()).map_err(unencodable)?,
        })?;
        read(&certificate, self.binding.not_before)?;
        Ok(Identity {
            certificate,
            secret: self.secret,
            not_after: self.binding.not_after,
        })
    }
}

fn tbs(
    point: &[u8],
    binding: &TlsBinding,
    key: &AttestedKey,
) -> Result<TbsCertificate, CertificateError> {
    let content = encode(key).map_err(|_| CertificateError::Make("no CBOR"))?;
    bounded("attested key", content.len(), MAX_ATTESTED_KEY_BYTES)?;
    let record = encode(&(MEDIA_TYPE, Bytes::from(content), EVIDENCE))
        .map_err(|_| CertificateError::Make("no CBOR"))?;
    let record = encoded(&OctetString::new(record).map_err(unencodable)?)?;
    let name = Name::from_str("CN=bletchley").map_err(unencodable)?;
    Ok(TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::from(1_u8),
        signature: ecdsa(),
        issuer: name.clone(),
        validity: Validity {
            not_before: time(binding.not_before)?,
            not_after: time(binding.not_after)?,
        },
        subject: name,
        subject_public_key_info: spki(point)?,
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(vec![Extension {
            extn_id: CMW,
            critical: false,
            extn_value: OctetString::new(record).map_err(unencodable)?,
        }]),
    })
}

fn spki(point: &[u8]) -> Result<SubjectPublicKeyInfoOwned, CertificateError> {
    Ok(SubjectPublicKeyInfoOwned {
        algorithm: AlgorithmIdentifierOwned {
            oid: EC_KEY,
            parameters: Some(Any::from(&P256)),
        },
        subject_public_key: BitString::from_bytes(point).map_err(unencodable)?,
    })
}

fn ecdsa() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned {
        oid: ECDSA_SHA256,
        parameters: None,
    }
}

fn time(seconds: UnixSeconds) -> Result<Time, CertificateError> {
    let since = Duration::from_secs(seconds);
    let time = if seconds < LONG_TIME {
        UtcTime::from_unix_duration(since).map(Time::from)
    } else {
        GeneralizedTime::from_unix_duration(since).map(Time::from)
    };
    time.map_err(unencodable)
}

fn short(binding: &TlsBinding) -> Result<(), CertificateError> {
    let (from, until) = (binding.not_before, binding.not_after);
    match until.checked_sub(from) {
        Some(length) if length <= MAX_CERTIFICATE_SECONDS => Ok(()),
        _ => Err(CertificateError::LongLived { from, until }),
    }
}

fn bounded(what: &'static str, found: usize, most: usize) -> Result<(), CertificateError> {
    if found <= most {
        Ok(())
    } else {
        Err(CertificateError::TooLarge { what, found, most })
    }
}

fn encoded(value: &impl Encode) -> Result<Vec<u8>, CertificateError> {
    value.to_der().map_err(unencodable)
}

fn unencodable(_: x509_cert::der::Error) -> CertificateError {
    CertificateError::Make("no DER")
}

fn malformed<E: std::fmt::Display>(field: &'static str) -> impl Fn(E) -> CertificateError {
    move |error| CertificateError::Malformed {
        field,
        reason: cryptlet_types::bounded::clip(&error.to_string()),
    }
}

#[cfg(test)]
mod tests;
