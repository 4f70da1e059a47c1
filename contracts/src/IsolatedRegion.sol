// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {CryptoDelegate} from "./CryptoDelegate.sol";
import {ICryptletRegister} from "./ICryptletRegister.sol";

/**
 * @title IsolatedRegion
 * @notice The paper's `IsolatedRegionCheckSignature` for contracts: whether a message was made by a cryptlet in its
 * isolated region.
 *
 * Two signatures are checked. A host signed, as {Evidence}, which code runs in a region and which key was made there;
 * that key signed, as {Statement}, what the region said. The code is named by a digest, the measurement that
 * `IsolatedRegionGetDigest` gives: SHA-256 over container, settings and package. A contract has none of these to hash,
 * so that whoever writes or governs it computes the digest off the chain and hands it over.
 *
 * WARNING: a contract cannot judge what hardware attests. It takes the host's word for the provider, the controls and
 * the measurement: a host that lies can have anything said under any digest, and is accountable for its signature and
 * no more. With `process` and `microvm` nothing stands below that word anyhow, and `simulator` proves nothing. Hardware
 * is judged off the chain, by `cryptlet verify`.
 *
 * Nothing here reverts because of what it is shown: malformed evidence and signatures are false, as forged ones are.
 */
library IsolatedRegion {
    /// @notice What a region proved about itself when it was created, with the signature of the host that vouches for it.
    struct Evidence {
        /// The paper's `ISOLATION_PROVIDER`, who isolates the region: `process`, `microvm`, `sgx`, `tdx`, `sevSnp`,
        /// `nitro`, `tpm` or `simulator`. A caller to whom it matters compares it.
        string provider;
        /// The controls in force, by name, in the order in which they were applied.
        string[] controls;
        /// What runs in the region: the digest of `IsolatedRegionGetDigest`.
        bytes32 measurement;
        /// Address of the key that was made in the region and never leaves it.
        address regionKey;
        /// X25519 public key that secrets for the region are wrapped to.
        bytes32 exchangeKey;
        /// The challenge that the host set.
        bytes32 nonce;
        /// Unix seconds at which the host vouched for it.
        uint64 madeAt;
        /// The host's signature of {hashEvidence}: 64 bytes (EIP-2098), low `s`.
        bytes signature;
    }

    /// @notice What a region said beside a report: this came of that input and those sources.
    struct Statement {
        /// {CryptoDelegate-hashReport} of the report.
        bytes32 report;
        /// Keccak-256 of the run's input, as receipts hold it.
        bytes32 input;
        /// Keccak-256 of what the sources said, as receipts hold it.
        bytes32 sources;
    }

    /**
     * @notice `IsolatedRegionCheckSignature`: true only if `host` vouched for a region that runs what `digest` names, and
     * that region said `said`. Whenever that was: see the other forms for evidence that has an age.
     * @param host Key of the host, as an address: the paper's identifier for the enclave provider (public key).
     * @param digest The measurement that is demanded: what `IsolatedRegionGetDigest` gives.
     * @param evidence What the region proved about itself.
     * @param said What the region said: the message.
     * @param signature The region's signature of {hashStatement}: 64 bytes (EIP-2098), low `s`.
     */
    function checkSignature(
        address host,
        bytes32 digest,
        Evidence memory evidence,
        Statement memory said,
        bytes memory signature
    )
        internal
        pure
        returns (bool)
    {
        return _isSaid(digest, evidence, said, signature) && host != address(0) && voucherOf(evidence) == host;
    }

    /**
     * @notice `IsolatedRegionCheckSignature` with evidence of a certain time: {checkSignature}, and the host vouched at
     * `from` at the earliest, at `to` at the latest, and not after this block's time.
     */
    function checkSignature(
        address host,
        bytes32 digest,
        Evidence memory evidence,
        Statement memory said,
        bytes memory signature,
        uint64 from,
        uint64 to
    )
        internal
        view
        returns (bool)
    {
        return _isMadeWithin(evidence, from, to) && checkSignature(host, digest, evidence, said, signature);
    }

    /**
     * @notice `IsolatedRegionCheckSignature` with whichever attested host vouched: {checkSignature} for a host that the
     * register has for `cryptlet` now, which is one that the registrar registered and did not remove, and that the
     * cryptlet's owner assigned. False for a cryptlet that is unknown or revoked.
     * @param register A register or a mirror of one, which the caller trusts.
     * @param cryptlet The cryptlet whose hosts count.
     * @param from Earliest moment of vouching that is accepted; 0: any.
     * @param to Latest moment of vouching that is accepted, this block's time in any case.
     */
    function checkSignature(
        ICryptletRegister register,
        address cryptlet,
        bytes32 digest,
        Evidence memory evidence,
        Statement memory said,
        bytes memory signature,
        uint64 from,
        uint64 to
    )
        internal
        view
        returns (bool)
    {
        return _isMadeWithin(evidence, from, to) && _isSaid(digest, evidence, said, signature)
            && _isAttestedHost(register, cryptlet, voucherOf(evidence));
    }

    /**
     * @notice `IsolatedRegionCheckSignature` of what a cryptlet had signed beside its answers (`IsolatedAppSignMessage`): true
     * only if `host` vouched for a region that runs what `digest` names, and a cryptlet there said `message`. Whenever that
     * was, and whichever cryptlet it was that runs there: see {CryptletMessage} for who says it.
     * @param message {CryptletMessage-hash} of the message.
     * @param signature The region's signature of {hashMessage}: 64 bytes (EIP-2098), low `s`.
     */
    function checkMessage(
        address host,
        bytes32 digest,
        Evidence memory evidence,
        bytes32 message,
        bytes memory signature
    )
        internal
        pure
        returns (bool)
    {
        return _isSigned(digest, evidence, hashMessage(digest, message), signature) && host != address(0)
            && voucherOf(evidence) == host;
    }

    /**
     * @notice Whether `said` is of this report, as `delegate` takes it on this chain, and the report names the region that
     * `digest` does. With {checkSignature}, of the same arguments, the payload came out of exactly that code.
     *
     * A callback needs no report for that: the digest that {CryptoDelegate-currentReport} returns there is `said.report`.
     * @dev By itself it proves nothing: it checks no signature, and not that the report was delivered or can be.
     */
    function isOfReport(
        Statement memory said,
        bytes32 digest,
        CryptoDelegate delegate,
        CryptoDelegate.Report memory report
    )
        internal
        view
        returns (bool)
    {
        return report.region == digest && delegate.hashReport(report) == said.report;
    }

    /// @notice Who vouched for the evidence, which may be anybody; zero if the signature is malformed or nobody's.
    function voucherOf(Evidence memory evidence) internal pure returns (address) {
        return signerOf(hashEvidence(evidence), evidence.signature);
    }

    /// @notice What a host signs to vouch for a region.
    function hashEvidence(Evidence memory evidence) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                "bletchley evidence v1",
                evidence.provider,
                evidence.controls,
                evidence.measurement,
                evidence.regionKey,
                evidence.exchangeKey,
                evidence.nonce,
                evidence.madeAt
            )
        );
    }

    /// @notice What the key of a region that runs what `digest` names signs to say `said`.
    function hashStatement(bytes32 digest, Statement memory said) internal pure returns (bytes32) {
        return keccak256(abi.encode("bletchley region v1", digest, said.report, said.input, said.sources));
    }

    /// @notice What the key of a region that runs what `digest` names signs for a message of its cryptlet.
    function hashMessage(bytes32 digest, bytes32 message) internal pure returns (bytes32) {
        return keccak256(abi.encode("bletchley message v1", digest, message));
    }

    /// @notice Who signed; zero if that is nobody, or the signature has another form than the one that there is: 64 bytes
    /// (EIP-2098), low `s`.
    function signerOf(bytes32 hash, bytes memory signature) internal pure returns (address signer) {
        if (signature.length != 64) return address(0);
        bytes32 r;
        bytes32 vs;
        assembly ("memory-safe") {
            r := mload(add(signature, 0x20))
            vs := mload(add(signature, 0x40))
        }
        (signer,,) = ECDSA.tryRecover(hash, r, vs);
    }

    /// @dev Whether the region of the evidence, whoever vouched for it, runs what `digest` names and said `said`.
    function _isSaid(
        bytes32 digest,
        Evidence memory evidence,
        Statement memory said,
        bytes memory signature
    )
        private
        pure
        returns (bool)
    {
        return _isSigned(digest, evidence, hashStatement(digest, said), signature);
    }

    /// @dev Whether the region of the evidence, whoever vouched for it, runs what `digest` names and signed `hash`.
    function _isSigned(
        bytes32 digest,
        Evidence memory evidence,
        bytes32 hash,
        bytes memory signature
    )
        private
        pure
        returns (bool)
    {
        return evidence.measurement == digest && evidence.regionKey != address(0)
            && signerOf(hash, signature) == evidence.regionKey;
    }

    function _isMadeWithin(Evidence memory evidence, uint64 from, uint64 to) private view returns (bool) {
        return from <= evidence.madeAt && evidence.madeAt <= to && evidence.madeAt <= block.timestamp;
    }

    function _isAttestedHost(ICryptletRegister register, address cryptlet, address host) private view returns (bool) {
        // A register reverts when it is asked for the hosts of a cryptlet that it does not know.
        if (host == address(0) || !register.isActive(cryptlet)) return false;
        address[] memory hosts = register.hostsOf(cryptlet);
        for (uint256 i = 0; i < hosts.length; ++i) {
            if (hosts[i] == host) return true;
        }
        return false;
    }
}
