//! A subscription: what a contract asked the delegate for (requirement T8).

use crate::{CryptletId, Subject, UnixSeconds, bounded::MAX_SUBSCRIPTION_BYTES};
use alloy_primitives::{Address, Bytes, FixedBytes};
use alloy_sol_types::SolValue;
use serde::{Deserialize, Serialize};

/// When to wake a contract, on which condition, with what, and at which function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subscription {
    /// Its id, computed by the delegate.
    pub subject: Subject,
    /// The contract that subscribed and is called back.
    pub consumer: Address,
    /// The cryptlet whose reports it accepts.
    pub cryptlet: CryptletId,
    /// Selector of the callback function.
    pub callback: FixedBytes<4>,
    /// Gas that the callback gets, no more and no less.
    pub callback_gas: u32,
    /// Seconds for which a report stays deliverable after it was issued.
    pub validity: u32,
    /// When to wake.
    pub trigger: TriggerSpec,
    /// Parameters for the cryptlet, ABI-encoded as its header says.
    pub params: Bytes,
    /// Timestamp of the block that holds the subscription: nothing earlier is ever due.
    pub since: UnixSeconds,
}

/// When a subscription is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", deny_unknown_fields)]
pub enum TriggerSpec {
    /// By the calendar.
    Clock(ClockSpec),
}

/// A schedule in a market's own time zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClockSpec {
    /// Five-field cron expression on the zone's wall clock.
    pub cron: String,
    /// IANA time zone name, for example `Europe/Berlin`.
    pub time_zone: String,
}

/// Why a subscription in a log cannot be served. None of these is helped by a retry: the log is final.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionError {
    /// The kind of trigger is not known to this version.
    #[error("trigger: kind {0} is not known to this host")]
    UnknownTrigger(u8),
    /// A field is larger than the delegate would have let through.
    #[error("{field}: {size} bytes, at most {MAX_SUBSCRIPTION_BYTES}")]
    TooLarge {
        /// The field.
        field: &'static str,
        /// Its size in bytes.
        size: usize,
    },
    /// The condition is not the ABI encoding that its trigger kind asks for.
    #[error("condition: not abi.encode(string cron, string timeZone)")]
    MalformedCondition,
}

impl SubscriptionError {
    /// Whether trying again can help: never, the log will not change.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

impl TriggerSpec {
    /// Number of the clock trigger in `Subscription.trigger` of the delegate.
    pub const CLOCK: u8 = 1;

    /// Reads the delegate's `trigger` and `condition`.
    ///
    /// # Errors
    /// Names the field that is unknown, too large or malformed.
    pub fn decode(trigger: u8, condition: &[u8]) -> Result<Self, SubscriptionError> {
        if trigger != Self::CLOCK {
            return Err(SubscriptionError::UnknownTrigger(trigger));
        }
        if condition.len() > MAX_SUBSCRIPTION_BYTES {
            let size = condition.len();
            return Err(SubscriptionError::TooLarge {
                field: "condition",
                size,
            });
        }
        let (cron, time_zone) = <(String, String)>::abi_decode_params_validate(condition)
            .map_err(|_| SubscriptionError::MalformedCondition)?;
        Ok(Self::Clock(ClockSpec { cron, time_zone }))
    }

    /// The `condition` bytes of the delegate for this trigger.
    #[must_use]
    pub fn encode_condition(&self) -> Bytes {
        let Self::Clock(ClockSpec { cron, time_zone }) = self;
        (cron.clone(), time_zone.clone()).abi_encode_params().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn conditions_survive_a_round_trip(cron in "\\PC{0,60}", time_zone in "\\PC{0,40}") {
            let spec = TriggerSpec::Clock(ClockSpec { cron, time_zone });
            prop_assert_eq!(TriggerSpec::decode(1, &spec.encode_condition()), Ok(spec));
        }

        #[test]
        fn arbitrary_bytes_never_panic(kind: u8, bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = TriggerSpec::decode(kind, &bytes);
        }
    }

    #[test]
    fn unknown_triggers_and_oversized_conditions_are_named() {
        assert_eq!(
            TriggerSpec::decode(9, &[]),
            Err(SubscriptionError::UnknownTrigger(9))
        );
        let error = TriggerSpec::decode(1, &[0; MAX_SUBSCRIPTION_BYTES + 1]).unwrap_err();
        assert!(
            error.to_string().starts_with("condition: 4097 bytes"),
            "{error}"
        );
    }
}
