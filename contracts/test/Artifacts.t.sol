// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Test} from "./support/Test.sol";

/**
 * @title ArtifactsTest
 * @notice The bytecode that these tests run is the one in `artifacts/`, byte for byte.
 */
contract ArtifactsTest is Test {
    function testBytecodeIsTheOneTested() public view {
        _assertSame("CryptletRegister", "CryptletRegister");
        _assertSame("CryptletRegisterMirror", "CryptletRegisterMirror");
        _assertSame("CryptoDelegate", "CryptoDelegate");
        _assertSame("MessageQueue", "MessageQueue");
        _assertSame("PriceConsumer", "PriceConsumer");
        _assertSame("SpotPrice", "SpotPrice");
        _assertSame("StoreWord", "test/StoreWord");
        _assertSame("IdentityConsumer", "test/IdentityConsumer");
        _assertSame("RevertingConsumer", "test/RevertingConsumer");
        _assertSame("GasEater", "test/GasEater");
        _assertSame("ReturnBomb", "test/ReturnBomb");
        _assertSame("Wallet", "test/Wallet");
    }

    function _assertSame(string memory name, string memory artifact) private view {
        bytes memory tested = vm.getCode(string.concat(name, ".sol:", name));
        string memory json = vm.readFile(string.concat("artifacts/", artifact, ".json"));
        bytes memory published = vm.parseJsonBytes(json, ".bytecode");
        vm.assertTrue(published.length > 0, name);
        vm.assertEq(published, tested, name);
    }
}
