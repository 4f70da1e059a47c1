//! Who asks hardware to speak for a region: one small trait, which the container and its surroundings share.

use crate::SigningKey;
use alloy_primitives::{Address, B256, keccak256};
use cryptlet_types::{Attestation, Provider, attestation::MAX_ATTESTATION_BYTES};
use std::io;

/// What asks hardware, or whatever stands in its place, to say that it runs the region which made a statement.
pub trait Attester: Send + Sync {
    /// Whose attestations it gets.
    fn provider(&self) -> Provider;

    /// An attestation that binds `bound` (32 bytes, `EvidenceStatement::bound`). `nonce` is the challenge, for formats that
    /// have a field of their own for it; `bound` commits to it in any case.
    ///
    /// # Errors
    /// See [`AttesterError`].
    fn attest(&self, bound: B256, nonce: B256) -> Result<Attestation, AttesterError>;
}

/// Why there is no attestation.
#[derive(Debug, thiserror::Error)]
pub enum AttesterError {
    /// Somebody else uses the device, or its state changed under the question.
    #[error("{0} is busy")]
    Busy(&'static str),
    /// The operating system refused.
    #[error("{what}: {source}")]
    System {
        /// What was asked for.
        what: String,
        /// What it says.
        source: io::Error,
    },
    /// The device answered in another form than its documents say, or to another question.
    #[error("{field}: {reason}")]
    Malformed {
        /// Which part of the answer.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The device refused, in its own words.
    #[error("the device refuses: {0}")]
    Refused(String),
    /// Something that was to be given at construction is missing or does not fit.
    #[error("{0}")]
    Settings(String),
}

impl AttesterError {
    /// That `field` of an answer is not in the form that documents say.
    #[must_use]
    pub fn malformed(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Malformed {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// That the operating system refused `what`.
    pub fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::System { what, source }
    }

    /// Whether asking again can help, without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Busy(_) => true,
            Self::System { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::Interrupted
                    | io::ErrorKind::WouldBlock
                    | io::ErrorKind::ResourceBusy
                    | io::ErrorKind::TimedOut
            ),
            Self::Malformed { .. } | Self::Refused(_) | Self::Settings(_) => false,
        }
    }
}

/// Refuses what nobody would accept because of its size.
///
/// # Errors
/// [`AttesterError::Malformed`] beyond [`MAX_ATTESTATION_BYTES`].
pub fn bounded(attestation: Attestation) -> Result<Attestation, AttesterError> {
    match attestation.size() {
        0..=MAX_ATTESTATION_BYTES => Ok(attestation),
        size => Err(AttesterError::malformed(
            "attestation",
            format!("has {size} bytes, at most {MAX_ATTESTATION_BYTES} are accepted"),
        )),
    }
}

/// A key that signs in the place of hardware. It proves nothing, and only a policy that names its address accepts it.
#[derive(Debug)]
pub struct Simulator {
    root: SigningKey,
}

impl Simulator {
    /// A simulator with this root.
    #[must_use]
    pub fn new(root: SigningKey) -> Self {
        Self { root }
    }

    /// The simulator of a container that was told to simulate. Everybody knows its root.
    ///
    /// # Errors
    /// None in practice: the root is a key.
    pub fn everybodys() -> Result<Self, AttesterError> {
        let secret = keccak256("bletchley simulator: it proves nothing");
        let root = SigningKey::from_secret(&secret.0);
        let root = root.map_err(|error| AttesterError::Settings(error.to_string()))?;
        Ok(Self { root })
    }

    /// What a policy has to name as `evidence.simulator`.
    #[must_use]
    pub fn address(&self) -> Address {
        self.root.address()
    }
}

impl Attester for Simulator {
    fn provider(&self) -> Provider {
        Provider::Simulator
    }

    fn attest(&self, bound: B256, _: B256) -> Result<Attestation, AttesterError> {
        let signed = self.root.sign(bound);
        let signature = signed.map_err(|error| AttesterError::Refused(error.to_string()))?;
        Ok(Attestation::Simulator { signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    #[test]
    fn a_simulator_signs_what_it_is_asked_to_by_the_root_that_it_names() {
        let simulator = Simulator::everybodys().unwrap();
        let bound = B256::repeat_byte(1);
        let attestation = simulator.attest(bound, B256::ZERO).unwrap();
        let Attestation::Simulator { signature } = attestation else {
            panic!("of another provider")
        };
        assert_eq!(check(bound, &signature, simulator.address()), Ok(()));
    }

    #[test]
    fn only_what_passes_by_itself_is_worth_a_retry() {
        let system = |kind| AttesterError::system("x")(io::Error::from(kind));
        assert!(AttesterError::Busy("x").is_retryable());
        assert!(system(io::ErrorKind::ResourceBusy).is_retryable());
        assert!(system(io::ErrorKind::WouldBlock).is_retryable());
        assert!(!system(io::ErrorKind::NotFound).is_retryable());
        assert!(!system(io::ErrorKind::PermissionDenied).is_retryable());
        assert!(!AttesterError::malformed("x", "y").is_retryable());
        assert!(!AttesterError::Refused("x".into()).is_retryable());
        assert!(!AttesterError::Settings("x".into()).is_retryable());
    }

    #[test]
    fn an_attestation_that_nobody_would_accept_is_refused_where_it_was_made() {
        let of = |size| Attestation::Nitro {
            document: vec![0; size].into(),
        };
        assert!(bounded(of(MAX_ATTESTATION_BYTES)).is_ok());
        let error = bounded(of(MAX_ATTESTATION_BYTES + 1)).unwrap_err();
        assert!(error.to_string().contains("262145 bytes"), "{error}");
    }
}
