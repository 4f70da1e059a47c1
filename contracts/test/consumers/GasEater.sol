// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptoDelegate} from "../../src/CryptoDelegate.sol";
import {TestConsumer} from "./TestConsumer.sol";

/**
 * @title GasEater
 * @notice Uses up all the gas that it is given.
 */
contract GasEater is TestConsumer {
    /// @notice See {TestConsumer}.
    constructor(
        CryptoDelegate delegate_,
        address cryptlet_,
        uint32 callbackGas
    )
        TestConsumer(delegate_, cryptlet_, callbackGas)
    {}

    function _onReport(uint256) internal pure override {
        assembly {
            invalid()
        }
    }
}
