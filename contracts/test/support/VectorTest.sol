// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptoDelegate} from "../../src/CryptoDelegate.sol";
import {ICryptletRegister} from "../../src/ICryptletRegister.sol";
import {Test} from "./Test.sol";

/**
 * @title VectorTest
 * @notice Golden files of typed data in a delegate's domain: each must be, byte for byte, what the test renders. With
 * `UPDATE_VECTORS=true` the files are written anew.
 */
abstract contract VectorTest is Test {
    /// The domain's contract: the delegate's code is put here, whatever address it was deployed at.
    address internal constant DELEGATE = 0xDE1E6a7e00000000000000000000000000000001;

    /// @dev A region's measurement that looks like one.
    bytes32 internal constant REGION = keccak256("region of the golden reports");

    function setUp() public {
        CryptoDelegate deployed = new CryptoDelegate(ICryptletRegister(address(this)));
        vm.etch(DELEGATE, address(deployed).code);
    }

    /// @dev Compares, or writes, `../vectors/` and this path.
    function _compare(string memory path, string memory rendered) internal {
        path = string.concat("../vectors/", path, ".json");
        if (vm.envOr("UPDATE_VECTORS", false)) vm.writeFile(path, rendered);
        vm.assertEq(vm.readFile(path), rendered, path);
    }

    function _renderDomain(uint256 chainId) internal pure returns (string memory) {
        return string.concat(
            '  "domain": {\n    "name": "CryptoDelegate",\n    "version": "1",\n    "chainId": ',
            vm.toString(chainId),
            ',\n    "verifyingContract": "',
            _lower(DELEGATE),
            '"\n  },\n'
        );
    }

    function _line(string memory name, bytes32 value) internal pure returns (string memory) {
        return string.concat('  "', name, '": "', vm.toString(value), '",\n');
    }

    /// @dev In lower case, without the checksum that `vm.toString(address)` writes.
    function _lower(address value) internal pure returns (string memory) {
        return vm.toString(abi.encodePacked(value));
    }

    function _structHash(CryptoDelegate.Report memory report) internal pure returns (bytes32) {
        return keccak256(
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
    }

    function _domainSeparator() internal view returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("CryptoDelegate"),
                keccak256("1"),
                block.chainid,
                DELEGATE
            )
        );
    }
}
