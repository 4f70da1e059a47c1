//! The shape of a quote: nothing in it that is not covered by a signature or by a check here.

use super::{Tee, pem};
use crate::AttestError;
use dcap_qvl::quote::{AuthData, CertificationData, Quote, Report};
use rustls_pki_types::CertificateDer;

/// Most bytes of a quote: 16 KiB. Genuine ones have about 5 KB.
const MAX_QUOTE_BYTES: usize = 16 << 10;

const FIELD: &str = "quote";

/// Signature of the report and the key that made it.
const SIGNATURE_AND_KEY: usize = 64 + 64;
/// The quoting enclave's report and its signature.
const QE_REPORT_AND_SIGNATURE: usize = 384 + 64;
/// Type and length of certification data.
const CERTIFICATION_HEAD: usize = 2 + 4;

/// Certification data that is a chain of certificates in PEM.
const PCK_CHAIN: u16 = 5;
/// Certification data that is the quoting enclave's report with certification data of its own.
const QE_CERTIFICATION: u16 = 6;

fn malformed(reason: impl Into<String>) -> AttestError {
    AttestError::Malformed {
        field: FIELD,
        reason: reason.into(),
    }
}

/// Reads a quote of `tee` and returns its certificates: the platform's (PCK), its authority's, and `root`.
pub(super) fn certificates(
    tee: Tee,
    bytes: &[u8],
    root: &[u8],
) -> Result<Vec<CertificateDer<'static>>, AttestError> {
    if bytes.len() > MAX_QUOTE_BYTES {
        return Err(malformed(format!("more than {MAX_QUOTE_BYTES} bytes")));
    }
    let quote = Quote::parse(bytes).map_err(|error| malformed(error.to_string()))?;
    let domain = !matches!(quote.report, Report::SgxEnclave(_));
    if quote.header.tee_type != tee.number() || domain != (tee == Tee::Tdx) {
        return Err(malformed(format!("it is no {}", tee.name())));
    }
    let certification = innermost(&quote, bytes.len())?;
    if certification.cert_type != PCK_CHAIN {
        let kind = certification.cert_type;
        return Err(malformed(format!(
            "certification data of type {kind}, not {PCK_CHAIN} (PCK certificate chain)"
        )));
    }
    chain(&certification.body.data, root)
}

/// The certification data, in a quote that ends where its lengths say and not one byte later.
fn innermost(quote: &Quote, length: usize) -> Result<&CertificationData, AttestError> {
    let certified = |auth: usize, data: &CertificationData| {
        QE_REPORT_AND_SIGNATURE + 2 + auth + CERTIFICATION_HEAD + data.body.data.len()
    };
    let (rest, certification) = match &quote.auth_data {
        AuthData::V3(data) => {
            let auth = data.qe_auth_data.data.len();
            let rest = certified(auth, &data.certification_data);
            (rest, &data.certification_data)
        }
        AuthData::V4(data) => {
            let (outer, inner) = (&data.certification_data, &data.qe_report_data);
            let rest = certified(inner.qe_auth_data.data.len(), &inner.certification_data);
            if outer.cert_type != QE_CERTIFICATION || outer.body.data.len() != rest {
                return Err(malformed("bytes after the quoting enclave's report"));
            }
            (CERTIFICATION_HEAD + rest, &inner.certification_data)
        }
    };
    if quote.signed_length() + 4 + SIGNATURE_AND_KEY + rest != length {
        return Err(malformed("bytes after its end"));
    }
    Ok(certification)
}

/// The chain in a quote: PEM in its one strict form, closed by a zero byte or not, as Intel's quoting library writes it.
fn chain(data: &[u8], root: &[u8]) -> Result<Vec<CertificateDer<'static>>, AttestError> {
    let text = data.strip_suffix(&[0]).unwrap_or(data);
    let chain = pem::read("quote.certificates", text)?;
    let fits = matches!(&*chain, [_, _, last] if last.as_ref() == root);
    if !fits || pem::write(&chain).as_bytes() != text {
        return Err(AttestError::Malformed {
            field: "quote.certificates",
            reason: "not exactly PCK certificate, its authority and Intel's root, in strict PEM"
                .into(),
        });
    }
    Ok(chain)
}
