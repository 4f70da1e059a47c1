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
