// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptoDelegate} from "../src/CryptoDelegate.sol";
import {VectorTest} from "./support/VectorTest.sol";

/**
 * @title ReportVectorsTest
 * @notice The golden reports of `vectors/report`, which every implementation must hash and sign alike.
 *
 * Each file must be, byte for byte, what this contract renders. With `UPDATE_VECTORS=true` the files are written anew.
 * The hashes are calculated here from the text of EIP-712 and compared with what the delegate calculates.
 */
contract ReportVectorsTest is VectorTest {
    struct Vector {
        string name;
        uint256 chainId;
        uint256 privateKey;
        CryptoDelegate.Report report;
    }

    /// @dev A day's two rates, as PriceConsumer takes them.
    function testPlain() public {
        uint256[] memory rates = new uint256[](2);
        rates[0] = 1_087_100_000_000_000_000;
        rates[1] = 835_250_000_000_000_000;
        bytes memory payload = abi.encode(uint64(1_792_108_800), rates);
        _check(Vector("plain", 31_337, 0xA11CE, _report(payload)));
    }

    function testEmptyPayload() public {
        _check(Vector("empty-payload", 31_337, 0xA11CE, _report("")));
    }

    /// @dev One byte: not a whole word.
    function testShortPayload() public {
        _check(Vector("short-payload", 31_337, 0xA11CE, _report(hex"00")));
    }

    function testLongPayload() public {
        bytes memory payload = new bytes(1_025);
        for (uint256 i = 0; i < payload.length; ++i) {
            payload[i] = bytes1(uint8(i));
        }
        _check(Vector("long-payload", 31_337, 0xA11CE, _report(payload)));
    }

    function testOtherChain() public {
        _check(Vector("other-chain", 1, 0xA11CE, _report(abi.encode(uint256(42)))));
    }

    function testMinimumValues() public {
        _check(Vector("minimum-values", 1, 1, CryptoDelegate.Report(address(0), 0, 0, 0, 0, 0, 0, "")));
    }

    function testMaximumValues() public {
        CryptoDelegate.Report memory report = CryptoDelegate.Report({
            cryptlet: address(type(uint160).max),
            subject: bytes32(type(uint256).max),
            sequence: type(uint64).max,
            issuedAt: type(uint64).max,
            validUntil: type(uint64).max,
            region: bytes32(type(uint256).max),
            delegation: bytes32(type(uint256).max),
            payload: abi.encode(type(uint256).max, type(uint256).max)
        });
        // The group's order less one, the largest private key there is.
        uint256 key = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364140;
        _check(Vector("maximum-values", type(uint64).max, key, report));
    }

    function _report(bytes memory payload) private pure returns (CryptoDelegate.Report memory) {
        return CryptoDelegate.Report({
            cryptlet: 0x00112233445566778899AABbCCdDeeFf00112233,
            subject: keccak256("subject of the golden reports"),
            sequence: 7,
            issuedAt: 1_792_159_200,
            validUntil: 1_792_245_600,
            region: REGION,
            delegation: 0,
            payload: payload
        });
    }

    function _check(Vector memory vector) private {
        vm.chainId(vector.chainId);
        _compare(string.concat("report/", vector.name), _render(vector));
    }

    function _render(Vector memory vector) private view returns (string memory) {
        bytes32 structHash = _structHash(vector.report);
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", _domainSeparator(), structHash));
        vm.assertEq(CryptoDelegate(DELEGATE).hashReport(vector.report), digest, vector.name);
        (bytes32 r, bytes32 vs) = vm.signCompact(vector.privateKey, digest);
        return string.concat(
            "{\n",
            _renderDomain(vector.chainId),
            _renderReport(vector.report),
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

    function _renderReport(CryptoDelegate.Report memory report) private pure returns (string memory) {
        return string.concat(
            '  "report": {\n    "cryptlet": "',
            _lower(report.cryptlet),
            '",\n  ',
            _line("subject", report.subject),
            '    "sequence": ',
            vm.toString(report.sequence),
            ',\n    "issuedAt": ',
            vm.toString(report.issuedAt),
            ',\n    "validUntil": ',
            vm.toString(report.validUntil),
            ",\n  ",
            _line("region", report.region),
            "  ",
            _line("delegation", report.delegation),
            '    "payload": "',
            vm.toString(report.payload),
            '"\n  },\n'
        );
    }
}
