// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {PackedSubscription, PackedSubscriptionLib} from "../src/PackedSubscription.sol";
import {Test} from "./support/Test.sol";

/**
 * @title PackedSubscriptionTest
 * @notice What is packed is what is read, and counting touches nothing else.
 */
contract PackedSubscriptionTest is Test {
    function testRoundTrip(
        address consumer,
        bytes4 callback,
        bool onBehalf,
        uint32 callbackGas,
        uint32 sequence
    )
        public
        pure
    {
        callbackGas &= type(uint32).max >> 2;
        PackedSubscription fresh = PackedSubscriptionLib.pack(consumer, callback, onBehalf, callbackGas);
        vm.assertEq(fresh.sequence(), 0);
        vm.assume(sequence < type(uint32).max);
        PackedSubscription packed = PackedSubscription.wrap(PackedSubscription.unwrap(fresh) | sequence).advance();
        vm.assertEq(packed.consumer(), consumer);
        vm.assertEq(bytes32(packed.callback()), bytes32(callback));
        vm.assertEq(packed.onBehalf(), onBehalf);
        vm.assertEq(packed.callbackGas(), callbackGas);
        vm.assertEq(packed.sequence(), uint256(sequence) + 1);
        vm.assertTrue(packed.isActive());

        PackedSubscription paused = packed.paused();
        vm.assertFalse(paused.isActive());
        vm.assertTrue(paused.exists());
        vm.assertEq(PackedSubscription.unwrap(paused.paused()), PackedSubscription.unwrap(paused));
        vm.assertEq(PackedSubscription.unwrap(paused.resumed()), PackedSubscription.unwrap(packed));
        vm.assertEq(paused.consumer(), consumer);
        vm.assertEq(paused.onBehalf(), onBehalf);
        vm.assertEq(paused.callbackGas(), callbackGas);
        vm.assertEq(paused.sequence(), packed.sequence());
    }

    function testExists(address consumer, bytes4 callback, bool onBehalf) public pure {
        vm.assume(consumer != address(0));
        vm.assertTrue(PackedSubscriptionLib.pack(consumer, callback, onBehalf, 20_000).exists());
        vm.assertFalse(PackedSubscriptionLib.none().exists());
    }

    /// @dev Gas that does not fit must not set the bit beside it.
    function testGasThatDoesNotFit(uint32 callbackGas) public {
        callbackGas |= 1 << 30;
        vm.expectRevert(abi.encodeWithSelector(PackedSubscriptionLib.GasTooHigh.selector, callbackGas));
        this.pack(callbackGas);
    }

    /// @notice Makes the library's revert one of a call, as `expectRevert` needs it.
    function pack(uint32 callbackGas) external pure returns (PackedSubscription) {
        return PackedSubscriptionLib.pack(address(1), 0xffffffff, false, callbackGas);
    }
}
