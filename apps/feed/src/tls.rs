//! A root made for one run, and a certificate under it.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The name is not one, or the generator failed.
    #[error("feed certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused the key.
    #[error("feed TLS: {0}")]
    Config(#[from] rustls::Error),
}

impl TlsError {
    /// Whether trying again can help: never with the same name.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// A certificate, its key, and the root above it. The keys live in memory only.
pub struct Identity {
    root_pem: String,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("root_pem", &self.root_pem)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// A new root, and a certificate for `name` under it, both valid from 1999 to 2049, so that any day of
    /// the rates' file can be replayed.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn generate(name: &str) -> Result<Self, TlsError> {
        let root = CertifiedIssuer::self_signed(root_params(), KeyPair::generate()?)?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        (params.not_before, params.not_after) =
            (date_time_ymd(1999, 1, 1), date_time_ymd(2049, 12, 31));
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &root)?;
        Ok(Self {
            root_pem: root.pem(),
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        })
    }

    /// The root's certificate, PEM.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// A server's TLS settings with this certificate.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn server_config(&self) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let chain = vec![self.certificate.clone()];
        Ok(builder
            .with_no_client_auth()
            .with_single_cert(chain, self.key.clone_key())?)
    }
}

fn root_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
        .distinguished_name
        .push(DnType::CommonName, "Bletchley demo feed root");
    (params.not_before, params.not_after) =
        (date_time_ymd(1999, 1, 1), date_time_ymd(2049, 12, 31));
    params
}
