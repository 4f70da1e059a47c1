// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CryptletRegister} from "../src/CryptletRegister.sol";
import {CryptletText} from "../src/CryptletText.sol";
import {PolicyBoard} from "../src/PolicyBoard.sol";
import {HostileWallet} from "./support/HostileWallet.sol";
import {Signatures} from "./support/Signatures.sol";
import {Test} from "./support/Test.sol";
import {Wallet} from "./support/Wallet.sol";

/**
 * @title PolicyBoardTest
 * @notice Which policies and administrators come into force: two of three, one of them a contract wallet.
 */
contract PolicyBoardTest is Test, Signatures {
    uint256 internal constant STRANGER_KEY = 0x5712A;
    bytes32 internal constant DIGEST = keccak256("policy");
    string internal constant URI = "https://policies.example/1.json";

    /// Keys of the administrators; the last is a wallet's.
    uint256[3] internal keys = [uint256(0xA), 0xB, 0xC];
    address[] internal members;
    Wallet internal wallet;

    CryptletRegister internal board;

    function setUp() public {
        wallet = new Wallet(vm.addr(keys[2]));
        members.push(vm.addr(keys[0]));
        members.push(vm.addr(keys[1]));
        members.push(address(wallet));
        board = new CryptletRegister(address(this), members, 2);
    }

    function testConstructor() public {
        vm.expectEmit();
        emit PolicyBoard.AdministratorsSet(1, members, 2);
        new CryptletRegister(address(this), members, 2);
        _assertAdministrators(members, 2, 1);
        _assertPolicy(0, 0, "");
    }

    function testConstructorRefusals() public {
        _expectNoBoard(members, 0, abi.encodeWithSelector(PolicyBoard.InvalidThreshold.selector, 0, 3));
        _expectNoBoard(members, 4, abi.encodeWithSelector(PolicyBoard.InvalidThreshold.selector, 4, 3));
        address[] memory none = new address[](0);
        _expectNoBoard(none, 0, abi.encodeWithSelector(PolicyBoard.InvalidThreshold.selector, 0, 0));
        address[] memory many = new address[](33);
        _expectNoBoard(many, 1, abi.encodeWithSelector(PolicyBoard.InvalidThreshold.selector, 1, 33));
        address[] memory twice = members;
        twice[2] = twice[0];
        _expectNoBoard(twice, 2, abi.encodeWithSelector(PolicyBoard.InvalidAdministrator.selector, twice[0]));
        twice[2] = address(0);
        _expectNoBoard(twice, 2, abi.encodeWithSelector(PolicyBoard.InvalidAdministrator.selector, address(0)));
    }

    function testDomain() public view {
        (, string memory name, string memory version, uint256 chainId, address verifyingContract,,) =
            board.eip712Domain();
        vm.assertEq(name, "CryptletRegister");
        vm.assertEq(version, "1");
        vm.assertEq(chainId, block.chainid);
        vm.assertEq(verifyingContract, address(board));
    }

    function testHashOfAPolicyIsEip712(address by, uint64 term, uint64 epoch, bytes32 digest) public view {
        bytes32 typehash = keccak256("Policy(address administrator,uint64 term,uint64 epoch,bytes32 digest)");
        bytes32 policy = keccak256(abi.encode(typehash, by, term, epoch, digest));
        vm.assertEq(board.hashPolicy(by, term, epoch, digest), _typed(policy));
    }

    function testHashOfAdministratorsIsEip712(
        address by,
        uint64 term,
        address[] calldata them,
        uint256 threshold
    )
        public
        view
    {
        bytes memory words;
        for (uint256 i = 0; i < them.length; ++i) {
            words = bytes.concat(words, abi.encode(them[i]));
        }
        bytes32 typehash =
            keccak256("Administrators(address administrator,uint64 term,address[] members,uint256 threshold)");
        bytes32 administrators = keccak256(abi.encode(typehash, by, term, keccak256(words), threshold));
        vm.assertEq(board.hashAdministrators(by, term, them, threshold), _typed(administrators));
    }

    /// @dev Any two of the three, whoever submits it; one of them signs for a contract wallet.
    function testSetPolicy(address submitter) public {
        for (uint64 missing = 0; missing < 3; ++missing) {
            uint64 epoch = missing + 1;
            PolicyBoard.PolicyApproval[] memory approvals = _without(_approvals(epoch, DIGEST), missing);
            vm.expectEmit(address(board));
            emit PolicyBoard.PolicySet(epoch, DIGEST, URI);
            vm.prank(submitter);
            board.setPolicy(epoch, DIGEST, URI, approvals);
            _assertPolicy(epoch, DIGEST, URI);
        }
    }

    function testMoreThanTheThreshold() public {
        board.setPolicy(7, DIGEST, "", _approvals(7, DIGEST));
        _assertPolicy(7, DIGEST, "");
    }

    function testOldEpochs(uint64 epoch) public {
        _refused(0, _approvals(0, DIGEST), _oldEpoch(0, 0));
        PolicyBoard.PolicyApproval[] memory approvals = _approvals(5, DIGEST);
        board.setPolicy(5, DIGEST, URI, approvals);
        _refused(5, approvals, _oldEpoch(5, 5));
        epoch = uint64(_bound(epoch, 0, 5));
        _refused(epoch, _approvals(epoch, DIGEST), _oldEpoch(5, epoch));
    }

    /// @dev However many approve, no epoch uses up those after it.
    function testEpochsGrowByABoundedStep(uint64 epoch) public {
        uint64 most = 1 << 32;
        _refused(most + 1, _approvals(most + 1, DIGEST), _epochTooFar(0, most + 1));
        board.setPolicy(most, DIGEST, URI, _approvals(most, DIGEST));
        _assertPolicy(most, DIGEST, URI);
        epoch = uint64(_bound(epoch, 2 * uint256(most) + 1, type(uint64).max));
        _refused(epoch, _approvals(epoch, DIGEST), _epochTooFar(most, epoch));
        epoch = type(uint64).max;
        _refused(epoch, _approvals(epoch, DIGEST), _epochTooFar(most, epoch));
        board.setPolicy(2 * most, DIGEST, URI, _approvals(2 * most, DIGEST));
    }

    function testMissingApprovals() public {
        PolicyBoard.PolicyApproval[] memory approvals = _approvals(1, DIGEST);
        bytes memory refusal = abi.encodeWithSelector(PolicyBoard.NotEnoughApprovals.selector, 2, 1);
        _refused(1, _without(_without(approvals, 0), 0), refusal);
        _refused(
            1,
            new PolicyBoard.PolicyApproval[](0),
            abi.encodeWithSelector(PolicyBoard.NotEnoughApprovals.selector, 2, 0)
        );
    }

    function testApprovalTwice() public {
        PolicyBoard.PolicyApproval[] memory approvals = _without(_approvals(1, DIGEST), 0);
        approvals[1] = approvals[0];
        _refused(1, approvals, abi.encodeWithSelector(PolicyBoard.ApprovalTwice.selector, approvals[0].administrator));
    }

    /// @dev Every approval names its administrator: an account's is none of the wallet that it owns, nor the other way round,
    /// though the wallet takes any hash that its owner signed.
    function testOneSignatureIsOneAdministrators() public {
        uint256 key = keys[0];
        Wallet owned = new Wallet(members[0]);
        members[2] = address(owned);
        board = new CryptletRegister(address(this), members, 2);
        bytes memory asAccount = _approvalBy(key, members[0], 1).signature;
        bytes memory asWallet = _approvalBy(key, address(owned), 1).signature;
        PolicyBoard.PolicyApproval[] memory approvals = _pair(members[0], asAccount, address(owned), asAccount);
        _refused(1, approvals, abi.encodeWithSelector(PolicyBoard.InvalidApproval.selector, address(owned)));
        approvals = _pair(members[0], asWallet, address(owned), asWallet);
        _refused(1, approvals, abi.encodeWithSelector(PolicyBoard.InvalidApproval.selector, members[0]));

        address[] memory next = members;
        asAccount = _sign(key, board.hashAdministrators(members[0], 2, next, 1));
        approvals = _pair(members[0], asAccount, address(owned), asAccount);
        _expectSameAdministrators(
            next, 1, approvals, abi.encodeWithSelector(PolicyBoard.InvalidApproval.selector, address(owned))
        );

        asAccount = _approvalBy(key, members[0], 1).signature;
        board.setPolicy(1, DIGEST, URI, _pair(members[0], asAccount, address(owned), asWallet));
    }

    /// @dev What was approved under one board or threshold is no approval under the next, though the members are the same.
    function testApprovalsOfAnEarlierTerm() public {
        PolicyBoard.PolicyApproval[] memory first = _approvals(1, DIGEST);
        board.setAdministrators(members, 1, _appointments(2, members, 1));
        _refusedOf(1, first, 0);
        _refusedOf(1, _without(_without(first, 2), 1), 0);
        _refusedOf(1, _approvalsAt(board, 3, 1, DIGEST), 0);
        board.setPolicy(1, DIGEST, URI, _approvals(1, DIGEST));
        _assertPolicy(1, DIGEST, URI);
    }

    /// @dev A signature has one form: `s` in the lower half, `v` 27 or 28.
    function testOtherFormsOfASignature() public {
        PolicyBoard.PolicyApproval[] memory approvals = _approvals(1, DIGEST);
        for (uint256 i = 0; i < 3; ++i) {
            bytes memory good = approvals[i].signature;
            approvals[i].signature = _withHighS(good);
            _refusedOf(1, approvals, i);
            approvals[i].signature = _withLowV(good);
            _refusedOf(1, approvals, i);
            approvals[i].signature = good;
        }
        board.setPolicy(1, DIGEST, URI, approvals);
    }

    /// @dev A wallet that does not say yes in the one way there is approves nothing, and cannot make it dear to ask.
    function testWalletsThatAnswerWrongly() public {
        HostileWallet hostile = new HostileWallet();
        members[2] = address(hostile);
        board = new CryptletRegister(address(this), members, 2);
        PolicyBoard.PolicyApproval[] memory approvals =
            _pair(members[0], _approvalBy(keys[0], members[0], 1).signature, address(hostile), "");
        bytes memory refusal = abi.encodeWithSelector(PolicyBoard.InvalidApproval.selector, address(hostile));
        uint256 most = hostile.GAS();
        for (uint8 i = 0; i <= uint8(type(HostileWallet.Answer).max); ++i) {
            hostile.answer(HostileWallet.Answer(i));
            vm.expectRevert(refusal);
            board.setPolicy{gas: most}(1, DIGEST, URI, approvals);
        }
        _assertPolicy(0, 0, "");
    }

    function testApprovalsOutOfOrder() public {
        PolicyBoard.PolicyApproval[] memory approvals = _approvals(1, DIGEST);
        (approvals[0], approvals[1]) = (approvals[1], approvals[0]);
        _refused(
            1, approvals, abi.encodeWithSelector(PolicyBoard.ApprovalOutOfOrder.selector, approvals[1].administrator)
        );
        approvals = _approvals(1, DIGEST);
        approvals[2] = approvals[0];
        _refused(
            1, approvals, abi.encodeWithSelector(PolicyBoard.ApprovalOutOfOrder.selector, approvals[0].administrator)
        );
    }

    function testStrangersApproval() public {
        PolicyBoard.PolicyApproval[] memory approvals = _without(_approvals(1, DIGEST), 0);
        address stranger = vm.addr(STRANGER_KEY);
        approvals[1] = _approvalBy(STRANGER_KEY, stranger, 1);
        _refused(1, approvals, abi.encodeWithSelector(PolicyBoard.NotAnAdministrator.selector, stranger));
        approvals[1].administrator = address(0);
        _refused(1, approvals, abi.encodeWithSelector(PolicyBoard.NotAnAdministrator.selector, address(0)));
    }

    function testStrangersSignatureInAnAdministratorsName() public {
        for (uint256 i = 0; i < 3; ++i) {
            PolicyBoard.PolicyApproval[] memory approvals = _approvals(1, DIGEST);
            approvals[i] = _approvalBy(STRANGER_KEY, approvals[i].administrator, 1);
            _refusedOf(1, approvals, i);
            approvals[i].signature = "";
            _refusedOf(1, approvals, i);
        }
    }

    /// @dev Approvals of another epoch, digest, chain, board, or of administrators, are none of this policy.
    function testApprovalsOfSomethingElse() public {
        _refusedOf(1, _approvals(2, DIGEST), 0);
        _refusedOf(1, _approvals(1, ~DIGEST), 0);
        _refusedOf(1, _appointments(2, members, 2), 0);
        CryptletRegister other = new CryptletRegister(address(this), members, 2);
        _refusedOf(1, _approvalsAt(other, 1, 1, DIGEST), 0);

        PolicyBoard.PolicyApproval[] memory approvals = _approvals(1, DIGEST);
        vm.chainId(block.chainid + 1);
        _refusedOf(1, approvals, 0);
    }

    function testZeroDigestAndLongUri() public {
        PolicyBoard.PolicyApproval[] memory approvals = _approvals(1, 0);
        vm.expectRevert(abi.encodeWithSelector(PolicyBoard.ZeroPolicyDigest.selector));
        board.setPolicy(1, 0, URI, approvals);

        approvals = _approvals(1, DIGEST);
        string memory long = string(new bytes(257));
        vm.expectRevert(abi.encodeWithSelector(CryptletText.InvalidText.selector, long, 0, 256));
        board.setPolicy(1, DIGEST, long, approvals);
    }

    /// @dev A wallet that changed hands approves by its new owner only.
    function testWalletThatChangedHands() public {
        PolicyBoard.PolicyApproval[] memory approvals = _approvals(1, DIGEST);
        vm.prank(vm.addr(keys[2]));
        wallet.handOver(vm.addr(STRANGER_KEY));
        _refusedOf(1, approvals, _positionOf(approvals, address(wallet)));
    }

    function testSetAdministrators(address submitter) public {
        address[] memory next = new address[](1);
        next[0] = vm.addr(STRANGER_KEY);
        PolicyBoard.PolicyApproval[] memory approvals = _without(_appointments(2, next, 1), 1);
        vm.expectEmit(address(board));
        emit PolicyBoard.AdministratorsSet(2, next, 1);
        vm.prank(submitter);
        board.setAdministrators(next, 1, approvals);
        _assertAdministrators(next, 1, 2);

        approvals = _approvals(1, DIGEST);
        _refused(
            1, approvals, abi.encodeWithSelector(PolicyBoard.NotAnAdministrator.selector, approvals[0].administrator)
        );
        approvals = new PolicyBoard.PolicyApproval[](1);
        approvals[0] = _approvalBy(STRANGER_KEY, next[0], 2);
        board.setPolicy(1, DIGEST, URI, approvals);
    }

    /// @dev Approvals count for the next term alone, so a change of administrators cannot be repeated later.
    function testTermsGrowByOne() public {
        PolicyBoard.PolicyApproval[] memory third = _appointments(3, members, 3);
        _expectSameAdministrators(members, 3, third, _invalid(third, 0));
        PolicyBoard.PolicyApproval[] memory first = _appointments(1, members, 3);
        _expectSameAdministrators(members, 3, first, _invalid(first, 0));

        PolicyBoard.PolicyApproval[] memory second = _appointments(2, members, 3);
        board.setAdministrators(members, 3, second);
        _expectSameAdministrators(members, 3, second, _invalid(second, 0));
        board.setAdministrators(members, 3, third);
        _assertAdministrators(members, 3, 3);
    }

    /// @dev Approvals of a policy, of another board, chain, set of members or threshold, appoint nobody.
    function testAppointmentsOfSomethingElse() public {
        address[] memory fewer = new address[](2);
        (fewer[0], fewer[1]) = (members[0], members[1]);
        CryptletRegister other = new CryptletRegister(address(this), members, 2);
        PolicyBoard.PolicyApproval[][5] memory foreign = [
            _approvalsAt(board, 2, 1, DIGEST),
            _approvalsAt(board, 1, 2, DIGEST),
            _appointmentsAt(other, 2, members, 1),
            _appointments(2, fewer, 1),
            _appointments(2, members, 2)
        ];
        for (uint256 i = 0; i < foreign.length; ++i) {
            _expectSameAdministrators(members, 1, foreign[i], _invalid(foreign[i], 0));
        }
        PolicyBoard.PolicyApproval[] memory approvals = _appointments(2, members, 1);
        // Asked for, since the compiler takes the chain's id for a constant.
        (,,, uint256 here,,,) = board.eip712Domain();
        vm.chainId(here + 1);
        _expectSameAdministrators(members, 1, approvals, _invalid(approvals, 0));
        vm.chainId(here);
        board.setAdministrators(members, 1, approvals);
    }

    function testAdministratorsRefusals() public {
        PolicyBoard.PolicyApproval[] memory approvals = _appointments(2, members, 1);
        _expectSameAdministrators(members, 3, approvals, _invalid(approvals, 0));
        _expectSameAdministrators(
            members,
            1,
            _without(_without(approvals, 0), 0),
            abi.encodeWithSelector(PolicyBoard.NotEnoughApprovals.selector, 2, 1)
        );
        approvals = _appointments(2, members, 4);
        _expectSameAdministrators(
            members, 4, approvals, abi.encodeWithSelector(PolicyBoard.InvalidThreshold.selector, 4, 3)
        );
        address[] memory twice = members;
        twice[1] = twice[0];
        approvals = _appointments(2, twice, 1);
        _expectSameAdministrators(
            twice, 1, approvals, abi.encodeWithSelector(PolicyBoard.InvalidAdministrator.selector, twice[0])
        );
    }

    /// @dev The roles of the register have no say in policy.
    function testAdminOfTheRegisterApprovesNothing() public {
        PolicyBoard.PolicyApproval[] memory approvals = _without(_approvals(1, DIGEST), 0);
        approvals[0].administrator = address(this);
        _refused(1, approvals, abi.encodeWithSelector(PolicyBoard.NotAnAdministrator.selector, address(this)));
    }

    /// @dev Everybody's approval of a policy under the current term, ascending.
    function _approvals(uint64 epoch, bytes32 digest) private view returns (PolicyBoard.PolicyApproval[] memory) {
        (,, uint64 term) = board.administrators();
        return _approvalsAt(board, term, epoch, digest);
    }

    function _approvalsAt(
        CryptletRegister at_,
        uint64 term,
        uint64 epoch,
        bytes32 digest
    )
        private
        view
        returns (PolicyBoard.PolicyApproval[] memory)
    {
        bytes32[3] memory digests;
        for (uint256 i = 0; i < 3; ++i) {
            digests[i] = at_.hashPolicy(members[i], term, epoch, digest);
        }
        return _signed(digests);
    }

    /// @dev Everybody's approval of administrators, ascending.
    function _appointments(
        uint64 term,
        address[] memory next,
        uint256 threshold
    )
        private
        view
        returns (PolicyBoard.PolicyApproval[] memory)
    {
        return _appointmentsAt(board, term, next, threshold);
    }

    function _appointmentsAt(
        CryptletRegister at_,
        uint64 term,
        address[] memory next,
        uint256 threshold
    )
        private
        view
        returns (PolicyBoard.PolicyApproval[] memory)
    {
        bytes32[3] memory digests;
        for (uint256 i = 0; i < 3; ++i) {
            digests[i] = at_.hashAdministrators(members[i], term, next, threshold);
        }
        return _signed(digests);
    }

    function _signed(bytes32[3] memory digests) private view returns (PolicyBoard.PolicyApproval[] memory approvals) {
        approvals = new PolicyBoard.PolicyApproval[](3);
        for (uint256 i = 0; i < 3; ++i) {
            approvals[i] = PolicyBoard.PolicyApproval(members[i], _sign(keys[i], digests[i]));
        }
        for (uint256 i = 0; i < 3; ++i) {
            for (uint256 j = i + 1; j < 3; ++j) {
                if (approvals[j].administrator < approvals[i].administrator) {
                    (approvals[i], approvals[j]) = (approvals[j], approvals[i]);
                }
            }
        }
    }

    /// @dev What `key` signs in the name of `administrator`: the policy with {DIGEST}, epoch 1.
    function _approvalBy(
        uint256 key,
        address administrator,
        uint64 term
    )
        private
        view
        returns (PolicyBoard.PolicyApproval memory)
    {
        bytes32 digest = board.hashPolicy(administrator, term, 1, DIGEST);
        return PolicyBoard.PolicyApproval(administrator, _sign(key, digest));
    }

    /// @dev Two approvals, ascending.
    function _pair(
        address one,
        bytes memory ones,
        address other,
        bytes memory others
    )
        private
        pure
        returns (PolicyBoard.PolicyApproval[] memory approvals)
    {
        approvals = new PolicyBoard.PolicyApproval[](2);
        uint256 first = one < other ? 0 : 1;
        approvals[first] = PolicyBoard.PolicyApproval(one, ones);
        approvals[1 - first] = PolicyBoard.PolicyApproval(other, others);
    }

    function _without(
        PolicyBoard.PolicyApproval[] memory approvals,
        uint256 position
    )
        private
        pure
        returns (PolicyBoard.PolicyApproval[] memory fewer)
    {
        fewer = new PolicyBoard.PolicyApproval[](approvals.length - 1);
        for (uint256 i = 0; i < fewer.length; ++i) {
            fewer[i] = approvals[i < position ? i : i + 1];
        }
    }

    function _positionOf(
        PolicyBoard.PolicyApproval[] memory approvals,
        address administrator
    )
        private
        pure
        returns (uint256 position)
    {
        while (approvals[position].administrator != administrator) ++position;
    }

    function _typed(bytes32 structHash) private view returns (bytes32) {
        bytes32 domainSeparator = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("CryptletRegister"),
                keccak256("1"),
                block.chainid,
                address(board)
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domainSeparator, structHash));
    }

    function _oldEpoch(uint64 current, uint64 given) private pure returns (bytes memory) {
        return abi.encodeWithSelector(PolicyBoard.OldEpoch.selector, current, given);
    }

    function _epochTooFar(uint64 current, uint64 given) private pure returns (bytes memory) {
        return abi.encodeWithSelector(PolicyBoard.EpochTooFar.selector, current, given);
    }

    function _invalid(PolicyBoard.PolicyApproval[] memory approvals, uint256 which)
        private
        pure
        returns (bytes memory)
    {
        return abi.encodeWithSelector(PolicyBoard.InvalidApproval.selector, approvals[which].administrator);
    }

    function _refusedOf(uint64 epoch, PolicyBoard.PolicyApproval[] memory approvals, uint256 which) private {
        _refused(epoch, approvals, _invalid(approvals, which));
    }

    function _refused(uint64 epoch, PolicyBoard.PolicyApproval[] memory approvals, bytes memory revertData) private {
        (uint64 before,,) = board.policy();
        vm.expectRevert(revertData);
        board.setPolicy(epoch, DIGEST, URI, approvals);
        (uint64 current,,) = board.policy();
        vm.assertEq(current, before);
    }

    function _expectSameAdministrators(
        address[] memory next,
        uint256 threshold,
        PolicyBoard.PolicyApproval[] memory approvals,
        bytes memory revertData
    )
        private
    {
        (,, uint64 before) = board.administrators();
        vm.expectRevert(revertData);
        board.setAdministrators(next, threshold, approvals);
        (,, uint64 term) = board.administrators();
        vm.assertEq(term, before);
    }

    function _expectNoBoard(address[] memory them, uint256 threshold, bytes memory revertData) private {
        vm.expectRevert(revertData);
        new CryptletRegister(address(this), them, threshold);
    }

    function _assertPolicy(uint64 epoch, bytes32 digest, string memory uri) private view {
        (uint64 itsEpoch, bytes32 itsDigest, string memory itsUri) = board.policy();
        vm.assertEq(itsEpoch, epoch);
        vm.assertEq(itsDigest, digest);
        vm.assertEq(itsUri, uri);
    }

    function _assertAdministrators(address[] memory them, uint256 threshold, uint64 term) private view {
        (address[] memory theirs, uint256 itsThreshold, uint64 itsTerm) = board.administrators();
        vm.assertEq(abi.encode(theirs), abi.encode(them));
        vm.assertEq(itsThreshold, threshold);
        vm.assertEq(itsTerm, term);
    }
}
