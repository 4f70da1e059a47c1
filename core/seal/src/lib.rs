//! Hashes, signatures, evidence and encryption of the fabric; no I/O.
//!
//! - [`sign`]: secp256k1 ECDSA as EVM chains check it, compact (EIP-2098) and low-s only
//! - [`exchange`]: secrets wrapped to a region's key by HPKE (RFC 9180)
//! - [`sealed`]: what a region leaves to its successor
//! - [`digest`]: SHA-256 and the measurement of a region
//! - [`package`]: a package's files and the digests that bind them
//! - [`approval`]: whether administrators approved a policy
//! - [`attester`]: who asks hardware to speak for a region
//! - [`certificate`]: certificates of attested TLS
//! - [`secret_code`]: code that regions alone can read, and who agreed to it
//! - [`evidence`]: vouching for a region and checking who vouched for what

pub mod approval;
pub mod attester;
pub mod certificate;
pub mod digest;
pub mod evidence;
pub mod exchange;
pub mod package;
pub mod sealed;
pub mod secret_code;
pub mod sign;

pub use approval::check_approvals;
pub use digest::{measure, measure_container, recorded_sources, sha256};
pub use exchange::{ExchangeKey, key_binding, wrap};
pub use secret_code::CodeKey;
pub use sign::{SigningKey, check, recover};

use alloy_primitives::Address;
use cryptlet_types::{Measurement, Provider, manifest::DocumentError};

/// Why something was not believed, or could not be made. None of it is helped by a retry with the same input.
/// No variant carries a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// A secret is not 32 bytes of a valid scalar.
    #[error("secret key is not a scalar of secp256k1")]
    InvalidSecret,
    /// A signature is malformed, has a high s, or recovers to nobody.
    #[error("signature is malformed")]
    MalformedSignature,
    /// A signature is somebody else's, or over something else.
    #[error("signature is by {found}, not by {expected}")]
    WrongSigner {
        /// Who should have signed.
        expected: Address,
        /// Who did, over these bytes.
        found: Address,
    },
    /// HPKE could not wrap or open.
    #[error("wrapped key cannot be opened by this region, or was altered")]
    Exchange,
    /// Secret code, or its key, is not what it should be.
    #[error("secret code: {0}")]
    SecretCode(&'static str),
    /// A counterparty has not agreed to secret code, or to other code.
    #[error("secret code: counterparty {0} has not agreed to this code of this package")]
    NotAgreed(Address),
    /// Bytes are not those that a digest names.
    #[error("{what}: digest does not match")]
    Digest {
        /// Which bytes.
        what: &'static str,
    },
    /// A document of a package was refused.
    #[error("package: {0}")]
    Document(#[from] DocumentError),
    /// An approval of a policy does not hold.
    #[error("approvals[{index}]: {administrator}: {reason}")]
    Approval {
        /// Its place in the document, from zero.
        index: usize,
        /// Whose it says it is.
        administrator: Address,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Too few administrators approved a policy, or the register has no board yet.
    #[error(
        "approvals: {count} count, the register asks for {threshold} (0: its board is not known)"
    )]
    TooFewApprovals {
        /// Approvals that count.
        count: u64,
        /// Approvals that it takes.
        threshold: u64,
    },
    /// A value could not be encoded for hashing.
    #[error("cannot be encoded: {0}")]
    Encode(#[from] cryptlet_types::region::FrameError),
    /// The evidence is of a provider that policy does not accept.
    #[error("evidence: provider {} is not accepted by policy", .0.as_str())]
    ProviderRefused(Provider),
    /// A part of the sandbox that policy demands is not in force.
    #[error("evidence: control {0} is demanded by policy and not in force in the region")]
    ControlMissing(String),
    /// Something else runs than what should.
    #[error("evidence: measurement {found}, expected {expected}")]
    WrongMeasurement {
        /// What should run.
        expected: Measurement,
        /// What says that it runs.
        found: Measurement,
    },
    /// The evidence answers another challenge.
    #[error("evidence: answers another challenge (replayed)")]
    WrongNonce,
    /// What hardware says is not believed, or missing.
    #[error("evidence: attestation: {0}")]
    Attestation(String),
    /// The evidence is too old, or from the future.
    #[error("evidence: made at {made_at}, accepted from {from} to {to}")]
    OutOfDate {
        /// When it was vouched for.
        made_at: u64,
        /// The earliest moment that is accepted.
        from: u64,
        /// The latest.
        to: u64,
    },
}

impl SealError {
    /// Whether trying again with the same input can help: never.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}
