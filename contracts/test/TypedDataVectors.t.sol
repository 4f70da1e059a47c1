// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptletRegister} from "../src/CryptletRegister.sol";
import {CryptoDelegate, TRIGGER_CLOCK} from "../src/CryptoDelegate.sol";
import {Delegations} from "../src/Delegations.sol";
import {ICryptletRegister} from "../src/ICryptletRegister.sol";
import {RegisterTest} from "./support/RegisterTest.sol";

/**
 * @title TypedDataVectorsTest
 * @notice The golden subscriptions, delegations and approvals of `vectors/`: the contracts compute the same subjects and
 * hashes, and the signatures there are the named keys' over those hashes.
 */
contract TypedDataVectorsTest is RegisterTest {
    /// The delegate's mapping of nonces.
    uint256 internal constant NONCES_SLOT = 3;

    CryptoDelegate internal delegate;
    CryptletRegister internal register;

    function setUp() public {
        delegate = new CryptoDelegate(ICryptletRegister(address(this)));
        register = _newRegister();
    }

    /// @notice Stands in for the register: every cryptlet is active.
    function isActive(address) external pure returns (bool) {
        return true;
    }

    function testSubscriptions() public {
        string[5] memory names = ["clock", "minimum-values", "maximum-values", "on-behalf", "other-chain"];
        for (uint256 i = 0; i < names.length; ++i) {
            _checkSubscription(_read("subscription", names[i]), names[i]);
        }
    }

    function testDelegations() public {
        string[3] memory names = ["any-consumer", "one-callback", "other-chain"];
        for (uint256 i = 0; i < names.length; ++i) {
            _checkDelegation(_read("delegation", names[i]), names[i]);
        }
    }

    function testApprovals() public {
        string[4] memory names = ["first", "later-term", "maximum-values", "other-chain"];
        for (uint256 i = 0; i < names.length; ++i) {
            _checkApproval(_read("approval", names[i]), names[i]);
        }
    }

    function _checkSubscription(string memory json, string memory name) private {
        CryptoDelegate at = _delegateOf(json);
        CryptoDelegate.Subscription memory s = CryptoDelegate.Subscription({
            cryptlet: vm.parseJsonAddress(json, ".subscription.cryptlet"),
            onBehalfOf: vm.parseJsonAddress(json, ".subscription.onBehalfOf"),
            callback: bytes4(vm.parseJsonBytes(json, ".subscription.callback")),
            callbackGas: uint32(vm.parseJsonUint(json, ".subscription.callbackGas")),
            validity: uint32(vm.parseJsonUint(json, ".subscription.validity")),
            trigger: TRIGGER_CLOCK,
            condition: vm.parseJsonBytes(json, ".condition"),
            params: vm.parseJsonBytes(json, ".subscription.params")
        });
        vm.assertEq(abi.encode(s), vm.parseJsonBytes(json, ".encoded"), name);

        address consumer = vm.parseJsonAddress(json, ".subscription.consumer");
        uint256 nonce = vm.parseJsonUint(json, ".subscription.nonce");
        vm.store(address(at), keccak256(abi.encode(consumer, NONCES_SLOT)), bytes32(nonce));
        vm.assertEq(at.nonces(consumer), nonce, name);
        vm.prank(consumer);
        vm.assertEq(at.subscribe(s), vm.parseJsonBytes32(json, ".subscription.subject"), name);
    }

    function _checkDelegation(string memory json, string memory name) private {
        CryptoDelegate at = _delegateOf(json);
        bytes32 digest = at.hashDelegation(
            Delegations.Delegation({
                identity: vm.parseJsonAddress(json, ".signed.delegation.identity"),
                cryptlet: vm.parseJsonAddress(json, ".signed.delegation.cryptlet"),
                consumer: vm.parseJsonAddress(json, ".signed.delegation.consumer"),
                callback: bytes4(vm.parseJsonBytes(json, ".signed.delegation.callback")),
                expiry: uint64(vm.parseJsonUint(json, ".signed.delegation.expiry")),
                salt: vm.parseJsonBytes32(json, ".signed.delegation.salt")
            })
        );
        vm.assertEq(digest, vm.parseJsonBytes32(json, ".digest"), name);
        bytes memory typed = abi.encodePacked(
            hex"1901", vm.parseJsonBytes32(json, ".domainSeparator"), vm.parseJsonBytes32(json, ".structHash")
        );
        vm.assertEq(digest, keccak256(typed), name);
        _checkSignature(json, digest, ".signed.delegation.identity", ".signed.signature", name);
    }

    function _checkApproval(string memory json, string memory name) private {
        vm.chainId(vm.parseJsonUint(json, ".domain.chainId"));
        address at = vm.parseJsonAddress(json, ".domain.register");
        vm.etch(at, address(register).code);
        bytes32 digest = CryptletRegister(at)
            .hashPolicy(
                vm.parseJsonAddress(json, ".approval.administrator"),
                uint64(vm.parseJsonUint(json, ".term")),
                uint64(vm.parseJsonUint(json, ".policy.epoch")),
                vm.parseJsonBytes32(json, ".policy.digest")
            );
        vm.assertEq(digest, vm.parseJsonBytes32(json, ".digest"), name);
        _checkSignature(json, digest, ".approval.administrator", ".approval.signature", name);
    }

    function _checkSignature(
        string memory json,
        bytes32 digest,
        string memory signer,
        string memory signature,
        string memory name
    )
        private
        pure
    {
        uint256 key = uint256(vm.parseJsonBytes32(json, ".privateKey"));
        vm.assertEq(vm.addr(key), vm.parseJsonAddress(json, signer));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        vm.assertEq(vm.parseJsonBytes(json, signature), abi.encodePacked(r, s, v), name);
    }

    /// @dev The delegate's code at the vector's address, on its chain.
    function _delegateOf(string memory json) private returns (CryptoDelegate) {
        vm.chainId(vm.parseJsonUint(json, ".domain.chainId"));
        address at = vm.parseJsonAddress(json, ".domain.delegate");
        vm.etch(at, address(delegate).code);
        return CryptoDelegate(at);
    }

    function _read(string memory folder, string memory name) private view returns (string memory) {
        return vm.readFile(string.concat("../vectors/", folder, "/", name, ".json"));
    }
}
