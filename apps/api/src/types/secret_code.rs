//! Secret code: its key, and who agreed to it.

use super::{Bytes20, Bytes32, HexBytes};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// What the host has of a package's secret code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretCodeInfo {
    /// Digest of the package.
    pub package: Bytes32,
    /// The host has the code's key.
    pub has_key: bool,
    /// Whose agreement it takes, in the manifest's order.
    pub counterparties: Vec<Counterparty>,
    /// Key and agreements are there, and all are to the same code: it runs.
    pub ready: bool,
}

/// One whose agreement secret code takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Counterparty {
    /// The account.
    pub account: Bytes20,
    /// SHA-256 of the component that it agreed to; nothing: to none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Bytes32>,
}

/// The key of secret code.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewCodeKey {
    /// 32 bytes. The host seals it; it gives it to regions alone.
    pub key: Bytes32,
}

impl fmt::Debug for NewCodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewCodeKey")
    }
}

/// A counterparty's word that a component is the secret code of a package (EIP-712 `CodeAgreement`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewCodeAgreement {
    /// SHA-256 of the component, not encrypted.
    pub code: Bytes32,
    /// The account's signature: 65 bytes.
    pub signature: HexBytes,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Hex;

    #[test]
    fn a_key_is_not_shown() {
        let key = NewCodeKey {
            key: Hex([0xab; 32].into()),
        };
        assert_eq!(format!("{key:?}"), "NewCodeKey");
    }
}
