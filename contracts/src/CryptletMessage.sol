// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {DelegateDomain} from "./DelegateDomain.sol";
import {ICryptletRegister} from "./ICryptletRegister.sol";
import {IsolatedRegion} from "./IsolatedRegion.sol";

/**
 * @title CryptletMessage
 * @notice What cryptlets have signed beside their answers, by the paper's `IsolatedAppSignMessage`: whether a cryptlet said
 * `message`, which anybody may show.
 *
 * A message is signed in the domain of the delegate that the cryptlet was woken for: it says nothing at another one, nor on
 * another chain, and no signature of a report, an answer or a delegation passes for one. Which code said it, and where,
 * {IsolatedRegion-checkMessage} tells.
 *
 * It names the subscription that the cryptlet was woken for, which commits to consumer and parameters. Whether there is
 * such a one, the delegate says ({CryptoDelegate-subscription}): ask it, unless what the message says does not depend on
 * that. A host can wake a cryptlet for a subscription that nobody made. Zero stands for none at all.
 *
 * WARNING: nothing here says when something was said, or that it was not shown before. What may count once, or for a
 * while, must say so itself.
 */
library CryptletMessage {
    bytes32 private constant MESSAGE_TYPEHASH =
        keccak256("CryptletMessage(address cryptlet,bytes32 subject,bytes message)");

    /**
     * @notice Whether a key that speaks for `cryptlet` at this block's time signed `message`. False, never an error, for
     * whatever else is shown, and for a cryptlet that is unknown or revoked.
     * @param register A register or a mirror of one, which the caller trusts.
     * @param delegate The delegate that the cryptlet was woken for.
     * @param subject The subscription that the message names; zero: none.
     * @param signature Of {hash}: 64 bytes (EIP-2098), low `s`.
     */
    function isSigned(
        ICryptletRegister register,
        address delegate,
        address cryptlet,
        bytes32 subject,
        bytes memory message,
        bytes memory signature
    )
        internal
        view
        returns (bool)
    {
        address signer = IsolatedRegion.signerOf(hash(delegate, cryptlet, subject, message), signature);
        return signer != address(0) && register.isSigner(cryptlet, signer);
    }

    /// @notice What the cryptlet's key signs: the EIP-712 hash of the message in the domain of `delegate` on this chain.
    function hash(
        address delegate,
        address cryptlet,
        bytes32 subject,
        bytes memory message
    )
        internal
        view
        returns (bytes32)
    {
        bytes32 structHash = keccak256(abi.encode(MESSAGE_TYPEHASH, cryptlet, subject, keccak256(message)));
        return DelegateDomain.hashTypedData(delegate, structHash);
    }
}
