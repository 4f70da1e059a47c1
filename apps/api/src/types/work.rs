//! Subscriptions and jobs.

use super::{Bytes4, Bytes20, Bytes32, FormError, HexBytes};
use cryptlet_types::JobState;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use utoipa::ToSchema;

/// One subscription that this host serves, or says why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionRow {
    /// Its id.
    pub subject: Bytes32,
    /// The contract that is called back.
    pub consumer: Bytes20,
    /// The cryptlet.
    pub cryptlet: Bytes20,
    /// The cryptlet's name, if the register knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Selector of the callback function.
    pub callback: Bytes4,
    /// Gas of the callback.
    pub callback_gas: u32,
    /// Seconds for which a report stays deliverable.
    pub validity: u32,
    /// When it is due, in words: `30 16 * * 1-5 Europe/Berlin`.
    pub trigger: String,
    /// Parameters for the cryptlet, ABI-encoded.
    pub params: HexBytes,
    /// On whose behalf; nothing: nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<Bytes20>,
    /// Timestamp of the block that holds it.
    pub since: u64,
    /// When it is due next, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_due: Option<u64>,
    /// Why the host does not serve it; nothing: it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum JobStateName {
    /// Waiting to run.
    Routed,
    /// A signed report is there.
    Reported,
    /// The transaction may have been broadcast.
    Submitted,
    /// The chain consumed the report. Final.
    Delivered,
    /// The cryptlet had nothing to deliver. Final.
    Skipped,
    /// Given up, with a reason. Final.
    Failed,
    /// Set aside, with a reason, until an operator has it tried again.
    Parked,
    /// Its event is no more: a reorganisation took it back. Final.
    Withdrawn,
}

macro_rules! same_states {
    ($($state:ident),*) => {
        impl From<JobState> for JobStateName {
            fn from(state: JobState) -> Self {
                match state { $(JobState::$state => Self::$state,)* }
            }
        }
        impl From<JobStateName> for JobState {
            fn from(name: JobStateName) -> Self {
                match name { $(JobStateName::$state => Self::$state,)* }
            }
        }
    };
}

same_states!(
    Routed, Reported, Submitted, Delivered, Skipped, Failed, Parked, Withdrawn
);

impl fmt::Display for JobStateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(JobState::from(*self).as_str())
    }
}

impl FromStr for JobStateName {
    type Err = FormError;

    fn from_str(word: &str) -> Result<Self, FormError> {
        let words = JobState::ALL.map(JobState::as_str).join(", ");
        JobState::parse(word)
            .map(Self::from)
            .ok_or_else(|| FormError(format!("expected one of {words}")))
    }
}

/// One line of a list of jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobSummary {
    /// The job's id.
    pub job: Bytes32,
    /// Its subscription.
    pub subject: Bytes32,
    /// The cryptlet.
    pub cryptlet: Bytes20,
    /// When its event occurred.
    pub due: u64,
    /// Where it stands.
    pub state: JobStateName,
    /// Runs and submissions so far.
    pub attempts: u32,
    /// The last reason, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The whole way of one job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobTrace {
    /// The job as in a list.
    pub summary: JobSummary,
    /// Who is called back.
    pub consumer: Bytes20,
    /// Digest of the package that ran, or is to run.
    pub package_digest: Bytes32,
    /// Epoch of the policy that let it through.
    pub policy_epoch: u64,
    /// What happened, oldest first.
    pub steps: Vec<Step>,
    /// The delivery, once the chain has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<TransactionInfo>,
    /// `GET /v1/jobs/{id}/receipt` has the receipt.
    pub receipt: bool,
}

/// One step of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// When, in milliseconds since 1970.
    pub at_millis: u64,
    /// The state that began.
    pub state: JobStateName,
    /// Why, or what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The transaction that delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransactionInfo {
    /// Its hash.
    pub hash: Bytes32,
    /// Number of its block.
    pub block: u64,
    /// The callback did not revert.
    pub callback_succeeded: bool,
}
