//! What a cryptlet has signed beside its answers, for whoever it is meant for: the paper's `IsolatedAppSignMessage`.
//!
//! The cryptlet's key signs EIP-712 typed data of the type `CryptletMessage(address cryptlet,bytes32 subject,bytes message)` in the domain of a
//! [report](crate::report): who shows it at another delegate or on another chain shows nothing, and no message can be
//! taken for a report, an answer or a delegation. The region's key signs which code that was. Golden files: `vectors/message`.

use crate::{CryptletId, Measurement, ReportDomain, Subject, report::CompactSignature};
use alloy_primitives::{B256, Bytes, keccak256};
use alloy_sol_types::{SolStruct, SolValue};
use serde::{Deserialize, Serialize};

/// Longest message, in bytes: 16 KiB, as a payload.
pub const MAX_SIGNED_BYTES: usize = 16 << 10;
/// Most messages that one run has signed.
pub const MAX_SIGNED_MESSAGES: usize = 64;

mod abi {
    alloy_sol_types::sol! {
        struct CryptletMessage {
            address cryptlet;
            bytes32 subject;
            bytes message;
        }
    }
}

/// A message of a cryptlet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CryptletMessage {
    /// Who says it.
    pub cryptlet: CryptletId,
    /// The subscription that it was woken for; zero where there was none, as for a feed or a call.
    pub subject: Subject,
    /// What is said, at most [`MAX_SIGNED_BYTES`].
    pub message: Bytes,
}

impl CryptletMessage {
    /// The EIP-712 digest that the cryptlet's key signs.
    #[must_use]
    pub fn digest(&self, domain: &ReportDomain) -> B256 {
        let signed = abi::CryptletMessage {
            cryptlet: self.cryptlet.0,
            subject: self.subject.0,
            message: self.message.clone(),
        };
        signed.eip712_signing_hash(&domain.eip712())
    }
}

/// What the region's own key signs beside a message: this code said that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageStatement {
    /// What ran.
    pub measurement: Measurement,
    /// [`CryptletMessage::digest`].
    pub message: B256,
}

impl MessageStatement {
    /// The 32 bytes that are signed.
    #[must_use]
    pub fn digest(&self) -> B256 {
        let fields = ("bletchley message v1", self.measurement.0, self.message);
        keccak256(fields.abi_encode_params())
    }
}

/// The two signatures of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MessageSignatures {
    /// Of [`CryptletMessage::digest`] by the cryptlet's key; none where that stays in its vault.
    pub cryptlet: Option<CompactSignature>,
    /// Of [`MessageStatement::digest`] by the region's key.
    pub region: CompactSignature,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Address;
    use std::collections::BTreeSet;

    #[test]
    fn every_field_counts() {
        let domain = ReportDomain {
            chain_id: 1,
            delegate: Address::repeat_byte(1),
        };
        let said = CryptletMessage {
            cryptlet: CryptletId(Address::repeat_byte(2)),
            subject: Subject(B256::repeat_byte(3)),
            message: Bytes::from_static(b"said"),
        };
        let mut digests = BTreeSet::from([said.digest(&domain)]);
        for (chain_id, delegate, cryptlet, subject, message) in [
            (2, 1, 2, 3, "said"),
            (1, 2, 2, 3, "said"),
            (1, 1, 1, 3, "said"),
            (1, 1, 2, 2, "said"),
            (1, 1, 2, 3, "sai"),
        ] {
            let other = CryptletMessage {
                cryptlet: CryptletId(Address::repeat_byte(cryptlet)),
                subject: Subject(B256::repeat_byte(subject)),
                message: message.into(),
            };
            let delegate = Address::repeat_byte(delegate);
            let domain = ReportDomain { chain_id, delegate };
            assert!(digests.insert(other.digest(&domain)), "{message}");
        }
        let statement = |measurement, message| MessageStatement {
            measurement: Measurement(B256::repeat_byte(measurement)),
            message,
        };
        for stated in [
            statement(1, said.digest(&domain)),
            statement(2, said.digest(&domain)),
            statement(1, B256::ZERO),
        ] {
            assert!(digests.insert(stated.digest()));
        }
    }
}
