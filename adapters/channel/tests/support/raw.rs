//! Ends that speak TLS by other rules: certificates of their own making, older versions, resumption.

use cryptlet_seal::certificate::Identity;
use cryptlet_types::channel::PROTOCOL;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, HandshakeKind, ServerConfig, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::ring::{default_provider, sign::any_supported_type},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use std::{io, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use x509_cert::{
    Certificate, TbsCertificate,
    der::{Decode, Encode, asn1::BitString},
};

/// A genuine certificate that was changed and signed itself anew, with its own key or with another.
pub fn forge(
    genuine: &Identity,
    own_key: bool,
    change: impl FnOnce(&mut TbsCertificate),
) -> Identity {
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let secret = match own_key {
        true => genuine.secret.to_vec(),
        false => EcdsaKeyPair::generate_pkcs8(algorithm, &random)
            .unwrap()
            .as_ref()
            .to_vec(),
    };
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, &secret, &random).unwrap();
    let mut certificate = Certificate::from_der(&genuine.certificate).unwrap();
    let tbs = &mut certificate.tbs_certificate;
    let point = BitString::from_bytes(pair.public_key().as_ref()).unwrap();
    tbs.subject_public_key_info.subject_public_key = point;
    change(tbs);
    let signature = pair.sign(&random, &tbs.to_der().unwrap()).unwrap();
    certificate.signature = BitString::from_bytes(signature.as_ref()).unwrap();
    Identity {
        certificate: certificate.to_der().unwrap(),
        secret: secret.into(),
        not_after: genuine.not_after,
    }
}

/// Shows whatever it is given, with whatever key.
#[derive(Debug)]
pub struct Shows(pub Arc<CertifiedKey>);

impl Shows {
    pub fn new(chain: &[&Identity], key: &Identity) -> Self {
        let chain = chain
            .iter()
            .map(|each| CertificateDer::from(each.certificate.clone()));
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.secret.to_vec()));
        let key = any_supported_type(&key).unwrap();
        Self(Arc::new(CertifiedKey::new(chain.collect(), key)))
    }
}

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
    fn has_certs(&self) -> bool {
        true
    }
}

/// Believes everybody.
#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// A server that asks nobody who he is; with tickets, and early data, for whoever comes again.
pub fn server(shows: Shows, old: bool) -> Arc<ServerConfig> {
    let versions = if old { &[&TLS12] } else { &[&TLS13] };
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shows));
    config.session_storage = rustls::server::ServerSessionMemoryCache::new(16);
    config.send_tls13_tickets = 2;
    config.max_early_data_size = 1_024;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Arc::new(config)
}

/// Serves one connection: greets, and says how the handshake went.
pub async fn serve(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<HandshakeKind> {
    let mut stream = TlsAcceptor::from(config).accept(stream).await?;
    stream.write_u8(1).await?;
    stream.flush().await?;
    let kind = stream.get_ref().1.handshake_kind().unwrap();
    let _ = stream.read_u8().await;
    Ok(kind)
}

/// A client that believes everybody and resumes where it can.
pub fn client(shows: Option<Shows>, old: bool) -> ClientConfig {
    let versions = if old { &[&TLS12] } else { &[&TLS13] };
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible));
    let mut config = match shows {
        Some(shows) => builder.with_client_cert_resolver(Arc::new(shows)),
        None => builder.with_no_client_auth(),
    };
    config.enable_early_data = true;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config
}

/// Connects, waits for the greeting, and says how the handshake went.
pub async fn call(stream: TcpStream, config: Arc<ClientConfig>) -> io::Result<HandshakeKind> {
    let name = ServerName::try_from("attested.invalid").unwrap();
    let mut stream = TlsConnector::from(config).connect(name, stream).await?;
    stream.read_u8().await?;
    Ok(stream.get_ref().1.handshake_kind().unwrap())
}
