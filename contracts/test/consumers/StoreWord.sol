// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptoDelegate} from "../../src/CryptoDelegate.sol";
import {TestConsumer} from "./TestConsumer.sol";

/**
 * @title StoreWord
 * @notice Stores the report's word in one slot: the consumer that gas figures are measured with.
 */
contract StoreWord is TestConsumer {
    uint256 private _word;

    /// @notice See {TestConsumer}.
    constructor(
        CryptoDelegate delegate_,
        address cryptlet_,
        uint32 callbackGas
    )
        TestConsumer(delegate_, cryptlet_, callbackGas)
    {}

    /// @notice The word of the latest report.
    function word() external view returns (uint256) {
        return _word;
    }

    function _onReport(uint256 newWord) internal override {
        _word = newWord;
    }
}
