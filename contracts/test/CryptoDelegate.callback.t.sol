// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {CryptoDelegate} from "../src/CryptoDelegate.sol";
import {EchoConsumer} from "./consumers/EchoConsumer.sol";
import {GasEater} from "./consumers/GasEater.sol";
import {Reenterer} from "./consumers/Reenterer.sol";
import {ReturnBomb} from "./consumers/ReturnBomb.sol";
import {RevertingConsumer} from "./consumers/RevertingConsumer.sol";
import {StoreWord} from "./consumers/StoreWord.sol";
import {DelegateTest} from "./support/DelegateTest.sol";

/**
 * @title CryptoDelegateCallbackTest
 * @notice What a consumer is called with, and that no consumer and no submitter can do harm by the call.
 */
contract CryptoDelegateCallbackTest is DelegateTest {
    /// Everything that a delivery costs beside its callback, and then some.
    uint256 internal constant OVERHEAD = 60_000;

    function testCallDataIsCallbackPayloadAndCryptlet(bytes4 callback, bytes calldata payload) public {
        EchoConsumer consumer = new EchoConsumer(delegate);
        vm.assume(callback != 0);
        vm.assume(callback != EchoConsumer.received.selector && callback != EchoConsumer.caller.selector);
        vm.assume(callback != EchoConsumer.subscribe.selector);
        bytes32 subject = consumer.subscribe(cryptlet, callback, 5_000_000);

        CryptoDelegate.Report memory report = _report(subject, payload);
        _expectDelivered(report, true);
        _deliver(report);
        vm.assertEq(consumer.received(), abi.encodePacked(callback, payload, cryptlet));
        vm.assertEq(consumer.caller(), address(delegate));
    }

    function testLongPayload() public {
        EchoConsumer consumer = new EchoConsumer(delegate);
        bytes32 subject = consumer.subscribe(cryptlet, 0xffffffff, 5_000_000);
        bytes memory payload = new bytes(5_000);
        for (uint256 i = 0; i < payload.length; ++i) {
            payload[i] = bytes1(uint8(i % 251 + 1));
        }
        _deliver(_report(subject, payload));
        vm.assertEq(consumer.received(), abi.encodePacked(hex"ffffffff", payload, cryptlet));
    }

    function testRevertConsumesAndRepeatsTheStartOfItsReason() public {
        RevertingConsumer consumer = new RevertingConsumer(delegate, cryptlet, 100_000);
        CryptoDelegate.Report memory report = _report(consumer, 0xdead);
        bytes memory reason;
        for (uint256 i = 0; i < delegate.MAX_REASON_LENGTH() / 32; ++i) {
            reason = abi.encodePacked(reason, uint256(0xdead));
        }
        _expectDelivered(report, false);
        vm.expectEmit(address(delegate));
        emit CryptoDelegate.CallbackFailed(report.subject, 1, reason);
        _deliver(report);

        vm.assertEq(_sequence(report.subject), 1);
        _expectRefusal(report, abi.encodeWithSelector(CryptoDelegate.WrongSequence.selector, 2, 1));
        _deliver(_report(consumer, 1));
        vm.assertEq(_sequence(report.subject), 2);
    }

    function testShortReasonIsRepeatedAsItIs() public {
        bytes32 subject = _subscribeFor(submitter, 20_000);
        vm.etch(submitter, hex"60015ffd"); // reverts with one zero byte
        CryptoDelegate.Report memory report = _report(subject, "");
        _expectDelivered(report, false);
        vm.expectEmit(address(delegate));
        emit CryptoDelegate.CallbackFailed(subject, 1, hex"00");
        _deliver(report);
    }

    function testConsumerWithoutCodeFails() public {
        _expectFailedWithoutReason(_report(_subscribeFor(submitter, 20_000), ""));
    }

    /// @dev A consumer that destroys itself in its callback has then done what it was asked.
    function testConsumerThatSelfDestructs() public {
        bytes32 subject = _subscribeFor(submitter, 50_000);
        vm.etch(submitter, hex"32ff"); // sends what it has to the origin and is no more
        CryptoDelegate.Report memory report = _report(subject, "");
        _expectDelivered(report, true);
        _deliver(report);
        vm.etch(submitter, "");
        _expectFailedWithoutReason(_report(subject, ""));
        vm.assertEq(_sequence(subject), 2);
    }

    /// @dev Between subscription and delivery the consumer has become an empty account.
    function testConsumerWhoseCodeIsGoneFails() public {
        StoreWord consumer = new StoreWord(delegate, cryptlet, 100_000);
        bytes32 subject = consumer.subject();
        _deliver(_report(subject, abi.encode(uint256(1))));
        vm.etch(address(consumer), "");
        _expectFailedWithoutReason(_report(subject, abi.encode(uint256(2))));
        _expectFailedWithoutReason(_report(subject, abi.encode(uint256(3))));
        vm.assertEq(_sequence(subject), 3);
    }

    function testCurrentReport() public {
        Reenterer consumer = new Reenterer(delegate, cryptlet, 500_000);
        consumer.prepare(abi.encodeCall(CryptoDelegate.currentReport, ()));
        for (uint256 word = 1; word <= 2; ++word) {
            CryptoDelegate.Report memory report = _report(consumer, word);
            _deliver(report);
            (bool succeeded, bytes memory result) = consumer.outcome();
            vm.assertTrue(succeeded);
            vm.assertEq(result, abi.encode(delegate.hashReport(report), signer));
            (bytes32 digest, address by) = delegate.currentReport();
            vm.assertEq(digest, bytes32(0));
            vm.assertEq(by, address(0));
        }
    }

    function testGasEaterCostsItsGasAndNoMore() public {
        GasEater consumer = new GasEater(delegate, cryptlet, 100_000);
        CryptoDelegate.Report memory report = _report(consumer, 1);
        uint256 used = _expectFailedWithoutReason(report);
        vm.assertGe(used, 100_000);
        vm.assertLe(used, 100_000 + OVERHEAD);
    }

    /// @dev The mebibyte costs the consumer's gas to make and nothing to throw away.
    function testReturnBombCostsItsOwnGasOnly() public {
        ReturnBomb consumer = new ReturnBomb(delegate, cryptlet, 3_000_000);
        CryptoDelegate.Report memory report = _report(consumer, 2);
        _expectDelivered(report, true);
        vm.assertLe(_deliverMetered(report), 3_000_000 + OVERHEAD);

        report = _report(consumer, 3);
        _expectDelivered(report, false);
        vm.expectEmit(address(delegate));
        emit CryptoDelegate.CallbackFailed(report.subject, 2, new bytes(delegate.MAX_REASON_LENGTH()));
        vm.assertLe(_deliverMetered(report), 3_000_000 + OVERHEAD);
    }

    function testReentryIsRefused() public {
        StoreWord other = new StoreWord(delegate, cryptlet, 100_000);
        CryptoDelegate.Report memory pending = _report(other, 7);
        (bytes32 r, bytes32 vs) = _sign(pending);
        _reenter(abi.encodeCall(CryptoDelegate.deliver, (pending, r, vs)));
        vm.assertEq(other.word(), 0);

        _reenter(
            abi.encodeCall(
                CryptoDelegate.subscribe,
                (CryptoDelegate.Subscription(cryptlet, address(0), 0xffffffff, 20_000, 1 days, 1, "", ""))
            )
        );
        _reenter(abi.encodeCall(CryptoDelegate.unsubscribe, (cryptlet, other.subject())));
        _reenter(abi.encodeCall(CryptoDelegate.pause, (cryptlet, other.subject())));
        _reenter(abi.encodeCall(CryptoDelegate.resume, (cryptlet, other.subject())));

        _deliver(pending);
        vm.assertEq(other.word(), 7);
    }

    function testUnsubscribingInTheCallbackIsRefused() public {
        Reenterer consumer = new Reenterer(delegate, cryptlet, 500_000);
        bytes32 subject = consumer.subject();
        consumer.prepare(abi.encodeCall(CryptoDelegate.unsubscribe, (cryptlet, subject)));
        _deliver(_report(consumer, 1));
        _assertReentryRefused(consumer);
        vm.assertEq(_sequence(subject), 1);
    }

    /// @dev A callback sees its own report as consumed: it cannot be delivered again from within.
    function testReportIsConsumedBeforeItsCallback() public {
        Reenterer consumer = new Reenterer(delegate, cryptlet, 500_000);
        bytes32 subject = consumer.subject();
        consumer.prepare(abi.encodeCall(CryptoDelegate.subscription, (cryptlet, subject)));
        _deliver(_report(consumer, 1));
        (bool succeeded, bytes memory result) = consumer.outcome();
        vm.assertTrue(succeeded);
        (,,, uint64 sequence) = abi.decode(result, (address, bytes4, uint32, uint64));
        vm.assertEq(sequence, 1);
    }

    /// @dev Whatever gas a submitter gives, either nothing is consumed or the callback had all of its gas.
    function testNoGasStarvesACallback(uint256 gasGiven, uint32 callbackGas, uint256 payloadLength) public {
        callbackGas = uint32(_bound(callbackGas, delegate.MIN_CALLBACK_GAS(), delegate.MAX_CALLBACK_GAS()));
        bytes32 subject = _gasWitness(callbackGas);
        CryptoDelegate.Report memory report = _report(subject, new bytes(_bound(payloadLength, 0, 2_000)));
        gasGiven = _bound(gasGiven, 0, uint256(callbackGas) + callbackGas / 63 + OVERHEAD);
        _deliverWithGas(report, gasGiven);
    }

    /// @dev The same where it matters: every amount of gas around the least that suffices.
    function testGasAroundTheLeastThatSuffices() public {
        uint32[4] memory callbackGas = [uint32(20_000), 100_000, 1_000_000, 5_000_000];
        for (uint256 i = 0; i < callbackGas.length; ++i) {
            bytes32 subject = _gasWitness(callbackGas[i]);
            uint256 least = _leastGas(_report(subject, ""));
            for (uint256 gasGiven = least - 300; gasGiven < least; ++gasGiven) {
                vm.assertFalse(_deliverWithGas(_report(subject, ""), gasGiven));
            }
            for (uint256 gasGiven = least; gasGiven < least + 300; ++gasGiven) {
                vm.assertTrue(_deliverWithGas(_report(subject, ""), gasGiven));
            }
        }
    }

    function testInsufficientGasSaysHowMuchIsMissing() public {
        CryptoDelegate.Report memory report = _report(_gasWitness(100_000), "");
        uint256 least = _leastGas(report);
        (bool delivered, bytes memory reason) = _try(report, least - 1);
        vm.assertFalse(delivered);
        uint256 required = 100_000 + 100_000 / uint256(63) + 12_000;
        vm.assertEq(reason, abi.encodeWithSelector(CryptoDelegate.InsufficientGas.selector, required, required - 1));
    }

    /// @dev With the least gas that suffices, a callback that eats all of its gas and one that fails at length are both
    /// consumed and announced: what is kept back is enough.
    function testLeastGasSufficesForTheEvents() public {
        GasEater eater = new GasEater(delegate, cryptlet, 20_000);
        CryptoDelegate.Report memory report = _report(eater, 1);
        _deliverWithLeastGas(report);

        RevertingConsumer reverting = new RevertingConsumer(delegate, cryptlet, 20_000);
        report = _report(reverting, type(uint256).max);
        _deliverWithLeastGas(report);

        ReturnBomb bomb = new ReturnBomb(delegate, cryptlet, 3_000_000);
        report = _report(bomb, 1);
        _deliverWithLeastGas(report);
    }

    /// @dev Subscribes a contract that reverts unless it is called with exactly `callbackGas`.
    function _gasWitness(uint32 callbackGas) private returns (bytes32) {
        address witness = address(uint160(0xbeef0000 + callbackGas));
        // GAS (which costs 2) PUSH4 callbackGas-2 EQ PUSH1 13 JUMPI PUSH0 PUSH0 REVERT JUMPDEST STOP
        vm.etch(witness, abi.encodePacked(hex"5a63", callbackGas - 2, hex"14600d575f5ffd5b00"));
        return _subscribeFor(witness, callbackGas);
    }

    function _subscribeFor(address consumer, uint32 callbackGas) private returns (bytes32) {
        vm.prank(consumer);
        return delegate.subscribe(
            CryptoDelegate.Subscription(cryptlet, address(0), 0xffffffff, callbackGas, 1 days, 1, "", "")
        );
    }

    function _reenter(bytes memory attempt) private {
        Reenterer consumer = new Reenterer(delegate, cryptlet, 500_000);
        consumer.prepare(attempt);
        CryptoDelegate.Report memory report = _report(consumer, 1);
        _expectDelivered(report, true);
        _deliver(report);
        _assertReentryRefused(consumer);
    }

    function _assertReentryRefused(Reenterer consumer) private view {
        (bool succeeded, bytes memory result) = consumer.outcome();
        vm.assertFalse(succeeded);
        vm.assertEq(result, abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector));
    }

    function _expectDelivered(CryptoDelegate.Report memory report, bool success) private {
        bytes32 digest = delegate.hashReport(report);
        vm.expectEmit(address(delegate));
        emit CryptoDelegate.Delivered(report.subject, cryptlet, report.sequence, digest, signer, success);
    }

    function _expectFailedWithoutReason(CryptoDelegate.Report memory report) private returns (uint256 used) {
        _expectDelivered(report, false);
        vm.expectEmit(address(delegate));
        emit CryptoDelegate.CallbackFailed(report.subject, report.sequence, "");
        used = _deliverMetered(report);
        vm.assertEq(_sequence(report.subject), report.sequence);
    }

    function _deliverMetered(CryptoDelegate.Report memory report) private returns (uint256 used) {
        (bytes32 r, bytes32 vs) = _sign(report);
        uint256 before = gasleft();
        delegate.deliver(report, r, vs);
        return before - gasleft();
    }

    function _deliverWithGas(CryptoDelegate.Report memory report, uint256 gasGiven) private returns (bool delivered) {
        uint64 sequence = _sequence(report.subject);
        vm.recordLogs();
        (delivered,) = _try(report, gasGiven);
        if (!delivered) {
            vm.assertEq(_sequence(report.subject), sequence);
            return false;
        }
        vm.assertEq(_sequence(report.subject), sequence + 1);
        bytes memory data = vm.getRecordedLogs()[0].data;
        (,,, bool success) = abi.decode(data, (uint64, bytes32, address, bool));
        vm.assertTrue(success, "consumed, but the callback got another amount of gas");
    }

    function _deliverWithLeastGas(CryptoDelegate.Report memory report) private {
        uint256 least = _leastGas(report);
        (bool delivered,) = _try(report, least);
        vm.assertTrue(delivered);
        vm.assertEq(_sequence(report.subject), report.sequence);
    }

    /// @dev Found by what the refusal says is missing, from an amount that gets that far.
    function _leastGas(CryptoDelegate.Report memory report) private returns (uint256) {
        (,, uint32 callbackGas,) = delegate.subscription(cryptlet, report.subject);
        uint256 start = uint256(callbackGas) + 5_000;
        (bool delivered, bytes memory reason) = _try(report, start);
        vm.assertFalse(delivered, "the first amount was to be too little");
        vm.assertEq(reason.length, 68);
        uint256 required;
        uint256 available;
        assembly ("memory-safe") {
            required := mload(add(reason, 36))
            available := mload(add(reason, 68))
        }
        return start + required - available;
    }

    function _try(
        CryptoDelegate.Report memory report,
        uint256 gasGiven
    )
        private
        returns (bool delivered, bytes memory reason)
    {
        (bytes32 r, bytes32 vs) = _sign(report);
        return address(delegate).call{gas: gasGiven}(abi.encodeCall(CryptoDelegate.deliver, (report, r, vs)));
    }
}
