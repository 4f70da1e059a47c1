//! Connections: accepted up to a number, each with TLS, its peer's certificate, and limited patience.

use super::{Shared, dispatch, linger::Linger, origins::Origins, stall::Stall};
use crate::{auth::certificate_digest, types::Hex};
use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Request, Response, header::CONNECTION},
};
use futures::future::Either;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use std::{
    io,
    net::IpAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::Instant,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Most header fields and bytes of a head that hyper reads at all. A little above what the dispatcher lets through, so
/// that most of those who exceed it get a problem that says so.
const READ_HEADERS: usize = 128;
const READ_HEAD_BYTES: usize = 64 << 10;
/// Longest time after the last answer for the peer to end its side, too.
const LINGER: Duration = Duration::from_secs(2);
/// Pause after the system refused a connection, for example because there are no file descriptors left.
const AFTER_REFUSAL: Duration = Duration::from_millis(50);

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// SHA-256 of its certificate, which the handshake has checked.
    pub(crate) certificate: Option<Hex<32>>,
    /// Whether somebody has authenticated on this connection.
    known: Arc<AtomicBool>,
}

impl Peer {
    /// Notes that somebody has authenticated.
    pub(crate) fn is_known_now(&self) {
        self.known.store(true, Ordering::Relaxed);
    }

    /// Notes that somebody came with what does not count, or counts no more.
    pub(crate) fn is_a_stranger_now(&self) {
        self.known.store(false, Ordering::Relaxed);
    }

    fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }
}

pub(crate) async fn accept(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let router = dispatch::router(shared.clone());
    let places = Arc::new(Semaphore::new(shared.limits.connections));
    let origins = Origins::new(shared.limits.connections_per_origin);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            () = stop.cancelled() => break,
        };
        let (Ok(place), Ok((stream, peer))) = accepted else {
            tokio::time::sleep(AFTER_REFUSAL).await;
            continue;
        };
        let Some(of_origin) = origins.enter(peer.ip()) else {
            tracing::debug!(%peer, "api: too many connections of one origin");
            continue;
        };
        let (acceptor, router) = (acceptor.clone(), router.clone());
        let (shared, stop) = (shared.clone(), stop.clone());
        connections.spawn(async move {
            if let Err(error) = serve(stream, peer.ip(), acceptor, router, &shared, stop).await {
                tracing::debug!(%peer, %error, "api: connection ended");
            }
            drop((place, of_origin));
        });
    }
    shared.tasks.close();
    let rest = async {
        while connections.join_next().await.is_some() {}
        shared.tasks.wait().await;
    };
    let _ = tokio::time::timeout(shared.limits.request, rest).await;
}

async fn serve(
    stream: TcpStream,
    address: IpAddr,
    acceptor: TlsAcceptor,
    router: Router,
    shared: &Shared,
    stop: CancellationToken,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let limits = &shared.limits;
    let accepted = Instant::now();
    let handshake = acceptor.accept(Linger::new(Stall::new(stream, limits.stall), LINGER));
    let stream = tokio::time::timeout(limits.handshake, handshake).await??;
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(certificate_digest);
    let peer = Peer {
        address,
        certificate,
        known: Arc::default(),
    };
    let service = {
        let peer = peer.clone();
        service_fn(move |request| answer(router.clone(), peer.clone(), request))
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_headers(READ_HEADERS)
        .max_buf_size(READ_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let connection = async {
        let mut connection = pin!(connection);
        let stopped = pin!(stop.cancelled());
        match futures::future::select(connection.as_mut(), stopped).await {
            Either::Left((ended, _)) => ended,
            Either::Right(_) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
        .map_err(io::Error::other)
    };
    let patience = async {
        tokio::time::sleep_until(accepted + limits.stranger).await;
        if peer.is_known() {
            futures::future::pending::<()>().await;
        }
    };
    tokio::select! {
        ended = connection => ended,
        () = patience => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn answer(
    router: Router,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::convert::Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(peer.clone());
    let mut response = router.oneshot(request).await?;
    if !peer.is_known() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    Ok(response)
}
