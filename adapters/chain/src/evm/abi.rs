//! The contracts' interfaces, as far as Rust code calls them. A test compares them with the compiled artifacts.
//!
//! With `#[sol(rpc)]`: `CryptletRegister::new(address, provider).register(..).send()`.
#![allow(
    missing_docs,
    clippy::too_many_arguments,
    reason = "generated from Solidity, which documents it under contracts/src"
)]

use alloy_primitives::{Address, B256};
use cryptlet_types::{
    SignedDelegation, SignedReport, delegation::AbiDelegation, report::CompactSignature,
};

alloy::sol! {
    #[sol(rpc)]
    #[derive(Debug, PartialEq, Eq)]
    contract CryptoDelegate {
        struct Subscription {
            address cryptlet;
            address onBehalfOf;
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
            bytes32 delegation;
            bytes payload;
        }
        struct BatchItem {
            bytes32 subject;
            uint64 sequence;
            uint64 issuedAt;
            uint64 validUntil;
            bytes payload;
        }
        struct Batch {
            address cryptlet;
            bytes32 region;
            BatchItem[] items;
        }
        struct Delegation {
            address identity;
            address cryptlet;
            address consumer;
            bytes4 callback;
            uint64 expiry;
            bytes32 salt;
        }

        event Subscribed(bytes32 indexed subject, address indexed consumer, address indexed cryptlet, uint256 nonce, Subscription subscription);
        event Unsubscribed(bytes32 indexed subject, address indexed consumer, address indexed cryptlet);
        event Delivered(bytes32 indexed subject, address indexed cryptlet, uint64 sequence, bytes32 digest, address signer, bool success);
        event CallbackFailed(bytes32 indexed subject, uint64 sequence, bytes reason);
        event Undelivered(bytes32 indexed subject, address indexed cryptlet, uint64 sequence, bytes4 reason);
        event Paused(bytes32 indexed subject, address indexed consumer, address indexed cryptlet);
        event Resumed(bytes32 indexed subject, address indexed consumer, address indexed cryptlet);
        event DelegationRevoked(address indexed identity, bytes32 indexed digest);

        error CryptletNotActive(address cryptlet);
        error InvalidCallback();
        error InvalidCallbackGas(uint32 callbackGas);
        error InvalidValidity();
        error UnknownTrigger(uint8 trigger);
        error ConditionTooLong(uint256 length);
        error ParamsTooLong(uint256 length);
        error UnknownSubscription();
        error NotTheConsumer(address caller);
        error SubscriptionPaused();
        error SubscriptionNotPaused();
        error InvalidBatchSize(uint256 size);
        error WrongSequence(uint64 expected, uint64 given);
        error NotYetValid();
        error Expired();
        error InvalidSignature();
        error SignerNotEnrolled(address cryptlet, address signer);
        error InsufficientGas(uint256 required, uint256 available);
        error WrongDelegation(bytes32 expected, bytes32 given);
        error WrongIdentity(address required, address given);
        error DelegationOutOfScope(bytes32 digest);
        error DelegationExpired(uint64 expiry);
        error DelegationIsRevoked(bytes32 digest);
        error InvalidDelegationSignature(address identity);
        error NotTheIdentity(address caller);

        function subscribe(Subscription calldata s) external returns (bytes32 subject);
        function unsubscribe(address cryptlet, bytes32 subject) external;
        function deliver(Report calldata report, bytes32 r, bytes32 vs) external;
        function deliverOnBehalfOf(Report calldata report, bytes32 r, bytes32 vs, Delegation calldata delegation, bytes calldata signature) external;
        function deliverBatch(Batch calldata batch, bytes32 r, bytes32 vs) external;
        function pause(address cryptlet, bytes32 subject) external;
        function resume(address cryptlet, bytes32 subject) external;
        function isPaused(address cryptlet, bytes32 subject) external view returns (bool);
        function hashBatch(Batch calldata batch) public view returns (bytes32);
        function revokeDelegation(Delegation calldata delegation) external;
        function isDelegationRevoked(bytes32 digest) external view returns (bool);
        function onBehalfOf() external view returns (address);
        function hashDelegation(Delegation calldata delegation) public view returns (bytes32);
        function nonces(address owner) external view returns (uint256);
        function register() external view returns (address);
        function subscription(address cryptlet, bytes32 subject) external view returns (address consumer, bytes4 callback, uint32 callbackGas, uint64 sequence);
        function hashReport(Report calldata report) public view returns (bytes32);
    }

    #[sol(rpc)]
    #[derive(Debug, PartialEq, Eq)]
    contract CryptletRegister {
        struct Version {
            string label;
            bytes32 packageDigest;
            bytes32 headerDigest;
            bytes32 manifestDigest;
            string uri;
        }
        struct PolicyApproval {
            address administrator;
            bytes signature;
        }

        event CryptletRegistered(address indexed cryptlet, address indexed publisher, string name);
        event VersionPublished(address indexed cryptlet, uint32 indexed number, Version version);
        event VersionRevoked(address indexed cryptlet, uint32 indexed number);
        event SignerEnrolled(address indexed cryptlet, address indexed signer, uint32 version, uint64 expiry);
        event SignerRevoked(address indexed cryptlet, address indexed signer);
        event CryptletRevoked(address indexed cryptlet);
        event HostRegistered(address indexed host, string url, bytes32 authority);
        event HostRemoved(address indexed host);
        event HostAssigned(address indexed cryptlet, address indexed host);
        event HostUnassigned(address indexed cryptlet, address indexed host);
        event PolicySet(uint64 indexed epoch, bytes32 digest, string uri);
        event AdministratorsSet(uint64 indexed term, address[] members, uint256 threshold);
        event Transfer(address indexed from, address indexed to, uint256 indexed tokenId);

        error CryptletIsRevoked(address cryptlet);
        error ExpiryInThePast(uint64 expiry);
        error InvalidName(string name);
        error InvalidSigner(address signer);
        error InvalidText(string text, uint256 least, uint256 most);
        error LabelTaken(string label, uint32 number);
        error NameTaken(string name, address by);
        error NotTheOwner(address cryptlet, address caller);
        error SignerIsRevoked(address cryptlet, address signer);
        error SignerOfAnotherVersion(address cryptlet, address signer, uint32 number);
        error TooManySigners(address cryptlet, uint32 number);
        error TooManyVersions(address cryptlet);
        error UnknownCryptlet(address cryptlet);
        error UnknownSigner(address cryptlet, address signer);
        error UnknownVersion(address cryptlet, uint32 number);
        error VersionIsRevoked(address cryptlet, uint32 number);
        error ZeroDigest();
        error HostIsAssigned(address cryptlet, address host);
        error HostIsNotAssigned(address cryptlet, address host);
        error InvalidAuthority();
        error InvalidHost(address host);
        error TooManyHosts(address cryptlet);
        error UnknownHost(address host);
        error ApprovalOutOfOrder(address administrator);
        error ApprovalTwice(address administrator);
        error EpochTooFar(uint64 current, uint64 given);
        error InvalidAdministrator(address administrator);
        error InvalidApproval(address administrator);
        error InvalidThreshold(uint256 threshold, uint256 members);
        error NotAnAdministrator(address account);
        error NotEnoughApprovals(uint256 required, uint256 given);
        error OldEpoch(uint64 current, uint64 given);
        error ZeroPolicyDigest();
        error AccessControlUnauthorizedAccount(address account, bytes32 neededRole);
        error ERC721NonexistentToken(uint256 tokenId);

        function register(string calldata name_, Version calldata version, address signer, uint64 signerExpiry) external returns (address cryptlet);
        function publishVersion(address cryptlet, Version calldata version, address signer, uint64 signerExpiry) external returns (uint32 number);
        function enrolSigner(address cryptlet, uint32 number, address signer, uint64 expiry) external;
        function revokeSigner(address cryptlet, address signer) external;
        function revokeVersion(address cryptlet, uint32 number) external;
        function revokeCryptlet(address cryptlet) external;
        function cryptletId(address publisher, string calldata name_) external view returns (address);
        function cryptletByName(string calldata name_) external view returns (address cryptlet);
        function cryptletOf(address cryptlet) external view returns (address publisher, string memory name_, bool revoked);
        function versionCount(address cryptlet) external view returns (uint32);
        function versionOf(address cryptlet, uint32 number) external view returns (Version memory version, bool revoked, uint64 publishedAt);
        function currentVersion(address cryptlet) external view returns (uint32 number);
        function signerOf(address cryptlet, address signer) external view returns (uint32 version, uint64 expiry, bool revoked);
        function signersOf(address cryptlet, uint32 number) external view returns (address[] memory signers);
        function publicKeyOf(address cryptlet) external view returns (address);
        function headerDigestOf(address cryptlet) external view returns (bytes32);
        function isSigner(address cryptlet, address signer) external view returns (bool);
        function isActive(address cryptlet) external view returns (bool);
        function registerHost(address host, string calldata url, bytes32 authority) external;
        function removeHost(address host) external;
        function assignHost(address cryptlet, address host) external;
        function unassignHost(address cryptlet, address host) external;
        function hostsOf(address cryptlet) external view returns (address[] memory);
        function hostOf(address host) external view returns (string memory url, bytes32 authority);
        function setPolicy(uint64 epoch, bytes32 digest, string calldata uri, PolicyApproval[] calldata approvals) external;
        function setAdministrators(address[] calldata members, uint256 threshold, PolicyApproval[] calldata approvals) external;
        function policy() external view returns (uint64 epoch, bytes32 digest, string memory uri);
        function administrators() external view returns (address[] memory members, uint256 threshold, uint64 term);
        function hashPolicy(address administrator, uint64 term, uint64 epoch, bytes32 digest) external view returns (bytes32);
        function hashAdministrators(address administrator, uint64 term, address[] calldata members, uint256 threshold) external view returns (bytes32);
        function ownerOf(uint256 token) external view returns (address);
        function transferFrom(address from, address to, uint256 tokenId) external;
        function grantRole(bytes32 role, address account) external;
        function revokeRole(bytes32 role, address account) external;
        function hasRole(bytes32 role, address account) external view returns (bool);
    }
}

/// The call that delivers a signed report on nobody's behalf.
#[must_use]
pub fn deliver_call(signed: &SignedReport) -> CryptoDelegate::deliverCall {
    CryptoDelegate::deliverCall {
        report: report(signed),
        r: signed.signature.r,
        vs: signed.signature.vs,
    }
}

/// The call that delivers a signed report on behalf of the identity that gave the delegation.
#[must_use]
pub fn deliver_on_behalf_of_call(
    signed: &SignedReport,
    delegation: &SignedDelegation,
) -> CryptoDelegate::deliverOnBehalfOfCall {
    CryptoDelegate::deliverOnBehalfOfCall {
        report: report(signed),
        r: signed.signature.r,
        vs: signed.signature.vs,
        delegation: delegation.delegation.to_abi().into(),
        signature: delegation.signature.clone(),
    }
}

/// The call that delivers reports together under one signature over their [batch](cryptlet_types::Batch), which names
/// the cryptlet and the region once: the first report's.
#[must_use]
pub fn deliver_batch_call(
    reports: &[SignedReport],
    signature: &CompactSignature,
) -> CryptoDelegate::deliverBatchCall {
    let first = reports.first().map(|signed| &signed.report);
    let items = reports.iter().map(|signed| CryptoDelegate::BatchItem {
        subject: signed.report.subject.0,
        sequence: signed.report.sequence,
        issuedAt: signed.report.issued_at,
        validUntil: signed.report.valid_until,
        payload: signed.report.payload.clone(),
    });
    CryptoDelegate::deliverBatchCall {
        batch: CryptoDelegate::Batch {
            cryptlet: first.map_or(Address::ZERO, |report| report.cryptlet.0),
            region: first.map_or(B256::ZERO, |report| report.region.0),
            items: items.collect(),
        },
        r: signature.r,
        vs: signature.vs,
    }
}

fn report(signed: &SignedReport) -> CryptoDelegate::Report {
    let report = &signed.report;
    CryptoDelegate::Report {
        cryptlet: report.cryptlet.0,
        subject: report.subject.0,
        sequence: report.sequence,
        issuedAt: report.issued_at,
        validUntil: report.valid_until,
        region: report.region.0,
        delegation: report.delegation,
        payload: report.payload.clone(),
    }
}

impl From<AbiDelegation> for CryptoDelegate::Delegation {
    fn from(delegation: AbiDelegation) -> Self {
        Self {
            identity: delegation.identity,
            cryptlet: delegation.cryptlet,
            consumer: delegation.consumer,
            callback: delegation.callback,
            expiry: delegation.expiry,
            salt: delegation.salt,
        }
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
