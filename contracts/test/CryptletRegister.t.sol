// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC721Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {CryptletRegister} from "../src/CryptletRegister.sol";
import {Test} from "./support/Test.sol";

/**
 * @title CryptletRegisterTest
 * @notice Every event and every error of the register, and who may do what.
 */
contract CryptletRegisterTest is Test {
    uint256 internal constant NOW = 1_792_137_600;
    uint64 internal constant EXPIRY = uint64(NOW + 30 days);

    address internal publisher = _account("publisher");
    address internal stranger = _account("stranger");
    address internal signer = _account("signer");
    address internal second = _account("second signer");

    CryptletRegister internal register;
    address internal cryptlet;

    function setUp() public {
        vm.warp(NOW);
        register = new CryptletRegister();
        cryptlet = _register("market-watcher");
    }

    function testRegisterMintsAndEnrols() public {
        address expected = register.cryptletId(publisher, "other");
        vm.expectEmit(address(register));
        emit CryptletRegister.CryptletRegistered(expected, publisher, "other");
        vm.expectEmit(address(register));
        emit CryptletRegister.SignerEnrolled(expected, signer, EXPIRY);
        vm.assertEq(_register("other"), expected);

        (address by, string memory name, bool revoked) = register.cryptletOf(expected);
        vm.assertEq(by, publisher);
        vm.assertEq(name, "other");
        vm.assertFalse(revoked);
        vm.assertEq(register.ownerOf(uint160(expected)), publisher);
        vm.assertTrue(register.isActive(expected));
        vm.assertTrue(register.isSigner(expected, signer));
        vm.assertEq(register.latestSigner(expected), signer);
    }

    function testToken() public view {
        vm.assertEq(register.name(), "Bletchley Cryptlet");
        vm.assertEq(register.symbol(), "CRYPTLET");
    }

    function testIdIsDerivedFromPublisherAndName(address by, string calldata name) public view {
        bytes32 hash = keccak256(abi.encode(by, name));
        vm.assertEq(register.cryptletId(by, name), address(uint160(uint256(hash))));
    }

    function testNamesAreThePublishersOwn() public {
        vm.prank(stranger);
        address other = register.register("market-watcher", signer, EXPIRY);
        vm.assertTrue(other != cryptlet);
    }

    function testRefusesSameNameTwice() public {
        vm.expectRevert(abi.encodeWithSelector(CryptletRegister.CryptletExists.selector, cryptlet));
        _register("market-watcher");
    }

    function testRefusesSameNameAfterTransfer() public {
        vm.prank(publisher);
        register.transferFrom(publisher, stranger, uint160(cryptlet));
        vm.expectRevert(abi.encodeWithSelector(CryptletRegister.CryptletExists.selector, cryptlet));
        _register("market-watcher");
    }

    function testNames() public {
        _register("a");
        _register("0-z");
        _register("0123456789012345678901234567890123456789012345678901234567890123");
        string[8] memory invalid = [
            "",
            "01234567890123456789012345678901234567890123456789012345678901234",
            "Upper",
            "under_score",
            "dot.dot",
            "white space",
            unicode"größe",
            "a/b"
        ];
        for (uint256 i = 0; i < invalid.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(CryptletRegister.InvalidName.selector, invalid[i]));
            _register(invalid[i]);
        }
    }

    /// @dev Each byte that is not in the alphabet is refused, each that is is taken.
    function testEveryByteOfANames() public {
        bytes memory alphabet = "abcdefghijklmnopqrstuvwxyz0123456789-";
        for (uint256 byteValue = 0; byteValue < 256; ++byteValue) {
            bool allowed;
            for (uint256 i = 0; i < alphabet.length; ++i) {
                allowed = allowed || uint8(alphabet[i]) == byteValue;
            }
            string memory name = string(abi.encodePacked("x", uint8(byteValue)));
            if (!allowed) vm.expectRevert(abi.encodeWithSelector(CryptletRegister.InvalidName.selector, name));
            _register(name);
        }
    }

    function testRegisterChecksItsSigner() public {
        vm.expectRevert(abi.encodeWithSelector(CryptletRegister.InvalidSigner.selector, address(0)));
        register.register("other", address(0), EXPIRY);
        vm.expectRevert(abi.encodeWithSelector(CryptletRegister.ExpiryInThePast.selector, uint64(NOW - 1)));
        register.register("other", signer, uint64(NOW - 1));
    }

    function testSignerIsValidUpToItsExpiry() public {
        vm.warp(EXPIRY);
        vm.assertTrue(register.isSigner(cryptlet, signer));
        vm.warp(uint256(EXPIRY) + 1);
        vm.assertFalse(register.isSigner(cryptlet, signer));
    }

    function testNobodyElseIsASigner(address other) public view {
        vm.assume(other != signer);
        vm.assertFalse(register.isSigner(cryptlet, other));
        vm.assertFalse(register.isSigner(other, signer));
        vm.assertFalse(register.isSigner(cryptlet, address(0)));
    }

    function testEnrolSigner() public {
        vm.expectEmit(address(register));
        emit CryptletRegister.SignerEnrolled(cryptlet, second, EXPIRY);
        vm.prank(publisher);
        register.enrolSigner(cryptlet, second, EXPIRY);

        vm.assertTrue(register.isSigner(cryptlet, second));
        vm.assertTrue(register.isSigner(cryptlet, signer));
        vm.assertEq(register.latestSigner(cryptlet), second);
        (uint64 expiry, bool revoked) = register.signerOf(cryptlet, second);
        vm.assertEq(expiry, EXPIRY);
        vm.assertFalse(revoked);
    }

    function testEnrolAgainMovesTheExpiry() public {
        vm.warp(uint256(EXPIRY) + 1);
        vm.prank(publisher);
        register.enrolSigner(cryptlet, signer, EXPIRY + 10);
        vm.assertTrue(register.isSigner(cryptlet, signer));
    }

    function testEnrolRefusals() public {
        vm.expectRevert(abi.encodeWithSelector(CryptletRegister.UnknownCryptlet.selector, stranger));
        register.enrolSigner(stranger, second, EXPIRY);

        vm.prank(publisher);
        vm.expectRevert(abi.encodeWithSelector(CryptletRegister.InvalidSigner.selector, address(0)));
        register.enrolSigner(cryptlet, address(0), EXPIRY);

        vm.prank(publisher);
        vm.expectRevert(abi.encodeWithSelector(CryptletRegister.ExpiryInThePast.selector, uint64(NOW - 1)));
        register.enrolSigner(cryptlet, second, uint64(NOW - 1));
    }

    function testRevokeSigner() public {
        vm.expectEmit(address(register));
        emit CryptletRegister.SignerRevoked(cryptlet, signer);
        vm.prank(publisher);
        register.revokeSigner(cryptlet, signer);

        vm.assertFalse(register.isSigner(cryptlet, signer));
        (uint64 expiry, bool revoked) = register.signerOf(cryptlet, signer);
        vm.assertEq(expiry, 0);
        vm.assertTrue(revoked);
    }

    function testRevokedSignerStaysRevoked() public {
        vm.prank(publisher);
        register.revokeSigner(cryptlet, signer);

        bytes memory refusal = abi.encodeWithSelector(CryptletRegister.SignerIsRevoked.selector, cryptlet, signer);
        vm.prank(publisher);
        vm.expectRevert(refusal);
        register.enrolSigner(cryptlet, signer, EXPIRY);
        vm.prank(publisher);
        vm.expectRevert(refusal);
        register.revokeSigner(cryptlet, signer);
    }

    function testRevocationOfASignerIsPerCryptlet() public {
        address other = _register("other");
        vm.prank(publisher);
        register.revokeSigner(cryptlet, signer);
        vm.assertTrue(register.isSigner(other, signer));
    }

    function testRevokeSignerRefusals() public {
        vm.expectRevert(abi.encodeWithSelector(CryptletRegister.UnknownCryptlet.selector, stranger));
        register.revokeSigner(stranger, signer);
        vm.prank(publisher);
        vm.expectRevert(abi.encodeWithSelector(CryptletRegister.UnknownSigner.selector, cryptlet, second));
        register.revokeSigner(cryptlet, second);
    }

    function testRevokeCryptlet() public {
        vm.expectEmit(address(register));
        emit CryptletRegister.CryptletRevoked(cryptlet);
        vm.prank(publisher);
        register.revokeCryptlet(cryptlet);

        vm.assertFalse(register.isSigner(cryptlet, signer));
        vm.assertFalse(register.isActive(cryptlet));
        (,, bool revoked) = register.cryptletOf(cryptlet);
        vm.assertTrue(revoked);
    }

    function testRevokedCryptletStaysRevoked() public {
        vm.prank(publisher);
        register.revokeCryptlet(cryptlet);

        bytes memory refusal = abi.encodeWithSelector(CryptletRegister.CryptletIsRevoked.selector, cryptlet);
        vm.prank(publisher);
        vm.expectRevert(refusal);
        register.revokeCryptlet(cryptlet);
        vm.prank(publisher);
        vm.expectRevert(refusal);
        register.enrolSigner(cryptlet, second, EXPIRY);
    }

    function testRevokeUnknownCryptlet() public {
        vm.expectRevert(abi.encodeWithSelector(CryptletRegister.UnknownCryptlet.selector, stranger));
        register.revokeCryptlet(stranger);
    }

    function testStrangersControlNothing(address caller) public {
        vm.assume(caller != publisher);
        bytes memory refusal = abi.encodeWithSelector(
            IERC721Errors.ERC721InsufficientApproval.selector, caller, uint256(uint160(cryptlet))
        );
        vm.prank(caller);
        vm.expectRevert(refusal);
        register.enrolSigner(cryptlet, second, EXPIRY);
        vm.prank(caller);
        vm.expectRevert(refusal);
        register.revokeSigner(cryptlet, signer);
        vm.prank(caller);
        vm.expectRevert(refusal);
        register.revokeCryptlet(cryptlet);
    }

    function testTransferMovesControlAndLeavesSigners() public {
        vm.prank(publisher);
        register.transferFrom(publisher, stranger, uint160(cryptlet));
        vm.assertTrue(register.isSigner(cryptlet, signer));

        vm.prank(stranger);
        register.enrolSigner(cryptlet, second, EXPIRY);
        vm.prank(publisher);
        vm.expectRevert(
            abi.encodeWithSelector(
                IERC721Errors.ERC721InsufficientApproval.selector, publisher, uint256(uint160(cryptlet))
            )
        );
        register.revokeSigner(cryptlet, second);
    }

    function testApprovedMayControl() public {
        vm.prank(publisher);
        register.approve(stranger, uint160(cryptlet));
        vm.prank(stranger);
        register.revokeSigner(cryptlet, signer);

        vm.prank(publisher);
        register.setApprovalForAll(second, true);
        vm.prank(second);
        register.revokeCryptlet(cryptlet);
    }

    function testViewsOfUnknownCryptlets() public {
        vm.assertFalse(register.isActive(stranger));
        vm.expectRevert(abi.encodeWithSelector(CryptletRegister.UnknownCryptlet.selector, stranger));
        register.cryptletOf(stranger);
        vm.expectRevert(abi.encodeWithSelector(CryptletRegister.UnknownCryptlet.selector, stranger));
        register.latestSigner(stranger);
        (uint64 expiry, bool revoked) = register.signerOf(cryptlet, stranger);
        vm.assertEq(expiry, 0);
        vm.assertFalse(revoked);
    }

    function _register(string memory name) private returns (address) {
        vm.prank(publisher);
        return register.register(name, signer, EXPIRY);
    }
}
