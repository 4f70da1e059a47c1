// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptoDelegate, TRIGGER_CLOCK, TRIGGER_REQUEST} from "../src/CryptoDelegate.sol";
import {ICryptletRegister} from "../src/ICryptletRegister.sol";
import {DelegateTest} from "./support/DelegateTest.sol";

/**
 * @title CryptoDelegateSubscribeTest
 * @notice Subscriptions: what is kept, what is announced, what is refused, and how they end.
 */
contract CryptoDelegateSubscribeTest is DelegateTest {
    bytes4 internal constant CALLBACK = 0x12345678;

    address internal consumer = _account("consumer");

    function testSubscribe() public {
        CryptoDelegate.Subscription memory s = _subscription();
        bytes32 expected = _expectedSubject(0, s);
        vm.expectEmit(address(delegate));
        emit CryptoDelegate.Subscribed(expected, consumer, cryptlet, 0, s);
        vm.assertEq(_subscribe(s), expected);

        (address by, bytes4 callback, uint32 callbackGas, uint64 sequence) = delegate.subscription(cryptlet, expected);
        vm.assertEq(by, consumer);
        vm.assertEq(bytes32(callback), bytes32(CALLBACK));
        vm.assertEq(callbackGas, 100_000);
        vm.assertEq(sequence, 0);
    }

    function testSubjectsDiffer() public {
        CryptoDelegate.Subscription memory s = _subscription();
        vm.assertEq(_subscribe(s), _expectedSubject(0, s));
        vm.assertEq(_subscribe(s), _expectedSubject(1, s));
        vm.assertEq(delegate.nonces(consumer), 2);
    }

    function testSubjectIsNotReusedAfterUnsubscribing() public {
        bytes32 subject = _subscribe(_subscription());
        vm.prank(consumer);
        delegate.unsubscribe(cryptlet, subject);
        vm.assertTrue(_subscribe(_subscription()) != subject);
    }

    function testConstructor() public {
        vm.assertEq(address(delegate.register()), address(register));
        vm.expectRevert(abi.encodeWithSelector(CryptoDelegate.InvalidRegister.selector, consumer));
        new CryptoDelegate(ICryptletRegister(consumer));
    }

    function testDomain() public view {
        (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        ) = delegate.eip712Domain();
        vm.assertEq(uint8(fields), 0x0f);
        vm.assertEq(name, "CryptoDelegate");
        vm.assertEq(version, "1");
        vm.assertEq(chainId, block.chainid);
        vm.assertEq(verifyingContract, address(delegate));
        vm.assertEq(salt, bytes32(0));
        vm.assertEq(extensions.length, 0);
    }

    function testUnknownCryptlet() public {
        CryptoDelegate.Subscription memory s = _subscription();
        s.cryptlet = consumer;
        _expectRefused(s, abi.encodeWithSelector(CryptoDelegate.CryptletNotActive.selector, consumer));
    }

    function testRevokedCryptlet() public {
        vm.prank(publisher);
        register.revokeCryptlet(cryptlet);
        _expectRefused(_subscription(), abi.encodeWithSelector(CryptoDelegate.CryptletNotActive.selector, cryptlet));
    }

    function testZeroCallback() public {
        CryptoDelegate.Subscription memory s = _subscription();
        s.callback = 0;
        _expectRefused(s, abi.encodeWithSelector(CryptoDelegate.InvalidCallback.selector));
    }

    function testCallbackGasIsBounded(uint32 callbackGas) public {
        CryptoDelegate.Subscription memory s = _subscription();
        s.callbackGas = callbackGas;
        if (callbackGas < delegate.MIN_CALLBACK_GAS() || callbackGas > delegate.MAX_CALLBACK_GAS()) {
            _expectRefused(s, abi.encodeWithSelector(CryptoDelegate.InvalidCallbackGas.selector, callbackGas));
        } else {
            _subscribe(s);
        }
    }

    function testCallbackGasAtItsBounds() public {
        testCallbackGasIsBounded(19_999);
        testCallbackGasIsBounded(20_000);
        testCallbackGasIsBounded(5_000_000);
        testCallbackGasIsBounded(5_000_001);
    }

    function testValidityIsBounded() public {
        CryptoDelegate.Subscription memory s = _subscription();
        s.validity = 0;
        _expectRefused(s, abi.encodeWithSelector(CryptoDelegate.InvalidValidity.selector));
        s.validity = delegate.MAX_VALIDITY() + 1;
        _expectRefused(s, abi.encodeWithSelector(CryptoDelegate.InvalidValidity.selector));

        s.validity = 1;
        _subscribe(s);
        s.validity = 7 days;
        _subscribe(s);
    }

    /// @dev No two subscriptions that differ in anything have the same subject, not even at the same nonce.
    function testSubjectCommitsToEveryField() public {
        CryptoDelegate.Subscription memory s = _subscription();
        vm.prank(publisher);
        address other = register.register("other", _version("1"), signer, SIGNER_EXPIRY);
        uint256 state = vm.snapshotState();
        bytes32 first = _subscribe(s);
        for (uint256 field = 0; field < 8; ++field) {
            vm.revertToState(state);
            s = _subscription();
            if (field == 0) s.onBehalfOf = submitter;
            if (field == 1) s.callback = 0x12345679;
            if (field == 2) s.callbackGas += 1;
            if (field == 3) s.validity += 1;
            if (field == 4) s.cryptlet = other;
            if (field == 5) s.condition = abi.encode("0 17 * * *", "Europe/Berlin");
            if (field == 6) s.params = hex"c0ffee00";
            if (field == 7) s.trigger = TRIGGER_REQUEST;
            vm.assertEq(delegate.nonces(consumer), 0);
            vm.assertTrue(_subscribe(s) != first);
        }
    }

    function testTriggers() public {
        vm.assertEq(TRIGGER_CLOCK, 1);
        vm.assertEq(TRIGGER_REQUEST, 9);
        CryptoDelegate.Subscription memory s = _subscription();
        for (uint8 trigger = 1; trigger <= 9; ++trigger) {
            s.trigger = trigger;
            vm.assertEq(_subscribe(s), _expectedSubject(trigger - 1, s));
        }
    }

    function testUnknownTrigger(uint8 trigger) public {
        vm.assume(trigger == 0 || trigger > 9);
        CryptoDelegate.Subscription memory s = _subscription();
        s.trigger = trigger;
        _expectRefused(s, abi.encodeWithSelector(CryptoDelegate.UnknownTrigger.selector, trigger));
    }

    function testLengthsAreBounded() public {
        uint256 most = delegate.MAX_FIELD_LENGTH();
        CryptoDelegate.Subscription memory s = _subscription();
        s.condition = new bytes(most);
        s.params = new bytes(most);
        _subscribe(s);

        s.params = new bytes(most + 1);
        _expectRefused(s, abi.encodeWithSelector(CryptoDelegate.ParamsTooLong.selector, most + 1));
        s.condition = new bytes(most + 1);
        _expectRefused(s, abi.encodeWithSelector(CryptoDelegate.ConditionTooLong.selector, most + 1));
    }

    function testUnsubscribe() public {
        bytes32 subject = _subscribe(_subscription());
        vm.expectEmit(address(delegate));
        emit CryptoDelegate.Unsubscribed(subject, consumer, cryptlet);
        vm.prank(consumer);
        delegate.unsubscribe(cryptlet, subject);

        (address by, bytes4 callback, uint32 callbackGas, uint64 sequence) = delegate.subscription(cryptlet, subject);
        vm.assertEq(by, address(0));
        vm.assertEq(bytes32(callback), bytes32(0));
        vm.assertEq(callbackGas, 0);
        vm.assertEq(sequence, 0);
        _expectRefusal(_report(subject, ""), abi.encodeWithSelector(CryptoDelegate.UnknownSubscription.selector));
    }

    function testUnsubscribeFromARevokedCryptlet() public {
        bytes32 subject = _subscribe(_subscription());
        vm.prank(publisher);
        register.revokeCryptlet(cryptlet);
        vm.prank(consumer);
        delegate.unsubscribe(cryptlet, subject);
    }

    function testUnsubscribeRefusals(address caller) public {
        vm.assume(caller != consumer);
        bytes32 subject = _subscribe(_subscription());
        vm.prank(caller);
        vm.expectRevert(abi.encodeWithSelector(CryptoDelegate.NotTheConsumer.selector, caller));
        delegate.unsubscribe(cryptlet, subject);

        vm.prank(consumer);
        vm.expectRevert(abi.encodeWithSelector(CryptoDelegate.UnknownSubscription.selector));
        delegate.unsubscribe(signer, subject);
        vm.prank(consumer);
        vm.expectRevert(abi.encodeWithSelector(CryptoDelegate.UnknownSubscription.selector));
        delegate.unsubscribe(cryptlet, _expectedSubject(1, _subscription()));
    }

    function _subscription() private view returns (CryptoDelegate.Subscription memory) {
        return CryptoDelegate.Subscription({
            cryptlet: cryptlet,
            onBehalfOf: address(0),
            callback: CALLBACK,
            callbackGas: 100_000,
            validity: 1 days,
            trigger: 1,
            condition: abi.encode("0 16 * * *", "Europe/Berlin"),
            params: hex"c0ffee"
        });
    }

    function _subscribe(CryptoDelegate.Subscription memory s) private returns (bytes32) {
        vm.prank(consumer);
        return delegate.subscribe(s);
    }

    function _expectRefused(CryptoDelegate.Subscription memory s, bytes memory revertData) private {
        vm.prank(consumer);
        vm.expectRevert(revertData);
        delegate.subscribe(s);
    }

    function _expectedSubject(uint256 nonce, CryptoDelegate.Subscription memory s) private view returns (bytes32) {
        bytes32 fields = keccak256(abi.encode(s));
        return keccak256(abi.encode(block.chainid, address(delegate), consumer, nonce, fields));
    }
}
