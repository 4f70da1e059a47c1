/// The price of a European call option.
interface IMonteCarlo {
    /// Called after each run of the computation, and last with `done == total`. `done` of `total` paths were summed up; `price`
    /// and its standard error have 18 decimals.
    function priced(uint64 done, uint64 total, uint256 price, uint256 standardError) external;
}
