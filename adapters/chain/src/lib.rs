//! The chain as the fabric sees it: three traits, [`Chain`] (where a delegate is), [`RegisterChain`] (where a
//! register is, the same chain or another) and [`LogChain`] (any chain whose logs wake cryptlets), and the blockchains
//! behind them.
//!
//! A chain is read (heads, subscriptions, deliveries), asked (would this report be accepted?) and written to
//! (signed transactions). What a node says is checked where it can be: logs against the range that was asked
//! for, inclusion proofs against the header's own hash and roots. A node that lies is an error, never data.
//!
//! - [`chain`], [`register`], [`log_chain`]: the traits and the values that pass through them
//! - [`evm`]: Ethereum and its kin over JSON-RPC, by alloy
//! - [`error`]: what can go wrong, and whether a retry can help

pub mod chain;
pub mod error;
pub mod evm;
pub mod log_chain;
pub mod register;

pub use chain::{
    Chain, ChangeKind, DeliveredReport, Delivery, Fees, Head, Rejection, SubscriptionChange,
    TransactionOutcome, UndeliveredReport,
};
pub use error::{BroadcastError, ChainError};
pub use evm::{EvmChain, EvmConfig, EvmLogChain, EvmRegister, HeaderRule};
pub use log_chain::{LogChain, LogFilter, LogPayload, RawLog};
pub use register::RegisterChain;
