//! Requests byte by byte, for what no client sends.

use super::TestHost;
use rustls::{ALL_VERSIONS, ClientConfig, RootCertStore, SupportedProtocolVersion, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use std::{collections::BTreeMap, io, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        Some(Self {
            status,
            headers,
            body: bytes[end + 4..].to_vec(),
        })
    }
}

/// A certificate and its key, PEM.
pub type Own<'a> = Option<(&'a str, &'a str)>;

/// Settings of a client that trusts the host, with versions of TLS that it speaks.
pub fn settings(
    host: &TestHost,
    own: Own<'_>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(host.authority.certificate().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match own {
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    })
}

/// A TLS connection to the host.
pub async fn connect(host: &TestHost, own: Own<'_>) -> io::Result<TlsStream<TcpStream>> {
    connect_with(host, settings(host, own, ALL_VERSIONS)).await
}

/// As [`connect`], with these settings, which may remember earlier connections.
pub async fn connect_with(
    host: &TestHost,
    settings: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(host.server.address()).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(settings).connect(name, stream).await
}

/// Sends the bytes and reads until the server closes.
pub async fn exchange(host: &TestHost, own: Own<'_>, request: &[u8]) -> io::Result<Answer> {
    let mut stream = connect(host, own).await?;
    stream.write_all(request).await?;
    read(&mut stream).await
}

/// Reads until the server closes.
pub async fn read(stream: &mut TlsStream<TcpStream>) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes).await;
    match (Answer::parse(&bytes), ended) {
        (Some(answer), _) => Ok(answer),
        (None, Err(error)) => Err(error),
        (None, Ok(_)) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// A request as it is sent most of the time.
pub struct Request<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub token: Option<&'a str>,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: Option<&'a str>,
}

impl<'a> Request<'a> {
    pub fn new(method: &'a str, target: &'a str) -> Self {
        Self {
            method,
            target,
            token: None,
            headers: &[],
            body: None,
        }
    }

    pub fn by(self, token: &'a str) -> Self {
        Self {
            token: Some(token),
            ..self
        }
    }

    pub fn with(self, headers: &'a [(&'a str, &'a str)]) -> Self {
        Self { headers, ..self }
    }

    pub fn body(self, body: &'a str) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut text = format!(
            "{} {} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n",
            self.method, self.target
        );
        if let Some(token) = self.token {
            text += &format!("authorization: Bearer {token}\r\n");
        }
        for (name, value) in self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = self.body {
            if !self.headers.iter().any(|(name, _)| *name == "content-type") {
                text += "content-type: application/json\r\n";
            }
            text += &format!("content-length: {}\r\n\r\n{body}", body.len());
        } else {
            text += "\r\n";
        }
        text.into_bytes()
    }

    pub async fn send(self, host: &TestHost) -> Answer {
        exchange(host, None, &self.bytes()).await.unwrap()
    }
}
