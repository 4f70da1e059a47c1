// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Delegations} from "./Delegations.sol";
import {ICryptletRegister} from "./ICryptletRegister.sol";
import {PackedSubscription, PackedSubscriptionLib} from "./PackedSubscription.sol";

/**
 * @title CryptoDelegate
 * @notice Brings signed reports of cryptlets to the contracts that subscribed to them, each report exactly once.
 *
 * A consumer subscribes to a cryptlet and names the function to call back. Hosts read the `Subscribed` events, run the
 * cryptlet when its trigger fires, and anyone submits the signed report by {deliver}. The delegate checks it against the
 * subscription, the block's time and the register, counts it as consumed, and only then calls the consumer.
 *
 * Towards consumers the delegate is an ERC-2771 forwarder: the 20 bytes after the callback's arguments are the id of the
 * cryptlet that speaks. It calls nobody but consumers at functions that they themselves subscribed.
 *
 * A report is consumed whether its callback succeeds or reverts. Who submits it cannot make it fail by giving too little
 * gas: {deliver} reverts, with nothing consumed, unless the callback can be given all the gas that it subscribed.
 */
contract CryptoDelegate is Delegations, Nonces, ReentrancyGuardTransient {
    /// @notice What a consumer asks for.
    struct Subscription {
        /// The cryptlet whose reports are wanted.
        address cryptlet;
        /// The identity on whose behalf the cryptlet must speak, with its {Delegation}; zero: on nobody's.
        address onBehalfOf;
        /// Selector of the consumer's function that takes the report's payload as arguments.
        bytes4 callback;
        /// Gas that the callback is given, {MIN_CALLBACK_GAS} to {MAX_CALLBACK_GAS}.
        uint32 callbackGas;
        /// Seconds that a report stays valid, one to {MAX_VALIDITY}. Read by hosts, which set `validUntil` by it.
        uint32 validity;
        /// Kind of trigger; {TRIGGER_CLOCK} is the only one known.
        uint8 trigger;
        /// For a clock: `abi.encode(string cron, string timeZone)`. Read by hosts, not by this contract.
        bytes condition;
        /// ABI-encoded parameters for the cryptlet. Read by hosts, not by this contract.
        bytes params;
    }

    /// @notice What a cryptlet says to a consumer, signed as EIP-712 typed data.
    struct Report {
        /// The cryptlet that speaks.
        address cryptlet;
        /// The subscription that is answered.
        bytes32 subject;
        /// 1 for a subscription's first report, then one more each time.
        uint64 sequence;
        /// Unix seconds from which the report may be delivered.
        uint64 issuedAt;
        /// Last unix second at which the report may be delivered.
        uint64 validUntil;
        /// Measurement of the region that ran the cryptlet.
        bytes32 region;
        /// {hashDelegation} of the {Delegation} that it is made under, or zero: on nobody's behalf.
        bytes32 delegation;
        /// ABI-encoded arguments of the callback.
        bytes payload;
    }

    /// A storage reference to a subscription, so that a delivery derives its place only once.
    struct Slot {
        PackedSubscription packed;
    }

    /// @notice The trigger that fires by a cron expression in a time zone.
    uint8 public constant TRIGGER_CLOCK = 1;

    /// @notice Least gas that a callback can subscribe.
    uint32 public constant MIN_CALLBACK_GAS = 20_000;

    /// @notice Most gas that a callback can subscribe.
    uint32 public constant MAX_CALLBACK_GAS = 5_000_000;

    /// @notice Longest validity of a report, in seconds.
    uint32 public constant MAX_VALIDITY = 7 days;

    /// @notice Longest condition and longest parameters of a subscription, in bytes each.
    uint256 public constant MAX_FIELD_LENGTH = 4096;

    /// @notice Most bytes of a failed callback's revert data that {CallbackFailed} repeats.
    uint256 public constant MAX_REASON_LENGTH = 256;

    bytes32 private constant REPORT_TYPEHASH = keccak256(
        "Report(address cryptlet,bytes32 subject,uint64 sequence,uint64 issuedAt,uint64 validUntil,bytes32 region,bytes32 delegation,bytes payload)"
    );

    /// Gas kept back for the call itself and for the two events that may follow it (about 8,000 at most).
    uint256 private constant GAS_AFTER_CALLBACK = 12_000;

    ICryptletRegister private immutable _register;

    /// The cryptlet is part of the key, so that a report of any other cryptlet finds no subscription.
    mapping(address cryptlet => mapping(bytes32 subject => Slot)) private _slots;

    /// Only of subscriptions that ask for reports on somebody's behalf.
    mapping(bytes32 subject => address) private _identities;

    /// @notice `consumer` subscribed to `cryptlet`. The subject is made of what this event says, see {subscribe}.
    event Subscribed(
        bytes32 indexed subject,
        address indexed consumer,
        address indexed cryptlet,
        uint256 nonce,
        Subscription subscription
    );

    /// @notice `consumer` ended its subscription.
    event Unsubscribed(bytes32 indexed subject, address indexed consumer, address indexed cryptlet);

    /**
     * @notice A report was consumed.
     * @param digest EIP-712 hash of the report, which is what `signer` signed.
     * @param success Whether the callback succeeded.
     */
    event Delivered(
        bytes32 indexed subject, address indexed cryptlet, uint64 sequence, bytes32 digest, address signer, bool success
    );

    /// @notice The callback failed; `reason` is the first {MAX_REASON_LENGTH} bytes of its revert data.
    event CallbackFailed(bytes32 indexed subject, uint64 sequence, bytes reason);

    /// @notice The register is not a contract.
    error InvalidRegister(address register);

    /// @notice The cryptlet was never registered, or was revoked.
    error CryptletNotActive(address cryptlet);

    /// @notice A callback needs a selector other than zero.
    error InvalidCallback();

    /// @notice The callback's gas lies outside {MIN_CALLBACK_GAS} to {MAX_CALLBACK_GAS}.
    error InvalidCallbackGas(uint32 callbackGas);

    /// @notice A report must be valid for one second to {MAX_VALIDITY}: `validity`, or `validUntil - issuedAt`, is not.
    error InvalidValidity();

    /// @notice There is no trigger of this kind.
    error UnknownTrigger(uint8 trigger);

    /// @notice The condition is longer than {MAX_FIELD_LENGTH}.
    error ConditionTooLong(uint256 length);

    /// @notice The parameters are longer than {MAX_FIELD_LENGTH}.
    error ParamsTooLong(uint256 length);

    /// @notice There is no such subscription to this cryptlet.
    error UnknownSubscription();

    /// @notice Only the consumer may end its subscription.
    error NotTheConsumer(address caller);

    /// @notice The report is not the subscription's next one.
    error WrongSequence(uint64 expected, uint64 given);

    /// @notice The report was issued after this block's time.
    error NotYetValid();

    /// @notice The subscription asks for reports on behalf of `required` (zero: nobody), the report is on another's.
    error WrongIdentity(address required, address given);

    /// @notice The report's validity ended before this block's time.
    error Expired();

    /// @notice The signature is malformed, has a high `s`, or recovers to nobody.
    error InvalidSignature();

    /// @notice Whoever signed may not (or no longer) speak for the cryptlet.
    error SignerNotEnrolled(address cryptlet, address signer);

    /// @notice The gas left cannot give the callback what it subscribed and finish afterwards.
    error InsufficientGas(uint256 required, uint256 available);

    /// @notice Creates a delegate that trusts `register_` to say who may sign for whom.
    constructor(ICryptletRegister register_) {
        if (address(register_).code.length == 0) revert InvalidRegister(address(register_));
        _register = register_;
    }

    /**
     * @notice Subscribes the caller to a cryptlet. May be called from the consumer's constructor.
     * @return subject The subscription's id, never used again, which commits to all that was subscribed:
     * `keccak256(abi.encode(block.chainid, address(this), consumer, nonce, keccak256(abi.encode(s))))` with
     * `nonces(consumer)` before the call.
     */
    function subscribe(Subscription calldata s) external nonReentrant returns (bytes32 subject) {
        _checkSubscription(s);
        uint256 nonce = _useNonce(msg.sender);
        subject = keccak256(abi.encode(block.chainid, address(this), msg.sender, nonce, keccak256(abi.encode(s))));
        bool onBehalf = s.onBehalfOf != address(0);
        _slots[s.cryptlet][subject].packed = PackedSubscriptionLib.pack(msg.sender, s.callback, onBehalf, s.callbackGas);
        if (onBehalf) _identities[subject] = s.onBehalfOf;
        emit Subscribed(subject, msg.sender, s.cryptlet, nonce, s);
    }

    /// @notice Ends a subscription for ever. The consumer only.
    function unsubscribe(address cryptlet, bytes32 subject) external nonReentrant {
        PackedSubscription packed = _slots[cryptlet][subject].packed;
        if (!packed.exists()) revert UnknownSubscription();
        if (packed.consumer() != msg.sender) revert NotTheConsumer(msg.sender);
        _slots[cryptlet][subject].packed = PackedSubscriptionLib.none();
        if (packed.onBehalf()) delete _identities[subject];
        emit Unsubscribed(subject, msg.sender, cryptlet);
    }

    /**
     * @notice Delivers a report that is on nobody's behalf to its consumer. Anyone may submit it.
     *
     * Reverts, with nothing consumed, unless the subscription exists and asks for nobody's behalf, the sequence is the
     * next one, this block's time lies in `issuedAt` to `validUntil`, an enrolled signer of the cryptlet signed, and
     * enough gas is left. Otherwise the report is consumed, whatever the callback does.
     *
     * @param report The report, with `delegation` zero.
     * @param r First half of the EIP-2098 compact signature of {hashReport}.
     * @param vs Second half: `s` (low) with the recovery bit on top.
     */
    function deliver(Report calldata report, bytes32 r, bytes32 vs) external nonReentrant {
        _deliver(report, r, vs, address(0), 0);
    }

    /**
     * @notice Delivers a report that is on an identity's behalf. Anyone may submit it.
     *
     * Reverts, with nothing consumed, unless all holds that {deliver} checks; the report was made under this delegation;
     * the delegation is of the identity that the subscription asks for, signed by it, for this cryptlet, consumer and
     * callback, not expired and not revoked. During the callback {onBehalfOf} is the identity.
     *
     * @param report The report, with `delegation` the hash of `delegation`.
     * @param r First half of the EIP-2098 compact signature of {hashReport}.
     * @param vs Second half: `s` (low) with the recovery bit on top.
     * @param delegation The delegation.
     * @param signature The identity's signature of {hashDelegation}: ECDSA with 65 bytes, or what its wallet takes.
     */
    function deliverOnBehalfOf(
        Report calldata report,
        bytes32 r,
        bytes32 vs,
        Delegation calldata delegation,
        bytes calldata signature
    )
        external
        nonReentrant
    {
        bytes32 digest = hashDelegation(delegation);
        PackedSubscription packed = _slots[report.cryptlet][report.subject].packed;
        if (!packed.exists()) revert UnknownSubscription();
        _checkScope(delegation, digest, report.cryptlet, packed.consumer(), packed.callback());
        _checkConsent(delegation.identity, digest, signature);

        _speakFor(delegation.identity);
        _deliver(report, r, vs, delegation.identity, digest);
        _speakFor(address(0));
    }

    /// @notice The register that says who may sign for whom.
    function register() external view returns (ICryptletRegister) {
        return _register;
    }

    /**
     * @notice A subscription; all zero if there is none.
     * @return consumer The contract that is called back.
     * @return callback The selector that it is called at.
     * @return callbackGas The gas that it is given.
     * @return sequence The number of reports consumed so far.
     */
    function subscription(
        address cryptlet,
        bytes32 subject
    )
        external
        view
        returns (address consumer, bytes4 callback, uint32 callbackGas, uint64 sequence)
    {
        PackedSubscription packed = _slots[cryptlet][subject].packed;
        return (packed.consumer(), packed.callback(), uint32(packed.callbackGas()), packed.sequence());
    }

    /**
     * @notice The EIP-712 hash of a report in this contract's domain: what a signer signs.
     * @dev Seven of the nine words that EIP-712 hashes are the head of the report's ABI encoding as it stands. A head
     * with bits outside a field's type hashes to something, but {deliver} reads each such field and refuses it.
     */
    function hashReport(Report calldata report) public view returns (bytes32) {
        bytes32 typehash = REPORT_TYPEHASH;
        bytes calldata payload = report.payload;
        bytes32 structHash;
        assembly ("memory-safe") {
            let encoded := mload(0x40)
            calldatacopy(encoded, payload.offset, payload.length)
            let payloadHash := keccak256(encoded, payload.length)
            mstore(encoded, typehash)
            calldatacopy(add(encoded, 0x20), report, 0xe0)
            mstore(add(encoded, 0x100), payloadHash)
            structHash := keccak256(encoded, 0x120)
        }
        return _hashTypedDataV4(structHash);
    }

    function _checkSubscription(Subscription calldata s) private view {
        if (!_register.isActive(s.cryptlet)) revert CryptletNotActive(s.cryptlet);
        if (s.callback == 0) revert InvalidCallback();
        if (s.callbackGas < MIN_CALLBACK_GAS || s.callbackGas > MAX_CALLBACK_GAS) {
            revert InvalidCallbackGas(s.callbackGas);
        }
        if (s.validity == 0 || s.validity > MAX_VALIDITY) revert InvalidValidity();
        if (s.trigger != TRIGGER_CLOCK) revert UnknownTrigger(s.trigger);
        if (s.condition.length > MAX_FIELD_LENGTH) revert ConditionTooLong(s.condition.length);
        if (s.params.length > MAX_FIELD_LENGTH) revert ParamsTooLong(s.params.length);
    }

    /// @dev Delivers a report that speaks for `identity` under the delegation with that hash, both of them checked.
    function _deliver(Report calldata report, bytes32 r, bytes32 vs, address identity, bytes32 delegation) private {
        address cryptlet = report.cryptlet;
        bytes32 subject = report.subject;
        Slot storage slot = _slots[cryptlet][subject];
        PackedSubscription packed = slot.packed;
        if (!packed.exists()) revert UnknownSubscription();
        _checkSequence(packed, report.sequence);
        _checkTime(report.issuedAt, report.validUntil);
        if (report.delegation != delegation) revert WrongDelegation(delegation, report.delegation);
        if (packed.onBehalf() || identity != address(0)) _checkIdentity(subject, identity);
        bytes32 digest = hashReport(report);
        address signer = _checkSigner(cryptlet, digest, r, vs);

        slot.packed = packed.advance();
        bool success = _callBack(packed, report.payload, cryptlet);

        emit Delivered(subject, cryptlet, report.sequence, digest, signer, success);
        if (!success) emit CallbackFailed(subject, report.sequence, _returnedReason());
    }

    /// @dev A subscription that asks for nobody's behalf has no identity.
    function _checkIdentity(bytes32 subject, address given) private view {
        address required = _identities[subject];
        if (given != required) revert WrongIdentity(required, given);
    }

    function _checkSequence(PackedSubscription packed, uint64 given) private pure {
        uint64 expected;
        unchecked {
            expected = packed.sequence() + 1; // 32 bits at most
        }
        if (given != expected) revert WrongSequence(expected, given);
    }

    function _checkTime(uint64 issuedAt, uint64 validUntil) private view {
        unchecked {
            if (validUntil <= issuedAt || validUntil - issuedAt > MAX_VALIDITY) revert InvalidValidity();
        }
        if (issuedAt > block.timestamp) revert NotYetValid();
        if (validUntil < block.timestamp) revert Expired();
    }

    function _checkSigner(
        address cryptlet,
        bytes32 digest,
        bytes32 r,
        bytes32 vs
    )
        private
        view
        returns (address signer)
    {
        ECDSA.RecoverError err;
        (signer, err,) = ECDSA.tryRecover(digest, r, vs);
        if (err != ECDSA.RecoverError.NoError) revert InvalidSignature();
        if (!_register.isSigner(cryptlet, signer)) revert SignerNotEnrolled(cryptlet, signer);
    }

    /**
     * @dev Calls the consumer with `callback ++ payload ++ cryptlet`, copying nothing of what it returns.
     *
     * EIP-150 lets a call take at most 63/64 of the gas left and silently gives less than was asked for beyond that, so
     * a submitter could starve a callback and have its failure count. OpenZeppelin's ERC2771Forwarder finds that out
     * after the call; here the gas is checked right before it, against what the call is sure to be given: from
     * `available`, the few steps up to the call and its own price (the account is warm by then) are paid out of
     * {GAS_AFTER_CALLBACK}, and 63/64 of the rest is at least `callbackGas`.
     */
    function _callBack(
        PackedSubscription packed,
        bytes calldata payload,
        address cryptlet
    )
        private
        returns (bool success)
    {
        address consumer = packed.consumer();
        bytes32 selector = packed.callback();
        uint256 callbackGas = packed.callbackGas();
        uint256 input;
        bool hasCode;
        assembly ("memory-safe") {
            input := mload(0x40)
            mstore(input, selector)
            calldatacopy(add(input, 4), payload.offset, payload.length)
            mstore(add(add(input, 4), payload.length), shl(96, cryptlet))
            hasCode := gt(extcodesize(consumer), 0)
        }

        uint256 required;
        unchecked {
            required = callbackGas + callbackGas / 63 + GAS_AFTER_CALLBACK; // 33 bits at most
        }
        uint256 available = gasleft();
        if (available < required) revert InsufficientGas(required, available);

        assembly ("memory-safe") {
            success := and(call(callbackGas, consumer, 0, input, add(payload.length, 24), 0, 0), hasCode)
        }
    }

    /// @dev The first {MAX_REASON_LENGTH} bytes that the last call returned.
    function _returnedReason() private pure returns (bytes memory reason) {
        uint256 limit = MAX_REASON_LENGTH;
        assembly ("memory-safe") {
            let length := returndatasize()
            if gt(length, limit) {
                length := limit
            }
            reason := mload(0x40)
            mstore(0x40, add(reason, add(0x20, limit)))
            mstore(reason, length)
            returndatacopy(add(reason, 0x20), 0, length)
        }
    }
}
