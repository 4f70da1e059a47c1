//! What one run may use up.

use crate::manifest::DocumentError;
use serde::{Deserialize, Serialize};

/// Upper bounds of one run. A manifest asks, policy has the last word: see [`Limits::within`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Units of WebAssembly fuel (about one for each instruction).
    pub fuel: u64,
    /// Linear memory, in bytes.
    pub memory_bytes: u64,
    /// Wall-clock time in milliseconds, network included.
    pub wall_millis: u64,
    /// Bytes of one HTTP response, headers included.
    pub response_bytes: u64,
}

impl Limits {
    /// The smaller of both in every field: policy never gives more than was asked, nor a manifest more than policy allows.
    #[must_use]
    pub fn within(self, policy: Self) -> Self {
        Self {
            fuel: self.fuel.min(policy.fuel),
            memory_bytes: self.memory_bytes.min(policy.memory_bytes),
            wall_millis: self.wall_millis.min(policy.wall_millis),
            response_bytes: self.response_bytes.min(policy.response_bytes),
        }
    }
}

impl Limits {
    /// Refuses limits under which nothing could ever run.
    pub(crate) fn check(&self, field: &str) -> Result<(), DocumentError> {
        let named = [
            ("fuel", self.fuel),
            ("memoryBytes", self.memory_bytes),
            ("wallMillis", self.wall_millis),
            ("responseBytes", self.response_bytes),
        ];
        match named.into_iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(DocumentError::field(
                format!("{field}.{name}"),
                "at least 1",
            )),
            None => Ok(()),
        }
    }
}

impl Default for Limits {
    /// 2 billion units of fuel, 64 MiB, 10 s, 4 MiB a response.
    fn default() -> Self {
        Self {
            fuel: 2_000_000_000,
            memory_bytes: 64 << 20,
            wall_millis: 10_000,
            response_bytes: 4 << 20,
        }
    }
}
