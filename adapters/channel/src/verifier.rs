//! What rustls asks about the other end's certificate.
//!
//! One verifier is for one connection, and keeps what it found: rustls passes on only that it was refused.

use crate::{ChannelError, InForce, Peer, Wanted, judge::judge};
use cryptlet_seal::certificate;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Judges the one certificate of one connection.
pub(crate) struct Verifier {
    in_force: Arc<dyn InForce>,
    wanted: Wanted,
    algorithms: WebPkiSupportedAlgorithms,
    found: Mutex<Option<Result<Peer, ChannelError>>>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("wanted", &self.wanted)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    pub(crate) fn new(
        in_force: Arc<dyn InForce>,
        wanted: Wanted,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self {
            in_force,
            wanted,
            algorithms,
            found: Mutex::new(None),
        }
    }

    /// What was found out about the other end; none if it showed no certificate.
    pub(crate) fn found(&self) -> Option<Result<Peer, ChannelError>> {
        self.found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn look(&self, first: &[u8], others: usize) -> Result<(), Error> {
        let judged = match others {
            0 => judge(first, self.in_force.as_ref(), &self.wanted),
            more => Err(ChannelError::Certificates(more.saturating_add(1))),
        };
        let told = judged.as_ref().map(|_| ()).map_err(refusal);
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(judged);
        told
    }

    /// The handshake is signed by the key of the certificate, in the bytes that evidence binds.
    fn signed(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let shown = certificate::read(certificate, self.in_force.now());
        let shown = shown.map_err(|error| refusal(&error.into()))?;
        let key = SubjectPublicKeyInfoDer::from(shown.spki);
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }
}

fn refusal(error: &ChannelError) -> Error {
    let reason = OtherError(Arc::new(error.clone()));
    Error::InvalidCertificate(CertificateError::Other(reason))
}

/// TLS 1.2 is not spoken.
fn too_old() -> Error {
    Error::General("TLS 1.2".into())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.look(end_entity, intermediates.len())?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.look(end_entity, intermediates.len())?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
