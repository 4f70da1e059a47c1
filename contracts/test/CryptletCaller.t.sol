// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {SpotPrice} from "../examples/SpotPrice.sol";
import {CryptletCaller} from "../src/CryptletCaller.sol";
import {CryptoDelegate} from "../src/CryptoDelegate.sol";
import {DelegateTest} from "./support/DelegateTest.sol";

/**
 * @title CryptletCallerTest
 * @notice What a lookup asks for, and that no answer passes but the cryptlet's own to that very question, in its window.
 */
contract CryptletCallerTest is DelegateTest {
    uint256 internal constant RATE = 1_087_100_000_000_000_000;

    SpotPrice internal prices;

    function setUp() public override {
        super.setUp();
        prices = new SpotPrice(delegate, cryptlet, _urls());
    }

    function testLookup() public {
        vm.expectRevert(
            abi.encodeWithSelector(
                CryptletCaller.OffchainLookup.selector,
                address(prices),
                _urls(),
                abi.encode(cryptlet, _params("USD"), uint64(60)),
                SpotPrice.priceCallback.selector,
                _params("USD")
            )
        );
        prices.price("USD");
    }

    /// @dev The selector that ERC-3668 names.
    function testSelector() public pure {
        vm.assertEq(bytes32(CryptletCaller.OffchainLookup.selector), bytes32(bytes4(0x556f1830)));
    }

    function testAnswer() public view {
        vm.assertEq(prices.priceCallback(_response(_answer()), _params("USD")), RATE);
    }

    function testHashIsEip712(CryptletCaller.Answer memory answer) public view {
        bytes32 domainSeparator = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("CryptoDelegate"),
                keccak256("1"),
                block.chainid,
                address(delegate)
            )
        );
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256(
                    "Answer(address cryptlet,bytes32 request,uint64 windowStart,uint64 windowEnd,bytes32 region,bytes value)"
                ),
                answer.cryptlet,
                answer.request,
                answer.windowStart,
                answer.windowEnd,
                answer.region,
                keccak256(answer.value)
            )
        );
        bytes32 expected = keccak256(abi.encodePacked(hex"1901", domainSeparator, structHash));
        vm.assertEq(prices.hashAnswer(answer), expected);
    }

    function testRequest() public view {
        bytes32 expected = keccak256(abi.encode(address(prices), cryptlet, _params("USD"), uint64(60)));
        vm.assertEq(prices.requestOf(_params("USD")), expected);
    }

    function testWindow(uint256 time) public {
        CryptletCaller.Answer memory answer = _answer();
        bytes memory response = _response(answer);
        time = _bound(time, NOW - 100, NOW + 200);
        vm.warp(time);
        if (time < answer.windowStart || time >= answer.windowEnd) {
            _expectOutside(answer, response);
        } else {
            vm.assertEq(prices.priceCallback(response, _params("USD")), RATE);
        }
    }

    function testWindowAtItsEnds() public {
        testWindow(NOW - 31);
        testWindow(NOW - 30);
        testWindow(NOW + 29);
        testWindow(NOW + 30);
    }

    /// @dev A signer's answer for longer, or for shorter, is not what was asked for.
    function testWindowOfAnotherLength(uint64 start, uint64 end) public {
        CryptletCaller.Answer memory answer = _answer();
        answer.windowStart = uint64(_bound(start, 0, NOW));
        answer.windowEnd = uint64(_bound(end, NOW + 1, type(uint64).max));
        vm.assume(answer.windowEnd - answer.windowStart != 60);
        _expectOutside(answer, _response(answer));
    }

    function testWindowThatEndsBeforeItStarts() public {
        CryptletCaller.Answer memory answer = _answer();
        (answer.windowStart, answer.windowEnd) = (answer.windowEnd, answer.windowStart);
        _expectOutside(answer, _response(answer));
    }

    function testAlteredAnswer(uint256 field, uint256 mask) public {
        CryptletCaller.Answer memory answer = _answer();
        (bytes32 r, bytes32 vs) = vm.signCompact(SIGNER_KEY, prices.hashAnswer(answer));
        field = _bound(field, 0, 2);
        mask = _bound(mask, 1, 29);
        if (field == 0) answer.value = _value(RATE ^ mask);
        if (field == 1) answer.region ^= bytes32(mask);
        if (field == 2) {
            (answer.windowStart, answer.windowEnd) =
            (answer.windowStart + uint64(mask), answer.windowEnd + uint64(mask));
        }
        _expectNotEnrolled(answer, r, vs);
    }

    function testOtherRequest() public {
        bytes memory response = _response(_answer());
        vm.expectRevert(
            abi.encodeWithSelector(
                CryptletCaller.WrongRequest.selector, prices.requestOf(_params("GBP")), prices.requestOf(_params("USD"))
            )
        );
        prices.priceCallback(response, _params("GBP"));
    }

    /// @dev An answer for another caller of the same cryptlet, which asked the same.
    function testOtherCaller() public {
        SpotPrice other = new SpotPrice(delegate, cryptlet, _urls());
        bytes memory response = _response(_answer());
        vm.expectRevert(
            abi.encodeWithSelector(
                CryptletCaller.WrongRequest.selector, other.requestOf(_params("USD")), prices.requestOf(_params("USD"))
            )
        );
        other.priceCallback(response, _params("USD"));
    }

    function testOtherCryptlet() public {
        vm.prank(publisher);
        address other = register.register("other", _version("1"), signer, SIGNER_EXPIRY);
        CryptletCaller.Answer memory answer = _answer();
        answer.cryptlet = other;
        bytes memory response = _response(answer);
        vm.expectRevert(abi.encodeWithSelector(CryptletCaller.WrongCryptlet.selector, cryptlet, other));
        prices.priceCallback(response, _params("USD"));
    }

    function testOtherChain() public {
        CryptletCaller.Answer memory answer = _answer();
        (bytes32 r, bytes32 vs) = vm.signCompact(SIGNER_KEY, prices.hashAnswer(answer));
        vm.chainId(block.chainid + 1);
        _expectNotEnrolled(answer, r, vs);
    }

    function testOtherDelegate() public {
        SpotPrice other = new SpotPrice(new CryptoDelegate(register), cryptlet, _urls());
        CryptletCaller.Answer memory answer = _answer();
        (bytes32 r, bytes32 vs) = vm.signCompact(SIGNER_KEY, other.hashAnswer(answer));
        _expectNotEnrolled(answer, r, vs);
    }

    /// @dev A report's signature is none of an answer, whatever it says.
    function testSignatureOfSomethingElse(bytes32 digest) public {
        (bytes32 r, bytes32 vs) = vm.signCompact(SIGNER_KEY, digest);
        _expectNotEnrolled(_answer(), r, vs);
    }

    function testStranger() public {
        CryptletCaller.Answer memory answer = _answer();
        (bytes32 r, bytes32 vs) = vm.signCompact(0xB0B, prices.hashAnswer(answer));
        _expectNotEnrolled(answer, r, vs);
    }

    function testRevokedSigner() public {
        CryptletCaller.Answer memory answer = _answer();
        (bytes32 r, bytes32 vs) = vm.signCompact(SIGNER_KEY, prices.hashAnswer(answer));
        vm.prank(publisher);
        register.revokeSigner(cryptlet, signer);
        _expectNotEnrolled(answer, r, vs);
    }

    function testMalformedSignatures() public {
        CryptletCaller.Answer memory answer = _answer();
        (bytes32 r,) = vm.signCompact(SIGNER_KEY, prices.hashAnswer(answer));
        bytes32[3] memory bad = [bytes32(0), bytes32(type(uint256).max >> 1), bytes32(type(uint256).max)];
        for (uint256 i = 0; i < bad.length; ++i) {
            vm.expectRevert(CryptletCaller.InvalidAnswerSignature.selector);
            prices.priceCallback(abi.encode(answer, r, bad[i]), _params("USD"));
        }
    }

    function testMalformedResponse(bytes calldata response) public {
        (bool success,) = address(prices).call(abi.encodeCall(SpotPrice.priceCallback, (response, _params("USD"))));
        vm.assertFalse(success);
    }

    function testConstructorRefusals() public {
        vm.expectRevert(CryptletCaller.NoGateway.selector);
        new SpotPrice(delegate, cryptlet, new string[](0));
        vm.expectRevert(abi.encodeWithSelector(CryptoDelegate.CryptletNotActive.selector, signer));
        new SpotPrice(delegate, signer, _urls());
        uint64[2] memory lengths = [uint64(0), 7 days + 1];
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectRevert(abi.encodeWithSelector(CryptletCaller.InvalidWindowLength.selector, lengths[i]));
            new AnyWindow(delegate, cryptlet, lengths[i], _urls());
        }
    }

    function testWhatItKnows() public view {
        vm.assertEq(prices.cryptlet(), cryptlet);
        vm.assertEq(address(prices.delegate()), address(delegate));
        vm.assertEq(prices.windowLength(), 60);
        vm.assertEq(prices.urls()[1], _urls()[1]);
    }

    function _params(string memory currency) internal pure returns (bytes memory) {
        string[] memory currencies = new string[](1);
        currencies[0] = currency;
        return abi.encode(false, currencies);
    }

    function _value(uint256 rate) internal pure returns (bytes memory) {
        uint256[] memory rates = new uint256[](1);
        rates[0] = rate;
        return abi.encode(uint64(NOW), rates);
    }

    /// @dev To what the price is, for the minute around now.
    function _answer() private view returns (CryptletCaller.Answer memory) {
        return CryptletCaller.Answer({
            cryptlet: cryptlet,
            request: prices.requestOf(_params("USD")),
            windowStart: uint64(NOW - 30),
            windowEnd: uint64(NOW + 30),
            region: REGION,
            value: _value(RATE)
        });
    }

    function _response(CryptletCaller.Answer memory answer) private view returns (bytes memory) {
        (bytes32 r, bytes32 vs) = vm.signCompact(SIGNER_KEY, prices.hashAnswer(answer));
        return abi.encode(answer, r, vs);
    }

    function _expectOutside(CryptletCaller.Answer memory answer, bytes memory response) private {
        vm.expectRevert(
            abi.encodeWithSelector(CryptletCaller.OutsideTheWindow.selector, answer.windowStart, answer.windowEnd)
        );
        prices.priceCallback(response, _params("USD"));
    }

    function _expectNotEnrolled(CryptletCaller.Answer memory answer, bytes32 r, bytes32 vs) private {
        bytes32 s = vs & bytes32(type(uint256).max >> 1);
        address recovered = ecrecover(prices.hashAnswer(answer), uint8(uint256(vs) >> 255) + 27, r, s);
        vm.expectRevert(
            recovered == address(0)
                ? abi.encodeWithSelector(CryptletCaller.InvalidAnswerSignature.selector)
                : abi.encodeWithSelector(CryptletCaller.AnswerSignerNotEnrolled.selector, cryptlet, recovered)
        );
        prices.priceCallback(abi.encode(answer, r, vs), _params("USD"));
    }

    function _urls() private pure returns (string[] memory urls) {
        urls = new string[](2);
        urls[0] = "https://host.example/v1/call/{sender}/{data}";
        urls[1] = "https://other.example/v1/call";
    }
}

/// @dev A caller with a window of any length.
contract AnyWindow is CryptletCaller {
    constructor(
        CryptoDelegate delegate_,
        address cryptlet_,
        uint64 windowLength_,
        string[] memory urls_
    )
        CryptletCaller(delegate_, cryptlet_, windowLength_, urls_)
    {}
}
