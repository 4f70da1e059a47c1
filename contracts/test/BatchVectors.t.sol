// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptoDelegate} from "../src/CryptoDelegate.sol";
import {VectorTest} from "./support/VectorTest.sol";

/**
 * @title BatchVectorsTest
 * @notice The golden batches of `vectors/batch`, which every implementation must hash and sign alike.
 *
 * Leaves are calculated here from the text of EIP-712, the root by a plain recursion, both other than the delegate does
 * it, whose results they are compared with.
 */
contract BatchVectorsTest is VectorTest {
    struct Vector {
        string name;
        uint256 chainId;
        uint256 privateKey;
        CryptoDelegate.Batch batch;
    }

    function testOne() public {
        _check(Vector("one", 31_337, 0xA11CE, _batch(1)));
    }

    function testTwo() public {
        _check(Vector("two", 31_337, 0xA11CE, _batch(2)));
    }

    /// @dev The third is carried up once.
    function testThree() public {
        _check(Vector("three", 31_337, 0xA11CE, _batch(3)));
    }

    /// @dev Odd at two levels, and the last is carried up both times.
    function testFive() public {
        _check(Vector("five", 31_337, 0xA11CE, _batch(5)));
    }

    function testMost() public {
        _check(Vector("most", 31_337, 0xA11CE, _batch(64)));
    }

    function testOtherChain() public {
        _check(Vector("other-chain", 1, 0xA11CE, _batch(3)));
    }

    /// @dev Several reports of one subscription, with payloads of no whole words.
    function testOneSubscription() public {
        CryptoDelegate.Batch memory batch = _batch(3);
        for (uint256 i = 0; i < 3; ++i) {
            batch.items[i].subject = batch.items[0].subject;
            batch.items[i].sequence = uint64(i + 1);
            batch.items[i].payload = new bytes(33 * i);
        }
        _check(Vector("one-subscription", 31_337, 0xA11CE, batch));
    }

    function testMaximumValues() public {
        CryptoDelegate.Batch memory batch = _batch(2);
        batch.cryptlet = address(type(uint160).max);
        batch.region = bytes32(type(uint256).max);
        for (uint256 i = 0; i < 2; ++i) {
            batch.items[i] = CryptoDelegate.BatchItem({
                subject: bytes32(type(uint256).max),
                sequence: type(uint64).max,
                issuedAt: type(uint64).max,
                validUntil: type(uint64).max,
                payload: abi.encode(type(uint256).max)
            });
        }
        // The group's order less one, the largest private key there is.
        uint256 key = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364140;
        _check(Vector("maximum-values", type(uint64).max, key, batch));
    }

    function _batch(uint256 count) private pure returns (CryptoDelegate.Batch memory batch) {
        batch.cryptlet = 0x00112233445566778899AABbCCdDeeFf00112233;
        batch.region = REGION;
        batch.items = new CryptoDelegate.BatchItem[](count);
        for (uint256 i = 0; i < count; ++i) {
            batch.items[i] = CryptoDelegate.BatchItem({
                subject: keccak256(abi.encode("subject of the golden batches", i)),
                sequence: uint64(i + 7),
                issuedAt: 1_792_159_200,
                validUntil: 1_792_245_600,
                payload: abi.encode(uint256(1_087_100_000_000_000_000 + i))
            });
        }
    }

    function _check(Vector memory vector) private {
        vm.chainId(vector.chainId);
        _compare(string.concat("batch/", vector.name), _render(vector));
    }

    function _render(Vector memory vector) private view returns (string memory) {
        bytes32[] memory leaves = _leaves(vector.batch);
        bytes32 root = _root(leaves, 0, leaves.length);
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256("ReportBatch(address cryptlet,uint256 count,bytes32 root)"),
                vector.batch.cryptlet,
                leaves.length,
                root
            )
        );
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", _domainSeparator(), structHash));
        vm.assertEq(CryptoDelegate(DELEGATE).hashBatch(vector.batch), digest, vector.name);
        (bytes32 r, bytes32 vs) = vm.signCompact(vector.privateKey, digest);
        return string.concat(
            "{\n",
            _renderDomain(vector.chainId),
            _renderBatch(vector.batch),
            _renderLeaves(leaves),
            _line("root", root),
            _line("domainSeparator", _domainSeparator()),
            _line("structHash", structHash),
            _line("digest", digest),
            _line("privateKey", bytes32(vector.privateKey)),
            _line("r", r),
            _line("vs", vs),
            '  "signer": "',
            _lower(vm.addr(vector.privateKey)),
            '"\n}\n'
        );
    }

    function _leaves(CryptoDelegate.Batch memory batch) private view returns (bytes32[] memory leaves) {
        leaves = new bytes32[](batch.items.length);
        for (uint256 i = 0; i < leaves.length; ++i) {
            CryptoDelegate.Report memory report = CryptoDelegate.Report({
                cryptlet: batch.cryptlet,
                subject: batch.items[i].subject,
                sequence: batch.items[i].sequence,
                issuedAt: batch.items[i].issuedAt,
                validUntil: batch.items[i].validUntil,
                region: batch.region,
                delegation: 0,
                payload: batch.items[i].payload
            });
            leaves[i] = keccak256(abi.encodePacked(hex"1901", _domainSeparator(), _structHash(report)));
        }
    }

    /// @dev From the top: the left side has the greatest power of two of the leaves that leaves some for the right.
    function _root(bytes32[] memory leaves, uint256 from, uint256 count) private pure returns (bytes32) {
        if (count == 1) return leaves[from];
        uint256 left = 1;
        while (left * 2 < count) left *= 2;
        return keccak256(abi.encodePacked(_root(leaves, from, left), _root(leaves, from + left, count - left)));
    }

    function _renderBatch(CryptoDelegate.Batch memory batch) private pure returns (string memory text) {
        text = string.concat(
            '  "batch": {\n    "cryptlet": "',
            _lower(batch.cryptlet),
            '",\n    "region": "',
            vm.toString(batch.region),
            '",\n    "items": [\n'
        );
        for (uint256 i = 0; i < batch.items.length; ++i) {
            text = string.concat(text, _renderItem(batch.items[i]), i + 1 == batch.items.length ? "\n" : ",\n");
        }
        return string.concat(text, "    ]\n  },\n");
    }

    function _renderItem(CryptoDelegate.BatchItem memory item) private pure returns (string memory) {
        return string.concat(
            '      {\n        "subject": "',
            vm.toString(item.subject),
            '",\n        "sequence": ',
            vm.toString(item.sequence),
            ',\n        "issuedAt": ',
            vm.toString(item.issuedAt),
            ',\n        "validUntil": ',
            vm.toString(item.validUntil),
            ',\n        "payload": "',
            vm.toString(item.payload),
            '"\n      }'
        );
    }

    function _renderLeaves(bytes32[] memory leaves) private pure returns (string memory text) {
        text = '  "leaves": [\n';
        for (uint256 i = 0; i < leaves.length; ++i) {
            text = string.concat(text, '    "', vm.toString(leaves[i]), i + 1 == leaves.length ? '"\n' : '",\n');
        }
        return string.concat(text, "  ],\n");
    }
}
