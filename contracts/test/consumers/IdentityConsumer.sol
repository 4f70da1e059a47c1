// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptletProxy} from "../../src/CryptletProxy.sol";
import {CryptoDelegate} from "../../src/CryptoDelegate.sol";

/**
 * @title IdentityConsumer
 * @notice Takes words that an identity delegated, and keeps the latest with what the delegate said of it.
 */
contract IdentityConsumer is CryptletProxy {
    address private immutable _identity;
    bytes32 private immutable _subject;

    uint256 private _word;
    address private _spokenFor;

    /**
     * @notice Subscribes `onReport(uint256)` to a clock.
     * @param identity_ On whose behalf the function demands that reports are.
     * @param asked On whose behalf they are subscribed.
     */
    constructor(
        CryptoDelegate delegate_,
        address cryptlet_,
        address identity_,
        address asked
    )
        CryptletProxy(delegate_, cryptlet_)
    {
        _identity = identity_;
        _subject = _subscribeClock(
            asked, IdentityConsumer.onReport.selector, 200_000, 1 days, "0 16 * * *", "Europe/Berlin", ""
        );
    }

    /// @notice The callback.
    function onReport(uint256 newWord) external onlyBy(cryptlet()) onBehalfOf(_identity) {
        _word = newWord;
        _spokenFor = delegate().onBehalfOf();
    }

    /// @notice A function that checks the identity and nothing else.
    function unguarded(uint256 newWord) external onBehalfOf(_identity) {
        _word = newWord;
    }

    /// @notice The subscription's id at the delegate.
    function subject() external view returns (bytes32) {
        return _subject;
    }

    /// @notice The word of the latest report.
    function word() external view returns (uint256) {
        return _word;
    }

    /// @notice For whom the delegate said the latest report speaks.
    function spokenFor() external view returns (address) {
        return _spokenFor;
    }
}
