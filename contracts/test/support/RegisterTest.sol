// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptletRegister} from "../../src/CryptletRegister.sol";
import {Test} from "./Test.sol";

/**
 * @title RegisterTest
 * @notice A register governed by the test, and versions to publish there.
 */
abstract contract RegisterTest is Test {
    uint256 internal constant NOW = 1_792_137_600;

    /// @dev The test has all roles and is the only administrator.
    function _newRegister() internal returns (CryptletRegister) {
        address[] memory administrators = new address[](1);
        administrators[0] = address(this);
        return new CryptletRegister(address(this), administrators, 1);
    }

    /// @dev A version whose digests are of its label (not by SHA-256, whose call would use up a prank).
    function _version(string memory label) internal pure returns (CryptletRegister.Version memory) {
        return CryptletRegister.Version({
            label: label,
            packageDigest: keccak256(bytes.concat("package ", bytes(label))),
            headerDigest: keccak256(bytes.concat("header ", bytes(label))),
            manifestDigest: keccak256(bytes.concat("manifest ", bytes(label))),
            uri: "oci://packages.example/cryptlet"
        });
    }
}
