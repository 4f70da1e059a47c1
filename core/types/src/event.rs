//! An event: a trigger of a subscription has occurred.

use crate::{EventId, ReportDomain, Subject, UnixSeconds};
use alloy_primitives::keccak256;
use alloy_sol_types::SolValue;
use serde::{Deserialize, Serialize};

/// What occurred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", deny_unknown_fields)]
pub enum Trigger {
    /// A moment of the subscription's schedule has come.
    Clock {
        /// The scheduled moment itself, not the moment at which somebody noticed it.
        due: UnixSeconds,
    },
}

impl Trigger {
    /// The moment at which the trigger was due.
    #[must_use]
    pub fn due(&self) -> UnixSeconds {
        match self {
            Self::Clock { due } => *due,
        }
    }
}

/// One occurrence for one subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// Equal for equal occurrences: what makes a doubled trigger harmless.
    pub id: EventId,
    /// The subscription that is to be woken.
    pub subject: Subject,
    /// What occurred.
    pub trigger: Trigger,
}

impl Event {
    /// The event of `trigger` for `subject` at the delegate that `domain` names.
    #[must_use]
    pub fn new(domain: &ReportDomain, subject: Subject, trigger: Trigger) -> Self {
        let Trigger::Clock { due } = &trigger;
        let id = keccak256(
            (
                "bletchley event v1",
                domain.chain_id,
                domain.delegate,
                subject.0,
                "clock",
                *due,
            )
                .abi_encode_params(),
        );
        Self {
            id: EventId(id),
            subject,
            trigger,
        }
    }
}
