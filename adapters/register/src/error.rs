//! Why the register said no.

use cryptlet_seal::SealError;
use cryptlet_types::{Sha256Digest, manifest::DocumentError, register::PolicyRecord};
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
    /// No such package.
    #[error(
        "package {0} is not in the store: fetch it from the place that the register names, or publish it here"
    )]
    UnknownPackage(Sha256Digest),
    /// A package's files are not those that its digests name.
    #[error("package {digest}: {source}")]
    Package {
        /// The package.
        digest: Sha256Digest,
        /// What does not fit.
        source: SealError,
    },
    /// There is no room for a package.
    #[error(
        "no room for a package of {needed} bytes: {used} of {quota} bytes are used; raise packages.quotaBytes and start the host again"
    )]
    StoreFull {
        /// Bytes that it would take.
        needed: u64,
        /// Bytes that are used.
        used: u64,
        /// Bytes that may be used.
        quota: u64,
    },
    /// The store's list of packages is as long as it may be.
    #[error(
        "no room for another package: the store lists {packages}; give it another folder, and hand in what is still used"
    )]
    TooManyPackages {
        /// How many it lists.
        packages: usize,
    },
    /// A packed source was refused, or a folder cannot be packed.
    #[error("source: {entry:?}: {reason}")]
    Source {
        /// The entry, or empty for the archive as a whole. Without control characters.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A policy file is not a policy.
    #[error("policy: {0}")]
    PolicyDocument(#[from] DocumentError),
    /// A policy was not approved as the register's board demands.
    #[error("policy: {0}")]
    PolicyApprovals(SealError),
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
    /// The policy is not the one that the register's chain says is in force.
    #[error(
        "policy of epoch {epoch}, digest {digest}, is not the register's, which is {}: set it on the chain first, or \
        hand over the one that is set",
        told(.record)
    )]
    NotTheRegisters {
        /// Epoch of the document.
        epoch: u64,
        /// Digest of the document.
        digest: Sha256Digest,
        /// What the register says.
        record: Option<PolicyRecord>,
    },
    /// No policy was ever accepted here.
    #[error(
        "no policy was ever accepted here: hand one over that the register's administrators approved"
    )]
    NoPolicy,
    /// Another process, or another part of this one, has the index open.
    #[error("register index {0} is in use by another host; only one may write to it")]
    InUse(PathBuf),
    /// The file is not an index, or one that a later version of this program wrote.
    #[error(
        "{path} is not a register index of version {known}: move it away, the chain is then read anew"
    )]
    NotAnIndex {
        /// The file.
        path: PathBuf,
        /// The version that this program reads.
        known: i64,
    },
    /// There is no room for another write. What was acknowledged is safe.
    #[error("no room left for the register index: {0}")]
    Full(sqlx::Error),
    /// SQLite said no.
    #[error("register index: {0}")]
    Database(sqlx::Error),
    /// A row does not hold what it must. The file was altered or damaged.
    #[error(
        "register index is corrupt: {table}: {reason}; move it away, the chain is then read anew"
    )]
    Corrupt {
        /// The table.
        table: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The chain says what a register cannot say.
    #[error("the contract at this address is not our register: {0}")]
    Foreign(String),
    /// A block is not later than the last one that was applied.
    #[error("block {found} cannot follow block {last} in the index: rewind it first")]
    NotNext {
        /// The block that was to be applied.
        found: u64,
        /// The last one that was.
        last: u64,
    },
    /// The index cannot go back to a block where it never stood.
    #[error(
        "the index never stood at block {0}, or has forgotten: rewind it to one of its cursors, or to nothing"
    )]
    UnknownCursor(u64),
    /// Text is not a reference to an OCI registry.
    #[error("{text:?} is not oci://HOST[:PORT]/REPOSITORY[:TAG|@sha256:DIGEST]: {reason}")]
    Reference {
        /// The text, clipped.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A host that this host may not ask.
    #[error("registry {0} is not one of those that may be asked: allow it in the configuration")]
    HostRefused(String),
    /// An OCI registry did not do what it was asked.
    #[error("registry {host}: {reason}")]
    Registry {
        /// The registry.
        host: String,
        /// What went wrong. Holds no credentials.
        reason: String,
        /// Whether it may work later.
        passing: bool,
    },
    /// The host is shutting down.
    #[error("interrupted: the host is shutting down")]
    Interrupted,
}

fn told(record: &Option<PolicyRecord>) -> String {
    match record {
        Some(record) => format!("epoch {}, digest {}", record.epoch, record.digest),
        None => "not set".into(),
    }
}

impl RegisterError {
    /// Whether the same call, tried again, may succeed: once there is room again, the other writer is gone, or the
    /// registry answers.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::Interrupted
            ),
            Self::InUse(_) | Self::Full(_) => true,
            Self::Database(error) => {
                matches!(
                    extended_code(error).map(|code| code & 0xff),
                    Some(BUSY | LOCKED)
                )
            }
            Self::Registry { passing, .. } => *passing,
            _ => false,
        }
    }

    /// Whether a policy was refused for what it is, which whoever handed it in can mend; everything else is the host's.
    #[must_use]
    pub fn refuses_a_policy(&self) -> bool {
        matches!(
            self,
            Self::PolicyDocument(_)
                | Self::PolicyApprovals(_)
                | Self::OlderPolicy { .. }
                | Self::OtherPolicy { .. }
                | Self::NotTheRegisters { .. }
        )
    }
}

/// SQLite's primary result codes (<https://www.sqlite.org/rescode.html>).
const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const FULL: u32 = 13;
/// Extended code: a write failed, by a quota or a file size limit for example.
const IOERR_WRITE: u32 = 778;

fn extended_code(error: &sqlx::Error) -> Option<u32> {
    error.as_database_error()?.code()?.parse().ok()
}

impl From<sqlx::Error> for RegisterError {
    fn from(error: sqlx::Error) -> Self {
        match extended_code(&error) {
            Some(FULL | IOERR_WRITE) => Self::Full(error),
            _ => Self::Database(error),
        }
    }
}
