// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptletProxy} from "../../src/CryptletProxy.sol";
import {CryptoDelegate} from "../../src/CryptoDelegate.sol";
import {IsolatedRegion} from "../../src/IsolatedRegion.sol";

/**
 * @title MeasuredRate
 * @notice A contract that counts a rate only once it was shown that one measured code said it, in a region that an
 * attested host of the cryptlet vouched for: the key that signs reports is not enough.
 *
 * The callback keeps what was reported; whoever has the receipt brings what region and host signed. A report that comes
 * before the last one was proven takes its place.
 */
contract MeasuredRate is CryptletProxy {
    /// @notice Oldest evidence that counts, in seconds.
    uint64 public constant MAX_AGE = 7 days;

    bytes32 private immutable _measurement;

    bytes32 private _report;
    uint256 private _reported;
    uint256 private _rate;

    /// @notice A region with the measurement said that `rate` is the rate.
    event RateProven(bytes32 indexed report, uint256 rate);

    /// @notice The proof is of another report than the last one, or none at all.
    error NotProven(bytes32 report);

    /// @notice Subscribes to the day's rate, as said by the code that `measurement_` names (`IsolatedRegionGetDigest`).
    constructor(CryptoDelegate delegate_, address cryptlet_, bytes32 measurement_) CryptletProxy(delegate_, cryptlet_) {
        _measurement = measurement_;
        _subscribeClock(
            MeasuredRate.rateReported.selector, 80_000, 1 days, "0 16 * * *", "Europe/Berlin", abi.encode("USD")
        );
    }

    /// @notice The rate that was proven last; zero before the first.
    function rate() external view returns (uint256) {
        return _rate;
    }

    /// @notice The measurement that counts.
    function measurement() external view returns (bytes32) {
        return _measurement;
    }

    /// @notice The callback.
    function rateReported(uint64, uint256 rate_) external onlyBy(cryptlet()) {
        (_report,) = delegate().currentReport();
        _reported = rate_;
    }

    /**
     * @notice Shows where the last report came from. Anybody may.
     * @param evidence What the region proved about itself.
     * @param said What the region said.
     * @param signature The region's signature.
     */
    function prove(
        IsolatedRegion.Evidence calldata evidence,
        IsolatedRegion.Statement calldata said,
        bytes calldata signature
    )
        external
    {
        uint64 to = uint64(block.timestamp);
        bool proven = said.report == _report
            && IsolatedRegion.checkSignature(
                delegate().register(), cryptlet(), _measurement, evidence, said, signature, to - MAX_AGE, to
            );
        if (!proven) revert NotProven(said.report);
        delete _report;
        _rate = _reported;
        emit RateProven(said.report, _reported);
    }
}
