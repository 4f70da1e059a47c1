// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Vm} from "./Vm.sol";

/**
 * @title Test
 * @notice What forge needs of a test contract, and the cheatcodes.
 */
abstract contract Test {
    /// @notice Tells forge that `failed()` need not be asked: assertions revert.
    bool public constant IS_TEST = true;

    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    /// @dev `value` folded into `low` to `high`, both included.
    function _bound(uint256 value, uint256 low, uint256 high) internal pure returns (uint256) {
        if (value >= low && value <= high) return value;
        return low + (value % (high - low + 1));
    }

    /// @dev An address that nobody else uses.
    function _account(string memory label) internal pure returns (address) {
        return address(uint160(uint256(keccak256(bytes(label)))));
    }
}
