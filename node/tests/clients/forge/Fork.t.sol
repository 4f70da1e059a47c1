// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

interface Probe {
    function value() external view returns (uint256);
    function set(uint256 newValue) external returns (uint256);
}

interface Vm {
    function envAddress(string calldata name) external view returns (address);
    function envUint(string calldata name) external view returns (uint256);
}

/// Runs on a fork of the node: what forge reads through JSON-RPC is what the chain holds.
contract ForkTest {
    Vm private constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    function testReadsTheChain() external view {
        require(block.chainid == 31337, "unexpected chain");
        require(Probe(VM.envAddress("PROBE")).value() == VM.envUint("EXPECTED"), "unexpected value");
    }
}
