//! What wakes a cryptlet.

use crate::bindings::{self, bletchley::cryptlet::types as wire};
use alloy_primitives::{Address, B256, Bytes, I256, U256};

/// What occurred. Numbers of seconds are Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A moment of the schedule has come: the scheduled moment.
    Clock(u64),
    /// The value of a feed crossed the subscription's bound.
    Threshold(Observation),
    /// A contract logged an event.
    Log(LogEntry),
    /// A chain has a block of a number that the subscription asked for.
    Block(BlockEntry),
    /// An application said so.
    Application(Message),
    /// The subscription is itself the request: the timestamp of its block.
    Request(u64),
    /// A computation goes on that an earlier run began: see [`Answer::Proceed`](crate::Answer::Proceed).
    Step(Step),
}

/// A value of a feed, as [`Cryptlet::observe`](crate::Cryptlet::observe) gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Which feed.
    pub feed: B256,
    /// The value.
    pub value: I256,
    /// When it was observed.
    pub at: u64,
}

/// A log of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// EIP-155 id of the chain.
    pub chain_id: u64,
    /// Number of the block.
    pub block: u64,
    /// Hash of the block.
    pub block_hash: B256,
    /// Hash of the transaction.
    pub transaction: B256,
    /// Place of the log within the block.
    pub index: u64,
    /// The contract that logged.
    pub emitter: Address,
    /// Topics, at most four.
    pub topics: Vec<B256>,
    /// Data, at most 16 KiB.
    pub data: Bytes,
    /// Timestamp of the block.
    pub timestamp: u64,
}

/// A block of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// EIP-155 id of the chain.
    pub chain_id: u64,
    /// Number of the block.
    pub number: u64,
    /// Hash of the block.
    pub hash: B256,
    /// Timestamp of the block.
    pub timestamp: u64,
}

/// What a registered application said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The application's name.
    pub application: String,
    /// The application's id of the message.
    pub id: String,
    /// What kind of message it is.
    pub kind: String,
    /// When it was received.
    pub at: u64,
    /// What it says, at most 16 KiB.
    pub data: Bytes,
}

/// Where a computation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// 1 for the first run after the one that began it.
    pub number: u32,
    /// What the run before kept.
    pub state: Vec<u8>,
}

/// What a run is for.
pub(crate) enum Ask {
    Answer(Trigger),
    Observe,
    Call,
}

impl Ask {
    /// The error says which part is malformed; a container hands over none such.
    pub(crate) fn read(trigger: bindings::Trigger) -> Result<Self, &'static str> {
        use bindings::Trigger as Wire;
        Ok(Self::Answer(match trigger {
            Wire::Clock(due) => Trigger::Clock(due),
            Wire::Threshold(seen) => Trigger::Threshold(Observation {
                feed: word(&seen.feed)?,
                value: I256::from_raw(U256::from_be_bytes(word(&seen.value)?.0)),
                at: seen.at,
            }),
            Wire::Log(log) => Trigger::Log(LogEntry::read(log)?),
            Wire::Block(block) => Trigger::Block(BlockEntry {
                chain_id: block.chain_id,
                number: block.number,
                hash: word(&block.hash)?,
                timestamp: block.timestamp,
            }),
            Wire::Application(said) => Trigger::Application(Message {
                application: said.application,
                id: said.id,
                kind: said.kind,
                at: said.at,
                data: said.data.into(),
            }),
            Wire::Request(at) => Trigger::Request(at),
            Wire::Step(step) => Trigger::Step(Step {
                number: step.number,
                state: step.state,
            }),
            Wire::Observe => return Ok(Self::Observe),
            Wire::Call => return Ok(Self::Call),
        }))
    }
}

impl LogEntry {
    fn read(log: wire::LogEntry) -> Result<Self, &'static str> {
        let topics: Result<_, _> = log.topics.iter().map(|topic| word(topic)).collect();
        Ok(Self {
            chain_id: log.chain_id,
            block: log.block,
            block_hash: word(&log.block_hash)?,
            transaction: word(&log.transaction)?,
            index: log.index,
            emitter: Address::try_from(log.emitter.as_slice())
                .map_err(|_| "emitter: not 20 bytes")?,
            topics: topics?,
            data: log.data.into(),
            timestamp: log.timestamp,
        })
    }
}

fn word(bytes: &[u8]) -> Result<B256, &'static str> {
    B256::try_from(bytes).map_err(|_| "a word: not 32 bytes")
}
