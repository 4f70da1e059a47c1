// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptletRegister} from "../src/CryptletRegister.sol";
import {PolicyBoard} from "../src/PolicyBoard.sol";
import {RegisterTest} from "./support/RegisterTest.sol";
import {Signatures} from "./support/Signatures.sol";

/**
 * @title CryptletRegisterGasTest
 * @notice What the register's transactions cost, compared with the committed snapshot without tolerance.
 */
contract CryptletRegisterGasTest is RegisterTest, Signatures {
    uint64 internal constant EXPIRY = uint64(NOW + 30 days);

    address internal publisher = _account("publisher");
    address internal signer = _account("signer");

    /// Keys of the administrators, ascending by address; two of them decide.
    uint256[3] internal keys = [uint256(0xA), 0xB, 0xC];
    CryptletRegister internal register;
    address internal cryptlet;

    function setUp() public {
        vm.warp(NOW);
        address[] memory members = new address[](3);
        for (uint256 i = 0; i < 3; ++i) {
            for (uint256 j = i + 1; j < 3; ++j) {
                if (vm.addr(keys[j]) < vm.addr(keys[i])) (keys[i], keys[j]) = (keys[j], keys[i]);
            }
            members[i] = vm.addr(keys[i]);
        }
        register = new CryptletRegister(address(this), members, 2);
        vm.prank(publisher);
        cryptlet = register.register("market-watcher", _version("1.0.0"), signer, EXPIRY);
    }

    /// forge-config: default.isolate = true
    function testGasRegister() public {
        vm.prank(_account("another publisher"));
        register.register("gold-price", _version("1.0.0"), signer, EXPIRY);
        _snapshot("register, a publisher's first");
    }

    /// forge-config: default.isolate = true
    function testGasPublishVersion() public {
        vm.prank(publisher);
        register.publishVersion(cryptlet, _version("1.1.0"), _account("second signer"), EXPIRY);
        _snapshot("publishVersion");
    }

    /// forge-config: default.isolate = true
    function testGasSetPolicy() public {
        _setPolicy(1);
        _setPolicy(2);
        _snapshot("setPolicy, not the first, approved by two accounts");
    }

    /// forge-config: default.isolate = true
    function testGasRevokeVersion() public {
        vm.prank(publisher);
        register.revokeVersion(cryptlet, 1);
        _snapshot("revokeVersion, one signer");
    }

    /// @dev As many as a version ever has.
    ///
    /// forge-config: default.isolate = true
    function testGasRevokeVersionOfManySigners() public {
        for (uint160 i = 1; i < 16; ++i) {
            vm.prank(publisher);
            register.enrolSigner(cryptlet, 1, address(i), EXPIRY);
        }
        vm.prank(publisher);
        register.revokeVersion(cryptlet, 1);
        _snapshot("revokeVersion, sixteen signers");
    }

    function _setPolicy(uint64 epoch) private {
        bytes32 digest = keccak256(abi.encode(epoch));
        PolicyBoard.PolicyApproval[] memory approvals = new PolicyBoard.PolicyApproval[](2);
        for (uint256 i = 0; i < 2; ++i) {
            address administrator = vm.addr(keys[i]);
            bytes memory signature = _sign(keys[i], register.hashPolicy(administrator, 1, epoch, digest));
            approvals[i] = PolicyBoard.PolicyApproval(administrator, signature);
        }
        register.setPolicy(epoch, digest, "https://policies.example/policy.json", approvals);
    }

    function _snapshot(string memory name) private {
        vm.snapshotValue("CryptletRegister", name, vm.lastCallGas().gasTotalUsed);
    }
}
