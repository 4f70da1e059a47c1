// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptletProxy} from "../../src/CryptletProxy.sol";
import {CryptoDelegate} from "../../src/CryptoDelegate.sol";

/**
 * @title Caller
 * @notice Calls a third contract during a callback on an identity's behalf, and keeps what came of it.
 */
contract Caller is CryptletProxy {
    bytes32 private immutable _subject;

    address private _target;
    bytes private _attempt;
    bytes private _result;
    bool private _succeeded;

    /// @notice Subscribes `onReport(uint256)` on the behalf of `identity`.
    constructor(CryptoDelegate delegate_, address cryptlet_, address identity) CryptletProxy(delegate_, cryptlet_) {
        _subject =
            _subscribeClock(identity, Caller.onReport.selector, 500_000, 1 days, "0 16 * * *", "Europe/Berlin", "");
    }

    /// @notice Sets whom to call with what.
    function prepare(address target, bytes calldata attempt) external {
        _target = target;
        _attempt = attempt;
    }

    /// @notice The callback.
    function onReport(uint256) external onlyBy(cryptlet()) {
        (_succeeded, _result) = _target.call(_attempt);
    }

    /// @notice The subscription's id at the delegate.
    function subject() external view returns (bytes32) {
        return _subject;
    }

    /// @notice Whether the call succeeded, and what it returned.
    function outcome() external view returns (bool succeeded, bytes memory result) {
        return (_succeeded, _result);
    }
}
