//! The header of a cryptlet: what a contract developer imports to be woken by it.
//!
//! An author writes one Solidity interface (`interface.sol`), which says what the cryptlet calls and which events,
//! errors and types belong to it. [`Header::build`] makes a document of it that holds the interface, its ABI and a
//! whole Solidity file: the interface, the cryptlet's id and public key as constants, and an abstract contract to
//! inherit. Everything in the document follows from interface, name, label, key and id, and a reader makes it again
//! and compares ([`Header::from_json`]): a header has no place in which to hide code.
//!
//! What this crate generates for a document's version never changes, since headers are recorded by their digest.
//! Goldens: `vectors/header`.

mod abi;
mod header;
mod interface;
mod names;
mod render;
mod text;

pub use header::{HEADER_VERSION, Header, HeaderSource, MAX_HEADER_BYTES};
pub use interface::Interface;
pub use names::{contract_name, interface_name};

/// Largest interface of an author, in bytes: 64 KiB.
pub const MAX_INTERFACE_BYTES: usize = 64 << 10;

/// Why an interface or a header was refused. The document has to change: no retry helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The interface is too large to be read at all.
    #[error("interface of {0} bytes, at most {MAX_INTERFACE_BYTES}")]
    InterfaceTooLarge(usize),
    /// The header is too large to be read at all.
    #[error("header of {0} bytes, at most {MAX_HEADER_BYTES}")]
    HeaderTooLarge(usize),
    /// A line of the interface is not what it may be.
    #[error("interface, line {line}: {reason}")]
    Line {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A value that the header is made of is not allowed.
    #[error("{field}: {reason}")]
    Field {
        /// The value's name in the header.
        field: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// Not the JSON that a header is.
    #[error("header: {0}")]
    Malformed(String),
    /// A part of the header is not what its interface, name, label, key and id give.
    #[error(
        "header: {0} does not follow from interface, name, label, public key and id: refuse this header"
    )]
    Forged(&'static str),
}

impl HeaderError {
    /// Whether trying again can help: never.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }

    pub(crate) fn line(line: usize, reason: impl Into<String>) -> Self {
        Self::Line {
            line,
            reason: reason.into(),
        }
    }
}
