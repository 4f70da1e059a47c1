/// The euro reference rates of a day.
interface IMarketWatcher {
    /// Called once the rates of `day` were published. `day` is midnight UTC of the civil date that the rates are of, in Unix
    /// seconds; `rates` are units of each currency that the subscription names, in its order, for one euro, 18 decimals.
    function CalculatePrice(uint64 day, uint256[] calldata rates) external;
}
