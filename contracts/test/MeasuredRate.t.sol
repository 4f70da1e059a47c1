// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {MeasuredRate} from "./consumers/MeasuredRate.sol";
import {CryptletProxy} from "../src/CryptletProxy.sol";
import {CryptoDelegate} from "../src/CryptoDelegate.sol";
import {IsolatedRegion} from "../src/IsolatedRegion.sol";
import {DelegateTest} from "./support/DelegateTest.sol";
import {Regions} from "./support/Regions.sol";

/**
 * @title MeasuredRateTest
 * @notice A rate counts once it is proven, and only the last report's.
 */
contract MeasuredRateTest is DelegateTest, Regions {
    MeasuredRate internal consumer;
    bytes32 internal subject;

    function setUp() public override {
        super.setUp();
        address host = vm.addr(HOST_KEY);
        register.registerHost(host, "https://host.example", keccak256("authority"));
        vm.prank(publisher);
        register.assignHost(cryptlet, host);
        vm.recordLogs();
        consumer = new MeasuredRate(delegate, cryptlet, MEASUREMENT);
        subject = vm.getRecordedLogs()[1].topics[1];
    }

    function testARateCountsOnceProven() public {
        vm.assertEq(consumer.measurement(), MEASUREMENT);
        bytes32 report = _wake(1.08e18);
        vm.assertEq(consumer.rate(), 0);
        vm.expectEmit(address(consumer));
        emit MeasuredRate.RateProven(report, 1.08e18);
        _prove(report);
        vm.assertEq(consumer.rate(), 1.08e18);
        _expectNotProven(report, _evidence(uint64(NOW)));
    }

    /// @dev The cryptlet's own key signed what came, and that is not enough.
    function testAnotherRegionsWordDoesNotCount() public {
        bytes32 report = _wake(1.08e18);
        IsolatedRegion.Evidence memory evidence = _evidence(uint64(NOW));
        _vouch(HOST_KEY + 1, evidence);
        _expectNotProven(report, evidence);
        evidence = _evidence(uint64(NOW));
        evidence.measurement = keccak256("another");
        _vouch(HOST_KEY, evidence);
        _expectNotProven(report, evidence);
        _expectNotProven(report, _evidence(uint64(NOW - 7 days - 1)));
        _expectNotProven(report, _evidence(uint64(NOW + 1)));
        _expectNotProven(keccak256("another report"), _evidence(uint64(NOW)));
        vm.assertEq(consumer.rate(), 0);
        _prove(report);
        vm.assertEq(consumer.rate(), 1.08e18);
    }

    function testOnlyTheLastReportIsProven() public {
        bytes32 first = _wake(1.08e18);
        bytes32 second = _wake(1.09e18);
        _expectNotProven(first, _evidence(uint64(NOW)));
        _prove(second);
        vm.assertEq(consumer.rate(), 1.09e18);
    }

    function testOnlyTheCryptletReports(address caller) public {
        vm.assume(caller != address(delegate) && caller != cryptlet);
        vm.prank(caller);
        vm.expectRevert(abi.encodeWithSelector(CryptletProxy.UnauthorizedCryptlet.selector, caller));
        consumer.rateReported(0, 1);
    }

    function _wake(uint256 rate) private returns (bytes32) {
        CryptoDelegate.Report memory report = _report(subject, abi.encode(uint64(1), rate));
        report.region = MEASUREMENT;
        _deliver(report);
        return delegate.hashReport(report);
    }

    function _prove(bytes32 report) private {
        IsolatedRegion.Statement memory said = _statement(report);
        consumer.prove(_evidence(uint64(NOW)), said, _say(said));
    }

    function _expectNotProven(bytes32 report, IsolatedRegion.Evidence memory evidence) private {
        IsolatedRegion.Statement memory said = _statement(report);
        bytes memory signature = _say(said);
        vm.expectRevert(abi.encodeWithSelector(MeasuredRate.NotProven.selector, report));
        consumer.prove(evidence, said, signature);
    }
}
