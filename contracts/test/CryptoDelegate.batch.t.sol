// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptoDelegate} from "../src/CryptoDelegate.sol";
import {GasEater} from "./consumers/GasEater.sol";
import {IdentityConsumer} from "./consumers/IdentityConsumer.sol";
import {Reenterer} from "./consumers/Reenterer.sol";
import {RevertingConsumer} from "./consumers/RevertingConsumer.sol";
import {StoreWord} from "./consumers/StoreWord.sol";
import {BatchTest} from "./support/BatchTest.sol";
import {Vm} from "./support/Vm.sol";

/**
 * @title CryptoDelegateBatchTest
 * @notice What one signature over many reports lets in: those very reports, each once, and never one for another's fault.
 */
contract CryptoDelegateBatchTest is BatchTest {
    uint256 internal constant CONSUMERS = 4;
    bytes32 internal constant S_MASK = bytes32(type(uint256).max >> 1);

    StoreWord[] internal consumers;

    function setUp() public override {
        super.setUp();
        for (uint256 i = 0; i < CONSUMERS; ++i) {
            consumers.push(new StoreWord(delegate, cryptlet, 100_000));
        }
    }

    function testDelivers() public {
        CryptoDelegate.Report[] memory reports = _reports();
        for (uint256 i = 0; i < CONSUMERS; ++i) {
            _expectDelivered(reports[i], true);
        }
        _deliverBatch(reports);
        for (uint256 i = 0; i < CONSUMERS; ++i) {
            vm.assertEq(consumers[i].word(), i + 1);
            vm.assertEq(_sequence(consumers[i].subject()), 1);
        }
    }

    /// @dev One, the most, and all between: powers of two and odd ones at every level.
    function testAnyCount(uint256 seed) public {
        uint256 count = _bound(seed, 1, delegate.MAX_BATCH_SIZE());
        CryptoDelegate.Report[] memory reports = new CryptoDelegate.Report[](count);
        for (uint256 i = 0; i < count; ++i) {
            reports[i] = _report(consumers[i % CONSUMERS], i + 1);
            reports[i].sequence = uint64(i / CONSUMERS + 1);
        }
        _deliverBatch(reports);
        for (uint256 i = 0; i < CONSUMERS && i < count; ++i) {
            uint256 taken = (count - i + CONSUMERS - 1) / CONSUMERS;
            vm.assertEq(_sequence(consumers[i].subject()), taken);
            vm.assertEq(consumers[i].word(), (taken - 1) * CONSUMERS + i + 1);
        }
    }

    function testCountIsBounded() public {
        CryptoDelegate.Batch memory batch = _batch(_reports());
        batch.items = new CryptoDelegate.BatchItem[](0);
        _refused(batch, 0, 0, abi.encodeWithSelector(CryptoDelegate.InvalidBatchSize.selector, uint256(0)));
        batch.items = new CryptoDelegate.BatchItem[](65);
        _refused(batch, 0, 0, abi.encodeWithSelector(CryptoDelegate.InvalidBatchSize.selector, uint256(65)));
        vm.expectRevert(abi.encodeWithSelector(CryptoDelegate.InvalidBatchSize.selector, uint256(65)));
        delegate.hashBatch(batch);
    }

    /// @dev Whatever the fields: the leaves are {CryptoDelegate.hashReport}, and root and digest what the text says.
    function testHashIsEip712OfAPlainMerkleRoot(
        CryptoDelegate.Report memory report,
        uint256 countSeed,
        uint256 lengthSeed
    )
        public
        view
    {
        uint256 count = _bound(countSeed, 1, delegate.MAX_BATCH_SIZE());
        report.delegation = 0;
        CryptoDelegate.Report[] memory reports = new CryptoDelegate.Report[](count);
        bytes32[] memory leaves = new bytes32[](count);
        for (uint256 i = 0; i < count; ++i) {
            bytes memory payload =
                i == 0 ? report.payload : new bytes(uint256(keccak256(abi.encode(lengthSeed, i))) % 99);
            reports[i] = CryptoDelegate.Report({
                cryptlet: report.cryptlet,
                subject: keccak256(abi.encode(report.subject, i)),
                sequence: report.sequence / uint64(i + 1),
                issuedAt: report.issuedAt / uint64(i + 1),
                validUntil: report.validUntil / uint64(i + 1),
                region: report.region,
                delegation: 0,
                payload: payload
            });
            leaves[i] = delegate.hashReport(reports[i]);
        }
        vm.assertEq(delegate.hashBatch(_batch(reports)), _plainHash(delegate, report.cryptlet, leaves));
    }

    function testAnyAlteredFieldIsRefused(uint256 which, uint256 field, uint256 mask) public {
        CryptoDelegate.Batch memory batch = _batch(_reports());
        (bytes32 r, bytes32 vs) = _signBatch(batch);
        CryptoDelegate.BatchItem memory item = batch.items[which % CONSUMERS];
        field = _bound(field, 0, 6);
        mask = _bound(mask, 1, type(uint64).max);
        if (field == 0) item.subject ^= bytes32(mask);
        if (field == 1) item.sequence ^= uint64(mask);
        if (field == 2) item.issuedAt ^= uint64(mask);
        if (field == 3) item.validUntil ^= uint64(mask);
        if (field == 4) item.payload = abi.encode(mask + CONSUMERS);
        if (field == 5) batch.region ^= bytes32(mask);
        if (field == 6) item.payload = abi.encodePacked(item.payload, bytes1(0));
        _refusedSignature(batch, r, vs);
    }

    function testOtherCountIsRefused() public {
        CryptoDelegate.Report[] memory reports = _reports();
        (bytes32 r, bytes32 vs) = _signBatch(_batch(reports));
        for (uint256 count = 1; count < CONSUMERS; ++count) {
            _refusedSignature(_batch(_first(reports, count)), r, vs);
        }
        (r, vs) = _signBatch(_batch(_first(reports, 3)));
        _refusedSignature(_batch(reports), r, vs);
    }

    /// @dev A node of the tree cannot pass for a leaf: the count is signed.
    function testCountIsSigned() public view {
        bytes32[] memory two = new bytes32[](2);
        (two[0], two[1]) = (keccak256("left"), keccak256("right"));
        bytes32[] memory one = new bytes32[](1);
        one[0] = _plainRoot(two);
        vm.assertEq(_plainRoot(one), _plainRoot(two));
        vm.assertTrue(_plainHash(delegate, cryptlet, one) != _plainHash(delegate, cryptlet, two));
    }

    function testReorderedIsRefused() public {
        CryptoDelegate.Report[] memory reports = _reports();
        (bytes32 r, bytes32 vs) = _signBatch(_batch(reports));
        (reports[0], reports[1]) = (reports[1], reports[0]);
        _refusedSignature(_batch(reports), r, vs);
        (reports[0], reports[1]) = (reports[1], reports[0]);
        (reports[0], reports[2]) = (reports[2], reports[0]);
        (reports[1], reports[3]) = (reports[3], reports[1]);
        _refusedSignature(_batch(reports), r, vs);
    }

    function testForAnotherChain() public {
        CryptoDelegate.Batch memory batch = _batch(_reports());
        (bytes32 r, bytes32 vs) = _signBatch(batch);
        vm.chainId(block.chainid + 1);
        _refusedSignature(batch, r, vs);
    }

    function testForAnotherDelegate() public {
        CryptoDelegate.Batch memory batch = _batch(_reports());
        (bytes32 r, bytes32 vs) = vm.signCompact(SIGNER_KEY, new CryptoDelegate(register).hashBatch(batch));
        _refusedSignature(batch, r, vs);
    }

    function testForAnotherCryptlet() public {
        vm.prank(publisher);
        address other = register.register("other", _version("1"), signer, SIGNER_EXPIRY);
        CryptoDelegate.Batch memory batch = _batch(_reports());
        (bytes32 r, bytes32 vs) = _signBatch(batch);
        batch.cryptlet = other;
        _refusedSignature(batch, r, vs);

        // Its own signature over it covers no subscription to the first.
        (r, vs) = _signBatch(batch);
        _expectNothingConsumed(batch, r, vs, CryptoDelegate.UnknownSubscription.selector);
    }

    function testStrangersSignature() public {
        CryptoDelegate.Batch memory batch = _batch(_reports());
        (bytes32 r, bytes32 vs) = vm.signCompact(0xB0B, delegate.hashBatch(batch));
        _refusedSignature(batch, r, vs);
    }

    function testMalformedSignatures() public {
        CryptoDelegate.Batch memory batch = _batch(_reports());
        (bytes32 r, bytes32 vs) = _signBatch(batch);
        bytes memory invalid = abi.encodeWithSelector(CryptoDelegate.InvalidSignature.selector);
        _refused(batch, 0, 0, invalid);
        _refused(batch, r, 0, invalid);
        _refused(batch, r, S_MASK, invalid);
        _refusedSignature(batch, r, vs ^ ~S_MASK);
    }

    function testRevokedSigner() public {
        CryptoDelegate.Batch memory batch = _batch(_reports());
        (bytes32 r, bytes32 vs) = _signBatch(batch);
        vm.prank(publisher);
        register.revokeSigner(cryptlet, signer);
        _refusedSignature(batch, r, vs);
    }

    function testExpiredSigner() public {
        vm.warp(uint256(SIGNER_EXPIRY) + 1);
        CryptoDelegate.Batch memory batch = _batch(_reports());
        (bytes32 r, bytes32 vs) = _signBatch(batch);
        _refusedSignature(batch, r, vs);
    }

    /// @dev A signature of one report is none of a batch of that report, nor the other way round.
    function testSingleAndBatchSignaturesDiffer() public {
        CryptoDelegate.Report memory report = _report(consumers[0], 1);
        CryptoDelegate.Batch memory batch = _batch(_one(report));
        (bytes32 r, bytes32 vs) = _sign(report);
        _refusedSignature(batch, r, vs);

        (r, vs) = _signBatch(batch);
        address recovered = _recover(delegate.hashReport(report), r, vs);
        bytes4 selector = CryptoDelegate.SignerNotEnrolled.selector;
        _expectRefusal(report, r, vs, abi.encodeWithSelector(selector, cryptlet, recovered));
    }

    function testReplayedBatchConsumesNothing() public {
        CryptoDelegate.Batch memory batch = _batch(_reports());
        (bytes32 r, bytes32 vs) = _signBatch(batch);
        delegate.deliverBatch(batch, r, vs);
        _expectNothingConsumed(batch, r, vs, CryptoDelegate.WrongSequence.selector);
    }

    /// @dev A report that was delivered alone cannot come again in a batch, nor one of a batch alone.
    function testMixedWithSingleDeliveries() public {
        CryptoDelegate.Report[] memory reports = _reports();
        _deliver(reports[2]);
        _expectUndelivered(reports[2], CryptoDelegate.WrongSequence.selector);
        _deliverBatch(reports);
        vm.assertEq(_sequence(reports[2].subject), 1);
        vm.assertEq(_sequence(reports[3].subject), 1);
        _expectRefusal(reports[0], abi.encodeWithSelector(CryptoDelegate.WrongSequence.selector, 2, 1));
        _deliver(_report(consumers[0], 9));
        vm.assertEq(_sequence(reports[0].subject), 2);
    }

    function testDuplicateInABatchIsConsumedOnce() public {
        CryptoDelegate.Report[] memory reports = _reports();
        reports[1] = reports[0];
        reports[3] = reports[0];
        _expectDelivered(reports[0], true);
        _expectUndelivered(reports[1], CryptoDelegate.WrongSequence.selector);
        _expectDelivered(reports[2], true);
        _expectUndelivered(reports[3], CryptoDelegate.WrongSequence.selector);
        _deliverBatch(reports);
        vm.assertEq(_sequence(reports[0].subject), 1);
    }

    function testSeveralSequencesOfOneSubscription() public {
        CryptoDelegate.Report[] memory reports = _reports();
        for (uint256 i = 0; i < CONSUMERS; ++i) {
            reports[i] = _report(consumers[0], i + 1);
            reports[i].sequence = uint64(i + 1);
        }
        _deliverBatch(reports);
        vm.assertEq(_sequence(reports[0].subject), CONSUMERS);
        vm.assertEq(consumers[0].word(), CONSUMERS);
    }

    /// @dev In the wrong order only those are consumed that are next when it is their turn.
    function testSequencesOutOfOrder() public {
        CryptoDelegate.Report[] memory reports = _reports();
        for (uint256 i = 0; i < CONSUMERS; ++i) {
            reports[i] = _report(consumers[0], i + 1);
        }
        (reports[0].sequence, reports[1].sequence, reports[2].sequence, reports[3].sequence) = (2, 1, 3, 2);
        _expectUndelivered(reports[0], CryptoDelegate.WrongSequence.selector);
        _expectDelivered(reports[1], true);
        _expectUndelivered(reports[2], CryptoDelegate.WrongSequence.selector);
        _expectDelivered(reports[3], true);
        _deliverBatch(reports);
        vm.assertEq(_sequence(reports[0].subject), 2);
        vm.assertEq(consumers[0].word(), 4);
    }

    /// @dev Each thing that keeps a report from being consumed, between two that are.
    function testWhatCannotBeConsumedIsLeftOut() public {
        _leftOut(0, CryptoDelegate.UnknownSubscription.selector);
        _leftOut(1, CryptoDelegate.SubscriptionPaused.selector);
        _leftOut(2, CryptoDelegate.WrongIdentity.selector);
        _leftOut(3, CryptoDelegate.WrongSequence.selector);
        _leftOut(4, CryptoDelegate.InvalidValidity.selector);
        _leftOut(5, CryptoDelegate.InvalidValidity.selector);
        _leftOut(6, CryptoDelegate.NotYetValid.selector);
        _leftOut(7, CryptoDelegate.Expired.selector);
        _leftOut(8, CryptoDelegate.SequenceExhausted.selector);
    }

    /// @dev {CryptoDelegate.deliver} refuses, with the same reason, just what a batch leaves out.
    function testBatchAndSingleAgree(
        uint64 sequence,
        uint64 issuedAt,
        uint64 validUntil,
        bool paused,
        bool onBehalf
    )
        public
    {
        CryptoDelegate.Report memory report = _report(consumers[0], 1);
        if (onBehalf) report.subject = new IdentityConsumer(delegate, cryptlet, signer, signer).subject();
        report.sequence = sequence % 4 == 0 ? sequence : 1;
        report.issuedAt = uint64(_bound(issuedAt, NOW - 10 days, NOW + 1 days));
        report.validUntil = uint64(_bound(validUntil, report.issuedAt - 1 days, uint256(report.issuedAt) + 10 days));
        if (paused) _pause(report.subject);

        (bytes32 r, bytes32 vs) = _sign(report);
        uint256 state = vm.snapshotState();
        (bool taken, bytes memory reason) =
            address(delegate).call(abi.encodeCall(CryptoDelegate.deliver, (report, r, vs)));
        vm.revertToState(state);
        if (taken) _expectDelivered(report, true);
        else _expectUndelivered(report, bytes4(reason));
        _deliverBatch(_one(report));
    }

    function testCallbacksThatFailDoNotStopTheOthers() public {
        RevertingConsumer reverting = new RevertingConsumer(delegate, cryptlet, 100_000);
        GasEater eater = new GasEater(delegate, cryptlet, 100_000);
        CryptoDelegate.Report[] memory reports = _reports();
        reports[0] = _report(reverting, 7);
        reports[2] = _report(eater, 7);
        bytes memory reason;
        for (uint256 i = 0; i < delegate.MAX_REASON_LENGTH() / 32; ++i) {
            reason = abi.encodePacked(reason, uint256(7));
        }
        _expectDelivered(reports[0], false);
        vm.expectEmit(address(delegate));
        emit CryptoDelegate.CallbackFailed(reports[0].subject, 1, reason);
        _expectDelivered(reports[1], true);
        _expectDelivered(reports[2], false);
        vm.expectEmit(address(delegate));
        emit CryptoDelegate.CallbackFailed(reports[2].subject, 1, "");
        _expectDelivered(reports[3], true);
        _deliverBatch(reports);
        vm.assertEq(_sequence(reports[0].subject), 1);
        vm.assertEq(consumers[3].word(), 4);
    }

    /// @dev A consumer whose code is gone fails alone.
    function testConsumerWithoutCodeDoesNotStopTheOthers() public {
        CryptoDelegate.Report[] memory reports = _reports();
        vm.etch(address(consumers[1]), "");
        _expectDelivered(reports[0], true);
        _expectDelivered(reports[1], false);
        _deliverBatch(reports);
        vm.assertEq(_sequence(reports[1].subject), 1);
        vm.assertEq(consumers[3].word(), 4);
    }

    /// @dev Too little gas for any of the callbacks, and nothing is consumed.
    function testNoGasStarvesACallback(uint256 gasGiven) public {
        CryptoDelegate.Report[] memory reports = _reports();
        CryptoDelegate.Batch memory batch = _batch(reports);
        (bytes32 r, bytes32 vs) = _signBatch(batch);
        gasGiven = _bound(gasGiven, 50_000, 400_000);
        (bool success,) =
            address(delegate).call{gas: gasGiven}(abi.encodeCall(CryptoDelegate.deliverBatch, (batch, r, vs)));
        for (uint256 i = 0; i < CONSUMERS; ++i) {
            vm.assertEq(_sequence(reports[i].subject), success ? 1 : 0);
            vm.assertEq(consumers[i].word(), success ? i + 1 : 0);
        }
    }

    function testInsufficientGasForALaterCallback() public {
        CryptoDelegate.Report[] memory reports = _reports();
        reports[3] = _report(new StoreWord(delegate, cryptlet, 5_000_000), 4);
        CryptoDelegate.Batch memory batch = _batch(reports);
        (bytes32 r, bytes32 vs) = _signBatch(batch);
        (bool success, bytes memory reason) =
            address(delegate).call{gas: 4_000_000}(abi.encodeCall(CryptoDelegate.deliverBatch, (batch, r, vs)));
        vm.assertFalse(success);
        vm.assertEq(bytes32(bytes4(reason)), bytes32(CryptoDelegate.InsufficientGas.selector));
        vm.assertEq(_sequence(reports[0].subject), 0);
        vm.assertEq(consumers[0].word(), 0);
    }

    function testReentryIsRefused() public {
        CryptoDelegate.Report[] memory reports = _reports();
        CryptoDelegate.Batch memory inner = _batch(_one(_report(consumers[3], 99)));
        (bytes32 r, bytes32 vs) = _signBatch(inner);
        Reenterer reenterer = new Reenterer(delegate, cryptlet, 500_000);
        reenterer.prepare(abi.encodeCall(CryptoDelegate.deliverBatch, (inner, r, vs)));
        reports[0] = _report(reenterer, 1);
        _deliverBatch(reports);
        (bool succeeded,) = reenterer.outcome();
        vm.assertFalse(succeeded);
        vm.assertEq(consumers[3].word(), 4);
    }

    /// @dev During each callback the delegate says which report it is, and who signed the batch.
    function testCurrentReport() public {
        CryptoDelegate.Report[] memory reports = _reports();
        Reenterer[2] memory asking;
        for (uint256 i = 0; i < 2; ++i) {
            asking[i] = new Reenterer(delegate, cryptlet, 500_000);
            asking[i].prepare(abi.encodeCall(CryptoDelegate.currentReport, ()));
            reports[2 * i] = _report(asking[i], 1);
        }
        _deliverBatch(reports);
        for (uint256 i = 0; i < 2; ++i) {
            (, bytes memory result) = asking[i].outcome();
            vm.assertEq(result, abi.encode(delegate.hashReport(reports[2 * i]), signer));
        }
        (bytes32 digest, address by) = delegate.currentReport();
        vm.assertEq(digest, bytes32(0));
        vm.assertEq(by, address(0));
    }

    /// @dev Bits outside a field's type must not pass, in an item or beside it.
    function testBitsOutsideAFieldsTypeAreRefused(uint256 field, uint256 bits) public {
        CryptoDelegate.Batch memory batch = _batch(_one(_report(consumers[0], 1)));
        (bytes32 r, bytes32 vs) = _signBatch(batch);
        bytes memory data = abi.encodeCall(CryptoDelegate.deliverBatch, (batch, r, vs));
        // Selector, head of three words, then: cryptlet, region, offset, count, offset, subject, sequence, ...
        uint256[4] memory words = [uint256(3), 9, 10, 11];
        uint256 index = _bound(field, 0, 3);
        uint256 width = index == 0 ? 160 : 64;
        uint256 dirt = _bound(bits, 1, type(uint256).max >> width) << width;
        uint256 offset = 32 + 4 + 32 * words[index];
        assembly ("memory-safe") {
            let place := add(data, offset)
            mstore(place, or(mload(place), dirt))
        }
        (bool success,) = address(delegate).call(data);
        vm.assertFalse(success);
        vm.assertEq(_sequence(consumers[0].subject()), 0);
    }

    /// @dev Items anywhere, beyond the call data's end too: what is read there is not what was signed.
    function testOffsetsThatPointElsewhere(uint256 word, uint256 offset) public {
        CryptoDelegate.Report[] memory reports = _reports();
        CryptoDelegate.Batch memory batch = _batch(reports);
        (bytes32 r, bytes32 vs) = _signBatch(batch);
        bytes memory data = abi.encodeCall(CryptoDelegate.deliverBatch, (batch, r, vs));
        // The offsets of the items, and that of the first one's payload.
        word = _bound(word, 7, 11);
        if (word == 11) word = 15;
        uint256 place = 32 + 4 + 32 * word;
        uint256 before;
        assembly ("memory-safe") {
            before := mload(add(data, place))
            mstore(add(data, place), offset)
        }
        vm.assume(offset != before);
        (bool success,) = address(delegate).call{gas: 1_000_000}(data);
        vm.assertFalse(success);
        for (uint256 i = 0; i < CONSUMERS; ++i) {
            vm.assertEq(_sequence(reports[i].subject), 0);
        }
    }

    function testValueIsRefused() public {
        CryptoDelegate.Batch memory batch = _batch(_reports());
        (bytes32 r, bytes32 vs) = _signBatch(batch);
        vm.deal(address(this), 1);
        (bool success,) = address(delegate).call{value: 1}(abi.encodeCall(CryptoDelegate.deliverBatch, (batch, r, vs)));
        vm.assertFalse(success);
    }

    /// @dev A batch of three whose middle one has that fault.
    function _leftOut(uint256 fault, bytes4 reason) private {
        uint256 state = vm.snapshotState();
        CryptoDelegate.Report[] memory reports = _first(_reports(), 3);
        if (fault == 0) reports[1].subject = keccak256("no subscription");
        if (fault == 1) _pause(reports[1].subject);
        if (fault == 2) reports[1].subject = new IdentityConsumer(delegate, cryptlet, signer, signer).subject();
        if (fault == 3) reports[1].sequence = 2;
        if (fault == 4) reports[1].validUntil = reports[1].issuedAt;
        if (fault == 5) reports[1].validUntil = reports[1].issuedAt + 7 days + 1;
        if (fault == 6) reports[1].issuedAt = uint64(NOW + 1);
        if (fault == 7) (reports[1].issuedAt, reports[1].validUntil) = (uint64(NOW - 2), uint64(NOW - 1));
        if (fault == 8) reports[1].sequence = _exhaust(reports[1].subject);
        uint64 before = _sequence(reports[1].subject);
        _expectDelivered(reports[0], true);
        _expectUndelivered(reports[1], reason);
        _expectDelivered(reports[2], true);
        _deliverBatch(reports);
        vm.assertEq(_sequence(reports[1].subject), before);
        vm.assertEq(consumers[1].word(), 0);
        vm.assertEq(consumers[2].word(), 3);
        vm.revertToState(state);
    }

    function _exhaust(bytes32 subject) private returns (uint64) {
        bytes32 slot = keccak256(abi.encode(subject, keccak256(abi.encode(cryptlet, uint256(4)))));
        vm.store(address(delegate), slot, vm.load(address(delegate), slot) | bytes32(uint256(type(uint32).max)));
        return uint64(type(uint32).max) + 1;
    }

    function _pause(bytes32 subject) private {
        (address consumer,,,) = delegate.subscription(cryptlet, subject);
        vm.prank(consumer);
        delegate.pause(cryptlet, subject);
    }

    /// @dev Consumer `i` is to get the word `i + 1`.
    function _reports() private view returns (CryptoDelegate.Report[] memory reports) {
        reports = new CryptoDelegate.Report[](CONSUMERS);
        for (uint256 i = 0; i < CONSUMERS; ++i) {
            reports[i] = _report(consumers[i], i + 1);
        }
    }

    function _one(CryptoDelegate.Report memory report) private pure returns (CryptoDelegate.Report[] memory reports) {
        reports = new CryptoDelegate.Report[](1);
        reports[0] = report;
    }

    function _first(
        CryptoDelegate.Report[] memory reports,
        uint256 count
    )
        private
        pure
        returns (CryptoDelegate.Report[] memory first)
    {
        first = new CryptoDelegate.Report[](count);
        for (uint256 i = 0; i < count; ++i) {
            first[i] = reports[i];
        }
    }

    function _expectDelivered(CryptoDelegate.Report memory report, bool success) private {
        bytes32 digest = delegate.hashReport(report);
        vm.expectEmit(address(delegate));
        emit CryptoDelegate.Delivered(report.subject, report.cryptlet, report.sequence, digest, signer, success);
    }

    function _expectUndelivered(CryptoDelegate.Report memory report, bytes4 reason) private {
        vm.expectEmit(address(delegate));
        emit CryptoDelegate.Undelivered(report.subject, report.cryptlet, report.sequence, reason);
    }

    /// @dev Every report of the batch is left out for that reason.
    function _expectNothingConsumed(CryptoDelegate.Batch memory batch, bytes32 r, bytes32 vs, bytes4 reason) private {
        vm.recordLogs();
        delegate.deliverBatch(batch, r, vs);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs.length, batch.items.length);
        for (uint256 i = 0; i < logs.length; ++i) {
            vm.assertEq(logs[i].topics[0], CryptoDelegate.Undelivered.selector);
            vm.assertEq(logs[i].topics[1], batch.items[i].subject);
            vm.assertEq(logs[i].data, abi.encode(batch.items[i].sequence, reason));
        }
    }

    /// @dev The signature recovers to somebody who is not enrolled, or to nobody at all.
    function _refusedSignature(CryptoDelegate.Batch memory batch, bytes32 r, bytes32 vs) private {
        address recovered = _recover(delegate.hashBatch(batch), r, vs);
        bytes memory reason = recovered == address(0)
            ? abi.encodeWithSelector(CryptoDelegate.InvalidSignature.selector)
            : abi.encodeWithSelector(CryptoDelegate.SignerNotEnrolled.selector, batch.cryptlet, recovered);
        _refused(batch, r, vs, reason);
    }

    function _refused(CryptoDelegate.Batch memory batch, bytes32 r, bytes32 vs, bytes memory reason) private {
        vm.expectRevert(reason);
        delegate.deliverBatch(batch, r, vs);
        for (uint256 i = 0; i < CONSUMERS; ++i) {
            vm.assertEq(_sequence(consumers[i].subject()), 0);
            vm.assertEq(consumers[i].word(), 0);
        }
    }

    function _recover(bytes32 digest, bytes32 r, bytes32 vs) private pure returns (address) {
        return ecrecover(digest, uint8(uint256(vs) >> 255) + 27, r, vs & S_MASK);
    }
}
