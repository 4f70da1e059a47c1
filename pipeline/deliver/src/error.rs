//! Why a delivery could not be brought to an end.

use crate::PortError;
use cryptlet_chain::{BroadcastError, ChainError};

/// Why a delivery stopped without an outcome. The report is not lost: it and its transactions are in the journal.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// The chain could not be read.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A node does not take the transaction.
    #[error("broadcast: {0}")]
    Broadcast(#[from] BroadcastError),
    /// A node does not take the transaction for a reason of its own; another one is built in a moment.
    #[error("not taken by the node: {0}")]
    NotTaken(String),
    /// The nonce that a node named is used up by its own word: it is behind, or the account was used meanwhile.
    #[error("the node's count of the account's transactions was too low")]
    StaleNonce,
    /// The journal did not take the transaction, so it was not sent.
    #[error("outbox: {0}")]
    Outbox(#[source] PortError),
    /// The transmitter's key could not sign.
    #[error("transmitter: {0}")]
    Signer(#[source] PortError),
    /// What the transmitter signed does not recover to the transmitter.
    #[error("transmitter: signature of another key")]
    WrongSignature,
    /// The delegate has consumed the sequence number, but its log cannot be found.
    #[error(
        "sequence {sequence} is consumed, but no delivery of it is in the logs from block {from_block} on"
    )]
    DeliveryNotFound {
        /// The report's number.
        sequence: u64,
        /// Where the search began.
        from_block: u64,
    },
    /// The chain's time has not reached the report's `issuedAt`.
    #[error("the chain's time has not reached the report's")]
    NotYetValid,
    /// The delegate, as this node shows it, expects an earlier report: the node is behind.
    #[error("the node's delegate expects report {expected}, this is {given}: the node is behind")]
    Ahead {
        /// The number that it expects.
        expected: u64,
        /// The report's.
        given: u64,
    },
    /// The subscription is paused: the delegate takes no report of it for now.
    #[error("the subscription is paused")]
    Paused,
    /// So many transactions wait for a block already that another one would come too late.
    #[error("the chain is slow: {waiting} transactions wait already")]
    Crowded {
        /// How many wait.
        waiting: usize,
    },
    /// What the outbox has of the batch is no transaction that this version writes.
    #[error("the batch's transaction cannot be read")]
    Unreadable,
    /// Outbidding the waiting transaction would pay more than the configured cap.
    #[error("a replacement would cost more than the cap of {cap} wei a unit of gas")]
    FeeCap {
        /// Most that a unit of gas may cost.
        cap: u128,
    },
}

impl DeliverError {
    /// Whether the same step, tried again later, may end better.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Chain(error) => error.is_retryable(),
            Self::Broadcast(error) => error.is_retryable(),
            Self::Outbox(error) | Self::Signer(error) => error.is_retryable(),
            Self::DeliveryNotFound { .. }
            | Self::NotTaken(_)
            | Self::StaleNonce
            | Self::NotYetValid
            | Self::Ahead { .. }
            | Self::Paused
            | Self::Crowded { .. }
            | Self::FeeCap { .. } => true,
            Self::WrongSignature | Self::Unreadable => false,
        }
    }

    /// Whether whatever else this transmitter sends now would meet the same: it cannot be sent out of turn either.
    pub(crate) const fn is_everybodys(&self) -> bool {
        matches!(
            self,
            Self::Chain(_)
                | Self::Broadcast(BroadcastError::Chain(_) | BroadcastError::InsufficientFunds(_))
                | Self::Outbox(_)
                | Self::Signer(_)
                | Self::Crowded { .. }
                | Self::StaleNonce
        )
    }

    /// Whether it waits for others before it, which may be mined at any moment.
    pub(crate) const fn is_its_turns(&self) -> bool {
        matches!(self, Self::Ahead { .. } | Self::Crowded { .. })
    }
}
