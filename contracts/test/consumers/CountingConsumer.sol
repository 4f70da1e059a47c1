// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptoDelegate} from "../../src/CryptoDelegate.sol";
import {TestConsumer} from "./TestConsumer.sol";

/**
 * @title CountingConsumer
 * @notice Counts the callbacks that succeed; it fails for every third word, and eats all its gas for every fifth.
 */
contract CountingConsumer is TestConsumer {
    uint256 private _calls;

    /// @notice The word is a multiple of three.
    error MultipleOfThree(uint256 word);

    /// @notice See {TestConsumer}.
    constructor(
        CryptoDelegate delegate_,
        address cryptlet_,
        uint32 callbackGas
    )
        TestConsumer(delegate_, cryptlet_, callbackGas)
    {}

    /// @notice How many callbacks succeeded.
    function calls() external view returns (uint256) {
        return _calls;
    }

    function _onReport(uint256 word) internal override {
        if (word % 3 == 0) revert MultipleOfThree(word);
        if (word % 5 == 0) {
            assembly ("memory-safe") {
                invalid()
            }
        }
        ++_calls;
    }
}
