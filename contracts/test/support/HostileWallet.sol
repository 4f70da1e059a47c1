// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";

/**
 * @title HostileWallet
 * @notice A contract wallet (ERC-1271) that answers wrongly whatever it is asked, in the way that it was told to.
 */
contract HostileWallet is IERC1271 {
    /// @notice The ways of not saying yes.
    enum Answer {
        Revert,
        RevertWithTheValue,
        WrongValue,
        TheValueAndMore,
        TheValueCutShort,
        Nothing,
        Bomb,
        RevertBomb
    }

    /// @notice Bytes of a bomb: memory of this size costs about 2.2 million gas.
    uint256 public constant LENGTH = 1 << 20;

    /// @notice Enough gas to be told a bomb, and too little to copy it.
    uint256 public constant GAS = 4_000_000;

    Answer private _answer;

    /// @notice Has it answer like this.
    function answer(Answer answer_) external {
        _answer = answer_;
    }

    /// @inheritdoc IERC1271
    function isValidSignature(bytes32, bytes calldata) external view returns (bytes4) {
        bytes32 value = bytes32(IERC1271.isValidSignature.selector);
        if (_answer == Answer.Revert) revert();
        if (_answer == Answer.RevertWithTheValue) _end(value, 32, true);
        if (_answer == Answer.WrongValue) _end(~value, 32, false);
        if (_answer == Answer.TheValueAndMore) _end(value | bytes32(uint256(1)), 32, false);
        if (_answer == Answer.TheValueCutShort) _end(value, 31, false);
        if (_answer == Answer.Nothing) _end(value, 0, false);
        _end(~value, LENGTH, _answer == Answer.RevertBomb);
    }

    /// @dev Ends the call with `length` bytes, of which `word` is the first.
    function _end(bytes32 word, uint256 length, bool reverts) private pure {
        assembly {
            mstore(0x80, word)
            if reverts {
                revert(0x80, length)
            }
            return(0x80, length)
        }
    }
}
