// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/**
 * @title ICryptletRegister
 * @notice What a delegate and its consumers ask of a register, be it the register itself or a mirror of one that runs on
 * another chain.
 */
interface ICryptletRegister {
    /// @notice `cryptlet` was revoked, with every version and every signer: no report of it is ever accepted again.
    event CryptletRevoked(address indexed cryptlet);

    /// @notice `signer` can never sign for `cryptlet` again.
    event SignerRevoked(address indexed cryptlet, address indexed signer);

    /// @notice No such cryptlet was registered.
    error UnknownCryptlet(address cryptlet);

    /// @notice The cryptlet was revoked, which is final.
    error CryptletIsRevoked(address cryptlet);

    /// @notice A signer cannot be the zero address.
    error InvalidSigner(address signer);

    /// @notice The signer was revoked for the cryptlet, which is final.
    error SignerIsRevoked(address cryptlet, address signer);

    /**
     * @notice Whether `signer` may speak for `cryptlet` at this block's time: enrolled, not expired, and neither it nor
     * its version nor the cryptlet revoked. False, never an error, for anything unknown.
     */
    function isSigner(address cryptlet, address signer) external view returns (bool);

    /// @notice Whether `cryptlet` was registered and not revoked. False, never an error, if it is unknown.
    function isActive(address cryptlet) external view returns (bool);

    /// @notice Who holds the token `uint256(uint160(cryptlet))`, and with it controls the cryptlet.
    function ownerOf(uint256 token) external view returns (address);

    /**
     * @notice What is recorded of a cryptlet. Reverts with {UnknownCryptlet} if it was never registered.
     * @return publisher Who registered it (not necessarily who holds its token now).
     * @return name Its name.
     * @return revoked Whether it was revoked.
     */
    function cryptletOf(address cryptlet) external view returns (address publisher, string memory name, bool revoked);

    /**
     * @notice The cryptlet's public key, as an address: of the current version's signers that are valid at this block's
     * time the one enrolled last, or zero. Reverts with {UnknownCryptlet} if the cryptlet was never registered.
     */
    function publicKeyOf(address cryptlet) external view returns (address);

    /**
     * @notice SHA-256 of the current version's header document, or zero if no version is current. Reverts with
     * {UnknownCryptlet} if the cryptlet was never registered.
     */
    function headerDigestOf(address cryptlet) external view returns (bytes32);

    /**
     * @notice The cryptlet's attested hosts: assigned to it by its owner and registered now. Reverts with
     * {UnknownCryptlet} if the cryptlet was never registered.
     */
    function hostsOf(address cryptlet) external view returns (address[] memory);
}
