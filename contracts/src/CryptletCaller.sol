// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {CryptoDelegate} from "./CryptoDelegate.sol";
import {DelegateDomain} from "./DelegateDomain.sol";
import {ICryptletRegister} from "./ICryptletRegister.sol";

/**
 * @title CryptletCaller
 * @notice Base of a contract whose view functions ask a cryptlet, by ERC-3668 (CCIP Read): the view reverts with
 * {OffchainLookup}, the reader's client fetches the answer from a host's gateway and brings it to the callback named
 * there, which checks who signed it and for what.
 *
 * A call window makes all who ask see one answer: a host freezes the first answer of each window, and the signature
 * says which window it is for.
 *
 * An answer binds the asking contract, the cryptlet, the parameters and the window's length, in the domain of one
 * delegate on one chain. It does not bind who brings it: anybody may call the callback, with an answer to any question
 * that this contract could ask. A function that changes state by an answer must say itself to which question.
 */
abstract contract CryptletCaller {
    /// @notice A cryptlet's answer, signed as EIP-712 typed data in the delegate's domain.
    struct Answer {
        /// The cryptlet that answers.
        address cryptlet;
        /// What was asked, see {requestOf}.
        bytes32 request;
        /// First unix second at which the answer counts.
        uint64 windowStart;
        /// Unix second from which on it counts no more.
        uint64 windowEnd;
        /// Measurement of the region that ran the cryptlet.
        bytes32 region;
        /// ABI-encoded value.
        bytes value;
    }

    bytes32 private constant ANSWER_TYPEHASH = keccak256(
        "Answer(address cryptlet,bytes32 request,uint64 windowStart,uint64 windowEnd,bytes32 region,bytes value)"
    );

    /// @notice Longest call window, in seconds.
    uint64 public constant MAX_WINDOW_LENGTH = 7 days;

    CryptoDelegate private immutable _delegate;
    ICryptletRegister private immutable _register;
    address private immutable _cryptlet;
    uint64 private immutable _windowLength;

    string[] private _urls;

    /// @notice The answer is to be fetched from one of `urls`, as ERC-3668 says, and brought to `callbackFunction`.
    error OffchainLookup(address sender, string[] urls, bytes callData, bytes4 callbackFunction, bytes extraData);

    /// @notice A call window has one second to {MAX_WINDOW_LENGTH}.
    error InvalidWindowLength(uint64 windowLength);

    /// @notice There must be a gateway to ask.
    error NoGateway();

    /// @notice The answer is another cryptlet's.
    error WrongCryptlet(address expected, address given);

    /// @notice The answer is to another question.
    error WrongRequest(bytes32 expected, bytes32 given);

    /// @notice This block's time does not lie in the answer's window, or that is not of the length that was asked for.
    error OutsideTheWindow(uint64 windowStart, uint64 windowEnd);

    /// @notice The signature is malformed, has a high `s`, or recovers to nobody.
    error InvalidAnswerSignature();

    /// @notice Whoever signed may not (or no longer) speak for the cryptlet.
    error AnswerSignerNotEnrolled(address cryptlet, address signer);

    /**
     * @notice Binds the contract to a delegate's domain and register, and to a cryptlet.
     * @param delegate_ The delegate whose domain answers are signed in.
     * @param cryptlet_ The id of a registered cryptlet.
     * @param windowLength_ Seconds of a call window.
     * @param urls_ URL templates of gateways, for instance `https://host.example/v1/call/{sender}/{data}`.
     */
    constructor(CryptoDelegate delegate_, address cryptlet_, uint64 windowLength_, string[] memory urls_) {
        if (windowLength_ == 0 || windowLength_ > MAX_WINDOW_LENGTH) revert InvalidWindowLength(windowLength_);
        if (urls_.length == 0) revert NoGateway();
        _delegate = delegate_;
        _register = delegate_.register();
        _cryptlet = cryptlet_;
        _windowLength = windowLength_;
        _urls = urls_;
        if (!_register.isActive(cryptlet_)) revert CryptoDelegate.CryptletNotActive(cryptlet_);
    }

    /// @notice The cryptlet that is asked.
    function cryptlet() public view returns (address) {
        return _cryptlet;
    }

    /// @notice The delegate whose domain answers are signed in.
    function delegate() public view returns (CryptoDelegate) {
        return _delegate;
    }

    /// @notice Seconds of a call window.
    function windowLength() public view returns (uint64) {
        return _windowLength;
    }

    /// @notice URL templates of the gateways.
    function urls() public view returns (string[] memory) {
        return _urls;
    }

    /// @notice What an answer to `params` must name: `keccak256(abi.encode(address(this), cryptlet, params, windowLength))`.
    function requestOf(bytes memory params) public view returns (bytes32) {
        return keccak256(abi.encode(address(this), _cryptlet, params, _windowLength));
    }

    /// @notice What a signer signs: the EIP-712 hash of an answer in the delegate's domain.
    function hashAnswer(Answer memory answer) public view returns (bytes32) {
        bytes32 structHash = keccak256(
            abi.encode(
                ANSWER_TYPEHASH,
                answer.cryptlet,
                answer.request,
                answer.windowStart,
                answer.windowEnd,
                answer.region,
                keccak256(answer.value)
            )
        );
        return DelegateDomain.hashTypedData(address(_delegate), structHash);
    }

    /**
     * @dev Asks the cryptlet: reverts with {OffchainLookup}. A gateway is given
     * `abi.encode(address cryptlet, bytes params, uint64 windowLength)`.
     * @param params ABI-encoded parameters for the cryptlet.
     * @param callbackFunction Selector of the function that takes `(bytes response, bytes extraData)`.
     * @param extraData What the client brings back beside the response: whatever that function needs to know the
     * question by. Others can bring other bytes.
     */
    function _lookUp(bytes memory params, bytes4 callbackFunction, bytes memory extraData) internal view {
        bytes memory callData = abi.encode(_cryptlet, params, _windowLength);
        revert OffchainLookup(address(this), _urls, callData, callbackFunction, extraData);
    }

    /**
     * @dev The value of a gateway's response, if it is the cryptlet's answer to `params` for a window that this block's
     * time lies in, signed by one of its signers. Reverts otherwise.
     * @param response `abi.encode(Answer answer, bytes32 r, bytes32 vs)`, with an EIP-2098 compact signature of
     * {hashAnswer}.
     */
    function _verified(bytes memory params, bytes calldata response) internal view returns (bytes memory value) {
        (Answer memory answer, bytes32 r, bytes32 vs) = abi.decode(response, (Answer, bytes32, bytes32));
        if (answer.cryptlet != _cryptlet) revert WrongCryptlet(_cryptlet, answer.cryptlet);
        bytes32 request = requestOf(params);
        if (answer.request != request) revert WrongRequest(request, answer.request);
        if (!_isInWindow(answer)) revert OutsideTheWindow(answer.windowStart, answer.windowEnd);

        (address signer, ECDSA.RecoverError err,) = ECDSA.tryRecover(hashAnswer(answer), r, vs);
        if (err != ECDSA.RecoverError.NoError) revert InvalidAnswerSignature();
        if (!_register.isSigner(_cryptlet, signer)) revert AnswerSignerNotEnrolled(_cryptlet, signer);
        return answer.value;
    }

    function _isInWindow(Answer memory answer) private view returns (bool) {
        return answer.windowStart <= block.timestamp && block.timestamp < answer.windowEnd
            && answer.windowEnd - answer.windowStart == _windowLength;
    }
}
