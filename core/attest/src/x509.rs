//! Certificate paths in the order that the evidence gives them (RFC 5280, section 6.1), at a given moment.
//!
//! Nothing is searched for: each certificate is signed by the next, and the last one is trusted because the caller compared
//! it with a root that it knows. Names are compared as they are encoded. Signatures are ring's.

mod revocations;

pub(crate) use revocations::Revocations;

use crate::{
    AttestError,
    read::{malformed, unproven},
};
use cryptlet_types::UnixSeconds;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_cert::{
    TbsCertificate, Version,
    der::{
        Decode, Encode, Reader, SliceReader,
        asn1::{BitStringRef, ObjectIdentifier},
        oid::db::{rfc5280, rfc5912},
    },
    ext::{
        Extension,
        pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage},
    },
    serial_number::SerialNumber,
    spki::AlgorithmIdentifierOwned,
    time::Time,
};

/// Most bytes of a certificate: 8 KiB.
const MAX_CERTIFICATE_BYTES: usize = 8 << 10;

/// Extensions that may be critical: what they say is checked, or (alternative names) nothing here rests on it.
const UNDERSTOOD: [ObjectIdentifier; 4] = [
    rfc5280::ID_CE_BASIC_CONSTRAINTS,
    rfc5280::ID_CE_KEY_USAGE,
    rfc5280::ID_CE_EXT_KEY_USAGE,
    rfc5280::ID_CE_SUBJECT_ALT_NAME,
];

/// `RSASSA-PSS-params` (RFC 4055, section 3.1) of SHA-384, MGF1 with SHA-384 and 48 bytes of salt, without the header.
const PSS_SHA384: [u8; 52] = [
    0xa0, 0x0f, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05,
    0x00, 0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08,
    0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa2,
    0x03, 0x02, 0x01, 0x30,
];
/// The trailer field, which DER leaves out when it is 1. AMD writes it.
const PSS_TRAILER: [u8; 5] = [0xa3, 0x03, 0x02, 0x01, 0x01];

/// How a certificate or list is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    EcdsaSha256,
    EcdsaSha384,
    RsaSha256,
    RsaSha384,
    RsaSha512,
    RsaPssSha384,
}

impl Scheme {
    fn read(algorithm: &AlgorithmIdentifierOwned) -> Option<Self> {
        let parameters = algorithm.parameters.as_ref();
        let null = parameters.is_some_and(|any| any.is_null());
        let pss = || {
            let value = parameters?.value();
            let rest = value.strip_prefix(&PSS_SHA384[..])?;
            (rest.is_empty() || rest == PSS_TRAILER).then_some(Self::RsaPssSha384)
        };
        match algorithm.oid {
            rfc5912::ECDSA_WITH_SHA_256 if parameters.is_none() => Some(Self::EcdsaSha256),
            rfc5912::ECDSA_WITH_SHA_384 if parameters.is_none() => Some(Self::EcdsaSha384),
            rfc5912::SHA_256_WITH_RSA_ENCRYPTION if null => Some(Self::RsaSha256),
            rfc5912::SHA_384_WITH_RSA_ENCRYPTION if null => Some(Self::RsaSha384),
            rfc5912::SHA_512_WITH_RSA_ENCRYPTION if null => Some(Self::RsaSha512),
            rfc5912::ID_RSASSA_PSS => pss(),
            _ => None,
        }
    }
}

/// Kinds of keys that signatures are checked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    P256,
    P384,
    /// 2,048 to 8,192 bits: ring refuses others.
    Rsa,
}

/// Something that was signed as certificates and lists are: a body, how, and the signature over the body's very bytes.
#[derive(Debug)]
struct Signed<'a> {
    body: &'a [u8],
    algorithm: AlgorithmIdentifierOwned,
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    fn read(name: &'static str, der: &'a [u8], most: usize) -> Result<Self, AttestError> {
        if der.is_empty() {
            return Err(malformed(name, "is missing"));
        }
        if der.len() > most {
            return Err(malformed(name, format!("is longer than {most} bytes")));
        }
        let parts = || {
            let mut reader = SliceReader::new(der)?;
            let parts = reader.sequence(|parts| {
                let body = parts.tlv_bytes()?;
                let algorithm = AlgorithmIdentifierOwned::decode(parts)?;
                Ok((body, algorithm, BitStringRef::decode(parts)?))
            })?;
            reader.finish(parts)
        };
        let (body, algorithm, bits) =
            parts().map_err(|error| malformed(name, format!("is no DER: {error}")))?;
        let signature = bits
            .as_bytes()
            .ok_or_else(|| malformed(name, "signature is no whole number of bytes"))?;
        Ok(Self {
            body,
            algorithm,
            signature,
        })
    }

    /// Checks the signature by the issuer's key, made in one of `schemes`.
    fn check(
        &self,
        name: &'static str,
        issuer: &Certificate<'_>,
        schemes: &[Scheme],
    ) -> Result<(), AttestError> {
        let scheme = Scheme::read(&self.algorithm).filter(|scheme| schemes.contains(scheme));
        let algorithm: &'static dyn VerificationAlgorithm = match (scheme, issuer.key_kind()?) {
            (Some(Scheme::EcdsaSha256), KeyKind::P256) => &signature::ECDSA_P256_SHA256_ASN1,
            (Some(Scheme::EcdsaSha256), KeyKind::P384) => &signature::ECDSA_P384_SHA256_ASN1,
            (Some(Scheme::EcdsaSha384), KeyKind::P256) => &signature::ECDSA_P256_SHA384_ASN1,
            (Some(Scheme::EcdsaSha384), KeyKind::P384) => &signature::ECDSA_P384_SHA384_ASN1,
            (Some(Scheme::RsaSha256), KeyKind::Rsa) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (Some(Scheme::RsaSha384), KeyKind::Rsa) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (Some(Scheme::RsaSha512), KeyKind::Rsa) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (Some(Scheme::RsaPssSha384), KeyKind::Rsa) => &signature::RSA_PSS_2048_8192_SHA384,
            _ => return Err(unproven(name, "is not signed as its vendor signs")),
        };
        UnparsedPublicKey::new(algorithm, issuer.key())
            .verify(self.body, self.signature)
            .map_err(|_| unproven(name, format!("is not signed by the {}", issuer.name)))
    }
}

/// What a path has to obey beside RFC 5280.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    /// How its certificates may be signed.
    pub(crate) schemes: &'a [Scheme],
    /// The one purpose that extended key usage may name. A certificate that names purposes without it is refused.
    pub(crate) purpose: Option<ObjectIdentifier>,
}

/// A certificate.
#[derive(Debug)]
pub(crate) struct Certificate<'a> {
    name: &'static str,
    der: &'a [u8],
    signed: Signed<'a>,
    body: TbsCertificate,
    constraints: Option<BasicConstraints>,
    usage: Option<KeyUsage>,
    purposes: Option<ExtendedKeyUsage>,
}

impl<'a> Certificate<'a> {
    /// Reads a certificate, which errors call `name`.
    ///
    /// # Errors
    /// Not DER, not version 3, longer than 8 KiB, an extension twice, or a critical one that nothing here checks.
    pub(crate) fn read(name: &'static str, der: &'a [u8]) -> Result<Self, AttestError> {
        let signed = Signed::read(name, der, MAX_CERTIFICATE_BYTES)?;
        let body = TbsCertificate::from_der(signed.body)
            .map_err(|error| malformed(name, error.to_string()))?;
        if body.version != Version::V3 {
            return Err(malformed(name, "is not of version 3"));
        }
        if body.signature != signed.algorithm {
            return Err(malformed(name, "names two signature algorithms"));
        }
        let extensions = body.extensions.as_deref().unwrap_or_default();
        check_extensions(name, extensions, &UNDERSTOOD)?;
        Ok(Self {
            constraints: decoded(name, extensions, rfc5280::ID_CE_BASIC_CONSTRAINTS)?,
            usage: decoded(name, extensions, rfc5280::ID_CE_KEY_USAGE)?,
            purposes: decoded(name, extensions, rfc5280::ID_CE_EXT_KEY_USAGE)?,
            name,
            der,
            signed,
            body,
        })
    }

    pub(crate) fn der(&self) -> &'a [u8] {
        self.der
    }

    fn serial(&self) -> &SerialNumber {
        &self.body.serial_number
    }

    /// Whether `issuer` is named as the one who signed it.
    pub(crate) fn names_issuer(&self, issuer: &Certificate<'_>) -> bool {
        let names = (self.body.issuer.to_der(), issuer.body.subject.to_der());
        matches!(names, (Ok(own), Ok(issuers)) if own == issuers)
    }

    /// What an extension holds.
    pub(crate) fn extension(&self, id: ObjectIdentifier) -> Option<&[u8]> {
        let extensions = self.body.extensions.as_deref().unwrap_or_default();
        find(extensions, id).map(|extension| extension.extn_value.as_bytes())
    }

    /// Whether key usage is stated and includes signatures of what is no certificate.
    pub(crate) fn is_said_to_sign(&self) -> bool {
        self.usage.as_ref().is_some_and(KeyUsage::digital_signature)
    }

    /// The subject's public key: a point in SEC 1 form, or `RSAPublicKey` in DER.
    pub(crate) fn key(&self) -> &[u8] {
        self.body
            .subject_public_key_info
            .subject_public_key
            .raw_bytes()
    }

    /// Of which kind the subject's public key is.
    ///
    /// # Errors
    /// Of none that is known here.
    pub(crate) fn key_kind(&self) -> Result<KeyKind, AttestError> {
        let algorithm = &self.body.subject_public_key_info.algorithm;
        let parameters = algorithm.parameters.as_ref();
        let curve = parameters.and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
        match (algorithm.oid, curve) {
            (rfc5912::ID_EC_PUBLIC_KEY, Some(rfc5912::SECP_256_R_1)) => Ok(KeyKind::P256),
            (rfc5912::ID_EC_PUBLIC_KEY, Some(rfc5912::SECP_384_R_1)) => Ok(KeyKind::P384),
            (rfc5912::RSA_ENCRYPTION, None) => Ok(KeyKind::Rsa),
            _ => Err(malformed(self.name, "has a key of an unknown kind")),
        }
    }

    /// Checks what holds for every certificate of a path: the moment and its purpose.
    fn check_alone(&self, rules: Rules<'_>, at: UnixSeconds) -> Result<(), AttestError> {
        let validity = &self.body.validity;
        if at < seconds(validity.not_before) {
            let reason = format!("is not valid before {}", validity.not_before);
            return Err(unproven(self.name, reason));
        }
        if at > seconds(validity.not_after) {
            let reason = format!("expired at {}", validity.not_after);
            return Err(unproven(self.name, reason));
        }
        let stated = self.purposes.as_ref().map(|purposes| &purposes.0);
        let fits = stated.is_none_or(|stated| {
            rules
                .purpose
                .is_some_and(|purpose| stated.contains(&purpose))
        });
        match fits {
            true => Ok(()),
            false => Err(unproven(self.name, "is for another purpose")),
        }
    }

    /// Checks that it may sign certificates with `below` certificates of authorities between it and the leaf.
    fn check_authority(&self, below: usize) -> Result<(), AttestError> {
        let constraints = self.constraints.as_ref().filter(|stated| stated.ca);
        let Some(constraints) = constraints else {
            return Err(unproven(self.name, "is no authority's"));
        };
        let longest = constraints.path_len_constraint.map(usize::from);
        if longest.is_some_and(|longest| below > longest) {
            return Err(unproven(self.name, "does not allow a path as long"));
        }
        match self.usage.as_ref().is_some_and(KeyUsage::key_cert_sign) {
            true => Ok(()),
            false => Err(unproven(self.name, "may not sign certificates")),
        }
    }

    /// Checks that it is no authority's, and may sign what is no certificate.
    fn check_leaf(&self) -> Result<(), AttestError> {
        if self.constraints.as_ref().is_some_and(|stated| stated.ca) {
            return Err(unproven(self.name, "is an authority's"));
        }
        match self.usage.as_ref().is_none_or(KeyUsage::digital_signature) {
            true => Ok(()),
            false => Err(unproven(self.name, "may not sign")),
        }
    }
}

/// Checks a path from its leaf to its root. That the root is to be trusted is for the caller to know.
///
/// # Errors
/// Names the certificate that does not hold: validity at `at`, authority, path length, key usage, purpose, name of the
/// issuer, or signature.
pub(crate) fn check_path(
    path: &[Certificate<'_>],
    rules: Rules<'_>,
    at: UnixSeconds,
) -> Result<(), AttestError> {
    let Some((leaf, authorities)) = path.split_first() else {
        return Err(malformed("certificates", "are missing"));
    };
    leaf.check_leaf()?;
    leaf.check_alone(rules, at)?;
    let mut subject = leaf;
    for (below, issuer) in authorities.iter().enumerate() {
        issuer.check_alone(rules, at)?;
        issuer.check_authority(below)?;
        if !subject.names_issuer(issuer) {
            let reason = format!("is not issued by the {}", issuer.name);
            return Err(unproven(subject.name, reason));
        }
        subject.signed.check(subject.name, issuer, rules.schemes)?;
        subject = issuer;
    }
    Ok(())
}

fn seconds(time: Time) -> UnixSeconds {
    time.to_unix_duration().as_secs()
}

fn find(extensions: &[Extension], id: ObjectIdentifier) -> Option<&Extension> {
    extensions.iter().find(|extension| extension.extn_id == id)
}

/// Decodes an extension, if it is there.
fn decoded<'a, T: Decode<'a>>(
    name: &'static str,
    extensions: &'a [Extension],
    id: ObjectIdentifier,
) -> Result<Option<T>, AttestError> {
    find(extensions, id)
        .map(|extension| T::from_der(extension.extn_value.as_bytes()))
        .transpose()
        .map_err(|error| malformed(name, format!("extension {id}: {error}")))
}

/// Refuses an extension that is there twice, and a critical one that is not `understood`.
fn check_extensions(
    name: &'static str,
    extensions: &[Extension],
    understood: &[ObjectIdentifier],
) -> Result<(), AttestError> {
    for (index, extension) in extensions.iter().enumerate() {
        let id = extension.extn_id;
        if extensions
            .iter()
            .take(index)
            .any(|earlier| earlier.extn_id == id)
        {
            return Err(malformed(name, format!("extension {id} is there twice")));
        }
        if extension.critical && !understood.contains(&id) {
            return Err(unproven(
                name,
                format!("critical extension {id} is unknown"),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
