// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {ICryptletRegister} from "./ICryptletRegister.sol";

/**
 * @title CryptletRegisterMirror
 * @notice What a register on another chain says, for delegates and consumers on this one.
 *
 * Whoever has {SYNC_ROLE} copies the register's state here. A revocation on the register's chain counts here from the
 * transaction that copies it; until then a signer counts up to its expiry, but never longer than {maxAge} after it was last
 * copied: where nobody copies any more, nobody signs any more. What was revoked here stays revoked, and a cryptlet's publisher
 * and name cannot be changed, since its id is made of them.
 *
 * A copy carries the block of the register's chain that it was read at, and none replaces a later one's, so the order in
 * which copies arrive does not matter. Revocation is taken from any block: it is final there too, and a block that was
 * given too high by mistake must not keep it out. From an earlier block than what is here nothing but the revocation is taken.
 */
contract CryptletRegisterMirror is AccessControl, ICryptletRegister {
    /// @notice What is copied of a cryptlet.
    struct Record {
        /// Who registered it.
        address publisher;
        /// Who holds its token.
        address owner;
        /// Its name.
        string name;
        /// Whether it was revoked.
        bool revoked;
        /// The signer that is its public key, or zero.
        address publicKey;
        /// SHA-256 of the current version's header document, or zero.
        bytes32 headerDigest;
        /// The hosts that its owner assigned and the registrar knows.
        address[] hosts;
    }

    struct Signer {
        /// Last second at which it counts here. Zero if it was never copied or was revoked, so that {isSigner} need not read
        /// `revoked`.
        uint64 expiry;
        bool revoked;
        /// Block of the register's chain that this was read at.
        uint64 sourceBlock;
    }

    /// What {isSigner} reads of a cryptlet, in one word.
    struct Standing {
        bool revoked;
        /// Block of the register's chain that its {Record} was read at.
        uint64 sourceBlock;
    }

    /// @notice Copies the register's state.
    bytes32 public constant SYNC_ROLE = keccak256("SYNC_ROLE");

    /// @notice Most hosts of a cryptlet, as in the register.
    uint256 public constant MAX_HOSTS = 16;

    uint256 private immutable _sourceChainId;
    address private immutable _sourceRegister;
    uint64 private immutable _maxAge;

    mapping(address cryptlet => Standing) private _standings;
    mapping(address cryptlet => Record) private _records;
    mapping(address cryptlet => mapping(address signer => Signer)) private _signers;

    /// @notice What the register said of `cryptlet` at `sourceBlock` was copied.
    event CryptletMirrored(address indexed cryptlet, Record record, uint64 sourceBlock);

    /// @notice What the register said of `signer` at `sourceBlock` was copied: it counts here up to and including `expiry` (unix
    /// seconds), unless it is copied again.
    event SignerMirrored(address indexed cryptlet, address indexed signer, uint64 expiry, uint64 sourceBlock);

    /// @notice The mirrored register's chain or address, or this mirror's administrator, is zero.
    error InvalidSource();

    /// @notice With a longest age of zero no copy would ever count.
    error InvalidMaxAge();

    /// @notice The id is not that of this publisher and name, or the owner is zero, or there are too many hosts.
    error InvalidRecord(address cryptlet);

    /// @notice What is here was read at block `recorded` of the register's chain, after block `given`.
    error StaleCopy(uint64 recorded, uint64 given);

    /**
     * @notice Creates an empty mirror.
     * @param admin Is given DEFAULT_ADMIN_ROLE and {SYNC_ROLE}.
     * @param chainId The chain that the register runs on.
     * @param register The register's address there.
     * @param maxAge_ How long a signer counts after it was last copied, in seconds: the longest that a revocation which nobody
     * copies stays unknown here, and how often signers have to be copied again. Never changes.
     */
    constructor(address admin, uint256 chainId, address register, uint64 maxAge_) {
        if (admin == address(0) || chainId == 0 || register == address(0)) revert InvalidSource();
        if (maxAge_ == 0) revert InvalidMaxAge();
        _maxAge = maxAge_;
        _sourceChainId = chainId;
        _sourceRegister = register;
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
        _grantRole(SYNC_ROLE, admin);
    }

    /**
     * @notice Copies what the register says of a cryptlet. {SYNC_ROLE} only.
     * @param record Must have `revoked` set if the cryptlet is revoked here.
     * @param sourceBlock Newest block of the register's chain when this was read: not before that of the last copy, unless
     * this one brings the revocation, and then nothing else of it is taken.
     */
    function mirrorCryptlet(address cryptlet, Record calldata record, uint64 sourceBlock) external onlyRole(SYNC_ROLE) {
        bytes32 hash = keccak256(abi.encode(record.publisher, record.name));
        bool valid = cryptlet == address(uint160(uint256(hash))) && record.publisher != address(0)
            && record.owner != address(0) && record.hosts.length <= MAX_HOSTS;
        if (!valid) revert InvalidRecord(cryptlet);
        Standing storage standing = _standings[cryptlet];
        if (standing.revoked && !record.revoked) revert CryptletIsRevoked(cryptlet);
        if (sourceBlock < standing.sourceBlock) {
            if (standing.revoked || !record.revoked) revert StaleCopy(standing.sourceBlock, sourceBlock);
            _records[cryptlet].revoked = true;
            standing.revoked = true;
        } else {
            _records[cryptlet] = record;
            standing.revoked = record.revoked;
            standing.sourceBlock = sourceBlock;
            emit CryptletMirrored(cryptlet, record, sourceBlock);
        }
        if (record.revoked) emit CryptletRevoked(cryptlet);
    }

    /**
     * @notice Copies what the register says of a signer, for {maxAge} at most: copy it again before. {SYNC_ROLE} only.
     * @param cryptlet A cryptlet that was copied before.
     * @param signer Any address but zero.
     * @param expiry Last second (unix time) at which the signer is valid in the register; without meaning if it was revoked.
     * @param revoked Whether the signer, or its version, was revoked. Must be set if it is revoked here.
     * @param sourceBlock Newest block of the register's chain when this was read: not before that of the last copy of this
     * signer, unless it was revoked.
     */
    function mirrorSigner(
        address cryptlet,
        address signer,
        uint64 expiry,
        bool revoked,
        uint64 sourceBlock
    )
        external
        onlyRole(SYNC_ROLE)
    {
        _known(cryptlet);
        if (signer == address(0)) revert InvalidSigner(signer);
        Signer storage record = _signers[cryptlet][signer];
        if (record.revoked && !revoked) revert SignerIsRevoked(cryptlet, signer);
        bool older = sourceBlock < record.sourceBlock;
        if (older && !revoked) revert StaleCopy(record.sourceBlock, sourceBlock);
        if (!older) record.sourceBlock = sourceBlock;
        if (revoked) {
            record.expiry = 0;
            record.revoked = true;
            emit SignerRevoked(cryptlet, signer);
        } else {
            uint256 latest = block.timestamp + _maxAge;
            record.expiry = latest < expiry ? uint64(latest) : expiry;
            emit SignerMirrored(cryptlet, signer, record.expiry, sourceBlock);
        }
    }

    /**
     * @notice Which register this is a mirror of.
     * @return chainId The chain that it runs on.
     * @return register Its address there.
     */
    function source() external view returns (uint256 chainId, address register) {
        return (_sourceChainId, _sourceRegister);
    }

    /// @notice How long a signer counts after it was last copied, in seconds, if it does not expire before.
    function maxAge() external view returns (uint64) {
        return _maxAge;
    }

    /**
     * @notice What was copied of a signer; all zero if it never was.
     * @return expiry Last second (unix time) at which it counts here: at its expiry in the register, or {maxAge} after it was
     * copied, if that is earlier; zero once it was revoked.
     * @return revoked Whether it was revoked.
     * @return sourceBlock Latest block of the register's chain that this was read at.
     */
    function signerOf(
        address cryptlet,
        address signer
    )
        external
        view
        returns (uint64 expiry, bool revoked, uint64 sourceBlock)
    {
        Signer storage record = _signers[cryptlet][signer];
        return (record.expiry, record.revoked, record.sourceBlock);
    }

    /**
     * @notice Block of the register's chain at which what is here of a cryptlet was read, save perhaps its revocation. Reverts
     * with {UnknownCryptlet} if it was never copied. Nothing but signers becomes void by age.
     */
    function sourceBlockOf(address cryptlet) external view returns (uint64) {
        _known(cryptlet);
        return _standings[cryptlet].sourceBlock;
    }

    /// @inheritdoc ICryptletRegister
    function isSigner(address cryptlet, address signer) public view returns (bool) {
        return block.timestamp <= _signers[cryptlet][signer].expiry && !_standings[cryptlet].revoked;
    }

    /// @inheritdoc ICryptletRegister
    function isActive(address cryptlet) external view returns (bool) {
        return _records[cryptlet].publisher != address(0) && !_standings[cryptlet].revoked;
    }

    /// @inheritdoc ICryptletRegister
    function ownerOf(uint256 token) external view returns (address) {
        address cryptlet = address(uint160(token));
        if (token > type(uint160).max) revert UnknownCryptlet(cryptlet);
        return _known(cryptlet).owner;
    }

    /// @inheritdoc ICryptletRegister
    function cryptletOf(address cryptlet) external view returns (address publisher, string memory name, bool revoked) {
        Record storage record = _known(cryptlet);
        return (record.publisher, record.name, record.revoked);
    }

    /// @inheritdoc ICryptletRegister
    function publicKeyOf(address cryptlet) external view returns (address) {
        address publicKey = _known(cryptlet).publicKey;
        return isSigner(cryptlet, publicKey) ? publicKey : address(0);
    }

    /// @inheritdoc ICryptletRegister
    function headerDigestOf(address cryptlet) external view returns (bytes32) {
        Record storage record = _known(cryptlet);
        return record.revoked ? bytes32(0) : record.headerDigest;
    }

    /// @inheritdoc ICryptletRegister
    function hostsOf(address cryptlet) external view returns (address[] memory) {
        return _known(cryptlet).hosts;
    }

    /// @inheritdoc AccessControl
    function supportsInterface(bytes4 interfaceId) public view override returns (bool) {
        return interfaceId == type(ICryptletRegister).interfaceId || super.supportsInterface(interfaceId);
    }

    function _known(address cryptlet) private view returns (Record storage record) {
        record = _records[cryptlet];
        if (record.publisher == address(0)) revert UnknownCryptlet(cryptlet);
    }
}
