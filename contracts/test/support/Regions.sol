// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IsolatedRegion} from "../../src/IsolatedRegion.sol";
import {Test} from "./Test.sol";

/**
 * @title Regions
 * @notice Regions that a test's keys vouch for and speak for.
 */
abstract contract Regions is Test {
    uint256 internal constant HOST_KEY = 0x4057;
    uint256 internal constant REGION_KEY = 0x4E610;
    bytes32 internal constant MEASUREMENT = keccak256("measurement");

    /// @dev Vouched for by the host key.
    function _evidence(uint64 madeAt) internal pure returns (IsolatedRegion.Evidence memory evidence) {
        evidence.provider = "process";
        evidence.controls = new string[](2);
        evidence.controls[0] = "landlock";
        evidence.controls[1] = "seccomp-kill";
        evidence.measurement = MEASUREMENT;
        evidence.regionKey = vm.addr(REGION_KEY);
        evidence.exchangeKey = keccak256("exchange key");
        evidence.nonce = keccak256("nonce");
        evidence.madeAt = madeAt;
        _vouch(HOST_KEY, evidence);
    }

    function _vouch(uint256 key, IsolatedRegion.Evidence memory evidence) internal pure {
        evidence.signature = _compact(key, IsolatedRegion.hashEvidence(evidence));
    }

    function _statement(bytes32 report) internal pure returns (IsolatedRegion.Statement memory) {
        return IsolatedRegion.Statement(report, keccak256("input"), keccak256("sources"));
    }

    /// @dev The region key's signature under {MEASUREMENT}.
    function _say(IsolatedRegion.Statement memory said) internal pure returns (bytes memory) {
        return _compact(REGION_KEY, IsolatedRegion.hashStatement(MEASUREMENT, said));
    }

    function _compact(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (bytes32 r, bytes32 vs) = vm.signCompact(key, digest);
        return abi.encodePacked(r, vs);
    }
}
