// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

/**
 * @title Delegations
 * @notice Identities that let a cryptlet speak on their behalf: what they sign, how they take it back, and for whom the
 * report speaks whose callback is running.
 *
 * A delegation is EIP-712 typed data in the delegate's domain, so that it holds for one chain and one delegate. It counts
 * for any number of reports until it expires or is revoked. The identity may be a contract wallet (ERC-1271).
 */
abstract contract Delegations is EIP712 {
    /// @notice An identity's word that a cryptlet may speak on its behalf.
    struct Delegation {
        /// On whose behalf.
        address identity;
        /// The cryptlet that may speak.
        address cryptlet;
        /// The consumer that it may speak to; zero: any.
        address consumer;
        /// The function of the consumer's that it may call; zero: any.
        bytes4 callback;
        /// Last unix second at which a report may be delivered under it.
        uint64 expiry;
        /// Tells two delegations with the same words apart.
        bytes32 salt;
    }

    bytes32 private constant DELEGATION_TYPEHASH = keccak256(
        "Delegation(address identity,address cryptlet,address consumer,bytes4 callback,uint64 expiry,bytes32 salt)"
    );

    mapping(bytes32 digest => bool) private _revokedDelegations;
    address private transient _identity;

    /// @notice `identity` took back the delegation with that hash.
    event DelegationRevoked(address indexed identity, bytes32 indexed digest);

    /// @notice The report was made under another delegation than the given one, or under none, or may be under none.
    error WrongDelegation(bytes32 expected, bytes32 given);

    /// @notice The delegation is for another cryptlet, consumer or callback.
    error DelegationOutOfScope(bytes32 digest);

    /// @notice The delegation expired before this block's time.
    error DelegationExpired(uint64 expiry);

    /// @notice The identity took the delegation back, which is final.
    error DelegationIsRevoked(bytes32 digest);

    /// @notice The signature is not the identity's, or not of this delegation.
    error InvalidDelegationSignature(address identity);

    /// @notice Only the identity may take its delegation back.
    error NotTheIdentity(address caller);

    /// @dev The domain of reports and of delegations.
    constructor() EIP712("CryptoDelegate", "1") {}

    /// @notice Takes a delegation back for ever, from this transaction on. The identity only.
    function revokeDelegation(Delegation calldata delegation) external {
        if (msg.sender != delegation.identity) revert NotTheIdentity(msg.sender);
        bytes32 digest = hashDelegation(delegation);
        if (_revokedDelegations[digest]) revert DelegationIsRevoked(digest);
        _revokedDelegations[digest] = true;
        emit DelegationRevoked(msg.sender, digest);
    }

    /// @notice Whether the delegation with the hash `digest` was taken back.
    function isDelegationRevoked(bytes32 digest) external view returns (bool) {
        return _revokedDelegations[digest];
    }

    /**
     * @notice The identity on whose behalf the report speaks whose callback is running; zero if on nobody's, or if no
     * callback is running.
     * @dev It speaks of the callback, not of the caller: a consumer must check that the delegate is calling it.
     */
    function onBehalfOf() external view returns (address) {
        return _identity;
    }

    /// @notice The EIP-712 hash of a delegation in this contract's domain: what its identity signs.
    function hashDelegation(Delegation calldata delegation) public view returns (bytes32) {
        return _hashTypedDataV4(
            keccak256(
                abi.encode(
                    DELEGATION_TYPEHASH,
                    delegation.identity,
                    delegation.cryptlet,
                    delegation.consumer,
                    delegation.callback,
                    delegation.expiry,
                    delegation.salt
                )
            )
        );
    }

    /// @dev Sets what {onBehalfOf} says.
    function _speakFor(address identity) internal {
        _identity = identity;
    }

    /// @dev Reverts unless `delegation` lets `cryptlet` call `callback` of `consumer` at this block's time.
    function _checkScope(
        Delegation calldata delegation,
        bytes32 digest,
        address cryptlet,
        address consumer,
        bytes4 callback
    )
        internal
        view
    {
        bool covered = delegation.cryptlet == cryptlet
            && (delegation.consumer == address(0) || delegation.consumer == consumer)
            && (delegation.callback == 0 || delegation.callback == callback);
        if (!covered) revert DelegationOutOfScope(digest);
        if (delegation.expiry < block.timestamp) revert DelegationExpired(delegation.expiry);
    }

    /// @dev Reverts unless its identity signed the delegation with that hash and has not taken it back.
    function _checkConsent(address identity, bytes32 digest, bytes calldata signature) internal view {
        if (_revokedDelegations[digest]) revert DelegationIsRevoked(digest);
        if (!SignatureChecker.isValidSignatureNowCalldata(identity, digest, signature)) {
            revert InvalidDelegationSignature(identity);
        }
    }
}
