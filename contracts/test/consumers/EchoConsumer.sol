// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptoDelegate} from "../../src/CryptoDelegate.sol";

/**
 * @title EchoConsumer
 * @notice Keeps the whole call data of whatever it is called with: what the delegate really sends.
 */
contract EchoConsumer {
    CryptoDelegate private immutable _delegate;

    bytes private _received;
    address private _caller;

    /// @notice Remembers the delegate to subscribe at.
    constructor(CryptoDelegate delegate_) {
        _delegate = delegate_;
    }

    /// @notice Takes any call.
    fallback() external {
        _received = msg.data;
        _caller = msg.sender;
    }

    /// @notice Subscribes `callback` with the given gas.
    function subscribe(address cryptlet, bytes4 callback, uint32 callbackGas) external returns (bytes32) {
        return _delegate.subscribe(
            CryptoDelegate.Subscription({
                cryptlet: cryptlet,
                onBehalfOf: address(0),
                callback: callback,
                callbackGas: callbackGas,
                validity: 1 days,
                trigger: 1,
                condition: "",
                params: ""
            })
        );
    }

    /// @notice The call data of the latest call.
    function received() external view returns (bytes memory) {
        return _received;
    }

    /// @notice Who made the latest call.
    function caller() external view returns (address) {
        return _caller;
    }
}
