// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

// Header of the cryptlet "gold-price", version "0.1.0".
//
// Id in the register: 0xC1C1c1c1C1C1C1c1c1C1C1C1c1C1C1C1c1C1c1c1
// Public key, as the address of its signer: 0xb2b2b2b2b2B2b2B2B2b2b2B2B2b2B2B2b2b2b2b2
//
// Do not edit. `cryptlet import gold-price` writes this file, refreshes it when the publisher brings out a new version, and
// refuses it when it is not the one that the register names. To be woken by the cryptlet, inherit GoldPrice.

import {CryptletProxy} from "./bletchley/CryptletProxy.sol";
import {CryptoDelegate} from "./bletchley/CryptoDelegate.sol";

/// @title What the cryptlet gold-price says to a contract.
interface IGoldPrice {
    /// A price and where it was read.
    struct Quote {
        Market market;
        Price price;
    }

    enum Market {
        London,
        Zurich
    }

    /// US dollars for a troy ounce, 18 decimals.
    type Price is uint128;

    /* Emitted by contracts that keep what they are told. */
    event Quoted(uint64 indexed day, Quote quote);

    error StaleQuote(uint64 day);

    /// @notice Called with the day's price.
    function priceOf(uint64 day, uint256 price) external;

    /// @notice Called with the quotes of all markets.
    function quotesOf(uint64 day, Quote[] calldata quotes) external;
}

/// @notice What was recorded about the cryptlet when this header was made.
library GoldPriceHeader {
    /// @notice The cryptlet's id in the register.
    address internal constant CRYPTLET = 0xC1C1c1c1C1C1C1c1c1C1C1C1c1C1C1C1c1C1c1c1;

    /// @notice The public key of this version, as the address of its signer.
    address internal constant PUBLIC_KEY = 0xb2b2b2b2b2B2b2B2B2b2b2B2B2b2B2B2b2b2b2b2;

    /// @notice The cryptlet's name in the register.
    string internal constant NAME = "gold-price";

    /// @notice The version's label.
    string internal constant VERSION = "0.1.0";

    /// @notice The register does not know the recorded public key as a valid signer of the cryptlet (any longer):
    /// import the header again.
    error PublicKeyNotValid(address cryptlet, address publicKey);
}

/// @notice Inherit this contract to be woken by the cryptlet "gold-price". Functions that it calls are for its reports only:
/// mark them `onlyBy(GoldPriceHeader.CRYPTLET)`.
abstract contract GoldPrice is CryptletProxy, IGoldPrice {
    /// @param delegate_ The delegate that is trusted to bring the cryptlet's reports.
    constructor(CryptoDelegate delegate_) CryptletProxy(delegate_, GoldPriceHeader.CRYPTLET) {
        if (!delegate_.register().isSigner(GoldPriceHeader.CRYPTLET, GoldPriceHeader.PUBLIC_KEY)) {
            revert GoldPriceHeader.PublicKeyNotValid(GoldPriceHeader.CRYPTLET, GoldPriceHeader.PUBLIC_KEY);
        }
    }
}
