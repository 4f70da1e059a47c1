//! The region's end of attested TLS (see `cryptlet_types::channel`): it shows what hardware says about it, and takes a host.
//!
//! A region cannot see the register: any host that holds the key which its certificate names is taken, and only a host. What a
//! region does for it is bound to that host's own challenge, policy and vault.

use alloy_primitives::{Address, B256};
use cryptlet_seal::certificate::{self, Identity};
use cryptlet_types::{
    UnixSeconds,
    channel::{EXPORTER_LABEL, GREETING, PROTOCOL, Proof},
};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ServerConfig, ServerConnection,
    SignatureScheme, StreamOwned,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, UnixTime},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::TLS13,
};
use std::{
    io::{self, Read, Write},
    sync::{Arc, Mutex, PoisonError},
};

/// Why there is no host. The region ends.
#[derive(Debug, thiserror::Error)]
pub enum AttestedError {
    /// The certificate cannot be shown, or the handshake failed.
    #[error("TLS: {0}")]
    Tls(#[from] Error),
    /// The connection broke.
    #[error("connection: {0}")]
    Broken(#[from] io::Error),
    /// Whoever connected is no host, or speaks something else.
    #[error("whoever connected {0}")]
    NoHost(&'static str),
}

impl AttestedError {
    /// Whether trying again can help: the host connects again, if it likes.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// A connection to a host.
pub struct Attested<S: Read + Write> {
    /// Bytes for and from there.
    pub stream: StreamOwned<ServerConnection, S>,
    /// The host.
    pub host: Address,
    /// What only the two ends of this connection can compute (RFC 9266).
    pub exporter: B256,
}

/// Shakes hands on `stream`, as of `now`.
///
/// # Errors
/// See [`AttestedError`].
pub fn accept<S: Read + Write>(
    mut stream: S,
    own: &Identity,
    now: UnixSeconds,
) -> Result<Attested<S>, AttestedError> {
    let provider = Arc::new(ring::default_provider());
    let hosts = Arc::new(Hosts {
        provider: provider.clone(),
        now,
        found: Mutex::new(None),
    });
    let mut connection = ServerConnection::new(Arc::new(config(provider, hosts.clone(), own)?))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    if connection.alpn_protocol() != Some(PROTOCOL) {
        return Err(AttestedError::NoHost("speaks another protocol"));
    }
    let exporter = connection.export_keying_material([0; 32], EXPORTER_LABEL, Some(&[]))?;
    let found = hosts
        .found
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let host = found.ok_or(AttestedError::NoHost("showed no certificate"))?;
    let mut stream = StreamOwned::new(connection, stream);
    stream.write_all(&[GREETING])?;
    stream.flush()?;
    Ok(Attested {
        stream,
        host,
        exporter: B256::from(exporter),
    })
}

fn config(
    provider: Arc<CryptoProvider>,
    hosts: Arc<Hosts>,
    own: &Identity,
) -> Result<ServerConfig, Error> {
    let key = PrivatePkcs8KeyDer::from(own.secret.to_vec());
    let certificate = CertificateDer::from(own.certificate.clone());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(hosts)
        .with_single_cert(vec![certificate], key.into())?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}

/// Takes hosts by their certificates.
#[derive(Debug)]
struct Hosts {
    provider: Arc<CryptoProvider>,
    now: UnixSeconds,
    found: Mutex<Option<Address>>,
}

impl ClientCertVerifier for Hosts {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if !intermediates.is_empty() {
            return Err(Error::General("more than one certificate".into()));
        }
        let shown = certificate::read(end_entity, self.now);
        match shown
            .map_err(|error| Error::General(error.to_string()))?
            .proof
        {
            Proof::Host(host) => {
                *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(host);
                Ok(ClientCertVerified::assertion())
            }
            Proof::Vouched(_) | Proof::Attested { .. } => {
                Err(Error::General("not a host's certificate".into()))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let shown = certificate::read(certificate, self.now);
        let shown = shown.map_err(|error| Error::General(error.to_string()))?;
        let key = SubjectPublicKeyInfoDer::from(shown.spki);
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
