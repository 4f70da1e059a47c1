// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

interface Probe {
    function value() external view returns (uint256);
    function set(uint256 newValue) external returns (uint256);
}

interface Vm {
    function envAddress(string calldata name) external view returns (address);
    function envUint(string calldata name) external view returns (uint256);
    function startBroadcast() external;
}

/// Sends a transaction as `forge script --broadcast` does.
contract SetScript {
    Vm private constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    function run() external {
        VM.startBroadcast();
        Probe(VM.envAddress("PROBE")).set(VM.envUint("EXPECTED") + 1);
    }
}
