// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptletProxy} from "../src/CryptletProxy.sol";
import {CryptoDelegate} from "../src/CryptoDelegate.sol";
import {DelegateTest} from "./support/DelegateTest.sol";
import {Vm} from "./support/Vm.sol";

/**
 * @title CryptletProxyTriggersTest
 * @notice What each of the base contract's helpers subscribes, word for word.
 */
contract CryptletProxyTriggersTest is DelegateTest {
    AnyTrigger internal consumer;

    function setUp() public override {
        super.setUp();
        consumer = new AnyTrigger(delegate, cryptlet);
    }

    function testInstants() public {
        uint64[] memory instants = new uint64[](2);
        (instants[0], instants[1]) = (uint64(NOW + 1), uint64(NOW + 2));
        _expect(2, abi.encode(instants, uint8(1)));
        consumer.instants(_terms(), instants, CryptletProxy.Missed.Skip);
        _check();
    }

    function testSchedule() public {
        _expect(3, abi.encode("close-15", "", "XETR", uint8(0)));
        consumer.schedule(_terms(), "close-15", "", "XETR", CryptletProxy.Missed.CatchUp);
        _check();
    }

    function testInterval() public {
        _expect(4, abi.encode(uint64(7_200), "XETR", uint8(1)));
        consumer.interval(_terms(), 7_200, "XETR", CryptletProxy.Missed.Skip);
        _check();
    }

    function testThreshold() public {
        CryptletProxy.Direction[3] memory directions =
            [CryptletProxy.Direction.Rises, CryptletProxy.Direction.Falls, CryptletProxy.Direction.Either];
        for (uint8 i = 0; i < 3; ++i) {
            CryptletProxy.Repeat repeat = i == 1 ? CryptletProxy.Repeat.Once : CryptletProxy.Repeat.EveryTime;
            _expect(5, abi.encode(bytes(hex"c0ffee"), uint32(60), int256(-5), i + 1, uint256(3), uint8(i == 1 ? 0 : 1)));
            consumer.threshold(_terms(), hex"c0ffee", 60, -5, directions[i], 3, repeat);
            _check();
        }
    }

    function testLog() public {
        bytes32[] memory topics = new bytes32[](2);
        topics[1] = keccak256("topic");
        for (uint8 finality = 0; finality < 3; ++finality) {
            _expect(6, abi.encode(uint64(1), submitter, topics, finality));
            consumer.log(_terms(), 1, submitter, topics, CryptletProxy.Finality(finality));
            _check();
        }
    }

    function testBlocks() public {
        _expect(7, abi.encode(uint64(1), uint64(100), uint8(2)));
        consumer.blocks(_terms(), 1, 100, CryptletProxy.Finality.Finalized);
        _check();
    }

    function testApplication() public {
        _expect(8, abi.encode("shop", "order.placed"));
        consumer.application(_terms(), "shop", "order.placed");
        _check();
    }

    function testRequest() public {
        _expect(9, "");
        bytes32 subject = consumer.request(_terms());
        _check();
        CryptoDelegate.Report memory report = _report(subject, abi.encode(uint256(7)));
        _deliver(report);
        vm.assertEq(consumer.word(), 7);
    }

    function testPauseAndResume() public {
        bytes32 subject = consumer.request(_terms());
        consumer.pause(subject);
        vm.assertTrue(delegate.isPaused(cryptlet, subject));
        consumer.resume(subject);
        vm.assertFalse(delegate.isPaused(cryptlet, subject));
    }

    uint8 private _trigger;
    bytes private _condition;

    function _expect(uint8 trigger, bytes memory condition) private {
        (_trigger, _condition) = (trigger, condition);
        vm.recordLogs();
    }

    function _check() private {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs.length, 1);
        (, CryptoDelegate.Subscription memory s) = abi.decode(logs[0].data, (uint256, CryptoDelegate.Subscription));
        CryptletProxy.Terms memory terms = _terms();
        vm.assertEq(
            abi.encode(s),
            abi.encode(
                CryptoDelegate.Subscription({
                    cryptlet: cryptlet,
                    onBehalfOf: terms.onBehalfOf,
                    callback: terms.callback,
                    callbackGas: terms.callbackGas,
                    validity: terms.validity,
                    trigger: _trigger,
                    condition: _condition,
                    params: terms.params
                })
            )
        );
    }

    function _terms() private pure returns (CryptletProxy.Terms memory) {
        return CryptletProxy.Terms({
            onBehalfOf: address(0),
            callback: AnyTrigger.onReport.selector,
            callbackGas: 123_456,
            validity: 2 hours,
            params: abi.encode("USD")
        });
    }
}

/// @dev Lends out the base contract's helpers.
contract AnyTrigger is CryptletProxy {
    uint256 public word;

    constructor(CryptoDelegate delegate_, address cryptlet_) CryptletProxy(delegate_, cryptlet_) {}

    function onReport(uint256 word_) external onlyBy(cryptlet()) {
        word = word_;
    }

    function instants(Terms memory terms, uint64[] memory at_, Missed missed) external {
        _subscribeInstants(terms, at_, missed);
    }

    function schedule(
        Terms memory terms,
        string memory cron,
        string memory timeZone,
        string memory calendar,
        Missed missed
    )
        external
    {
        _subscribeSchedule(terms, cron, timeZone, calendar, missed);
    }

    function interval(Terms memory terms, uint64 period, string memory calendar, Missed missed) external {
        _subscribeInterval(terms, period, calendar, missed);
    }

    function threshold(
        Terms memory terms,
        bytes memory feedParams,
        uint32 every,
        int256 bound,
        Direction direction,
        uint256 hysteresis,
        Repeat repeat
    )
        external
    {
        _subscribeThreshold(terms, feedParams, every, bound, direction, hysteresis, repeat);
    }

    function log(
        Terms memory terms,
        uint64 chainId,
        address emitter,
        bytes32[] memory topics,
        Finality finality
    )
        external
    {
        _subscribeLog(terms, chainId, emitter, topics, finality);
    }

    function blocks(Terms memory terms, uint64 chainId, uint64 every, Finality finality) external {
        _subscribeBlocks(terms, chainId, every, finality);
    }

    function application(Terms memory terms, string memory application_, string memory kind) external {
        _subscribeApplication(terms, application_, kind);
    }

    function request(Terms memory terms) external returns (bytes32) {
        return _request(terms);
    }

    function pause(bytes32 subject) external {
        _pause(subject);
    }

    function resume(bytes32 subject) external {
        _resume(subject);
    }
}
