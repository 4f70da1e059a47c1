// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {CryptletText} from "./CryptletText.sol";

/**
 * @title PolicyBoard
 * @notice Which policy is in force: its epoch and digest, approved by a threshold of the administrators.
 *
 * Approvals are EIP-712 signatures, made anywhere and submitted by anybody. Each names its administrator, so that no signature
 * counts for two, and the term, so that none outlives the board or the threshold that it was given under. An epoch only grows,
 * so an approval is worth nothing once it, or a later one, was used, and by a bounded step, so that none can be the last there
 * is. The administrators replace themselves by the same threshold, term by term.
 *
 * An administrator may be a contract wallet (ERC-1271). Such a one counts on this chain only: hosts, which check a policy
 * without the chain, count the signatures of accounts. A board whose policies hosts are to take needs a threshold of accounts.
 */
abstract contract PolicyBoard is EIP712 {
    using CryptletText for string;

    /// @notice An administrator's consent.
    struct PolicyApproval {
        /// Who consents.
        address administrator;
        /// Their signature of {hashPolicy} or {hashAdministrators}: ECDSA with 65 bytes, or what their wallet takes.
        bytes signature;
    }

    /// @notice Most administrators that there can be at a time.
    uint256 internal constant MAX_ADMINISTRATORS = 32;

    /// @notice Farthest that an epoch can lie above the one in force: 2**32 such steps use them up.
    uint64 internal constant MAX_EPOCH_STEP = 1 << 32;

    bytes32 private constant POLICY_TYPEHASH =
        keccak256("Policy(address administrator,uint64 term,uint64 epoch,bytes32 digest)");
    bytes32 private constant ADMINISTRATORS_TYPEHASH =
        keccak256("Administrators(address administrator,uint64 term,address[] members,uint256 threshold)");

    uint64 private _epoch;
    uint64 private _term;
    bytes32 private _digest;
    string private _uri;
    uint256 private _threshold;
    address[] private _members;
    mapping(uint64 term => mapping(address account => bool)) private _isMember;

    /// @notice The policy with SHA-256 `digest` is in force; `uri` is where it may be found.
    event PolicySet(uint64 indexed epoch, bytes32 digest, string uri);

    /// @notice From now on `threshold` of `members` decide.
    event AdministratorsSet(uint64 indexed term, address[] members, uint256 threshold);

    /// @notice The epoch is not later than the one in force.
    error OldEpoch(uint64 current, uint64 given);

    /// @notice The epoch is more than {MAX_EPOCH_STEP} above the one in force.
    error EpochTooFar(uint64 current, uint64 given);

    /// @notice A policy's digest cannot be zero.
    error ZeroPolicyDigest();

    /// @notice There must be one to {MAX_ADMINISTRATORS} administrators, and a threshold that they can reach.
    error InvalidThreshold(uint256 threshold, uint256 members);

    /// @notice An administrator is the zero address, or is named twice.
    error InvalidAdministrator(address administrator);

    /// @notice Fewer approvals than the threshold.
    error NotEnoughApprovals(uint256 required, uint256 given);

    /// @notice The same administrator's approval twice.
    error ApprovalTwice(address administrator);

    /// @notice Approvals must ascend by administrator.
    error ApprovalOutOfOrder(address administrator);

    /// @notice The approval is of somebody who is no administrator.
    error NotAnAdministrator(address account);

    /// @notice The signature is not this administrator's, or not of this.
    error InvalidApproval(address administrator);

    /// @notice Appoints the first administrators, for term 1. No policy is in force at first: epoch 0, digest 0.
    constructor(address[] memory members, uint256 threshold) EIP712("CryptletRegister", "1") {
        _appoint(1, members, threshold);
    }

    /**
     * @notice Puts a policy in force. Anyone may submit it.
     * @param epoch Later than that of the policy in force, by {MAX_EPOCH_STEP} at most.
     * @param digest SHA-256 of the policy document, not zero.
     * @param uri Where the document may be found, up to 256 bytes; a hint, and not part of what is approved.
     * @param approvals Of {hashPolicy} for the current term, at least the threshold, of administrators, ascending by
     * administrator.
     */
    function setPolicy(
        uint64 epoch,
        bytes32 digest,
        string calldata uri,
        PolicyApproval[] calldata approvals
    )
        external
    {
        uint64 current = _epoch;
        if (epoch <= current) revert OldEpoch(current, epoch);
        if (epoch - current > MAX_EPOCH_STEP) revert EpochTooFar(current, epoch);
        if (digest == 0) revert ZeroPolicyDigest();
        uri.checkPrintable(0, CryptletText.MAX_URI_LENGTH);
        _checkApprovals(POLICY_TYPEHASH, abi.encode(_term, epoch, digest), approvals);
        _epoch = epoch;
        _digest = digest;
        _uri = uri;
        emit PolicySet(epoch, digest, uri);
    }

    /**
     * @notice Replaces the administrators and begins the next term. Anyone may submit it.
     * @param members Those of the next term, in any order.
     * @param threshold How many of them decide.
     * @param approvals Of {hashAdministrators} for the next term, at least the threshold of the current one, of current
     * administrators, ascending by administrator.
     */
    function setAdministrators(
        address[] calldata members,
        uint256 threshold,
        PolicyApproval[] calldata approvals
    )
        external
    {
        uint64 term = _term + 1;
        _checkApprovals(ADMINISTRATORS_TYPEHASH, _administratorsFields(term, members, threshold), approvals);
        _appoint(term, members, threshold);
    }

    /**
     * @notice The policy in force; all zero if none was set yet.
     * @return epoch Its epoch.
     * @return digest SHA-256 of its document.
     * @return uri Where the document may be found.
     */
    function policy() external view returns (uint64 epoch, bytes32 digest, string memory uri) {
        return (_epoch, _digest, _uri);
    }

    /**
     * @notice Who decides on policy.
     * @return members The administrators.
     * @return threshold How many of them must approve.
     * @return term How often administrators were appointed, the first ones included.
     */
    function administrators() external view returns (address[] memory members, uint256 threshold, uint64 term) {
        return (_members, _threshold, _term);
    }

    /**
     * @notice The EIP-712 hash of a policy in this register's domain: what `administrator` signs.
     * @param term The term of the administrators that approve it, which has to be the current one when it is set.
     */
    function hashPolicy(
        address administrator,
        uint64 term,
        uint64 epoch,
        bytes32 digest
    )
        external
        view
        returns (bytes32)
    {
        return _hash(POLICY_TYPEHASH, administrator, abi.encode(term, epoch, digest));
    }

    /**
     * @notice The EIP-712 hash of a set of administrators in this register's domain: what `administrator`, of the term
     * before, signs.
     * @param term Their term, which has to be the one after the current when they are set.
     */
    function hashAdministrators(
        address administrator,
        uint64 term,
        address[] calldata members,
        uint256 threshold
    )
        external
        view
        returns (bytes32)
    {
        return _hash(ADMINISTRATORS_TYPEHASH, administrator, _administratorsFields(term, members, threshold));
    }

    /// @dev Reverts unless enough administrators signed the struct of that type, each with their own name in front of `fields`.
    function _checkApprovals(bytes32 typehash, bytes memory fields, PolicyApproval[] calldata approvals) private view {
        if (approvals.length < _threshold) revert NotEnoughApprovals(_threshold, approvals.length);
        uint64 term = _term;
        address last;
        for (uint256 i = 0; i < approvals.length; ++i) {
            address administrator = approvals[i].administrator;
            if (!_isMember[term][administrator]) revert NotAnAdministrator(administrator);
            if (administrator == last) revert ApprovalTwice(administrator);
            if (administrator < last) revert ApprovalOutOfOrder(administrator);
            bytes32 digest = _hash(typehash, administrator, fields);
            if (!SignatureChecker.isValidSignatureNowCalldata(administrator, digest, approvals[i].signature)) {
                revert InvalidApproval(administrator);
            }
            last = administrator;
        }
    }

    function _hash(bytes32 typehash, address administrator, bytes memory fields) private view returns (bytes32) {
        return _hashTypedDataV4(keccak256(bytes.concat(abi.encode(typehash, administrator), fields)));
    }

    function _administratorsFields(
        uint64 term,
        address[] calldata members,
        uint256 threshold
    )
        private
        pure
        returns (bytes memory)
    {
        return abi.encode(term, keccak256(abi.encodePacked(members)), threshold);
    }

    function _appoint(uint64 term, address[] memory members, uint256 threshold) private {
        if (threshold == 0 || threshold > members.length || members.length > MAX_ADMINISTRATORS) {
            revert InvalidThreshold(threshold, members.length);
        }
        for (uint256 i = 0; i < members.length; ++i) {
            address member = members[i];
            if (member == address(0) || _isMember[term][member]) revert InvalidAdministrator(member);
            _isMember[term][member] = true;
        }
        _term = term;
        _members = members;
        _threshold = threshold;
        emit AdministratorsSet(term, members, threshold);
    }
}
