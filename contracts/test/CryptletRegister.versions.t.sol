// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptletRegister} from "../src/CryptletRegister.sol";
import {CryptletText} from "../src/CryptletText.sol";
import {ICryptletRegister} from "../src/ICryptletRegister.sol";
import {RegisterTest} from "./support/RegisterTest.sol";

/**
 * @title CryptletRegisterVersionsTest
 * @notice Versions, their signers, and what may be published and enrolled.
 */
contract CryptletRegisterVersionsTest is RegisterTest {
    uint64 internal constant EXPIRY = uint64(NOW + 30 days);

    address internal publisher = _account("publisher");
    address internal signer = _account("signer");
    address internal second = _account("second signer");

    CryptletRegister internal register;
    address internal cryptlet;

    function setUp() public {
        vm.warp(NOW);
        register = _newRegister();
        vm.prank(publisher);
        cryptlet = register.register("market-watcher", _version("1.0.0"), signer, EXPIRY);
    }

    function testRegister() public {
        address expected = register.cryptletId(publisher, "other");
        vm.expectEmit(address(register));
        emit CryptletRegister.CryptletRegistered(expected, publisher, "other");
        vm.expectEmit(address(register));
        emit CryptletRegister.VersionPublished(expected, 1, _version("0.1.0"));
        vm.expectEmit(address(register));
        emit CryptletRegister.SignerEnrolled(expected, second, 1, EXPIRY);
        vm.prank(publisher);
        vm.assertEq(register.register("other", _version("0.1.0"), second, EXPIRY), expected);

        (address by, string memory name, bool revoked) = register.cryptletOf(expected);
        vm.assertEq(by, publisher);
        vm.assertEq(name, "other");
        vm.assertFalse(revoked);
        vm.assertEq(register.ownerOf(uint160(expected)), publisher);
        vm.assertTrue(register.isActive(expected));
        vm.assertEq(register.versionCount(expected), 1);
        vm.assertEq(register.currentVersion(expected), 1);
        vm.assertEq(register.publicKeyOf(expected), second);
    }

    function testPublishVersion() public {
        vm.warp(NOW + 5);
        vm.expectEmit(address(register));
        emit CryptletRegister.VersionPublished(cryptlet, 2, _version("1.1.0"));
        vm.expectEmit(address(register));
        emit CryptletRegister.SignerEnrolled(cryptlet, second, 2, EXPIRY);
        vm.assertEq(_publish("1.1.0", second), 2);

        vm.assertEq(register.versionCount(cryptlet), 2);
        vm.assertEq(register.currentVersion(cryptlet), 2);
        vm.assertEq(register.publicKeyOf(cryptlet), second);
        vm.assertEq(register.headerDigestOf(cryptlet), _version("1.1.0").headerDigest);
        vm.assertTrue(register.isSigner(cryptlet, signer), "the first version's signer stays");
        _assertVersion(1, "1.0.0", false, NOW);
        _assertVersion(2, "1.1.0", false, NOW + 5);
        vm.assertEq(register.tokenURI(uint160(cryptlet)), _version("").uri);
    }

    function testAnyVersionIsKept(CryptletRegister.Version memory version) public {
        version.label = "2";
        version.uri = string(new bytes(0));
        vm.assume(version.packageDigest != 0 && version.headerDigest != 0 && version.manifestDigest != 0);
        vm.prank(publisher);
        uint32 number = register.publishVersion(cryptlet, version, second, EXPIRY);
        (CryptletRegister.Version memory kept,,) = register.versionOf(cryptlet, number);
        vm.assertEq(abi.encode(kept), abi.encode(version));
    }

    function testLabelTwice() public {
        bytes memory taken = abi.encodeWithSelector(CryptletRegister.LabelTaken.selector, "1.0.0", 1);
        _expectRefused(_version("1.0.0"), taken);
        CryptletRegister.Version memory other = _version("other");
        other.label = "1.0.0";
        _expectRefused(other, taken);
        vm.prank(publisher);
        register.revokeVersion(cryptlet, 1);
        _expectRefused(_version("1.0.0"), taken);
    }

    function testLabelsAreTheCryptletsOwn() public {
        vm.prank(publisher);
        register.register("other", _version("1.0.0"), signer, EXPIRY);
    }

    function testInvalidLabels() public {
        string[5] memory labels = ["", "123456789012345678901234567890123", "1 0", unicode"1.0.0-β", "1\n0"];
        for (uint256 i = 0; i < labels.length; ++i) {
            _expectRefused(
                _version(labels[i]), abi.encodeWithSelector(CryptletText.InvalidText.selector, labels[i], 1, 32)
            );
        }
        _publish("12345678901234567890123456789012", second);
    }

    function testInvalidUris() public {
        CryptletRegister.Version memory version = _version("2");
        version.uri = string(_filled(257, "a"));
        _expectRefused(version, abi.encodeWithSelector(CryptletText.InvalidText.selector, version.uri, 0, 256));
        version.uri = "oci://a b";
        _expectRefused(version, abi.encodeWithSelector(CryptletText.InvalidText.selector, version.uri, 0, 256));
        version.uri = string(_filled(256, "a"));
        vm.prank(publisher);
        register.publishVersion(cryptlet, version, second, EXPIRY);
    }

    function testZeroDigests() public {
        bytes memory refusal = abi.encodeWithSelector(CryptletRegister.ZeroDigest.selector);
        CryptletRegister.Version memory version = _version("2");
        version.packageDigest = 0;
        _expectRefused(version, refusal);
        version = _version("2");
        version.headerDigest = 0;
        _expectRefused(version, refusal);
        version = _version("2");
        version.manifestDigest = 0;
        _expectRefused(version, refusal);
        vm.expectRevert(refusal);
        register.register("other", version, signer, EXPIRY);
    }

    function testUnknownVersions() public {
        uint32[3] memory numbers = [uint32(0), 2, type(uint32).max];
        for (uint256 i = 0; i < numbers.length; ++i) {
            bytes memory unknown =
                abi.encodeWithSelector(CryptletRegister.UnknownVersion.selector, cryptlet, numbers[i]);
            vm.expectRevert(unknown);
            register.versionOf(cryptlet, numbers[i]);
            vm.expectRevert(unknown);
            register.signersOf(cryptlet, numbers[i]);
            vm.prank(publisher);
            vm.expectRevert(unknown);
            register.enrolSigner(cryptlet, numbers[i], second, EXPIRY);
            vm.prank(publisher);
            vm.expectRevert(unknown);
            register.revokeVersion(cryptlet, numbers[i]);
        }
    }

    function testSignerIsValidUpToItsExpiry() public {
        vm.warp(EXPIRY);
        vm.assertTrue(register.isSigner(cryptlet, signer));
        vm.assertEq(register.publicKeyOf(cryptlet), signer);
        vm.warp(uint256(EXPIRY) + 1);
        vm.assertFalse(register.isSigner(cryptlet, signer));
        vm.assertEq(register.publicKeyOf(cryptlet), address(0));
    }

    function testNobodyElseIsASigner(address other) public view {
        vm.assume(other != signer && other != cryptlet);
        vm.assertFalse(register.isSigner(cryptlet, other));
        vm.assertFalse(register.isSigner(other, signer));
        vm.assertFalse(register.isSigner(cryptlet, address(0)));
    }

    function testEnrolSigner() public {
        vm.expectEmit(address(register));
        emit CryptletRegister.SignerEnrolled(cryptlet, second, 1, EXPIRY + 1);
        _enrol(1, second, EXPIRY + 1);
        vm.assertTrue(register.isSigner(cryptlet, second));
        vm.assertTrue(register.isSigner(cryptlet, signer));
        vm.assertEq(register.publicKeyOf(cryptlet), second);
        _assertSigner(second, 1, EXPIRY + 1, false);
    }

    /// @dev Each in the order of enrolment, once, and for its own version only; whatever became of it.
    function testSignersOf() public {
        address third = _account("third signer");
        _enrol(1, second, uint64(NOW + 10));
        _enrol(1, signer, EXPIRY + 1);
        _publish("2", third);
        _assertSigners(1, signer, second);
        vm.assertEq(abi.encode(register.signersOf(cryptlet, 2)), abi.encode(_one(third)));

        vm.warp(NOW + 11);
        vm.prank(publisher);
        register.revokeSigner(cryptlet, signer);
        vm.assertFalse(register.isSigner(cryptlet, signer) || register.isSigner(cryptlet, second));
        _assertSigners(1, signer, second);
        vm.prank(publisher);
        register.revokeVersion(cryptlet, 1);
        vm.prank(publisher);
        register.revokeCryptlet(cryptlet);
        _assertSigners(1, signer, second);

        vm.expectRevert(abi.encodeWithSelector(ICryptletRegister.UnknownCryptlet.selector, publisher));
        register.signersOf(publisher, 1);
    }

    function testEnrolAgainMovesTheExpiry() public {
        vm.warp(uint256(EXPIRY) + 1);
        _enrol(1, signer, EXPIRY + 10);
        vm.assertTrue(register.isSigner(cryptlet, signer));
        _enrol(1, signer, EXPIRY + 5);
        _assertSigner(signer, 1, EXPIRY + 5, false);
    }

    function testSignerOfAnotherVersion() public {
        _publish("2", second);
        bytes memory refusal =
            abi.encodeWithSelector(CryptletRegister.SignerOfAnotherVersion.selector, cryptlet, signer, 1);
        _expectNotEnrolled(2, signer, EXPIRY, refusal);
        vm.prank(publisher);
        vm.expectRevert(refusal);
        register.publishVersion(cryptlet, _version("3"), signer, EXPIRY);
        vm.assertEq(register.versionCount(cryptlet), 2);
    }

    function testSignerOfAnotherCryptletIsNotOfThisOne() public {
        vm.prank(publisher);
        address other = register.register("other", _version("1"), second, EXPIRY);
        vm.assertFalse(register.isSigner(cryptlet, second));
        vm.assertFalse(register.isSigner(other, signer));
        _enrol(1, second, EXPIRY);
        vm.assertTrue(register.isSigner(cryptlet, second));
    }

    function testEnrolRefusals() public {
        _expectNotEnrolled(1, address(0), EXPIRY, abi.encodeWithSelector(ICryptletRegister.InvalidSigner.selector, 0));
        uint64 past = uint64(NOW - 1);
        bytes memory inThePast = abi.encodeWithSelector(CryptletRegister.ExpiryInThePast.selector, past);
        _expectNotEnrolled(1, second, past, inThePast);
        vm.expectRevert(inThePast);
        register.register("other", _version("1"), signer, past);
        vm.expectRevert(abi.encodeWithSelector(ICryptletRegister.InvalidSigner.selector, 0));
        register.register("other", _version("1"), address(0), EXPIRY);
    }

    function testSignersAreBounded() public {
        for (uint160 i = 1; i < 16; ++i) {
            _enrol(1, address(i), EXPIRY);
        }
        _expectNotEnrolled(
            1, second, EXPIRY, abi.encodeWithSelector(CryptletRegister.TooManySigners.selector, cryptlet, 1)
        );
        _enrol(1, signer, EXPIRY + 1);
        vm.prank(publisher);
        register.revokeVersion(cryptlet, 1);
        for (uint160 i = 1; i < 16; ++i) {
            vm.assertFalse(register.isSigner(cryptlet, address(i)));
        }
    }

    /// @dev Revoking makes no room: whoever reads the register reads revoked versions too.
    function testVersionsAreBounded() public {
        for (uint32 number = 2; number <= 1024; ++number) {
            vm.assertEq(_publish(vm.toString(number), address(uint160(number))), number);
        }
        vm.prank(publisher);
        register.revokeVersion(cryptlet, 1024);
        vm.prank(publisher);
        vm.expectRevert(abi.encodeWithSelector(CryptletRegister.TooManyVersions.selector, cryptlet));
        register.publishVersion(cryptlet, _version("1025"), second, EXPIRY);
        vm.assertEq(register.versionCount(cryptlet), 1024);
        vm.assertEq(register.currentVersion(cryptlet), 1023);

        vm.prank(publisher);
        register.register("other", _version("1.0.0"), second, EXPIRY);
    }

    /// @dev The newest of the current version's signers that is valid, not the newest of all.
    function testPublicKeySkipsWhoIsNotValid() public {
        _enrol(1, second, uint64(NOW + 10));
        vm.assertEq(register.publicKeyOf(cryptlet), second);
        vm.warp(NOW + 11);
        vm.assertEq(register.publicKeyOf(cryptlet), signer);
        vm.prank(publisher);
        register.revokeSigner(cryptlet, signer);
        vm.assertEq(register.publicKeyOf(cryptlet), address(0));
    }

    function _publish(string memory label, address by) private returns (uint32) {
        vm.prank(publisher);
        return register.publishVersion(cryptlet, _version(label), by, EXPIRY);
    }

    function _enrol(uint32 number, address by, uint64 expiry) private {
        vm.prank(publisher);
        register.enrolSigner(cryptlet, number, by, expiry);
    }

    function _expectRefused(CryptletRegister.Version memory version, bytes memory revertData) private {
        vm.prank(publisher);
        vm.expectRevert(revertData);
        register.publishVersion(cryptlet, version, second, EXPIRY);
    }

    function _expectNotEnrolled(uint32 number, address by, uint64 expiry, bytes memory revertData) private {
        vm.prank(publisher);
        vm.expectRevert(revertData);
        register.enrolSigner(cryptlet, number, by, expiry);
    }

    function _assertVersion(uint32 number, string memory label, bool revoked, uint256 publishedAt) private view {
        (CryptletRegister.Version memory version, bool isRevoked, uint64 at) = register.versionOf(cryptlet, number);
        vm.assertEq(abi.encode(version), abi.encode(_version(label)));
        vm.assertEq(isRevoked, revoked);
        vm.assertEq(at, publishedAt);
    }

    function _assertSigner(address by, uint32 version, uint64 expiry, bool revoked) private view {
        (uint32 itsVersion, uint64 itsExpiry, bool isRevoked) = register.signerOf(cryptlet, by);
        vm.assertEq(itsVersion, version);
        vm.assertEq(itsExpiry, expiry);
        vm.assertEq(isRevoked, revoked);
    }

    function _assertSigners(uint32 number, address first, address last) private view {
        address[] memory signers = new address[](2);
        (signers[0], signers[1]) = (first, last);
        vm.assertEq(abi.encode(register.signersOf(cryptlet, number)), abi.encode(signers));
    }

    function _one(address account) private pure returns (address[] memory accounts) {
        accounts = new address[](1);
        accounts[0] = account;
    }

    function _filled(uint256 length, bytes1 with) private pure returns (bytes memory text) {
        text = new bytes(length);
        for (uint256 i = 0; i < length; ++i) {
            text[i] = with;
        }
    }
}
