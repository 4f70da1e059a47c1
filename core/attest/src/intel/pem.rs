//! Chains of certificates as PEM (RFC 7468).

use crate::AttestError;
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// The certificates in `text`, whatever else stands between them.
pub(super) fn read(
    field: &'static str,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, AttestError> {
    CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| AttestError::Malformed {
            field,
            reason: format!("no PEM: {error}"),
        })
}

/// The one way to write them: RFC 7468, strict form, lines of 64 characters.
pub(super) fn write(certificates: &[CertificateDer<'_>]) -> String {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for (index, character) in STANDARD.encode(certificate).chars().enumerate() {
            if index > 0 && index.is_multiple_of(64) {
                text.push('\n');
            }
            text.push(character);
        }
        text.push_str("\n-----END CERTIFICATE-----\n");
    }
    text
}
