// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptletCaller} from "../src/CryptletCaller.sol";
import {CryptoDelegate} from "../src/CryptoDelegate.sol";

/**
 * @title SpotPrice
 * @notice The static use case: a view that a wallet or a page calls like any other, and that a cryptlet answers.
 *
 * It asks the example cryptlet `market-watcher`. Rates are units of the currency for one euro, with 18 decimals, the same for
 * everybody within a minute.
 */
contract SpotPrice is CryptletCaller {
    /// @notice Seconds that one answer stands.
    uint64 public constant WINDOW = 1 minutes;

    /**
     * @notice Asks `cryptlet_` through the gateways `urls_`.
     * @param delegate_ The delegate whose domain answers are signed in.
     */
    constructor(
        CryptoDelegate delegate_,
        address cryptlet_,
        string[] memory urls_
    )
        CryptletCaller(delegate_, cryptlet_, WINDOW, urls_)
    {}

    /// @notice The present rate of `currency`, an ISO 4217 code. Clients that know ERC-3668 return it.
    function price(string calldata currency) external view returns (uint256) {
        bytes memory params = paramsOf(currency);
        _lookUp(params, SpotPrice.priceCallback.selector, params);
    }

    /// @notice What the cryptlet is asked with: whether only if the market is open, which is a trigger's matter, and currencies.
    function paramsOf(string calldata currency) public pure returns (bytes memory) {
        string[] memory currencies = new string[](1);
        currencies[0] = currency;
        return abi.encode(false, currencies);
    }

    /**
     * @notice Takes the answer to {price}.
     * @param response What the gateway answered.
     * @param extraData The parameters that the cryptlet was asked with.
     */
    function priceCallback(bytes calldata response, bytes calldata extraData) external view returns (uint256) {
        (, uint256[] memory rates) = abi.decode(_verified(extraData, response), (uint64, uint256[]));
        return rates[0];
    }
}
