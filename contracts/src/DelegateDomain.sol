// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

/**
 * @title DelegateDomain
 * @notice EIP-712 hashes in the domain of a delegate on this chain, for contracts that are not the delegate.
 */
library DelegateDomain {
    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    /// @notice What is signed of a struct with this hash.
    function hashTypedData(address delegate, bytes32 structHash) internal view returns (bytes32) {
        bytes32 separator = keccak256(
            abi.encode(DOMAIN_TYPEHASH, keccak256("CryptoDelegate"), keccak256("1"), block.chainid, delegate)
        );
        return MessageHashUtils.toTypedDataHash(separator, structHash);
    }
}
