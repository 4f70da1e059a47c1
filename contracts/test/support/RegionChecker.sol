// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ICryptletRegister} from "../../src/ICryptletRegister.sol";
import {IsolatedRegion} from "../../src/IsolatedRegion.sol";

/**
 * @title RegionChecker
 * @notice Asks {IsolatedRegion} in a transaction and says what it answered: what gas figures are measured with.
 */
contract RegionChecker {
    /// @notice What {IsolatedRegion} answered.
    event Checked(bool believed);

    /// @notice Whether a region that `host` vouched for said it.
    function check(
        address host,
        bytes32 digest,
        IsolatedRegion.Evidence calldata evidence,
        IsolatedRegion.Statement calldata said,
        bytes calldata signature
    )
        external
    {
        emit Checked(IsolatedRegion.checkSignature(host, digest, evidence, said, signature));
    }

    /// @notice Whether a region that an attested host vouched for said it.
    function checkAttested(
        ICryptletRegister register,
        address cryptlet,
        bytes32 digest,
        IsolatedRegion.Evidence calldata evidence,
        IsolatedRegion.Statement calldata said,
        bytes calldata signature
    )
        external
    {
        uint64 to = type(uint64).max;
        emit Checked(IsolatedRegion.checkSignature(register, cryptlet, digest, evidence, said, signature, 0, to));
    }
}
