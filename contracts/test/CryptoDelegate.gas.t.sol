// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {PriceConsumer} from "../examples/PriceConsumer.sol";
import {CryptoDelegate} from "../src/CryptoDelegate.sol";
import {Delegations} from "../src/Delegations.sol";
import {IdentityConsumer} from "./consumers/IdentityConsumer.sol";
import {StoreWord} from "./consumers/StoreWord.sol";
import {RevertingConsumer} from "./consumers/RevertingConsumer.sol";
import {BatchTest} from "./support/BatchTest.sol";
import {Signatures} from "./support/Signatures.sol";
import {Vm} from "./support/Vm.sol";

/**
 * @title CryptoDelegateGasTest
 * @notice What deliveries cost as whole transactions, compared with the committed snapshot without tolerance.
 *
 * Under `isolate` forge runs each call as a transaction of its own: intrinsic gas and call data are included, everything
 * is cold, and refunds are taken off. {testExecutionAndIntrinsicGasAddUp} adds the same figure up by hand.
 */
contract CryptoDelegateGasTest is BatchTest, Signatures {
    /// The most that a steady-state delivery may cost.
    uint256 internal constant MOST = 55_000;

    /// The most that a steady-state delivery in a batch of 50 may cost.
    uint256 internal constant MOST_IN_A_BATCH = 20_000;

    string internal constant STEADY = "deliver, steady state, one word stored";
    string internal constant STEADY_KEY = "$['deliver, steady state, one word stored']";

    /// Payloads of the size and shape of a real rate with 18 decimals.
    uint256 internal constant BEFORE = 1_086_900_000_000_000_000;
    uint256 internal constant AFTER = 1_087_100_000_000_000_000;

    StoreWord internal consumer;
    bytes32 private _subject;

    function setUp() public override {
        super.setUp();
        consumer = new StoreWord(delegate, cryptlet, 100_000);
        _subject = consumer.subject();
        _deliver(_report(consumer, BEFORE));
    }

    /// forge-config: default.isolate = true
    function testGasSteadyDelivery() public {
        uint256 used = _deliverMetered(_report(consumer, AFTER));
        vm.snapshotValue("CryptoDelegate", STEADY, used);
        vm.assertEq(consumer.word(), AFTER);
        vm.assertLe(used, MOST);
    }

    /// @dev Each report for another consumer: nothing is warm that would not be.
    ///
    /// forge-config: default.isolate = true
    function testGasBatches() public {
        uint256 used = _deliverBatchMetered(50);
        vm.snapshotValue("CryptoDelegate", "deliverBatch, 50 reports, steady state, one word stored each", used);
        vm.assertLe(used, 50 * MOST_IN_A_BATCH);
        used = _deliverBatchMetered(10);
        vm.snapshotValue("CryptoDelegate", "deliverBatch, 10 reports, steady state, one word stored each", used);
        used = _deliverBatchMetered(1);
        vm.snapshotValue("CryptoDelegate", "deliverBatch, 1 report, steady state, one word stored", used);
    }

    /// forge-config: default.isolate = true
    function testGasPause() public {
        vm.prank(address(consumer));
        delegate.pause(cryptlet, _subject);
        vm.snapshotValue("CryptoDelegate", "pause", vm.lastCallGas().gasTotalUsed);
    }

    /// forge-config: default.isolate = true
    function testGasFirstDelivery() public {
        StoreWord fresh = new StoreWord(delegate, cryptlet, 100_000);
        uint256 used = _deliverMetered(_report(fresh, AFTER));
        vm.snapshotValue("CryptoDelegate", "deliver, first, one word stored", used);
    }

    /// forge-config: default.isolate = true
    function testGasFailedDelivery() public {
        RevertingConsumer reverting = new RevertingConsumer(delegate, cryptlet, 100_000);
        _deliver(_report(reverting, AFTER));
        uint256 used = _deliverMetered(_report(reverting, AFTER));
        vm.snapshotValue("CryptoDelegate", "deliver, steady state, callback reverts with 4 KiB", used);
    }

    /// forge-config: default.isolate = true
    function testGasPriceConsumer() public {
        string[] memory pairs = new string[](2);
        pairs[0] = "USD";
        pairs[1] = "GBP";
        PriceConsumer prices = new PriceConsumer(delegate, cryptlet, pairs);
        uint256[] memory rates = new uint256[](2);
        rates[0] = BEFORE;
        rates[1] = BEFORE;
        _deliver(_report(prices.subject(), abi.encode(uint64(NOW), rates)));
        rates[0] = AFTER;
        rates[1] = AFTER;
        uint256 used = _deliverMetered(_report(prices.subject(), abi.encode(uint64(NOW + 1 days), rates)));
        vm.snapshotValue("CryptoDelegate", "deliver, steady state, PriceConsumer with two currencies", used);
        vm.assertEq(prices.wakeUps(), 2);
    }

    /// @dev An account's delegation for one function of one consumer's.
    ///
    /// forge-config: default.isolate = true
    function testGasDeliveryOnBehalf() public {
        uint256 key = 0x1DE;
        address identity = vm.addr(key);
        IdentityConsumer speaking = new IdentityConsumer(delegate, cryptlet, identity, identity);
        Delegations.Delegation memory delegation = Delegations.Delegation({
            identity: identity,
            cryptlet: cryptlet,
            consumer: address(speaking),
            callback: IdentityConsumer.onReport.selector,
            expiry: uint64(NOW + 2 hours),
            salt: keccak256("salt")
        });
        bytes32 digest = delegate.hashDelegation(delegation);
        bytes memory signature = _sign(key, digest);
        uint256 used;
        for (uint256 word = BEFORE; word <= AFTER; word += AFTER - BEFORE) {
            CryptoDelegate.Report memory report = _report(speaking.subject(), abi.encode(word));
            report.delegation = digest;
            (bytes32 r, bytes32 vs) = _sign(report);
            delegate.deliverOnBehalfOf(report, r, vs, delegation, signature);
            used = vm.lastCallGas().gasTotalUsed;
        }
        vm.snapshotValue("CryptoDelegate", "deliverOnBehalfOf, steady state, two words stored", used);
        vm.assertEq(speaking.word(), AFTER);
    }

    /// forge-config: default.isolate = true
    function testGasSubscribe() public {
        delegate.subscribe(
            CryptoDelegate.Subscription({
                cryptlet: cryptlet,
                onBehalfOf: address(0),
                callback: 0x12345678,
                callbackGas: 100_000,
                validity: 1 days,
                trigger: 1,
                condition: abi.encode("0 16 * * *", "Europe/Berlin"),
                params: ""
            })
        );
        vm.snapshotValue("CryptoDelegate", "subscribe, first of a consumer", vm.lastCallGas().gasTotalUsed);
    }

    /// @dev The figure of {testGasSteadyDelivery} once more, without `isolate`: 21,000, 16 and 4 for each byte that is
    /// not and is zero, and the execution. The test touches nothing but the delegate before, and cools that.
    function testExecutionAndIntrinsicGasAddUp() public {
        CryptoDelegate.Report memory report = _report(_subject, abi.encode(AFTER));
        (bytes32 r, bytes32 vs) = _sign(report);
        bytes memory data = abi.encodeCall(CryptoDelegate.deliver, (report, r, vs));
        uint256 intrinsic = 21_000;
        for (uint256 i = 0; i < data.length; ++i) {
            intrinsic += data[i] == 0 ? 4 : 16;
        }

        vm.cool(address(delegate));
        delegate.deliver(report, r, vs);
        uint256 added = intrinsic + vm.lastCallGas().gasTotalUsed;
        string memory snapshot = vm.readFile("snapshots/CryptoDelegate.json");
        vm.assertEq(vm.parseJsonString(snapshot, STEADY_KEY), vm.toString(added));
    }

    function _deliverMetered(CryptoDelegate.Report memory report) private returns (uint256) {
        (bytes32 r, bytes32 vs) = _sign(report);
        delegate.deliver(report, r, vs);
        Vm.Gas memory used = vm.lastCallGas();
        return used.gasTotalUsed;
    }

    /// @dev What a batch of so many reports costs, each the second of its subscription.
    function _deliverBatchMetered(uint256 count) private returns (uint256) {
        CryptoDelegate.Report[] memory reports = new CryptoDelegate.Report[](count);
        for (uint256 i = 0; i < count; ++i) {
            StoreWord fresh = new StoreWord(delegate, cryptlet, 100_000);
            _deliver(_report(fresh, BEFORE));
            reports[i] = _report(fresh, AFTER);
        }
        CryptoDelegate.Batch memory batch = _batch(reports);
        (bytes32 r, bytes32 vs) = _signBatch(batch);
        delegate.deliverBatch(batch, r, vs);
        Vm.Gas memory used = vm.lastCallGas();
        for (uint256 i = 0; i < count; ++i) {
            vm.assertEq(_sequence(reports[i].subject), 2);
        }
        return used.gasTotalUsed;
    }
}
