//! A receipt: everything that an auditor needs to check one delivery, offline.
//!
//! One JSON file. Nothing in it has to be believed: each part is signed, hashed or proven by another, and
//! the last link is a block hash. Which key, measurement and block to believe is the auditor's own choice
//! (trust roots), never the receipt's.

use crate::{
    Event, Evidence, JobId, ReportDomain, Sha256Digest, SignedReport, Subscription,
    bounded::MAX_RECEIPT_BYTES,
    manifest::DocumentError,
    region::{FrameError, RunInput, SourceProof, encode},
    report::CompactSignature,
};
use alloy_primitives::{B256, Bytes, keccak256};
use serde::{Deserialize, Serialize};

/// The whole path of one job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Receipt {
    /// Version of this format: 1.
    pub version: u32,
    /// The job.
    pub job: JobId,
    /// Chain and delegate.
    pub domain: ReportDomain,
    /// What the contract asked for.
    pub subscription: Subscription,
    /// What occurred.
    pub event: Event,
    /// Package that ran.
    pub package: Sha256Digest,
    /// Epoch of the policy in force.
    pub policy_epoch: u64,
    /// Digest of the policy in force.
    pub policy: Sha256Digest,
    /// What the run depended on.
    pub input: RunInput,
    /// What its sources said.
    pub sources: Vec<SourceProof>,
    /// What was said, and the signatures of cryptlet and region.
    pub report: SignedReport,
    /// What the region proved about itself.
    pub evidence: Evidence,
    /// What the chain made of it.
    pub inclusion: Inclusion,
    /// The host's signature over [`Receipt::digest`]; the host is the one that [`Receipt::evidence`] names.
    pub host_signature: CompactSignature,
}

/// Proof that a transaction and its result are part of a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Inclusion {
    /// The block's header, RLP. Its Keccak-256 is the block hash.
    pub header: Bytes,
    /// Place of the transaction within the block.
    pub transaction_index: u64,
    /// The signed transaction (EIP-2718).
    pub transaction: Bytes,
    /// Merkle-Patricia nodes from the header's transactions root to the transaction.
    pub transaction_proof: Vec<Bytes>,
    /// The transaction's consensus receipt (EIP-2718), with the delegate's log.
    pub receipt: Bytes,
    /// Merkle-Patricia nodes from the header's receipts root to the receipt.
    pub receipt_proof: Vec<Bytes>,
}

impl Receipt {
    /// Reads a receipt file. This checks its form; whether it is true is for `cryptlet-audit` to say.
    ///
    /// # Errors
    /// Names the field that is missing, unknown or wrong.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DocumentError> {
        if bytes.len() > MAX_RECEIPT_BYTES {
            return Err(DocumentError::field(
                "receipt",
                format!("{} bytes, at most {MAX_RECEIPT_BYTES}", bytes.len()),
            ));
        }
        let receipt: Self = serde_json::from_slice(bytes)
            .map_err(|error| DocumentError::Malformed(error.to_string()))?;
        if receipt.version == 1 {
            Ok(receipt)
        } else {
            Err(DocumentError::field(
                "version",
                "this program reads version 1",
            ))
        }
    }

    /// What the host signs: Keccak-256 over a label and the CBOR encoding of everything but its own signature.
    ///
    /// # Errors
    /// None in practice: every value of this type has a CBOR form.
    pub fn digest(&self) -> Result<B256, FrameError> {
        let unsigned = Self {
            host_signature: CompactSignature::default(),
            ..self.clone()
        };
        let mut bytes = b"bletchley receipt v1".to_vec();
        bytes.extend(encode(&unsigned)?);
        Ok(keccak256(bytes))
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
