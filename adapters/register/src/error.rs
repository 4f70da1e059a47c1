//! Why the register said no.

use cryptlet_seal::SealError;
use cryptlet_types::{Sha256Digest, manifest::DocumentError};
use std::{io, path::PathBuf};

/// Result of a register operation.
pub type Result<T> = std::result::Result<T, RegisterError>;

/// Why the register said no.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// A file could not be read or written. After a failed write the old file is in place.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is larger than it may be.
    #[error("{path}: more than {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: usize,
    },
    /// A file does not hold what it must.
    #[error("{path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A document was refused.
    #[error("{path}: {source}")]
    Document {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// No such package.
    #[error("package {0} is not in the store")]
    UnknownPackage(Sha256Digest),
    /// A package's files are not those that its digests name.
    #[error("package {digest}: {source}")]
    Package {
        /// The package.
        digest: Sha256Digest,
        /// What does not fit.
        source: SealError,
    },
    /// The policy is older than one that was in force here.
    #[error("policy has epoch {found}, epoch {highest} was in force here: raise its epoch")]
    OlderPolicy {
        /// Epoch in the file.
        found: u64,
        /// Highest epoch seen.
        highest: u64,
    },
    /// Another policy with the same epoch was in force.
    #[error("policy of epoch {epoch} is {found}, but {known} was in force here: raise its epoch")]
    OtherPolicy {
        /// The epoch of both.
        epoch: u64,
        /// Digest of the file.
        found: Sha256Digest,
        /// Digest of the one that was in force.
        known: Sha256Digest,
    },
    /// The host is shutting down.
    #[error("interrupted: the host is shutting down")]
    Interrupted,
}

impl RegisterError {
    /// Whether the same call, tried again, may succeed without anybody changing anything: when the disk was full.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::Interrupted
            ),
            _ => false,
        }
    }
}
