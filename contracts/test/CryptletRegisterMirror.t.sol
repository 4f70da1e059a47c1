// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {CryptletRegisterMirror} from "../src/CryptletRegisterMirror.sol";
import {CryptoDelegate} from "../src/CryptoDelegate.sol";
import {ICryptletRegister} from "../src/ICryptletRegister.sol";
import {StoreWord} from "./consumers/StoreWord.sol";
import {DelegateTest} from "./support/DelegateTest.sol";
import {Vm} from "./support/Vm.sol";

/**
 * @title CryptletRegisterMirrorTest
 * @notice A mirror serves delegates and consumers as the register does, and never says more than it was told.
 */
contract CryptletRegisterMirrorTest is DelegateTest {
    address internal syncer = _account("syncer");
    address internal stranger = _account("stranger");
    address internal host = _account("host");

    /// Longer than {SIGNER_EXPIRY} is away, save in the tests of what it bounds.
    uint64 internal constant MAX_AGE = 400 days;

    /// Block of the register's chain that the next copy is of.
    uint64 internal sourceBlock = 100;

    CryptletRegisterMirror internal mirror;

    function setUp() public override {
        super.setUp();
        _create(MAX_AGE);
    }

    function _create(uint64 maxAge) private {
        mirror = new CryptletRegisterMirror(address(this), 7, address(register), maxAge);
        mirror.grantRole(mirror.SYNC_ROLE(), syncer);
        delegate = new CryptoDelegate(mirror);
    }

    function testMirrorsACryptlet() public {
        vm.assertFalse(mirror.isActive(cryptlet));
        vm.expectEmit(address(mirror));
        emit CryptletRegisterMirror.CryptletMirrored(cryptlet, _record(), sourceBlock);
        _mirror(_record());
        _mirrorSigner(SIGNER_EXPIRY, false);

        (address by, string memory name, bool revoked) = mirror.cryptletOf(cryptlet);
        vm.assertEq(by, publisher);
        vm.assertEq(name, "market-watcher");
        vm.assertFalse(revoked);
        vm.assertTrue(mirror.isActive(cryptlet));
        vm.assertEq(mirror.ownerOf(uint160(cryptlet)), publisher);
        vm.assertEq(mirror.publicKeyOf(cryptlet), signer);
        vm.assertEq(mirror.headerDigestOf(cryptlet), _version("1.0.0").headerDigest);
        vm.assertEq(abi.encode(mirror.hostsOf(cryptlet)), abi.encode(_record().hosts));
        (uint256 chainId, address source) = mirror.source();
        vm.assertEq(chainId, 7);
        vm.assertEq(source, address(register));
        vm.assertEq(mirror.maxAge(), MAX_AGE);
        vm.assertEq(mirror.sourceBlockOf(cryptlet), sourceBlock);
        _assertSigner(SIGNER_EXPIRY, false, sourceBlock);
        vm.assertTrue(mirror.supportsInterface(type(ICryptletRegister).interfaceId));
        vm.assertTrue(mirror.supportsInterface(type(IAccessControl).interfaceId));
    }

    /// @dev From subscribing to the callback, with a delegate that knows the mirror only.
    function testDelegateAndConsumerUseAMirror() public {
        _mirror(_record());
        _mirrorSigner(SIGNER_EXPIRY, false);
        StoreWord consumer = new StoreWord(delegate, cryptlet, 100_000);
        vm.assertEq(consumer.name(), "market-watcher");
        vm.assertEq(consumer.publicKey(), signer);
        vm.assertEq(consumer.attestedHost(), host);
        _deliver(_report(consumer, 42));
        vm.assertEq(consumer.word(), 42);

        CryptoDelegate.Report memory report = _report(consumer, 43);
        _mirrorSigner(0, true);
        _expectRefusal(report, abi.encodeWithSelector(CryptoDelegate.SignerNotEnrolled.selector, cryptlet, signer));
    }

    function testSignerIsValidUpToItsExpiry() public {
        _mirror(_record());
        vm.expectEmit(address(mirror));
        emit CryptletRegisterMirror.SignerMirrored(cryptlet, signer, uint64(NOW + 10), sourceBlock);
        _mirrorSigner(uint64(NOW + 10), false);
        vm.warp(NOW + 10);
        vm.assertTrue(mirror.isSigner(cryptlet, signer));
        vm.warp(NOW + 11);
        vm.assertFalse(mirror.isSigner(cryptlet, signer));
        vm.assertEq(mirror.publicKeyOf(cryptlet), address(0));
    }

    function testRevokedSignerStaysRevoked(uint64 expiry) public {
        _mirror(_record());
        _mirrorSigner(SIGNER_EXPIRY, false);
        vm.expectEmit(address(mirror));
        emit ICryptletRegister.SignerRevoked(cryptlet, signer);
        _mirrorSigner(expiry, true);
        vm.assertFalse(mirror.isSigner(cryptlet, signer));
        vm.assertEq(mirror.publicKeyOf(cryptlet), address(0));

        vm.prank(syncer);
        vm.expectRevert(abi.encodeWithSelector(ICryptletRegister.SignerIsRevoked.selector, cryptlet, signer));
        mirror.mirrorSigner(cryptlet, signer, SIGNER_EXPIRY, false, sourceBlock);
        _mirrorSigner(expiry, true);
        vm.assertFalse(mirror.isSigner(cryptlet, signer));
        _assertSigner(0, true, sourceBlock);
    }

    /// @dev What nobody copies again counts no longer than the mirror's longest age, however late it expires.
    function testACopyCountsForTheLongestAge() public {
        _create(7 days);
        _mirror(_record());
        vm.expectEmit(address(mirror));
        emit CryptletRegisterMirror.SignerMirrored(cryptlet, signer, uint64(NOW + 7 days), sourceBlock);
        _mirrorSigner(SIGNER_EXPIRY, false);
        StoreWord consumer = new StoreWord(delegate, cryptlet, 100_000);
        vm.warp(NOW + 7 days);
        vm.assertEq(mirror.publicKeyOf(cryptlet), signer);
        _deliver(_report(consumer, 42));

        vm.warp(NOW + 7 days + 1);
        CryptoDelegate.Report memory report = _report(consumer, 43);
        _expectRefusal(report, abi.encodeWithSelector(CryptoDelegate.SignerNotEnrolled.selector, cryptlet, signer));
        vm.assertEq(mirror.publicKeyOf(cryptlet), address(0));
        _mirrorSigner(SIGNER_EXPIRY, false);
        _assertSigner(uint64(NOW + 14 days + 1), false, sourceBlock);
        _deliver(report);
        vm.assertEq(consumer.word(), 43);
    }

    /// @dev Never later than the register says, nor than the longest age allows.
    function testTheEarlierOfExpiryAndAgeCounts(uint64 maxAge, uint64 expiry, uint64 time) public {
        _create(uint64(_bound(maxAge, 1, type(uint64).max)));
        vm.warp(_bound(time, NOW, type(uint64).max));
        _mirror(_record());
        _mirrorSigner(expiry, false);
        uint256 latest = block.timestamp + mirror.maxAge();
        _assertSigner(latest < expiry ? uint64(latest) : expiry, false, sourceBlock);
        vm.assertEq(mirror.isSigner(cryptlet, signer), expiry >= block.timestamp);
    }

    /// @dev Revoked before it was ever copied as valid.
    function testSignerThatWasRevokedFromTheStart() public {
        _mirror(_record());
        _mirrorSigner(SIGNER_EXPIRY, true);
        vm.assertFalse(mirror.isSigner(cryptlet, signer));
    }

    function testRevokedCryptletStaysRevoked() public {
        _mirror(_record());
        _mirrorSigner(SIGNER_EXPIRY, false);
        CryptletRegisterMirror.Record memory record = _record();
        record.revoked = true;
        vm.expectEmit(address(mirror));
        emit CryptletRegisterMirror.CryptletMirrored(cryptlet, record, sourceBlock);
        vm.expectEmit(address(mirror));
        emit ICryptletRegister.CryptletRevoked(cryptlet);
        _mirror(record);

        vm.assertFalse(mirror.isActive(cryptlet));
        vm.assertFalse(mirror.isSigner(cryptlet, signer));
        vm.assertEq(mirror.publicKeyOf(cryptlet), address(0));
        vm.assertEq(mirror.headerDigestOf(cryptlet), bytes32(0));
        _refused(_record(), abi.encodeWithSelector(ICryptletRegister.CryptletIsRevoked.selector, cryptlet));

        record.owner = stranger;
        _mirror(record);
        vm.assertEq(mirror.ownerOf(uint160(cryptlet)), stranger);
        _mirrorSigner(SIGNER_EXPIRY, false);
        vm.assertFalse(mirror.isSigner(cryptlet, signer));
    }

    /// @dev An id is made of publisher and name: neither can be passed off as another's.
    function testInvalidRecords(address other, string memory name) public {
        bytes memory invalid = abi.encodeWithSelector(CryptletRegisterMirror.InvalidRecord.selector, cryptlet);
        CryptletRegisterMirror.Record memory record = _record();
        vm.assume(other != publisher && keccak256(bytes(name)) != keccak256(bytes(record.name)));
        record.publisher = other;
        _refused(record, invalid);
        record = _record();
        record.name = name;
        _refused(record, invalid);
        record = _record();
        record.owner = address(0);
        _refused(record, invalid);
        record = _record();
        record.hosts = new address[](17);
        _refused(record, invalid);
    }

    function testNobodyRegistersNothing() public {
        CryptletRegisterMirror.Record memory record = _record();
        record.publisher = address(0);
        address id = register.cryptletId(address(0), record.name);
        vm.prank(syncer);
        vm.expectRevert(abi.encodeWithSelector(CryptletRegisterMirror.InvalidRecord.selector, id));
        mirror.mirrorCryptlet(id, record, sourceBlock);
    }

    function testSignerRefusals() public {
        vm.prank(syncer);
        vm.expectRevert(abi.encodeWithSelector(ICryptletRegister.UnknownCryptlet.selector, cryptlet));
        mirror.mirrorSigner(cryptlet, signer, SIGNER_EXPIRY, false, sourceBlock);
        _mirror(_record());
        vm.prank(syncer);
        vm.expectRevert(abi.encodeWithSelector(ICryptletRegister.InvalidSigner.selector, address(0)));
        mirror.mirrorSigner(cryptlet, address(0), SIGNER_EXPIRY, false, sourceBlock);
    }

    function testOnlyTheSyncRoleWrites(address caller) public {
        vm.assume(caller != syncer && caller != address(this));
        bytes memory refusal = abi.encodeWithSelector(
            IAccessControl.AccessControlUnauthorizedAccount.selector, caller, keccak256("SYNC_ROLE")
        );
        CryptletRegisterMirror.Record memory record = _record();
        vm.prank(caller);
        vm.expectRevert(refusal);
        mirror.mirrorCryptlet(cryptlet, record, sourceBlock);
        vm.prank(caller);
        vm.expectRevert(refusal);
        mirror.mirrorSigner(cryptlet, signer, SIGNER_EXPIRY, false, sourceBlock);
    }

    function testUnknownCryptlets() public {
        bytes memory unknown = abi.encodeWithSelector(ICryptletRegister.UnknownCryptlet.selector, stranger);
        bytes[6] memory calls = [
            abi.encodeCall(ICryptletRegister.cryptletOf, (stranger)),
            abi.encodeCall(ICryptletRegister.publicKeyOf, (stranger)),
            abi.encodeCall(ICryptletRegister.headerDigestOf, (stranger)),
            abi.encodeCall(ICryptletRegister.hostsOf, (stranger)),
            abi.encodeCall(CryptletRegisterMirror.sourceBlockOf, (stranger)),
            abi.encodeCall(ICryptletRegister.ownerOf, (uint160(stranger)))
        ];
        for (uint256 i = 0; i < calls.length; ++i) {
            (bool success, bytes memory reason) = address(mirror).call(calls[i]);
            vm.assertFalse(success);
            vm.assertEq(reason, unknown);
        }
        vm.assertFalse(mirror.isActive(stranger));
        vm.assertFalse(mirror.isSigner(stranger, signer));
    }

    /// @dev A token number is an id and nothing above it.
    function testOwnerOfTokensThatAreNoId() public {
        _mirror(_record());
        vm.expectRevert(abi.encodeWithSelector(ICryptletRegister.UnknownCryptlet.selector, cryptlet));
        mirror.ownerOf(uint160(cryptlet) | 1 << 160);
    }

    function testConstructorRefusals() public {
        bytes memory refusal = abi.encodeWithSelector(CryptletRegisterMirror.InvalidSource.selector);
        vm.expectRevert(refusal);
        new CryptletRegisterMirror(address(0), 7, address(register), MAX_AGE);
        vm.expectRevert(refusal);
        new CryptletRegisterMirror(address(this), 0, address(register), MAX_AGE);
        vm.expectRevert(refusal);
        new CryptletRegisterMirror(address(this), 7, address(0), MAX_AGE);
        vm.expectRevert(abi.encodeWithSelector(CryptletRegisterMirror.InvalidMaxAge.selector));
        new CryptletRegisterMirror(address(this), 7, address(register), 0);
    }

    /// @dev What arrives late changes nothing, though it was true once.
    function testStaleCopiesAreRefused(uint64 older) public {
        older = uint64(_bound(older, 0, sourceBlock - 1));
        CryptletRegisterMirror.Record memory record = _record();
        record.owner = stranger;
        record.hosts = new address[](0);
        _mirror(record);
        _mirrorSigner(uint64(NOW + 10), false);

        sourceBlock = older;
        _refused(_record(), _stale(100, older));
        _signerRefused(SIGNER_EXPIRY, _stale(100, older));
        vm.assertEq(mirror.ownerOf(uint160(cryptlet)), stranger);
        vm.assertEq(mirror.hostsOf(cryptlet).length, 0);
        vm.assertEq(mirror.sourceBlockOf(cryptlet), 100);
        _assertSigner(uint64(NOW + 10), false, 100);
    }

    function testCopiesOfTheSameOrALaterBlockAreTaken(uint64 later) public {
        _mirror(_record());
        _mirrorSigner(uint64(NOW + 10), false);
        _mirror(_record());
        _mirrorSigner(uint64(NOW + 20), false);
        sourceBlock = uint64(_bound(later, 101, type(uint64).max));
        CryptletRegisterMirror.Record memory record = _record();
        record.owner = stranger;
        _mirror(record);
        _mirrorSigner(SIGNER_EXPIRY, false);
        vm.assertEq(mirror.ownerOf(uint160(cryptlet)), stranger);
        vm.assertEq(mirror.sourceBlockOf(cryptlet), sourceBlock);
        _assertSigner(SIGNER_EXPIRY, false, sourceBlock);

        uint64 last = sourceBlock--;
        _refused(_record(), _stale(last, sourceBlock));
        _signerRefused(SIGNER_EXPIRY, _stale(last, sourceBlock));
    }

    /// @dev A cryptlet and each of its signers are copied apart.
    function testBlocksAreOfOneCryptletOrSigner() public {
        _mirror(_record());
        _mirrorSigner(SIGNER_EXPIRY, false);
        vm.prank(syncer);
        mirror.mirrorSigner(cryptlet, stranger, SIGNER_EXPIRY, false, 1);
        vm.assertTrue(mirror.isSigner(cryptlet, stranger));
        CryptletRegisterMirror.Record memory other = _record();
        other.name = "other";
        vm.prank(syncer);
        mirror.mirrorCryptlet(register.cryptletId(publisher, "other"), other, 1);
    }

    /// @dev A block that was given too high shuts out what is valid, and never a revocation, which stays final.
    function testRevocationIsTakenFromAnyBlock(uint64 block_) public {
        sourceBlock = type(uint64).max;
        _mirror(_record());
        _mirrorSigner(SIGNER_EXPIRY, false);

        sourceBlock = uint64(_bound(block_, 0, type(uint64).max - 1));
        _signerRefused(SIGNER_EXPIRY, _stale(type(uint64).max, sourceBlock));
        _mirrorSigner(0, true);
        vm.assertFalse(mirror.isSigner(cryptlet, signer));
        _assertSigner(0, true, type(uint64).max);
        CryptletRegisterMirror.Record memory record = _record();
        record.revoked = true;
        _mirror(record);
        vm.assertFalse(mirror.isActive(cryptlet));

        sourceBlock = type(uint64).max;
        _signerRefused(
            SIGNER_EXPIRY, abi.encodeWithSelector(ICryptletRegister.SignerIsRevoked.selector, cryptlet, signer)
        );
        _refused(_record(), abi.encodeWithSelector(ICryptletRegister.CryptletIsRevoked.selector, cryptlet));
    }

    /// @dev A revocation that arrives late brings nothing else of its time.
    function testOlderRevocationLeavesWhatIsNewer(uint64 older) public {
        CryptletRegisterMirror.Record memory record = _record();
        record.owner = stranger;
        _mirror(record);
        _mirrorSigner(SIGNER_EXPIRY, false);

        sourceBlock = uint64(_bound(older, 0, 99));
        record = _record();
        record.hosts = new address[](0);
        record.revoked = true;
        vm.recordLogs();
        _mirror(record);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs.length, 1);
        vm.assertEq(logs[0].topics[0], ICryptletRegister.CryptletRevoked.selector);
        (,, bool revoked) = mirror.cryptletOf(cryptlet);
        vm.assertTrue(revoked);
        vm.assertFalse(mirror.isActive(cryptlet));
        vm.assertFalse(mirror.isSigner(cryptlet, signer));
        vm.assertEq(mirror.headerDigestOf(cryptlet), bytes32(0));
        vm.assertEq(mirror.ownerOf(uint160(cryptlet)), stranger);
        vm.assertEq(mirror.hostsOf(cryptlet).length, 2);
        vm.assertEq(mirror.sourceBlockOf(cryptlet), 100);
        _refused(record, _stale(100, sourceBlock));
    }

    /// @dev Once revoked, a cryptlet's owner and hosts are still those of the latest block.
    function testStaleCopiesOfARevokedCryptletAreRefused() public {
        CryptletRegisterMirror.Record memory record = _record();
        record.revoked = true;
        record.owner = stranger;
        _mirror(record);
        record.owner = publisher;
        sourceBlock = 99;
        _refused(record, _stale(100, 99));
        vm.assertEq(mirror.ownerOf(uint160(cryptlet)), stranger);
    }

    /// @dev In whatever order copies arrive, what is here is of the latest block, or revoked.
    function testOrderOfCopiesDoesNotMatter(uint256 seed) public {
        _mirror(_record());
        uint64 latest;
        uint64 expiry;
        bool revoked;
        for (uint256 i = 0; i < 16; ++i) {
            sourceBlock = uint64(seed & 15);
            bool revoke = seed & 0x1F0 == 0;
            vm.prank(syncer);
            try mirror.mirrorSigner(cryptlet, signer, uint64(NOW + sourceBlock), revoke, sourceBlock) {
                revoked = revoke;
                if (sourceBlock > latest) latest = sourceBlock;
                expiry = revoked ? 0 : uint64(NOW + sourceBlock);
            } catch {
                vm.assertTrue(!revoke && (revoked || sourceBlock < latest));
            }
            _assertSigner(expiry, revoked, latest);
            seed >>= 9;
        }
    }

    /// @dev After any copies of one cryptlet and signer, what was ever revoked is.
    function testNeverWidens(uint256 seed) public {
        bool cryptletRevoked;
        bool signerRevoked;
        _mirror(_record());
        for (uint256 i = 0; i < 16; ++i) {
            bool revoke = seed & 6 == 0;
            if (seed & 1 == 0) {
                CryptletRegisterMirror.Record memory record = _record();
                record.revoked = revoke;
                vm.prank(syncer);
                try mirror.mirrorCryptlet(cryptlet, record, sourceBlock) {
                    vm.assertTrue(revoke || !cryptletRevoked);
                    cryptletRevoked = revoke;
                } catch {
                    vm.assertTrue(cryptletRevoked && !revoke);
                }
            } else {
                vm.prank(syncer);
                try mirror.mirrorSigner(cryptlet, signer, SIGNER_EXPIRY, revoke, sourceBlock) {
                    vm.assertTrue(revoke || !signerRevoked);
                    signerRevoked = revoke;
                    vm.assertEq(mirror.isSigner(cryptlet, signer), !cryptletRevoked && !signerRevoked);
                } catch {
                    vm.assertTrue(signerRevoked && !revoke);
                }
            }
            vm.assertEq(mirror.isActive(cryptlet), !cryptletRevoked);
            if (cryptletRevoked || signerRevoked) vm.assertFalse(mirror.isSigner(cryptlet, signer));
            seed >>= 3;
        }
    }

    function _assertSigner(uint64 expiry, bool revoked, uint64 readAt) private view {
        (uint64 itsExpiry, bool itsRevoked, uint64 itsBlock) = mirror.signerOf(cryptlet, signer);
        vm.assertEq(itsExpiry, expiry);
        vm.assertEq(itsRevoked, revoked);
        vm.assertEq(itsBlock, readAt);
    }

    function _stale(uint64 recorded, uint64 given) private pure returns (bytes memory) {
        return abi.encodeWithSelector(CryptletRegisterMirror.StaleCopy.selector, recorded, given);
    }

    function _record() private view returns (CryptletRegisterMirror.Record memory) {
        address[] memory hosts = new address[](2);
        hosts[0] = host;
        hosts[1] = stranger;
        return CryptletRegisterMirror.Record({
            publisher: publisher,
            owner: publisher,
            name: "market-watcher",
            revoked: false,
            publicKey: signer,
            headerDigest: _version("1.0.0").headerDigest,
            hosts: hosts
        });
    }

    function _mirror(CryptletRegisterMirror.Record memory record) private {
        vm.prank(syncer);
        mirror.mirrorCryptlet(cryptlet, record, sourceBlock);
    }

    function _mirrorSigner(uint64 expiry, bool revoked) private {
        vm.prank(syncer);
        mirror.mirrorSigner(cryptlet, signer, expiry, revoked, sourceBlock);
    }

    function _signerRefused(uint64 expiry, bytes memory revertData) private {
        vm.prank(syncer);
        vm.expectRevert(revertData);
        mirror.mirrorSigner(cryptlet, signer, expiry, false, sourceBlock);
    }

    function _refused(CryptletRegisterMirror.Record memory record, bytes memory revertData) private {
        vm.prank(syncer);
        vm.expectRevert(revertData);
        mirror.mirrorCryptlet(cryptlet, record, sourceBlock);
    }
}
