//! Attested TLS: who is at the other end is proven on every connection, by evidence that is bound to the key of the connection.
//!
//! TLS 1.3 (RFC 8446) and nothing older, both ends with a certificate, no resumption, no early data. A certificate says whose its
//! key is ([`cryptlet_seal::certificate`]); whether that is believed is asked anew each time, of what is in force then
//! ([`InForce`]): policy, register, clock. The stream below is anybody's: TCP, or whatever reads and writes.
//!
//! Evidence in a certificate says that the key is a region's. That it is fresh is for the region's own statement to say, which
//! answers a challenge and is bound to this connection by [`Channel::exporter`].

mod judge;
mod tls;
mod verifier;

pub use judge::{InForce, Peer, Wanted};
pub use tls::{Channel, HANDSHAKE_TIME, accept, connect};

use alloy_primitives::Address;
use cryptlet_seal::{SealError, certificate::CertificateError};

/// Why there is no channel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The other end's certificate is not in the form, not in time, or not bound to whom it names.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// More certificates than one: there are no authorities here.
    #[error("{0} certificates, exactly one is taken")]
    Certificates(usize),
    /// A host that the register does not know, or not any more.
    #[error("host {0} is not in the register (revoked, or never registered)")]
    UnknownHost(Address),
    /// Somebody of another kind than who was asked for.
    #[error("the other end is a {found}, not a {wanted}")]
    WrongParty {
        /// Who was asked for.
        wanted: &'static str,
        /// Who it is.
        found: &'static str,
    },
    /// The evidence is not believed under the policy in force.
    #[error(transparent)]
    Evidence(#[from] SealError),
    /// The other end does not believe us, or ended the handshake for a reason of its own.
    #[error("refused by the other end: {0}")]
    Refused(String),
    /// The other end does not speak TLS as it has to be spoken here.
    #[error("handshake: {0}")]
    Handshake(String),
    /// Our own certificate cannot be shown.
    #[error("own certificate: {0}")]
    Own(String),
    /// The connection broke.
    #[error("connection broke: {0}")]
    Broken(std::io::ErrorKind),
    /// The other end let us wait for too long.
    #[error("handshake took longer than {0} s")]
    Timeout(u64),
}

impl ChannelError {
    /// Whether a new connection may succeed without anybody changing policy, register or program: after a broken one, one that took
    /// too long, and after a certificate that was out of time, since the next one is new.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Broken(_) | Self::Timeout(_) => true,
            Self::Certificate(error) => error.is_retryable(),
            Self::Evidence(error) => error.is_retryable(),
            Self::Certificates(_)
            | Self::UnknownHost(_)
            | Self::WrongParty { .. }
            | Self::Refused(_)
            | Self::Handshake(_)
            | Self::Own(_) => false,
        }
    }
}
