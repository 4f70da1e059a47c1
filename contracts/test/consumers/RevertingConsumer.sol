// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptoDelegate} from "../../src/CryptoDelegate.sol";
import {TestConsumer} from "./TestConsumer.sol";

/**
 * @title RevertingConsumer
 * @notice Reverts with more data than the delegate repeats.
 */
contract RevertingConsumer is TestConsumer {
    /// @notice Bytes of revert data.
    uint256 public constant REASON_LENGTH = 4096;

    /// @notice See {TestConsumer}.
    constructor(
        CryptoDelegate delegate_,
        address cryptlet_,
        uint32 callbackGas
    )
        TestConsumer(delegate_, cryptlet_, callbackGas)
    {}

    /// @dev The data is the report's word, again and again.
    function _onReport(uint256 word) internal pure override {
        uint256 length = REASON_LENGTH;
        assembly {
            for {
                let i := 0
            } lt(i, length) {
                i := add(i, 32)
            } {
                mstore(i, word)
            }
            revert(0, length)
        }
    }
}
