//! Evidence: what a region proves about itself.

use crate::{Measurement, UnixSeconds, report::CompactSignature};
use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::SolValue;
use serde::{Deserialize, Serialize};

/// Who isolates a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Provider {
    /// The operating system: an own process without network and ambient authority. Its evidence is
    /// software's word, vouched for by the host's key and by nothing below it.
    Process,
}

impl Provider {
    /// The word for it in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
        }
    }
}

/// What a region says about itself when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceStatement {
    /// Who isolates it.
    pub provider: Provider,
    /// Controls in force, by name, in the order in which they were applied.
    pub controls: Vec<String>,
    /// What runs in it.
    pub measurement: Measurement,
    /// Address of the secp256k1 key that was made in the region and never leaves it.
    pub region_key: Address,
    /// X25519 public key, made in the region, that secrets for it are wrapped to.
    pub exchange_key: B256,
    /// The host's challenge: what makes old evidence worthless.
    pub nonce: B256,
}

impl EvidenceStatement {
    /// The 32 bytes that a voucher signs.
    #[must_use]
    pub fn digest(&self, made_at: UnixSeconds) -> B256 {
        let keys = (self.region_key, self.exchange_key, self.nonce);
        keccak256(
            (
                "bletchley evidence v1",
                self.provider.as_str(),
                self.controls.clone(),
                self.measurement.0,
                keys,
                made_at,
            )
                .abi_encode_params(),
        )
    }
}

/// A statement that somebody vouches for: for the process provider, the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Evidence {
    /// What the region says.
    pub statement: EvidenceStatement,
    /// When it was vouched for.
    pub made_at: UnixSeconds,
    /// The host that created the region and compared its measurement.
    pub host: Address,
    /// The host's signature over [`EvidenceStatement::digest`].
    pub signature: CompactSignature,
}
