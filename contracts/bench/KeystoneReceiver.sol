// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IReceiver} from "@chainlink/contracts/src/v0.8/keystone/interfaces/IReceiver.sol";

/**
 * @title KeystoneReceiver
 * @notice What `StoreWord` is for our delegate: takes reports of one forwarder and stores their word in one slot.
 */
contract KeystoneReceiver is IReceiver {
    address private immutable _forwarder;
    uint256 private _word;

    /// @notice Only the forwarder may bring reports.
    error NotTheForwarder(address caller);

    /// @notice Takes reports of `forwarder`.
    constructor(address forwarder) {
        _forwarder = forwarder;
    }

    /// @inheritdoc IReceiver
    function onReport(bytes calldata, bytes calldata report) external {
        if (msg.sender != _forwarder) revert NotTheForwarder(msg.sender);
        _word = abi.decode(report, (uint256));
    }

    /// @notice ERC-165: a receiver, as the forwarder asks before each report.
    function supportsInterface(bytes4 id) external pure returns (bool) {
        return id == type(IReceiver).interfaceId || id == 0x01ffc9a7;
    }

    /// @notice The word of the latest report.
    function word() external view returns (uint256) {
        return _word;
    }
}
