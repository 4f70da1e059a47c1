//! What a run is given, and what a region can check of it without believing its host.

use super::{FrameError, encode};
use crate::{
    Answer, CryptletId, Event, Job, JobId, Measurement, Report, ReportDomain, SignedDelegation,
    Subscription, Trigger, UnixSeconds,
    answer::{request_id, window},
    delegation::DelegationError,
    event::Step,
    report::CompactSignature,
    subscription::{SubscriptionError, trigger::feed},
};
use alloy_primitives::{Address, B256, Bytes, keccak256};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that a run depends on: with the answers of the sources, a run can be repeated from this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunInput {
    /// The job.
    pub job: JobId,
    /// Where the report may be delivered.
    pub domain: ReportDomain,
    /// For which subscription: who runs, whom it calls back, with which parameters.
    pub subscription: Subscription,
    /// What occurred.
    pub trigger: Trigger,
    /// The number that the report will have.
    pub sequence: u64,
    /// The job's time: what the cryptlet reads as now, and what certificates are judged by.
    pub issued_at: UnixSeconds,
    /// The last second at which the report will be accepted.
    pub valid_until: UnixSeconds,
    /// The word of the identity that the subscription names; none if it names nobody.
    pub delegation: Option<SignedDelegation>,
    /// The manifest's settings.
    pub settings: BTreeMap<String, String>,
}

/// Why an input fits no job that a delegate can have asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// The subscription is none of this delegate's.
    #[error("subscription.{0}")]
    Subscription(#[from] SubscriptionError),
    /// The job's id is that of another trigger or subscription.
    #[error("job: {stated} is not that of this trigger and subscription, which is {computed}")]
    WrongJob {
        /// What the input says.
        stated: JobId,
        /// What its trigger and subscription give.
        computed: JobId,
    },
    /// The subscription never asked for such a trigger.
    #[error("trigger: {0}, which the subscription does not ask for")]
    NotAsked(&'static str),
    /// The trigger hands over more than it may, or a step is not counted from 1.
    #[error("trigger: {0}")]
    Trigger(&'static str),
    /// Reports are counted from 1.
    #[error("sequence: counted from 1")]
    Sequence,
    /// The trigger was due before there was a subscription.
    #[error("trigger: due at {due}, before the subscription of {since}")]
    BeforeSubscription {
        /// When it was due.
        due: UnixSeconds,
        /// When the subscription was made.
        since: UnixSeconds,
    },
    /// The report would be issued before its trigger is due.
    #[error("issuedAt: {issued_at}, before the trigger is due at {due}")]
    NotYetDue {
        /// When the report would be issued.
        issued_at: UnixSeconds,
        /// When the trigger is due.
        due: UnixSeconds,
    },
    /// The report would be valid never, or for longer than the subscription says.
    #[error("validUntil: {valid_until}, must be after {issued_at} by at most {validity} s")]
    Validity {
        /// When the report would be issued.
        issued_at: UnixSeconds,
        /// The last second at which it would be accepted.
        valid_until: UnixSeconds,
        /// What the subscription says.
        validity: u32,
    },
    /// The delegation is missing, not asked for, or does not cover the report.
    #[error("delegation: {0}")]
    Delegation(#[from] DelegationError),
}

impl InputError {
    /// Whether the same job may end better later: only if all that is missing is a delegation.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Delegation(error) if error.is_retryable())
    }
}

impl RunInput {
    /// Keccak-256 of the input's CBOR encoding.
    ///
    /// # Errors
    /// None in practice: every value of this type has a CBOR form.
    pub fn digest(&self) -> Result<B256, FrameError> {
        encode(self).map(keccak256)
    }

    /// The event that the run answers.
    #[must_use]
    pub fn event(&self) -> Event {
        Event::new(
            &self.domain,
            self.subscription.subject,
            self.trigger.clone(),
        )
    }

    /// The step that goes on from this run with `state`, not signed yet; none if there were as many as can be counted.
    #[must_use]
    pub fn next_step(&self, state: Bytes) -> Option<Step> {
        let (of, before) = match &self.trigger {
            Trigger::Step(step) => (step.of, step.number),
            _ => (self.event().id, 0),
        };
        Some(Step {
            of,
            number: before.checked_add(1)?,
            state,
            at: self.issued_at,
            signature: CompactSignature::default(),
        })
    }

    /// The report that says `payload`, made by what `region` measures.
    #[must_use]
    pub fn report(&self, region: Measurement, payload: Bytes) -> Report {
        let signed = self.delegation.as_ref();
        Report {
            cryptlet: self.subscription.cryptlet,
            subject: self.subscription.subject,
            sequence: self.sequence,
            issued_at: self.issued_at,
            valid_until: self.valid_until,
            region,
            delegation: signed
                .map(|signed| signed.delegation.digest(&self.domain))
                .unwrap_or_default(),
            payload,
        }
    }

    /// Checks everything that follows from what the subject commits to: subscription, event, job, times, delegation.
    /// Whether the delegation's signature holds is for the chain to say, which alone can ask a wallet.
    ///
    /// # Errors
    /// Names the field that does not fit.
    pub fn check(&self) -> Result<(), InputError> {
        self.subscription.check(&self.domain)?;
        let (stated, computed) = (self.job, Job::id_of(&self.event()));
        if stated != computed {
            return Err(InputError::WrongJob { stated, computed });
        }
        if self.sequence == 0 {
            return Err(InputError::Sequence);
        }
        if !self.subscription.may_be_woken_by(&self.trigger) {
            return Err(InputError::NotAsked(self.trigger.name()));
        }
        self.trigger.check().map_err(InputError::Trigger)?;
        self.check_times()?;
        self.check_delegation()?;
        Ok(())
    }

    fn check_times(&self) -> Result<(), InputError> {
        let (due, since) = (self.trigger.due(), self.subscription.since);
        let (issued_at, valid_until) = (self.issued_at, self.valid_until);
        // What another chain or an application dates is dated by a clock of its own.
        let ours = matches!(
            self.trigger,
            Trigger::Clock { .. }
                | Trigger::Request { .. }
                | Trigger::Threshold { .. }
                | Trigger::Step(_)
        );
        if ours && due < since {
            return Err(InputError::BeforeSubscription { due, since });
        }
        if ours && due > issued_at {
            return Err(InputError::NotYetDue { issued_at, due });
        }
        let validity = self.subscription.validity;
        match valid_until.checked_sub(issued_at) {
            Some(length) if length > 0 && length <= u64::from(validity) => Ok(()),
            _ => Err(InputError::Validity {
                issued_at,
                valid_until,
                validity,
            }),
        }
    }

    fn check_delegation(&self) -> Result<(), DelegationError> {
        match &self.delegation {
            Some(signed) => signed.check(&self.subscription, self.valid_until),
            None if self.subscription.needs_delegation() => {
                Err(DelegationError::Missing(self.subscription.on_behalf_of))
            }
            None => Ok(()),
        }
    }
}

/// What an observation of a feed depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObserveInput {
    /// The delegate whose subscriptions wait for the value.
    pub domain: ReportDomain,
    /// The cryptlet that is asked.
    pub cryptlet: CryptletId,
    /// What it is asked with, at most 4 KiB.
    pub params: Bytes,
    /// Seconds between two observations: together with cryptlet and parameters it makes the [feed](feed).
    pub every: u32,
    /// The time of the observation: what the cryptlet reads as now, and what certificates are judged by.
    pub at: UnixSeconds,
    /// The manifest's settings.
    pub settings: BTreeMap<String, String>,
}

impl ObserveInput {
    /// The feed that is observed.
    #[must_use]
    pub fn feed(&self) -> B256 {
        feed(self.cryptlet, &self.params, self.every)
    }
}

/// What the answer to a contract that asks off the chain depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CallInput {
    /// The delegate in whose domain the answer is signed.
    pub domain: ReportDomain,
    /// The contract that asks.
    pub consumer: Address,
    /// The cryptlet that is asked.
    pub cryptlet: CryptletId,
    /// What it is asked with, at most 4 KiB.
    pub params: Bytes,
    /// Seconds for which answers hold, 1 to [`MAX_WINDOW_SECONDS`](crate::answer::MAX_WINDOW_SECONDS).
    pub window_length: u64,
    /// The time of the answer: what the cryptlet reads as now, and what certificates are judged by.
    pub at: UnixSeconds,
    /// The manifest's settings.
    pub settings: BTreeMap<String, String>,
}

impl CallInput {
    /// The answer that says `value`, made by what `region` measures; none if there is no such window.
    #[must_use]
    pub fn answer(&self, region: Measurement, value: Bytes) -> Option<Answer> {
        let (window_start, window_end) = window(self.at, self.window_length)?;
        Some(Answer {
            cryptlet: self.cryptlet,
            request: request_id(
                self.consumer,
                self.cryptlet,
                &self.params,
                self.window_length,
            ),
            window_start,
            window_end,
            region,
            value,
        })
    }
}

#[cfg(test)]
mod tests;
