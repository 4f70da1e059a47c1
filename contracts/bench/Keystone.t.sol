// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {KeystoneForwarder} from "@chainlink/contracts/src/v0.8/keystone/KeystoneForwarder.sol";
import {CryptoDelegate} from "../src/CryptoDelegate.sol";
import {StoreWord} from "../test/consumers/StoreWord.sol";
import {BatchTest} from "../test/support/BatchTest.sol";
import {KeystoneReceiver} from "./KeystoneReceiver.sol";

/**
 * @title KeystoneBench
 * @notice Gas of whole transactions that bring one word to a consumer which stores it: Chainlink's `KeystoneForwarder`
 * and our delegate, in one run, by one compiler, in the steady state (the word was another before).
 */
contract KeystoneBench is BatchTest {
    uint256 internal constant BEFORE = 1_086_900_000_000_000_000;
    uint256 internal constant AFTER = 1_087_100_000_000_000_000;
    uint32 internal constant DON = 1;

    /// @notice Forge prints the text of such events.
    event log(string text);

    function testBench() public {
        uint256 single = _single();
        emit log("gas of a whole transaction, one word stored, steady state              whole  per report");
        _print("KeystoneForwarder.report, f = 1 (2 signatures, 4 signers)", _keystone(1), 1);
        _print("KeystoneForwarder.report, f = 3 (4 signatures, 10 signers)", _keystone(3), 1);
        _print("CryptoDelegate.deliver (1 signature)", single, 1);
        _print("CryptoDelegate.deliverBatch, 1 report", _batchOf(1), 1);
        _print("CryptoDelegate.deliverBatch, 10 reports", _batchOf(10), 10);
        _print("CryptoDelegate.deliverBatch, 50 reports", _batchOf(50), 50);
        emit log("");
        emit log("What differs: a forwarder's report carries f + 1 signatures of a committee, ours one of an enrolled");
        emit log("signer, whose key an attested region holds. A forwarder asks each receiver for its interfaces (ERC-165),");
        emit log("writes who brought the report into a new slot, and takes reports in any order, failed ones again; ours");
        emit log("counts them in the subscription's slot, each once and in order, and asks the register who may sign.");
        emit log("Both contracts are compiled as ours are, not as Chainlink deploys its own.");
    }

    function _single() private returns (uint256) {
        StoreWord consumer = new StoreWord(delegate, cryptlet, 100_000);
        _deliver(_report(consumer, BEFORE));
        CryptoDelegate.Report memory report = _report(consumer, AFTER);
        (bytes32 r, bytes32 vs) = _sign(report);
        delegate.deliver(report, r, vs);
        uint256 used = vm.lastCallGas().gasTotalUsed;
        vm.assertEq(consumer.word(), AFTER);
        return used;
    }

    function _batchOf(uint256 count) private returns (uint256) {
        CryptoDelegate.Report[] memory reports = new CryptoDelegate.Report[](count);
        for (uint256 i = 0; i < count; ++i) {
            StoreWord consumer = new StoreWord(delegate, cryptlet, 100_000);
            _deliver(_report(consumer, BEFORE));
            reports[i] = _report(consumer, AFTER);
        }
        CryptoDelegate.Batch memory batch = _batch(reports);
        (bytes32 r, bytes32 vs) = _signBatch(batch);
        delegate.deliverBatch(batch, r, vs);
        uint256 used = vm.lastCallGas().gasTotalUsed;
        for (uint256 i = 0; i < count; ++i) {
            vm.assertEq(_sequence(reports[i].subject), 2);
        }
        return used;
    }

    /// @dev A committee of 3 f + 1, f + 1 of which sign.
    function _keystone(uint8 f) private returns (uint256) {
        KeystoneForwarder forwarder = new KeystoneForwarder();
        address[] memory signers = new address[](3 * uint256(f) + 1);
        for (uint256 i = 0; i < signers.length; ++i) {
            signers[i] = vm.addr(i + 1);
        }
        forwarder.setConfig(DON, 1, f, signers);
        KeystoneReceiver receiver = new KeystoneReceiver(address(forwarder));
        _forward(forwarder, receiver, f, BEFORE);
        _forward(forwarder, receiver, f, AFTER);
        uint256 used = vm.lastCallGas().gasTotalUsed;
        vm.assertEq(receiver.word(), AFTER);
        return used;
    }

    function _forward(KeystoneForwarder forwarder, KeystoneReceiver receiver, uint8 f, uint256 word) private {
        // Version, execution, time, committee and its configuration, workflow, its name and owner, report: 109 bytes.
        bytes memory metadata = abi.encodePacked(
            uint8(1),
            keccak256(abi.encode("execution", word)),
            uint32(block.timestamp),
            DON,
            uint32(1),
            keccak256("workflow"),
            bytes10("workflow01"),
            publisher,
            bytes2(0x0001)
        );
        bytes memory rawReport = abi.encodePacked(metadata, word);
        bytes memory context = abi.encode(keccak256("configuration"), uint256(7), uint256(0));
        bytes32 hash = keccak256(abi.encodePacked(keccak256(rawReport), context));
        bytes[] memory signatures = new bytes[](uint256(f) + 1);
        for (uint256 i = 0; i < signatures.length; ++i) {
            (uint8 v, bytes32 r, bytes32 s) = vm.sign(i + 1, hash);
            signatures[i] = abi.encodePacked(r, s, v - 27);
        }
        bytes memory data =
            abi.encodeCall(KeystoneForwarder.report, (address(receiver), rawReport, context, signatures));
        (bool success,) = address(forwarder).call{gas: 1_000_000}(data);
        vm.assertTrue(success);
    }

    function _print(string memory what, uint256 used, uint256 reports) private {
        emit log(string.concat(_padded(what, 66), _right(used, 10), _right(used / reports, 12)));
    }

    function _padded(string memory text, uint256 width) private pure returns (string memory) {
        while (bytes(text).length < width) {
            text = string.concat(text, " ");
        }
        return text;
    }

    function _right(uint256 value, uint256 width) private pure returns (string memory text) {
        text = vm.toString(value);
        while (bytes(text).length < width) {
            text = string.concat(" ", text);
        }
    }
}
