//! The handshake, from either end.

use crate::{ChannelError, InForce, Peer, Wanted, verifier::Verifier};
use alloy_primitives::B256;
use cryptlet_seal::certificate::Identity;
use cryptlet_types::channel::{EXPORTER_LABEL, GREETING, PROTOCOL};
use rustls::{
    ClientConfig, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
    server::NoServerSessionStorage,
    version::TLS13,
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// Time for the whole handshake.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// A connection whose other end is known.
#[derive(Debug)]
pub struct Channel<S> {
    /// Who is there.
    pub peer: Peer,
    /// What only the two ends of this connection can compute (RFC 9266).
    pub exporter: B256,
    /// Bytes for and from there.
    pub stream: TlsStream<S>,
}

/// Opens a channel on `stream`, to whoever is `wanted`.
///
/// # Errors
/// See [`ChannelError`]; [`ChannelError::Refused`] if the other end does not believe `own`.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    own: &Identity,
    in_force: Arc<dyn InForce>,
    wanted: Wanted,
) -> Result<Channel<S>, ChannelError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(in_force, wanted, &provider);
    let config = client(provider, verifier.clone(), own).map_err(own_fault)?;
    let connector = TlsConnector::from(Arc::new(config));
    // Names say nothing here; rustls asks for one, and does not send it.
    let name = ServerName::try_from("attested.invalid").map_err(own_fault)?;
    in_time(async {
        let stream = connector.connect(name, stream).await;
        let stream = stream.map_err(|error| failure(&verifier, &error))?;
        let mut stream = TlsStream::from(stream);
        let greeting = stream.read_u8().await;
        if greeting.map_err(|error| failure(&verifier, &error))? != GREETING {
            return Err(ChannelError::Handshake("no greeting".into()));
        }
        open(stream, &verifier)
    })
    .await
}

/// Takes a channel on `stream`, which somebody has connected, from whoever is `wanted`.
///
/// # Errors
/// As [`connect`].
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    own: &Identity,
    in_force: Arc<dyn InForce>,
    wanted: Wanted,
) -> Result<Channel<S>, ChannelError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(in_force, wanted, &provider);
    let config = server(provider, verifier.clone(), own).map_err(own_fault)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    in_time(async {
        let stream = acceptor.accept(stream).await;
        let stream = stream.map_err(|error| failure(&verifier, &error))?;
        let mut channel = open(TlsStream::from(stream), &verifier)?;
        let greeted = channel.stream.write_u8(GREETING).await;
        greeted.map_err(|error| ChannelError::Broken(error.kind()))?;
        let flushed = channel.stream.flush().await;
        flushed.map_err(|error| ChannelError::Broken(error.kind()))?;
        Ok(channel)
    })
    .await
}

async fn in_time<T>(
    handshake: impl Future<Output = Result<T, ChannelError>>,
) -> Result<T, ChannelError> {
    let done = timeout(HANDSHAKE_TIME, handshake).await;
    done.unwrap_or(Err(ChannelError::Timeout(HANDSHAKE_TIME.as_secs())))
}

fn verifier(
    in_force: Arc<dyn InForce>,
    wanted: Wanted,
    provider: &CryptoProvider,
) -> Arc<Verifier> {
    let algorithms = provider.signature_verification_algorithms;
    Arc::new(Verifier::new(in_force, wanted, algorithms))
}

/// A configuration for one connection: there is nothing to resume, and no early data.
fn client(
    provider: Arc<CryptoProvider>,
    verifier: Arc<Verifier>,
    own: &Identity,
) -> Result<ClientConfig, rustls::Error> {
    let (certificate, key) = shown(own);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(certificate, key)?;
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}

fn server(
    provider: Arc<CryptoProvider>,
    verifier: Arc<Verifier>,
    own: &Identity,
) -> Result<ServerConfig, rustls::Error> {
    let (certificate, key) = shown(own);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificate, key)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}

fn shown(own: &Identity) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificate = CertificateDer::from(own.certificate.clone());
    let key = PrivatePkcs8KeyDer::from(own.secret.to_vec());
    (vec![certificate], key.into())
}

/// The handshake is over: who is there, and what binds to this connection.
fn open<S>(stream: TlsStream<S>, verifier: &Verifier) -> Result<Channel<S>, ChannelError> {
    let (_, connection) = stream.get_ref();
    if connection.alpn_protocol() != Some(PROTOCOL) {
        return Err(ChannelError::Handshake("another protocol".into()));
    }
    let exported = match &stream {
        TlsStream::Client(client) => {
            client
                .get_ref()
                .1
                .export_keying_material([0; 32], EXPORTER_LABEL, Some(&[]))
        }
        TlsStream::Server(server) => {
            server
                .get_ref()
                .1
                .export_keying_material([0; 32], EXPORTER_LABEL, Some(&[]))
        }
    };
    let exporter = exported.map_err(|error| ChannelError::Handshake(error.to_string()))?;
    let unknown = || ChannelError::Handshake("no certificate".into());
    Ok(Channel {
        peer: verifier.found().ok_or_else(unknown)??,
        exporter: B256::from(exporter),
        stream,
    })
}

/// Why a handshake failed: by our own judgement, if there is one against the other end.
fn failure(verifier: &Verifier, error: &io::Error) -> ChannelError {
    if let Some(Err(reason)) = verifier.found() {
        return reason;
    }
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::AlertReceived(alert)) => ChannelError::Refused(format!("{alert:?}")),
        Some(other) => ChannelError::Handshake(other.to_string()),
        None => ChannelError::Broken(error.kind()),
    }
}

fn own_fault(error: impl std::error::Error) -> ChannelError {
    ChannelError::Own(error.to_string())
}
