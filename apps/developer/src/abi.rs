//! The contracts as far as this crate calls them. A test compares them with the compiled artifacts.
#![allow(
    missing_docs,
    clippy::too_many_arguments,
    reason = "generated from Solidity, which documents it under contracts/src"
)]

alloy::sol! {
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

        event VersionPublished(address indexed cryptlet, uint32 indexed number, Version version);

        error CryptletIsRevoked(address cryptlet);
        error InvalidApproval(address administrator);
        error InvalidName(string name);
        error InvalidSigner(address signer);
        error LabelTaken(string label, uint32 number);
        error NameTaken(string name, address by);
        error NotAnAdministrator(address account);
        error NotEnoughApprovals(uint256 required, uint256 given);
        error NotTheOwner(address cryptlet, address caller);
        error OldEpoch(uint64 current, uint64 given);
        error SignerIsRevoked(address cryptlet, address signer);
        error SignerOfAnotherVersion(address cryptlet, address signer, uint32 number);
        error UnknownCryptlet(address cryptlet);
        error UnknownSigner(address cryptlet, address signer);
        error UnknownVersion(address cryptlet, uint32 number);
        error VersionIsRevoked(address cryptlet, uint32 number);

        function register(string calldata name_, Version calldata version, address signer, uint64 signerExpiry) external returns (address cryptlet);
        function publishVersion(address cryptlet, Version calldata version, address signer, uint64 signerExpiry) external returns (uint32 number);
        function revokeSigner(address cryptlet, address signer) external;
        function revokeVersion(address cryptlet, uint32 number) external;
        function revokeCryptlet(address cryptlet) external;
        function setPolicy(uint64 epoch, bytes32 digest, string calldata uri, PolicyApproval[] calldata approvals) external;

        function administrators() external view returns (address[] memory members, uint256 threshold, uint64 term);
        function policy() external view returns (uint64 epoch, bytes32 digest, string memory uri);
        function cryptletByName(string calldata name_) external view returns (address cryptlet);
        function cryptletOf(address cryptlet) external view returns (address publisher, string memory name_, bool revoked);
        function currentVersion(address cryptlet) external view returns (uint32 number);
        function isSigner(address cryptlet, address signer) external view returns (bool);
        function ownerOf(uint256 token) external view returns (address);
        function signerOf(address cryptlet, address signer) external view returns (uint32 version, uint64 expiry, bool revoked);
        function versionCount(address cryptlet) external view returns (uint32);
        function versionOf(address cryptlet, uint32 number) external view returns (Version memory version, bool revoked, uint64 publishedAt);
    }

    #[derive(Debug, PartialEq, Eq)]
    contract CryptoDelegate {
        struct Delegation {
            address identity;
            address cryptlet;
            address consumer;
            bytes4 callback;
            uint64 expiry;
            bytes32 salt;
        }

        error DelegationIsRevoked(bytes32 digest);
        error NotTheIdentity(address caller);

        function revokeDelegation(Delegation calldata delegation) external;
        function isDelegationRevoked(bytes32 digest) external view returns (bool);
    }
}
