//! Where a chain's delegate, register and policy are: what a node is started with (requirement D6).
//!
//! `--crypto-delegate-path` names the document, `--crypto-delegate-signature` pins it: the signature is made by the host
//! that the document itself names, so no other document fits a signature that came by another way.

use crate::{
    ReportDomain, Sha256Digest,
    manifest::{DocumentError, read_document},
    register::RegisterDomain,
};
use alloy_primitives::{Address, B256, keccak256};
use serde::{Deserialize, Serialize};

/// Where delegate, register and policy are, and which host says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DelegateDescriptor {
    /// Version of this format: 1.
    pub version: u32,
    /// The consumers' chain and its delegate.
    pub delegate: ReportDomain,
    /// The register's chain and its contract.
    pub register: RegisterDomain,
    /// JSON-RPC URL of the register's chain.
    pub register_rpc: String,
    /// URL of the policy document in force.
    pub policy: String,
    /// Address of the host's key, which signs [`DelegateDescriptor::digest`].
    pub host: Address,
    /// SHA-256 of the certificate (DER) of the host's certificate authority.
    pub authority: Sha256Digest,
}

impl DelegateDescriptor {
    /// Reads a descriptor. Whether it is the one that was pinned is for the signature to say.
    ///
    /// # Errors
    /// Names the field that is missing, unknown or wrong.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DocumentError> {
        let descriptor: Self = read_document(bytes)?;
        if descriptor.version == 1 {
            Ok(descriptor)
        } else {
            let reason = "this program reads version 1";
            Err(DocumentError::field("version", reason))
        }
    }

    /// The document's bytes: compact JSON, fields in the order of this type.
    ///
    /// # Errors
    /// None in practice: every value of this type has a JSON form.
    pub fn to_json(&self) -> Result<Vec<u8>, DocumentError> {
        serde_json::to_vec(self).map_err(|error| DocumentError::Malformed(error.to_string()))
    }

    /// What the host signs: Keccak-256 over a label and the document's bytes.
    ///
    /// # Errors
    /// As [`DelegateDescriptor::to_json`].
    pub fn digest(&self) -> Result<B256, DocumentError> {
        let mut bytes = b"bletchley delegate v1".to_vec();
        bytes.extend(self.to_json()?);
        Ok(keccak256(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor() -> DelegateDescriptor {
        DelegateDescriptor {
            version: 1,
            delegate: ReportDomain {
                chain_id: 31337,
                delegate: Address::repeat_byte(1),
            },
            register: RegisterDomain {
                chain_id: 31337,
                register: Address::repeat_byte(2),
            },
            register_rpc: "http://127.0.0.1:8545".into(),
            policy: "https://localhost:8600/v1/policy".into(),
            host: Address::repeat_byte(3),
            authority: Sha256Digest(B256::repeat_byte(4)),
        }
    }

    #[test]
    fn a_descriptor_survives_a_round_trip_and_every_field_is_signed() {
        let known = descriptor();
        let json = known.to_json().unwrap();
        assert_eq!(DelegateDescriptor::from_json(&json), Ok(known.clone()));
        let text = String::from_utf8(json).unwrap();
        let altered = [
            text.replace("31337,\"delegate\"", "1,\"delegate\""),
            text.replace("0101", "0102"),
            text.replace("0202", "0203"),
            text.replace(":8545", ":8546"),
            text.replace(":8600", ":8601"),
            text.replace("0303", "0304"),
            text.replace("0404", "0405"),
        ];
        for other in altered {
            assert_ne!(other, text, "the test alters nothing");
            let other = DelegateDescriptor::from_json(other.as_bytes()).unwrap();
            assert_ne!(other.digest(), known.digest());
        }
    }

    #[test]
    fn another_version_or_an_unknown_field_is_refused() {
        let text = String::from_utf8(descriptor().to_json().unwrap()).unwrap();
        let newer = text.replace("\"version\":1", "\"version\":2");
        let error = DelegateDescriptor::from_json(newer.as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with("version"), "{error}");
        let more = text.replace("\"version\":1", "\"version\":1,\"extra\":1");
        let error = DelegateDescriptor::from_json(more.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("extra"), "{error}");
    }
}
