//! What Intel says about the platform, as it comes with a quote.

use super::pem;
use crate::AttestError;
use alloy_primitives::Bytes;
use cryptlet_types::{attestation::MAX_ATTESTATION_BYTES, bounded::clip};
use dcap_qvl::QuoteCollateralV3;
use rustls_pki_types::CertificateDer;
use serde::Deserialize;

/// The document, in the names of `dcap-qvl`; what others call `sgx_ql_qve_collateral_t`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    pck_crl_issuer_chain: String,
    root_ca_crl: Bytes,
    pck_crl: Bytes,
    tcb_info_issuer_chain: String,
    tcb_info: String,
    tcb_info_signature: Bytes,
    qe_identity_issuer_chain: String,
    qe_identity: String,
    qe_identity_signature: Bytes,
    #[serde(default)]
    pck_certificate_chain: Option<String>,
}

/// Reads collateral for a quote with these certificates. Chains that are not exactly what they have to be are refused, and
/// the others are written anew: the library reads nothing that was not read here.
pub(super) fn read(
    bytes: &[u8],
    quoted: &[CertificateDer<'_>],
    root: &[u8],
) -> Result<QuoteCollateralV3, AttestError> {
    let malformed = |reason: String| AttestError::Malformed {
        field: "collateral",
        reason,
    };
    if bytes.len() > MAX_ATTESTATION_BYTES {
        return Err(malformed(format!(
            "more than {MAX_ATTESTATION_BYTES} bytes"
        )));
    }
    let document: Document =
        serde_json::from_slice(bytes).map_err(|error| malformed(clip(&error.to_string())))?;
    if let Some(chain) = &document.pck_certificate_chain {
        same("pck_certificate_chain", chain, quoted)?;
    }
    let authorities = quoted.get(1..).unwrap_or_default();
    Ok(QuoteCollateralV3 {
        pck_crl_issuer_chain: same(
            "pck_crl_issuer_chain",
            &document.pck_crl_issuer_chain,
            authorities,
        )?,
        root_ca_crl: document.root_ca_crl.to_vec(),
        pck_crl: document.pck_crl.to_vec(),
        tcb_info_issuer_chain: signer(
            "tcb_info_issuer_chain",
            &document.tcb_info_issuer_chain,
            root,
        )?,
        tcb_info: document.tcb_info,
        tcb_info_signature: signature("tcb_info_signature", &document.tcb_info_signature)?,
        qe_identity_issuer_chain: signer(
            "qe_identity_issuer_chain",
            &document.qe_identity_issuer_chain,
            root,
        )?,
        qe_identity: document.qe_identity,
        qe_identity_signature: signature("qe_identity_signature", &document.qe_identity_signature)?,
        pck_certificate_chain: None,
    })
}

/// A chain that has to be the one of the quote, or its upper part.
fn same(
    field: &'static str,
    text: &str,
    expected: &[CertificateDer<'_>],
) -> Result<String, AttestError> {
    if pem::read(field, text.as_bytes())? != expected {
        return Err(AttestError::Malformed {
            field,
            reason: "other certificates than in the quote".into(),
        });
    }
    Ok(pem::write(expected))
}

/// A chain of whoever signs collateral: one certificate, and the root.
fn signer(field: &'static str, text: &str, root: &[u8]) -> Result<String, AttestError> {
    let chain = pem::read(field, text.as_bytes())?;
    match &*chain {
        [_, last] if last.as_ref() == root => Ok(pem::write(&chain)),
        _ => Err(AttestError::Malformed {
            field,
            reason: "not exactly one certificate and Intel's root".into(),
        }),
    }
}

/// `r` and `s`, 32 bytes each.
fn signature(field: &'static str, bytes: &Bytes) -> Result<Vec<u8>, AttestError> {
    if bytes.len() != 64 {
        return Err(AttestError::Malformed {
            field,
            reason: format!("{} bytes, not 64", bytes.len()),
        });
    }
    Ok(bytes.to_vec())
}
