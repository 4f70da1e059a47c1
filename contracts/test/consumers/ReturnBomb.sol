// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptoDelegate} from "../../src/CryptoDelegate.sol";
import {TestConsumer} from "./TestConsumer.sol";

/**
 * @title ReturnBomb
 * @notice Returns a mebibyte of zeros: successfully if the report's word is even, as revert data if it is odd.
 */
contract ReturnBomb is TestConsumer {
    /// @notice Bytes returned. Give the callback 3,000,000 gas: memory of this size costs about 2.2 million.
    uint256 public constant LENGTH = 1 << 20;

    /// @notice See {TestConsumer}.
    constructor(
        CryptoDelegate delegate_,
        address cryptlet_,
        uint32 callbackGas
    )
        TestConsumer(delegate_, cryptlet_, callbackGas)
    {}

    function _onReport(uint256 word) internal pure override {
        uint256 length = LENGTH;
        assembly {
            if and(word, 1) {
                revert(0x80, length)
            }
            return(0x80, length)
        }
    }
}
