// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptoDelegate} from "../src/CryptoDelegate.sol";
import {StoreWord} from "./consumers/StoreWord.sol";
import {DelegateTest} from "./support/DelegateTest.sol";

/**
 * @title CryptoDelegateGasTest
 * @notice What a delivery costs as a whole transaction, compared with the committed snapshot without tolerance.
 */
contract CryptoDelegateGasTest is DelegateTest {
    uint256 internal constant MOST = 60_000;

    StoreWord internal consumer;

    function setUp() public override {
        super.setUp();
        consumer = new StoreWord(delegate, cryptlet, 100_000);
        _deliver(_report(consumer, 1_000_000_000_000_000_000));
    }

    /// forge-config: default.isolate = true
    function testGasSteadyDelivery() public {
        CryptoDelegate.Report memory report = _report(consumer, 1_087_100_000_000_000_000);
        (bytes32 r, bytes32 vs) = _sign(report);
        delegate.deliver(report, r, vs);
        uint256 used = vm.lastCallGas().gasTotalUsed;
        vm.snapshotValue("CryptoDelegate", "deliver, steady state, one word stored, whole transaction", used);
        vm.assertEq(consumer.word(), 1_087_100_000_000_000_000);
        vm.assertLe(used, MOST);
    }
}
