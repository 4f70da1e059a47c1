// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {CryptletRegister} from "../src/CryptletRegister.sol";
import {CryptletText} from "../src/CryptletText.sol";
import {HostBoard} from "../src/HostBoard.sol";
import {ICryptletRegister} from "../src/ICryptletRegister.sol";
import {RegisterTest} from "./support/RegisterTest.sol";

/**
 * @title HostBoardTest
 * @notice Who registers and who assigns hosts, and which of them count for a cryptlet.
 */
contract HostBoardTest is RegisterTest {
    string internal constant URL = "https://host.example:8443";
    bytes32 internal constant AUTHORITY = keccak256("authority");

    address internal publisher = _account("publisher");
    address internal registrar = _account("registrar");
    address internal stranger = _account("stranger");
    address internal host = _account("host");
    address internal second = _account("second host");

    CryptletRegister internal register;
    address internal cryptlet;

    function setUp() public {
        vm.warp(NOW);
        register = _newRegister();
        register.grantRole(register.HOST_REGISTRAR_ROLE(), registrar);
        vm.prank(publisher);
        cryptlet = register.register("market-watcher", _version("1"), address(1), uint64(NOW));
        _register(host);
        _register(second);
    }

    function testRegisterHost() public {
        vm.expectEmit(address(register));
        emit HostBoard.HostRegistered(stranger, URL, AUTHORITY);
        _register(stranger);
        _assertHost(stranger, URL, AUTHORITY);
    }

    function testRegisterAgainReplaces() public {
        vm.prank(registrar);
        register.registerHost(host, "https://other.example", ~AUTHORITY);
        _assertHost(host, "https://other.example", ~AUTHORITY);
    }

    function testRegisterRefusals() public {
        _refused(
            registrar,
            abi.encodeCall(HostBoard.registerHost, (address(0), URL, AUTHORITY)),
            abi.encodeWithSelector(HostBoard.InvalidHost.selector, 0)
        );
        _refused(
            registrar,
            abi.encodeCall(HostBoard.registerHost, (host, URL, 0)),
            abi.encodeWithSelector(HostBoard.InvalidAuthority.selector)
        );
        string[4] memory urls = ["", "https://a b", unicode"https://hоst.example", string(new bytes(257))];
        for (uint256 i = 0; i < urls.length; ++i) {
            _refused(
                registrar,
                abi.encodeCall(HostBoard.registerHost, (host, urls[i], AUTHORITY)),
                abi.encodeWithSelector(CryptletText.InvalidText.selector, urls[i], 1, 256)
            );
        }
    }

    function testRemoveHost() public {
        _assign(host);
        _assign(second);
        vm.expectEmit(address(register));
        emit HostBoard.HostRemoved(host);
        vm.prank(registrar);
        register.removeHost(host);

        bytes memory unknown = abi.encodeWithSelector(HostBoard.UnknownHost.selector, host);
        _refused(stranger, abi.encodeCall(HostBoard.hostOf, (host)), unknown);
        _refused(registrar, abi.encodeCall(HostBoard.removeHost, (host)), unknown);
        _assertHosts(second, address(0));

        _register(host);
        _assertHosts(host, second);
    }

    function testOnlyTheRegistrarRegistersAndRemoves(address caller) public {
        vm.assume(caller != registrar && caller != address(this));
        bytes memory refusal = abi.encodeWithSelector(
            IAccessControl.AccessControlUnauthorizedAccount.selector, caller, keccak256("HOST_REGISTRAR_ROLE")
        );
        _refused(caller, abi.encodeCall(HostBoard.registerHost, (host, URL, AUTHORITY)), refusal);
        _refused(caller, abi.encodeCall(HostBoard.removeHost, (host)), refusal);
    }

    function testAssignHost() public {
        vm.expectEmit(address(register));
        emit HostBoard.HostAssigned(cryptlet, host);
        _assign(host);
        _assertHosts(host, address(0));
        _assign(second);
        _assertHosts(host, second);
    }

    function testUnassignHost() public {
        _assign(host);
        _assign(second);
        vm.expectEmit(address(register));
        emit HostBoard.HostUnassigned(cryptlet, host);
        vm.prank(publisher);
        register.unassignHost(cryptlet, host);
        _assertHosts(second, address(0));
        _assign(host);
        _assertHosts(second, host);
    }

    function testRemovedHostCanBeUnassigned() public {
        _assign(host);
        vm.prank(registrar);
        register.removeHost(host);
        vm.prank(publisher);
        register.unassignHost(cryptlet, host);
        _register(host);
        _assertHosts(address(0), address(0));
    }

    function testAssignRefusals() public {
        _refused(
            publisher,
            abi.encodeCall(HostBoard.assignHost, (cryptlet, stranger)),
            abi.encodeWithSelector(HostBoard.UnknownHost.selector, stranger)
        );
        _assign(host);
        _refused(
            publisher,
            abi.encodeCall(HostBoard.assignHost, (cryptlet, host)),
            abi.encodeWithSelector(HostBoard.HostIsAssigned.selector, cryptlet, host)
        );
        _refused(
            publisher,
            abi.encodeCall(HostBoard.unassignHost, (cryptlet, second)),
            abi.encodeWithSelector(HostBoard.HostIsNotAssigned.selector, cryptlet, second)
        );
        _refused(
            publisher,
            abi.encodeCall(HostBoard.assignHost, (stranger, host)),
            abi.encodeWithSelector(ICryptletRegister.UnknownCryptlet.selector, stranger)
        );
        vm.prank(publisher);
        register.revokeCryptlet(cryptlet);
        _refused(
            publisher,
            abi.encodeCall(HostBoard.assignHost, (cryptlet, second)),
            abi.encodeWithSelector(ICryptletRegister.CryptletIsRevoked.selector, cryptlet)
        );
        vm.prank(publisher);
        register.unassignHost(cryptlet, host);
    }

    function testHostsAreBounded() public {
        for (uint160 i = 1; i <= 17; ++i) {
            _register(address(i));
            if (i <= 16) _assign(address(i));
        }
        vm.assertEq(register.hostsOf(cryptlet).length, 16);
        _refused(
            publisher,
            abi.encodeCall(HostBoard.assignHost, (cryptlet, address(17))),
            abi.encodeWithSelector(HostBoard.TooManyHosts.selector, cryptlet)
        );
    }

    /// @dev The registrar does not assign, nor does whom the owner approved for the token.
    function testOnlyTheOwnerAssigns(address caller) public {
        vm.assume(caller != publisher);
        _assign(host);
        _expectNotTheOwner(caller);
        _expectNotTheOwner(registrar);
        vm.prank(publisher);
        register.setApprovalForAll(stranger, true);
        _expectNotTheOwner(stranger);
    }

    /// @dev Whatever is assigned and unassigned, the order of the others stays.
    function testOrderIsThatOfAssignment(uint256 seed) public {
        address[] memory expected = new address[](0);
        for (uint256 i = 0; i < 24; ++i) {
            address one = address(uint160(1 + seed % 8));
            seed /= 7;
            uint256 position = _positionOf(expected, one);
            if (position == expected.length) {
                _register(one);
                _assign(one);
                expected = _with(expected, one);
            } else {
                vm.prank(publisher);
                register.unassignHost(cryptlet, one);
                expected = _without(expected, position);
            }
            vm.assertEq(abi.encode(register.hostsOf(cryptlet)), abi.encode(expected));
        }
    }

    function _register(address one) private {
        vm.prank(registrar);
        register.registerHost(one, URL, AUTHORITY);
    }

    function _assign(address one) private {
        vm.prank(publisher);
        register.assignHost(cryptlet, one);
    }

    function _expectNotTheOwner(address caller) private {
        bytes memory refusal = abi.encodeWithSelector(CryptletRegister.NotTheOwner.selector, cryptlet, caller);
        _refused(caller, abi.encodeCall(HostBoard.assignHost, (cryptlet, second)), refusal);
        _refused(caller, abi.encodeCall(HostBoard.unassignHost, (cryptlet, host)), refusal);
    }

    function _refused(address caller, bytes memory data, bytes memory revertData) private {
        vm.prank(caller);
        (bool success, bytes memory reason) = address(register).call(data);
        vm.assertFalse(success);
        vm.assertEq(reason, revertData);
    }

    function _assertHost(address one, string memory url, bytes32 authority) private view {
        (string memory itsUrl, bytes32 itsAuthority) = register.hostOf(one);
        vm.assertEq(itsUrl, url);
        vm.assertEq(itsAuthority, authority);
    }

    /// @dev The hosts are these, of which none is zero.
    function _assertHosts(address first, address then) private view {
        address[] memory expected = new address[](0);
        if (first != address(0)) expected = _with(expected, first);
        if (then != address(0)) expected = _with(expected, then);
        vm.assertEq(abi.encode(register.hostsOf(cryptlet)), abi.encode(expected));
    }

    function _positionOf(address[] memory list, address one) private pure returns (uint256 position) {
        while (position < list.length && list[position] != one) ++position;
    }

    function _with(address[] memory list, address one) private pure returns (address[] memory longer) {
        longer = new address[](list.length + 1);
        for (uint256 i = 0; i < list.length; ++i) {
            longer[i] = list[i];
        }
        longer[list.length] = one;
    }

    function _without(address[] memory list, uint256 position) private pure returns (address[] memory shorter) {
        shorter = new address[](list.length - 1);
        for (uint256 i = 0; i < shorter.length; ++i) {
            shorter[i] = list[i < position ? i : i + 1];
        }
    }
}
