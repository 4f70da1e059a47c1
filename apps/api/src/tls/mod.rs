//! TLS of the server: the host's own certificate authority, or certificates from elsewhere, and whom among clients to
//! ask for a certificate.

mod authority;
mod config;

pub use authority::{Authority, AuthoritySigner, ClientCertificate};
pub use config::{ServerIdentity, server_config};

use crate::files::FileError;
use std::path::PathBuf;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate could not be made, or a name is none.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused a certificate or key.
    #[error("TLS: {0}")]
    Config(#[from] rustls::Error),
    /// The authority's key did not sign.
    #[error("the authority's key does not sign: {0}")]
    Signer(Box<dyn std::error::Error + Send + Sync>),
    /// The authority's certificate is for another key.
    #[error("the authority's certificate is not for the authority's key in the vault")]
    OtherKey,
    /// The authority may not certify a name.
    #[error("the authority does not certify {names}: {reason}")]
    NotPermitted {
        /// The names.
        names: String,
        /// What the check of the chain says.
        reason: rustls::Error,
    },
    /// A certificate of a client authority is not one.
    #[error("client authority {0} is not a certificate")]
    ClientAuthority(usize),
    /// Text or file does not hold what it should.
    #[error("{place} holds no {wanted} in PEM")]
    NotPem {
        /// Where it was looked for.
        place: String,
        /// What was looked for.
        wanted: &'static str,
    },
    /// The file of the private key cannot be used.
    #[error(transparent)]
    Key(#[from] FileError),
    /// The file of the certificate cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl TlsError {
    /// Whether trying again can help: only if the authority's key was away.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Signer(_) => true,
            Self::Key(error) => error.is_retryable(),
            _ => false,
        }
    }
}
