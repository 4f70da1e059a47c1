//! An event: a trigger of a subscription has occurred.

use crate::{
    EventId, ReportDomain, Subject, UnixSeconds, report::CompactSignature,
    subscription::trigger::MAX_TOPICS,
};
use alloy_primitives::{Address, B256, Bytes, I256, U256, keccak256};
use alloy_sol_types::SolValue;
use serde::{Deserialize, Serialize};

/// Largest data of a log, a message or a step that a cryptlet is woken with, in bytes: 16 KiB.
pub const MAX_TRIGGER_BYTES: usize = 16 << 10;

/// What occurred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", deny_unknown_fields)]
pub enum Trigger {
    /// A moment of the subscription's schedule has come.
    Clock {
        /// The scheduled moment itself, not the moment at which somebody noticed it.
        due: UnixSeconds,
    },
    /// A value crossed the subscription's bound.
    Threshold {
        /// The value.
        observation: Observation,
    },
    /// A contract logged an event.
    Log(LogEntry),
    /// A chain has a block of a number that the subscription asked for.
    Block(BlockEntry),
    /// An application said so.
    Application(Message),
    /// The subscription was made, and is itself the request.
    Request {
        /// Timestamp of its block.
        at: UnixSeconds,
    },
    /// A computation that was begun goes on.
    Step(Step),
}

/// A value of a feed at a moment, signed by the cryptlet that observed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Observation {
    /// The feed: [`crate::subscription::ThresholdSpec::feed`].
    pub feed: B256,
    /// The value.
    #[serde(with = "crate::decimal")]
    pub value: I256,
    /// When it was observed.
    pub at: UnixSeconds,
    /// The cryptlet's signature over [`Observation::digest`].
    pub signature: CompactSignature,
}

/// A log, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogEntry {
    /// EIP-155 id of the chain.
    pub chain_id: u64,
    /// Number of the block.
    pub block: u64,
    /// Hash of the block.
    pub block_hash: B256,
    /// Timestamp of the block.
    pub at: UnixSeconds,
    /// Hash of the transaction.
    pub transaction: B256,
    /// Place of the log within the block.
    pub index: u64,
    /// How many equal logs (emitter, topics, data) of the same transaction stand before it.
    pub ordinal: u32,
    /// The contract that logged.
    pub emitter: Address,
    /// Topics, at most four.
    pub topics: Vec<B256>,
    /// Data, at most [`MAX_TRIGGER_BYTES`].
    pub data: Bytes,
}

/// A block that a subscription asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BlockEntry {
    /// EIP-155 id of the chain.
    pub chain_id: u64,
    /// Number of the block.
    pub number: u64,
    /// Hash of the block.
    pub hash: B256,
    /// Timestamp of the block.
    pub at: UnixSeconds,
}

/// What a registered application said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Message {
    /// The application's name.
    pub application: String,
    /// The application's id of the message: the same id is the same message.
    pub id: String,
    /// What kind of message it is.
    #[serde(rename = "messageKind")]
    pub kind: String,
    /// When it was received.
    pub at: UnixSeconds,
    /// What it says, at most [`MAX_TRIGGER_BYTES`].
    pub data: Bytes,
}

/// Where a computation stands that was not finished in one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// The event that began it.
    pub of: EventId,
    /// 1 for the first continuation.
    pub number: u32,
    /// What the cryptlet kept of the run before, at most [`MAX_TRIGGER_BYTES`].
    pub state: Bytes,
    /// The time of the run before: its `issuedAt`.
    pub at: UnixSeconds,
    /// The cryptlet's signature over [`Step::digest`]: nobody else can have altered the state.
    pub signature: CompactSignature,
}

impl Trigger {
    /// The moment at which the trigger was due.
    #[must_use]
    pub fn due(&self) -> UnixSeconds {
        match self {
            Self::Clock { due } => *due,
            Self::Threshold { observation } => observation.at,
            Self::Log(log) => log.at,
            Self::Block(block) => block.at,
            Self::Application(message) => message.at,
            Self::Request { at } => *at,
            Self::Step(step) => step.at,
        }
    }

    /// The word for its kind.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Clock { .. } => "clock",
            Self::Threshold { .. } => "threshold",
            Self::Log(_) => "log",
            Self::Block(_) => "block",
            Self::Application(_) => "application",
            Self::Request { .. } => "request",
            Self::Step(_) => "step",
        }
    }

    /// Whether it is of a size that a cryptlet is woken with. The error names the field.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let data = match self {
            Self::Log(log) if log.topics.len() > MAX_TOPICS => return Err("topics: at most 4"),
            Self::Step(step) if step.number == 0 => return Err("number: counted from 1"),
            Self::Log(log) => &log.data,
            Self::Application(message) => &message.data,
            Self::Step(step) => &step.state,
            _ => return Ok(()),
        };
        if data.len() > MAX_TRIGGER_BYTES {
            return Err("data: at most 16384 bytes");
        }
        Ok(())
    }

    /// What tells this occurrence from every other one of its kind. Of a log that is not its block: a log that a
    /// reorganisation moved into another block is the same.
    fn identity(&self) -> B256 {
        match self {
            Self::Clock { due } => U256::from(*due).into(),
            Self::Threshold { observation } => {
                keccak256((observation.feed, observation.at).abi_encode())
            }
            Self::Log(log) => keccak256(log.identity()),
            Self::Block(block) => keccak256((block.chain_id, block.number).abi_encode()),
            Self::Application(message) => {
                keccak256((message.application.clone(), message.id.clone()).abi_encode())
            }
            Self::Request { .. } => B256::ZERO,
            Self::Step(step) => keccak256((step.of.0, step.number).abi_encode()),
        }
    }
}

impl LogEntry {
    fn identity(&self) -> Vec<u8> {
        (
            self.chain_id,
            self.transaction,
            self.emitter,
            self.topics.clone(),
            self.data.clone(),
            self.ordinal,
        )
            .abi_encode()
    }
}

impl Observation {
    /// What the cryptlet signs.
    #[must_use]
    pub fn digest(&self) -> B256 {
        let said = ("bletchley observation v1", self.feed, self.value, self.at);
        keccak256(said.abi_encode_params())
    }
}

impl Step {
    /// What the cryptlet signs: where the computation stands, and whose it is, so that no state goes on in another
    /// subscription.
    #[must_use]
    pub fn digest(&self, domain: &ReportDomain, subject: Subject) -> B256 {
        let said = (
            "bletchley step v1",
            domain.chain_id,
            domain.delegate,
            subject.0,
            self.of.0,
            self.number,
            keccak256(&self.state),
            self.at,
        );
        keccak256(said.abi_encode_params())
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
        let id = keccak256(
            (
                "bletchley event v1",
                domain.chain_id,
                domain.delegate,
                subject.0,
                trigger.name(),
                trigger.identity(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const DOMAIN: ReportDomain = ReportDomain {
        chain_id: 31_337,
        delegate: Address::repeat_byte(0xde),
    };

    fn log() -> LogEntry {
        LogEntry {
            chain_id: 1,
            block: 10,
            block_hash: B256::repeat_byte(1),
            at: 100,
            transaction: B256::repeat_byte(2),
            index: 3,
            ordinal: 0,
            emitter: Address::repeat_byte(4),
            topics: vec![B256::repeat_byte(5)],
            data: Bytes::from_static(b"data"),
        }
    }

    fn id(trigger: Trigger) -> EventId {
        Event::new(&DOMAIN, Subject(B256::repeat_byte(7)), trigger).id
    }

    #[test]
    fn a_log_in_another_block_is_the_same_event() {
        let moved = LogEntry {
            block: 11,
            block_hash: B256::repeat_byte(9),
            at: 112,
            index: 0,
            ..log()
        };
        assert_eq!(id(Trigger::Log(log())), id(Trigger::Log(moved)));
    }

    #[test]
    fn whatever_tells_two_logs_apart_tells_their_events_apart() {
        let changes: [fn(&mut LogEntry); 6] = [
            |log| log.chain_id += 1,
            |log| log.transaction = B256::ZERO,
            |log| log.ordinal += 1,
            |log| log.emitter = Address::ZERO,
            |log| log.topics.push(B256::ZERO),
            |log| log.data = Bytes::new(),
        ];
        let mut ids = BTreeSet::from([id(Trigger::Log(log()))]);
        for change in changes {
            let mut changed = log();
            change(&mut changed);
            assert!(ids.insert(id(Trigger::Log(changed))));
        }
    }

    #[test]
    fn a_step_s_signature_says_where_it_stands_and_whose_it_is() {
        let (subject, step) = (
            Subject(B256::repeat_byte(7)),
            Step {
                of: EventId(B256::ZERO),
                number: 1,
                state: Bytes::from_static(b"state"),
                at: 5,
                signature: CompactSignature::default(),
            },
        );
        let changes: [fn(&mut Step); 4] = [
            |step| step.of = EventId(B256::repeat_byte(1)),
            |step| step.number += 1,
            |step| step.state = Bytes::new(),
            |step| step.at += 1,
        ];
        let elsewhere = ReportDomain {
            chain_id: 1,
            ..DOMAIN
        };
        let mut digests = BTreeSet::from([
            step.digest(&DOMAIN, subject),
            step.digest(&DOMAIN, Subject(B256::ZERO)),
            step.digest(&elsewhere, subject),
        ]);
        assert_eq!(digests.len(), 3);
        for change in changes {
            let mut changed = step.clone();
            change(&mut changed);
            assert!(digests.insert(changed.digest(&DOMAIN, subject)));
        }
    }

    #[test]
    fn what_is_larger_than_a_cryptlet_is_woken_with_is_refused() {
        let large = Bytes::from(vec![1; MAX_TRIGGER_BYTES + 1]);
        let full = LogEntry {
            topics: vec![B256::ZERO; 4],
            data: large.slice(1..),
            ..log()
        };
        assert_eq!(Trigger::Log(full.clone()).check(), Ok(()));
        let topics = vec![B256::ZERO; 5];
        assert!(Trigger::Log(LogEntry { topics, ..log() }).check().is_err());
        let more = LogEntry {
            data: large.clone(),
            ..full
        };
        assert!(Trigger::Log(more).check().is_err());
        let step = |number, state| {
            Trigger::Step(Step {
                of: EventId(B256::ZERO),
                number,
                state,
                at: 0,
                signature: CompactSignature::default(),
            })
        };
        assert!(step(1, large).check().is_err());
        assert!(step(0, Bytes::new()).check().is_err());
        assert_eq!(step(1, Bytes::new()).check(), Ok(()));
    }

    #[test]
    fn kinds_never_share_an_id() {
        let (of, at) = (EventId(B256::ZERO), 0);
        let signature = CompactSignature::default();
        let message = Message {
            application: "crm".into(),
            id: "1".into(),
            kind: String::new(),
            at,
            data: Bytes::new(),
        };
        let observation = Observation {
            feed: B256::ZERO,
            value: I256::ZERO,
            at,
            signature,
        };
        let step = Step {
            of,
            number: 1,
            state: Bytes::new(),
            at,
            signature,
        };
        let block = BlockEntry {
            chain_id: 0,
            number: 0,
            hash: B256::ZERO,
            at,
        };
        let triggers = [
            Trigger::Clock { due: 0 },
            Trigger::Threshold { observation },
            Trigger::Log(log()),
            Trigger::Block(block),
            Trigger::Application(message),
            Trigger::Request { at },
            Trigger::Step(step),
        ];
        let count = triggers.len();
        for trigger in &triggers {
            let json = serde_json::to_string(trigger).unwrap();
            assert_eq!(&serde_json::from_str::<Trigger>(&json).unwrap(), trigger);
            let bytes = crate::region::encode(trigger).unwrap();
            assert_eq!(&crate::region::decode::<Trigger>(&bytes).unwrap(), trigger);
        }
        assert_eq!(BTreeSet::from(triggers.map(id)).len(), count);
    }
}
