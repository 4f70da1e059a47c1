//! What a job gathers between its run and its receipt: the journal keeps it, delivery reads it.
//!
//! Both values are written to the journal before their effect leaves the host (a report before a
//! transaction is built on it, a transaction before it is broadcast), so that a host that was killed in
//! between takes up the same report and the same transaction, never a second one.

use crate::{
    Evidence, JobId, Sha256Digest, SignedReport,
    region::{RunInput, SourceProof},
};
use alloy_primitives::{Address, B256, Bytes};
use serde::{Deserialize, Serialize};

/// Which run of which job. A job has one signed report at a time: where that can no more be delivered, or its event occurs again
/// after it was taken back, the job is run anew under the next number. What was sent of an earlier run is remembered, for a
/// reorganisation of the chain may deliver it after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunId {
    /// The job.
    pub job: JobId,
    /// 0 for its first run.
    pub number: u32,
}

impl RunId {
    /// The job's first run.
    #[must_use]
    pub const fn first(job: JobId) -> Self {
        Self { job, number: 0 }
    }

    /// Whether there are no earlier ones.
    #[must_use]
    pub const fn is_first(&self) -> bool {
        self.number == 0
    }
}

/// One run that ended in a signed report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunRecord {
    /// What the run depended on.
    pub input: RunInput,
    /// What its sources said, in the order in which they were asked.
    pub sources: Vec<SourceProof>,
    /// What was said, signed by cryptlet and region.
    pub report: SignedReport,
    /// What the region proved about itself.
    pub evidence: Evidence,
    /// Units of WebAssembly fuel that the run used up.
    pub fuel_used: u64,
    /// Epoch of the policy under which it ran.
    pub policy_epoch: u64,
    /// Digest of that policy.
    pub policy: Sha256Digest,
}

/// One signed transaction that delivers a report. A replacement has the same nonce and higher fees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Submission {
    /// Account that sends and pays.
    pub transmitter: Address,
    /// The account's nonce.
    pub nonce: u64,
    /// Transaction hash.
    pub hash: B256,
    /// The signed transaction (EIP-2718).
    pub raw: Bytes,
    /// Most that a unit of gas may cost, in wei (EIP-1559).
    pub max_fee_per_gas: u128,
    /// Most of it that goes to the block's builder, in wei (EIP-1559).
    pub max_priority_fee_per_gas: u128,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fees_beyond_64_bits_survive_json() {
        let submission = Submission {
            transmitter: Address::repeat_byte(1),
            nonce: u64::MAX,
            hash: B256::repeat_byte(2),
            raw: Bytes::from_static(&[2, 3]),
            max_fee_per_gas: u128::MAX,
            max_priority_fee_per_gas: u128::from(u64::MAX) + 1,
        };
        let json = serde_json::to_string(&submission).unwrap();
        assert_eq!(
            serde_json::from_str::<Submission>(&json).unwrap(),
            submission
        );
    }
}
