// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptletRegister} from "../src/CryptletRegister.sol";
import {RegisterTest} from "./support/RegisterTest.sol";

/**
 * @title CryptletRegisterNamesTest
 * @notice Which names are taken, which are refused, and which count as the same.
 */
contract CryptletRegisterNamesTest is RegisterTest {
    address internal publisher = _account("publisher");
    address internal stranger = _account("stranger");
    address internal signer = _account("signer");

    CryptletRegister internal register;

    function setUp() public {
        vm.warp(NOW);
        register = _newRegister();
    }

    function testIdIsDerivedFromPublisherAndName(address by, string calldata name) public view {
        bytes32 hash = keccak256(abi.encode(by, name));
        vm.assertEq(register.cryptletId(by, name), address(uint160(uint256(hash))));
    }

    function testValidNames() public {
        string[6] memory names = [
            "a", "7", "a-b", "a-b-c", "gold-price", "z123456789012345678901234567890123456789012345678901234567890123"
        ];
        for (uint256 i = 0; i < names.length; ++i) {
            address cryptlet = _register(names[i]);
            vm.assertEq(register.cryptletByName(names[i]), cryptlet);
            vm.assertEq(cryptlet, register.cryptletId(publisher, names[i]));
        }
    }

    function testInvalidNames() public {
        string[16] memory names = [
            "",
            "z1234567890123456789012345678901234567890123456789012345678901234",
            "Gold-price",
            "GOLD-PRICE",
            "gold_price",
            "gold.price",
            "gold price",
            " gold-price",
            "-gold-price",
            "gold-price-",
            "gold--price",
            "-",
            "--",
            unicode"göld-price",
            unicode"gоld-price", // a Cyrillic o
            "gold/price"
        ];
        for (uint256 i = 0; i < names.length; ++i) {
            _expectInvalid(names[i]);
        }
        _expectInvalid(string(abi.encodePacked("gold", bytes1(0), "price")));
    }

    /// @dev Each byte that is not in the alphabet is refused in the middle of a name, each that is is taken.
    function testEveryByteOfANames() public {
        bytes memory alphabet = "abcdefghijklmnopqrstuvwxyz0123456789-";
        for (uint256 byteValue = 0; byteValue < 256; ++byteValue) {
            bool allowed;
            for (uint256 i = 0; i < alphabet.length; ++i) {
                allowed = allowed || uint8(alphabet[i]) == byteValue;
            }
            // Long enough a prefix of its own, so that no two look alike.
            string memory name = string(abi.encodePacked(_letters(byteValue), bytes1(uint8(byteValue)), "x"));
            if (allowed) _register(name);
            else _expectInvalid(name);
        }
    }

    function testTwoPublishersOfOneName() public {
        address first = _register("gold-price");
        _expectTaken(stranger, "gold-price", first);
        _expectTaken(publisher, "gold-price", first);
    }

    function testLookAlikes() public {
        address gold = _register("gold-price");
        string[7] memory names =
            ["goldprice", "g0ld-price", "go1d-price", "goid-price", "go-ld-pr1ce", "g-o-l-d-p-r-i-c-e", "g01dprlce"];
        for (uint256 i = 0; i < names.length; ++i) {
            _expectTaken(stranger, names[i], gold);
            _expectTaken(publisher, names[i], gold);
            vm.assertEq(register.cryptletByName(names[i]), address(0));
        }
        vm.assertEq(register.cryptletByName("gold-price"), gold);
    }

    function testLettersThatLookLikeOne() public {
        address market = _register("market");
        _expectTaken(stranger, "rnarket", market);
        _expectTaken(stranger, "r-narket", market);
        address weather = _register("weather");
        _expectTaken(stranger, "vveather", weather);
        _expectTaken(stranger, "v-veather", weather);
        address index = _register("index-fund");
        _expectTaken(stranger, "inclex-funcl", index);
        _expectTaken(stranger, "index-func1", index);
        _expectTaken(stranger, "1nc-iex-fund", index);
    }

    /// @dev Three strokes read as `wv` or as `vw`: all are alike, and so are `m` and `rn` around another `n`.
    function testLookAlikesWhicheverEndOneReadsFrom() public {
        address first = _register("vvv");
        _expectTaken(stranger, "vw", first);
        _expectTaken(stranger, "wv", first);
        address second = _register("mn");
        _expectTaken(stranger, "rnn", second);
        address third = _register("clcl");
        _expectTaken(stranger, "dcl", third);
        _expectTaken(stranger, "cld", third);
    }

    function testNamesThatDiffer() public {
        _register("gold-price");
        _register("gold-prices");
        _register("old-price");
        _register("gold-rice");
        _register("pricegold");
        _register("cold-price");
    }

    /// @dev Digits count as letters only where common fonts draw both alike: `0` and `1`.
    function testDigitsThatDifferFromLetters() public {
        string[10] memory names =
            ["rates-5", "ratess", "price-2", "pricez", "index-8", "indexb", "fund-9", "fundg", "oracl3", "oracle"];
        for (uint256 i = 0; i < names.length; ++i) {
            _register(names[i]);
        }
    }

    /// @dev Exactly those pairs are alike that the rules say, whichever is registered first. Of two random names few are, so
    /// that every other pair is a name and another spelling of it.
    function testSkeletonOfPairs(uint256 left, uint256 right) public {
        string memory first = _randomName(left);
        string memory second = right & 1 == 0 ? _randomName(right >> 1) : _respelled(first, right >> 1);
        address cryptlet = _register(first);
        if (keccak256(_contracted(first)) == keccak256(_contracted(second))) _expectTaken(stranger, second, cryptlet);
        else _register(second);
    }

    function testNameStaysTakenAfterTransferAndRevocation() public {
        address cryptlet = _register("gold-price");
        vm.prank(publisher);
        register.transferFrom(publisher, stranger, uint160(cryptlet));
        _expectTaken(publisher, "gold-price", cryptlet);
        vm.prank(stranger);
        register.revokeCryptlet(cryptlet);
        _expectTaken(publisher, "gold-price", cryptlet);
        vm.assertEq(register.cryptletByName("gold-price"), cryptlet);
    }

    function testByNameOfUnknownNames() public {
        _register("gold-price");
        vm.assertEq(register.cryptletByName(""), address(0));
        vm.assertEq(register.cryptletByName("silver-price"), address(0));
        vm.assertEq(register.cryptletByName("Gold-Price"), address(0));
        vm.assertEq(register.cryptletByName(string(new bytes(10_000))), address(0));
    }

    function _register(string memory name) private returns (address) {
        vm.prank(publisher);
        return register.register(name, _version("1"), signer, uint64(NOW));
    }

    function _expectInvalid(string memory name) private {
        vm.expectRevert(abi.encodeWithSelector(CryptletRegister.InvalidName.selector, name));
        register.register(name, _version("1"), signer, uint64(NOW));
    }

    function _expectTaken(address by, string memory name, address holder) private {
        vm.prank(by);
        vm.expectRevert(abi.encodeWithSelector(CryptletRegister.NameTaken.selector, name, holder));
        register.register(name, _version("1"), signer, uint64(NOW));
    }

    function _letters(uint256 value) private pure returns (bytes memory) {
        return abi.encodePacked(
            "x",
            bytes1(uint8(97 + value / 16 % 8)),
            "x",
            bytes1(uint8(112 + value % 8)),
            value & 8 == 0 ? "y" : "z",
            value > 127 ? "y" : "z"
        );
    }

    /// @dev Three characters of those that look alike, and of two that do not.
    function _randomName(uint256 seed) private pure returns (string memory) {
        bytes memory alphabet = "0o1lirnmvwcdz";
        bytes memory name = new bytes(3);
        for (uint256 i = 0; i < name.length; ++i) {
            name[i] = alphabet[seed % alphabet.length];
            seed /= alphabet.length;
        }
        return string(name);
    }

    /// @dev The same name with each character that looks like others as one of those, or as it is.
    function _respelled(string memory name, uint256 seed) private pure returns (string memory) {
        bytes memory text;
        for (uint256 i = 0; i < bytes(name).length; ++i) {
            bytes1 c = bytes(name)[i];
            bytes memory letters = abi.encodePacked(c);
            if (seed & 1 == 0) {
                if (c == "o" || c == "0") letters = c == "o" ? bytes("0") : bytes("o");
                if (c == "l" || c == "1" || c == "i") letters = c == "l" ? bytes("1") : bytes("l");
                if (c == "m") letters = "rn";
                if (c == "w") letters = "vv";
                if (c == "d") letters = "cl";
            }
            text = bytes.concat(text, letters);
            seed >>= 1;
        }
        return string(text);
    }

    /// @dev The rules told the other way round, by drawing letters together wherever they can be: `rn` to `m`, `cl` to `d`,
    /// `vv` to `w` and `wv` to `vw`.
    function _contracted(string memory name) private pure returns (bytes memory text) {
        text = bytes(name);
        for (uint256 i = 0; i < text.length; ++i) {
            if (text[i] == "0") text[i] = "o";
            if (text[i] == "1" || text[i] == "i") text[i] = "l";
        }
        text = _replaced(text, "rn", "m");
        text = _replaced(text, "cl", "d");
        text = _replaced(text, "vv", "w");
        for (uint256 pass = 0; pass < 4; ++pass) {
            text = _replaced(text, "vw", "wv");
            text = _replaced(text, "vv", "w");
        }
    }

    function _replaced(bytes memory text, bytes2 from, bytes memory to) private pure returns (bytes memory result) {
        for (uint256 i = 0; i < text.length; ++i) {
            if (i + 1 < text.length && text[i] == from[0] && text[i + 1] == from[1]) {
                result = bytes.concat(result, to);
                ++i;
            } else {
                result = bytes.concat(result, text[i]);
            }
        }
    }
}
