// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptletRegister} from "../../src/CryptletRegister.sol";
import {CryptoDelegate} from "../../src/CryptoDelegate.sol";
import {TestConsumer} from "../consumers/TestConsumer.sol";
import {RegisterTest} from "./RegisterTest.sol";

/**
 * @title DelegateTest
 * @notice A register with one cryptlet and one signer, a delegate, and reports for its consumers.
 */
abstract contract DelegateTest is RegisterTest {
    uint256 internal constant SIGNER_KEY = 0xA11CE;
    uint64 internal constant SIGNER_EXPIRY = uint64(NOW + 365 days);
    bytes32 internal constant REGION = keccak256("region");

    address internal publisher = _account("publisher");
    address internal submitter = _account("submitter");
    address internal signer = vm.addr(SIGNER_KEY);

    CryptletRegister internal register;
    CryptoDelegate internal delegate;
    address internal cryptlet;

    function setUp() public virtual {
        vm.warp(NOW);
        register = _newRegister();
        delegate = new CryptoDelegate(register);
        vm.prank(publisher);
        cryptlet = register.register("market-watcher", _version("1.0.0"), signer, SIGNER_EXPIRY);
    }

    /// @dev The report that `consumer` waits for, issued now and valid for an hour.
    function _report(TestConsumer consumer, uint256 word) internal view returns (CryptoDelegate.Report memory) {
        return _report(consumer.subject(), abi.encode(word));
    }

    function _report(bytes32 subject, bytes memory payload) internal view returns (CryptoDelegate.Report memory) {
        (,,, uint64 sequence) = delegate.subscription(cryptlet, subject);
        return CryptoDelegate.Report({
            cryptlet: cryptlet,
            subject: subject,
            sequence: sequence + 1,
            issuedAt: uint64(block.timestamp),
            validUntil: uint64(block.timestamp + 1 hours),
            region: REGION,
            delegation: 0,
            payload: payload
        });
    }

    function _sign(CryptoDelegate.Report memory report) internal view returns (bytes32 r, bytes32 vs) {
        return vm.signCompact(SIGNER_KEY, delegate.hashReport(report));
    }

    /// @dev Signs and delivers.
    function _deliver(CryptoDelegate.Report memory report) internal {
        (bytes32 r, bytes32 vs) = _sign(report);
        vm.prank(submitter);
        delegate.deliver(report, r, vs);
    }

    /// @dev Signs, and expects the delivery to be refused with `revertData`.
    function _expectRefusal(CryptoDelegate.Report memory report, bytes memory revertData) internal {
        (bytes32 r, bytes32 vs) = _sign(report);
        _expectRefusal(report, r, vs, revertData);
    }

    function _expectRefusal(
        CryptoDelegate.Report memory report,
        bytes32 r,
        bytes32 vs,
        bytes memory revertData
    )
        internal
    {
        vm.expectRevert(revertData);
        delegate.deliver(report, r, vs);
    }

    function _sequence(bytes32 subject) internal view returns (uint64 sequence) {
        (,,, sequence) = delegate.subscription(cryptlet, subject);
    }
}
