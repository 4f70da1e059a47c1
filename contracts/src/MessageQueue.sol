// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {CryptletProxy} from "./CryptletProxy.sol";
import {CryptoDelegate} from "./CryptoDelegate.sol";

/**
 * @title MessageQueue
 * @notice Keeps every message that one cryptlet sent it, with what it takes to audit them, for other contracts to look
 * up: the latest, the one that stood at a given time, any.
 *
 * A message is the payload of a delivered report. Beside it stand the report's sequence, the time of the block that
 * brought it, the report's digest, which is what was signed, and the signer. A hash chain runs over them: an
 * auditor that has the delegate's {CryptoDelegate.Delivered} logs of {subject} that succeeded, and their blocks'
 * times, gets the same {chainHash} from them. Nobody can alter, drop or add a message, the owner neither; it can pause
 * and end the subscription.
 *
 * A message that fails, since its payload costs more than the callback's gas, is not here; the sequences show the gap.
 */
contract MessageQueue is CryptletProxy {
    /// @notice A message as it was delivered.
    struct Message {
        /// The report's sequence, from 1.
        uint64 sequence;
        /// Unix seconds of the block that brought it.
        uint64 time;
        /// Who signed the report, or the batch that it came in.
        address signer;
        /// EIP-712 hash of the report.
        bytes32 digest;
        /// The report's payload.
        bytes payload;
    }

    /// As {Message}, with signer, time and sequence in one slot.
    struct Entry {
        address signer;
        uint48 time;
        uint48 sequence;
        bytes32 digest;
        bytes payload;
    }

    bytes32 private immutable _subject;

    Entry[] private _entries;
    bytes32 private _chainHash;

    /// @notice A message was taken as number `index`; `chainHash` is over it and all before it.
    event MessageTaken(uint256 indexed index, uint64 indexed sequence, bytes32 digest, bytes32 chainHash);

    /// @notice There are `count` messages, and none has this index.
    error UnknownMessage(uint256 index, uint256 count);

    /// @notice There is no message yet, or none at that time.
    error NoMessage();

    /**
     * @notice Subscribes to the messages of a cryptlet, for good.
     * @param delegate_ The delegate that brings the reports.
     * @param cryptlet_ The cryptlet's id.
     * @param callbackGas Gas to take a message with: 100,000 for a payload of up to 31 bytes, 125,000 for one word and
     * 23,000 for each further one; 20,000 more for the first message.
     * @param validity Seconds that a report stays valid after it was issued.
     * @param trigger Kind of trigger, see {CryptoDelegate.Subscription}.
     * @param condition When the trigger fires, in the ABI of its kind.
     * @param params ABI-encoded parameters for the cryptlet.
     */
    constructor(
        CryptoDelegate delegate_,
        address cryptlet_,
        uint32 callbackGas,
        uint32 validity,
        uint8 trigger,
        bytes memory condition,
        bytes memory params
    )
        CryptletProxy(delegate_, cryptlet_)
    {
        Terms memory terms = Terms(address(0), MessageQueue.take.selector, callbackGas, validity, params);
        _subject = _subscribe(terms, trigger, condition);
        _chainHash = _subject;
    }

    /// @notice Takes a message: all that comes after the selector. Called by the cryptlet's reports only.
    function take() external onlyBy(cryptlet()) {
        CryptoDelegate delegate_ = delegate();
        (bytes32 digest, address signer) = delegate_.currentReport();
        (,,, uint64 sequence) = delegate_.subscription(cryptlet(), _subject);

        uint256 index = _entries.length;
        Entry storage entry = _entries.push();
        (entry.signer, entry.time, entry.sequence) =
        (signer, SafeCast.toUint48(block.timestamp), SafeCast.toUint48(sequence));
        entry.digest = digest;
        entry.payload = _msgData()[4:];

        bytes32 link = hashLink(_chainHash, sequence, uint64(block.timestamp), digest, signer);
        _chainHash = link;
        emit MessageTaken(index, sequence, digest, link);
    }

    /// @notice Pauses the subscription. The owner only.
    function pause() external onlyOwner {
        _pause(_subject);
    }

    /// @notice Resumes the subscription. The owner only.
    function resume() external onlyOwner {
        _resume(_subject);
    }

    /// @notice Ends the subscription for ever; what is here stays. The owner only.
    function unsubscribe() external onlyOwner {
        _unsubscribe(_subject);
    }

    /// @notice The subscription's id at the delegate.
    function subject() external view returns (bytes32) {
        return _subject;
    }

    /// @notice How many messages there are.
    function count() external view returns (uint256) {
        return _entries.length;
    }

    /// @notice The message of that index, from 0 in the order of delivery.
    function message(uint256 index) external view returns (Message memory) {
        if (index >= _entries.length) revert UnknownMessage(index, _entries.length);
        return _message(index);
    }

    /// @notice The latest message.
    function latest() external view returns (Message memory) {
        if (_entries.length == 0) revert NoMessage();
        return _message(_entries.length - 1);
    }

    /**
     * @notice The message that stood at that time: the last that was delivered then or before.
     * @param time Unix seconds. At the current block's time or later it is the latest, and may be another once the block
     * is complete.
     */
    function messageAt(uint64 time) external view returns (Message memory) {
        // The number of messages that were delivered then or before lies in `low` to `high`.
        uint256 low = 0;
        uint256 high = _entries.length;
        while (low < high) {
            uint256 middle = low + (high - low) / 2;
            if (_entries[middle].time <= time) low = middle + 1;
            else high = middle;
        }
        if (low == 0) revert NoMessage();
        return _message(low - 1);
    }

    /// @notice The hash chain's last link: {subject} as long as there is no message, then {hashLink} of each in turn.
    function chainHash() external view returns (bytes32) {
        return _chainHash;
    }

    /// @notice The chain's next link: `keccak256(abi.encode(previous, sequence, time, digest, signer))`.
    function hashLink(
        bytes32 previous,
        uint64 sequence,
        uint64 time,
        bytes32 digest,
        address signer
    )
        public
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(previous, sequence, time, digest, signer));
    }

    function _message(uint256 index) private view returns (Message memory) {
        Entry storage entry = _entries[index];
        return Message(entry.sequence, entry.time, entry.signer, entry.digest, entry.payload);
    }
}
