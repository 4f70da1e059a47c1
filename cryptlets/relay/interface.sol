/// What a contract was woken by.
interface IRelay {
    /// Called at once after each trigger; see the cryptlet's source for what number and hash are of each kind.
    function relayed(uint256 number, bytes32 hash) external;
}
