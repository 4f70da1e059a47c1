// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";

/**
 * @title CryptletRegister
 * @notice The register of cryptlets: an ERC-721 token a cryptlet, the signers that may speak for it, and revocation.
 *
 * A cryptlet's id is address-sized, derived from its publisher and its name, and never changes. The token number is the
 * id read as an integer. Whoever holds the token (or is approved for it) controls the cryptlet: a transfer moves that
 * control and leaves the signers as they are.
 *
 * Revocation is effective from the transaction that makes it and is final, for a signer as for a whole cryptlet.
 */
contract CryptletRegister is ERC721 {
    struct Cryptlet {
        address publisher;
        bool revoked;
        address latestSigner;
        string name;
    }

    struct Signer {
        /// Zero if it was never enrolled or was revoked, so that {isSigner} need not read `revoked`.
        uint64 expiry;
        bool revoked;
    }

    /// @notice Longest name of a cryptlet, in bytes.
    uint256 public constant MAX_NAME_LENGTH = 64;

    mapping(address cryptlet => Cryptlet) private _cryptlets;
    mapping(address cryptlet => mapping(address signer => Signer)) private _signers;

    /// @notice `cryptlet` was registered by `publisher` under `name`.
    event CryptletRegistered(address indexed cryptlet, address indexed publisher, string name);

    /// @notice `signer` may sign for `cryptlet` up to and including `expiry` (unix seconds).
    event SignerEnrolled(address indexed cryptlet, address indexed signer, uint64 expiry);

    /// @notice `signer` can never sign for `cryptlet` again.
    event SignerRevoked(address indexed cryptlet, address indexed signer);

    /// @notice No report of `cryptlet` will ever be accepted again.
    event CryptletRevoked(address indexed cryptlet);

    /// @notice The name is empty, longer than {MAX_NAME_LENGTH} bytes, or has a byte outside `[a-z0-9-]`.
    error InvalidName(string name);

    /// @notice The publisher has already registered this name.
    error CryptletExists(address cryptlet);

    /// @notice No such cryptlet was registered.
    error UnknownCryptlet(address cryptlet);

    /// @notice The cryptlet was revoked.
    error CryptletIsRevoked(address cryptlet);

    /// @notice A signer cannot be the zero address.
    error InvalidSigner(address signer);

    /// @notice The expiry (unix seconds) has already passed.
    error ExpiryInThePast(uint64 expiry);

    /// @notice The signer was never enrolled for the cryptlet.
    error UnknownSigner(address cryptlet, address signer);

    /// @notice The signer was revoked for the cryptlet, which is final.
    error SignerIsRevoked(address cryptlet, address signer);

    /// @notice Creates an empty register.
    constructor() ERC721("Bletchley Cryptlet", "CRYPTLET") {}

    /**
     * @notice Registers a cryptlet, mints its token to the caller and enrols its first signer.
     * @dev The token is minted without asking the caller whether it can hold one: a publisher that is a contract must
     * be able to call {enrolSigner} and {revokeCryptlet}.
     * @param name_ 1 to {MAX_NAME_LENGTH} bytes of `[a-z0-9-]`, unique for the caller.
     * @param signer The first signer.
     * @param signerExpiry Last second (unix time) at which that signer is valid.
     * @return cryptlet The new cryptlet's id.
     */
    function register(string calldata name_, address signer, uint64 signerExpiry) external returns (address cryptlet) {
        if (!_isValidName(bytes(name_))) revert InvalidName(name_);
        cryptlet = cryptletId(msg.sender, name_);
        Cryptlet storage record = _cryptlets[cryptlet];
        if (record.publisher != address(0)) revert CryptletExists(cryptlet);

        record.publisher = msg.sender;
        record.name = name_;
        _mint(msg.sender, _tokenId(cryptlet));
        emit CryptletRegistered(cryptlet, msg.sender, name_);
        _enrol(cryptlet, signer, signerExpiry);
    }

    /**
     * @notice Enrols a further signer, or gives an enrolled one another expiry. The token's owner or approved only.
     * @param cryptlet The cryptlet that the signer will speak for.
     * @param signer Any address but zero that was not revoked for this cryptlet.
     * @param expiry Last second (unix time) at which the signer is valid.
     */
    function enrolSigner(address cryptlet, address signer, uint64 expiry) external {
        _checkController(cryptlet);
        if (_cryptlets[cryptlet].revoked) revert CryptletIsRevoked(cryptlet);
        _enrol(cryptlet, signer, expiry);
    }

    /**
     * @notice Revokes a signer for ever. The token's owner or approved only.
     * @param cryptlet The cryptlet that the signer spoke for.
     * @param signer An enrolled signer, expired or not.
     */
    function revokeSigner(address cryptlet, address signer) external {
        _checkController(cryptlet);
        Signer storage record = _signers[cryptlet][signer];
        if (record.revoked) revert SignerIsRevoked(cryptlet, signer);
        if (record.expiry == 0) revert UnknownSigner(cryptlet, signer);
        record.expiry = 0;
        record.revoked = true;
        emit SignerRevoked(cryptlet, signer);
    }

    /**
     * @notice Revokes a cryptlet and with it every signer, for ever. The token's owner or approved only.
     * @param cryptlet The cryptlet to revoke.
     */
    function revokeCryptlet(address cryptlet) external {
        _checkController(cryptlet);
        Cryptlet storage record = _cryptlets[cryptlet];
        if (record.revoked) revert CryptletIsRevoked(cryptlet);
        record.revoked = true;
        emit CryptletRevoked(cryptlet);
    }

    /**
     * @notice Whether `signer` may speak for `cryptlet` at this block's time: enrolled, not expired, and neither it nor
     * the cryptlet revoked. False, never an error, for anything unknown.
     * @dev Two storage reads: every delivery pays for them.
     */
    function isSigner(address cryptlet, address signer) external view returns (bool) {
        return block.timestamp <= _signers[cryptlet][signer].expiry && !_cryptlets[cryptlet].revoked;
    }

    /// @notice Whether `cryptlet` was registered and not revoked.
    function isActive(address cryptlet) external view returns (bool) {
        Cryptlet storage record = _cryptlets[cryptlet];
        return record.publisher != address(0) && !record.revoked;
    }

    /**
     * @notice What is recorded of a cryptlet. Reverts with {UnknownCryptlet} if it was never registered.
     * @return publisher Who registered it (not necessarily who holds its token now).
     * @return name_ Its name.
     * @return revoked Whether it was revoked.
     */
    function cryptletOf(address cryptlet) external view returns (address publisher, string memory name_, bool revoked) {
        Cryptlet storage record = _known(cryptlet);
        return (record.publisher, record.name, record.revoked);
    }

    /**
     * @notice What is recorded of a signer; `(0, false)` if it was never enrolled, `(0, true)` if it was revoked.
     * @return expiry Last second (unix time) at which it is valid.
     * @return revoked Whether it was revoked.
     */
    function signerOf(address cryptlet, address signer) external view returns (uint64 expiry, bool revoked) {
        Signer storage record = _signers[cryptlet][signer];
        return (record.expiry, record.revoked);
    }

    /**
     * @notice The signer that was enrolled last; it may have expired or been revoked since, which {isSigner} tells.
     * Reverts with {UnknownCryptlet} if the cryptlet was never registered.
     */
    function latestSigner(address cryptlet) external view returns (address) {
        return _known(cryptlet).latestSigner;
    }

    /// @notice The id of the cryptlet that `publisher` registers, or registered, under `name_`.
    function cryptletId(address publisher, string calldata name_) public pure returns (address) {
        return address(uint160(uint256(keccak256(abi.encode(publisher, name_)))));
    }

    function _enrol(address cryptlet, address signer, uint64 expiry) private {
        if (signer == address(0)) revert InvalidSigner(signer);
        if (expiry < block.timestamp) revert ExpiryInThePast(expiry);
        Signer storage record = _signers[cryptlet][signer];
        if (record.revoked) revert SignerIsRevoked(cryptlet, signer);
        record.expiry = expiry;
        _cryptlets[cryptlet].latestSigner = signer;
        emit SignerEnrolled(cryptlet, signer, expiry);
    }

    function _checkController(address cryptlet) private view {
        if (_cryptlets[cryptlet].publisher == address(0)) revert UnknownCryptlet(cryptlet);
        uint256 token = _tokenId(cryptlet);
        _checkAuthorized(_ownerOf(token), msg.sender, token);
    }

    function _known(address cryptlet) private view returns (Cryptlet storage record) {
        record = _cryptlets[cryptlet];
        if (record.publisher == address(0)) revert UnknownCryptlet(cryptlet);
    }

    function _tokenId(address cryptlet) private pure returns (uint256) {
        return uint256(uint160(cryptlet));
    }

    function _isValidName(bytes calldata text) private pure returns (bool) {
        if (text.length == 0 || text.length > MAX_NAME_LENGTH) return false;
        for (uint256 i = 0; i < text.length; ++i) {
            bytes1 c = text[i];
            bool allowed = (c >= "a" && c <= "z") || (c >= "0" && c <= "9") || c == "-";
            if (!allowed) return false;
        }
        return true;
    }
}
