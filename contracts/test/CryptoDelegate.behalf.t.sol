// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {CryptletProxy} from "../src/CryptletProxy.sol";
import {CryptoDelegate} from "../src/CryptoDelegate.sol";
import {Delegations} from "../src/Delegations.sol";
import {Caller} from "./consumers/Caller.sol";
import {IdentityConsumer} from "./consumers/IdentityConsumer.sol";
import {StoreWord} from "./consumers/StoreWord.sol";
import {DelegateTest} from "./support/DelegateTest.sol";
import {HostileWallet} from "./support/HostileWallet.sol";
import {Signatures} from "./support/Signatures.sol";
import {Wallet} from "./support/Wallet.sol";

/**
 * @title CryptoDelegateBehalfTest
 * @notice Reports on an identity's behalf: which delegations count, and what a consumer can rely on.
 */
contract CryptoDelegateBehalfTest is DelegateTest, Signatures {
    uint256 internal constant IDENTITY_KEY = 0x1DE;

    address internal identity = vm.addr(IDENTITY_KEY);

    IdentityConsumer internal consumer;
    bytes32 internal subject;

    function setUp() public override {
        super.setUp();
        consumer = new IdentityConsumer(delegate, cryptlet, identity, identity);
        subject = consumer.subject();
    }

    function testDeliversOnBehalf() public {
        Delegations.Delegation memory delegation = _delegation();
        CryptoDelegate.Report memory report = _reportUnder(delegation, 42);
        vm.expectEmit(address(delegate));
        emit CryptoDelegate.Delivered(subject, cryptlet, 1, delegate.hashReport(report), signer, true);
        _deliverUnder(report, delegation);
        vm.assertEq(consumer.word(), 42);
        vm.assertEq(consumer.spokenFor(), identity);
        vm.assertEq(delegate.onBehalfOf(), address(0));
        vm.assertEq(_sequence(subject), 1);
    }

    function testAnybodyMaySubmitAndTheDelegationCountsAgain(address anybody) public {
        Delegations.Delegation memory delegation = _delegation();
        for (uint256 word = 1; word <= 3; ++word) {
            CryptoDelegate.Report memory report = _reportUnder(delegation, word);
            (bytes32 r, bytes32 vs) = _sign(report);
            bytes memory signature = _signature(IDENTITY_KEY, delegation);
            vm.prank(anybody);
            delegate.deliverOnBehalfOf(report, r, vs, delegation, signature);
            vm.assertEq(consumer.word(), word);
        }
    }

    function testAnyConsumerAndAnyCallback() public {
        Delegations.Delegation memory delegation = _delegation();
        delegation.consumer = address(0);
        delegation.callback = 0;
        _deliverUnder(_reportUnder(delegation, 42), delegation);
        vm.assertEq(consumer.word(), 42);
    }

    function testHashIsEip712(Delegations.Delegation memory delegation) public view {
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
                    "Delegation(address identity,address cryptlet,address consumer,bytes4 callback,uint64 expiry,bytes32 salt)"
                ),
                delegation.identity,
                delegation.cryptlet,
                delegation.consumer,
                delegation.callback,
                delegation.expiry,
                delegation.salt
            )
        );
        bytes32 expected = keccak256(abi.encodePacked(hex"1901", domainSeparator, structHash));
        vm.assertEq(delegate.hashDelegation(delegation), expected);
    }

    function testReplayIsRefused() public {
        Delegations.Delegation memory delegation = _delegation();
        CryptoDelegate.Report memory report = _reportUnder(delegation, 42);
        _deliverUnder(report, delegation);
        _refused(report, delegation, abi.encodeWithSelector(CryptoDelegate.WrongSequence.selector, 2, 1));
    }

    /// @dev `deliver` is for reports on nobody's behalf, whatever the subscription asks for.
    function testDeliverRefusesADelegation(bytes32 digest) public {
        vm.assume(digest != 0);
        StoreWord other = new StoreWord(delegate, cryptlet, 100_000);
        CryptoDelegate.Report memory report = _report(other, 42);
        report.delegation = digest;
        _expectRefusal(report, abi.encodeWithSelector(Delegations.WrongDelegation.selector, 0, digest));
        report = _reportUnder(_delegation(), 42);
        _expectRefusal(report, abi.encodeWithSelector(Delegations.WrongDelegation.selector, 0, report.delegation));
    }

    function testSubscriptionOnBehalfRefusesAReportOnNobodys() public {
        CryptoDelegate.Report memory report = _report(subject, abi.encode(42));
        _expectRefusal(report, abi.encodeWithSelector(CryptoDelegate.WrongIdentity.selector, identity, address(0)));
    }

    function testSubscriptionOnNobodysRefusesADelegation() public {
        Delegations.Delegation memory delegation = _delegation();
        consumer = new IdentityConsumer(delegate, cryptlet, identity, address(0));
        subject = consumer.subject();
        delegation.consumer = address(consumer);
        _refused(
            _reportUnder(delegation, 42),
            delegation,
            abi.encodeWithSelector(CryptoDelegate.WrongIdentity.selector, address(0), identity)
        );
    }

    function testDelegationOfAnotherIdentity() public {
        uint256 key = 0xB0B;
        Delegations.Delegation memory delegation = _delegation();
        delegation.identity = vm.addr(key);
        _refused(
            _reportUnder(delegation, 42),
            delegation,
            _signature(key, delegation),
            abi.encodeWithSelector(CryptoDelegate.WrongIdentity.selector, identity, vm.addr(key))
        );
    }

    function testReportMadeUnderAnother() public {
        Delegations.Delegation memory delegation = _delegation();
        CryptoDelegate.Report memory report = _reportUnder(delegation, 42);
        bytes32 made = report.delegation;
        delegation.salt = keccak256("another");
        bytes32 given = delegate.hashDelegation(delegation);
        _refused(report, delegation, abi.encodeWithSelector(Delegations.WrongDelegation.selector, given, made));
        report.delegation = 0;
        _refused(report, delegation, abi.encodeWithSelector(Delegations.WrongDelegation.selector, given, 0));
    }

    /// @dev What the identity did not sign does not count, though the cryptlet's report says it was made under it.
    function testAnyAlteredFieldIsRefused(uint256 field, uint256 mask) public {
        Delegations.Delegation memory delegation = _delegation();
        bytes memory signature = _signature(IDENTITY_KEY, delegation);
        field = _bound(field, 0, 3);
        if (field == 0) delegation.consumer = address(0);
        if (field == 1) delegation.callback = 0;
        if (field == 2) delegation.expiry = uint64(_bound(mask, delegation.expiry + 1, type(uint64).max));
        if (field == 3) delegation.salt ^= bytes32(_bound(mask, 1, type(uint256).max));
        _refused(_reportUnder(delegation, 42), delegation, signature, _invalidSignature());
    }

    function testOutOfScope(address other, bytes4 callback) public {
        vm.assume(other != address(0) && other != address(consumer) && other != cryptlet);
        vm.assume(callback != 0 && callback != IdentityConsumer.onReport.selector);
        Delegations.Delegation memory delegation = _delegation();
        delegation.consumer = other;
        _refusedOutOfScope(delegation);
        delegation = _delegation();
        delegation.callback = callback;
        _refusedOutOfScope(delegation);
        delegation = _delegation();
        delegation.cryptlet = other;
        _refusedOutOfScope(delegation);
        delegation.cryptlet = address(0);
        _refusedOutOfScope(delegation);
    }

    /// @dev Zero means any consumer and any callback, never any cryptlet.
    function testDelegationForAnotherCryptlet() public {
        vm.prank(publisher);
        address other = register.register("other", _version("1"), signer, SIGNER_EXPIRY);
        Delegations.Delegation memory delegation = _delegation();
        delegation.cryptlet = other;
        _refusedOutOfScope(delegation);
    }

    function testExpiry() public {
        Delegations.Delegation memory delegation = _delegation();
        vm.warp(delegation.expiry);
        _deliverUnder(_reportUnder(delegation, 1), delegation);
        vm.warp(uint256(delegation.expiry) + 1);
        _refused(
            _reportUnder(delegation, 2),
            delegation,
            abi.encodeWithSelector(Delegations.DelegationExpired.selector, delegation.expiry)
        );
    }

    function testRevocation() public {
        Delegations.Delegation memory delegation = _delegation();
        bytes32 digest = delegate.hashDelegation(delegation);
        vm.assertFalse(delegate.isDelegationRevoked(digest));
        vm.expectEmit(address(delegate));
        emit Delegations.DelegationRevoked(identity, digest);
        vm.prank(identity);
        delegate.revokeDelegation(delegation);

        vm.assertTrue(delegate.isDelegationRevoked(digest));
        bytes memory revoked = abi.encodeWithSelector(Delegations.DelegationIsRevoked.selector, digest);
        _refused(_reportUnder(delegation, 42), delegation, revoked);
        vm.prank(identity);
        vm.expectRevert(revoked);
        delegate.revokeDelegation(delegation);

        delegation.salt = keccak256("given anew");
        _deliverUnder(_reportUnder(delegation, 42), delegation);
    }

    /// @dev Whoever names itself as the identity revokes a delegation of its own, not this one.
    function testOnlyTheIdentityRevokes(address other) public {
        vm.assume(other != identity);
        Delegations.Delegation memory delegation = _delegation();
        vm.prank(other);
        vm.expectRevert(abi.encodeWithSelector(Delegations.NotTheIdentity.selector, other));
        delegate.revokeDelegation(delegation);

        delegation.identity = other;
        vm.prank(other);
        delegate.revokeDelegation(delegation);
        vm.assertFalse(delegate.isDelegationRevoked(delegate.hashDelegation(_delegation())));
        _deliverUnder(_reportUnder(_delegation(), 42), _delegation());
    }

    function testStrangersSignature(uint256 key) public {
        key = _bound(key, 1, type(uint128).max);
        vm.assume(key != IDENTITY_KEY);
        Delegations.Delegation memory delegation = _delegation();
        _refused(_reportUnder(delegation, 42), delegation, _signature(key, delegation), _invalidSignature());
    }

    function testMalformedSignatures() public {
        Delegations.Delegation memory delegation = _delegation();
        CryptoDelegate.Report memory report = _reportUnder(delegation, 42);
        bytes memory signature = _signature(IDENTITY_KEY, delegation);
        _refused(report, delegation, "", _invalidSignature());
        _refused(report, delegation, new bytes(65), _invalidSignature());
        _refused(report, delegation, bytes.concat(signature, hex"00"), _invalidSignature());
        (bytes32 r, bytes32 vs) = vm.signCompact(IDENTITY_KEY, delegate.hashDelegation(delegation));
        _refused(report, delegation, abi.encodePacked(r, vs), _invalidSignature());
    }

    /// @dev A signature has one form: `s` in the lower half, `v` 27 or 28.
    function testOtherFormsOfASignature() public {
        Delegations.Delegation memory delegation = _delegation();
        CryptoDelegate.Report memory report = _reportUnder(delegation, 42);
        bytes memory signature = _signature(IDENTITY_KEY, delegation);
        _refused(report, delegation, _withHighS(signature), _invalidSignature());
        _refused(report, delegation, _withLowV(signature), _invalidSignature());
        _deliverUnder(report, delegation);
    }

    /// @dev A wallet that does not say yes in the one way there is gives nothing, and cannot make it dear to ask.
    function testWalletsThatAnswerWrongly() public {
        HostileWallet hostile = new HostileWallet();
        consumer = new IdentityConsumer(delegate, cryptlet, address(hostile), address(hostile));
        subject = consumer.subject();
        Delegations.Delegation memory delegation = _delegation();
        delegation.identity = address(hostile);
        CryptoDelegate.Report memory report = _reportUnder(delegation, 42);
        (bytes32 r, bytes32 vs) = _sign(report);
        bytes memory refusal = abi.encodeWithSelector(Delegations.InvalidDelegationSignature.selector, address(hostile));
        uint256 most = hostile.GAS();
        for (uint8 i = 0; i <= uint8(type(HostileWallet.Answer).max); ++i) {
            hostile.answer(HostileWallet.Answer(i));
            vm.expectRevert(refusal);
            delegate.deliverOnBehalfOf{gas: most}(report, r, vs, delegation, "");
        }
        vm.assertEq(_sequence(subject), 0);
    }

    /// @dev Every delegation names its identity: an account's is none of the wallet that it owns.
    function testAccountsDelegationIsNotItsWallets() public {
        Wallet wallet = _walletConsumer();
        Delegations.Delegation memory delegation = _delegation();
        bytes memory signature = _signature(IDENTITY_KEY, delegation);
        delegation.identity = address(wallet);
        _refused(
            _reportUnder(delegation, 42),
            delegation,
            signature,
            abi.encodeWithSelector(Delegations.InvalidDelegationSignature.selector, address(wallet))
        );
    }

    /// @dev A delegation is for the cryptlet, whoever holds its token, and whichever of its versions speaks.
    function testDelegationSurvivesASale() public {
        vm.prank(publisher);
        register.transferFrom(publisher, submitter, uint160(cryptlet));
        uint256 key = 0xB0B;
        vm.prank(submitter);
        register.publishVersion(cryptlet, _version("2.0.0"), vm.addr(key), SIGNER_EXPIRY);
        Delegations.Delegation memory delegation = _delegation();
        CryptoDelegate.Report memory report = _reportUnder(delegation, 42);
        (bytes32 r, bytes32 vs) = vm.signCompact(key, delegate.hashReport(report));
        delegate.deliverOnBehalfOf(report, r, vs, delegation, _signature(IDENTITY_KEY, delegation));
        vm.assertEq(consumer.word(), 42);
    }

    /// @dev The zero address has given nobody anything: a signature that recovers to nobody is none.
    function testNobodyDelegates() public {
        consumer = new IdentityConsumer(delegate, cryptlet, address(0), address(0));
        subject = consumer.subject();
        Delegations.Delegation memory delegation = _delegation();
        delegation.identity = address(0);
        _refused(
            _reportUnder(delegation, 42),
            delegation,
            new bytes(65),
            abi.encodeWithSelector(Delegations.InvalidDelegationSignature.selector, address(0))
        );
    }

    function testDelegationForAnotherDelegate() public {
        CryptoDelegate other = new CryptoDelegate(register);
        Delegations.Delegation memory delegation = _delegation();
        bytes memory signature = _sign(IDENTITY_KEY, other.hashDelegation(delegation));
        _refused(_reportUnder(delegation, 42), delegation, signature, _invalidSignature());
        CryptoDelegate.Report memory report = _reportUnder(delegation, 42);
        report.delegation = other.hashDelegation(delegation);
        _refused(
            report,
            delegation,
            abi.encodeWithSelector(
                Delegations.WrongDelegation.selector, delegate.hashDelegation(delegation), report.delegation
            )
        );
    }

    function testDelegationForAnotherChain() public {
        Delegations.Delegation memory delegation = _delegation();
        bytes memory signature = _signature(IDENTITY_KEY, delegation);
        vm.chainId(block.chainid + 1);
        _refused(_reportUnder(delegation, 42), delegation, signature, _invalidSignature());
    }

    /// @dev The identity's word does not replace the cryptlet's.
    function testReportIsCheckedAllTheSame() public {
        Delegations.Delegation memory delegation = _delegation();
        CryptoDelegate.Report memory report = _reportUnder(delegation, 42);
        (bytes32 r, bytes32 vs) = vm.signCompact(IDENTITY_KEY, delegate.hashReport(report));
        bytes memory signature = _signature(IDENTITY_KEY, delegation);
        vm.expectRevert(abi.encodeWithSelector(CryptoDelegate.SignerNotEnrolled.selector, cryptlet, identity));
        delegate.deliverOnBehalfOf(report, r, vs, delegation, signature);

        report.validUntil = report.issuedAt;
        _refused(report, delegation, abi.encodeWithSelector(CryptoDelegate.InvalidValidity.selector));
        report = _reportUnder(delegation, 42);
        report.subject = keccak256("unknown");
        _refused(report, delegation, abi.encodeWithSelector(CryptoDelegate.UnknownSubscription.selector));
    }

    function testEndedSubscription() public {
        Delegations.Delegation memory delegation = _delegation();
        CryptoDelegate.Report memory report = _reportUnder(delegation, 42);
        vm.prank(address(consumer));
        delegate.unsubscribe(cryptlet, subject);
        _refused(report, delegation, abi.encodeWithSelector(CryptoDelegate.UnknownSubscription.selector));
    }

    function testContractWalletDelegates() public {
        Wallet wallet = _walletConsumer();
        Delegations.Delegation memory delegation = _delegation();
        delegation.identity = address(wallet);
        _deliverUnder(_reportUnder(delegation, 42), delegation);
        vm.assertEq(consumer.word(), 42);
        vm.assertEq(consumer.spokenFor(), address(wallet));

        bytes memory refusal = abi.encodeWithSelector(Delegations.InvalidDelegationSignature.selector, address(wallet));
        _refused(_reportUnder(delegation, 43), delegation, _signature(SIGNER_KEY, delegation), refusal);
        vm.prank(identity);
        wallet.handOver(submitter);
        _refused(_reportUnder(delegation, 43), delegation, refusal);
    }

    function testContractWalletRevokes() public {
        Wallet wallet = _walletConsumer();
        Delegations.Delegation memory delegation = _delegation();
        delegation.identity = address(wallet);
        vm.prank(identity);
        wallet.execute(address(delegate), abi.encodeCall(delegate.revokeDelegation, (delegation)));
        _refused(
            _reportUnder(delegation, 42),
            delegation,
            abi.encodeWithSelector(Delegations.DelegationIsRevoked.selector, delegate.hashDelegation(delegation))
        );
    }

    /// @dev The consumer demands one identity and subscribed for another: the callback fails, and says why.
    function testConsumerDemandsItsIdentity() public {
        consumer = new IdentityConsumer(delegate, cryptlet, submitter, identity);
        subject = consumer.subject();
        Delegations.Delegation memory delegation = _delegation();
        vm.expectEmit(address(delegate));
        emit CryptoDelegate.CallbackFailed(
            subject, 1, abi.encodeWithSelector(CryptletProxy.UnauthorizedIdentity.selector, submitter, identity)
        );
        _deliverUnder(_reportUnder(delegation, 42), delegation);
        vm.assertEq(consumer.word(), 0);
    }

    function testConsumerThatAskedNobodyGetsNobody() public {
        consumer = new IdentityConsumer(delegate, cryptlet, identity, address(0));
        vm.expectEmit(address(delegate));
        emit CryptoDelegate.CallbackFailed(
            consumer.subject(),
            1,
            abi.encodeWithSelector(CryptletProxy.UnauthorizedIdentity.selector, identity, address(0))
        );
        _deliver(_report(consumer.subject(), abi.encode(42)));
        vm.assertEq(consumer.word(), 0);
    }

    /// @dev Nobody's behalf is not the zero identity's.
    function testZeroIdentityAdmitsNobody() public {
        consumer = new IdentityConsumer(delegate, cryptlet, address(0), address(0));
        _deliver(_report(consumer.subject(), abi.encode(42)));
        vm.assertEq(consumer.word(), 0);
        vm.assertEq(_sequence(consumer.subject()), 1);
    }

    function testDirectCallIsRefused(address caller) public {
        vm.assume(caller != address(delegate));
        vm.prank(caller);
        vm.expectRevert(abi.encodeWithSelector(CryptletProxy.UnauthorizedIdentity.selector, identity, address(0)));
        consumer.unguarded(42);
    }

    /// @dev While a callback on the identity's behalf is running, only the delegate's own call is on it.
    function testCallFromWithinAnothersCallbackIsRefused() public {
        Caller caller = new Caller(delegate, cryptlet, identity);
        caller.prepare(address(consumer), abi.encodeCall(consumer.unguarded, (42)));
        _callBack(caller);
        (bool succeeded, bytes memory result) = caller.outcome();
        vm.assertFalse(succeeded);
        vm.assertEq(result, abi.encodeWithSelector(CryptletProxy.UnauthorizedIdentity.selector, identity, address(0)));
        vm.assertEq(consumer.word(), 0);
    }

    function testReentryIsRefused() public {
        Caller caller = new Caller(delegate, cryptlet, identity);
        Delegations.Delegation memory delegation = _delegation();
        CryptoDelegate.Report memory report = _reportUnder(delegation, 42);
        (bytes32 r, bytes32 vs) = _sign(report);
        bytes memory signature = _signature(IDENTITY_KEY, delegation);
        caller.prepare(
            address(delegate), abi.encodeCall(delegate.deliverOnBehalfOf, (report, r, vs, delegation, signature))
        );
        _callBack(caller);
        (bool succeeded, bytes memory result) = caller.outcome();
        vm.assertFalse(succeeded);
        vm.assertEq(result, abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector));
        _deliverUnder(report, delegation);
        vm.assertEq(consumer.word(), 42);
    }

    /// @dev Two deliveries in one transaction: the second speaks for nobody.
    function testIdentityDoesNotOutliveItsCallback() public {
        _deliverUnder(_reportUnder(_delegation(), 42), _delegation());
        Caller caller = new Caller(delegate, cryptlet, address(0));
        caller.prepare(address(delegate), abi.encodeCall(delegate.onBehalfOf, ()));
        _deliver(_report(caller.subject(), abi.encode(1)));
        (bool succeeded, bytes memory result) = caller.outcome();
        vm.assertTrue(succeeded);
        vm.assertEq(abi.decode(result, (address)), address(0));
    }

    function _callBack(Caller caller) private {
        Delegations.Delegation memory delegation = _delegation();
        delegation.consumer = address(0);
        delegation.callback = 0;
        CryptoDelegate.Report memory report = _report(caller.subject(), abi.encode(1));
        report.delegation = delegate.hashDelegation(delegation);
        _deliverUnder(report, delegation);
    }

    /// @dev A wallet of the identity's key, and a consumer that demands the wallet.
    function _walletConsumer() private returns (Wallet wallet) {
        wallet = new Wallet(identity);
        consumer = new IdentityConsumer(delegate, cryptlet, address(wallet), address(wallet));
        subject = consumer.subject();
    }

    function _delegation() private view returns (Delegations.Delegation memory) {
        return Delegations.Delegation({
            identity: identity,
            cryptlet: cryptlet,
            consumer: address(consumer),
            callback: IdentityConsumer.onReport.selector,
            expiry: uint64(NOW + 2 hours),
            salt: keccak256("salt")
        });
    }

    function _reportUnder(
        Delegations.Delegation memory delegation,
        uint256 word
    )
        private
        view
        returns (CryptoDelegate.Report memory report)
    {
        report = _report(subject, abi.encode(word));
        report.delegation = delegate.hashDelegation(delegation);
    }

    function _signature(uint256 key, Delegations.Delegation memory delegation) private view returns (bytes memory) {
        return _sign(key, delegate.hashDelegation(delegation));
    }

    function _deliverUnder(CryptoDelegate.Report memory report, Delegations.Delegation memory delegation) private {
        (bytes32 r, bytes32 vs) = _sign(report);
        delegate.deliverOnBehalfOf(report, r, vs, delegation, _signature(IDENTITY_KEY, delegation));
    }

    function _refusedOutOfScope(Delegations.Delegation memory delegation) private {
        bytes32 digest = delegate.hashDelegation(delegation);
        _refused(
            _reportUnder(delegation, 42),
            delegation,
            abi.encodeWithSelector(Delegations.DelegationOutOfScope.selector, digest)
        );
    }

    function _refused(
        CryptoDelegate.Report memory report,
        Delegations.Delegation memory delegation,
        bytes memory revertData
    )
        private
    {
        _refused(report, delegation, _signature(IDENTITY_KEY, delegation), revertData);
    }

    function _refused(
        CryptoDelegate.Report memory report,
        Delegations.Delegation memory delegation,
        bytes memory signature,
        bytes memory revertData
    )
        private
    {
        uint64 sequence = _sequence(subject);
        uint256 word = consumer.word();
        (bytes32 r, bytes32 vs) = _sign(report);
        vm.expectRevert(revertData);
        delegate.deliverOnBehalfOf(report, r, vs, delegation, signature);
        vm.assertEq(_sequence(subject), sequence);
        vm.assertEq(consumer.word(), word);
        vm.assertEq(delegate.onBehalfOf(), address(0));
    }

    function _invalidSignature() private view returns (bytes memory) {
        return abi.encodeWithSelector(Delegations.InvalidDelegationSignature.selector, identity);
    }
}
