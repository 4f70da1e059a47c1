//! What can go wrong between this host and a node.

use alloy_primitives::{Address, B256};
use std::time::Duration;

/// Why a chain could not be read or asked.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The URL is not one that this crate speaks (http, https, ws, wss).
    #[error("url: {0}")]
    Url(String),
    /// The node did not answer in time.
    #[error("{method}: no answer within {after:?}")]
    Timeout {
        /// The JSON-RPC method.
        method: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// The node could not be reached.
    #[error("{method}: {message}")]
    Transport {
        /// The JSON-RPC method.
        method: &'static str,
        /// What the transport says.
        message: String,
    },
    /// The node answered with an error of its own.
    #[error("{method}: node refused with code {code}: {message}")]
    Refused {
        /// The JSON-RPC method.
        method: &'static str,
        /// JSON-RPC error code.
        code: i64,
        /// The node's words, clipped.
        message: String,
    },
    /// The answer is not what the method promises.
    #[error("{method}: malformed answer: {message}")]
    Malformed {
        /// The JSON-RPC method.
        method: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The node's answers contradict one another or their own hashes: it is broken or it lies.
    #[error("node contradicts itself: {0}")]
    Inconsistent(String),
    /// The node now serves another chain than the one that was connected to.
    #[error("node serves chain {found}, expected {expected}")]
    ChainChanged {
        /// EIP-155 id read at the start.
        expected: u64,
        /// EIP-155 id read now.
        found: u64,
    },
    /// The node is behind what was seen of the chain before, and nothing explains it.
    #[error("node is at block {found}, and block {seen} was seen before")]
    Behind {
        /// The newest block that was seen.
        seen: u64,
        /// What the node has.
        found: u64,
    },
    /// There is no contract where one should be.
    #[error("no contract at {address}, where the {what} should be")]
    NoContract {
        /// What should be there.
        what: &'static str,
        /// Its address.
        address: Address,
    },
    /// The block was replaced between two questions about it.
    #[error("block {number} was replaced while it was read")]
    Reorged {
        /// Its number.
        number: u64,
    },
    /// The node knows no such transaction in any block.
    #[error("transaction {0} is in no block")]
    NotIncluded(B256),
    /// A compiled contract of this project cannot be read.
    #[error("contract artifact: {0}")]
    Artifact(String),
}

impl ChainError {
    /// JSON-RPC code of "limit exceeded" (EIP-1474).
    pub(crate) const LIMIT_EXCEEDED: i64 = -32005;
    /// JSON-RPC code of "internal error".
    pub(crate) const INTERNAL: i64 = -32603;

    /// Whether the same question, asked again later, may be answered.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Timeout { .. }
            | Self::Transport { .. }
            | Self::Reorged { .. }
            | Self::Behind { .. }
            | Self::NotIncluded(_) => true,
            Self::Refused { code, .. } => matches!(*code, Self::LIMIT_EXCEEDED | Self::INTERNAL),
            Self::Url(_)
            | Self::Malformed { .. }
            | Self::Inconsistent(_)
            | Self::ChainChanged { .. }
            | Self::NoContract { .. }
            | Self::Artifact(_) => false,
        }
    }

    /// Whether another endpoint of the chain may do better.
    pub(crate) fn is_the_endpoints(&self) -> bool {
        matches!(
            self,
            Self::Timeout { .. }
                | Self::Transport { .. }
                | Self::Malformed { .. }
                | Self::Inconsistent(_)
                | Self::ChainChanged { .. }
                | Self::Behind { .. }
        )
    }

    /// Whether waiting is pointless: this is not the chain, or not the contract, that was to be followed.
    #[must_use]
    pub fn is_misconfigured(&self) -> bool {
        matches!(
            self,
            Self::Url(_) | Self::NoContract { .. } | Self::ChainChanged { .. }
        )
    }
}

/// Why a node did not take a transaction into its pool.
#[derive(Debug, thiserror::Error)]
pub enum BroadcastError {
    /// It has this very transaction already: as good as accepted.
    #[error("already known")]
    AlreadyKnown,
    /// Another transaction of the sender has used the nonce.
    #[error("nonce too low")]
    NonceTooLow,
    /// Another transaction with the nonce waits in the pool, and this one does not pay enough more; or it pays
    /// less than the node or the next block takes.
    #[error("underpriced: {0}")]
    Underpriced(String),
    /// The sender cannot pay for it.
    #[error("insufficient funds: {0}")]
    InsufficientFunds(String),
    /// The node refuses it for another reason of its own.
    #[error("refused: {0}")]
    Refused(String),
    /// The node could not be asked.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

impl BroadcastError {
    /// Whether the same bytes, sent again later, may be accepted.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::InsufficientFunds(_) => true,
            Self::Chain(error) => error.is_retryable(),
            Self::AlreadyKnown | Self::NonceTooLow | Self::Underpriced(_) | Self::Refused(_) => {
                false
            }
        }
    }

    /// Reads the words that geth, and after it every other client, uses.
    pub(crate) fn from_message(message: &str) -> Self {
        let words = message.to_ascii_lowercase();
        let says = |needle: &str| words.contains(needle);
        let text = cryptlet_types::bounded::clip(message);
        if says("already known") || says("already imported") || says("known transaction") {
            Self::AlreadyKnown
        } else if says("nonce too low") || says("nonce is too low") {
            Self::NonceTooLow
        } else if says("underpriced")
            || says("less than block base fee")
            || says("fee too low")
            || says("less than the block's base fee")
        {
            Self::Underpriced(text)
        } else if says("insufficient funds") {
            Self::InsufficientFunds(text)
        } else {
            Self::Refused(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_geth_and_anvil_are_understood() {
        type Kind = fn(&BroadcastError) -> bool;
        let cases: [(&str, Kind); 7] = [
            ("already known", |e| {
                matches!(e, BroadcastError::AlreadyKnown)
            }),
            ("transaction already imported", |e| {
                matches!(e, BroadcastError::AlreadyKnown)
            }),
            ("nonce too low: next nonce 5, tx nonce 3", |e| {
                matches!(e, BroadcastError::NonceTooLow)
            }),
            ("replacement transaction underpriced", |e| {
                matches!(e, BroadcastError::Underpriced(_))
            }),
            ("max fee per gas less than block base fee", |e| {
                matches!(e, BroadcastError::Underpriced(_))
            }),
            ("Insufficient funds for gas * price + value", |e| {
                matches!(e, BroadcastError::InsufficientFunds(_))
            }),
            ("invalid sender", |e| {
                matches!(e, BroadcastError::Refused(_))
            }),
        ];
        for (message, expected) in cases {
            let error = BroadcastError::from_message(message);
            assert!(expected(&error), "{message}: {error:?}");
        }
    }
}
