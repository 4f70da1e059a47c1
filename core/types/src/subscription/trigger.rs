//! When a subscription is due: the delegate's `trigger` and `condition`, read strictly.
//!
//! A condition is the ABI encoding of its kind's fields, `abi.encode(…)`. The subject commits to its very bytes, so that only the
//! one encoding of a condition can be served.

use super::{Subscription, SubscriptionError};
use crate::{
    CryptletId, Trigger, UnixSeconds,
    bounded::MAX_SUBSCRIPTION_BYTES,
    event::{LogEntry, Message},
};
use alloy_primitives::{Address, B256, Bytes, I256, U256, keccak256};
use alloy_sol_types::{SolType, SolValue, sol_data};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most instants of one subscription.
pub const MAX_INSTANTS: usize = 64;
/// Most topics of a log (EVM).
pub const MAX_TOPICS: usize = 4;
/// Longest name of an application or of a kind of message, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// When a subscription is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", deny_unknown_fields)]
pub enum TriggerSpec {
    /// By the clock; what was missed is caught up.
    Clock(ClockSpec),
    /// At given moments.
    Instants(InstantsSpec),
    /// By the clock and a market's calendar.
    Schedule(ScheduleSpec),
    /// Every so many seconds.
    Interval(IntervalSpec),
    /// When a value of a cryptlet's feed crosses a bound.
    Threshold(ThresholdSpec),
    /// When a contract of a chain logs an event.
    Log(LogSpec),
    /// Every so many blocks of a chain.
    Blocks(BlocksSpec),
    /// When a registered application says so.
    Application(ApplicationSpec),
    /// Once, as soon as it is made: a request, whose answer may take long.
    Request,
}

/// A schedule on a zone's wall clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClockSpec {
    /// Five-field cron expression on the zone's wall clock.
    pub cron: String,
    /// IANA time zone name, for example `Europe/Berlin`.
    pub time_zone: String,
}

/// What becomes of moments that nobody watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Missed {
    /// They are made up for, one by one (0).
    CatchUp,
    /// They are left out (1).
    Skip,
}

/// Moments, each once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstantsSpec {
    /// 1 to [`MAX_INSTANTS`] moments, strictly ascending.
    pub instants: Vec<UnixSeconds>,
    /// What becomes of missed ones.
    pub missed: Missed,
}

/// A schedule that a market's calendar restricts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleSpec {
    /// Five-field cron expression, or `open`, `close`, `open+MINUTES`, `close-MINUTES`.
    pub cron: String,
    /// IANA time zone name; empty: the calendar's.
    pub time_zone: String,
    /// Name of the calendar on whose open days it is due; empty: every day.
    pub calendar: String,
    /// What becomes of missed moments.
    pub missed: Missed,
}

/// Every so many seconds, while a market is open if a calendar is named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IntervalSpec {
    /// Seconds between two moments, at least 1; counted from the subscription's block, or from the session's opening.
    pub seconds: u64,
    /// Name of the calendar in whose sessions it is due; empty: always.
    pub calendar: String,
    /// What becomes of missed moments.
    pub missed: Missed,
}

/// Which way a value crosses a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// It rises to the bound or above (1).
    Rising,
    /// It falls to the bound or below (2).
    Falling,
    /// Either (3).
    Either,
}

/// A bound of a cryptlet's feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ThresholdSpec {
    /// Parameters with which the cryptlet is asked for the feed's value.
    pub feed_params: Bytes,
    /// Seconds between two observations, at least 1.
    pub every: u32,
    /// The bound.
    #[serde(with = "crate::decimal")]
    pub bound: I256,
    /// Which way it is to be crossed.
    pub direction: Direction,
    /// How far the value must have gone back beyond the bound before the next crossing counts.
    #[serde(with = "crate::decimal")]
    pub hysteresis: U256,
    /// Whether every crossing counts, or the first alone.
    pub repeat: bool,
}

/// How sure a block has to be before it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Finality {
    /// The newest block; a reorganisation may take it back (0).
    Latest,
    /// One that the chain's protocol calls safe (1).
    Safe,
    /// One that cannot be taken back (2).
    Finalized,
}

/// Logs of a contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogSpec {
    /// EIP-155 id of the chain.
    pub chain_id: u64,
    /// The contract that logs.
    pub emitter: Address,
    /// Topics by place, at most [`MAX_TOPICS`]; zero: any.
    pub topics: Vec<B256>,
    /// How sure the log's block has to be.
    pub finality: Finality,
}

/// Blocks whose number can be divided by `every`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BlocksSpec {
    /// EIP-155 id of the chain.
    pub chain_id: u64,
    /// Blocks between two moments, at least 1.
    pub every: u64,
    /// How sure the block has to be.
    pub finality: Finality,
}

/// Messages of a registered application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplicationSpec {
    /// The name under which the application is registered.
    pub application: String,
    /// The kind of message (the `type` of CloudEvents); empty: any.
    #[serde(rename = "messageKind")]
    pub kind: String,
}

/// What the delegate's numbers of triggers mean.
impl TriggerSpec {
    /// [`TriggerSpec::Clock`].
    pub const CLOCK: u8 = 1;
    /// [`TriggerSpec::Instants`].
    pub const INSTANTS: u8 = 2;
    /// [`TriggerSpec::Schedule`].
    pub const SCHEDULE: u8 = 3;
    /// [`TriggerSpec::Interval`].
    pub const INTERVAL: u8 = 4;
    /// [`TriggerSpec::Threshold`].
    pub const THRESHOLD: u8 = 5;
    /// [`TriggerSpec::Log`].
    pub const LOG: u8 = 6;
    /// [`TriggerSpec::Blocks`].
    pub const BLOCKS: u8 = 7;
    /// [`TriggerSpec::Application`].
    pub const APPLICATION: u8 = 8;
    /// [`TriggerSpec::Request`].
    pub const REQUEST: u8 = 9;
}

impl TriggerSpec {
    /// Reads the delegate's `trigger` and `condition`.
    ///
    /// # Errors
    /// Names the field that is unknown, too large or malformed.
    pub fn decode(trigger: u8, condition: &[u8]) -> Result<Self, SubscriptionError> {
        let size = condition.len();
        if size > MAX_SUBSCRIPTION_BYTES {
            let field = "condition";
            return Err(SubscriptionError::TooLarge { field, size });
        }
        let spec = match trigger {
            Self::CLOCK => Self::clock(condition)?,
            Self::INSTANTS => Self::instants(condition)?,
            Self::SCHEDULE => Self::schedule(condition)?,
            Self::INTERVAL => Self::interval(condition)?,
            Self::THRESHOLD => Self::threshold(condition)?,
            Self::LOG => Self::log(condition)?,
            Self::BLOCKS => Self::blocks(condition)?,
            Self::APPLICATION => Self::application(condition)?,
            Self::REQUEST => Self::Request,
            other => return Err(SubscriptionError::UnknownTrigger(other)),
        };
        if spec.encode_condition().as_ref() == condition {
            Ok(spec)
        } else {
            Err(SubscriptionError::MalformedCondition(spec.form()))
        }
    }

    /// Number of this trigger in `Subscription.trigger` of the delegate.
    #[must_use]
    pub fn number(&self) -> u8 {
        match self {
            Self::Clock(_) => Self::CLOCK,
            Self::Instants(_) => Self::INSTANTS,
            Self::Schedule(_) => Self::SCHEDULE,
            Self::Interval(_) => Self::INTERVAL,
            Self::Threshold(_) => Self::THRESHOLD,
            Self::Log(_) => Self::LOG,
            Self::Blocks(_) => Self::BLOCKS,
            Self::Application(_) => Self::APPLICATION,
            Self::Request => Self::REQUEST,
        }
    }

    /// The word for it on a screen.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Clock(_) => "clock",
            Self::Instants(_) => "instants",
            Self::Schedule(_) => "schedule",
            Self::Interval(_) => "interval",
            Self::Threshold(_) => "threshold",
            Self::Log(_) => "log",
            Self::Blocks(_) => "blocks",
            Self::Application(_) => "application",
            Self::Request => "request",
        }
    }

    /// The `condition` bytes of the delegate for this trigger.
    #[must_use]
    pub fn encode_condition(&self) -> Bytes {
        match self {
            Self::Clock(spec) => write::<ClockForm>((spec.cron.clone(), spec.time_zone.clone())),
            Self::Instants(spec) => {
                write::<InstantsForm>((spec.instants.clone(), spec.missed.number()))
            }
            Self::Schedule(spec) => {
                let (cron, zone) = (spec.cron.clone(), spec.time_zone.clone());
                write::<ScheduleForm>((cron, zone, spec.calendar.clone(), spec.missed.number()))
            }
            Self::Interval(spec) => {
                write::<IntervalForm>((spec.seconds, spec.calendar.clone(), spec.missed.number()))
            }
            Self::Threshold(spec) => write::<ThresholdForm>((
                spec.feed_params.clone(),
                spec.every,
                spec.bound,
                spec.direction.number(),
                spec.hysteresis,
                u8::from(spec.repeat),
            )),
            Self::Log(spec) => {
                let finality = spec.finality.number();
                write::<LogForm>((spec.chain_id, spec.emitter, spec.topics.clone(), finality))
            }
            Self::Blocks(spec) => {
                write::<BlocksForm>((spec.chain_id, spec.every, spec.finality.number()))
            }
            Self::Application(spec) => {
                write::<ApplicationForm>((spec.application.clone(), spec.kind.clone()))
            }
            Self::Request => Bytes::new(),
        }
    }

    fn form(&self) -> &'static str {
        match self {
            Self::Clock(_) => CLOCK_FORM,
            Self::Instants(_) => INSTANTS_FORM,
            Self::Schedule(_) => SCHEDULE_FORM,
            Self::Interval(_) => INTERVAL_FORM,
            Self::Threshold(_) => THRESHOLD_FORM,
            Self::Log(_) => LOG_FORM,
            Self::Blocks(_) => BLOCKS_FORM,
            Self::Application(_) => APPLICATION_FORM,
            Self::Request => "empty",
        }
    }

    fn clock(condition: &[u8]) -> Result<Self, SubscriptionError> {
        let (cron, time_zone) = read::<ClockForm>(condition, CLOCK_FORM)?;
        Ok(Self::Clock(ClockSpec { cron, time_zone }))
    }

    fn instants(condition: &[u8]) -> Result<Self, SubscriptionError> {
        let (instants, missed) = read::<InstantsForm>(condition, INSTANTS_FORM)?;
        if instants.is_empty() || instants.len() > MAX_INSTANTS {
            return Err(value("instants", "1 to 64 of them"));
        }
        if !instants.is_sorted_by(|one, next| one < next) {
            return Err(value("instants", "strictly ascending"));
        }
        let missed = Missed::of(missed)?;
        Ok(Self::Instants(InstantsSpec { instants, missed }))
    }

    fn schedule(condition: &[u8]) -> Result<Self, SubscriptionError> {
        let (cron, time_zone, calendar, missed) = read::<ScheduleForm>(condition, SCHEDULE_FORM)?;
        if time_zone.is_empty() && calendar.is_empty() {
            return Err(value("timeZone", "needed where no calendar is named"));
        }
        Ok(Self::Schedule(ScheduleSpec {
            cron,
            time_zone,
            calendar,
            missed: Missed::of(missed)?,
        }))
    }

    fn interval(condition: &[u8]) -> Result<Self, SubscriptionError> {
        let (seconds, calendar, missed) = read::<IntervalForm>(condition, INTERVAL_FORM)?;
        if seconds == 0 {
            return Err(value("seconds", "at least 1"));
        }
        Ok(Self::Interval(IntervalSpec {
            seconds,
            calendar,
            missed: Missed::of(missed)?,
        }))
    }

    fn threshold(condition: &[u8]) -> Result<Self, SubscriptionError> {
        let read = read::<ThresholdForm>(condition, THRESHOLD_FORM)?;
        let (feed_params, every, bound, direction, hysteresis, repeat) = read;
        if every == 0 {
            return Err(value("every", "at least 1"));
        }
        Ok(Self::Threshold(ThresholdSpec {
            feed_params,
            every,
            bound,
            direction: Direction::of(direction)?,
            hysteresis,
            repeat: match repeat {
                0 => false,
                1 => true,
                _ => return Err(value("repeat", "0 or 1")),
            },
        }))
    }

    fn log(condition: &[u8]) -> Result<Self, SubscriptionError> {
        let (chain_id, emitter, topics, finality) = read::<LogForm>(condition, LOG_FORM)?;
        if emitter == Address::ZERO {
            return Err(value("emitter", "not the zero address"));
        }
        if topics.len() > MAX_TOPICS {
            return Err(value("topics", "at most 4"));
        }
        Ok(Self::Log(LogSpec {
            chain_id,
            emitter,
            topics,
            finality: Finality::of(finality)?,
        }))
    }

    fn blocks(condition: &[u8]) -> Result<Self, SubscriptionError> {
        let (chain_id, every, finality) = read::<BlocksForm>(condition, BLOCKS_FORM)?;
        if every == 0 {
            return Err(value("every", "at least 1"));
        }
        Ok(Self::Blocks(BlocksSpec {
            chain_id,
            every,
            finality: Finality::of(finality)?,
        }))
    }

    fn application(condition: &[u8]) -> Result<Self, SubscriptionError> {
        let (application, kind) = read::<ApplicationForm>(condition, APPLICATION_FORM)?;
        if application.is_empty() || application.len() > MAX_NAME_BYTES {
            return Err(value("application", "1 to 128 bytes"));
        }
        if kind.len() > MAX_NAME_BYTES {
            return Err(value("kind", "at most 128 bytes"));
        }
        Ok(Self::Application(ApplicationSpec { application, kind }))
    }
}

/// What people read in a listing, on one line.
impl fmt::Display for TriggerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clock(spec) => write!(f, "{} {}", spec.cron, spec.time_zone),
            Self::Instants(spec) => write!(f, "at {} instants", spec.instants.len()),
            Self::Schedule(spec) => {
                let words = [&spec.cron, &spec.time_zone, &spec.calendar];
                let words = words.into_iter().filter(|word| !word.is_empty());
                f.write_str(&words.map(String::as_str).collect::<Vec<_>>().join(" "))
            }
            Self::Interval(spec) if spec.calendar.is_empty() => {
                write!(f, "every {} s", spec.seconds)
            }
            Self::Interval(spec) => write!(f, "every {} s {}", spec.seconds, spec.calendar),
            Self::Threshold(spec) => {
                let sign = match spec.direction {
                    Direction::Rising => ">=",
                    Direction::Falling => "<=",
                    Direction::Either => "across",
                };
                write!(f, "value {sign} {}, every {} s", spec.bound, spec.every)
            }
            Self::Log(spec) => write!(f, "log of {} on chain {}", spec.emitter, spec.chain_id),
            Self::Blocks(spec) => {
                write!(f, "every {} blocks of chain {}", spec.every, spec.chain_id)
            }
            Self::Application(spec) if spec.kind.is_empty() => {
                write!(f, "application {}", spec.application)
            }
            Self::Application(spec) => write!(f, "application {} {}", spec.application, spec.kind),
            Self::Request => f.write_str("request"),
        }
    }
}

impl ThresholdSpec {
    /// The feed that is observed: equal for all subscriptions that can share one observation.
    #[must_use]
    pub fn feed(&self, cryptlet: CryptletId) -> B256 {
        feed(cryptlet, &self.feed_params, self.every)
    }

    /// Whether a crossing can have been to this value.
    fn is_crossed_to(&self, value: I256) -> bool {
        match self.direction {
            Direction::Rising => value >= self.bound,
            Direction::Falling => value <= self.bound,
            Direction::Either => true,
        }
    }
}

/// The feed of a cryptlet that is asked with `params` every `every` seconds.
#[must_use]
pub fn feed(cryptlet: CryptletId, params: &Bytes, every: u32) -> B256 {
    let feed = ("bletchley feed v1", cryptlet.0, params.clone(), every);
    keccak256(feed.abi_encode_params())
}

impl LogSpec {
    fn is_met_by(&self, log: &LogEntry) -> bool {
        let met = |(place, wanted): (usize, &B256)| {
            wanted.is_zero() || log.topics.get(place) == Some(wanted)
        };
        log.chain_id == self.chain_id
            && log.emitter == self.emitter
            && self.topics.iter().enumerate().all(met)
    }
}

impl ApplicationSpec {
    fn is_met_by(&self, message: &Message) -> bool {
        message.application == self.application
            && (self.kind.is_empty() || message.kind == self.kind)
    }
}

impl Subscription {
    /// Whether `trigger` can be one of this subscription, as far as that follows from the two alone: not whether a schedule
    /// has such a moment, nor whether a chain has such a log. Every kind may take further steps.
    #[must_use]
    pub fn may_be_woken_by(&self, trigger: &Trigger) -> bool {
        match (&self.trigger, trigger) {
            (_, Trigger::Step(_)) => true,
            (TriggerSpec::Instants(spec), Trigger::Clock { due }) => spec.instants.contains(due),
            (
                TriggerSpec::Clock(_) | TriggerSpec::Schedule(_) | TriggerSpec::Interval(_),
                Trigger::Clock { .. },
            ) => true,
            (TriggerSpec::Threshold(spec), Trigger::Threshold { observation }) => {
                observation.feed == spec.feed(self.cryptlet)
                    && spec.is_crossed_to(observation.value)
            }
            (TriggerSpec::Log(spec), Trigger::Log(log)) => spec.is_met_by(log),
            (TriggerSpec::Blocks(spec), Trigger::Block(block)) => {
                block.chain_id == spec.chain_id && block.number.checked_rem(spec.every) == Some(0)
            }
            (TriggerSpec::Application(spec), Trigger::Application(said)) => spec.is_met_by(said),
            (TriggerSpec::Request, Trigger::Request { at }) => *at == self.since,
            _ => false,
        }
    }
}

impl Missed {
    fn number(self) -> u8 {
        match self {
            Self::CatchUp => 0,
            Self::Skip => 1,
        }
    }

    fn of(number: u8) -> Result<Self, SubscriptionError> {
        match number {
            0 => Ok(Self::CatchUp),
            1 => Ok(Self::Skip),
            _ => Err(value("missed", "0 (catch up) or 1 (skip)")),
        }
    }
}

impl Direction {
    fn number(self) -> u8 {
        match self {
            Self::Rising => 1,
            Self::Falling => 2,
            Self::Either => 3,
        }
    }

    fn of(number: u8) -> Result<Self, SubscriptionError> {
        match number {
            1 => Ok(Self::Rising),
            2 => Ok(Self::Falling),
            3 => Ok(Self::Either),
            _ => Err(value("direction", "1 (rising), 2 (falling) or 3 (either)")),
        }
    }
}

impl Finality {
    fn number(self) -> u8 {
        match self {
            Self::Latest => 0,
            Self::Safe => 1,
            Self::Finalized => 2,
        }
    }

    fn of(number: u8) -> Result<Self, SubscriptionError> {
        match number {
            0 => Ok(Self::Latest),
            1 => Ok(Self::Safe),
            2 => Ok(Self::Finalized),
            _ => Err(value("finality", "0 (latest), 1 (safe) or 2 (finalized)")),
        }
    }
}

type Text = sol_data::String;
type Byte = sol_data::Uint<8>;
type Long = sol_data::Uint<64>;
type ClockForm = (Text, Text);
type InstantsForm = (sol_data::Array<Long>, Byte);
type ScheduleForm = (Text, Text, Text, Byte);
type IntervalForm = (Long, Text, Byte);
type ThresholdForm = (
    sol_data::Bytes,
    sol_data::Uint<32>,
    sol_data::Int<256>,
    Byte,
    sol_data::Uint<256>,
    Byte,
);
type LogForm = (
    Long,
    sol_data::Address,
    sol_data::Array<sol_data::FixedBytes<32>>,
    Byte,
);
type BlocksForm = (Long, Long, Byte);
type ApplicationForm = (Text, Text);

const CLOCK_FORM: &str = "abi.encode(string cron, string timeZone)";
const INSTANTS_FORM: &str = "abi.encode(uint64[] instants, uint8 missed)";
const SCHEDULE_FORM: &str =
    "abi.encode(string cron, string timeZone, string calendar, uint8 missed)";
const INTERVAL_FORM: &str = "abi.encode(uint64 seconds, string calendar, uint8 missed)";
const THRESHOLD_FORM: &str = "abi.encode(bytes feedParams, uint32 every, int256 bound, uint8 direction, uint256 hysteresis, uint8 repeat)";
const LOG_FORM: &str =
    "abi.encode(uint64 chainId, address emitter, bytes32[] topics, uint8 finality)";
const BLOCKS_FORM: &str = "abi.encode(uint64 chainId, uint64 every, uint8 finality)";
const APPLICATION_FORM: &str = "abi.encode(string application, string kind)";

fn value(field: &'static str, reason: &'static str) -> SubscriptionError {
    SubscriptionError::Condition { field, reason }
}

fn read<T>(condition: &[u8], form: &'static str) -> Result<T::RustType, SubscriptionError>
where
    T: SolType,
    for<'a> T::Token<'a>: alloy_sol_types::abi::TokenSeq<'a>,
{
    T::abi_decode_params_validate(condition)
        .map_err(|_| SubscriptionError::MalformedCondition(form))
}

fn write<T>(fields: T::RustType) -> Bytes
where
    T: SolType,
    for<'a> T::Token<'a>: alloy_sol_types::abi::TokenSeq<'a>,
{
    T::abi_encode_params(&fields).into()
}

#[cfg(test)]
mod tests;
