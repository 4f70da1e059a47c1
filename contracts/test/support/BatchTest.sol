// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptoDelegate} from "../../src/CryptoDelegate.sol";
import {DelegateTest} from "./DelegateTest.sol";

/**
 * @title BatchTest
 * @notice Batches of reports, and what their signature covers, worked out plainly.
 */
abstract contract BatchTest is DelegateTest {
    bytes32 private constant TYPEHASH = keccak256("ReportBatch(address cryptlet,uint256 count,bytes32 root)");

    /// @dev The batch of these reports, of the first one's cryptlet and region.
    function _batch(CryptoDelegate.Report[] memory reports) internal pure returns (CryptoDelegate.Batch memory batch) {
        CryptoDelegate.BatchItem[] memory items = new CryptoDelegate.BatchItem[](reports.length);
        for (uint256 i = 0; i < reports.length; ++i) {
            items[i] = CryptoDelegate.BatchItem({
                subject: reports[i].subject,
                sequence: reports[i].sequence,
                issuedAt: reports[i].issuedAt,
                validUntil: reports[i].validUntil,
                payload: reports[i].payload
            });
        }
        return CryptoDelegate.Batch(reports[0].cryptlet, reports[0].region, items);
    }

    function _signBatch(CryptoDelegate.Batch memory batch) internal view returns (bytes32 r, bytes32 vs) {
        return vm.signCompact(SIGNER_KEY, delegate.hashBatch(batch));
    }

    function _deliverBatch(CryptoDelegate.Report[] memory reports) internal {
        CryptoDelegate.Batch memory batch = _batch(reports);
        (bytes32 r, bytes32 vs) = _signBatch(batch);
        vm.prank(submitter);
        delegate.deliverBatch(batch, r, vs);
    }

    /// @dev The root of a Merkle tree, level by level into new arrays.
    function _plainRoot(bytes32[] memory level) internal pure returns (bytes32) {
        while (level.length > 1) {
            bytes32[] memory above = new bytes32[]((level.length + 1) / 2);
            for (uint256 i = 0; i < above.length; ++i) {
                bool alone = 2 * i + 1 == level.length;
                above[i] = alone ? level[2 * i] : keccak256(abi.encodePacked(level[2 * i], level[2 * i + 1]));
            }
            level = above;
        }
        return level[0];
    }

    function _plainHash(
        CryptoDelegate domain,
        address batchCryptlet,
        bytes32[] memory leaves
    )
        internal
        view
        returns (bytes32)
    {
        bytes32 domainSeparator = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("CryptoDelegate"),
                keccak256("1"),
                block.chainid,
                address(domain)
            )
        );
        bytes32 structHash = keccak256(abi.encode(TYPEHASH, batchCryptlet, leaves.length, _plainRoot(leaves)));
        return keccak256(abi.encodePacked(hex"1901", domainSeparator, structHash));
    }
}
