//! Lists of revoked certificates (RFC 5280, section 5).

use super::{Certificate, Scheme, Signed, check_extensions, seconds};
use crate::{
    AttestError,
    read::{malformed, unproven},
};
use cryptlet_types::UnixSeconds;
use x509_cert::{
    Version,
    crl::TbsCertList,
    der::{Decode, Encode},
    ext::pkix::KeyUsage,
};

/// Most bytes of a list: 64 KiB.
const MAX_LIST_BYTES: usize = 64 << 10;

/// What errors call a list.
const NAME: &str = "revocation list";

/// A complete list, signed by the authority whose certificates it is about and valid at the moment in question.
#[derive(Debug)]
pub(crate) struct Revocations {
    body: TbsCertList,
}

impl Revocations {
    /// Reads `issuer`'s list and checks it at `at`.
    ///
    /// # Errors
    /// Missing, not DER, longer than 64 KiB, a part of a list only, of another issuer, not yet or no longer valid, without an
    /// end of validity, or not signed by the issuer in one of `schemes`.
    pub(crate) fn read(
        der: &[u8],
        issuer: &Certificate<'_>,
        schemes: &[Scheme],
        at: UnixSeconds,
    ) -> Result<Self, AttestError> {
        let signed = Signed::read(NAME, der, MAX_LIST_BYTES)?;
        let body = TbsCertList::from_der(signed.body)
            .map_err(|error| malformed(NAME, error.to_string()))?;
        if body.version != Version::V2 {
            return Err(malformed(NAME, "is not of version 2"));
        }
        if body.signature != signed.algorithm {
            return Err(malformed(NAME, "names two signature algorithms"));
        }
        check_whole(&body)?;
        check_moment(&body, at)?;
        let names = (body.issuer.to_der(), issuer.body.subject.to_der());
        if !matches!(names, (Ok(own), Ok(issuers)) if own == issuers) {
            return Err(unproven(NAME, "is another authority's"));
        }
        if !issuer.usage.as_ref().is_some_and(KeyUsage::crl_sign) {
            return Err(unproven(NAME, "its issuer may not sign lists"));
        }
        signed.check(NAME, issuer, schemes)?;
        Ok(Self { body })
    }

    /// Refuses a certificate of the list's issuer that is in the list.
    ///
    /// # Errors
    /// It is.
    pub(crate) fn check(&self, certificate: &Certificate<'_>) -> Result<(), AttestError> {
        let revoked = self.body.revoked_certificates.as_deref();
        if revoked
            .unwrap_or_default()
            .iter()
            .any(|entry| &entry.serial_number == certificate.serial())
        {
            return Err(unproven(certificate.name, "is revoked"));
        }
        Ok(())
    }
}

/// Refuses parts of lists and lists about others' certificates: their extensions are critical (sections 5.2.4, 5.2.5, 5.3.3).
fn check_whole(body: &TbsCertList) -> Result<(), AttestError> {
    check_extensions(
        NAME,
        body.crl_extensions.as_deref().unwrap_or_default(),
        &[],
    )?;
    for entry in body.revoked_certificates.as_deref().unwrap_or_default() {
        let extensions = entry.crl_entry_extensions.as_deref();
        check_extensions(NAME, extensions.unwrap_or_default(), &[])?;
    }
    Ok(())
}

fn check_moment(body: &TbsCertList, at: UnixSeconds) -> Result<(), AttestError> {
    if at < seconds(body.this_update) {
        let reason = format!("is not valid before {}", body.this_update);
        return Err(unproven(NAME, reason));
    }
    match body.next_update {
        Some(next) if at <= seconds(next) => Ok(()),
        Some(next) => Err(unproven(NAME, format!("expired at {next}"))),
        None => Err(unproven(NAME, "does not say how long it is valid")),
    }
}
