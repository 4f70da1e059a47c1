// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptletProxy} from "../../src/CryptletProxy.sol";
import {CryptoDelegate} from "../../src/CryptoDelegate.sol";

/**
 * @title TestConsumer
 * @notice A consumer that subscribes `onReport(uint256)` to a clock in its constructor; what it does there is up to its
 * children.
 */
abstract contract TestConsumer is CryptletProxy {
    bytes32 private immutable _subject;

    /// @notice Subscribes `onReport(uint256)` with the given gas.
    constructor(CryptoDelegate delegate_, address cryptlet_, uint32 callbackGas) CryptletProxy(delegate_, cryptlet_) {
        _subject =
            _subscribeClock(TestConsumer.onReport.selector, callbackGas, 1 days, "0 16 * * *", "Europe/Berlin", "");
    }

    /// @notice The callback.
    function onReport(uint256 word) external onlyBy(cryptlet()) {
        _onReport(word);
    }

    /// @notice The subscription's id at the delegate.
    function subject() external view returns (bytes32) {
        return _subject;
    }

    function _onReport(uint256 word) internal virtual;
}
