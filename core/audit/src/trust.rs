//! What an auditor believes before reading any receipt.

use alloy_primitives::{Address, B256};
use cryptlet_types::{
    CryptletId, Measurement, Provider, ReportDomain, bounded::MAX_RECEIPT_BYTES,
    manifest::DocumentError, policy::EvidenceRule,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The auditor's own knowledge, from sources of the auditor's choice: a node, the register, a reproducible build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustRoots {
    /// Version of this format: 1.
    pub version: u32,
    /// Chain and delegate.
    pub domain: ReportDomain,
    /// Cryptlets, by id.
    pub cryptlets: BTreeMap<CryptletId, TrustedCryptlet>,
    /// Isolation providers whose evidence counts.
    pub providers: Vec<Provider>,
    /// What hardware may have booted, and in which state it may be: for providers that attest, which are refused without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceRule>,
    /// Hosts whose word counts for regions without hardware below them.
    pub hosts: Vec<Address>,
    /// Block hashes, by number.
    pub blocks: BTreeMap<u64, B256>,
}

/// What is believed of one cryptlet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustedCryptlet {
    /// Keys that may sign its reports.
    pub signers: Vec<Address>,
    /// Measurements under which it may run.
    pub measurements: Vec<Measurement>,
}

impl TrustRoots {
    /// Reads a file of trust roots.
    ///
    /// # Errors
    /// Names the field that is missing, unknown or wrong.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DocumentError> {
        if bytes.len() > MAX_RECEIPT_BYTES {
            return Err(DocumentError::TooLarge(bytes.len()));
        }
        let roots: Self = serde_json::from_slice(bytes)
            .map_err(|error| DocumentError::Malformed(error.to_string()))?;
        if roots.version == 1 {
            return Ok(roots);
        }
        let reason = "this program reads version 1".to_owned();
        Err(DocumentError::Field {
            field: "version".into(),
            reason,
        })
    }

    /// The file's bytes: indented JSON, newline at the end.
    ///
    /// # Errors
    /// None in practice: every value of this type has a JSON form.
    pub fn to_json(&self) -> Result<Vec<u8>, DocumentError> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| DocumentError::Malformed(error.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}
