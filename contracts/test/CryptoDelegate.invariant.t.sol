// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptletRegister} from "../src/CryptletRegister.sol";
import {CryptoDelegate} from "../src/CryptoDelegate.sol";
import {CountingConsumer} from "./consumers/CountingConsumer.sol";
import {DelegateHandler} from "./support/DelegateHandler.sol";
import {RegisterTest} from "./support/RegisterTest.sol";

/**
 * @title CryptoDelegateInvariantTest
 * @notice What holds after any sequence of deliveries, one by one and in batches, replays, pauses, versions, enrolments,
 * revocations and waits.
 */
contract CryptoDelegateInvariantTest is RegisterTest {
    CryptoDelegate internal delegate;
    DelegateHandler internal handler;

    function setUp() public {
        vm.warp(NOW);
        CryptletRegister register = _newRegister();
        delegate = new CryptoDelegate(register);
        handler = new DelegateHandler(register, delegate);
    }

    /// @notice Forge calls the handler only.
    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// @notice A sequence is the number of reports taken: it grows by one with each and by nothing else.
    function invariant_sequenceCountsReportsTaken() public view {
        CountingConsumer[] memory consumers = handler.consumers();
        uint256 total;
        for (uint256 i = 0; i < consumers.length; ++i) {
            bytes32 subject = consumers[i].subject();
            (,,, uint64 sequence) = delegate.subscription(handler.cryptlet(), subject);
            vm.assertEq(sequence, handler.accepted(subject));
            total += sequence;
        }
        vm.assertEq(total, handler.taken());
    }

    /// @notice A consumer saw as many callbacks as were announced as successful.
    function invariant_callbacksAreThoseAnnounced() public view {
        CountingConsumer[] memory consumers = handler.consumers();
        for (uint256 i = 0; i < consumers.length; ++i) {
            vm.assertEq(consumers[i].calls(), handler.succeeded(address(consumers[i])));
        }
    }

    /// @notice Reports are taken exactly when they must be, once, and never from a revoked signer.
    function invariant_onlyWhatIsDueIsTaken() public view {
        (uint256 taken, uint256 refused, uint256 twice, uint256 revoked, uint256 changed) = handler.broken();
        vm.assertEq(taken, 0, "taken against the books");
        vm.assertEq(refused, 0, "refused against the books");
        vm.assertEq(twice, 0, "consumed twice");
        vm.assertEq(revoked, 0, "taken from a revoked signer");
        vm.assertEq(changed, 0, "a refusal changed something");
    }

    /// @notice The handler does get reports through: the invariants above are not about nothing.
    function testHandlerDelivers() public {
        handler.deliver(0, 0, 1, 11);
        handler.deliver(0, 0, 3, 11);
        handler.deliver(0, 0, 1, 2);
        handler.replay(0, 0);
        handler.starve(1, 0, 0);
        vm.assertEq(handler.taken(), 2);
        vm.assertEq(handler.consumers()[0].calls(), 1);
        handler.deliverBatch(1, 0, 5);
        vm.assertGe(handler.taken(), 5);
        handler.pauseOrResume(0, 0);
        uint256 before = handler.taken();
        handler.deliver(0, 0, 1, 11);
        vm.assertEq(handler.taken(), before);
        handler.pauseOrResume(0, 1);
        handler.starve(1, 0, type(uint256).max);
        handler.starve(2, 0, 200_000);
        vm.assertGe(handler.taken(), 3);
        uint256 taken = handler.taken();
        handler.publish(1, 1 days);
        handler.revokeVersion(0, 0);
        handler.deliver(0, 0, 1, 11);
        handler.enrolForRevokedVersion(2, 0);
        handler.enrolRevoked(0);
        vm.assertEq(handler.taken(), taken);
        handler.deliver(0, 1, 1, 11);
        vm.assertEq(handler.taken(), taken + 1);
        invariant_sequenceCountsReportsTaken();
        invariant_callbacksAreThoseAnnounced();
        invariant_onlyWhatIsDueIsTaken();
    }
}
