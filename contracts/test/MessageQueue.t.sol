// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {CryptletProxy} from "../src/CryptletProxy.sol";
import {CryptoDelegate, TRIGGER_INTERVAL} from "../src/CryptoDelegate.sol";
import {MessageQueue} from "../src/MessageQueue.sol";
import {BatchTest} from "./support/BatchTest.sol";
import {Vm} from "./support/Vm.sol";

/**
 * @title MessageQueueTest
 * @notice The whole history, as it was delivered: looked up, audited from the delegate's logs, and nobody's to alter.
 */
contract MessageQueueTest is BatchTest {
    MessageQueue internal queue;

    function setUp() public override {
        super.setUp();
        queue = _newQueue(1_000_000);
    }

    function testSubscription() public {
        vm.recordLogs();
        MessageQueue fresh = _newQueue(1_000_000);
        bytes memory expected = abi.encode(
            uint256(0),
            CryptoDelegate.Subscription({
                cryptlet: cryptlet,
                onBehalfOf: address(0),
                callback: MessageQueue.take.selector,
                callbackGas: 1_000_000,
                validity: 1 hours,
                trigger: TRIGGER_INTERVAL,
                condition: abi.encode(uint64(7_200), "XETR", uint8(1)),
                params: abi.encode("USD")
            })
        );
        vm.assertEq(vm.getRecordedLogs()[1].data, expected);
        (address by,,,) = delegate.subscription(cryptlet, fresh.subject());
        vm.assertEq(by, address(fresh));
        vm.assertEq(fresh.chainHash(), fresh.subject());
    }

    function testTakesWhatIsDelivered(bytes calldata payload) public {
        vm.assume(payload.length <= 1_000);
        CryptoDelegate.Report memory report = _report(queue.subject(), payload);
        bytes32 digest = delegate.hashReport(report);
        bytes32 link = queue.hashLink(queue.subject(), 1, uint64(NOW), digest, signer);
        vm.expectEmit(address(queue));
        emit MessageQueue.MessageTaken(0, 1, digest, link);
        _deliver(report);

        vm.assertEq(queue.count(), 1);
        _assertMessage(queue.latest(), report, uint64(NOW));
        _assertMessage(queue.message(0), report, uint64(NOW));
        _assertMessage(queue.messageAt(uint64(NOW)), report, uint64(NOW));
        vm.assertEq(queue.chainHash(), link);
    }

    function testBeforeTheFirstMessage() public {
        vm.expectRevert(MessageQueue.NoMessage.selector);
        queue.latest();
        vm.expectRevert(MessageQueue.NoMessage.selector);
        queue.messageAt(type(uint64).max);
        vm.expectRevert(abi.encodeWithSelector(MessageQueue.UnknownMessage.selector, uint256(0), uint256(0)));
        queue.message(0);
    }

    /// @dev Times with gaps, and several messages in one block, against a search one by one.
    function testMessageAtAgainstALinearSearch(uint256 seed, uint256 countSeed, uint64 time) public {
        uint256 count = _bound(countSeed, 1, 12);
        uint64[] memory times = new uint64[](count);
        for (uint256 i = 0; i < count; ++i) {
            times[i] = _wait(uint256(keccak256(abi.encode(seed, i))) % 4);
            _deliver(_report(queue.subject(), abi.encode(i)));
        }
        time = uint64(_bound(time, NOW - 2, times[count - 1] + 2));
        uint256 found = count;
        for (uint256 i = 0; i < count; ++i) {
            if (times[i] <= time) found = i;
        }
        if (found == count) {
            vm.expectRevert(MessageQueue.NoMessage.selector);
            queue.messageAt(time);
            return;
        }
        MessageQueue.Message memory message = queue.messageAt(time);
        vm.assertEq(message.payload, abi.encode(found));
        vm.assertEq(message.sequence, found + 1);
        vm.assertEq(message.time, times[found]);
    }

    /// @dev One by one and in batches, with failures, strangers' reports and a pause between: the delegate's logs alone,
    /// with the times of their blocks, give the same chain.
    function testReplayOfTheLogsGivesTheSameChain(uint256 seed, uint256 countSeed) public {
        MessageQueue other = _newQueue(1_000_000);
        queue = _newQueue(130_000); // too little for a long payload
        vm.recordLogs();
        uint256 count = _bound(countSeed, 1, 10);
        uint64[] memory times = new uint64[](3 * count);
        uint256 delivered;
        for (uint256 i = 0; i < count; ++i) {
            uint256 dice = uint256(keccak256(abi.encode(seed, i)));
            uint64 time = _wait(dice % 5);
            CryptoDelegate.Report[] memory reports = new CryptoDelegate.Report[](3);
            reports[0] = _report(queue.subject(), new bytes(dice >> 8 & 3 == 0 ? 500 : 20));
            reports[1] = _report(other.subject(), abi.encode(i));
            reports[2] = _report(queue.subject(), hex"01");
            ++reports[2].sequence;
            if (dice >> 16 & 1 == 0) {
                _deliverBatch(reports);
            } else {
                for (uint256 k = 0; k < 3; ++k) {
                    _deliver(reports[k]);
                }
            }
            for (uint256 k = 0; k < 3; ++k) {
                times[delivered++] = time;
            }
        }
        (bytes32 chain, uint256 taken) = _replay(vm.getRecordedLogs(), times);
        vm.assertEq(queue.chainHash(), chain);
        vm.assertEq(queue.count(), taken);
        vm.assertGe(taken, count);
    }

    /// @dev A payload that costs more than the callback's gas leaves a gap that the sequences show.
    function testMessageThatFailsLeavesAGap() public {
        queue = _newQueue(200_000);
        _deliver(_report(queue.subject(), hex"01"));
        _deliver(_report(queue.subject(), new bytes(2_000)));
        _deliver(_report(queue.subject(), hex"03"));
        vm.assertEq(queue.count(), 2);
        vm.assertEq(queue.message(0).sequence, 1);
        vm.assertEq(queue.message(1).sequence, 3);
    }

    /// @dev The gas that its constructor's text asks for suffices, for the first message and for later ones.
    function testGasThatItsTextAsksFor() public {
        uint256[4] memory lengths = [uint256(31), 32, 64, 320];
        uint32[4] memory gasFor = [uint32(120_000), 145_000, 168_000, 145_000 + 9 * 23_000];
        for (uint256 i = 0; i < lengths.length; ++i) {
            queue = _newQueue(gasFor[i]);
            bytes memory payload = new bytes(lengths[i]);
            for (uint256 k = 0; k < payload.length; ++k) {
                payload[k] = 0xff;
            }
            _deliver(_report(queue.subject(), payload));
            vm.assertEq(queue.count(), 1);
        }
    }

    function testNobodyElseAddsMessages(address caller, bytes calldata payload) public {
        vm.assume(caller != address(delegate));
        bytes memory data = abi.encodePacked(MessageQueue.take.selector, payload, cryptlet);
        vm.prank(caller);
        (bool success, bytes memory reason) = address(queue).call(data);
        vm.assertFalse(success);
        vm.assertEq(reason, abi.encodeWithSelector(CryptletProxy.UnauthorizedCryptlet.selector, caller));
        vm.assertEq(queue.count(), 0);
        vm.assertEq(queue.chainHash(), queue.subject());
    }

    /// @dev Whatever the owner does, what is here stays, and the subscription's end ends it.
    function testTheOwnerCannotAlterAnything() public {
        CryptoDelegate.Report memory report = _report(queue.subject(), abi.encode(uint256(42)));
        _deliver(report);
        bytes32 chain = queue.chainHash();
        queue.pause();
        vm.assertTrue(delegate.isPaused(cryptlet, queue.subject()));
        queue.resume();
        queue.unsubscribe();
        (address by,,,) = delegate.subscription(cryptlet, queue.subject());
        vm.assertEq(by, address(0));
        vm.assertEq(queue.chainHash(), chain);
        _assertMessage(queue.latest(), report, uint64(NOW));
    }

    function testOnlyTheOwner() public {
        bytes memory reason = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, submitter);
        vm.startPrank(submitter);
        vm.expectRevert(reason);
        queue.pause();
        vm.expectRevert(reason);
        queue.resume();
        vm.expectRevert(reason);
        queue.unsubscribe();
        vm.stopPrank();
    }

    /// @dev The time that many seconds on. Not by `block.timestamp`: the optimizer takes it for the same all through a call,
    /// whatever `warp` does.
    function _wait(uint256 duration) private returns (uint64 time) {
        time = uint64(vm.getBlockTimestamp() + duration);
        vm.warp(time);
    }

    function _newQueue(uint32 callbackGas) private returns (MessageQueue) {
        bytes memory condition = abi.encode(uint64(7_200), "XETR", uint8(1));
        return
            new MessageQueue(delegate, cryptlet, callbackGas, 1 hours, TRIGGER_INTERVAL, condition, abi.encode("USD"));
    }

    /// @dev What an auditor does: the chain over the subject's deliveries that succeeded.
    function _replay(Vm.Log[] memory logs, uint64[] memory times) private view returns (bytes32 chain, uint256 taken) {
        chain = queue.subject();
        uint256 next;
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] != CryptoDelegate.Delivered.selector) continue;
            uint64 time = times[next++];
            if (logs[i].topics[1] != queue.subject()) continue;
            (uint64 sequence, bytes32 digest, address by, bool success) =
                abi.decode(logs[i].data, (uint64, bytes32, address, bool));
            if (!success) continue;
            chain = keccak256(abi.encode(chain, sequence, time, digest, by));
            ++taken;
        }
    }

    function _assertMessage(
        MessageQueue.Message memory message,
        CryptoDelegate.Report memory report,
        uint64 time
    )
        private
        view
    {
        vm.assertEq(message.sequence, report.sequence);
        vm.assertEq(message.time, time);
        vm.assertEq(message.signer, signer);
        vm.assertEq(message.digest, delegate.hashReport(report));
        vm.assertEq(message.payload, report.payload);
    }
}
