//! A TLS source on the loopback that answers well, badly, slowly or not at all.

use super::NAME;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

/// What a source does with a connection.
#[derive(Clone)]
pub enum Manner {
    /// Answers with these bytes and closes.
    Says(Vec<u8>),
    /// Answers with these bytes and breaks the connection without TLS's end.
    BreaksAfter(Vec<u8>),
    /// Answers with these bytes and then zeros, for ever.
    NeverStops(Vec<u8>),
    /// Takes the request and says nothing, keeping the connection.
    Silent,
    /// Sends these bytes instead of TLS.
    NoTls(Vec<u8>),
}

/// What the certificate looks like.
#[derive(Clone, Copy)]
pub enum Certificate {
    Good,
    OtherName,
    /// Ended before the job's time.
    Expired,
    /// Of another root than the one that the region is told to believe.
    OtherRoot,
}

pub struct Source {
    pub address: SocketAddr,
    /// The root to believe, PEM.
    pub root: String,
    /// Heads of the requests that arrived.
    pub requests: mpsc::UnboundedReceiver<String>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A response with a length.
pub fn page(body: &str) -> Manner {
    let length = body.len();
    Manner::Says(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes())
}

struct Authority {
    root: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap().pem();
    Authority {
        root,
        issuer: Issuer::new(params, key),
    }
}

impl Source {
    pub async fn start(manner: Manner) -> Self {
        Self::with(manner, Certificate::Good).await
    }

    pub async fn with(manner: Manner, certificate: Certificate) -> Self {
        let believed = authority();
        let other = authority();
        let signer = match certificate {
            Certificate::OtherRoot => &other,
            _ => &believed,
        };
        let name = match certificate {
            Certificate::OtherName => "other.example",
            _ => NAME,
        };
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = match certificate {
            Certificate::Expired => date_time_ymd(2026, 10, 15),
            _ => date_time_ymd(2026, 12, 31),
        };
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &signer.issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        Self::accept(manner, TlsAcceptor::from(Arc::new(config)), believed.root).await
    }

    async fn accept(manner: Manner, acceptor: TlsAcceptor, root: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, requests) = mpsc::unbounded_channel();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (manner, acceptor, heard) = (manner.clone(), acceptor.clone(), heard.clone());
                tokio::spawn(async move { serve(stream, manner, acceptor, heard).await });
            }
        });
        Self {
            address,
            root,
            requests,
            accepting,
        }
    }
}

/// Ends at the first error: the region has hung up.
async fn serve(
    mut stream: TcpStream,
    manner: Manner,
    acceptor: TlsAcceptor,
    heard: mpsc::UnboundedSender<String>,
) -> Option<()> {
    if let Manner::NoTls(bytes) = &manner {
        return stream.write_all(bytes).await.ok();
    }
    let mut stream = acceptor.accept(stream).await.ok()?;
    let mut request = vec![0; 4_096];
    let count = stream.read(&mut request).await.ok()?;
    heard
        .send(String::from_utf8_lossy(&request[..count]).into_owned())
        .ok()?;
    match manner {
        Manner::Says(bytes) => {
            stream.write_all(&bytes).await.ok()?;
            stream.shutdown().await.ok()
        }
        Manner::BreaksAfter(bytes) => {
            stream.write_all(&bytes).await.ok()?;
            stream.flush().await.ok()
        }
        Manner::NeverStops(bytes) => {
            stream.write_all(&bytes).await.ok()?;
            loop {
                stream.write_all(&[b'0'; 16_384]).await.ok()?;
            }
        }
        Manner::Silent => {
            while stream.read(&mut request).await.ok()? != 0 {}
            Some(())
        }
        Manner::NoTls(_) => None,
    }
}
