//! A source that answers from recordings, over TLS, with a certificate of a CA that is made for one case.

use crate::{AuthorError, case};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, body::Bytes, body::Incoming, header::HOST, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{
    convert::Infallible,
    error::Error,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;
use url::Url;

/// Time for a handshake, and for a request's head.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest request that is read, in bytes: more than a region sends.
const MAX_REQUEST_BYTES: usize = 2 << 20;
/// Requests without a recording that are remembered.
const MAX_UNRECORDED: usize = 16;

/// A running server; it stops when dropped.
pub(crate) struct Server {
    address: SocketAddr,
    root_pem: String,
    unrecorded: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Answers for `hosts` with `responses`.
    pub(crate) async fn start(
        hosts: Vec<String>,
        responses: Vec<case::Response>,
    ) -> Result<Self, AuthorError> {
        let (config, root_pem) = identity(hosts).map_err(failed)?;
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let unrecorded = Arc::default();
        let recordings = Arc::new(Recordings {
            responses,
            unrecorded: Arc::clone(&unrecorded),
        });
        let task = tokio::spawn(accept(
            listener,
            TlsAcceptor::from(Arc::new(config)),
            recordings,
        ));
        Ok(Self {
            address,
            root_pem,
            unrecorded,
            task,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The CA's certificate, PEM.
    pub(crate) fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Requests that no recording answers: method and URL.
    pub(crate) fn unrecorded(&self) -> Vec<String> {
        self.unrecorded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn failed(error: impl ToString) -> AuthorError {
    AuthorError::Server(error.to_string())
}

/// A server's TLS settings with a certificate for `hosts`, and the CA above it. Both are valid at every moment that a case
/// may name; the keys live in memory only.
fn identity(hosts: Vec<String>) -> Result<(ServerConfig, String), Box<dyn Error>> {
    let validity = (date_time_ymd(1999, 1, 1), date_time_ymd(2049, 12, 31));
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (root.not_before, root.not_after) = validity;
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate()?)?;
    let mut params = CertificateParams::new(hosts)?;
    (params.not_before, params.not_after) = validity;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &root)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )?;
    Ok((config, root.pem()))
}

struct Recordings {
    responses: Vec<case::Response>,
    unrecorded: Arc<Mutex<Vec<String>>>,
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, recordings: Arc<Recordings>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, recordings) = (acceptor.clone(), Arc::clone(&recordings));
        // A connection that ends badly shows in the case: the cryptlet got no answer.
        tokio::spawn(async move { serve(stream, acceptor, recordings).await.ok() });
    }
}

async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    recordings: Arc<Recordings>,
) -> std::io::Result<()> {
    let stream = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await??;
    let service = service_fn(move |request| {
        let recordings = Arc::clone(&recordings);
        async move { Ok::<_, Infallible>(recordings.answer(request).await) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(std::io::Error::other)
}

impl Recordings {
    async fn answer(&self, request: Request<Incoming>) -> hyper::Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        // Read to its end, so that the connection can carry the answer.
        let _ = Limited::new(body, MAX_REQUEST_BYTES).collect().await;
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
        let asked = format!("https://{}{}", host.unwrap_or_default(), head.uri);
        let found = Url::parse(&asked).ok().and_then(|url| {
            let fits = |response: &&case::Response| {
                response.url == url && fits(response.method, &head.method)
            };
            self.responses.iter().find(fits)
        });
        match found.map(recorded) {
            Some(Ok(response)) => response,
            Some(Err(_)) | None => {
                self.remember(format!("{} {asked}", head.method));
                let mut response = hyper::Response::new(Full::default());
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            }
        }
    }

    fn remember(&self, request: String) {
        let mut unrecorded = self
            .unrecorded
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if unrecorded.len() < MAX_UNRECORDED && !unrecorded.contains(&request) {
            unrecorded.push(request);
        }
    }
}

fn fits(recorded: case::Method, asked: &hyper::Method) -> bool {
    match recorded {
        case::Method::Get => asked == hyper::Method::GET,
        case::Method::Post => asked == hyper::Method::POST,
    }
}

fn recorded(response: &case::Response) -> Result<hyper::Response<Full<Bytes>>, hyper::http::Error> {
    let mut builder = hyper::Response::builder().status(response.status);
    for (name, value) in &response.headers {
        builder = builder.header(name, value);
    }
    builder.body(Full::new(response.body.0.clone()))
}
