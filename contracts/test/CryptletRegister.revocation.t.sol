// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {IERC721} from "@openzeppelin/contracts/token/ERC721/IERC721.sol";
import {CryptletRegister} from "../src/CryptletRegister.sol";
import {ICryptletRegister} from "../src/ICryptletRegister.sol";
import {PolicyBoard} from "../src/PolicyBoard.sol";
import {RegisterTest} from "./support/RegisterTest.sol";

/**
 * @title CryptletRegisterRevocationTest
 * @notice Who controls a cryptlet, and that revocation counts at once, for all that it covers, and for ever.
 */
contract CryptletRegisterRevocationTest is RegisterTest {
    uint64 internal constant EXPIRY = uint64(NOW + 30 days);

    address internal publisher = _account("publisher");
    address internal stranger = _account("stranger");
    address internal revoker = _account("revoker");
    address internal signer = _account("signer");
    address internal second = _account("second signer");
    address internal third = _account("third signer");

    CryptletRegister internal register;
    address internal cryptlet;

    /// @dev Version 1 has `signer`, version 2 has `second` and `third`.
    function setUp() public {
        vm.warp(NOW);
        register = _newRegister();
        register.grantRole(register.REVOKER_ROLE(), revoker);
        vm.prank(publisher);
        cryptlet = register.register("market-watcher", _version("1"), signer, EXPIRY);
        vm.prank(publisher);
        register.publishVersion(cryptlet, _version("2"), second, EXPIRY);
        vm.prank(publisher);
        register.enrolSigner(cryptlet, 2, third, EXPIRY);
    }

    function testRevokeSigner() public {
        vm.expectEmit(address(register));
        emit ICryptletRegister.SignerRevoked(cryptlet, third);
        vm.prank(publisher);
        register.revokeSigner(cryptlet, third);

        vm.assertFalse(register.isSigner(cryptlet, third));
        vm.assertTrue(register.isSigner(cryptlet, second));
        vm.assertEq(register.publicKeyOf(cryptlet), second);
        _assertSigner(third, 2, 0, true);
    }

    function testRevokedSignerStaysRevoked() public {
        vm.prank(publisher);
        register.revokeSigner(cryptlet, third);
        bytes memory refusal = abi.encodeWithSelector(ICryptletRegister.SignerIsRevoked.selector, cryptlet, third);
        for (uint32 number = 1; number <= 2; ++number) {
            _expectOwner(abi.encodeCall(CryptletRegister.enrolSigner, (cryptlet, number, third, EXPIRY)), refusal);
        }
        _expectOwner(abi.encodeCall(CryptletRegister.revokeSigner, (cryptlet, third)), refusal);
        _expectOwner(abi.encodeCall(CryptletRegister.publishVersion, (cryptlet, _version("3"), third, EXPIRY)), refusal);
    }

    function testRevocationOfASignerIsPerCryptlet() public {
        vm.prank(publisher);
        address other = register.register("other", _version("1"), signer, EXPIRY);
        vm.prank(publisher);
        register.revokeSigner(cryptlet, signer);
        vm.assertTrue(register.isSigner(other, signer));
    }

    function testExpiredSignerCanBeRevoked() public {
        vm.warp(uint256(EXPIRY) + 1);
        vm.prank(publisher);
        register.revokeSigner(cryptlet, signer);
        _assertSigner(signer, 1, 0, true);
    }

    function testRevokeVersionRevokesItsSigners() public {
        vm.expectEmit(address(register));
        emit CryptletRegister.VersionRevoked(cryptlet, 2);
        vm.expectEmit(address(register));
        emit ICryptletRegister.SignerRevoked(cryptlet, second);
        vm.expectEmit(address(register));
        emit ICryptletRegister.SignerRevoked(cryptlet, third);
        vm.prank(publisher);
        register.revokeVersion(cryptlet, 2);

        vm.assertFalse(register.isSigner(cryptlet, second));
        vm.assertFalse(register.isSigner(cryptlet, third));
        vm.assertTrue(register.isSigner(cryptlet, signer));
        vm.assertEq(register.currentVersion(cryptlet), 1);
        vm.assertEq(register.publicKeyOf(cryptlet), signer);
        vm.assertEq(register.headerDigestOf(cryptlet), _version("1").headerDigest);
        (, bool revoked,) = register.versionOf(cryptlet, 2);
        vm.assertTrue(revoked);
        vm.assertTrue(register.isActive(cryptlet));
    }

    function testRevokedVersionStaysRevoked() public {
        vm.prank(publisher);
        register.revokeVersion(cryptlet, 2);
        bytes memory refusal = abi.encodeWithSelector(CryptletRegister.VersionIsRevoked.selector, cryptlet, 2);
        _expectOwner(abi.encodeCall(CryptletRegister.revokeVersion, (cryptlet, 2)), refusal);
        _expectOwner(abi.encodeCall(CryptletRegister.enrolSigner, (cryptlet, 2, stranger, EXPIRY)), refusal);
        _expectOwner(
            abi.encodeCall(CryptletRegister.enrolSigner, (cryptlet, 1, second, EXPIRY)),
            abi.encodeWithSelector(ICryptletRegister.SignerIsRevoked.selector, cryptlet, second)
        );
    }

    function testAllVersionsRevoked() public {
        vm.prank(publisher);
        register.revokeSigner(cryptlet, third);
        vm.prank(publisher);
        register.revokeVersion(cryptlet, 2);
        vm.prank(publisher);
        register.revokeVersion(cryptlet, 1);
        vm.assertEq(register.currentVersion(cryptlet), 0);
        vm.assertEq(register.publicKeyOf(cryptlet), address(0));
        vm.assertEq(register.headerDigestOf(cryptlet), bytes32(0));
        vm.assertEq(register.tokenURI(uint160(cryptlet)), "");

        vm.prank(publisher);
        vm.assertEq(register.publishVersion(cryptlet, _version("3"), stranger, EXPIRY), 3);
        vm.assertEq(register.currentVersion(cryptlet), 3);
    }

    function testRevokeCryptlet() public {
        vm.expectEmit(address(register));
        emit ICryptletRegister.CryptletRevoked(cryptlet);
        vm.prank(publisher);
        register.revokeCryptlet(cryptlet);

        vm.assertFalse(register.isSigner(cryptlet, signer));
        vm.assertFalse(register.isSigner(cryptlet, third));
        vm.assertFalse(register.isActive(cryptlet));
        vm.assertEq(register.currentVersion(cryptlet), 0);
        vm.assertEq(register.publicKeyOf(cryptlet), address(0));
        (,, bool revoked) = register.cryptletOf(cryptlet);
        vm.assertTrue(revoked);
        (, revoked,) = register.versionOf(cryptlet, 2);
        vm.assertTrue(revoked);
        _assertSigner(third, 2, 0, true);
    }

    function testRevokedCryptletStaysRevoked() public {
        vm.prank(publisher);
        register.revokeCryptlet(cryptlet);
        bytes memory refusal = abi.encodeWithSelector(ICryptletRegister.CryptletIsRevoked.selector, cryptlet);
        _expectOwner(abi.encodeCall(CryptletRegister.revokeCryptlet, (cryptlet)), refusal);
        _expectOwner(abi.encodeCall(CryptletRegister.enrolSigner, (cryptlet, 2, stranger, EXPIRY)), refusal);
        _expectOwner(
            abi.encodeCall(CryptletRegister.publishVersion, (cryptlet, _version("3"), stranger, EXPIRY)), refusal
        );
    }

    function testRevokerRevokes() public {
        vm.prank(revoker);
        register.revokeSigner(cryptlet, third);
        vm.prank(revoker);
        register.revokeVersion(cryptlet, 2);
        vm.prank(revoker);
        register.revokeCryptlet(cryptlet);
        vm.assertFalse(register.isActive(cryptlet));
    }

    function testRevokerDoesNothingElse() public {
        _expectNotTheOwner(revoker, abi.encodeCall(CryptletRegister.enrolSigner, (cryptlet, 1, stranger, EXPIRY)));
        _expectNotTheOwner(
            revoker, abi.encodeCall(CryptletRegister.publishVersion, (cryptlet, _version("3"), stranger, EXPIRY))
        );
    }

    function testWhoRevokesIsTheAdminsWord() public {
        bytes32 role = register.REVOKER_ROLE();
        vm.prank(stranger);
        vm.expectRevert(
            abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, stranger, bytes32(0))
        );
        register.grantRole(role, stranger);
        register.revokeRole(role, revoker);
        _expectNotTheOwner(revoker, abi.encodeCall(CryptletRegister.revokeCryptlet, (cryptlet)));
    }

    function testUnknownCryptletsAndSigners() public {
        bytes memory unknown = abi.encodeWithSelector(ICryptletRegister.UnknownCryptlet.selector, stranger);
        address[2] memory callers = [publisher, revoker];
        for (uint256 i = 0; i < callers.length; ++i) {
            _expect(callers[i], abi.encodeCall(CryptletRegister.revokeCryptlet, (stranger)), unknown);
            _expect(callers[i], abi.encodeCall(CryptletRegister.revokeVersion, (stranger, 1)), unknown);
            _expect(callers[i], abi.encodeCall(CryptletRegister.revokeSigner, (stranger, signer)), unknown);
            _expect(
                callers[i],
                abi.encodeCall(CryptletRegister.revokeSigner, (cryptlet, stranger)),
                abi.encodeWithSelector(CryptletRegister.UnknownSigner.selector, cryptlet, stranger)
            );
        }
        _expectOwner(abi.encodeCall(CryptletRegister.enrolSigner, (stranger, 1, signer, EXPIRY)), unknown);
        _expectOwner(
            abi.encodeCall(CryptletRegister.publishVersion, (stranger, _version("3"), signer, EXPIRY)), unknown
        );
        _expectOwner(abi.encodeCall(CryptletRegister.cryptletOf, (stranger)), unknown);
        _expectOwner(abi.encodeCall(CryptletRegister.versionCount, (stranger)), unknown);
        _expectOwner(abi.encodeCall(CryptletRegister.currentVersion, (stranger)), unknown);
        _expectOwner(abi.encodeCall(CryptletRegister.versionOf, (stranger, 1)), unknown);
        _expectOwner(abi.encodeCall(CryptletRegister.publicKeyOf, (stranger)), unknown);
        _expectOwner(abi.encodeCall(CryptletRegister.headerDigestOf, (stranger)), unknown);
        _expectOwner(abi.encodeCall(CryptletRegister.hostsOf, (stranger)), unknown);
        vm.assertFalse(register.isActive(stranger));
        _assertSigner(stranger, 0, 0, false);
    }

    function testStrangersControlNothing(address caller) public {
        vm.assume(caller != publisher && caller != revoker && caller != address(this));
        _expectControlsNothing(caller);
    }

    /// @dev An ERC-721 approval moves the token, and is no say in what the cryptlet is.
    function testApprovedControlNothing() public {
        vm.prank(publisher);
        register.approve(stranger, uint160(cryptlet));
        _expectControlsNothing(stranger);

        vm.prank(publisher);
        register.setApprovalForAll(third, true);
        _expectControlsNothing(third);

        vm.prank(stranger);
        register.transferFrom(publisher, stranger, uint160(cryptlet));
        vm.prank(stranger);
        register.revokeCryptlet(cryptlet);
    }

    function testTransferMovesControlAndLeavesSigners() public {
        vm.prank(publisher);
        register.transferFrom(publisher, stranger, uint160(cryptlet));
        vm.assertTrue(register.isSigner(cryptlet, signer));
        _expectControlsNothing(publisher);

        vm.prank(stranger);
        register.enrolSigner(cryptlet, 1, address(1), EXPIRY);
        vm.prank(stranger);
        register.revokeVersion(cryptlet, 2);
        (address by,,) = register.cryptletOf(cryptlet);
        vm.assertEq(by, publisher);
    }

    function testToken() public {
        vm.assertEq(register.name(), "Bletchley Cryptlet");
        vm.assertEq(register.symbol(), "CRYPTLET");
        vm.assertTrue(register.supportsInterface(type(IERC721).interfaceId));
        vm.assertTrue(register.supportsInterface(type(IAccessControl).interfaceId));
        vm.assertTrue(register.supportsInterface(type(ICryptletRegister).interfaceId));
        vm.assertFalse(register.supportsInterface(0xffffffff));
        vm.expectRevert(abi.encodeWithSelector(bytes4(keccak256("ERC721NonexistentToken(uint256)")), 1 << 160));
        register.tokenURI(1 << 160);
    }

    function testConstructor() public {
        vm.assertTrue(register.hasRole(0, address(this)));
        vm.assertTrue(register.hasRole(register.HOST_REGISTRAR_ROLE(), address(this)));
        vm.assertTrue(register.hasRole(register.REVOKER_ROLE(), address(this)));
        address[] memory administrators = new address[](1);
        administrators[0] = publisher;
        vm.expectRevert(abi.encodeWithSelector(PolicyBoard.InvalidAdministrator.selector, 0));
        new CryptletRegister(address(0), administrators, 1);
    }

    function _expectControlsNothing(address caller) private {
        _expectNotTheOwner(caller, abi.encodeCall(CryptletRegister.enrolSigner, (cryptlet, 1, address(1), EXPIRY)));
        _expectNotTheOwner(
            caller, abi.encodeCall(CryptletRegister.publishVersion, (cryptlet, _version("3"), address(1), EXPIRY))
        );
        _expectNotTheOwner(caller, abi.encodeCall(CryptletRegister.revokeSigner, (cryptlet, signer)));
        _expectNotTheOwner(caller, abi.encodeCall(CryptletRegister.revokeVersion, (cryptlet, 1)));
        _expectNotTheOwner(caller, abi.encodeCall(CryptletRegister.revokeCryptlet, (cryptlet)));
    }

    function _expectNotTheOwner(address caller, bytes memory data) private {
        _expect(caller, data, abi.encodeWithSelector(CryptletRegister.NotTheOwner.selector, cryptlet, caller));
    }

    function _expectOwner(bytes memory data, bytes memory revertData) private {
        _expect(publisher, data, revertData);
    }

    function _expect(address caller, bytes memory data, bytes memory revertData) private {
        vm.prank(caller);
        (bool success, bytes memory reason) = address(register).call(data);
        vm.assertFalse(success);
        vm.assertEq(reason, revertData);
    }

    function _assertSigner(address by, uint32 version, uint64 expiry, bool revoked) private view {
        (uint32 itsVersion, uint64 itsExpiry, bool isRevoked) = register.signerOf(cryptlet, by);
        vm.assertEq(itsVersion, version);
        vm.assertEq(itsExpiry, expiry);
        vm.assertEq(isRevoked, revoked);
    }
}
