// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ERC2771Context} from "@openzeppelin/contracts/metatx/ERC2771Context.sol";
import {Context} from "@openzeppelin/contracts/utils/Context.sol";
import {CryptoDelegate, TRIGGER_CLOCK} from "./CryptoDelegate.sol";
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
        CryptoDelegate delegate_ = delegate();
        return delegate_.subscribe(
            CryptoDelegate.Subscription({
                cryptlet: _cryptlet,
                onBehalfOf: identity,
                callback: callback,
                callbackGas: callbackGas,
                validity: validity,
                trigger: TRIGGER_CLOCK,
                condition: abi.encode(cron, timeZone),
                params: params
            })
        );
    }

    /// @dev Ends a subscription of this contract's. The delegate refuses it during a callback.
    function _unsubscribe(bytes32 subject) internal {
        delegate().unsubscribe(_cryptlet, subject);
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
