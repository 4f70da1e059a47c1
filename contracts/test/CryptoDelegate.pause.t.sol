// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptoDelegate} from "../src/CryptoDelegate.sol";
import {Delegations} from "../src/Delegations.sol";
import {IdentityConsumer} from "./consumers/IdentityConsumer.sol";
import {Reenterer} from "./consumers/Reenterer.sol";
import {StoreWord} from "./consumers/StoreWord.sol";
import {DelegateTest} from "./support/DelegateTest.sol";
import {Signatures} from "./support/Signatures.sol";

/**
 * @title CryptoDelegatePauseTest
 * @notice A paused subscription takes nothing, loses nothing, and is its consumer's alone to pause and resume.
 */
contract CryptoDelegatePauseTest is DelegateTest, Signatures {
    StoreWord internal consumer;
    bytes32 internal subject;

    function setUp() public override {
        super.setUp();
        consumer = new StoreWord(delegate, cryptlet, 100_000);
        subject = consumer.subject();
    }

    function testPauseAndResume() public {
        _deliver(_report(consumer, 1));
        vm.assertFalse(delegate.isPaused(cryptlet, subject));

        vm.expectEmit(address(delegate));
        emit CryptoDelegate.Paused(subject, address(consumer), cryptlet);
        _pause();
        vm.assertTrue(delegate.isPaused(cryptlet, subject));
        _expectRefusal(_report(consumer, 2), abi.encodeWithSelector(CryptoDelegate.SubscriptionPaused.selector));

        vm.expectEmit(address(delegate));
        emit CryptoDelegate.Resumed(subject, address(consumer), cryptlet);
        _resume();
        vm.assertFalse(delegate.isPaused(cryptlet, subject));
        _deliver(_report(consumer, 3));
        vm.assertEq(consumer.word(), 3);
        vm.assertEq(_sequence(subject), 2);
    }

    /// @dev Nothing of the subscription but the pause changes.
    function testSubscriptionStaysAsItWas(uint32 callbackGas) public {
        callbackGas = uint32(_bound(callbackGas, delegate.MIN_CALLBACK_GAS(), delegate.MAX_CALLBACK_GAS()));
        consumer = new StoreWord(delegate, cryptlet, callbackGas);
        subject = consumer.subject();
        bytes32 before = _state();
        _pause();
        vm.assertEq(_state(), before);
        _resume();
        vm.assertEq(_state(), before);
    }

    /// @dev A report that was signed while the subscription was paused, and no other, has the sequence that was due.
    function testReportSignedBeforeThePause() public {
        CryptoDelegate.Report memory report = _report(consumer, 7);
        _pause();
        _expectRefusal(report, abi.encodeWithSelector(CryptoDelegate.SubscriptionPaused.selector));
        _resume();
        _deliver(report);
        vm.assertEq(consumer.word(), 7);
    }

    function testPausedSubscriptionOnBehalf() public {
        uint256 key = 0x1DE;
        address identity = vm.addr(key);
        IdentityConsumer speaking = new IdentityConsumer(delegate, cryptlet, identity, identity);
        subject = speaking.subject();
        Delegations.Delegation memory delegation = Delegations.Delegation({
            identity: identity,
            cryptlet: cryptlet,
            consumer: address(speaking),
            callback: 0,
            expiry: uint64(NOW + 1 days),
            salt: 0
        });
        CryptoDelegate.Report memory report = _report(subject, abi.encode(uint256(7)));
        report.delegation = delegate.hashDelegation(delegation);
        bytes memory signature = _sign(key, report.delegation);
        (bytes32 r, bytes32 vs) = _sign(report);

        vm.prank(address(speaking));
        delegate.pause(cryptlet, subject);
        vm.expectRevert(CryptoDelegate.SubscriptionPaused.selector);
        delegate.deliverOnBehalfOf(report, r, vs, delegation, signature);

        vm.prank(address(speaking));
        delegate.resume(cryptlet, subject);
        delegate.deliverOnBehalfOf(report, r, vs, delegation, signature);
        vm.assertEq(speaking.word(), 7);
        vm.assertEq(delegate.onBehalfOf(), address(0));
    }

    function testTwice() public {
        vm.prank(address(consumer));
        vm.expectRevert(CryptoDelegate.SubscriptionNotPaused.selector);
        delegate.resume(cryptlet, subject);
        _pause();
        vm.prank(address(consumer));
        vm.expectRevert(CryptoDelegate.SubscriptionPaused.selector);
        delegate.pause(cryptlet, subject);
    }

    function testOnlyTheConsumer(address caller) public {
        vm.assume(caller != address(consumer));
        bytes memory reason = abi.encodeWithSelector(CryptoDelegate.NotTheConsumer.selector, caller);
        vm.prank(caller);
        vm.expectRevert(reason);
        delegate.pause(cryptlet, subject);
        _pause();
        vm.prank(caller);
        vm.expectRevert(reason);
        delegate.resume(cryptlet, subject);
    }

    function testUnknownSubscriptions() public {
        bytes4 unknown = CryptoDelegate.UnknownSubscription.selector;
        vm.startPrank(address(consumer));
        vm.expectRevert(unknown);
        delegate.pause(signer, subject);
        vm.expectRevert(unknown);
        delegate.resume(cryptlet, ~subject);
        delegate.pause(cryptlet, subject);
        delegate.unsubscribe(cryptlet, subject);
        vm.expectRevert(unknown);
        delegate.resume(cryptlet, subject);
        vm.stopPrank();
        vm.assertFalse(delegate.isPaused(cryptlet, subject));
        _expectRefusal(_report(subject, ""), abi.encodeWithSelector(unknown));
    }

    function testPausingInTheCallbackIsRefused() public {
        Reenterer reenterer = new Reenterer(delegate, cryptlet, 500_000);
        reenterer.prepare(abi.encodeCall(CryptoDelegate.pause, (cryptlet, reenterer.subject())));
        _deliver(_report(reenterer, 1));
        (bool succeeded,) = reenterer.outcome();
        vm.assertFalse(succeeded);
        vm.assertFalse(delegate.isPaused(cryptlet, reenterer.subject()));
    }

    function _pause() private {
        vm.prank(address(consumer));
        delegate.pause(cryptlet, subject);
    }

    function _resume() private {
        vm.prank(address(consumer));
        delegate.resume(cryptlet, subject);
    }

    function _state() private view returns (bytes32) {
        (address by, bytes4 callback, uint32 callbackGas, uint64 sequence) = delegate.subscription(cryptlet, subject);
        return keccak256(abi.encode(by, callback, callbackGas, sequence));
    }
}
