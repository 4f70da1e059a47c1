//! A delegation: an identity lets a cryptlet speak in its name, within a scope and until a date.
//!
//! EIP-712 typed data in the delegate's domain (see [`ReportDomain::eip712`]):
//! `Delegation(address identity,address cryptlet,address consumer,bytes4 callback,uint64 expiry,bytes32 salt)`.
//! A report carries its digest. The signature is an account's or a wallet's (ERC-1271); only the chain can judge a
//! wallet's, and it judges both. Golden files: `vectors/delegation`.

use crate::{CryptletId, ReportDomain, Subscription, UnixSeconds};
use alloy_primitives::{Address, B256, Bytes, FixedBytes};
use alloy_sol_types::SolStruct;
use serde::{Deserialize, Serialize};

mod abi {
    alloy_sol_types::sol! {
        /// The Solidity struct, for hashing and for the delegate's calldata.
        #[derive(Debug, PartialEq, Eq)]
        struct Delegation {
            address identity;
            address cryptlet;
            address consumer;
            bytes4 callback;
            uint64 expiry;
            bytes32 salt;
        }
    }
}
pub use abi::Delegation as AbiDelegation;

/// Longest signature of a delegation, in bytes: an account's has 65, a wallet's is its own affair.
pub const MAX_SIGNATURE_BYTES: usize = 4 << 10;

/// Who lets which cryptlet speak in its name, where and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delegation {
    /// In whose name.
    pub identity: Address,
    /// Who may speak.
    pub cryptlet: CryptletId,
    /// To which contract; zero for any.
    pub consumer: Address,
    /// At which function; zero for any.
    pub callback: FixedBytes<4>,
    /// The last second at which a report under it is accepted.
    pub expiry: UnixSeconds,
    /// Tells apart delegations that are otherwise equal, so that a revoked one can be given anew.
    pub salt: B256,
}

/// A delegation with its identity's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedDelegation {
    /// What is allowed.
    pub delegation: Delegation,
    /// 65 bytes `r`, `s`, `v` of an account, or whatever an ERC-1271 wallet takes, at most [`MAX_SIGNATURE_BYTES`].
    pub signature: Bytes,
}

/// Why a delegation does not cover a report. Another delegation may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DelegationError {
    /// The subscription asks for one, and there is none.
    #[error("the subscription is on behalf of {0}, whose delegation is missing")]
    Missing(Address),
    /// The subscription asks for none, and there is one.
    #[error("the subscription is on nobody's behalf")]
    Unwanted,
    /// It is of another identity than the subscription asks for.
    #[error("it is by {found}, the subscription is on behalf of {expected}")]
    WrongIdentity {
        /// Whom the subscription names.
        expected: Address,
        /// Whose it is.
        found: Address,
    },
    /// It is for another cryptlet, consumer or callback.
    #[error("it is for another {0}")]
    OutOfScope(&'static str),
    /// It ends before the report does.
    #[error("it expires at {expiry}, before the report at {valid_until}")]
    Expired {
        /// Its last second.
        expiry: UnixSeconds,
        /// The report's last second.
        valid_until: UnixSeconds,
    },
    /// The signature is longer than any.
    #[error("signature of {0} bytes, at most {MAX_SIGNATURE_BYTES}")]
    SignatureTooLong(usize),
}

impl DelegationError {
    /// Whether the same work may end better later: once the identity has given the delegation that is missing.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Missing(_))
    }
}

impl Delegation {
    /// The Solidity struct of the same fields.
    #[must_use]
    pub fn to_abi(&self) -> AbiDelegation {
        AbiDelegation {
            identity: self.identity,
            cryptlet: self.cryptlet.0,
            consumer: self.consumer,
            callback: self.callback,
            expiry: self.expiry,
            salt: self.salt,
        }
    }

    /// The EIP-712 digest that the identity signs: the same 32 bytes as `CryptoDelegate.hashDelegation`.
    #[must_use]
    pub fn digest(&self, domain: &ReportDomain) -> B256 {
        self.to_abi().eip712_signing_hash(&domain.eip712())
    }

    /// Whether a report for `subscription` that is accepted until `valid_until` may be made under this delegation.
    ///
    /// # Errors
    /// Says what it does not cover.
    pub fn covers(
        &self,
        subscription: &Subscription,
        valid_until: UnixSeconds,
    ) -> Result<(), DelegationError> {
        if !subscription.needs_delegation() {
            return Err(DelegationError::Unwanted);
        }
        let (expected, found) = (subscription.on_behalf_of, self.identity);
        if expected != found {
            return Err(DelegationError::WrongIdentity { expected, found });
        }
        if self.cryptlet != subscription.cryptlet {
            return Err(DelegationError::OutOfScope("cryptlet"));
        }
        if self.consumer != Address::ZERO && self.consumer != subscription.consumer {
            return Err(DelegationError::OutOfScope("consumer"));
        }
        if !self.callback.is_zero() && self.callback != subscription.callback {
            return Err(DelegationError::OutOfScope("callback"));
        }
        let expiry = self.expiry;
        if expiry < valid_until {
            return Err(DelegationError::Expired {
                expiry,
                valid_until,
            });
        }
        Ok(())
    }
}

impl SignedDelegation {
    /// As [`Delegation::covers`], the size of the signature included.
    ///
    /// # Errors
    /// Says what it does not cover.
    pub fn check(
        &self,
        subscription: &Subscription,
        valid_until: UnixSeconds,
    ) -> Result<(), DelegationError> {
        if self.signature.len() > MAX_SIGNATURE_BYTES {
            return Err(DelegationError::SignatureTooLong(self.signature.len()));
        }
        self.delegation.covers(subscription, valid_until)
    }
}
