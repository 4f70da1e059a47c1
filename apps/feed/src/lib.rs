//! A rate feed over HTTPS: what the demo's cryptlet asks for its figures.
//!
//! `GET /?date=YYYY-MM-DD` answers with CSV: the header line, and the row of that date if there is one. A
//! date without a row was a closed day. The certificate is issued by a root that is made at the start and
//! shown by [`Feed::root_pem`]: policy pins it, the cryptlet's region checks it.

mod rates;
mod tls;

pub use rates::{Rates, RatesError};
pub use tls::{Identity, TlsError};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, body::Bytes, body::Incoming, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// Connections served at the same time; more wait.
const CONNECTIONS: usize = 64;
/// Time for a handshake, and for a request's head.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a feed could not start.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The address is taken or not ours.
    #[error("feed cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// No certificate could be made.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl FeedError {
    /// Whether trying again can help: a taken address may become free.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Listen { .. })
    }
}

/// A running feed; it stops when dropped.
#[derive(Debug)]
pub struct Feed {
    address: SocketAddr,
    root_pem: String,
    task: JoinHandle<()>,
}

impl Feed {
    /// Serves `rates` at `address` (port 0: any free one) as `name`.
    ///
    /// # Errors
    /// See [`FeedError`].
    pub async fn start(rates: Rates, name: &str, address: SocketAddr) -> Result<Self, FeedError> {
        Self::start_as(rates, &Identity::generate(name)?, address).await
    }

    /// As [`Feed::start`], under an identity that was made before.
    ///
    /// # Errors
    /// See [`FeedError`].
    pub async fn start_as(
        rates: Rates,
        identity: &Identity,
        address: SocketAddr,
    ) -> Result<Self, FeedError> {
        let root_pem = identity.root_pem().to_owned();
        let acceptor = TlsAcceptor::from(Arc::new(identity.server_config()?));
        let listen = |source| FeedError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let task = tokio::spawn(accept(listener, acceptor, Arc::new(rates)));
        Ok(Self {
            address,
            root_pem,
            task,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate that its own certificate chains to, PEM.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, rates: Arc<Rates>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (acceptor, rates) = (acceptor.clone(), rates.clone());
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, acceptor, rates).await {
                        tracing::debug!(%peer, %error, "feed: connection ended");
                    }
                    drop(place);
                });
            }
            Err(error) => tracing::warn!(%error, "feed: cannot accept"),
        }
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, rates: Arc<Rates>) -> std::io::Result<()> {
    let stream = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await??;
    let service = service_fn(move |request| {
        let response = answer(&request, &rates);
        async move { Ok::<_, Infallible>(response) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(std::io::Error::other)
}

fn answer(request: &Request<Incoming>, rates: &Rates) -> Response<Full<Bytes>> {
    let date = request
        .uri()
        .query()
        .and_then(|query| query.strip_prefix("date="));
    let (status, body) = match (request.method(), request.uri().path(), date) {
        (&Method::GET, "/", Some(date)) => (StatusCode::OK, rates.of(date)),
        (&Method::GET, "/", None) => (
            StatusCode::BAD_REQUEST,
            "ask with ?date=YYYY-MM-DD\n".to_owned(),
        ),
        _ => (StatusCode::NOT_FOUND, "nothing here\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}
