// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {CryptletText} from "./CryptletText.sol";

/**
 * @title HostBoard
 * @notice The hosts that readers can check, and which of them a cryptlet's owner names for it.
 *
 * A host is the address of its host key. It counts for a cryptlet while both hold: the registrar registers the host, and
 * the owner assigns it.
 */
abstract contract HostBoard is AccessControl {
    using CryptletText for string;

    struct Host {
        string url;
        bytes32 authority;
    }

    /// @notice Registers and removes hosts.
    bytes32 public constant HOST_REGISTRAR_ROLE = keccak256("HOST_REGISTRAR_ROLE");

    /// @notice Most hosts that can be assigned to a cryptlet.
    uint256 internal constant MAX_HOSTS = 16;

    mapping(address host => Host) private _hosts;
    mapping(address cryptlet => address[]) private _assigned;

    /// @notice `host` serves at `url`, with certificates of the authority with that digest; also if either changed.
    event HostRegistered(address indexed host, string url, bytes32 authority);

    /// @notice `host` counts for no cryptlet any more.
    event HostRemoved(address indexed host);

    /// @notice The owner of `cryptlet` named `host` for it.
    event HostAssigned(address indexed cryptlet, address indexed host);

    /// @notice The owner of `cryptlet` named `host` no more.
    event HostUnassigned(address indexed cryptlet, address indexed host);

    /// @notice A host cannot be the zero address.
    error InvalidHost(address host);

    /// @notice The digest of an authority's certificate cannot be zero.
    error InvalidAuthority();

    /// @notice No such host is registered.
    error UnknownHost(address host);

    /// @notice The host is assigned to the cryptlet already.
    error HostIsAssigned(address cryptlet, address host);

    /// @notice The host is not assigned to the cryptlet.
    error HostIsNotAssigned(address cryptlet, address host);

    /// @notice {MAX_HOSTS} hosts are assigned to the cryptlet.
    error TooManyHosts(address cryptlet);

    /**
     * @notice Registers a host, or gives a registered one another URL or authority. {HOST_REGISTRAR_ROLE} only.
     * @param host The address of its host key.
     * @param url Where it serves, 1 to 256 bytes of visible ASCII.
     * @param authority SHA-256 of the DER certificate of its certificate authority, not zero.
     */
    function registerHost(address host, string calldata url, bytes32 authority) external onlyRole(HOST_REGISTRAR_ROLE) {
        if (host == address(0)) revert InvalidHost(host);
        url.checkPrintable(1, CryptletText.MAX_URI_LENGTH);
        if (authority == 0) revert InvalidAuthority();
        _hosts[host].url = url;
        _hosts[host].authority = authority;
        emit HostRegistered(host, url, authority);
    }

    /**
     * @notice Removes a host: from now on it counts for no cryptlet. {HOST_REGISTRAR_ROLE} only.
     * @dev Assignments stay, and count again if the host is registered again.
     */
    function removeHost(address host) external onlyRole(HOST_REGISTRAR_ROLE) {
        _checkHost(host);
        delete _hosts[host];
        emit HostRemoved(host);
    }

    /// @notice Names a registered host for a cryptlet that is not revoked. The cryptlet's owner only.
    function assignHost(address cryptlet, address host) external {
        _checkOwnerOfActive(cryptlet);
        _checkHost(host);
        address[] storage assigned = _assigned[cryptlet];
        uint256 count = assigned.length;
        if (_position(assigned, host) < count) revert HostIsAssigned(cryptlet, host);
        if (count == MAX_HOSTS) revert TooManyHosts(cryptlet);
        assigned.push(host);
        emit HostAssigned(cryptlet, host);
    }

    /// @notice Names a host no more, registered or not. The cryptlet's owner only.
    function unassignHost(address cryptlet, address host) external {
        _checkOwner(cryptlet);
        address[] storage assigned = _assigned[cryptlet];
        uint256 last = assigned.length;
        uint256 position = _position(assigned, host);
        if (position == last) revert HostIsNotAssigned(cryptlet, host);
        for (--last; position < last; ++position) {
            assigned[position] = assigned[position + 1];
        }
        assigned.pop();
        emit HostUnassigned(cryptlet, host);
    }

    /**
     * @notice A registered host. Reverts with {UnknownHost} if it is not registered.
     * @return url Where it serves.
     * @return authority SHA-256 of the DER certificate of its certificate authority.
     */
    function hostOf(address host) external view returns (string memory url, bytes32 authority) {
        _checkHost(host);
        return (_hosts[host].url, _hosts[host].authority);
    }

    /// @dev The hosts assigned to `cryptlet` that are registered, in the order of their assignment.
    function _hostsOf(address cryptlet) internal view returns (address[] memory hosts) {
        hosts = _assigned[cryptlet];
        uint256 count;
        for (uint256 i = 0; i < hosts.length; ++i) {
            if (_hosts[hosts[i]].authority != 0) hosts[count++] = hosts[i];
        }
        assembly ("memory-safe") {
            mstore(hosts, count)
        }
    }

    /// @dev Reverts unless the caller owns `cryptlet`.
    function _checkOwner(address cryptlet) internal view virtual;

    /// @dev Reverts unless the caller owns `cryptlet` and it is not revoked.
    function _checkOwnerOfActive(address cryptlet) internal view virtual;

    /// @dev The place of `host` among `assigned`, or their number.
    function _position(address[] storage assigned, address host) private view returns (uint256 position) {
        while (position < assigned.length && assigned[position] != host) ++position;
    }

    function _checkHost(address host) private view {
        if (_hosts[host].authority == 0) revert UnknownHost(host);
    }
}
