// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptoDelegate} from "../src/CryptoDelegate.sol";
import {IsolatedRegion} from "../src/IsolatedRegion.sol";
import {DelegateTest} from "./support/DelegateTest.sol";
import {RegionChecker} from "./support/RegionChecker.sol";
import {Regions} from "./support/Regions.sol";
import {Signatures} from "./support/Signatures.sol";

/**
 * @title IsolatedRegionTest
 * @notice What a contract believes of a region: what Rust signed, and nothing else.
 */
contract IsolatedRegionTest is DelegateTest, Regions, Signatures {
    /// @dev What one region proved and said, and whose word is asked for.
    struct Shown {
        address host;
        bytes32 digest;
        IsolatedRegion.Evidence evidence;
        IsolatedRegion.Statement said;
        bytes signature;
    }

    address internal host = vm.addr(HOST_KEY);

    /// @notice The golden files of `vectors/region`, one of them of a genuine receipt.
    function testGoldenRegions() public {
        string[4] memory names = ["plain", "minimum-values", "maximum-values", "receipt"];
        for (uint256 i = 0; i < names.length; ++i) {
            string memory json = _read(names[i]);
            Shown memory shown = _parse(json);
            bytes32 digest = vm.parseJsonBytes32(json, ".evidenceDigest");
            vm.assertEq(IsolatedRegion.hashEvidence(shown.evidence), digest, names[i]);
            digest = vm.parseJsonBytes32(json, ".digest");
            vm.assertEq(IsolatedRegion.hashStatement(shown.digest, shown.said), digest, names[i]);
            vm.assertEq(IsolatedRegion.voucherOf(shown.evidence), shown.host);
            vm.assertTrue(_check(shown), names[i]);
            bytes memory arguments = abi.encode(shown.evidence, shown.said, shown.signature);
            vm.assertEq(vm.parseJsonBytes(json, ".arguments"), arguments, names[i]);

            CryptoDelegate named = _delegateOf(json);
            CryptoDelegate.Report memory report = _reportOf(json);
            vm.assertTrue(IsolatedRegion.isOfReport(shown.said, shown.digest, named, report), names[i]);
            ++report.sequence;
            vm.assertFalse(IsolatedRegion.isOfReport(shown.said, shown.digest, named, report), names[i]);
        }
    }

    function testEachAlteredFieldIsRefused() public view {
        vm.assertTrue(_check(_shown()));
        Shown memory shown = _shown();
        shown.evidence.provider = "tdx";
        vm.assertFalse(_check(shown), "provider");
        shown = _shown();
        shown.evidence.controls[1] = "none";
        vm.assertFalse(_check(shown), "control");
        shown = _shown();
        shown.evidence.controls[0] = "seccomp-kill";
        shown.evidence.controls[1] = "landlock";
        vm.assertFalse(_check(shown), "order of controls");
        shown = _shown();
        shown.evidence.controls = new string[](1);
        shown.evidence.controls[0] = "landlockseccomp-kill";
        vm.assertFalse(_check(shown), "joined controls");
        shown = _shown();
        shown.evidence.controls = new string[](0);
        vm.assertFalse(_check(shown), "no controls");
        shown = _shown();
        shown.evidence.exchangeKey = keccak256("another");
        vm.assertFalse(_check(shown), "exchange key");
        shown = _shown();
        shown.evidence.nonce = keccak256("another");
        vm.assertFalse(_check(shown), "nonce");
        shown = _shown();
        ++shown.evidence.madeAt;
        vm.assertFalse(_check(shown), "moment");
        shown = _shown();
        shown.said.report = keccak256("another");
        vm.assertFalse(_check(shown), "report");
        shown = _shown();
        shown.said.input = keccak256("another");
        vm.assertFalse(_check(shown), "input");
        shown = _shown();
        shown.said.sources = keccak256("another");
        vm.assertFalse(_check(shown), "sources");
    }

    function testAnyAlteredByteIsRefused(uint256 field, uint256 place, uint8 mask) public view {
        vm.assume(mask != 0);
        Shown memory shown = _shown();
        field = _bound(field, 0, 13);
        if (field == 0) shown.host = address(uint160(_flip(uint160(shown.host), place % 20, mask)));
        if (field == 1) shown.digest = _flip(shown.digest, place, mask);
        if (field == 2) _flip(bytes(shown.evidence.provider), place, mask);
        if (field == 3) _flip(bytes(shown.evidence.controls[place & 1]), place >> 1, mask);
        if (field == 4) shown.evidence.measurement = _flip(shown.evidence.measurement, place, mask);
        if (field == 5) {
            shown.evidence.regionKey = address(uint160(_flip(uint160(shown.evidence.regionKey), place % 20, mask)));
        }
        if (field == 6) shown.evidence.exchangeKey = _flip(shown.evidence.exchangeKey, place, mask);
        if (field == 7) shown.evidence.nonce = _flip(shown.evidence.nonce, place, mask);
        if (field == 8) shown.evidence.madeAt = uint64(_flip(shown.evidence.madeAt, place % 8, mask));
        if (field == 9) _flip(shown.evidence.signature, place, mask);
        if (field == 10) shown.said.report = _flip(shown.said.report, place, mask);
        if (field == 11) shown.said.input = _flip(shown.said.input, place, mask);
        if (field == 12) shown.said.sources = _flip(shown.said.sources, place, mask);
        if (field == 13) _flip(shown.signature, place, mask);
        vm.assertFalse(_check(shown));
        vm.assertFalse(_checkAt(shown, 0, type(uint64).max));
    }

    /// @dev Whatever is shown, the answer is no: nothing reverts.
    function testNothingReverts(Shown memory shown, uint64 from, uint64 to) public {
        _assignHost();
        vm.assertFalse(_check(shown));
        vm.assertFalse(_checkAt(shown, from, to));
        vm.assertFalse(_checkAttested(shown, from, to));
        shown.evidence.measurement = shown.digest;
        vm.assertFalse(_check(shown));
        vm.assertFalse(_checkAttested(shown, 0, type(uint64).max));
    }

    function testAnotherHostIsRefused() public view {
        Shown memory shown = _shown();
        shown.host = _account("another host");
        vm.assertFalse(_check(shown), "another is asked for");
        shown = _shown();
        _vouch(HOST_KEY + 1, shown.evidence);
        vm.assertFalse(_check(shown), "another vouched");
        shown = _shown();
        _vouch(REGION_KEY, shown.evidence);
        vm.assertFalse(_check(shown), "the region vouched for itself");
    }

    /// @dev A genuine region that runs something else is told from the one that is asked for.
    function testAnotherMeasurementIsRefused() public view {
        Shown memory shown = _shown();
        shown.digest = keccak256("another");
        vm.assertFalse(_check(shown), "another is asked for");

        shown = _shown();
        shown.evidence.measurement = keccak256("another");
        _vouch(HOST_KEY, shown.evidence);
        vm.assertFalse(_check(shown), "another runs");
        bytes32 digest = IsolatedRegion.hashStatement(shown.evidence.measurement, shown.said);
        shown.signature = _compact(REGION_KEY, digest);
        vm.assertFalse(_check(shown), "another runs and speaks");
        shown.digest = shown.evidence.measurement;
        vm.assertTrue(_check(shown), "what runs is asked for");
    }

    function testAnotherRegionKeyIsRefused() public view {
        Shown memory shown = _shown();
        bytes32 digest = IsolatedRegion.hashStatement(MEASUREMENT, shown.said);
        shown.signature = _compact(REGION_KEY + 1, digest);
        vm.assertFalse(_check(shown), "another spoke");
        shown.evidence.regionKey = vm.addr(REGION_KEY + 1);
        vm.assertFalse(_check(shown), "and stands in the evidence");
        shown = _shown();
        shown.signature = _compact(HOST_KEY, digest);
        vm.assertFalse(_check(shown), "the host spoke");
        shown = _shown();
        shown.signature = shown.evidence.signature;
        vm.assertFalse(_check(shown), "the evidence's signature");
    }

    function testReplayForAnotherReportIsRefused() public {
        CryptoDelegate.Report memory report = _report(keccak256("subject"), "first");
        report.region = MEASUREMENT;
        Shown memory shown = _shown();
        shown.said.report = delegate.hashReport(report);
        shown.signature = _say(shown.said);
        vm.assertTrue(_check(shown));
        vm.assertTrue(IsolatedRegion.isOfReport(shown.said, MEASUREMENT, delegate, report));

        vm.assertFalse(IsolatedRegion.isOfReport(shown.said, keccak256("another"), delegate, report), "digest");
        CryptoDelegate other = new CryptoDelegate(register);
        vm.assertFalse(IsolatedRegion.isOfReport(shown.said, MEASUREMENT, other, report), "delegate");
        report.payload = "second";
        vm.assertFalse(IsolatedRegion.isOfReport(shown.said, MEASUREMENT, delegate, report), "payload");
        shown.said.report = delegate.hashReport(report);
        vm.assertFalse(_check(shown), "signature");

        report.region = keccak256("another");
        shown.said.report = delegate.hashReport(report);
        shown.signature = _say(shown.said);
        vm.assertTrue(_check(shown));
        vm.assertFalse(IsolatedRegion.isOfReport(shown.said, MEASUREMENT, delegate, report), "region");
        report.region = MEASUREMENT;
        shown.said.report = delegate.hashReport(report);
        vm.chainId(1);
        vm.assertFalse(IsolatedRegion.isOfReport(shown.said, MEASUREMENT, delegate, report), "chain");
    }

    /// @dev Both bounds count, and this block's time.
    function testEvidenceHasItsTime() public {
        Shown memory shown = _shown();
        uint64 madeAt = shown.evidence.madeAt;
        vm.assertTrue(_checkAt(shown, madeAt, madeAt));
        vm.assertTrue(_checkAt(shown, 0, type(uint64).max));
        vm.assertFalse(_checkAt(shown, madeAt + 1, type(uint64).max), "too old");
        vm.assertFalse(_checkAt(shown, 0, madeAt - 1), "too late");
        vm.assertFalse(_checkAt(shown, madeAt + 1, madeAt - 1), "never");

        vm.warp(madeAt);
        vm.assertTrue(_checkAt(shown, 0, type(uint64).max));
        vm.warp(madeAt - 1);
        vm.assertFalse(_checkAt(shown, 0, type(uint64).max), "of the future");
        vm.assertTrue(_check(shown));
    }

    function testOnlyAttestedHostsCount() public {
        Shown memory shown = _shown();
        vm.assertFalse(_checkAttested(shown, 0, type(uint64).max), "unknown");
        register.registerHost(host, "https://host.example", keccak256("authority"));
        vm.assertFalse(_checkAttested(shown, 0, type(uint64).max), "not assigned");
        for (uint160 i = 1; i <= 3; ++i) {
            register.registerHost(address(i), "https://other.example", keccak256("authority"));
            vm.prank(publisher);
            register.assignHost(cryptlet, address(i));
        }
        vm.prank(publisher);
        register.assignHost(cryptlet, host);
        vm.assertTrue(_checkAttested(shown, 0, type(uint64).max));
        uint64 madeAt = shown.evidence.madeAt;
        vm.assertTrue(_checkAttested(shown, madeAt, madeAt));
        vm.assertFalse(_checkAttested(shown, madeAt + 1, type(uint64).max), "too old");
        vm.assertFalse(_checkAttested(shown, 0, madeAt - 1), "too late");
        vm.warp(madeAt - 1);
        vm.assertFalse(_checkAttested(shown, 0, type(uint64).max), "of the future");
        vm.warp(NOW);

        _vouch(HOST_KEY + 1, shown.evidence);
        vm.assertFalse(_checkAttested(shown, 0, type(uint64).max), "another vouched");
        shown = _shown();
        shown.digest = keccak256("another");
        vm.assertFalse(_checkAttested(shown, 0, type(uint64).max), "another measurement");
        shown = _shown();
        shown.evidence.signature = "";
        vm.assertFalse(_checkAttested(shown, 0, type(uint64).max), "nobody vouched");
    }

    function testRemovedHostsCountNoMore() public {
        _assignHost();
        Shown memory shown = _shown();
        vm.assertTrue(_checkAttested(shown, 0, type(uint64).max));
        register.removeHost(host);
        vm.assertFalse(_checkAttested(shown, 0, type(uint64).max), "removed");
        register.registerHost(host, "https://host.example", keccak256("authority"));
        vm.assertTrue(_checkAttested(shown, 0, type(uint64).max), "registered again");
        vm.prank(publisher);
        register.unassignHost(cryptlet, host);
        vm.assertFalse(_checkAttested(shown, 0, type(uint64).max), "unassigned");
    }

    function testHostsOfAnotherCryptletDoNotCount() public {
        _assignHost();
        Shown memory shown = _shown();
        cryptlet = _account("unknown cryptlet");
        vm.assertFalse(_checkAttested(shown, 0, type(uint64).max), "unknown");
        vm.prank(publisher);
        cryptlet = register.register("gold-price", _version("1.0.0"), signer, SIGNER_EXPIRY);
        vm.assertFalse(_checkAttested(shown, 0, type(uint64).max), "another's");
    }

    function testHostsOfARevokedCryptletDoNotCount() public {
        _assignHost();
        vm.prank(publisher);
        register.revokeCryptlet(cryptlet);
        vm.assertFalse(_checkAttested(_shown(), 0, type(uint64).max));
    }

    /// @dev One form of a signature counts: 64 bytes.
    function testOtherLengthsAreRefused() public view {
        for (uint256 length = 0; length <= 130; ++length) {
            if (length == 64) continue;
            Shown memory shown = _shown();
            shown.signature = _cut(shown.signature, length);
            vm.assertFalse(_check(shown), "region");
            shown = _shown();
            shown.evidence.signature = _cut(shown.evidence.signature, length);
            vm.assertFalse(_check(shown), "host");
        }
        Shown memory long = _shown();
        long.signature = _sign(REGION_KEY, IsolatedRegion.hashStatement(MEASUREMENT, long.said));
        vm.assertFalse(_check(long), "65 bytes of the region");
        long = _shown();
        long.evidence.signature = _sign(HOST_KEY, IsolatedRegion.hashEvidence(long.evidence));
        vm.assertFalse(_check(long), "65 bytes of the host");
    }

    /// @dev The other signature of the same key and message has a high `s`, whatever its parity bit says of it.
    function testHighSIsRefused() public view {
        for (uint256 parity = 0; parity < 2; ++parity) {
            Shown memory shown = _shown();
            bytes32 digest = IsolatedRegion.hashStatement(MEASUREMENT, shown.said);
            shown.signature = _highS(REGION_KEY, digest, parity);
            vm.assertFalse(_check(shown), "region");
            shown = _shown();
            digest = IsolatedRegion.hashEvidence(shown.evidence);
            shown.evidence.signature = _highS(HOST_KEY, digest, parity);
            vm.assertFalse(_check(shown), "host");
        }
    }

    /// @dev Nobody's signature is not the zero address's.
    function testZeroAddressesAreRefused() public view {
        bytes[3] memory malformed = [bytes(""), new bytes(64), new bytes(65)];
        for (uint256 i = 0; i < malformed.length; ++i) {
            Shown memory shown = _shown();
            shown.host = address(0);
            shown.evidence.signature = malformed[i];
            vm.assertFalse(_check(shown), "host");
            shown = _shown();
            shown.evidence.regionKey = address(0);
            _vouch(HOST_KEY, shown.evidence);
            shown.signature = malformed[i];
            vm.assertFalse(_check(shown), "region key");
        }
    }

    /// forge-config: default.isolate = true
    function testGasCheckSignature() public {
        Shown memory shown = _parse(_read("receipt"));
        RegionChecker checker = new RegionChecker();
        vm.expectEmit(address(checker));
        emit RegionChecker.Checked(true);
        checker.check(shown.host, shown.digest, shown.evidence, shown.said, shown.signature);
        _snapshot("checkSignature, a receipt's evidence, host known");
    }

    /// forge-config: default.isolate = true
    function testGasCheckSignatureOfAnAttestedHost() public {
        Shown memory shown = _parse(_read("receipt"));
        host = shown.host;
        _assignHost();
        RegionChecker checker = new RegionChecker();
        vm.warp(shown.evidence.madeAt);
        vm.expectEmit(address(checker));
        emit RegionChecker.Checked(true);
        checker.checkAttested(register, cryptlet, shown.digest, shown.evidence, shown.said, shown.signature);
        _snapshot("checkSignature, a receipt's evidence, one attested host");
    }

    function _snapshot(string memory name) private {
        vm.snapshotValue("IsolatedRegion", name, vm.lastCallGas().gasTotalUsed);
    }

    function _shown() private view returns (Shown memory shown) {
        shown.host = host;
        shown.digest = MEASUREMENT;
        shown.evidence = _evidence(uint64(NOW - 1 days));
        shown.said = _statement(keccak256("report"));
        shown.signature = _say(shown.said);
    }

    function _check(Shown memory shown) private pure returns (bool) {
        return IsolatedRegion.checkSignature(shown.host, shown.digest, shown.evidence, shown.said, shown.signature);
    }

    function _checkAt(Shown memory shown, uint64 from, uint64 to) private view returns (bool) {
        return
            IsolatedRegion.checkSignature(
                shown.host, shown.digest, shown.evidence, shown.said, shown.signature, from, to
            );
    }

    function _checkAttested(Shown memory shown, uint64 from, uint64 to) private view returns (bool) {
        return IsolatedRegion.checkSignature(
            register, cryptlet, shown.digest, shown.evidence, shown.said, shown.signature, from, to
        );
    }

    function _assignHost() private {
        register.registerHost(host, "https://host.example", keccak256("authority"));
        vm.prank(publisher);
        register.assignHost(cryptlet, host);
    }

    function _flip(uint256 value, uint256 place, uint8 mask) private pure returns (uint256) {
        return value ^ (uint256(mask) << (8 * place));
    }

    function _flip(bytes32 value, uint256 place, uint8 mask) private pure returns (bytes32) {
        return bytes32(_flip(uint256(value), place % 32, mask));
    }

    function _flip(bytes memory value, uint256 place, uint8 mask) private pure {
        place %= value.length;
        value[place] ^= bytes1(mask);
    }

    /// @dev The first bytes, filled up with zeros.
    function _cut(bytes memory value, uint256 length) private pure returns (bytes memory cut) {
        cut = new bytes(length);
        for (uint256 i = 0; i < length && i < value.length; ++i) {
            cut[i] = value[i];
        }
    }

    function _highS(uint256 key, bytes32 digest, uint256 parity) private pure returns (bytes memory signature) {
        signature = _cut(_withHighS(_sign(key, digest)), 64);
        signature[32] = bytes1((uint8(signature[32]) & 0x7f) | uint8(parity << 7));
    }

    function _read(string memory name) private view returns (string memory) {
        return vm.readFile(string.concat("../vectors/region/", name, ".json"));
    }

    function _parse(string memory json) private pure returns (Shown memory shown) {
        shown.host = vm.parseJsonAddress(json, ".host");
        shown.evidence = IsolatedRegion.Evidence({
            provider: vm.parseJsonString(json, ".evidence.provider"),
            controls: vm.parseJsonStringArray(json, ".evidence.controls"),
            measurement: vm.parseJsonBytes32(json, ".evidence.measurement"),
            regionKey: vm.parseJsonAddress(json, ".evidence.regionKey"),
            exchangeKey: vm.parseJsonBytes32(json, ".evidence.exchangeKey"),
            nonce: vm.parseJsonBytes32(json, ".evidence.nonce"),
            madeAt: uint64(vm.parseJsonUint(json, ".evidence.madeAt")),
            signature: vm.parseJsonBytes(json, ".evidence.signature")
        });
        shown.digest = shown.evidence.measurement;
        shown.said = IsolatedRegion.Statement({
            report: vm.parseJsonBytes32(json, ".said.report"),
            input: vm.parseJsonBytes32(json, ".said.input"),
            sources: vm.parseJsonBytes32(json, ".said.sources")
        });
        shown.signature = vm.parseJsonBytes(json, ".signature");
    }

    function _reportOf(string memory json) private pure returns (CryptoDelegate.Report memory) {
        return CryptoDelegate.Report({
            cryptlet: vm.parseJsonAddress(json, ".report.cryptlet"),
            subject: vm.parseJsonBytes32(json, ".report.subject"),
            sequence: uint64(vm.parseJsonUint(json, ".report.sequence")),
            issuedAt: uint64(vm.parseJsonUint(json, ".report.issuedAt")),
            validUntil: uint64(vm.parseJsonUint(json, ".report.validUntil")),
            region: vm.parseJsonBytes32(json, ".report.region"),
            delegation: vm.parseJsonBytes32(json, ".report.delegation"),
            payload: vm.parseJsonBytes(json, ".report.payload")
        });
    }

    /// @dev The delegate's code at the vector's address, on its chain.
    function _delegateOf(string memory json) private returns (CryptoDelegate) {
        vm.chainId(vm.parseJsonUint(json, ".domain.chainId"));
        address named = vm.parseJsonAddress(json, ".domain.delegate");
        vm.etch(named, address(delegate).code);
        return CryptoDelegate(named);
    }
}
