//! A job: an event that is to be answered once, and the states it goes through.

use crate::{Event, JobId, Limits, Sha256Digest, Subscription};
use alloy_primitives::keccak256;
use alloy_sol_types::SolValue;
use serde::{Deserialize, Serialize};

/// An event with everything that its run needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Job {
    /// The one id from event to receipt.
    pub id: JobId,
    /// What occurred.
    pub event: Event,
    /// Whom to wake, and how, as it stood when the event was routed.
    pub subscription: Subscription,
    /// Package that is to run.
    pub package: Sha256Digest,
    /// What the run may use up: manifest and policy together.
    pub limits: Limits,
    /// Epoch of the policy that let it through.
    pub policy_epoch: u64,
}

impl Job {
    /// The id of the job for `event`: one event, one job.
    #[must_use]
    pub fn id_of(event: &Event) -> JobId {
        JobId(keccak256(
            ("bletchley job v1", event.id.0).abi_encode_params(),
        ))
    }
}

/// Where a job stands. The journal holds the state; what it came with lies in the journal's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JobState {
    /// In the journal, waiting to run.
    Routed,
    /// A signed report is in the journal.
    Reported,
    /// The signed transaction is in the journal and may have been broadcast.
    Submitted,
    /// The chain consumed the report; the receipt is in the journal. Final, unless a reorganisation takes the block back.
    Delivered,
    /// The cryptlet answered that there is nothing to deliver. Final.
    Skipped,
    /// Given up, with a reason. Final.
    Failed,
    /// It came to nothing too often. Kept until somebody has it tried again.
    Parked,
    /// A reorganisation took its event back. Kept in case the event occurs again.
    Withdrawn,
}

impl JobState {
    /// All states, in the order of the path.
    pub const ALL: [Self; 8] = [
        Self::Routed,
        Self::Reported,
        Self::Submitted,
        Self::Delivered,
        Self::Skipped,
        Self::Failed,
        Self::Parked,
        Self::Withdrawn,
    ];

    /// The host has something to do for it.
    #[must_use]
    pub fn is_unfinished(self) -> bool {
        matches!(self, Self::Routed | Self::Reported | Self::Submitted)
    }

    /// Nothing follows this state, as long as the chain keeps its blocks.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Skipped | Self::Failed)
    }

    /// Whether `next` may follow. A report that expired undelivered sends the job back to [`JobState::Routed`];
    /// a transaction that has to be replaced goes from submitted to submitted; a delivery whose block was taken
    /// back is undone, and so is the end of a job that failed because its subscription was gone, if it is there
    /// again. A transaction that is on its way cannot be called back: the chain may consume a report whose job was
    /// parked or withdrawn meanwhile, or is to be run anew.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use JobState::{
            Delivered, Failed, Parked, Reported, Routed, Skipped, Submitted, Withdrawn,
        };
        matches!(
            (self, next),
            (Routed, Reported | Skipped | Delivered)
                | (Reported | Submitted, Submitted | Delivered | Routed)
                | (Routed | Reported | Submitted, Failed | Parked | Withdrawn)
                | (Parked, Routed | Withdrawn | Delivered)
                | (Withdrawn, Routed | Delivered)
                | (Delivered, Reported | Submitted)
                | (Failed, Routed | Withdrawn)
        )
    }

    /// The word for it in the journal and on a screen.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Routed => "routed",
            Self::Reported => "reported",
            Self::Submitted => "submitted",
            Self::Delivered => "delivered",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Parked => "parked",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// Reads the word back.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reorganisation_leads_out_of_a_final_state() {
        for from in JobState::ALL.into_iter().filter(|state| state.is_final()) {
            assert!(!from.is_unfinished());
            let next = JobState::ALL
                .into_iter()
                .filter(|next| from.may_become(*next));
            let undone: &[_] = match from {
                JobState::Delivered => &[JobState::Reported, JobState::Submitted],
                JobState::Failed => &[JobState::Routed, JobState::Withdrawn],
                _ => &[],
            };
            assert_eq!(next.collect::<Vec<_>>(), undone, "{from:?}");
        }
    }

    #[test]
    fn nothing_is_delivered_of_a_job_that_came_to_nothing() {
        let before: Vec<_> = JobState::ALL
            .into_iter()
            .filter(|state| state.may_become(JobState::Delivered))
            .collect();
        use JobState::{Parked, Reported, Routed, Submitted, Withdrawn};
        assert_eq!(before, [Routed, Reported, Submitted, Parked, Withdrawn]);
    }

    #[test]
    fn words_are_read_back() {
        for state in JobState::ALL {
            assert_eq!(JobState::parse(state.as_str()), Some(state));
        }
        assert_eq!(JobState::parse("Routed"), None);
    }
}
