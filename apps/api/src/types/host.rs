//! The host about itself.

use super::{Bytes20, Bytes32, HexBytes};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The server answers. Says nothing about chain or register: ask `GET /v1/host`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always `serving`.
    pub status: String,
}

/// What a caller has to know of a host before working with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostInfo {
    /// Address of the host key: who vouches for regions and signs receipts.
    pub host: Bytes20,
    /// Where it is reached.
    pub url: String,
    /// SHA-256 of the DER certificate of its certificate authority.
    pub authority: Bytes32,
    /// The consumers' chain.
    pub chain_id: u64,
    /// Where that chain answers to JSON-RPC, if the operator shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpc: Option<String>,
    /// The `CryptoDelegate` on that chain.
    pub delegate: Bytes20,
    /// The host's signature over the document that `GET /v1/delegate` answers: 64 bytes, `r` and `vs` (EIP-2098). A node is
    /// started with it.
    pub delegate_signature: HexBytes,
    /// First block of that chain that the host reads.
    pub first_block: u64,
    /// The register.
    pub register: RegisterInfo,
    /// How current the host's copy of the register is.
    pub register_state: RegisterState,
    /// The policy in force; nothing: none, and no job runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyMark>,
    /// Version of the host's program.
    pub version: String,
}

/// Where the register is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegisterInfo {
    /// Chain of the register.
    pub chain_id: u64,
    /// Its contract.
    pub address: Bytes20,
    /// Where that chain answers to JSON-RPC, if the operator shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpc: Option<String>,
    /// First block of that chain that the host reads.
    pub first_block: u64,
}

/// How current the host's copy of the register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegisterState {
    /// Last block of the register's chain that was read.
    pub synced_block: u64,
    /// Seconds since the register's chain answered.
    pub age_seconds: u64,
    /// Too old: no new job runs until the register's chain answers again.
    pub stale: bool,
}

/// Which policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyMark {
    /// Its epoch.
    pub epoch: u64,
    /// Its digest.
    pub digest: Bytes32,
}
