// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptletRegister} from "../../src/CryptletRegister.sol";
import {CryptoDelegate} from "../../src/CryptoDelegate.sol";
import {CountingConsumer} from "../consumers/CountingConsumer.sol";
import {RegisterTest} from "./RegisterTest.sol";
import {Vm} from "./Vm.sol";

/**
 * @title DelegateHandler
 * @notice Drives a delegate and a register at random and keeps its own account of what must be so.
 *
 * Before each delivery it says by its own books whether the delegate must take it; afterwards it compares.
 */
contract DelegateHandler is RegisterTest {
    uint256 internal constant CONSUMERS = 3;
    uint256 internal constant SIGNERS = 6;
    uint256 internal constant GAS = 60_000;

    CryptletRegister private immutable _register;
    CryptoDelegate private immutable _delegate;
    address private immutable _cryptlet;

    CountingConsumer[] private _consumers;
    CryptoDelegate.Report[] private _taken;

    mapping(bytes32 subject => uint64) private _accepted;
    mapping(address consumer => uint256) private _succeeded;
    mapping(bytes32 digest => bool) private _consumed;
    mapping(bytes32 subject => bool) private _paused;
    mapping(address signer => uint64) private _expiry;
    mapping(address signer => uint32) private _versionOf;
    mapping(uint32 version => bool) private _versionRevoked;
    mapping(address signer => bool) private _revoked;
    uint32 private _versionCount = 1;

    uint256 private _takenAgainstTheBooks;
    uint256 private _refusedAgainstTheBooks;
    uint256 private _consumedTwice;
    uint256 private _takenFromRevoked;
    uint256 private _changedByRefusal;

    /// @notice The handler owns the cryptlet; its first signer is enrolled for a day.
    constructor(CryptletRegister register_, CryptoDelegate delegate_) {
        _register = register_;
        _delegate = delegate_;
        uint64 expiry = uint64(block.timestamp + 1 days);
        _cryptlet = register_.register("handled", _version("1"), _signer(0), expiry);
        _expiry[_signer(0)] = expiry;
        _versionOf[_signer(0)] = 1;
        for (uint256 i = 0; i < CONSUMERS; ++i) {
            _consumers.push(new CountingConsumer(delegate_, _cryptlet, uint32(GAS)));
        }
    }

    /// @notice Delivers a consumer's report, often the right one, sometimes a little off.
    function deliver(uint256 which, uint256 signerSeed, uint256 word, uint256 fault) external {
        CountingConsumer consumer = _consumers[which % CONSUMERS];
        CryptoDelegate.Report memory report = _next(consumer, word);
        bytes32 signed = _delegate.hashReport(report);
        bool right = _spoil(report, fault % 12);
        _submit(consumer, report, signed, signerSeed % SIGNERS, right);
    }

    /// @notice Delivers up to six reports in one batch: consumers at random, so that several may be one's, most with the
    /// sequence that is due when it is their turn, some with the one before or after.
    function deliverBatch(uint256 seed, uint256 signerSeed, uint256 countSeed) external {
        CryptoDelegate.Report[] memory reports = new CryptoDelegate.Report[](countSeed % 6 + 1);
        bool[] memory due = new bool[](reports.length);
        uint64[CONSUMERS] memory taken_;
        for (uint256 i = 0; i < reports.length; ++i) {
            uint256 dice = uint256(keccak256(abi.encode(seed, i)));
            uint256 which = dice % CONSUMERS;
            reports[i] = _next(_consumers[which], dice >> 128);
            reports[i].sequence += taken_[which];
            if (dice >> 8 & 7 == 0) reports[i].sequence += 1;
            else if (dice >> 8 & 7 == 1) reports[i].sequence -= 1;
            else due[i] = !_paused[reports[i].subject];
            if (due[i]) ++taken_[which];
        }
        _submitBatch(reports, due, signerSeed % SIGNERS);
    }

    /// @notice Pauses a consumer's subscription, one time in four, or resumes it.
    function pauseOrResume(uint256 which, uint256 chance) external {
        CountingConsumer consumer = _consumers[which % CONSUMERS];
        bytes32 subject = consumer.subject();
        if (!_paused[subject] && chance % 4 != 0) return;
        vm.prank(address(consumer));
        if (_paused[subject]) _delegate.resume(_cryptlet, subject);
        else _delegate.pause(_cryptlet, subject);
        _paused[subject] = !_paused[subject];
    }

    /// @notice Delivers a report that was taken before once more, as it was.
    function replay(uint256 which, uint256 signerSeed) external {
        if (_taken.length == 0) return;
        CryptoDelegate.Report memory report = _taken[which % _taken.length];
        CountingConsumer consumer = _consumerOf(report.subject);
        _submit(consumer, report, _delegate.hashReport(report), signerSeed % SIGNERS, false);
    }

    /// @notice Delivers the right report with any amount of gas: taken with a full callback, or not at all.
    function starve(uint256 which, uint256 signerSeed, uint256 gasGiven) external {
        CountingConsumer consumer = _consumers[which % CONSUMERS];
        CryptoDelegate.Report memory report = _next(consumer, 1);
        bytes32 digest = _delegate.hashReport(report);
        (bytes32 r, bytes32 vs) = vm.signCompact(signerSeed % SIGNERS + 1, digest);
        uint256 before = consumer.calls();
        (bool success,) = address(_delegate).call{gas: _bound(gasGiven, 0, 4 * GAS)}(
            abi.encodeCall(CryptoDelegate.deliver, (report, r, vs))
        );
        if (success) _record(consumer, report, digest, _signer(signerSeed % SIGNERS), true);
        if (success != (consumer.calls() == before + 1)) ++_changedByRefusal;
    }

    /// @notice Publishes a version with a signer that was never enrolled, if there is one left.
    function publish(uint256 signerSeed, uint256 duration) external {
        address signer = _signer(signerSeed % SIGNERS);
        if (_versionOf[signer] != 0) return;
        uint64 expiry = uint64(block.timestamp + _bound(duration, 0, 2 days));
        string memory label = vm.toString(uint256(_versionCount) + 1);
        _versionCount = _register.publishVersion(_cryptlet, _version(label), signer, expiry);
        _versionOf[signer] = _versionCount;
        _expiry[signer] = expiry;
    }

    /// @notice Enrols a signer for a version, or moves its expiry.
    function enrol(uint256 signerSeed, uint256 versionSeed, uint256 duration) external {
        address signer = _signer(signerSeed % SIGNERS);
        if (_revoked[signer]) return;
        uint32 version = _versionOf[signer];
        if (version == 0) version = uint32(versionSeed % _versionCount + 1);
        if (_versionRevoked[version]) return;
        uint64 expiry = uint64(block.timestamp + _bound(duration, 0, 2 days));
        _register.enrolSigner(_cryptlet, version, signer, expiry);
        _versionOf[signer] = version;
        _expiry[signer] = expiry;
    }

    /// @notice Tries to enrol a revoked signer again, which must fail.
    function enrolRevoked(uint256 signerSeed) external {
        address signer = _signer(signerSeed % SIGNERS);
        if (!_revoked[signer]) return;
        try _register.enrolSigner(_cryptlet, _versionOf[signer], signer, type(uint64).max) {
            ++_takenFromRevoked;
        } catch {}
    }

    /// @notice Tries to enrol anybody for a revoked version, which must fail.
    function enrolForRevokedVersion(uint256 signerSeed, uint256 versionSeed) external {
        uint32 version = uint32(versionSeed % _versionCount + 1);
        if (!_versionRevoked[version]) return;
        try _register.enrolSigner(_cryptlet, version, _signer(signerSeed % SIGNERS), type(uint64).max) {
            ++_takenFromRevoked;
        } catch {}
    }

    /// @notice Revokes a version with its signers, one time in eight.
    function revokeVersion(uint256 versionSeed, uint256 chance) external {
        uint32 version = uint32(versionSeed % _versionCount + 1);
        if (chance % 8 != 0 || _versionRevoked[version]) return;
        _register.revokeVersion(_cryptlet, version);
        _versionRevoked[version] = true;
        for (uint256 i = 0; i < SIGNERS; ++i) {
            if (_versionOf[_signer(i)] == version) _revoked[_signer(i)] = true;
        }
    }

    /// @notice Revokes a signer, one time in four: a run with everybody revoked shows little.
    function revoke(uint256 signerSeed, uint256 chance) external {
        address signer = _signer(signerSeed % SIGNERS);
        if (chance % 4 != 0 || _revoked[signer] || _versionOf[signer] == 0) return;
        _register.revokeSigner(_cryptlet, signer);
        _revoked[signer] = true;
    }

    /// @notice Lets time pass.
    function wait(uint256 duration) external {
        vm.warp(block.timestamp + _bound(duration, 1, 12 hours));
    }

    /// @notice The consumers.
    function consumers() external view returns (CountingConsumer[] memory) {
        return _consumers;
    }

    /// @notice The cryptlet that the consumers listen to.
    function cryptlet() external view returns (address) {
        return _cryptlet;
    }

    /// @notice How many of a subscription's reports were taken.
    function accepted(bytes32 subject) external view returns (uint64) {
        return _accepted[subject];
    }

    /// @notice How many of a consumer's callbacks were announced as successful.
    function succeeded(address consumer) external view returns (uint256) {
        return _succeeded[consumer];
    }

    /// @notice How many reports were taken in all.
    function taken() external view returns (uint256) {
        return _taken.length;
    }

    /// @notice Each must be zero: reports taken or refused against the books, consumed twice, taken from a revoked
    /// signer, and refusals that changed something.
    function broken() external view returns (uint256, uint256, uint256, uint256, uint256) {
        return (_takenAgainstTheBooks, _refusedAgainstTheBooks, _consumedTwice, _takenFromRevoked, _changedByRefusal);
    }

    function _submit(
        CountingConsumer consumer,
        CryptoDelegate.Report memory report,
        bytes32 signed,
        uint256 signerIndex,
        bool right
    )
        private
    {
        address signer = _signer(signerIndex);
        bool due = right && !_paused[report.subject] && _maySign(signer);
        (bytes32 r, bytes32 vs) = vm.signCompact(signerIndex + 1, signed);
        uint256 before = consumer.calls();
        vm.recordLogs();
        try _delegate.deliver(report, r, vs) {
            if (!due) ++_takenAgainstTheBooks;
            (, bytes32 digest, address by, bool success) =
                abi.decode(_lastDelivered(), (uint64, bytes32, address, bool));
            _record(consumer, report, digest, by, success);
        } catch {
            if (due) ++_refusedAgainstTheBooks;
            if (consumer.calls() != before) ++_changedByRefusal;
        }
    }

    function _submitBatch(CryptoDelegate.Report[] memory reports, bool[] memory due, uint256 signerIndex) private {
        CryptoDelegate.Batch memory batch =
            CryptoDelegate.Batch(_cryptlet, reports[0].region, new CryptoDelegate.BatchItem[](reports.length));
        for (uint256 i = 0; i < reports.length; ++i) {
            batch.items[i] = CryptoDelegate.BatchItem({
                subject: reports[i].subject,
                sequence: reports[i].sequence,
                issuedAt: reports[i].issuedAt,
                validUntil: reports[i].validUntil,
                payload: reports[i].payload
            });
        }
        (bytes32 r, bytes32 vs) = vm.signCompact(signerIndex + 1, _delegate.hashBatch(batch));
        vm.recordLogs();
        try _delegate.deliverBatch(batch, r, vs) {
            if (!_maySign(_signer(signerIndex))) ++_takenAgainstTheBooks;
            _recordBatch(reports, due, vm.getRecordedLogs());
        } catch {
            if (_maySign(_signer(signerIndex))) ++_refusedAgainstTheBooks;
        }
    }

    /// @dev Each report of the batch has its one event, in their order, and those are taken that were due.
    function _recordBatch(CryptoDelegate.Report[] memory reports, bool[] memory due, Vm.Log[] memory logs) private {
        uint256 next;
        for (uint256 i = 0; i < logs.length; ++i) {
            bytes32 kind = logs[i].topics[0];
            if (kind != CryptoDelegate.Delivered.selector && kind != CryptoDelegate.Undelivered.selector) continue;
            bool taken_ = kind == CryptoDelegate.Delivered.selector;
            if (taken_ && !due[next]) ++_takenAgainstTheBooks;
            if (!taken_ && due[next]) ++_refusedAgainstTheBooks;
            if (taken_) {
                (, bytes32 digest, address by, bool success) =
                    abi.decode(logs[i].data, (uint64, bytes32, address, bool));
                if (digest != _delegate.hashReport(reports[next])) ++_takenAgainstTheBooks;
                _record(_consumerOf(reports[next].subject), reports[next], digest, by, success);
            }
            ++next;
        }
        if (next != reports.length) ++_refusedAgainstTheBooks;
    }

    function _maySign(address signer) private view returns (bool) {
        return !_revoked[signer] && block.timestamp <= _expiry[signer];
    }

    function _record(
        CountingConsumer consumer,
        CryptoDelegate.Report memory report,
        bytes32 digest,
        address by,
        bool success
    )
        private
    {
        if (_revoked[by]) ++_takenFromRevoked;
        if (_paused[report.subject]) ++_takenAgainstTheBooks;
        if (_consumed[digest]) ++_consumedTwice;
        _consumed[digest] = true;
        _taken.push(report);
        ++_accepted[report.subject];
        if (success) ++_succeeded[address(consumer)];
    }

    function _lastDelivered() private returns (bytes memory data) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] == CryptoDelegate.Delivered.selector) data = logs[i].data;
        }
    }

    function _next(CountingConsumer consumer, uint256 word) private view returns (CryptoDelegate.Report memory report) {
        bytes32 subject = consumer.subject();
        (,,, uint64 sequence) = _delegate.subscription(_cryptlet, subject);
        report = CryptoDelegate.Report({
            cryptlet: _cryptlet,
            subject: subject,
            sequence: sequence + 1,
            issuedAt: uint64(block.timestamp),
            validUntil: uint64(block.timestamp + 1 hours),
            region: keccak256("region"),
            delegation: 0,
            payload: abi.encode(word)
        });
    }

    /// @dev Alters one thing of a report that is already signed, or nothing from 9 on. Returns whether it is still right.
    function _spoil(CryptoDelegate.Report memory report, uint256 fault) private view returns (bool) {
        if (fault == 0) report.cryptlet = address(this);
        if (fault == 1) report.subject = ~report.subject;
        if (fault == 2) report.sequence += 1;
        if (fault == 3) report.sequence -= 1;
        if (fault == 4) report.issuedAt += 1;
        if (fault == 5) report.validUntil = uint64(block.timestamp - 1);
        if (fault == 6) report.region = 0;
        if (fault == 7) report.payload = abi.encode(keccak256(report.payload));
        if (fault == 8) report.delegation = keccak256("delegation");
        return fault > 8;
    }

    function _consumerOf(bytes32 subject) private view returns (CountingConsumer) {
        for (uint256 i = 0; i < CONSUMERS; ++i) {
            if (_consumers[i].subject() == subject) return _consumers[i];
        }
        revert("no such subject");
    }

    function _signer(uint256 index) private pure returns (address) {
        return vm.addr(index + 1);
    }
}
