// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {PriceConsumer} from "../../examples/PriceConsumer.sol";
import {CryptletProxy} from "../../src/CryptletProxy.sol";
import {CryptoDelegate} from "../../src/CryptoDelegate.sol";
import {DelegateTest} from "../support/DelegateTest.sol";

/**
 * @title PriceConsumerTest
 * @notice The example as the host sees it: what it subscribes, and what a day's rates do.
 */
contract PriceConsumerTest is DelegateTest {
    uint64 internal constant DAY = 1_792_108_800; // 16 October 2026
    uint256 internal constant USD = 1_087_100_000_000_000_000;
    uint256 internal constant GBP = 835_250_000_000_000_000;

    PriceConsumer internal consumer;

    function setUp() public override {
        super.setUp();
        consumer = new PriceConsumer(delegate, cryptlet, _pairs());
    }

    function testSubscription() public {
        vm.recordLogs();
        PriceConsumer fresh = new PriceConsumer(delegate, cryptlet, _pairs());
        bytes memory expected = abi.encode(
            uint256(0),
            CryptoDelegate.Subscription({
                cryptlet: cryptlet,
                onBehalfOf: address(0),
                callback: PriceConsumer.CalculatePrice.selector,
                callbackGas: 100_000,
                validity: 1 days,
                trigger: 1,
                condition: abi.encode("0 16 * * *", "Europe/Berlin"),
                params: abi.encode(true, _pairs())
            })
        );
        vm.assertEq(vm.getRecordedLogs()[1].data, expected);
        (address by,,, uint64 sequence) = delegate.subscription(cryptlet, fresh.subject());
        vm.assertEq(by, address(fresh));
        vm.assertEq(sequence, 0);
    }

    function testBeforeTheFirstWakeUp() public view {
        (uint64 day, uint256[] memory rates) = consumer.latestRates();
        vm.assertEq(day, 0);
        vm.assertEq(rates.length, 2);
        vm.assertEq(rates[0] + rates[1], 0);
        vm.assertEq(consumer.wakeUps(), 0);
        string[] memory currencies = consumer.currencies();
        vm.assertEq(currencies.length, 2);
        vm.assertEq(currencies[0], "USD");
        vm.assertEq(currencies[1], "GBP");
    }

    function testWakeUp() public {
        vm.expectEmit(address(consumer));
        emit PriceConsumer.PriceCalculated(DAY, _rates(USD, GBP));
        _wake(DAY, _rates(USD, GBP));
        _assertLatest(DAY, USD, GBP, 1);

        _wake(DAY + 3 days, _rates(USD + 1, GBP + 1));
        _assertLatest(DAY + 3 days, USD + 1, GBP + 1, 2);
    }

    function testAnyRatesAreKept(uint64 day, uint160 usd, uint160 gbp) public {
        vm.assume(usd != 0 && gbp != 0);
        _wake(day, _rates(usd, gbp));
        _assertLatest(day, usd, gbp, 1);
    }

    /// @dev The gas that it subscribes suffices for the most currencies that its parameters can name.
    function testSubscribedGasSuffices() public {
        string[] memory pairs = new string[](30);
        uint256[] memory rates = new uint256[](30);
        for (uint256 i = 0; i < pairs.length; ++i) {
            pairs[i] = string(abi.encodePacked("A", bytes1(uint8(65 + i / 26)), bytes1(uint8(65 + i % 26))));
            rates[i] = type(uint160).max - i;
        }
        consumer = new PriceConsumer(delegate, cryptlet, pairs);
        _wake(DAY, rates);
        vm.assertEq(consumer.wakeUps(), 1);
    }

    function testRefusesOtherCounts() public {
        uint256[] memory three = new uint256[](3);
        _expectFailure(
            DAY, three, abi.encodeWithSelector(PriceConsumer.WrongRateCount.selector, uint256(2), uint256(3))
        );
        _expectFailure(
            DAY, new uint256[](0), abi.encodeWithSelector(PriceConsumer.WrongRateCount.selector, uint256(2), uint256(0))
        );
    }

    function testRefusesZeroRates() public {
        bytes memory reason = abi.encodeWithSelector(PriceConsumer.ZeroRate.selector, uint256(1));
        _expectFailure(DAY, _rates(USD, 0), reason);
    }

    function testRefusesRatesThatDoNotFit() public {
        uint256 excess = uint256(type(uint160).max) + 1;
        bytes memory reason =
            abi.encodeWithSelector(SafeCast.SafeCastOverflowedUintDowncast.selector, uint8(160), excess);
        _expectFailure(DAY, _rates(USD, excess), reason);
    }

    function testOnlyTheCryptletCalculates(address caller) public {
        vm.assume(caller != address(delegate) && caller != cryptlet);
        vm.prank(caller);
        vm.expectRevert(abi.encodeWithSelector(CryptletProxy.UnauthorizedCryptlet.selector, caller));
        consumer.CalculatePrice(DAY, _rates(USD, GBP));
    }

    function testConstructorRefusals() public {
        vm.expectRevert(abi.encodeWithSelector(PriceConsumer.NoCurrency.selector));
        new PriceConsumer(delegate, cryptlet, new string[](0));

        string[] memory pairs = _pairs();
        pairs[1] = "USD";
        vm.expectRevert(abi.encodeWithSelector(PriceConsumer.InvalidCurrency.selector, "USD"));
        new PriceConsumer(delegate, cryptlet, pairs);

        pairs[1] = "";
        vm.expectRevert(abi.encodeWithSelector(PriceConsumer.InvalidCurrency.selector, ""));
        new PriceConsumer(delegate, cryptlet, pairs);
    }

    function testLatestRateOfAnotherCurrency() public {
        vm.expectRevert(abi.encodeWithSelector(PriceConsumer.InvalidCurrency.selector, "JPY"));
        consumer.latestRate("JPY");
    }

    function testUnsubscribe() public {
        vm.prank(submitter);
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, submitter));
        consumer.unsubscribe();

        consumer.unsubscribe();
        (address by,,,) = delegate.subscription(cryptlet, consumer.subject());
        vm.assertEq(by, address(0));
    }

    function _wake(uint64 day, uint256[] memory rates) private {
        _deliver(_report(consumer.subject(), abi.encode(day, rates)));
    }

    function _expectFailure(uint64 day, uint256[] memory rates, bytes memory reason) private {
        CryptoDelegate.Report memory report = _report(consumer.subject(), abi.encode(day, rates));
        vm.expectEmit(address(delegate));
        emit CryptoDelegate.Delivered(
            report.subject, cryptlet, report.sequence, delegate.hashReport(report), signer, false
        );
        vm.expectEmit(address(delegate));
        emit CryptoDelegate.CallbackFailed(report.subject, report.sequence, reason);
        _deliver(report);
        vm.assertEq(consumer.wakeUps(), 0);
    }

    function _assertLatest(uint64 day, uint256 usd, uint256 gbp, uint32 wakeUps) private view {
        (uint64 latestDay, uint256[] memory rates) = consumer.latestRates();
        vm.assertEq(latestDay, day);
        vm.assertEq(rates[0], usd);
        vm.assertEq(rates[1], gbp);
        (uint256 rate, uint64 dayOfRate) = consumer.latestRate("GBP");
        vm.assertEq(rate, gbp);
        vm.assertEq(dayOfRate, day);
        vm.assertEq(consumer.wakeUps(), wakeUps);
    }

    function _pairs() private pure returns (string[] memory pairs) {
        pairs = new string[](2);
        pairs[0] = "USD";
        pairs[1] = "GBP";
    }

    function _rates(uint256 usd, uint256 gbp) private pure returns (uint256[] memory rates) {
        rates = new uint256[](2);
        rates[0] = usd;
        rates[1] = gbp;
    }
}
