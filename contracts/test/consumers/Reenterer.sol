// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptoDelegate} from "../../src/CryptoDelegate.sol";
import {TestConsumer} from "./TestConsumer.sol";

/**
 * @title Reenterer
 * @notice Calls the delegate back during its callback, with call data set before, and keeps what came of it.
 */
contract Reenterer is TestConsumer {
    bytes private _attempt;
    bytes private _result;
    bool private _succeeded;

    /// @notice See {TestConsumer}.
    constructor(
        CryptoDelegate delegate_,
        address cryptlet_,
        uint32 callbackGas
    )
        TestConsumer(delegate_, cryptlet_, callbackGas)
    {}

    /// @notice Sets what to call the delegate with.
    function prepare(bytes calldata attempt) external {
        _attempt = attempt;
    }

    /// @notice Whether the call succeeded, and what it returned.
    function outcome() external view returns (bool succeeded, bytes memory result) {
        return (_succeeded, _result);
    }

    function _onReport(uint256) internal override {
        (_succeeded, _result) = address(delegate()).call(_attempt);
    }
}
