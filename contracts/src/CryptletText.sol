// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/**
 * @title CryptletText
 * @notice Which texts the register takes, and which names look alike.
 */
library CryptletText {
    /// @notice Longest name of a cryptlet, in bytes.
    uint256 internal constant MAX_NAME_LENGTH = 64;

    /// @notice Longest label of a version, in bytes.
    uint256 internal constant MAX_LABEL_LENGTH = 32;

    /// @notice Longest URI, in bytes.
    uint256 internal constant MAX_URI_LENGTH = 256;

    /// @notice The text has not `least` to `most` bytes, or has one that is not a visible character of ASCII.
    error InvalidText(string text, uint256 least, uint256 most);

    /// @notice Whether `text` has 1 to {MAX_NAME_LENGTH} bytes of `[a-z0-9-]`, no hyphen first, last or doubled.
    function isName(bytes calldata text) internal pure returns (bool) {
        if (text.length == 0 || text.length > MAX_NAME_LENGTH) return false;
        bool afterHyphen = true;
        for (uint256 i = 0; i < text.length; ++i) {
            bytes1 c = text[i];
            bool hyphen = c == "-";
            bool letterOrDigit = (c >= "a" && c <= "z") || (c >= "0" && c <= "9");
            if (!letterOrDigit && (!hyphen || afterHyphen)) return false;
            afterHyphen = hyphen;
        }
        return !afterHyphen;
    }

    /// @notice Reverts unless `text` has `least` to `most` bytes, each a visible character of ASCII.
    function checkPrintable(string calldata text, uint256 least, uint256 most) internal pure {
        bytes calldata characters = bytes(text);
        bool printable = characters.length >= least && characters.length <= most;
        for (uint256 i = 0; printable && i < characters.length; ++i) {
            printable = characters[i] > 0x20 && characters[i] < 0x7f;
        }
        if (!printable) revert InvalidText(text, least, most);
    }

    /**
     * @notice The same for two names that a reader may take for one another: hyphens are dropped, `0` is `o`, `1` and `i`
     * are `l`, `m` is `rn`, `w` is `vv`, `d` is `cl`.
     * @dev Letters are written out rather than drawn together (as Unicode's UTS 39 does): `vvv`, `wv` and `vw` are then
     * alike whichever end one reads from.
     */
    function skeleton(bytes calldata name) internal pure returns (bytes32) {
        bytes memory letters = new bytes(2 * name.length);
        uint256 length;
        for (uint256 i = 0; i < name.length; ++i) {
            bytes1 c = name[i];
            if (c == "-") continue;
            if (c == "m") {
                letters[length++] = "r";
                c = "n";
            } else if (c == "w") {
                letters[length++] = "v";
                c = "v";
            } else if (c == "d") {
                letters[length++] = "c";
                c = "l";
            } else if (c == "0") {
                c = "o";
            } else if (c == "1" || c == "i") {
                c = "l";
            }
            letters[length++] = c;
        }
        assembly ("memory-safe") {
            mstore(letters, length)
        }
        return keccak256(letters);
    }
}
