// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/**
 * @notice All that a delivery must know of a subscription, in one storage slot.
 *
 * From the most significant bit: consumer (160) | callback (32) | onBehalf (1) | active (1) | callbackGas (30) |
 * sequence (32). The sequence is the number of reports consumed so far and lies lowest, so that consuming one is adding
 * one. `active` is set unless the subscription is paused, so that one bit says whether it is there to be delivered to.
 */
type PackedSubscription is uint256;

using PackedSubscriptionLib for PackedSubscription global;

/**
 * @title PackedSubscriptionLib
 * @notice Packs and reads {PackedSubscription}.
 */
library PackedSubscriptionLib {
    /// @notice Most gas that can be packed.
    uint32 internal constant MAX_GAS = type(uint32).max >> 2;

    /// @notice As many reports as the counter can count.
    uint32 internal constant MAX_SEQUENCE = type(uint32).max;

    uint256 private constant ON_BEHALF = 1 << 63;

    /// @notice The bit that is set unless the subscription is paused.
    uint256 internal constant ACTIVE = 1 << 62;

    /// @notice The bits of an active subscription that asks for reports on somebody's behalf.
    uint256 internal constant FLAGS = ACTIVE | ON_BEHALF;

    /// @notice The callback's gas is above {MAX_GAS}.
    error GasTooHigh(uint32 callbackGas);

    /// @notice An active subscription that has consumed nothing yet.
    function pack(
        address consumer_,
        bytes4 callback_,
        bool onBehalf_,
        uint32 callbackGas_
    )
        internal
        pure
        returns (PackedSubscription)
    {
        if (callbackGas_ > MAX_GAS) revert GasTooHigh(callbackGas_);
        uint256 flag = onBehalf_ ? ON_BEHALF : 0;
        return PackedSubscription.wrap(
            (uint256(uint160(consumer_)) << 96) | (uint256(uint32(callback_)) << 64) | flag | ACTIVE
                | (uint256(callbackGas_) << 32)
        );
    }

    /// @notice The same subscription with one more report consumed: at most {MAX_SEQUENCE}, which callers check.
    function advance(PackedSubscription self) internal pure returns (PackedSubscription) {
        unchecked {
            return PackedSubscription.wrap(PackedSubscription.unwrap(self) + 1);
        }
    }

    /// @notice The same subscription, paused.
    function paused(PackedSubscription self) internal pure returns (PackedSubscription) {
        return PackedSubscription.wrap(PackedSubscription.unwrap(self) & ~ACTIVE);
    }

    /// @notice The same subscription, no longer paused.
    function resumed(PackedSubscription self) internal pure returns (PackedSubscription) {
        return PackedSubscription.wrap(PackedSubscription.unwrap(self) | ACTIVE);
    }

    /// @notice No subscription.
    function none() internal pure returns (PackedSubscription) {
        return PackedSubscription.wrap(0);
    }

    /// @notice Whether there is a subscription at all: a consumer is never the zero address.
    function exists(PackedSubscription self) internal pure returns (bool) {
        return PackedSubscription.unwrap(self) != 0;
    }

    /// @notice Whether there is a subscription that is not paused.
    function isActive(PackedSubscription self) internal pure returns (bool) {
        return PackedSubscription.unwrap(self) & ACTIVE != 0;
    }

    /// @notice The contract that is called back.
    function consumer(PackedSubscription self) internal pure returns (address) {
        return address(uint160(PackedSubscription.unwrap(self) >> 96));
    }

    /// @notice The selector of the function that is called back.
    function callback(PackedSubscription self) internal pure returns (bytes4) {
        return bytes4(uint32(PackedSubscription.unwrap(self) >> 64));
    }

    /// @notice The gas that the callback is given.
    function callbackGas(PackedSubscription self) internal pure returns (uint256) {
        return uint32(PackedSubscription.unwrap(self) >> 32) & MAX_GAS;
    }

    /// @notice Whether the consumer asked for reports on somebody's behalf.
    function onBehalf(PackedSubscription self) internal pure returns (bool) {
        return PackedSubscription.unwrap(self) & ON_BEHALF != 0;
    }

    /// @notice The number of reports consumed so far.
    function sequence(PackedSubscription self) internal pure returns (uint64) {
        return uint32(PackedSubscription.unwrap(self));
    }
}
