// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptletProxy} from "../../src/CryptletProxy.sol";
import {CryptoDelegate} from "../../src/CryptoDelegate.sol";

/**
 * @title BenchConsumer
 * @notice Emits numbered events, is woken by each of them, and says of each number whether it came back never, once or
 * more than once: what `cryptlet bench path` counts with.
 *
 * Its subscriptions are lanes: each waits for the events of its own lane only. A callback stores one word.
 */
contract BenchConsumer is CryptletProxy {
    uint32 private immutable _callbackGas;
    bytes32 private immutable _subject;

    uint256 private _lanes;
    mapping(uint256 word => uint256 bits) private _seen;
    mapping(uint256 word => uint256 bits) private _doubled;

    /// @notice An event to be woken by. Lanes are counted from one: a topic of zero would stand for any.
    event Ping(uint256 indexed lane, uint256 n);

    /// @notice Opens the first lane.
    constructor(CryptoDelegate delegate_, address cryptlet_, uint32 callbackGas) CryptletProxy(delegate_, cryptlet_) {
        _callbackGas = callbackGas;
        _subject = _open(1);
    }

    /// @notice Opens further lanes.
    function open(uint256 count) external onlyOwner {
        uint256 lanes = _lanes;
        for (uint256 lane = lanes + 1; lane <= lanes + count; ++lane) {
            _open(lane);
        }
    }

    /// @notice Emits the events `from` to `from + count - 1`, on one lane after the other.
    function ping(uint256 from, uint256 count) external {
        uint256 lanes = _lanes;
        for (uint256 n = from; n < from + count; ++n) {
            emit Ping(1 + n % lanes, n);
        }
    }

    /// @notice The callback: `n` is the first word of the event's data.
    function relayed(uint256 n, bytes32) external onlyBy(cryptlet()) {
        uint256 word = n >> 8;
        uint256 bit = 1 << (n & 0xff);
        uint256 seen = _seen[word];
        if (seen & bit == 0) _seen[word] = seen | bit;
        else _doubled[word] |= bit;
    }

    /// @notice The first lane's subscription.
    function subject() external view returns (bytes32) {
        return _subject;
    }

    /// @notice How many of the events `from` to `from + count - 1` came back, and how many of them more than once.
    function tally(uint256 from, uint256 count) external view returns (uint256 delivered, uint256 doubled) {
        for (uint256 n = from; n < from + count; ++n) {
            delivered += (_seen[n >> 8] >> (n & 0xff)) & 1;
            doubled += (_doubled[n >> 8] >> (n & 0xff)) & 1;
        }
    }

    function _open(uint256 lane) private returns (bytes32) {
        bytes32[] memory topics = new bytes32[](2);
        topics[0] = Ping.selector;
        topics[1] = bytes32(lane);
        _lanes = lane;
        Terms memory terms = Terms(address(0), BenchConsumer.relayed.selector, _callbackGas, 1 days, "");
        return _subscribeLog(terms, uint64(block.chainid), address(this), topics, Finality.Latest);
    }
}
