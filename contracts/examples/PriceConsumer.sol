// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {CryptletProxy} from "../src/CryptletProxy.sol";
import {CryptoDelegate} from "../src/CryptoDelegate.sol";

/**
 * @title PriceConsumer
 * @notice The MarketWatcher example: a contract that is woken with the day's exchange rates at 16:00 in the market's
 * time zone (Europe/Berlin), only if the market was open that day.
 *
 * Rates are units of the foreign currency for one euro, with 18 decimals: 1.0871 USD is 1087100000000000000.
 * A day is the unix time, in seconds, of midnight UTC of its civil date: 16 October 2026 is 1792108800.
 */
contract PriceConsumer is CryptletProxy {
    /// One slot a currency.
    struct Rate {
        uint64 day;
        uint32 wakeUps;
        uint160 rate;
    }

    /// @notice When the contract is woken: every day at 16:00.
    string public constant CRON = "0 16 * * *";

    /// @notice The time zone that {CRON} is read in.
    string public constant TIME_ZONE = "Europe/Berlin";

    /// @notice Seconds that a report stays valid: until the next one is due.
    uint32 public constant VALIDITY = 1 days;

    /// Covers a first write (22,100) and the event's word for each currency, and the loop's fixed part.
    uint32 private constant GAS_BASE = 40_000;
    uint32 private constant GAS_PER_CURRENCY = 30_000;

    bytes32 private immutable _subject;

    string[] private _currencies;
    mapping(uint256 index => Rate) private _rates;
    mapping(bytes32 nameHash => uint256 position) private _positions;

    /// @notice The contract was woken with the rates of `day`, in the order of {currencies}.
    event PriceCalculated(uint64 indexed day, uint256[] rates);

    /// @notice At least one currency must be asked for.
    error NoCurrency();

    /// @notice A currency is named twice, or is none of those that were asked for.
    error InvalidCurrency(string currency);

    /// @notice There must be one rate for each currency.
    error WrongRateCount(uint256 expected, uint256 given);

    /// @notice A rate of zero is no rate.
    error ZeroRate(uint256 index);

    /**
     * @notice Subscribes to the rates of `pairs`.
     * @param delegate_ The delegate that brings the reports.
     * @param cryptlet_ The market watcher's id.
     * @param pairs The currencies quoted against the euro, by their ISO 4217 codes, for instance `["USD", "GBP"]`.
     */
    constructor(
        CryptoDelegate delegate_,
        address cryptlet_,
        string[] memory pairs
    ) CryptletProxy(delegate_, cryptlet_) {
        if (pairs.length == 0) revert NoCurrency();
        for (uint256 i = 0; i < pairs.length; ++i) {
            bytes32 key = keccak256(bytes(pairs[i]));
            if (bytes(pairs[i]).length == 0 || _positions[key] != 0) revert InvalidCurrency(pairs[i]);
            _positions[key] = i + 1;
            _currencies.push(pairs[i]);
        }
        _subject = _subscribeClock(
            PriceConsumer.CalculatePrice.selector,
            GAS_BASE + GAS_PER_CURRENCY * SafeCast.toUint32(pairs.length),
            VALIDITY,
            CRON,
            TIME_ZONE,
            abi.encode(true, pairs)
        );
    }

    /**
     * @notice Takes the day's rates. Called by the cryptlet's reports only.
     * @param day Midnight UTC of the civil date that the rates are of, in unix seconds.
     * @param rates One rate for each of {currencies}, in that order, 18 decimals.
     */
    // solhint-disable-next-line func-name-mixedcase
    function CalculatePrice(uint64 day, uint256[] calldata rates) external onlyBy(cryptlet()) {
        uint256 count = _currencies.length;
        if (rates.length != count) revert WrongRateCount(count, rates.length);
        for (uint256 i = 0; i < count; ++i) {
            if (rates[i] == 0) revert ZeroRate(i);
            _rates[i] = Rate(day, _rates[i].wakeUps + 1, SafeCast.toUint160(rates[i]));
        }
        emit PriceCalculated(day, rates);
    }

    /// @notice Ends the subscription. The owner only.
    function unsubscribe() external onlyOwner {
        _unsubscribe(_subject);
    }

    /// @notice The subscription's id at the delegate.
    function subject() external view returns (bytes32) {
        return _subject;
    }

    /// @notice The currencies asked for, in the order of the rates.
    function currencies() external view returns (string[] memory) {
        return _currencies;
    }

    /// @notice How often the contract was woken.
    function wakeUps() external view returns (uint32) {
        return _rates[0].wakeUps;
    }

    /**
     * @notice The latest rate of one currency; `(0, 0)` before the first wake-up.
     * @return rate Units of the currency for one euro, 18 decimals.
     * @return day The day that the rate is of.
     */
    function latestRate(string calldata currency) external view returns (uint256 rate, uint64 day) {
        uint256 position = _positions[keccak256(bytes(currency))];
        if (position == 0) revert InvalidCurrency(currency);
        Rate storage latest = _rates[position - 1];
        return (latest.rate, latest.day);
    }

    /**
     * @notice The latest rates of all {currencies}, in that order; all zero before the first wake-up.
     * @return day The day that the rates are of.
     * @return rates Units of each currency for one euro, 18 decimals.
     */
    function latestRates() external view returns (uint64 day, uint256[] memory rates) {
        uint256 count = _currencies.length;
        rates = new uint256[](count);
        for (uint256 i = 0; i < count; ++i) {
            rates[i] = _rates[i].rate;
        }
        day = _rates[0].day;
    }
}
