// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/**
 * @title Wallet
 * @notice A contract wallet (ERC-1271) of one key.
 */
contract Wallet is IERC1271 {
    address private _owner;

    /// @notice Only the owner may do this.
    error NotTheOwner(address caller);

    /// @notice The wallet of `owner_`.
    constructor(address owner_) {
        _owner = owner_;
    }

    /// @notice Hands the wallet over: what the old owner signed counts no more.
    function handOver(address owner_) external {
        if (msg.sender != _owner) revert NotTheOwner(msg.sender);
        _owner = owner_;
    }

    /// @notice Calls `target` with `data`.
    function execute(address target, bytes calldata data) external returns (bytes memory result) {
        if (msg.sender != _owner) revert NotTheOwner(msg.sender);
        bool success;
        (success, result) = target.call(data);
        if (success) return result;
        assembly ("memory-safe") {
            revert(add(result, 0x20), mload(result))
        }
    }

    /// @inheritdoc IERC1271
    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4) {
        (address by, ECDSA.RecoverError err,) = ECDSA.tryRecoverCalldata(hash, signature);
        bool valid = err == ECDSA.RecoverError.NoError && by == _owner;
        return valid ? IERC1271.isValidSignature.selector : bytes4(0xffffffff);
    }
}
