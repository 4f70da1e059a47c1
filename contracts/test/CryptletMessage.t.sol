// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptletMessage} from "../src/CryptletMessage.sol";
import {ICryptletRegister} from "../src/ICryptletRegister.sol";
import {IsolatedRegion} from "../src/IsolatedRegion.sol";
import {Regions} from "./support/Regions.sol";

/**
 * @title CryptletMessageTest
 * @notice What a contract believes of a cryptlet's messages: what Rust signed, and nothing else.
 */
contract CryptletMessageTest is Regions {
    uint256 private constant SIGNER_KEY = 0x5164E7;
    address private constant DELEGATE = address(0xDE1E6A7E);
    address private constant CRYPTLET = address(0xC4);
    bytes32 private constant SUBJECT = keccak256("subject");

    address private _signer = vm.addr(SIGNER_KEY);

    /// @notice Stands in for the register: one key speaks for one cryptlet.
    function isSigner(address cryptlet, address signer) external view returns (bool) {
        return cryptlet == CRYPTLET && signer == _signer;
    }

    /// @notice The golden messages of `vectors/message`.
    function testGoldenMessages() public {
        string[3] memory names = ["plain", "empty", "longest"];
        for (uint256 i = 0; i < names.length; ++i) {
            string memory json = vm.readFile(string.concat("../vectors/message/", names[i], ".json"));
            vm.chainId(vm.parseJsonUint(json, ".domain.chainId"));
            bytes32 hash = CryptletMessage.hash(
                vm.parseJsonAddress(json, ".domain.delegate"),
                vm.parseJsonAddress(json, ".cryptlet"),
                vm.parseJsonBytes32(json, ".subject"),
                vm.parseJsonBytes(json, ".message")
            );
            vm.assertEq(hash, vm.parseJsonBytes32(json, ".digest"), names[i]);
            address signer = IsolatedRegion.signerOf(hash, vm.parseJsonBytes(json, ".signature"));
            vm.assertEq(signer, vm.parseJsonAddress(json, ".signer"));

            bytes32 said = IsolatedRegion.hashMessage(vm.parseJsonBytes32(json, ".measurement"), hash);
            vm.assertEq(said, vm.parseJsonBytes32(json, ".regionDigest"), names[i]);
            address region = IsolatedRegion.signerOf(said, vm.parseJsonBytes(json, ".regionSignature"));
            vm.assertEq(region, vm.parseJsonAddress(json, ".regionKey"));
        }
    }

    function testAMessageIsBelieved(bytes memory message) public view {
        vm.assertTrue(_isSigned(DELEGATE, CRYPTLET, SUBJECT, message, _sign(SIGNER_KEY, message)));
    }

    function testNobodyElseSpeaksForTheCryptlet(bytes memory message, uint256 key) public view {
        key = _bound(key, 1, type(uint128).max);
        vm.assume(key != SIGNER_KEY);
        vm.assertFalse(_isSigned(DELEGATE, CRYPTLET, SUBJECT, message, _sign(key, message)));
    }

    function testNothingElseIsSaid(bytes memory message, bytes memory other) public {
        vm.assume(keccak256(message) != keccak256(other));
        bytes memory signature = _sign(SIGNER_KEY, message);
        vm.assertFalse(_isSigned(DELEGATE, CRYPTLET, SUBJECT, other, signature), "message");
        vm.assertFalse(_isSigned(address(1), CRYPTLET, SUBJECT, message, signature), "delegate");
        vm.assertFalse(_isSigned(DELEGATE, address(1), SUBJECT, message, signature), "cryptlet");
        vm.assertFalse(_isSigned(DELEGATE, CRYPTLET, bytes32(0), message, signature), "subject");
        vm.chainId(block.chainid + 1);
        vm.assertFalse(_isSigned(DELEGATE, CRYPTLET, SUBJECT, message, signature), "chain");
    }

    function testAnyAlteredByteOfTheSignatureIsRefused(uint256 place, uint8 mask) public view {
        vm.assume(mask != 0);
        bytes memory signature = _sign(SIGNER_KEY, "said");
        place %= 64;
        signature[place] = bytes1(uint8(signature[place]) ^ mask);
        vm.assertFalse(_isSigned(DELEGATE, CRYPTLET, SUBJECT, "said", signature));
    }

    function testAnythingElseThanASignatureIsFalse(bytes memory message, bytes memory signature) public view {
        vm.assertFalse(_isSigned(DELEGATE, CRYPTLET, SUBJECT, message, signature));
    }

    /// @dev Where nobody can be recovered, nobody has signed, even where a register says so.
    function testNobodyIsNoSigner() public {
        _signer = address(0);
        vm.assertFalse(_isSigned(DELEGATE, CRYPTLET, SUBJECT, "said", new bytes(64)));
        vm.assertFalse(_isSigned(DELEGATE, CRYPTLET, SUBJECT, "said", ""));
    }

    function testRevokedKey() public {
        bytes memory signature = _sign(SIGNER_KEY, "said");
        vm.assertTrue(_isSigned(DELEGATE, CRYPTLET, SUBJECT, "said", signature));
        _signer = address(1);
        vm.assertFalse(_isSigned(DELEGATE, CRYPTLET, SUBJECT, "said", signature));
    }

    function testARegionsMessageIsBelievedAndNoOther(bytes32 message, bytes32 other) public view {
        vm.assume(message != other);
        IsolatedRegion.Evidence memory evidence = _evidence(1);
        bytes memory signature = _compact(REGION_KEY, IsolatedRegion.hashMessage(MEASUREMENT, message));
        address host = vm.addr(HOST_KEY);
        vm.assertTrue(IsolatedRegion.checkMessage(host, MEASUREMENT, evidence, message, signature));
        vm.assertFalse(IsolatedRegion.checkMessage(host, MEASUREMENT, evidence, other, signature), "message");
        vm.assertFalse(IsolatedRegion.checkMessage(host, other, evidence, message, signature), "measurement");
        vm.assertFalse(IsolatedRegion.checkMessage(_signer, MEASUREMENT, evidence, message, signature), "host");
        vm.assertFalse(IsolatedRegion.checkMessage(address(0), MEASUREMENT, evidence, message, signature), "nobody");
        vm.assertFalse(IsolatedRegion.checkMessage(host, MEASUREMENT, evidence, message, ""), "no signature");
        // Of another region of the same code, and of a report.
        bytes memory forged = _compact(SIGNER_KEY, IsolatedRegion.hashMessage(MEASUREMENT, message));
        vm.assertFalse(IsolatedRegion.checkMessage(host, MEASUREMENT, evidence, message, forged), "region");
        forged = _say(_statement(message));
        vm.assertFalse(IsolatedRegion.checkMessage(host, MEASUREMENT, evidence, message, forged), "statement");
        // Vouched for by somebody else.
        _vouch(SIGNER_KEY, evidence);
        vm.assertFalse(IsolatedRegion.checkMessage(host, MEASUREMENT, evidence, message, signature), "voucher");
    }

    function _sign(uint256 key, bytes memory message) private view returns (bytes memory) {
        return _compact(key, CryptletMessage.hash(DELEGATE, CRYPTLET, SUBJECT, message));
    }

    function _isSigned(
        address delegate,
        address cryptlet,
        bytes32 subject,
        bytes memory message,
        bytes memory signature
    )
        private
        view
        returns (bool)
    {
        return
            CryptletMessage.isSigned(ICryptletRegister(address(this)), delegate, cryptlet, subject, message, signature);
    }
}
