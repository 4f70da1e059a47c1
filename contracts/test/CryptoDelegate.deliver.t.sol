// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptoDelegate} from "../src/CryptoDelegate.sol";
import {StoreWord} from "./consumers/StoreWord.sol";
import {DelegateTest} from "./support/DelegateTest.sol";

/**
 * @title CryptoDelegateDeliverTest
 * @notice Which reports are taken and which are refused; a refused one consumes nothing.
 */
contract CryptoDelegateDeliverTest is DelegateTest {
    uint256 internal constant CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
    bytes32 internal constant S_MASK = bytes32(type(uint256).max >> 1);

    StoreWord internal consumer;

    function setUp() public override {
        super.setUp();
        consumer = new StoreWord(delegate, cryptlet, 100_000);
    }

    function testDelivers() public {
        CryptoDelegate.Report memory report = _report(consumer, 42);
        vm.expectEmit(address(delegate));
        emit CryptoDelegate.Delivered(report.subject, cryptlet, 1, delegate.hashReport(report), signer, true);
        _deliver(report);
        vm.assertEq(consumer.word(), 42);
        vm.assertEq(_sequence(report.subject), 1);
    }

    function testAnybodyMaySubmit(address anybody) public {
        CryptoDelegate.Report memory report = _report(consumer, 42);
        (bytes32 r, bytes32 vs) = _sign(report);
        vm.prank(anybody);
        delegate.deliver(report, r, vs);
        vm.assertEq(consumer.word(), 42);
    }

    function testDeliversInSequence() public {
        for (uint256 word = 1; word <= 5; ++word) {
            _deliver(_report(consumer, word));
            vm.assertEq(consumer.word(), word);
            vm.assertEq(_sequence(consumer.subject()), word);
        }
    }

    function testHashIsEip712(CryptoDelegate.Report memory report) public view {
        bytes32 domainSeparator = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("CryptoDelegate"),
                keccak256("1"),
                block.chainid,
                address(delegate)
            )
        );
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256(
                    "Report(address cryptlet,bytes32 subject,uint64 sequence,uint64 issuedAt,uint64 validUntil,bytes32 region,bytes32 delegation,bytes payload)"
                ),
                report.cryptlet,
                report.subject,
                report.sequence,
                report.issuedAt,
                report.validUntil,
                report.region,
                report.delegation,
                keccak256(report.payload)
            )
        );
        bytes32 expected = keccak256(abi.encodePacked(hex"1901", domainSeparator, structHash));
        vm.assertEq(delegate.hashReport(report), expected);
    }

    function testReplayIsRefused() public {
        CryptoDelegate.Report memory report = _report(consumer, 42);
        _deliver(report);
        _refused(report, abi.encodeWithSelector(CryptoDelegate.WrongSequence.selector, 2, 1));
    }

    function testSequenceMustBeNext(uint64 sequence) public {
        vm.assume(sequence != 1);
        CryptoDelegate.Report memory report = _report(consumer, 42);
        report.sequence = sequence;
        _refused(report, abi.encodeWithSelector(CryptoDelegate.WrongSequence.selector, 1, sequence));
    }

    function testSequenceDoesNotWrap() public {
        CryptoDelegate.Report memory report = _report(consumer, 42);
        bytes32 slot = keccak256(abi.encode(report.subject, keccak256(abi.encode(cryptlet, uint256(4)))));
        uint256 packed = uint256(vm.load(address(delegate), slot));
        vm.assertTrue(packed != 0, "the mapping is at another slot");
        vm.store(address(delegate), slot, bytes32(packed | type(uint32).max));
        report.sequence = uint64(type(uint32).max) + 1;
        _refused(report, abi.encodeWithSelector(CryptoDelegate.SequenceExhausted.selector));
    }

    function testUnknownSubject(bytes32 subject) public {
        CryptoDelegate.Report memory report = _report(consumer, 42);
        vm.assume(subject != report.subject);
        report.subject = subject;
        _refused(report, abi.encodeWithSelector(CryptoDelegate.UnknownSubscription.selector));
    }

    function testReportOfAnotherCryptlet() public {
        vm.prank(publisher);
        address other = register.register("other", _version("1"), signer, SIGNER_EXPIRY);
        CryptoDelegate.Report memory report = _report(consumer, 42);
        report.cryptlet = other;
        _refused(report, abi.encodeWithSelector(CryptoDelegate.UnknownSubscription.selector));
    }

    function testTimes() public {
        CryptoDelegate.Report memory report = _report(consumer, 42);
        report.issuedAt = uint64(NOW + 1);
        _refused(report, abi.encodeWithSelector(CryptoDelegate.NotYetValid.selector));

        report.issuedAt = uint64(NOW - 10);
        report.validUntil = uint64(NOW - 1);
        _refused(report, abi.encodeWithSelector(CryptoDelegate.Expired.selector));

        report.issuedAt = uint64(NOW);
        report.validUntil = uint64(NOW);
        _refused(report, abi.encodeWithSelector(CryptoDelegate.InvalidValidity.selector));

        report.issuedAt = uint64(NOW - 1);
        _deliver(report);
    }

    function testValidityIsBounded() public {
        uint64 most = delegate.MAX_VALIDITY();
        vm.assertEq(most, 7 days);
        CryptoDelegate.Report memory report = _report(consumer, 42);
        report.validUntil = report.issuedAt + most + 1;
        _refused(report, abi.encodeWithSelector(CryptoDelegate.InvalidValidity.selector));
        report.validUntil = type(uint64).max;
        _refused(report, abi.encodeWithSelector(CryptoDelegate.InvalidValidity.selector));
        report.issuedAt = uint64(NOW - most);
        report.validUntil = uint64(NOW);
        _deliver(report);
    }

    function testTimesAreCheckedAgainstTheBlock(uint64 issuedAt, uint64 validUntil, uint64 time) public {
        // Often enough within reach of one another that every branch is taken.
        time = uint64(_bound(time, NOW, SIGNER_EXPIRY));
        issuedAt = uint64(_bound(issuedAt, time - 10 days, uint256(time) + 2 days));
        validUntil = uint64(_bound(validUntil, issuedAt - 1 days, uint256(issuedAt) + 10 days));
        vm.warp(time);
        CryptoDelegate.Report memory report = _report(consumer, 42);
        report.issuedAt = issuedAt;
        report.validUntil = validUntil;
        if (validUntil <= issuedAt || validUntil - issuedAt > delegate.MAX_VALIDITY()) {
            _refused(report, abi.encodeWithSelector(CryptoDelegate.InvalidValidity.selector));
        } else if (issuedAt > block.timestamp) {
            _refused(report, abi.encodeWithSelector(CryptoDelegate.NotYetValid.selector));
        } else if (validUntil < block.timestamp) {
            _refused(report, abi.encodeWithSelector(CryptoDelegate.Expired.selector));
        } else {
            _deliver(report);
        }
    }

    function testAnyAlteredFieldIsRefused(uint256 field, uint256 mask) public {
        CryptoDelegate.Report memory report = _report(consumer, 42);
        (bytes32 r, bytes32 vs) = _sign(report);
        field = _bound(field, 0, 3);
        if (field == 0) report.issuedAt = uint64(_bound(mask, NOW + 1 hours - 7 days, NOW - 1));
        if (field == 1) report.validUntil = uint64(_bound(mask, NOW + 1 hours + 1, NOW + 7 days));
        if (field == 2) report.region ^= bytes32(_bound(mask, 1, type(uint256).max));
        if (field == 3) report.payload = abi.encode(42 ^ _bound(mask, 1, type(uint256).max));
        _refused(report, r, vs, _notEnrolled(delegate.hashReport(report), r, vs));
    }

    /// @dev A signed delegation cannot be dropped from a report, nor the sequence be taken with another.
    function testAlteredDelegationIsRefused(bytes32 delegation) public {
        vm.assume(delegation != 0);
        CryptoDelegate.Report memory report = _report(consumer, 42);
        report.delegation = delegation;
        (bytes32 r, bytes32 vs) = _sign(report);
        report.delegation = 0;
        _refused(report, r, vs, _notEnrolled(delegate.hashReport(report), r, vs));
    }

    function testAlteredKeysOfAReportAreRefused() public {
        CryptoDelegate.Report memory report = _report(consumer, 42);
        (bytes32 r, bytes32 vs) = _sign(report);
        report.cryptlet = address(uint160(cryptlet) ^ 1);
        _refused(report, r, vs, abi.encodeWithSelector(CryptoDelegate.UnknownSubscription.selector));
        report.cryptlet = cryptlet;
        report.subject ^= bytes32(uint256(1));
        _refused(report, r, vs, abi.encodeWithSelector(CryptoDelegate.UnknownSubscription.selector));
        report.subject ^= bytes32(uint256(1));
        report.sequence = 2;
        _refused(report, r, vs, abi.encodeWithSelector(CryptoDelegate.WrongSequence.selector, 1, 2));
    }

    function testPayloadCannotBeLengthenedOrCut() public {
        CryptoDelegate.Report memory report = _report(consumer, 42);
        (bytes32 r, bytes32 vs) = _sign(report);
        report.payload = abi.encodePacked(uint256(42), bytes1(0));
        _refused(report, r, vs, _notEnrolled(delegate.hashReport(report), r, vs));
        report.payload = "";
        _refused(report, r, vs, _notEnrolled(delegate.hashReport(report), r, vs));
    }

    /// @dev A report's sequence may be signed for another subscription of the same consumer: it fits only its own.
    function testReportForASiblingSubscriptionIsRefused() public {
        StoreWord sibling = new StoreWord(delegate, cryptlet, 100_000);
        CryptoDelegate.Report memory report = _report(consumer, 42);
        (bytes32 r, bytes32 vs) = _sign(report);
        report.subject = sibling.subject();
        _refused(report, r, vs, _notEnrolled(delegate.hashReport(report), r, vs));
    }

    /// @dev The head of the report's encoding is hashed as it stands: bits outside a field's type must not pass.
    function testBitsOutsideAFieldsTypeAreRefused(uint256 field, uint256 bits) public {
        CryptoDelegate.Report memory report = _report(consumer, 42);
        (bytes32 r, bytes32 vs) = _sign(report);
        bytes memory data = abi.encodeCall(CryptoDelegate.deliver, (report, r, vs));
        uint256[4] memory words = [uint256(0), 2, 3, 4];
        uint256 index = _bound(field, 0, 3);
        uint256 width = index == 0 ? 160 : 64;
        uint256 dirt = _bound(bits, 1, type(uint256).max >> width) << width;
        uint256 offset = 32 + 4 + 96 + 32 * words[index];
        assembly ("memory-safe") {
            let place := add(data, offset)
            mstore(place, or(mload(place), dirt))
        }
        (bool success, bytes memory reason) = address(delegate).call(data);
        vm.assertFalse(success);
        vm.assertEq(reason, "");
        vm.assertEq(_sequence(report.subject), 0);
    }

    function testReportForAnotherChain(uint64 chainId) public {
        chainId = uint64(_bound(chainId, 1, type(uint64).max));
        vm.assume(chainId != block.chainid);
        CryptoDelegate.Report memory report = _report(consumer, 42);
        (bytes32 r, bytes32 vs) = _sign(report);
        vm.chainId(chainId);
        _refused(report, r, vs, _notEnrolled(delegate.hashReport(report), r, vs));
    }

    function testReportForAnotherDelegate() public {
        CryptoDelegate other = new CryptoDelegate(register);
        CryptoDelegate.Report memory report = _report(consumer, 42);
        (bytes32 r, bytes32 vs) = vm.signCompact(SIGNER_KEY, other.hashReport(report));
        _refused(report, r, vs, _notEnrolled(delegate.hashReport(report), r, vs));
    }

    function testStrangersSignature(uint256 key) public {
        key = _bound(key, 1, CURVE_ORDER - 1);
        vm.assume(key != SIGNER_KEY);
        CryptoDelegate.Report memory report = _report(consumer, 42);
        (bytes32 r, bytes32 vs) = vm.signCompact(key, delegate.hashReport(report));
        _refused(
            report, r, vs, abi.encodeWithSelector(CryptoDelegate.SignerNotEnrolled.selector, cryptlet, vm.addr(key))
        );
    }

    function testRevokedSigner() public {
        CryptoDelegate.Report memory report = _report(consumer, 42);
        vm.prank(publisher);
        register.revokeSigner(cryptlet, signer);
        _refused(report, abi.encodeWithSelector(CryptoDelegate.SignerNotEnrolled.selector, cryptlet, signer));
    }

    /// @dev In the very block of the revocation, for the version's signers alone.
    function testRevokedVersion() public {
        uint256 key = 0xB0B;
        vm.prank(publisher);
        register.publishVersion(cryptlet, _version("2"), vm.addr(key), SIGNER_EXPIRY);
        CryptoDelegate.Report memory report = _report(consumer, 42);
        vm.prank(publisher);
        register.revokeVersion(cryptlet, 1);
        _refused(report, abi.encodeWithSelector(CryptoDelegate.SignerNotEnrolled.selector, cryptlet, signer));
        (bytes32 r, bytes32 vs) = vm.signCompact(key, delegate.hashReport(report));
        delegate.deliver(report, r, vs);
        vm.assertEq(consumer.word(), 42);
    }

    /// @dev A rotation: the old version's key speaks until it is revoked, and consumer and subscription stay.
    function testRotatedKey() public {
        uint256 key = 0xB0B;
        _deliver(_report(consumer, 1));
        vm.prank(publisher);
        register.publishVersion(cryptlet, _version("1.0.0+key.1"), vm.addr(key), SIGNER_EXPIRY);
        _deliver(_report(consumer, 2));
        CryptoDelegate.Report memory report = _report(consumer, 3);
        (bytes32 r, bytes32 vs) = vm.signCompact(key, delegate.hashReport(report));
        delegate.deliver(report, r, vs);
        vm.assertEq(consumer.word(), 3);
        vm.prank(publisher);
        register.revokeSigner(cryptlet, signer);
        report = _report(consumer, 4);
        _refused(report, abi.encodeWithSelector(CryptoDelegate.SignerNotEnrolled.selector, cryptlet, signer));
    }

    function testRevokedCryptlet() public {
        CryptoDelegate.Report memory report = _report(consumer, 42);
        vm.prank(publisher);
        register.revokeCryptlet(cryptlet);
        _refused(report, abi.encodeWithSelector(CryptoDelegate.SignerNotEnrolled.selector, cryptlet, signer));
    }

    function testExpiredSigner() public {
        vm.warp(uint256(SIGNER_EXPIRY) + 1);
        CryptoDelegate.Report memory report = _report(consumer, 42);
        _refused(report, abi.encodeWithSelector(CryptoDelegate.SignerNotEnrolled.selector, cryptlet, signer));
    }

    function testSignerOfAnotherCryptlet() public {
        uint256 key = 0xB0B;
        vm.prank(publisher);
        register.register("other", _version("1"), vm.addr(key), SIGNER_EXPIRY);
        CryptoDelegate.Report memory report = _report(consumer, 42);
        (bytes32 r, bytes32 vs) = vm.signCompact(key, delegate.hashReport(report));
        _refused(
            report, r, vs, abi.encodeWithSelector(CryptoDelegate.SignerNotEnrolled.selector, cryptlet, vm.addr(key))
        );
    }

    /// @dev A malleated signature has the order less `s` in place of `s`. Most such do not fit the 255 bits of `vs`: their
    /// top bit reads as the parity and somebody else is recovered. The few that fit are high.
    function testHighS() public {
        CryptoDelegate.Report memory report = _report(consumer, 42);
        (bytes32 r, bytes32 vs) = _sign(report);
        uint256 s = uint256(vs & S_MASK);
        bytes memory invalid = abi.encodeWithSelector(CryptoDelegate.InvalidSignature.selector);

        uint256 halfOrder = CURVE_ORDER / 2;
        _refused(report, r, bytes32(halfOrder + 1), invalid);
        _refused(report, r, S_MASK, invalid);

        bytes32 malleated = bytes32(CURVE_ORDER - s);
        _refused(report, r, malleated, _notEnrolled(delegate.hashReport(report), r, malleated));
        malleated ^= ~S_MASK;
        _refused(report, r, malleated, _notEnrolled(delegate.hashReport(report), r, malleated));
    }

    function testMalformedSignatures() public {
        CryptoDelegate.Report memory report = _report(consumer, 42);
        (bytes32 r, bytes32 vs) = _sign(report);
        bytes memory invalid = abi.encodeWithSelector(CryptoDelegate.InvalidSignature.selector);
        _refused(report, 0, 0, invalid);
        _refused(report, r, 0, invalid);
        _refused(report, 0, vs, invalid);
        _refused(report, bytes32(CURVE_ORDER), vs, invalid);
    }

    function testOtherParityRecoversNobodyEnrolled() public {
        CryptoDelegate.Report memory report = _report(consumer, 42);
        (bytes32 r, bytes32 vs) = _sign(report);
        vs ^= ~S_MASK;
        _refused(report, r, vs, _notEnrolled(delegate.hashReport(report), r, vs));
    }

    function testValueIsRefused() public {
        CryptoDelegate.Report memory report = _report(consumer, 42);
        (bytes32 r, bytes32 vs) = _sign(report);
        vm.deal(address(this), 1);
        (bool success,) = address(delegate).call{value: 1}(abi.encodeCall(CryptoDelegate.deliver, (report, r, vs)));
        vm.assertFalse(success);
    }

    function _refused(CryptoDelegate.Report memory report, bytes memory revertData) private {
        (bytes32 r, bytes32 vs) = _sign(report);
        _refused(report, r, vs, revertData);
    }

    function _refused(CryptoDelegate.Report memory report, bytes32 r, bytes32 vs, bytes memory revertData) private {
        bytes32 subject = consumer.subject();
        uint256 wordBefore = consumer.word();
        uint64 sequenceBefore = _sequence(subject);
        _expectRefusal(report, r, vs, revertData);
        vm.assertEq(_sequence(subject), sequenceBefore);
        vm.assertEq(consumer.word(), wordBefore);
    }

    /// @dev The refusal of a signature that recovers to somebody who is not enrolled, or to nobody at all.
    function _notEnrolled(bytes32 digest, bytes32 r, bytes32 vs) private view returns (bytes memory) {
        address recovered = ecrecover(digest, uint8(uint256(vs) >> 255) + 27, r, vs & S_MASK);
        if (recovered == address(0)) return abi.encodeWithSelector(CryptoDelegate.InvalidSignature.selector);
        return abi.encodeWithSelector(CryptoDelegate.SignerNotEnrolled.selector, cryptlet, recovered);
    }
}
