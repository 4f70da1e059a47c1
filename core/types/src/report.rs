//! A report: what a cryptlet says to a contract, as EIP-712 typed data.
//!
//! The type string is `Report(address cryptlet,bytes32 subject,uint64 sequence,uint64 issuedAt,uint64
//! validUntil,bytes32 region,bytes32 delegation,bytes payload)`; the domain is `CryptoDelegate`, version `1`, the chain's id
//! and the delegate's address. Golden files: `vectors/report`.

use crate::{CryptletId, Measurement, Subject, UnixSeconds};
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{Eip712Domain, SolStruct};
use serde::{Deserialize, Serialize};

mod abi {
    alloy_sol_types::sol! {
        /// The Solidity struct, for hashing and for the delegate's calldata.
        #[derive(Debug, PartialEq, Eq)]
        struct Report {
            address cryptlet;
            bytes32 subject;
            uint64 sequence;
            uint64 issuedAt;
            uint64 validUntil;
            bytes32 region;
            bytes32 delegation;
            bytes payload;
        }
    }
}
pub use abi::Report as AbiReport;

/// Where a report may be delivered, and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReportDomain {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Address of the `CryptoDelegate`.
    pub delegate: Address,
}

impl ReportDomain {
    /// The EIP-712 domain.
    #[must_use]
    pub fn eip712(&self) -> Eip712Domain {
        Eip712Domain {
            name: Some("CryptoDelegate".into()),
            version: Some("1".into()),
            chain_id: Some(U256::from(self.chain_id)),
            verifying_contract: Some(self.delegate),
            salt: None,
        }
    }
}

/// What a cryptlet says to a contract. Consumed once, whether the callback succeeds or reverts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// Who says it.
    pub cryptlet: CryptletId,
    /// The subscription that it answers.
    pub subject: Subject,
    /// Its number within the subscription: the delegate accepts only the one after the last.
    pub sequence: u64,
    /// When it was made.
    pub issued_at: UnixSeconds,
    /// The last second at which the delegate accepts it.
    pub valid_until: UnixSeconds,
    /// What ran.
    pub region: Measurement,
    /// EIP-712 digest of the [delegation](crate::Delegation) under which it is said; zero if in nobody's name.
    pub delegation: B256,
    /// ABI-encoded arguments of the callback.
    pub payload: Bytes,
}

impl Report {
    /// The Solidity struct of the same fields.
    #[must_use]
    pub fn to_abi(&self) -> AbiReport {
        AbiReport {
            cryptlet: self.cryptlet.0,
            subject: self.subject.0,
            sequence: self.sequence,
            issuedAt: self.issued_at,
            validUntil: self.valid_until,
            region: self.region.0,
            delegation: self.delegation,
            payload: self.payload.clone(),
        }
    }

    /// The EIP-712 digest that is signed: the same 32 bytes as `CryptoDelegate.hashReport`.
    #[must_use]
    pub fn digest(&self, domain: &ReportDomain) -> B256 {
        self.to_abi().eip712_signing_hash(&domain.eip712())
    }
}

/// A compact ECDSA signature on secp256k1 (EIP-2098): 64 bytes, `s` in the lower half, parity in its top bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompactSignature {
    /// The x coordinate of the nonce point.
    pub r: B256,
    /// `yParity << 255 | s`.
    pub vs: B256,
}

impl CompactSignature {
    /// The 64 bytes, `r` first.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        [self.r, self.vs].concat().into()
    }

    /// The compact form of 65 bytes `r`, `s`, `v` with `v` of 27 or 28 and `s` in the lower half, as `ecrecover` takes them;
    /// none for other bytes.
    #[must_use]
    pub fn from_recoverable(bytes: &[u8]) -> Option<Self> {
        let (r, rest) = bytes.split_first_chunk::<32>()?;
        let (s, [v]) = rest.split_first_chunk::<32>()? else {
            return None;
        };
        let odd = match v {
            27 => 0,
            28 => 0x80,
            _ => return None,
        };
        let mut vs = B256::from(*s);
        match vs.0.first_mut() {
            // A high s has this bit set, and no account's signature has a high s.
            Some(first) if *first & 0x80 == 0 => *first |= odd,
            _ => return None,
        }
        let r = B256::from(*r);
        Some(Self { r, vs })
    }

    /// Of 64 bytes; none for another number.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (r, vs) = bytes.split_first_chunk::<32>()?;
        Some(Self {
            r: B256::from(*r),
            vs: B256::from(<[u8; 32]>::try_from(vs).ok()?),
        })
    }
}

/// A report with what makes it believable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedReport {
    /// What is said.
    pub report: Report,
    /// The key that signed: enrolled under the cryptlet's id in the register.
    pub signer: Address,
    /// The signer's signature over [`Report::digest`].
    pub signature: CompactSignature,
    /// The region's own signature over its statement (see [`crate::region::RegionStatement`]).
    pub region_signature: CompactSignature,
}
