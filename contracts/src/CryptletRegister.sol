// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {CryptletText} from "./CryptletText.sol";
import {HostBoard} from "./HostBoard.sol";
import {ICryptletRegister} from "./ICryptletRegister.sol";
import {PolicyBoard} from "./PolicyBoard.sol";

/**
 * @title CryptletRegister
 * @notice The register of cryptlets: an ERC-721 token a cryptlet, its versions, the signers that may speak for them, the
 * hosts that its owner assigned to it, and revocation; beside it the policy in force.
 *
 * A cryptlet's id is address-sized, derived from its publisher and its name, and never changes. The token number is the
 * id read as an integer. Whoever holds the token controls the cryptlet, and nobody else: ERC-721 approvals move tokens,
 * not more. A transfer moves that control and leaves versions and signers as they are.
 *
 * A name is unique in the whole register, and so is what it looks like.
 *
 * A version never changes and has signers of its own, so that revoking it revokes them, and a delivery need not ask for
 * versions. Keys rotate by a new version. Revocation, of a signer, a version or a whole cryptlet, is effective from the
 * transaction that makes it and is final.
 */
contract CryptletRegister is ERC721, HostBoard, PolicyBoard, ICryptletRegister {
    using CryptletText for bytes;
    using CryptletText for string;

    /// @notice What a version consists of. Digests are SHA-256.
    struct Version {
        /// The publisher's word for it, such as `1.0.2`: 1 to 32 bytes of visible ASCII, unique for the cryptlet.
        string label;
        /// Of the package's index.
        bytes32 packageDigest;
        /// Of the header document.
        bytes32 headerDigest;
        /// Of the manifest.
        bytes32 manifestDigest;
        /// Where the package may be found, up to 256 bytes of visible ASCII; a hint.
        string uri;
    }

    struct Cryptlet {
        address publisher;
        bool revoked;
        uint32 versionCount;
        string name;
    }

    struct VersionRecord {
        Version version;
        bool revoked;
        uint64 publishedAt;
        address[] signers;
    }

    struct Signer {
        /// Zero if it was never enrolled or was revoked, so that {isSigner} need not read `revoked`.
        uint64 expiry;
        uint32 version;
        bool revoked;
    }

    /// @notice Revokes signers, versions and cryptlets beside their owners.
    bytes32 public constant REVOKER_ROLE = keccak256("REVOKER_ROLE");

    /// @notice Most signers that a version ever has: revoking them all must fit into one transaction.
    uint256 internal constant MAX_SIGNERS = 16;

    /// @notice Most versions that a cryptlet ever has: whoever reads a register must be able to read them all.
    uint256 internal constant MAX_VERSIONS = 1024;

    mapping(address cryptlet => Cryptlet) private _cryptlets;
    mapping(bytes32 skeleton => address cryptlet) private _bySkeleton;
    mapping(address cryptlet => mapping(uint32 number => VersionRecord)) private _versions;
    mapping(address cryptlet => mapping(bytes32 labelHash => uint32 number)) private _numbers;
    mapping(address cryptlet => mapping(address signer => Signer)) private _signers;

    /// @notice `cryptlet` was registered by `publisher` under `name`.
    event CryptletRegistered(address indexed cryptlet, address indexed publisher, string name);

    /// @notice `cryptlet` has a new version.
    event VersionPublished(address indexed cryptlet, uint32 indexed number, Version version);

    /// @notice The version is not to be run again; its signers are revoked with it.
    event VersionRevoked(address indexed cryptlet, uint32 indexed number);

    /// @notice `signer` may sign for `version` of `cryptlet` up to and including `expiry` (unix seconds).
    event SignerEnrolled(address indexed cryptlet, address indexed signer, uint32 version, uint64 expiry);

    /// @notice The name is not 1 to 64 bytes of `[a-z0-9-]`, or has a hyphen first, last or doubled.
    error InvalidName(string name);

    /// @notice The cryptlet `by` has this name, or one that looks like it.
    error NameTaken(string name, address by);

    /// @notice Version `number` of the cryptlet has this label.
    error LabelTaken(string label, uint32 number);

    /// @notice A version's digests cannot be zero.
    error ZeroDigest();

    /// @notice Only the holder of the cryptlet's token may do this.
    error NotTheOwner(address cryptlet, address caller);

    /// @notice The cryptlet has no such version.
    error UnknownVersion(address cryptlet, uint32 number);

    /// @notice The version was revoked, which is final.
    error VersionIsRevoked(address cryptlet, uint32 number);

    /// @notice The expiry (unix seconds) has already passed.
    error ExpiryInThePast(uint64 expiry);

    /// @notice The signer was never enrolled for the cryptlet.
    error UnknownSigner(address cryptlet, address signer);

    /// @notice The signer belongs to version `number` of the cryptlet.
    error SignerOfAnotherVersion(address cryptlet, address signer, uint32 number);

    /// @notice The version has had {MAX_SIGNERS} signers: publish another.
    error TooManySigners(address cryptlet, uint32 number);

    /// @notice The cryptlet has had {MAX_VERSIONS} versions, revoked ones included.
    error TooManyVersions(address cryptlet);

    /**
     * @notice Creates a register without cryptlets and without a policy.
     * @param admin Is given DEFAULT_ADMIN_ROLE, {HOST_REGISTRAR_ROLE} and {REVOKER_ROLE}.
     * @param administrators_ Who approves policies.
     * @param threshold How many of them must.
     */
    constructor(
        address admin,
        address[] memory administrators_,
        uint256 threshold
    )
        ERC721("Bletchley Cryptlet", "CRYPTLET")
        PolicyBoard(administrators_, threshold)
    {
        if (admin == address(0)) revert InvalidAdministrator(admin);
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
        _grantRole(HOST_REGISTRAR_ROLE, admin);
        _grantRole(REVOKER_ROLE, admin);
    }

    /**
     * @notice Registers a cryptlet: mints its token to the caller, publishes version 1 and enrols that version's signer.
     * @dev The token is minted without asking the caller whether it can hold one: a publisher that is a contract must
     * be able to call {publishVersion} and {revokeCryptlet}.
     * @param name_ 1 to 64 bytes of `[a-z0-9-]`, no hyphen first, last or doubled; nobody else's, and not
     * to be taken for anybody else's.
     * @param version Its first version.
     * @param signer The first signer.
     * @param signerExpiry Last second (unix time) at which that signer is valid.
     * @return cryptlet The new cryptlet's id.
     */
    function register(
        string calldata name_,
        Version calldata version,
        address signer,
        uint64 signerExpiry
    )
        external
        returns (address cryptlet)
    {
        if (!bytes(name_).isName()) revert InvalidName(name_);
        bytes32 skeleton = bytes(name_).skeleton();
        address by = _bySkeleton[skeleton];
        if (by != address(0)) revert NameTaken(name_, by);

        cryptlet = cryptletId(msg.sender, name_);
        _bySkeleton[skeleton] = cryptlet;
        _cryptlets[cryptlet].publisher = msg.sender;
        _cryptlets[cryptlet].name = name_;
        _mint(msg.sender, _token(cryptlet));
        emit CryptletRegistered(cryptlet, msg.sender, name_);
        _publish(cryptlet, version, signer, signerExpiry);
    }

    /**
     * @notice Publishes a further version, up to {MAX_VERSIONS} in all, and enrols its signer. The owner only.
     * @param signer A signer that no other version of the cryptlet has or had.
     * @param signerExpiry Last second (unix time) at which that signer is valid.
     * @return number The version's number: 1 for the first, then one more each time.
     */
    function publishVersion(
        address cryptlet,
        Version calldata version,
        address signer,
        uint64 signerExpiry
    )
        external
        returns (uint32 number)
    {
        _checkOwnerOfActive(cryptlet);
        return _publish(cryptlet, version, signer, signerExpiry);
    }

    /**
     * @notice Enrols a further signer of a version, or gives an enrolled one another expiry. The owner only.
     * @param number A version that is not revoked.
     * @param signer Any address but zero that was not revoked for this cryptlet and is of no other version of it.
     * @param expiry Last second (unix time) at which the signer is valid.
     */
    function enrolSigner(address cryptlet, uint32 number, address signer, uint64 expiry) external {
        _checkOwnerOfActive(cryptlet);
        _enrol(cryptlet, number, signer, expiry);
    }

    /**
     * @notice Revokes a signer for ever. The owner or {REVOKER_ROLE} only.
     * @param signer An enrolled signer, expired or not.
     */
    function revokeSigner(address cryptlet, address signer) external {
        _checkRevoker(cryptlet);
        Signer storage record = _signers[cryptlet][signer];
        if (record.revoked) revert SignerIsRevoked(cryptlet, signer);
        if (record.version == 0) revert UnknownSigner(cryptlet, signer);
        _revoke(cryptlet, signer);
    }

    /**
     * @notice Revokes a version and with it its signers, for ever. The owner or {REVOKER_ROLE} only.
     * @param number Any of the cryptlet's versions, not only the newest.
     */
    function revokeVersion(address cryptlet, uint32 number) external {
        _checkRevoker(cryptlet);
        VersionRecord storage record = _usable(cryptlet, number);
        record.revoked = true;
        emit VersionRevoked(cryptlet, number);
        for (uint256 i = 0; i < record.signers.length; ++i) {
            address signer = record.signers[i];
            if (!_signers[cryptlet][signer].revoked) _revoke(cryptlet, signer);
        }
    }

    /// @notice Revokes a cryptlet, its versions and its signers, for ever. The owner or {REVOKER_ROLE} only.
    function revokeCryptlet(address cryptlet) external {
        _checkRevoker(cryptlet);
        if (_cryptlets[cryptlet].revoked) revert CryptletIsRevoked(cryptlet);
        _cryptlets[cryptlet].revoked = true;
        emit CryptletRevoked(cryptlet);
    }

    /**
     * @inheritdoc ICryptletRegister
     * @dev Two storage reads: every delivery pays for them.
     */
    function isSigner(address cryptlet, address signer) public view returns (bool) {
        return block.timestamp <= _signers[cryptlet][signer].expiry && !_cryptlets[cryptlet].revoked;
    }

    /// @inheritdoc ICryptletRegister
    function isActive(address cryptlet) external view returns (bool) {
        Cryptlet storage record = _cryptlets[cryptlet];
        return record.publisher != address(0) && !record.revoked;
    }

    /// @inheritdoc ICryptletRegister
    function cryptletOf(address cryptlet) external view returns (address publisher, string memory name_, bool revoked) {
        Cryptlet storage record = _known(cryptlet);
        return (record.publisher, record.name, record.revoked);
    }

    /// @notice The cryptlet of exactly this name, revoked or not; zero if there is none.
    function cryptletByName(string calldata name_) external view returns (address cryptlet) {
        if (bytes(name_).length > CryptletText.MAX_NAME_LENGTH) return address(0);
        cryptlet = _bySkeleton[bytes(name_).skeleton()];
        if (keccak256(bytes(_cryptlets[cryptlet].name)) != keccak256(bytes(name_))) return address(0);
    }

    /// @notice How many versions were published. Reverts with {UnknownCryptlet} if the cryptlet was never registered.
    function versionCount(address cryptlet) external view returns (uint32) {
        return _known(cryptlet).versionCount;
    }

    /**
     * @notice A version. Reverts with {UnknownCryptlet} or {UnknownVersion} if there is none.
     * @return version What it consists of.
     * @return revoked Whether it, or the whole cryptlet, was revoked.
     * @return publishedAt When it was published, in unix seconds.
     */
    function versionOf(
        address cryptlet,
        uint32 number
    )
        external
        view
        returns (Version memory version, bool revoked, uint64 publishedAt)
    {
        VersionRecord storage record = _published(cryptlet, number);
        return (record.version, record.revoked || _cryptlets[cryptlet].revoked, record.publishedAt);
    }

    /**
     * @notice What is recorded of a signer; all zero if it was never enrolled.
     * @return version Number of the version that it signs for.
     * @return expiry Last second (unix time) at which it is valid; zero once it was revoked.
     * @return revoked Whether it, its version or the whole cryptlet was revoked.
     */
    function signerOf(
        address cryptlet,
        address signer
    )
        external
        view
        returns (uint32 version, uint64 expiry, bool revoked)
    {
        Signer storage record = _signers[cryptlet][signer];
        if (record.version == 0) return (0, 0, false);
        if (record.revoked || _cryptlets[cryptlet].revoked) return (record.version, 0, true);
        return (record.version, record.expiry, false);
    }

    /**
     * @notice All signers that were ever enrolled for a version, expired and revoked ones included, 16 at most. Reverts with
     * {UnknownCryptlet} or {UnknownVersion} if there is no such version.
     * @return signers In the order of their enrolment; {signerOf} says what became of each.
     */
    function signersOf(address cryptlet, uint32 number) external view returns (address[] memory signers) {
        return _published(cryptlet, number).signers;
    }

    /// @inheritdoc ICryptletRegister
    function publicKeyOf(address cryptlet) external view returns (address) {
        address[] storage signers = _versions[cryptlet][currentVersion(cryptlet)].signers;
        for (uint256 i = signers.length; i > 0; --i) {
            if (isSigner(cryptlet, signers[i - 1])) return signers[i - 1];
        }
        return address(0);
    }

    /// @inheritdoc ICryptletRegister
    function headerDigestOf(address cryptlet) external view returns (bytes32) {
        return _versions[cryptlet][currentVersion(cryptlet)].version.headerDigest;
    }

    /// @inheritdoc ICryptletRegister
    function hostsOf(address cryptlet) external view returns (address[] memory) {
        _known(cryptlet);
        return _hostsOf(cryptlet);
    }

    /**
     * @notice Number of the newest version that is not revoked; zero if all are, or if the cryptlet is. Reverts with
     * {UnknownCryptlet} if the cryptlet was never registered.
     */
    function currentVersion(address cryptlet) public view returns (uint32 number) {
        Cryptlet storage record = _known(cryptlet);
        if (record.revoked) return 0;
        number = record.versionCount;
        while (number > 0 && _versions[cryptlet][number].revoked) --number;
    }

    /// @notice The id of the cryptlet that `publisher` registers, or registered, under `name_`.
    function cryptletId(address publisher, string calldata name_) public pure returns (address) {
        return address(uint160(uint256(keccak256(abi.encode(publisher, name_)))));
    }

    /// @inheritdoc ERC721
    function ownerOf(uint256 token) public view override(ERC721, ICryptletRegister) returns (address) {
        return super.ownerOf(token);
    }

    /// @notice Where the current version's package may be found; empty if no version is current.
    function tokenURI(uint256 token) public view override returns (string memory) {
        _requireOwned(token);
        address cryptlet = address(uint160(token));
        return _versions[cryptlet][currentVersion(cryptlet)].version.uri;
    }

    /// @inheritdoc ERC721
    function supportsInterface(bytes4 interfaceId) public view override(ERC721, AccessControl) returns (bool) {
        return interfaceId == type(ICryptletRegister).interfaceId || super.supportsInterface(interfaceId);
    }

    function _publish(
        address cryptlet,
        Version calldata version,
        address signer,
        uint64 signerExpiry
    )
        private
        returns (uint32 number)
    {
        version.label.checkPrintable(1, CryptletText.MAX_LABEL_LENGTH);
        version.uri.checkPrintable(0, CryptletText.MAX_URI_LENGTH);
        if (version.packageDigest == 0 || version.headerDigest == 0 || version.manifestDigest == 0) {
            revert ZeroDigest();
        }
        bytes32 labelHash = keccak256(bytes(version.label));
        number = _numbers[cryptlet][labelHash];
        if (number != 0) revert LabelTaken(version.label, number);

        number = _cryptlets[cryptlet].versionCount + 1;
        if (number > MAX_VERSIONS) revert TooManyVersions(cryptlet);
        _cryptlets[cryptlet].versionCount = number;
        _numbers[cryptlet][labelHash] = number;
        VersionRecord storage record = _versions[cryptlet][number];
        record.version = version;
        record.publishedAt = uint64(block.timestamp);
        emit VersionPublished(cryptlet, number, version);
        _enrol(cryptlet, number, signer, signerExpiry);
    }

    function _enrol(address cryptlet, uint32 number, address signer, uint64 expiry) private {
        VersionRecord storage version = _usable(cryptlet, number);
        if (signer == address(0)) revert InvalidSigner(signer);
        if (expiry < block.timestamp) revert ExpiryInThePast(expiry);
        Signer storage record = _signers[cryptlet][signer];
        if (record.revoked) revert SignerIsRevoked(cryptlet, signer);
        if (record.version == 0) {
            if (version.signers.length == MAX_SIGNERS) revert TooManySigners(cryptlet, number);
            version.signers.push(signer);
            record.version = number;
        } else if (record.version != number) {
            revert SignerOfAnotherVersion(cryptlet, signer, record.version);
        }
        record.expiry = expiry;
        emit SignerEnrolled(cryptlet, signer, number, expiry);
    }

    function _revoke(address cryptlet, address signer) private {
        Signer storage record = _signers[cryptlet][signer];
        record.expiry = 0;
        record.revoked = true;
        emit SignerRevoked(cryptlet, signer);
    }

    function _checkOwner(address cryptlet) internal view override {
        _known(cryptlet);
        if (_ownerOf(_token(cryptlet)) != msg.sender) revert NotTheOwner(cryptlet, msg.sender);
    }

    function _checkOwnerOfActive(address cryptlet) internal view override {
        _checkOwner(cryptlet);
        if (_cryptlets[cryptlet].revoked) revert CryptletIsRevoked(cryptlet);
    }

    function _checkRevoker(address cryptlet) private view {
        if (hasRole(REVOKER_ROLE, msg.sender)) _known(cryptlet);
        else _checkOwner(cryptlet);
    }

    function _known(address cryptlet) private view returns (Cryptlet storage record) {
        record = _cryptlets[cryptlet];
        if (record.publisher == address(0)) revert UnknownCryptlet(cryptlet);
    }

    function _published(address cryptlet, uint32 number) private view returns (VersionRecord storage record) {
        if (number == 0 || number > _known(cryptlet).versionCount) revert UnknownVersion(cryptlet, number);
        return _versions[cryptlet][number];
    }

    function _usable(address cryptlet, uint32 number) private view returns (VersionRecord storage record) {
        record = _published(cryptlet, number);
        if (record.revoked) revert VersionIsRevoked(cryptlet, number);
    }

    function _token(address cryptlet) private pure returns (uint256) {
        return uint256(uint160(cryptlet));
    }
}
