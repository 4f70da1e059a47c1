//! Keys, packages, policy, delegations, tokens: what publishers and operators hand in.

use super::object::{object, objects, present};
use super::{
    Base64, Bounded, Bytes4, Bytes20, Bytes32, Document, FormError, HexBytes, Label, Moment, Name,
    TokenId,
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use utoipa::ToSchema;

/// What a caller may do. Each role may do what those before it may.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Reader,
    /// Publishes cryptlets, enlists delegations.
    Publisher,
    /// Sets policy, gives out tokens.
    Operator,
}

impl Role {
    /// All roles, lowest first.
    pub const ALL: [Self; 3] = [Self::Reader, Self::Publisher, Self::Operator];

    /// Its word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Publisher => "publisher",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = FormError;

    fn from_str(word: &str) -> Result<Self, FormError> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == word)
            .ok_or_else(|| FormError("expected reader, publisher or operator".to_owned()))
    }
}

/// Whose key to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewKey {
    /// Who registers, or has registered, the cryptlet.
    pub publisher: Bytes20,
    /// Its name.
    pub name: Name,
}

/// A key that was made in the vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedKey {
    /// The cryptlet's id, computed from publisher and name.
    pub cryptlet: Bytes20,
    /// Address of the new key.
    pub signer: Bytes20,
}

/// A key in the vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyInfo {
    /// Whose it is: `host`, `transmitter`, `authority` or `cryptlet`.
    pub purpose: String,
    /// The cryptlet, for a cryptlet's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cryptlet: Option<Bytes20>,
    /// Its address; nothing: the key is not one of the chain's curve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Bytes20>,
    /// Public key, SEC 1 uncompressed: a point of secp256k1, the authority's of P-256.
    pub public_key: HexBytes,
    /// It is the newest of its cryptlet.
    pub current: bool,
}

/// A package, part by part (OCI image manifest and its blobs).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewPackage {
    /// OCI image manifest.
    pub index: Base64,
    /// The cryptlet's manifest.
    pub manifest: Base64,
    /// The WebAssembly component.
    pub code: Base64,
    /// The header document.
    pub header: Base64,
    /// The source archive, if it is revealed.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(nullable = false)]
    pub source: Option<Base64>,
}

impl fmt::Debug for NewPackage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewPackage").finish_non_exhaustive()
    }
}

/// A package that the host has taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoredPackage {
    /// The cryptlet.
    pub cryptlet: Bytes20,
    /// Its name.
    pub name: String,
    /// Label of the version.
    pub label: String,
    /// Digest of the package.
    pub package_digest: Bytes32,
    /// Digest of the header.
    pub header_digest: Bytes32,
    /// Digest of the manifest.
    pub manifest_digest: Bytes32,
    /// Where the host offers it: for `Version.uri`; may be empty.
    pub uri: String,
}

/// The policy in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyInfo {
    /// Its epoch.
    pub epoch: u64,
    /// Its digest.
    pub digest: Bytes32,
    /// Where the document lies, as the register says; may be empty.
    pub uri: String,
    /// The policy document.
    pub policy: Document,
    /// Whose signatures it came with.
    pub approvals: Vec<Approval>,
    /// Epoch and digest are those of the register. If not, no job runs.
    pub confirmed: bool,
}

/// An administrator's signature over epoch and digest (EIP-712, domain of the register).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Approval {
    /// Who.
    pub administrator: Bytes20,
    /// The signature: 65 bytes, or what an ERC-1271 wallet takes.
    pub signature: HexBytes,
}

/// A signed policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewPolicy {
    /// The policy document.
    pub policy: Document,
    /// Signatures of administrators, ascending by administrator, none twice.
    #[serde(deserialize_with = "objects")]
    pub approvals: Vec<Approval>,
}

/// What an identity allows a cryptlet (EIP-712 `Delegation`, domain of the delegate).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DelegationBody {
    /// On whose behalf.
    pub identity: Bytes20,
    /// The cryptlet.
    pub cryptlet: Bytes20,
    /// Only this contract; zero: any.
    pub consumer: Bytes20,
    /// Only this callback; zero: any.
    pub callback: Bytes4,
    /// Last second at which a report under it is accepted.
    #[schema(inline)]
    pub expiry: Moment,
    /// Makes it different from another of the same content.
    pub salt: Bytes32,
}

/// A delegation with its identity's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewDelegation {
    /// What is allowed.
    #[serde(deserialize_with = "object")]
    pub delegation: DelegationBody,
    /// The identity's signature: 65 bytes, or what an ERC-1271 wallet takes.
    pub signature: HexBytes,
}

/// A delegation that the host has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DelegationInfo {
    /// Its EIP-712 digest: what reports carry.
    pub digest: Bytes32,
    /// What is allowed.
    pub delegation: DelegationBody,
    /// The delegate has it as revoked; nothing: it could not be asked just now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<bool>,
}

/// For how long a token counts, in seconds: a minute to ten years.
pub type TokenLifetime = Bounded<60, 315_360_000>;

/// Which token to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewToken {
    /// What its bearer may do.
    pub role: Role,
    /// What it is for.
    pub label: Label,
    /// For how long, in seconds.
    #[schema(inline)]
    pub lifetime_seconds: TokenLifetime,
}

/// A token, but not its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenInfo {
    /// Names it.
    pub id: TokenId,
    /// What its bearer may do.
    pub role: Role,
    /// What it is for.
    pub label: Label,
    /// When it was made.
    pub created: u64,
    /// From this moment on it counts no more.
    pub expires: u64,
}

/// A new token. The secret is shown this once; the host keeps its digest only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedToken {
    /// For `Authorization: Bearer …`.
    pub token: String,
    /// The token without its secret.
    pub info: TokenInfo,
}

impl fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedToken")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

impl Drop for CreatedToken {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.token);
    }
}
