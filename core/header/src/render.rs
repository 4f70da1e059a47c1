//! The Solidity file of a header.
//!
//! Everything that is put in was checked to be nothing but a name, a label, an address or an interface.

use crate::header::HeaderSource;

/// The whole file for `contract`. It is part of version 1 of the document and never changes.
pub(crate) fn solidity(contract: &str, source: &HeaderSource<'_>) -> String {
    let HeaderSource {
        name,
        label,
        interface,
        cryptlet,
        public_key,
    } = source;
    format!(
        r#"// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

// Header of the cryptlet "{name}", version "{label}".
//
// Id in the register: {cryptlet}
// Public key, as the address of its signer: {public_key}
//
// Do not edit. `cryptlet import {name}` writes this file, refreshes it when the publisher brings out a new version, and
// refuses it when it is not the one that the register names. To be woken by the cryptlet, inherit {contract}.

import {{CryptletProxy}} from "./bletchley/CryptletProxy.sol";
import {{CryptoDelegate}} from "./bletchley/CryptoDelegate.sol";

{interface}

/// @notice What was recorded about the cryptlet when this header was made.
library {contract}Header {{
    /// @notice The cryptlet's id in the register.
    address internal constant CRYPTLET = {cryptlet};

    /// @notice The public key of this version, as the address of its signer.
    address internal constant PUBLIC_KEY = {public_key};

    /// @notice The cryptlet's name in the register.
    string internal constant NAME = "{name}";

    /// @notice The version's label.
    string internal constant VERSION = "{label}";

    /// @notice The register does not know the recorded public key as a valid signer of the cryptlet (any longer):
    /// import the header again.
    error PublicKeyNotValid(address cryptlet, address publicKey);
}}

/// @notice Inherit this contract to be woken by the cryptlet "{name}". Functions that it calls are for its reports only:
/// mark them `onlyBy({contract}Header.CRYPTLET)`.
abstract contract {contract} is CryptletProxy, I{contract} {{
    /// @param delegate_ The delegate that is trusted to bring the cryptlet's reports.
    constructor(CryptoDelegate delegate_) CryptletProxy(delegate_, {contract}Header.CRYPTLET) {{
        if (!delegate_.register().isSigner({contract}Header.CRYPTLET, {contract}Header.PUBLIC_KEY)) {{
            revert {contract}Header.PublicKeyNotValid({contract}Header.CRYPTLET, {contract}Header.PUBLIC_KEY);
        }}
    }}
}}
"#
    )
}
