//! A root of the feed's own, and a certificate under it: made for one run, or kept in a file.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The name is not one, or the generator failed.
    #[error("feed certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused the key.
    #[error("feed TLS: {0}")]
    Config(#[from] rustls::Error),
    /// The identity cannot be kept, or what was kept is not one.
    #[error("feed identity {path}: {reason}")]
    Kept {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl TlsError {
    /// Whether trying again can help: never with the same name.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// A certificate, its key, and the root above it. The root's key is forgotten as soon as it has signed.
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

    /// The identity in the file at `path`, or a new one that is kept there for its owner alone: whoever pins its root can go
    /// on doing so after a restart. For a feed that proves nothing to anybody but its own machine.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn kept(name: &str, path: &Path) -> Result<Self, TlsError> {
        let kept = |reason: String| TlsError::Kept {
            path: path.to_owned(),
            reason,
        };
        if !path.exists() {
            let made = Self::generate(name)?;
            made.keep(path).map_err(|error| kept(error.to_string()))?;
            return Ok(made);
        }
        let text = fs::read_to_string(path).map_err(|error| kept(error.to_string()))?;
        let (root, leaf) = text
            .split_once(BOUNDARY)
            .ok_or_else(|| kept("it holds no root and no certificate".to_owned()))?;
        let certificate = CertificateDer::from_pem_slice(leaf.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(leaf.as_bytes());
        Ok(Self {
            root_pem: root.to_owned(),
            certificate: certificate.map_err(|error| kept(error.to_string()))?,
            key: key.map_err(|error| kept(error.to_string()))?,
        })
    }

    fn keep(&self, path: &Path) -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(path)?;
        let leaf = pem("CERTIFICATE", &self.certificate);
        let key = pem("PRIVATE KEY", self.key.secret_der());
        write!(file, "{}{BOUNDARY}{leaf}{key}", self.root_pem)?;
        file.sync_all()
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

/// Between the root and what it signed.
const BOUNDARY: &str = "# the feed's own\n";

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut lines = format!("-----BEGIN {label}-----\n");
    for (place, letter) in text.chars().enumerate() {
        if place > 0 && place % 64 == 0 {
            lines.push('\n');
        }
        lines.push(letter);
    }
    lines.push_str(&format!("\n-----END {label}-----\n"));
    lines
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_kept_identity_is_the_same_the_next_time_and_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("feed.pem");
        let first = Identity::kept("feed.example", &path).unwrap();
        let again = Identity::kept("feed.example", &path).unwrap();
        assert_eq!(first.root_pem, again.root_pem);
        assert_eq!(first.certificate, again.certificate);
        assert_eq!(first.key.secret_der(), again.key.secret_der());
        again.server_config().unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&path, "nothing").unwrap();
        let refused = Identity::kept("feed.example", &path).unwrap_err();
        assert!(refused.to_string().contains("feed.pem"), "{refused}");
    }
}
