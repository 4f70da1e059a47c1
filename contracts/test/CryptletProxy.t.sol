// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {CryptletProxy} from "../src/CryptletProxy.sol";
import {CryptoDelegate} from "../src/CryptoDelegate.sol";
import {ICryptletRegister} from "../src/ICryptletRegister.sol";
import {StoreWord} from "./consumers/StoreWord.sol";
import {TestConsumer} from "./consumers/TestConsumer.sol";
import {DelegateTest} from "./support/DelegateTest.sol";

/**
 * @title CryptletProxyTest
 * @notice What the base contract knows, what it subscribes, and that nobody but the cryptlet passes `onlyBy`.
 */
contract CryptletProxyTest is DelegateTest {
    StoreWord internal consumer;

    function setUp() public override {
        super.setUp();
        consumer = new StoreWord(delegate, cryptlet, 100_000);
    }

    function testWhatItKnows() public view {
        vm.assertEq(consumer.owner(), address(this));
        vm.assertEq(consumer.cryptlet(), cryptlet);
        vm.assertEq(address(consumer.delegate()), address(delegate));
        vm.assertEq(consumer.name(), "market-watcher");
        vm.assertEq(consumer.publicKey(), signer);
        vm.assertEq(consumer.attestedHost(), address(0));
        vm.assertEq(consumer.interfaceDigest(), _version("1.0.0").headerDigest);
        vm.assertEq(consumer.trustedForwarder(), address(delegate));
        vm.assertTrue(consumer.isTrustedForwarder(address(delegate)));
    }

    function testTrustsNobodyElse(address other) public view {
        vm.assume(other != address(delegate));
        vm.assertFalse(consumer.isTrustedForwarder(other));
    }

    function testPublicKeyIsOfDeployment() public {
        address later = _account("later signer");
        vm.prank(publisher);
        register.enrolSigner(cryptlet, 1, later, SIGNER_EXPIRY);
        vm.assertEq(consumer.publicKey(), signer);
        vm.assertEq(new StoreWord(delegate, cryptlet, 100_000).publicKey(), later);
    }

    /// @dev What a consumer records is what it was deployed against, also after the register has moved on.
    function testRecordsAreOfDeployment() public {
        address[2] memory hosts = [_account("host"), _account("second host")];
        for (uint256 i = 0; i < hosts.length; ++i) {
            register.registerHost(hosts[i], "https://host.example", keccak256("authority"));
            vm.prank(publisher);
            register.assignHost(cryptlet, hosts[i]);
        }
        StoreWord fresh = new StoreWord(delegate, cryptlet, 100_000);
        vm.assertEq(fresh.attestedHost(), hosts[0]);
        vm.assertEq(consumer.attestedHost(), address(0));

        register.removeHost(hosts[0]);
        vm.prank(publisher);
        register.publishVersion(cryptlet, _version("2"), _account("later signer"), SIGNER_EXPIRY);
        vm.assertEq(fresh.attestedHost(), hosts[0]);
        vm.assertEq(fresh.interfaceDigest(), _version("1.0.0").headerDigest);
        fresh = new StoreWord(delegate, cryptlet, 100_000);
        vm.assertEq(fresh.attestedHost(), hosts[1]);
        vm.assertEq(fresh.interfaceDigest(), _version("2").headerDigest);
        vm.assertEq(fresh.publicKey(), _account("later signer"));
    }

    function testNoVersionIsCurrent() public {
        vm.prank(publisher);
        register.revokeVersion(cryptlet, 1);
        StoreWord fresh = new StoreWord(delegate, cryptlet, 100_000);
        vm.assertEq(fresh.publicKey(), address(0));
        vm.assertEq(fresh.interfaceDigest(), bytes32(0));
        vm.assertEq(consumer.publicKey(), signer);
    }

    function testSubscribesInItsConstructor() public {
        vm.recordLogs();
        StoreWord fresh = new StoreWord(delegate, cryptlet, 123_456);
        (address by, bytes4 callback, uint32 callbackGas,) = delegate.subscription(cryptlet, fresh.subject());
        vm.assertEq(by, address(fresh));
        vm.assertEq(bytes32(callback), bytes32(TestConsumer.onReport.selector));
        vm.assertEq(callbackGas, 123_456);

        bytes memory expected = abi.encode(
            uint256(0),
            CryptoDelegate.Subscription({
                cryptlet: cryptlet,
                onBehalfOf: address(0),
                callback: TestConsumer.onReport.selector,
                callbackGas: 123_456,
                validity: 1 days,
                trigger: 1,
                condition: abi.encode("0 16 * * *", "Europe/Berlin"),
                params: ""
            })
        );
        vm.assertEq(vm.getRecordedLogs()[1].data, expected);
    }

    function testUnknownCryptlet(address unknown) public {
        vm.assume(unknown != cryptlet);
        vm.expectRevert(abi.encodeWithSelector(ICryptletRegister.UnknownCryptlet.selector, unknown));
        new StoreWord(delegate, unknown, 100_000);
    }

    function testTheDelegateIsNoCryptlet() public {
        vm.expectRevert(abi.encodeWithSelector(ICryptletRegister.UnknownCryptlet.selector, address(delegate)));
        new StoreWord(delegate, address(delegate), 100_000);
    }

    function testRevokedCryptlet() public {
        vm.prank(publisher);
        register.revokeCryptlet(cryptlet);
        vm.expectRevert(abi.encodeWithSelector(CryptoDelegate.CryptletNotActive.selector, cryptlet));
        new StoreWord(delegate, cryptlet, 100_000);
    }

    function testDirectCallIsRefused(address caller) public {
        vm.assume(caller != address(delegate) && caller != cryptlet);
        _expectUnauthorized(caller, abi.encodeCall(TestConsumer.onReport, (42)), caller);
    }

    /// @dev The bytes that the delegate would append count for nothing when anybody else appends them.
    function testSpoofedSenderIsRefused(address caller) public {
        vm.assume(caller != address(delegate) && caller != cryptlet);
        bytes memory data = abi.encodePacked(abi.encodeCall(TestConsumer.onReport, (42)), cryptlet);
        _expectUnauthorized(caller, data, caller);
    }

    function testOwnerIsRefused() public {
        bytes memory data = abi.encodePacked(abi.encodeCall(TestConsumer.onReport, (42)), cryptlet);
        _expectUnauthorized(address(this), data, address(this));
    }

    function testSignerIsRefused() public {
        bytes memory data = abi.encodePacked(abi.encodeCall(TestConsumer.onReport, (42)), cryptlet);
        _expectUnauthorized(signer, data, signer);
    }

    /// @dev From the delegate, the appended sender decides: any cryptlet but the consumer's own is refused.
    function testOtherSenderThroughTheDelegateIsRefused(address other) public {
        vm.assume(other != cryptlet);
        bytes memory data = abi.encodePacked(abi.encodeCall(TestConsumer.onReport, (42)), other);
        _expectUnauthorized(address(delegate), data, other);
    }

    function testCryptletThroughTheDelegateIsAdmitted() public {
        bytes memory data = abi.encodePacked(abi.encodeCall(TestConsumer.onReport, (42)), cryptlet);
        vm.prank(address(delegate));
        (bool success,) = address(consumer).call(data);
        vm.assertTrue(success);
        vm.assertEq(consumer.word(), 42);
    }

    /// @dev A contract may subscribe to a cryptlet of its own: its reports reach it and do not pass for another's.
    function testReportOfAnotherCryptletFails() public {
        uint256 key = 0xB0B;
        vm.prank(publisher);
        address other = register.register("other", _version("1"), vm.addr(key), SIGNER_EXPIRY);
        vm.prank(address(consumer));
        bytes32 subject = delegate.subscribe(
            CryptoDelegate.Subscription(other, address(0), TestConsumer.onReport.selector, 100_000, 1 days, 1, "", "")
        );
        CryptoDelegate.Report memory report = _report(subject, abi.encode(uint256(42)));
        report.cryptlet = other;
        (bytes32 r, bytes32 vs) = vm.signCompact(key, delegate.hashReport(report));

        vm.expectEmit(address(delegate));
        emit CryptoDelegate.Delivered(subject, other, 1, delegate.hashReport(report), vm.addr(key), false);
        vm.expectEmit(address(delegate));
        emit CryptoDelegate.CallbackFailed(
            subject, 1, abi.encodeWithSelector(CryptletProxy.UnauthorizedCryptlet.selector, other)
        );
        delegate.deliver(report, r, vs);
        vm.assertEq(consumer.word(), 0);
    }

    function testOwnershipMovesInTwoSteps() public {
        consumer.transferOwnership(submitter);
        vm.assertEq(consumer.owner(), address(this));
        vm.prank(submitter);
        consumer.acceptOwnership();
        vm.assertEq(consumer.owner(), submitter);
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, address(this)));
        consumer.transferOwnership(signer);
    }

    function _expectUnauthorized(address caller, bytes memory data, address named) private {
        vm.prank(caller);
        (bool success, bytes memory reason) = address(consumer).call(data);
        vm.assertFalse(success);
        vm.assertEq(reason, abi.encodeWithSelector(CryptletProxy.UnauthorizedCryptlet.selector, named));
        vm.assertEq(consumer.word(), 0);
    }
}
