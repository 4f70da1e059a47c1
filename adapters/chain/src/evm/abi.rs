//! The contracts' interfaces, as far as Rust code calls them. A test compares them with the compiled artifacts.
//!
//! With `#[sol(rpc)]`: `CryptletRegister::new(address, provider).register(..).send()`.
#![allow(
    missing_docs,
    clippy::too_many_arguments,
    reason = "generated from Solidity, which documents it under contracts/src"
)]

use cryptlet_types::SignedReport;

alloy::sol! {
    #[sol(rpc)]
    #[derive(Debug, PartialEq, Eq)]
    contract CryptoDelegate {
        struct Subscription {
            address cryptlet;
            bytes4 callback;
            uint32 callbackGas;
            uint32 validity;
            uint8 trigger;
            bytes condition;
            bytes params;
        }
        struct Report {
            address cryptlet;
            bytes32 subject;
            uint64 sequence;
            uint64 issuedAt;
            uint64 validUntil;
            bytes32 region;
            bytes payload;
        }

        event Subscribed(bytes32 indexed subject, address indexed consumer, address indexed cryptlet, bytes4 callback, uint32 callbackGas, uint32 validity, uint8 trigger, bytes condition, bytes params);
        event Unsubscribed(bytes32 indexed subject, address indexed consumer, address indexed cryptlet);
        event Delivered(bytes32 indexed subject, address indexed cryptlet, uint64 sequence, bytes32 digest, address signer, bool success);
        event CallbackFailed(bytes32 indexed subject, uint64 sequence, bytes reason);

        error CryptletNotActive(address cryptlet);
        error InvalidCallback();
        error InvalidCallbackGas(uint32 callbackGas);
        error InvalidValidity();
        error UnknownTrigger(uint8 trigger);
        error ConditionTooLong(uint256 length);
        error ParamsTooLong(uint256 length);
        error UnknownSubscription();
        error NotTheConsumer(address caller);
        error WrongSequence(uint64 expected, uint64 given);
        error NotYetValid();
        error Expired();
        error InvalidSignature();
        error SignerNotEnrolled(address cryptlet, address signer);
        error InsufficientGas(uint256 required, uint256 available);

        function subscribe(Subscription calldata s) external returns (bytes32 subject);
        function unsubscribe(address cryptlet, bytes32 subject) external;
        function deliver(Report calldata report, bytes32 r, bytes32 vs) external;
        function register() external view returns (address);
        function subscription(address cryptlet, bytes32 subject) external view returns (address consumer, bytes4 callback, uint32 callbackGas, uint64 sequence);
        function hashReport(Report calldata report) public view returns (bytes32);
    }

    #[sol(rpc)]
    #[derive(Debug, PartialEq, Eq)]
    contract CryptletRegister {
        event CryptletRegistered(address indexed cryptlet, address indexed publisher, string name);
        event SignerEnrolled(address indexed cryptlet, address indexed signer, uint64 expiry);
        event SignerRevoked(address indexed cryptlet, address indexed signer);
        event CryptletRevoked(address indexed cryptlet);

        error CryptletExists(address cryptlet);
        error CryptletIsRevoked(address cryptlet);
        error ExpiryInThePast(uint64 expiry);
        error InvalidName(string name);
        error InvalidSigner(address signer);
        error SignerIsRevoked(address cryptlet, address signer);
        error UnknownCryptlet(address cryptlet);
        error UnknownSigner(address cryptlet, address signer);

        function register(string calldata name_, address signer, uint64 signerExpiry) external returns (address cryptlet);
        function cryptletId(address publisher, string calldata name_) external view returns (address);
        function enrolSigner(address cryptlet, address signer, uint64 expiry) external;
        function revokeSigner(address cryptlet, address signer) external;
        function revokeCryptlet(address cryptlet) external;
        function isSigner(address cryptlet, address signer) external view returns (bool);
        function isActive(address cryptlet) external view returns (bool);
        function cryptletOf(address cryptlet) external view returns (address publisher, string memory name_, bool revoked);
        function signerOf(address cryptlet, address signer) external view returns (uint64 expiry, bool revoked);
    }
}

/// The call that delivers a signed report.
#[must_use]
pub fn deliver_call(signed: &SignedReport) -> CryptoDelegate::deliverCall {
    let report = &signed.report;
    CryptoDelegate::deliverCall {
        report: CryptoDelegate::Report {
            cryptlet: report.cryptlet.0,
            subject: report.subject.0,
            sequence: report.sequence,
            issuedAt: report.issued_at,
            validUntil: report.valid_until,
            region: report.region.0,
            payload: report.payload.clone(),
        },
        r: signed.signature.r,
        vs: signed.signature.vs,
    }
}

#[cfg(test)]
mod tests {
    use super::{CryptletRegister, CryptoDelegate};
    use crate::evm::artifacts;
    use alloy::sol_types::{SolEventInterface, SolInterface};
    use alloy_primitives::keccak256;
    use serde_json::Value;
    use std::collections::BTreeSet;

    /// Canonical signature of an entry of a JSON ABI.
    fn signature(entry: &Value) -> String {
        let types: Vec<_> = entry["inputs"]
            .as_array()
            .unwrap()
            .iter()
            .map(kind)
            .collect();
        format!("{}({})", entry["name"].as_str().unwrap(), types.join(","))
    }

    fn kind(parameter: &Value) -> String {
        let kind = parameter["type"].as_str().unwrap();
        let Some(suffix) = kind.strip_prefix("tuple") else {
            return kind.to_owned();
        };
        let parts: Vec<_> = parameter["components"]
            .as_array()
            .unwrap()
            .iter()
            .map(self::kind)
            .collect();
        format!("({}){suffix}", parts.join(","))
    }

    /// Hashes of what the compiled contract has of one sort, indexed parameters of events included.
    fn compiled(artifact: &str, sort: &str) -> BTreeSet<[u8; 32]> {
        let artifact: Value = serde_json::from_str(artifact).unwrap();
        let entries = artifact["abi"].as_array().unwrap().iter();
        entries
            .filter(|entry| entry["type"] == sort)
            .map(|entry| keccak256(signature(entry)).0)
            .collect()
    }

    fn assert_compiled<I: SolInterface>(artifact: &str, sort: &str) {
        let compiled: BTreeSet<[u8; 4]> = compiled(artifact, sort)
            .iter()
            .map(|hash| hash[..4].try_into().unwrap())
            .collect();
        for selector in I::selectors() {
            assert!(
                compiled.contains(&selector),
                "{} {sort} {selector:?}",
                I::NAME
            );
        }
    }

    fn assert_events<I: SolEventInterface>(artifact: &str, selectors: &[[u8; 32]]) {
        let compiled = compiled(artifact, "event");
        assert_eq!(selectors.len(), I::COUNT);
        for selector in selectors {
            assert!(
                compiled.contains(selector),
                "{} event {selector:?}",
                I::NAME
            );
        }
    }

    #[test]
    fn the_interfaces_are_those_of_the_compiled_contracts() {
        type Delegate = super::CryptoDelegate::CryptoDelegateEvents;
        type Register = super::CryptletRegister::CryptletRegisterEvents;
        let (delegate, register) = (artifacts::CRYPTO_DELEGATE, artifacts::CRYPTLET_REGISTER);
        assert_compiled::<CryptoDelegate::CryptoDelegateCalls>(delegate, "function");
        assert_compiled::<CryptoDelegate::CryptoDelegateErrors>(delegate, "error");
        assert_compiled::<CryptletRegister::CryptletRegisterCalls>(register, "function");
        assert_compiled::<CryptletRegister::CryptletRegisterErrors>(register, "error");
        assert_events::<Delegate>(delegate, Delegate::SELECTORS);
        assert_events::<Register>(register, Register::SELECTORS);
    }
}
