//! Cryptlets as the register, the host's store and its policy have them.

use super::{Bytes20, Bytes32, Document};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One line of a search.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CryptletSummary {
    /// Its id.
    pub cryptlet: Bytes20,
    /// Its name.
    pub name: String,
    /// Who registered it.
    pub publisher: Bytes20,
    /// Label of the current version; nothing: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The manifest's description, if the host has the package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The whole cryptlet is revoked.
    pub revoked: bool,
    /// The host's copy of the register is too old to be relied on.
    pub stale: bool,
}

/// Everything about one cryptlet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CryptletDetail {
    /// Its id.
    pub cryptlet: Bytes20,
    /// Its name.
    pub name: String,
    /// The manifest's description, if the host has the package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Who registered it.
    pub publisher: Bytes20,
    /// Who holds its token now.
    pub owner: Bytes20,
    /// The whole cryptlet is revoked.
    pub revoked: bool,
    /// Number of the newest version that is not revoked; nothing: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<u32>,
    /// All versions, oldest first.
    pub versions: Vec<VersionInfo>,
    /// All signers that were ever enrolled.
    pub signers: Vec<SignerInfo>,
    /// Interface of the current version, if the host has the package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<InterfaceInfo>,
    /// Hosts that the owner assigned.
    pub hosts: Vec<HostRow>,
    /// What this host's policy says.
    pub policy: Verdict,
    /// Its source code.
    pub source: Source,
    /// The host's copy of the register is too old to be relied on.
    pub stale: bool,
}

/// One version. It never changes, but can be revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionInfo {
    /// 1, 2, 3.
    pub number: u32,
    /// The publisher's name for it.
    pub label: String,
    /// Digest of the package.
    pub package_digest: Bytes32,
    /// Digest of the header.
    pub header_digest: Bytes32,
    /// Digest of the manifest.
    pub manifest_digest: Bytes32,
    /// Where the package lies; may be empty.
    pub uri: String,
    /// When it was published.
    pub published_at: u64,
    /// It is revoked.
    pub revoked: bool,
    /// This host has the package.
    pub stored: bool,
}

/// A key that may sign for one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignerInfo {
    /// Its address.
    pub signer: Bytes20,
    /// Number of its version.
    pub version: u32,
    /// Last second at which it counts.
    pub expiry: u64,
    /// It is revoked.
    pub revoked: bool,
}

/// What a contract developer needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceInfo {
    /// Name of the generated contract.
    pub contract: String,
    /// The author's Solidity interface.
    pub solidity: String,
    /// Its ABI (Solidity's JSON).
    pub abi: Vec<Document>,
}

/// A host that the owner assigned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostRow {
    /// Address of its host key.
    pub host: Bytes20,
    /// Where it is reached; empty: it is registered no more.
    pub url: String,
    /// SHA-256 of the DER certificate of its certificate authority.
    pub authority: Bytes32,
}

/// Whether this host runs it, and why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// It runs.
    pub allowed: bool,
    /// Why not, one sentence each; empty if allowed.
    pub reasons: Vec<String>,
    /// Epoch of the policy that says so.
    pub epoch: u64,
}

/// Source code of the current version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Source {
    /// It is part of the package; this is the digest of its archive.
    #[serde(rename = "revealed")]
    Revealed(Bytes32),
    /// The publisher keeps it.
    #[serde(rename = "not revealed")]
    NotRevealed,
}

/// What code and manifest wish, what policy says, and what comes out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The cryptlet.
    pub cryptlet: Bytes20,
    /// Its name.
    pub name: String,
    /// Number of the version that is explained.
    pub version: u32,
    /// The policy.
    pub epoch: u64,
    /// One row an aspect.
    pub rows: Vec<ExplanationRow>,
    /// Whether the host runs it.
    pub verdict: Verdict,
}

/// One aspect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExplanationRow {
    /// What it is about: `limits.fuel`, `egress`, `isolation`.
    pub aspect: String,
    /// What code or manifest wish.
    pub wish: String,
    /// What policy says.
    pub policy: String,
    /// What is in force.
    pub result: String,
    /// The wish is not fulfilled.
    pub overridden: bool,
}
