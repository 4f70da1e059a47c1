//! A subscription: what a contract asked the delegate for (requirement T8).
//!
//! Its subject commits to every field that the contract chose, and to chain, delegate, consumer and number:
//! `keccak256(abi.encode(chainid, delegate, consumer, nonce, keccak256(abi.encode(subscription))))`. A host can
//! therefore not hand a region other parameters under a known subject.

use crate::{
    CryptletId, ReportDomain, Subject, UnixSeconds,
    bounded::{MAX_SUBSCRIPTION_BYTES, MAX_VALIDITY_SECONDS},
};
use alloy_primitives::{Address, Bytes, FixedBytes, keccak256};
use alloy_sol_types::SolValue;
use serde::{Deserialize, Serialize};

pub mod trigger;

pub use trigger::{
    ApplicationSpec, BlocksSpec, ClockSpec, Direction, Finality, InstantsSpec, IntervalSpec,
    LogSpec, Missed, ScheduleSpec, ThresholdSpec, TriggerSpec,
};

mod abi {
    alloy_sol_types::sol! {
        /// The Solidity struct, for the subject and for the delegate's calldata.
        #[derive(Debug, PartialEq, Eq)]
        struct Subscription {
            address cryptlet;
            address onBehalfOf;
            bytes4 callback;
            uint32 callbackGas;
            uint32 validity;
            uint8 trigger;
            bytes condition;
            bytes params;
        }
    }
}
pub use abi::Subscription as AbiSubscription;

/// When to wake a contract, on which condition, with what, and at which function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subscription {
    /// Its id, computed by the delegate: see [`Subscription::subject_in`].
    pub subject: Subject,
    /// The contract that subscribed and is called back.
    pub consumer: Address,
    /// The consumer's number for it: how many subscriptions it had made before.
    pub nonce: u64,
    /// The cryptlet whose reports it accepts.
    pub cryptlet: CryptletId,
    /// The identity in whose name the cryptlet is to speak, which needs its delegation; zero for nobody's.
    pub on_behalf_of: Address,
    /// Selector of the callback function.
    pub callback: FixedBytes<4>,
    /// Gas that the callback gets, no more and no less.
    pub callback_gas: u32,
    /// Seconds for which a report stays deliverable after it was issued, 1 to
    /// [`MAX_VALIDITY_SECONDS`].
    pub validity: u32,
    /// When to wake.
    pub trigger: TriggerSpec,
    /// Parameters for the cryptlet, ABI-encoded as its header says.
    pub params: Bytes,
    /// Timestamp of the block that holds the subscription: nothing earlier is ever due.
    pub since: UnixSeconds,
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
    /// The condition is not the ABI encoding that its trigger kind asks for, byte for byte.
    #[error("condition: not {0}")]
    MalformedCondition(&'static str),
    /// A field of the condition has a value that means nothing.
    #[error("condition.{field}: {reason}")]
    Condition {
        /// The field.
        field: &'static str,
        /// What it must be.
        reason: &'static str,
    },
    /// A report would be deliverable never, or for longer than anything is signed for.
    #[error("validity: {0} s, at least 1 and at most {MAX_VALIDITY_SECONDS}")]
    Validity(u32),
    /// The log is filed under another cryptlet than the one subscribed to.
    #[error("cryptlet: the log names another than the subscription")]
    OtherCryptlet,
    /// The number is none that a delegate counts to.
    #[error("nonce: does not fit in 64 bits")]
    Nonce,
    /// The subject commits to something else: another field, consumer, number, delegate or chain.
    #[error("subject: {stated} is not that of this subscription, which is {computed}")]
    WrongSubject {
        /// What the subscription says.
        stated: Subject,
        /// What its fields give.
        computed: Subject,
    },
}

impl SubscriptionError {
    /// Whether trying again can help: never, the log will not change.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

impl Subscription {
    /// The Solidity struct of what the consumer chose.
    #[must_use]
    pub fn to_abi(&self) -> AbiSubscription {
        AbiSubscription {
            cryptlet: self.cryptlet.0,
            onBehalfOf: self.on_behalf_of,
            callback: self.callback,
            callbackGas: self.callback_gas,
            validity: self.validity,
            trigger: self.trigger.number(),
            condition: self.trigger.encode_condition(),
            params: self.params.clone(),
        }
    }

    /// The subject that the delegate of `domain` computes for these fields.
    #[must_use]
    pub fn subject_in(&self, domain: &ReportDomain) -> Subject {
        let fields = keccak256(self.to_abi().abi_encode());
        let place = (
            domain.chain_id,
            domain.delegate,
            self.consumer,
            self.nonce,
            fields,
        );
        Subject(keccak256(place.abi_encode_params()))
    }

    /// The same subscription with the subject that the delegate of `domain` gives it.
    #[must_use]
    pub fn with_subject_in(mut self, domain: &ReportDomain) -> Self {
        self.subject = self.subject_in(domain);
        self
    }

    /// Whether the delegate of `domain` can have made this subscription: fields within its bounds, and the subject
    /// commits to all of them.
    ///
    /// # Errors
    /// Names the field.
    pub fn check(&self, domain: &ReportDomain) -> Result<(), SubscriptionError> {
        let size = self.params.len();
        if size > MAX_SUBSCRIPTION_BYTES {
            let field = "params";
            return Err(SubscriptionError::TooLarge { field, size });
        }
        if self.validity == 0 || u64::from(self.validity) > MAX_VALIDITY_SECONDS {
            return Err(SubscriptionError::Validity(self.validity));
        }
        let (stated, computed) = (self.subject, self.subject_in(domain));
        if stated == computed {
            Ok(())
        } else {
            Err(SubscriptionError::WrongSubject { stated, computed })
        }
    }

    /// Whether the cryptlet is to speak in somebody's name.
    #[must_use]
    pub fn needs_delegation(&self) -> bool {
        self.on_behalf_of != Address::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;

    const DOMAIN: ReportDomain = ReportDomain {
        chain_id: 31_337,
        delegate: Address::repeat_byte(0xde),
    };

    fn subscription() -> Subscription {
        Subscription {
            subject: Subject(B256::ZERO),
            consumer: Address::repeat_byte(1),
            nonce: 7,
            cryptlet: CryptletId(Address::repeat_byte(2)),
            on_behalf_of: Address::ZERO,
            callback: FixedBytes([4; 4]),
            callback_gas: 50_000,
            validity: 600,
            trigger: TriggerSpec::Clock(ClockSpec {
                cron: "0 16 * * *".into(),
                time_zone: "Europe/Berlin".into(),
            }),
            params: Bytes::from_static(b"USD"),
            since: 1,
        }
        .with_subject_in(&DOMAIN)
    }

    #[test]
    fn the_subject_commits_to_everything_that_the_consumer_chose() {
        assert_eq!(subscription().check(&DOMAIN), Ok(()));
        let forgeries: [fn(&mut Subscription); 9] = [
            |s| s.consumer = Address::ZERO,
            |s| s.nonce += 1,
            |s| s.cryptlet = CryptletId(Address::ZERO),
            |s| s.on_behalf_of = Address::repeat_byte(9),
            |s| s.callback = FixedBytes([5; 4]),
            |s| s.callback_gas += 1,
            |s| s.validity += 1,
            |s| s.trigger = TriggerSpec::Request,
            |s| s.params = Bytes::from_static(b"EUR"),
        ];
        let refused = |result| matches!(result, Err(SubscriptionError::WrongSubject { .. }));
        for (number, forge) in forgeries.into_iter().enumerate() {
            let mut forged = subscription();
            forge(&mut forged);
            assert!(refused(forged.check(&DOMAIN)), "forgery {number}");
        }
        let chain_id = 1;
        assert!(refused(
            subscription().check(&ReportDomain { chain_id, ..DOMAIN })
        ));
        let delegate = Address::ZERO;
        assert!(refused(
            subscription().check(&ReportDomain { delegate, ..DOMAIN })
        ));
    }

    #[test]
    fn validity_has_bounds() {
        for validity in [0, 7 * 86_400 + 1] {
            let subscription = Subscription {
                validity,
                ..subscription()
            };
            let subscription = subscription.with_subject_in(&DOMAIN);
            assert_eq!(
                subscription.check(&DOMAIN),
                Err(SubscriptionError::Validity(validity))
            );
        }
    }
}
