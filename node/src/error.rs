//! Errors of starting and running a node.

use std::{io, net::SocketAddr};

use crate::journal::JournalError;

/// Why a node could not start or stop cleanly.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A field of the configuration has a value that the chain cannot work with.
    #[error("configuration field {field}: {reason}")]
    Config {
        /// The field of [`NodeConfig`](crate::NodeConfig).
        field: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// The address could not be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The state file could not be read or written, or does not belong to this configuration.
    #[error(transparent)]
    StateFile(#[from] JournalError),
    /// The node is inconsistent within itself; this is a defect.
    #[error("internal: {0}")]
    Internal(String),
}

impl NodeError {
    /// Whether the same start can succeed later without a change to the configuration.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Listen { .. } => true,
            Self::StateFile(error) => error.is_retryable(),
            Self::Config { .. } | Self::Internal(_) => false,
        }
    }
}
