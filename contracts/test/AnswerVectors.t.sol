// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptletCaller} from "../src/CryptletCaller.sol";
import {CryptoDelegate} from "../src/CryptoDelegate.sol";
import {VectorTest} from "./support/VectorTest.sol";

/**
 * @title Asker
 * @notice A caller of any cryptlet with any window, whose answers anybody can have verified.
 */
contract Asker is CryptletCaller {
    constructor(
        CryptoDelegate delegate_,
        address cryptlet_,
        uint64 windowLength_,
        string[] memory urls_
    )
        CryptletCaller(delegate_, cryptlet_, windowLength_, urls_)
    {}

    function verified(bytes memory params, bytes calldata response) external view returns (bytes memory) {
        return _verified(params, response);
    }
}

/**
 * @title AnswerVectorsTest
 * @notice The golden answers of `vectors/answer`, which every implementation must hash, sign and encode alike.
 *
 * Request and digest are calculated here from their definitions and compared with what `CryptletCaller` calculates, which
 * must take the response as well, for exactly its window.
 */
contract AnswerVectorsTest is VectorTest {
    struct Vector {
        string name;
        uint256 chainId;
        uint256 privateKey;
        address consumer;
        bytes params;
        CryptletCaller.Answer answer;
    }

    /// The group's order less one, the largest private key there is.
    uint256 private constant LARGEST_KEY = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364140;

    address private _signer;

    /// @notice Stands in for the register: every cryptlet is active.
    function isActive(address) external pure returns (bool) {
        return true;
    }

    /// @notice Stands in for the register: the present vector's signer speaks for every cryptlet.
    function isSigner(address, address account) external view returns (bool) {
        return account == _signer;
    }

    /// @dev A rate, as SpotPrice takes it.
    function testPlain() public {
        _check(_vector("plain", abi.encode(uint256(1_087_100_000_000_000_000))));
    }

    function testEmptyValue() public {
        _check(_vector("empty-value", ""));
    }

    /// @dev One byte: not a whole word.
    function testShortValue() public {
        _check(_vector("short-value", hex"00"));
    }

    function testLongValue() public {
        bytes memory value = new bytes(1_025);
        for (uint256 i = 0; i < value.length; ++i) {
            value[i] = bytes1(uint8(i));
        }
        _check(_vector("long-value", value));
    }

    function testOtherChain() public {
        Vector memory vector = _vector("other-chain", abi.encode(uint256(42)));
        vector.chainId = 1;
        _check(vector);
    }

    function testOtherConsumer() public {
        Vector memory vector = _vector("other-consumer", abi.encode(uint256(42)));
        vector.consumer = 0xc000000000000000000000000000000000000002;
        _check(vector);
    }

    function testMinimumValues() public {
        Vector memory vector = _vector("minimum-values", "");
        (vector.chainId, vector.privateKey, vector.params) = (1, 1, "");
        vector.answer = CryptletCaller.Answer(address(0), 0, 0, 1, 0, "");
        _check(vector);
    }

    function testMaximumValues() public {
        Vector memory vector = _vector("maximum-values", "");
        (vector.chainId, vector.privateKey) = (type(uint64).max, LARGEST_KEY);
        vector.consumer = address(type(uint160).max);
        vector.params = abi.encode(type(uint256).max);
        vector.answer = CryptletCaller.Answer({
            cryptlet: address(type(uint160).max),
            request: 0,
            windowStart: type(uint64).max - 7 days,
            windowEnd: type(uint64).max,
            region: bytes32(type(uint256).max),
            value: abi.encode(type(uint256).max, type(uint256).max)
        });
        _check(vector);
    }

    /// @dev A minute's answer to the question for the dollar.
    function _vector(string memory name, bytes memory value) private pure returns (Vector memory vector) {
        vector.name = name;
        vector.chainId = 31_337;
        vector.privateKey = 0xA11CE;
        vector.consumer = 0xC000000000000000000000000000000000000001;
        vector.params = abi.encode("USD");
        vector.answer.cryptlet = 0x00112233445566778899AABbCCdDeeFf00112233;
        vector.answer.windowStart = 1_792_159_200;
        vector.answer.windowEnd = 1_792_159_260;
        vector.answer.region = REGION;
        vector.answer.value = value;
    }

    function _check(Vector memory vector) private {
        vm.chainId(vector.chainId);
        _signer = vm.addr(vector.privateKey);
        Asker asker = _asker(vector);
        vector.answer.request =
            keccak256(abi.encode(vector.consumer, vector.answer.cryptlet, vector.params, _windowLength(vector.answer)));
        vm.assertEq(asker.requestOf(vector.params), vector.answer.request, vector.name);

        bytes32 digest = keccak256(abi.encodePacked(hex"1901", _domainSeparator(), _structHash(vector.answer)));
        vm.assertEq(asker.hashAnswer(vector.answer), digest, vector.name);
        (bytes32 r, bytes32 vs) = vm.signCompact(vector.privateKey, digest);
        bytes memory response = abi.encode(vector.answer, r, vs);
        _checkResponse(asker, vector, response);

        string memory signed = string.concat(
            _line("digest", digest),
            _line("privateKey", bytes32(vector.privateKey)),
            _line("r", r),
            _line("vs", vs),
            '  "signer": "',
            _lower(_signer),
            '",\n  "response": "',
            vm.toString(response),
            '"\n}\n'
        );
        _compare(string.concat("answer/", vector.name), string.concat(_renderQuestion(vector), signed));
    }

    /// @dev At the consumer's address, whatever address it was deployed at.
    function _asker(Vector memory vector) private returns (Asker) {
        uint64 windowLength = _windowLength(vector.answer);
        Asker deployed = new Asker(CryptoDelegate(DELEGATE), vector.answer.cryptlet, windowLength, new string[](1));
        vm.etch(vector.consumer, address(deployed).code);
        return Asker(vector.consumer);
    }

    function _checkResponse(Asker asker, Vector memory vector, bytes memory response) private {
        CryptletCaller.Answer memory answer = vector.answer;
        vm.warp(answer.windowStart);
        vm.assertEq(asker.verified(vector.params, response), answer.value, vector.name);
        vm.warp(answer.windowEnd - 1);
        vm.assertEq(asker.verified(vector.params, response), answer.value, vector.name);
        vm.warp(answer.windowEnd);
        vm.expectRevert(
            abi.encodeWithSelector(CryptletCaller.OutsideTheWindow.selector, answer.windowStart, answer.windowEnd)
        );
        asker.verified(vector.params, response);
    }

    function _renderQuestion(Vector memory vector) private view returns (string memory) {
        return string.concat(
            "{\n",
            _renderDomain(vector.chainId),
            '  "asked": {\n    "consumer": "',
            _lower(vector.consumer),
            '",\n    "params": "',
            vm.toString(vector.params),
            '",\n    "windowLength": ',
            vm.toString(_windowLength(vector.answer)),
            "\n  },\n",
            _renderAnswer(vector.answer),
            _line("domainSeparator", _domainSeparator()),
            _line("structHash", _structHash(vector.answer))
        );
    }

    function _renderAnswer(CryptletCaller.Answer memory answer) private pure returns (string memory) {
        return string.concat(
            '  "answer": {\n    "cryptlet": "',
            _lower(answer.cryptlet),
            '",\n  ',
            _line("request", answer.request),
            '    "windowStart": ',
            vm.toString(answer.windowStart),
            ',\n    "windowEnd": ',
            vm.toString(answer.windowEnd),
            ",\n  ",
            _line("region", answer.region),
            '    "value": "',
            vm.toString(answer.value),
            '"\n  },\n'
        );
    }

    function _windowLength(CryptletCaller.Answer memory answer) private pure returns (uint64) {
        return answer.windowEnd - answer.windowStart;
    }

    function _structHash(CryptletCaller.Answer memory answer) private pure returns (bytes32) {
        return keccak256(
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
    }
}
