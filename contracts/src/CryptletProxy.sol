// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ERC2771Context} from "@openzeppelin/contracts/metatx/ERC2771Context.sol";
import {Context} from "@openzeppelin/contracts/utils/Context.sol";
import {CryptoDelegate, TRIGGER_CLOCK, TRIGGER_INSTANTS, TRIGGER_SCHEDULE} from "./CryptoDelegate.sol";
import {TRIGGER_INTERVAL, TRIGGER_THRESHOLD, TRIGGER_LOG} from "./CryptoDelegate.sol";
import {TRIGGER_BLOCKS, TRIGGER_APPLICATION, TRIGGER_REQUEST} from "./CryptoDelegate.sol";
import {ICryptletRegister} from "./ICryptletRegister.sol";

/**
 * @title CryptletProxy
 * @notice Base of a contract that is woken by a cryptlet: it knows the cryptlet and the delegate, subscribes, and admits
 * only the cryptlet to the functions marked {onlyBy}, and only reports on an identity's behalf to those marked
 * {onBehalfOf}.
 *
 * The delegate is the ERC-2771 trusted forwarder: a call that comes from it speaks for the cryptlet whose id is appended
 * to the call data. A call from anybody else speaks for its sender, whatever bytes it appends. Signatures, sequence and
 * validity were all checked by the delegate before the call.
 *
 * WARNING: `delegatecall` to itself (a Multicall, for one) would let a caller choose the appended bytes; a contract that
 * inherits this one must not have it.
 */
abstract contract CryptletProxy is ERC2771Context, Ownable2Step {
    /// @notice What a subscription says beside its trigger; see {CryptoDelegate.Subscription}.
    struct Terms {
        /// The identity on whose behalf reports must be; zero: nobody's.
        address onBehalfOf;
        /// Selector of the function to wake, which should be {onlyBy} the cryptlet.
        bytes4 callback;
        /// Gas that the function is given.
        uint32 callbackGas;
        /// Seconds that a report stays valid after it was issued.
        uint32 validity;
        /// ABI-encoded parameters for the cryptlet.
        bytes params;
    }

    /// @notice What becomes of events that fell due while no host was there.
    enum Missed {
        /// They are caught up, one by one.
        CatchUp,
        /// They are skipped, the latest of them too.
        Skip
    }

    /// @notice How settled a chain's block must be before it counts.
    enum Finality {
        Latest,
        Safe,
        Finalized
    }

    /// @notice Which crossings of a bound count.
    enum Direction {
        /// From below to the bound or above it.
        Rises,
        /// From above to the bound or below it.
        Falls,
        /// Both.
        Either
    }

    /// @notice How often a crossing counts.
    enum Repeat {
        Once,
        EveryTime
    }

    address private immutable _cryptlet;
    address private immutable _publicKey;
    address private immutable _attestedHost;
    bytes32 private immutable _interfaceDigest;

    /// @notice The caller is not the cryptlet that this function is reserved for.
    error UnauthorizedCryptlet(address caller);

    /// @notice The report is on the behalf of `given` (zero: nobody), and the function demands `required`.
    error UnauthorizedIdentity(address required, address given);

    /// @notice Lets only reports of `cryptlet_`, brought by the delegate, call the function.
    modifier onlyBy(address cryptlet_) {
        _checkCryptlet(cryptlet_);
        _;
    }

    /// @notice Lets only reports that `identity`, not zero, delegated call the function, brought by the delegate.
    modifier onBehalfOf(address identity) {
        _checkIdentity(identity);
        _;
    }

    /**
     * @notice Binds the contract to a delegate and a cryptlet; the deployer becomes its owner.
     * @param delegate_ The delegate that is trusted to bring reports.
     * @param cryptlet_ The id of a registered cryptlet.
     */
    constructor(CryptoDelegate delegate_, address cryptlet_) ERC2771Context(address(delegate_)) Ownable(msg.sender) {
        _cryptlet = cryptlet_;
        ICryptletRegister register_ = delegate_.register();
        address[] memory hosts = register_.hostsOf(cryptlet_);
        _publicKey = register_.publicKeyOf(cryptlet_);
        _attestedHost = hosts.length == 0 ? address(0) : hosts[0];
        _interfaceDigest = register_.headerDigestOf(cryptlet_);
    }

    /// @notice The id of the cryptlet that this contract listens to.
    function cryptlet() public view returns (address) {
        return _cryptlet;
    }

    /// @notice The delegate that brings the cryptlet's reports.
    function delegate() public view returns (CryptoDelegate) {
        return CryptoDelegate(trustedForwarder());
    }

    /// @notice The cryptlet's name in the register.
    function name() public view virtual returns (string memory cryptletName) {
        (, cryptletName,) = delegate().register().cryptletOf(_cryptlet);
    }

    /**
     * @notice The cryptlet's public key, as the address of its signer, when this contract was deployed; zero if it had
     * none.
     * @dev A record for readers. Keys rotate: who may sign now is what the register says and the delegate checks.
     */
    function publicKey() public view returns (address) {
        return _publicKey;
    }

    /// @notice The first host that was assigned to the cryptlet when this contract was deployed; zero if none was.
    function attestedHost() public view returns (address) {
        return _attestedHost;
    }

    /// @notice SHA-256 of the header document of the version that was current when this contract was deployed.
    function interfaceDigest() public view returns (bytes32) {
        return _interfaceDigest;
    }

    /**
     * @dev Subscribes this contract to its cryptlet at times of a clock, for reports on nobody's behalf.
     * @param callback Selector of the function to wake, which should be {onlyBy} the cryptlet.
     * @param callbackGas Gas that the function is given.
     * @param validity Seconds that a report stays valid after it was issued.
     * @param cron Five-field cron expression.
     * @param timeZone IANA name of the time zone that the expression is read in.
     * @param params ABI-encoded parameters for the cryptlet.
     * @return subject The subscription's id.
     */
    function _subscribeClock(
        bytes4 callback,
        uint32 callbackGas,
        uint32 validity,
        string memory cron,
        string memory timeZone,
        bytes memory params
    )
        internal
        returns (bytes32 subject)
    {
        return _subscribeClock(address(0), callback, callbackGas, validity, cron, timeZone, params);
    }

    /**
     * @dev The same for reports that must be on an identity's behalf: the delegate takes no others.
     * @param identity The identity that delegates to the cryptlet; zero: nobody.
     */
    function _subscribeClock(
        address identity,
        bytes4 callback,
        uint32 callbackGas,
        uint32 validity,
        string memory cron,
        string memory timeZone,
        bytes memory params
    )
        internal
        returns (bytes32 subject)
    {
        return
            _subscribe(
                Terms(identity, callback, callbackGas, validity, params), TRIGGER_CLOCK, abi.encode(cron, timeZone)
            );
    }

    /**
     * @dev Subscribes this contract to its cryptlet at points in time.
     * @param instants Unix seconds, 1 to 64 of them, strictly ascending.
     */
    function _subscribeInstants(
        Terms memory terms,
        uint64[] memory instants,
        Missed missed
    )
        internal
        returns (bytes32 subject)
    {
        return _subscribe(terms, TRIGGER_INSTANTS, abi.encode(instants, missed));
    }

    /**
     * @dev Subscribes this contract to its cryptlet at times of a clock, on a market's open days if a calendar is named.
     * @param cron Five-field cron expression, or, with a calendar, `open`, `close`, `open+MINUTES` or `close-MINUTES`.
     * @param timeZone IANA name of the time zone that the expression is read in; empty: the calendar's.
     * @param calendar Name of a market calendar; empty: none.
     */
    function _subscribeSchedule(
        Terms memory terms,
        string memory cron,
        string memory timeZone,
        string memory calendar,
        Missed missed
    )
        internal
        returns (bytes32 subject)
    {
        return _subscribe(terms, TRIGGER_SCHEDULE, abi.encode(cron, timeZone, calendar, missed));
    }

    /**
     * @dev Subscribes this contract to its cryptlet every so many seconds.
     * @param period Seconds, counted from the subscription's block, or from each opening of the market.
     * @param calendar Name of the calendar of a market that must be open; empty: none.
     */
    function _subscribeInterval(
        Terms memory terms,
        uint64 period,
        string memory calendar,
        Missed missed
    )
        internal
        returns (bytes32 subject)
    {
        return _subscribe(terms, TRIGGER_INTERVAL, abi.encode(period, calendar, missed));
    }

    /**
     * @dev Subscribes this contract to its cryptlet whenever a value of that cryptlet's crosses a bound.
     * @param feedParams ABI-encoded parameters that the cryptlet is asked for the value with.
     * @param every Seconds from one question to the next.
     * @param bound The bound, in the value's own unit.
     * @param direction Which crossings count.
     * @param hysteresis How far the value must go back beyond the bound before the next crossing counts.
     * @param repeat Whether the first crossing counts alone.
     */
    function _subscribeThreshold(
        Terms memory terms,
        bytes memory feedParams,
        uint32 every,
        int256 bound,
        Direction direction,
        uint256 hysteresis,
        Repeat repeat
    )
        internal
        returns (bytes32 subject)
    {
        // Directions are counted from one.
        bytes memory condition = abi.encode(feedParams, every, bound, uint8(direction) + 1, hysteresis, repeat);
        return _subscribe(terms, TRIGGER_THRESHOLD, condition);
    }

    /**
     * @dev Subscribes this contract to its cryptlet for each log of a contract's, on this chain or another.
     * @param chainId The chain's EIP-155 id.
     * @param emitter The contract whose logs count.
     * @param topics What the first topics of a log must be, four at most; zero: anything.
     */
    function _subscribeLog(
        Terms memory terms,
        uint64 chainId,
        address emitter,
        bytes32[] memory topics,
        Finality finality
    )
        internal
        returns (bytes32 subject)
    {
        return _subscribe(terms, TRIGGER_LOG, abi.encode(chainId, emitter, topics, finality));
    }

    /**
     * @dev Subscribes this contract to its cryptlet for each block of a chain's whose number divides by `every`.
     * @param chainId The chain's EIP-155 id.
     */
    function _subscribeBlocks(
        Terms memory terms,
        uint64 chainId,
        uint64 every,
        Finality finality
    )
        internal
        returns (bytes32 subject)
    {
        return _subscribe(terms, TRIGGER_BLOCKS, abi.encode(chainId, every, finality));
    }

    /**
     * @dev Subscribes this contract to its cryptlet for each event that a registered application sends.
     * @param application The application's name.
     * @param kind The events' kind, the `type` of CloudEvents; empty: any.
     */
    function _subscribeApplication(
        Terms memory terms,
        string memory application,
        string memory kind
    )
        internal
        returns (bytes32 subject)
    {
        return _subscribe(terms, TRIGGER_APPLICATION, abi.encode(application, kind));
    }

    /// @dev Asks the cryptlet once, with `terms.params`; the answer, however long it takes, is the one callback.
    function _request(Terms memory terms) internal returns (bytes32 subject) {
        return _subscribe(terms, TRIGGER_REQUEST, "");
    }

    /// @dev Pauses a subscription of this contract's. The delegate refuses it during a callback.
    function _pause(bytes32 subject) internal {
        delegate().pause(_cryptlet, subject);
    }

    /// @dev Resumes a subscription of this contract's. The delegate refuses it during a callback.
    function _resume(bytes32 subject) internal {
        delegate().resume(_cryptlet, subject);
    }

    /// @dev Ends a subscription of this contract's. The delegate refuses it during a callback.
    function _unsubscribe(bytes32 subject) internal {
        delegate().unsubscribe(_cryptlet, subject);
    }

    /// @dev Subscribes this contract to its cryptlet by a trigger of any kind.
    function _subscribe(Terms memory terms, uint8 trigger, bytes memory condition) internal returns (bytes32 subject) {
        return delegate()
            .subscribe(
                CryptoDelegate.Subscription({
                cryptlet: _cryptlet,
                onBehalfOf: terms.onBehalfOf,
                callback: terms.callback,
                callbackGas: terms.callbackGas,
                validity: terms.validity,
                trigger: trigger,
                condition: condition,
                params: terms.params
            })
            );
    }

    function _checkCryptlet(address cryptlet_) private view {
        address sender = _msgSender();
        if (sender != cryptlet_) revert UnauthorizedCryptlet(sender);
    }

    /// @dev What the delegate says counts only in a call of its own: others could call while a callback is running.
    function _checkIdentity(address required) private view {
        address given = isTrustedForwarder(msg.sender) ? delegate().onBehalfOf() : address(0);
        if (given != required || given == address(0)) revert UnauthorizedIdentity(required, given);
    }

    function _msgSender() internal view virtual override(Context, ERC2771Context) returns (address) {
        return ERC2771Context._msgSender();
    }

    function _msgData() internal view virtual override(Context, ERC2771Context) returns (bytes calldata) {
        return ERC2771Context._msgData();
    }

    function _contextSuffixLength() internal view virtual override(Context, ERC2771Context) returns (uint256) {
        return ERC2771Context._contextSuffixLength();
    }
}
