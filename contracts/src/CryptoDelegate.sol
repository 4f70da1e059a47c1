// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Arrays} from "@openzeppelin/contracts/utils/Arrays.sol";
import {TransientSlot} from "@openzeppelin/contracts/utils/TransientSlot.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {Delegations} from "./Delegations.sol";
import {ICryptletRegister} from "./ICryptletRegister.sol";
import {PackedSubscription, PackedSubscriptionLib} from "./PackedSubscription.sol";

/// @dev The kinds of triggers, {CryptoDelegate.Subscription}'s `trigger`, and the ABI of its `condition` with each. The
/// delegate knows the kinds only; hosts read the conditions. They are constants of the file and not of the contract,
/// since each getter that comes before `deliver` costs every delivery 22 gas.

/// @dev Times of a clock, all caught up: `(string cron, string timeZone)`.
uint8 constant TRIGGER_CLOCK = 1;

/// @dev Points in time: `(uint64[] instants, uint8 missed)`, 1 to 64 unix seconds, ascending.
uint8 constant TRIGGER_INSTANTS = 2;

/// @dev Times of a clock or of a market's sessions: `(string cron, string timeZone, string calendar, uint8 missed)`.
uint8 constant TRIGGER_SCHEDULE = 3;

/// @dev Again and again: `(uint64 seconds, string calendar, uint8 missed)`.
uint8 constant TRIGGER_INTERVAL = 4;

/// @dev A value of the cryptlet's crosses a bound: `(bytes feedParams, uint32 every, int256 bound, uint8 direction,
/// uint256 hysteresis, uint8 repeat)`.
uint8 constant TRIGGER_THRESHOLD = 5;

/// @dev An event's log of some chain: `(uint64 chainId, address emitter, bytes32[] topics, uint8 finality)`.
uint8 constant TRIGGER_LOG = 6;

/// @dev Every so many blocks of some chain: `(uint64 chainId, uint64 every, uint8 finality)`.
uint8 constant TRIGGER_BLOCKS = 7;

/// @dev An event of a registered application: `(string application, string kind)`.
uint8 constant TRIGGER_APPLICATION = 8;

/// @dev Once, by the subscription itself: empty.
uint8 constant TRIGGER_REQUEST = 9;

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
    using Arrays for bytes32[];
    using TransientSlot for *;

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
        /// Kind of trigger, {TRIGGER_CLOCK} to {TRIGGER_REQUEST}.
        uint8 trigger;
        /// When the trigger fires: `abi.encode` of what its kind says. Read by hosts, not by this contract.
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

    /// @notice What is one report's own in a {Batch}; see {Report} for the fields.
    struct BatchItem {
        bytes32 subject;
        uint64 sequence;
        uint64 issuedAt;
        uint64 validUntil;
        bytes payload;
    }

    /// @notice Reports of one cryptlet, on nobody's behalf, under one signature.
    struct Batch {
        /// The cryptlet that speaks.
        address cryptlet;
        /// Measurement of the region that ran the cryptlet.
        bytes32 region;
        /// One to {MAX_BATCH_SIZE} reports, delivered in this order.
        BatchItem[] items;
    }

    /// A storage reference to a subscription, so that a delivery derives its place only once.
    struct Slot {
        PackedSubscription packed;
    }

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

    /// @notice Most reports in one batch.
    uint256 public constant MAX_BATCH_SIZE = 64;

    bytes32 private constant REPORT_TYPEHASH = keccak256(
        "Report(address cryptlet,bytes32 subject,uint64 sequence,uint64 issuedAt,uint64 validUntil,bytes32 region,bytes32 delegation,bytes payload)"
    );

    bytes32 private constant BATCH_TYPEHASH = keccak256("ReportBatch(address cryptlet,uint256 count,bytes32 root)");

    /// Gas kept back for the call itself and for the two events that may follow it (about 8,000 at most).
    uint256 private constant GAS_AFTER_CALLBACK = 12_000;

    ICryptletRegister private immutable _register;

    /// The cryptlet is part of the key, so that a report of any other cryptlet finds no subscription.
    mapping(address cryptlet => mapping(bytes32 subject => Slot)) private _slots;

    /// Only of subscriptions that ask for reports on somebody's behalf.
    mapping(bytes32 subject => address) private _identities;

    /// Who signed the latest delivery of this transaction: a whole word, which is written without being read.
    uint256 private transient _signer;

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

    /// @notice `consumer` paused its subscription.
    event Paused(bytes32 indexed subject, address indexed consumer, address indexed cryptlet);

    /// @notice `consumer` resumed its subscription.
    event Resumed(bytes32 indexed subject, address indexed consumer, address indexed cryptlet);

    /**
     * @notice A report was consumed.
     * @param digest EIP-712 hash of the report, which is what `signer` signed.
     * @param success Whether the callback succeeded.
     */
    event Delivered(
        bytes32 indexed subject, address indexed cryptlet, uint64 sequence, bytes32 digest, address signer, bool success
    );

    /**
     * @notice A report of a batch could not be consumed and was left out. It says nothing of whether the report was
     * consumed before or will be: anybody may submit a batch again.
     * @param reason Selector of the error that {deliver} would have reverted with.
     */
    event Undelivered(bytes32 indexed subject, address indexed cryptlet, uint64 sequence, bytes4 reason);

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

    /// @notice The subscription is paused.
    error SubscriptionPaused();

    /// @notice The subscription is not paused.
    error SubscriptionNotPaused();

    /// @notice Only the consumer may pause, resume and end its subscription.
    error NotTheConsumer(address caller);

    /// @notice The report is not the subscription's next one.
    error WrongSequence(uint64 expected, uint64 given);

    /// @notice The subscription has consumed as many reports as its counter can hold.
    error SequenceExhausted();

    /// @notice A batch has one to {MAX_BATCH_SIZE} reports.
    error InvalidBatchSize(uint256 size);

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
        (Slot storage slot, PackedSubscription packed) = _ofCaller(cryptlet, subject);
        slot.packed = PackedSubscriptionLib.none();
        if (packed.onBehalf()) delete _identities[subject];
        emit Unsubscribed(subject, msg.sender, cryptlet);
    }

    /**
     * @notice Pauses a subscription: until {resume} hosts make no events for it, none of which are made up later, and no
     * report of it is delivered. The consumer only.
     */
    function pause(address cryptlet, bytes32 subject) external nonReentrant {
        (Slot storage slot, PackedSubscription packed) = _ofCaller(cryptlet, subject);
        if (!packed.isActive()) revert SubscriptionPaused();
        slot.packed = packed.paused();
        emit Paused(subject, msg.sender, cryptlet);
    }

    /// @notice Resumes a paused subscription: its next report has the sequence that was due. The consumer only.
    function resume(address cryptlet, bytes32 subject) external nonReentrant {
        (Slot storage slot, PackedSubscription packed) = _ofCaller(cryptlet, subject);
        if (packed.isActive()) revert SubscriptionNotPaused();
        slot.packed = packed.resumed();
        emit Resumed(subject, msg.sender, cryptlet);
    }

    /**
     * @notice Delivers a report that is on nobody's behalf to its consumer. Anyone may submit it.
     *
     * Reverts, with nothing consumed, unless the subscription exists, is not paused and asks for nobody's behalf, the
     * sequence is the next one, this block's time lies in `issuedAt` to `validUntil`, an enrolled signer of the cryptlet signed, and
     * enough gas is left. Otherwise the report is consumed, whatever the callback does.
     *
     * @param report The report, with `delegation` zero.
     * @param r First half of the EIP-2098 compact signature of {hashReport}.
     * @param vs Second half: `s` (low) with the recovery bit on top.
     */
    function deliver(Report calldata report, bytes32 r, bytes32 vs) external nonReentrantView {
        _deliver(report, r, vs, address(0), 0);
        _endCallbacks();
    }

    /**
     * @notice Delivers reports of one cryptlet, on nobody's behalf, that one signature covers. Anyone may submit them.
     *
     * Reverts, with nothing consumed, unless an enrolled signer of the cryptlet signed {hashBatch}, and enough gas is
     * left at each callback. What {deliver} checks of each report beside that, is checked of each in turn: one that
     * does not hold is left out, with {Undelivered}, and the others are consumed.
     *
     * @param batch The reports.
     * @param r First half of the EIP-2098 compact signature of {hashBatch}.
     * @param vs Second half: `s` (low) with the recovery bit on top.
     */
    function deliverBatch(Batch calldata batch, bytes32 r, bytes32 vs) external nonReentrantView {
        address cryptlet = batch.cryptlet;
        BatchItem[] calldata items = batch.items;
        bytes32[] memory digests = _hashItems(cryptlet, batch.region, items);
        address signer = _checkSigner(cryptlet, _hashBatch(cryptlet, digests), r, vs);
        mapping(bytes32 subject => Slot) storage slots = _slots[cryptlet];
        for (uint256 i = 0; i < items.length; ++i) {
            BatchItem calldata item = _itemOf(items, i);
            bytes32 subject = item.subject;
            uint64 sequence = item.sequence;
            Slot storage slot = slots[subject];
            PackedSubscription packed = slot.packed;
            if (!_isDue(packed, PackedSubscriptionLib.ACTIVE, sequence, item.issuedAt, item.validUntil)) {
                bytes4 reason = _obstacle(packed, sequence, item.issuedAt, item.validUntil);
                emit Undelivered(subject, cryptlet, sequence, reason);
                continue;
            }
            bytes32 digest = digests.unsafeMemoryAccess(i);
            slot.packed = packed.advance();
            bool success = _callBack(packed, _payloadOf(item), cryptlet, digest);
            _announce(subject, cryptlet, sequence, digest, signer, success);
        }
        _endCallbacks();
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
        nonReentrantView
    {
        bytes32 digest = hashDelegation(delegation);
        PackedSubscription packed = _slots[report.cryptlet][report.subject].packed;
        if (!packed.exists()) revert UnknownSubscription();
        _checkScope(delegation, digest, report.cryptlet, packed.consumer(), packed.callback());
        _checkConsent(delegation.identity, digest, signature);

        _speakFor(delegation.identity);
        _deliver(report, r, vs, delegation.identity, digest);
        _speakFor(address(0));
        _endCallbacks();
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

    /// @notice Whether a subscription is paused; false if there is none.
    function isPaused(address cryptlet, bytes32 subject) external view returns (bool) {
        PackedSubscription packed = _slots[cryptlet][subject].packed;
        return packed.exists() && !packed.isActive();
    }

    /**
     * @notice The report whose callback is running; all zero if none is.
     * @dev It speaks of the callback, not of the caller: a consumer must check that the delegate is calling it.
     * @return digest {hashReport} of it, as {Delivered} will say.
     * @return signer Who signed it, or the batch that it came in.
     */
    function currentReport() external view returns (bytes32 digest, address signer) {
        digest = _reentrancyGuardStorageSlot().asBytes32().tload();
        if (digest != 0) signer = address(uint160(_signer));
    }

    /**
     * @notice What a signer signs for a batch: the EIP-712 hash, in this contract's domain, of
     * `ReportBatch(address cryptlet,uint256 count,bytes32 root)`.
     *
     * The root is that of a Merkle tree over {hashReport} of each report, in their order: two neighbours are hashed
     * together, left before right, and the last of an odd number is carried up as it is.
     */
    function hashBatch(Batch calldata batch) external view returns (bytes32) {
        return _hashBatch(batch.cryptlet, _hashItems(batch.cryptlet, batch.region, batch.items));
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
        if (s.trigger < TRIGGER_CLOCK || s.trigger > TRIGGER_REQUEST) revert UnknownTrigger(s.trigger);
        if (s.condition.length > MAX_FIELD_LENGTH) revert ConditionTooLong(s.condition.length);
        if (s.params.length > MAX_FIELD_LENGTH) revert ParamsTooLong(s.params.length);
    }

    /// @dev Reverts unless the subscription is there and the caller's.
    function _ofCaller(
        address cryptlet,
        bytes32 subject
    )
        private
        view
        returns (Slot storage slot, PackedSubscription packed)
    {
        slot = _slots[cryptlet][subject];
        packed = slot.packed;
        if (!packed.exists()) revert UnknownSubscription();
        if (packed.consumer() != msg.sender) revert NotTheConsumer(msg.sender);
    }

    /// @dev Delivers a report that speaks for `identity` under the delegation with that hash, both of them checked.
    function _deliver(Report calldata report, bytes32 r, bytes32 vs, address identity, bytes32 delegation) private {
        address cryptlet = report.cryptlet;
        bytes32 subject = report.subject;
        uint64 sequence = report.sequence;
        Slot storage slot = _slots[cryptlet][subject];
        PackedSubscription packed = slot.packed;
        uint256 flags = identity == address(0) ? PackedSubscriptionLib.ACTIVE : PackedSubscriptionLib.FLAGS;
        if (!_isDue(packed, flags, sequence, report.issuedAt, report.validUntil)) {
            _refuse(report, packed, identity, delegation);
        }
        if (report.delegation != delegation) revert WrongDelegation(delegation, report.delegation);
        if (identity != address(0)) _checkIdentity(subject, identity);
        bytes32 digest = hashReport(report);
        address signer = _checkSigner(cryptlet, digest, r, vs);

        slot.packed = packed.advance();
        bool success = _callBack(packed, _payloadOf(report), cryptlet, digest);
        _announce(subject, cryptlet, sequence, digest, signer, success);
    }

    /**
     * @dev Whether a report can be consumed now, whoever signed it: the subscription has these flags and no others, the
     * sequence is the next and can be counted, and this block lies in a validity that is none too long. {_obstacle} says
     * which of them does not hold; this asks for all at once, since nearly every report passes.
     */
    function _isDue(
        PackedSubscription packed,
        uint256 flags,
        uint256 sequence,
        uint256 issuedAt,
        uint256 validUntil
    )
        private
        view
        returns (bool due)
    {
        uint256 mask = PackedSubscriptionLib.FLAGS | PackedSubscriptionLib.MAX_SEQUENCE;
        uint256 maxSequence = PackedSubscriptionLib.MAX_SEQUENCE;
        uint256 maxValidity = MAX_VALIDITY;
        assembly ("memory-safe") {
            // A sequence of 32 bits, as is asked for below, lies below the flags: neither can pass for the other.
            due := eq(add(and(packed, mask), 1), add(flags, sequence))
            // What is not later than `issuedAt` wraps round to a great number.
            due := and(due, lt(sub(sub(validUntil, issuedAt), 1), maxValidity))
            let out := or(gt(issuedAt, timestamp()), lt(validUntil, timestamp()))
            due := gt(due, or(out, gt(sequence, maxSequence)))
        }
    }

    /// @dev The selector of the error that keeps a report from being consumed now; the last is what remains.
    function _obstacle(
        PackedSubscription packed,
        uint64 sequence,
        uint64 issuedAt,
        uint64 validUntil
    )
        private
        view
        returns (bytes4)
    {
        if (!packed.exists()) return UnknownSubscription.selector;
        if (!packed.isActive()) return SubscriptionPaused.selector;
        if (sequence != packed.sequence() + 1) return WrongSequence.selector;
        if (sequence > PackedSubscriptionLib.MAX_SEQUENCE) return SequenceExhausted.selector;
        if (validUntil <= issuedAt || validUntil - issuedAt > MAX_VALIDITY) return InvalidValidity.selector;
        if (issuedAt > block.timestamp) return NotYetValid.selector;
        if (validUntil < block.timestamp) return Expired.selector;
        return WrongIdentity.selector;
    }

    /// @dev Reverts with what keeps the report from being consumed.
    function _refuse(
        Report calldata report,
        PackedSubscription packed,
        address identity,
        bytes32 delegation
    )
        private
        view
    {
        bytes4 obstacle = _obstacle(packed, report.sequence, report.issuedAt, report.validUntil);
        if (obstacle == WrongSequence.selector) revert WrongSequence(packed.sequence() + 1, report.sequence);
        if (obstacle == WrongIdentity.selector) {
            if (report.delegation != delegation) revert WrongDelegation(delegation, report.delegation);
            revert WrongIdentity(_identities[report.subject], identity);
        }
        assembly ("memory-safe") {
            mstore(0, obstacle)
            revert(0, 4)
        }
    }

    /// @dev A subscription that asks for nobody's behalf has no identity.
    function _checkIdentity(bytes32 subject, address given) private view {
        address required = _identities[subject];
        if (given != required) revert WrongIdentity(required, given);
    }

    /// @dev Leaves in {_signer} who it is.
    function _checkSigner(address cryptlet, bytes32 digest, bytes32 r, bytes32 vs) private returns (address signer) {
        ECDSA.RecoverError err;
        (signer, err,) = ECDSA.tryRecover(digest, r, vs);
        if (err != ECDSA.RecoverError.NoError) revert InvalidSignature();
        if (!_isSigner(cryptlet, signer)) revert SignerNotEnrolled(cryptlet, signer);
        _signer = uint160(signer);
    }

    /// @dev What the register says; no, if it says nothing. By hand, since every delivery pays for it.
    function _isSigner(address cryptlet, address signer) private view returns (bool enrolled) {
        ICryptletRegister register_ = _register;
        bytes32 selector = ICryptletRegister.isSigner.selector;
        assembly ("memory-safe") {
            let input := mload(0x40)
            mstore(input, selector)
            mstore(add(input, 0x04), cryptlet)
            mstore(add(input, 0x24), signer)
            let answered := staticcall(gas(), register_, input, 0x44, 0, 0x20)
            answered := and(answered, gt(returndatasize(), 0x1f))
            enrolled := and(answered, eq(mload(0), 1))
        }
    }

    /// @dev {hashReport} of each report of a batch.
    function _hashItems(
        address cryptlet,
        bytes32 region,
        BatchItem[] calldata items
    )
        private
        view
        returns (bytes32[] memory digests)
    {
        uint256 count = items.length;
        if (count == 0 || count > MAX_BATCH_SIZE) revert InvalidBatchSize(count);
        digests = new bytes32[](count);
        bytes32 separator = _domainSeparatorV4();
        // The words that EIP-712 hashes of a report. The four from the third on are the item's, as is the last.
        bytes memory encoded = abi.encode(REPORT_TYPEHASH, cryptlet, 0, 0, 0, 0, region, bytes32(0), bytes32(0));
        for (uint256 i = 0; i < count; ++i) {
            BatchItem calldata item = _itemOf(items, i);
            bytes calldata payload = _payloadOf(item);
            bytes32 structHash;
            assembly ("memory-safe") {
                let free := mload(0x40)
                calldatacopy(free, payload.offset, payload.length)
                calldatacopy(add(encoded, 0x60), item, 0x80)
                mstore(add(encoded, 0x120), keccak256(free, payload.length))
                structHash := keccak256(add(encoded, 0x20), 0x120)
            }
            digests[i] = MessageHashUtils.toTypedDataHash(separator, structHash);
        }
    }

    /**
     * @dev `items[i]`, unlike which it does not check that the item lies within the call data, nor does {_payloadOf}.
     * Beyond the call data's end there are zeros, and whatever is read, the signature must be for it: what is hashed is
     * what is delivered.
     */
    function _itemOf(BatchItem[] calldata items, uint256 i) private pure returns (BatchItem calldata item) {
        assembly ("memory-safe") {
            item := add(items.offset, calldataload(add(items.offset, shl(5, i))))
        }
    }

    /// @dev `item.payload`.
    function _payloadOf(BatchItem calldata item) private pure returns (bytes calldata payload) {
        assembly ("memory-safe") {
            let place := add(item, calldataload(add(item, 0x80)))
            payload.offset := add(place, 0x20)
            payload.length := calldataload(place)
        }
    }

    /// @dev `report.payload`.
    function _payloadOf(Report calldata report) private pure returns (bytes calldata payload) {
        assembly ("memory-safe") {
            let place := add(report, calldataload(add(report, 0xe0)))
            payload.offset := add(place, 0x20)
            payload.length := calldataload(place)
        }
    }

    /// @dev {hashBatch} of a batch of reports with these digests.
    function _hashBatch(address cryptlet, bytes32[] memory digests) private view returns (bytes32) {
        bytes32 root = _merkleRoot(digests);
        return _hashTypedDataV4(keccak256(abi.encode(BATCH_TYPEHASH, cryptlet, digests.length, root)));
    }

    /// @dev Each level is written over the one below: a node lies at or before its children.
    function _merkleRoot(bytes32[] memory leaves) private pure returns (bytes32 root) {
        assembly ("memory-safe") {
            let count := mload(leaves)
            let from := add(leaves, 0x20)
            let to := mload(0x40)
            for {} gt(count, 1) {} {
                let pairs := shr(1, count)
                for { let i := 0 } lt(i, pairs) { i := add(i, 1) } {
                    mstore(add(to, shl(5, i)), keccak256(add(from, shl(6, i)), 0x40))
                }
                if and(count, 1) { mstore(add(to, shl(5, pairs)), mload(add(from, shl(6, pairs)))) }
                count := add(pairs, and(count, 1))
                from := to
            }
            root := mload(from)
        }
    }

    /**
     * @dev Calls the consumer with `callback ++ payload ++ cryptlet`, copying nothing of what it returns. From here on
     * the word of the reentrancy guard, which may be any but zero, is the report's digest: {currentReport}. Nothing
     * before could re-enter: registers and wallets are asked by static calls.
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
        address cryptlet,
        bytes32 digest
    )
        private
        returns (bool success)
    {
        address consumer = packed.consumer();
        bytes32 selector = packed.callback();
        uint256 callbackGas = packed.callbackGas();
        _reentrancyGuardStorageSlot().asBytes32().tstore(digest);
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

    /// @dev No callback runs any more: the delegate may be entered again.
    function _endCallbacks() private {
        _reentrancyGuardStorageSlot().asBytes32().tstore(0);
    }

    /// @dev Says that a report was consumed, right after its callback.
    function _announce(
        bytes32 subject,
        address cryptlet,
        uint64 sequence,
        bytes32 digest,
        address signer,
        bool success
    )
        private
    {
        emit Delivered(subject, cryptlet, sequence, digest, signer, success);
        if (!success) emit CallbackFailed(subject, sequence, _returnedReason());
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
