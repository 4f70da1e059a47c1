//! The server: HTTP/1.1 over TLS, and what a request has to pass before it reaches the host.
//!
//! In this order: sizes of path and header fields (414, 431); the operation, found in the table of operations; the
//! caller (401, 429), and only then whether there is such a path and method (404, 405), so that a stranger learns
//! nothing; the role (403); room for one more request (503); the query (400); the body's type, size, time and form
//! (415, 413, 408, 400); then the host, with what is left of the request's time (503).
//!
//! What is open to anybody gets its place only once its body is there, and, for a message, once its signature holds: a
//! stranger who sends slowly holds a connection, and no place of those who are known.
//!
//! A connection has a limited time for its handshake, for each request's head and for each stalled write, so that
//! slow peers do not hold places for long. Strangers hold them for less: an origin has a part of the places only, an
//! answer to somebody unknown ends the connection, and until somebody is known it has a limited time in all.

mod call;
mod connection;
pub(crate) mod content;
mod dispatch;
pub(crate) mod handlers;
mod linger;
mod open;
mod origins;
mod stall;

use crate::{
    auth::{
        Authenticator, CertificateRoles, TokenStore,
        throttle::{Throttle, origin},
    },
    clock::Clock,
    host_api::HostApi,
    openapi::openapi_json,
    types::{ApplicationName, Problem},
    webhook::VerifyingKey,
};
use alloy_primitives::Bytes;
use connection::Peer;
use cryptlet_types::UnixSeconds;
use rustls::ServerConfig;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The listener has no address.
    #[error("the listener has no address: {0}")]
    Listener(#[from] std::io::Error),
    /// The OpenAPI document could not be made.
    #[error("the OpenAPI document cannot be made: {0}")]
    Document(#[from] serde_json::Error),
}

impl ServerError {
    /// Whether trying again can help: with a listener that works.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Listener(_))
    }
}

/// How much a server lets in at the same time, and how long it waits.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Connections; more wait to be accepted.
    pub connections: usize,
    /// Connections from one origin, an IPv4 address or a /64 network of IPv6; more are closed.
    pub connections_per_origin: usize,
    /// Requests that are worked on; more get 503.
    pub requests: usize,
    /// Packages that are received; more get 503.
    pub uploads: usize,
    /// Time for a handshake.
    pub handshake: Duration,
    /// Time for a request's head, idle time between requests included.
    pub head: Duration,
    /// Time for a connection on which nobody has authenticated yet, from its acceptance.
    pub stranger: Duration,
    /// Time for a request, from its head to the host's answer.
    pub request: Duration,
    /// Time in which a write has to make progress.
    pub stall: Duration,
    /// Failed attempts to authenticate from one origin in a minute; for more it gets 429 instead of 401.
    pub failures: u32,
    /// Messages of applications that are being written down; more get 429.
    pub messages: usize,
    /// Messages of one application in a minute; more get 429.
    pub messages_per_minute: u32,
    /// Reads over the gateway that are worked on; more get 503, so that their callers try the next gateway.
    pub calls: usize,
    /// Reads over the gateway from one origin in a minute; more get 429.
    pub calls_per_minute: u32,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_per_origin: 64,
            requests: 128,
            uploads: 4,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            stranger: Duration::from_secs(30),
            request: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            failures: 20,
            messages: 64,
            messages_per_minute: 30_000,
            calls: 16,
            calls_per_minute: 120,
        }
    }
}

/// What a server needs.
#[derive(Clone)]
pub struct ServerParts {
    /// The host.
    pub api: Arc<dyn HostApi>,
    /// Who may come in with which token.
    pub tokens: Arc<TokenStore>,
    /// Who may come in with which client certificate.
    pub certificates: CertificateRoles,
    /// Time.
    pub clock: Clock,
    /// Limits.
    pub limits: ServerLimits,
}

impl std::fmt::Debug for ServerParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerParts")
            .field("tokens", &self.tokens)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) api: Arc<dyn HostApi>,
    authenticator: Authenticator,
    throttle: Throttle<IpAddr>,
    /// Messages, by application.
    pub(crate) said: Throttle<ApplicationName>,
    /// Reads over the gateway, by origin.
    pub(crate) asked: Throttle<IpAddr>,
    /// What signatures of applications that are not there are checked with.
    pub(crate) nobodys_key: [VerifyingKey; 1],
    clock: Clock,
    limits: ServerLimits,
    requests: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    pub(crate) messages: Arc<Semaphore>,
    pub(crate) calls: Arc<Semaphore>,
    /// What is done to its end, whoever waits for it.
    tasks: TaskTracker,
    openapi: Bytes,
}

impl Shared {
    fn new(parts: ServerParts) -> Result<Self, ServerError> {
        let limits = parts.limits;
        Ok(Self {
            api: parts.api,
            authenticator: Authenticator {
                tokens: parts.tokens,
                certificates: parts.certificates,
            },
            throttle: Throttle::new(limits.failures),
            said: Throttle::new(limits.messages_per_minute),
            asked: Throttle::new(limits.calls_per_minute),
            nobodys_key: [VerifyingKey::Hmac(VerifyingKey::new_secret())],
            clock: parts.clock,
            requests: Arc::new(Semaphore::new(limits.requests)),
            uploads: Arc::new(Semaphore::new(limits.uploads)),
            messages: Arc::new(Semaphore::new(limits.messages)),
            calls: Arc::new(Semaphore::new(limits.calls)),
            tasks: TaskTracker::new(),
            limits,
            openapi: openapi_json()?.into_bytes().into(),
        })
    }

    pub(crate) fn now(&self) -> UnixSeconds {
        (self.clock)()
    }

    /// Counts a failure to say who one is; after too many, the problem is another.
    pub(crate) fn stranger(&self, peer: &Peer, problem: Problem) -> Problem {
        peer.is_a_stranger_now();
        let Some(seconds) = self.throttle.over(origin(peer.address), self.now()) else {
            tracing::warn!(peer = %peer.address, detail = problem.detail, "api: not authenticated");
            return problem;
        };
        let next =
            format!("wait {seconds} seconds, then come with a token or signature that counts");
        let detail = "too many attempts from this address failed";
        Problem {
            next,
            ..Problem::too_many(detail, seconds)
        }
    }

    pub(crate) fn tokens(&self) -> Arc<TokenStore> {
        self.authenticator.tokens.clone()
    }
}

/// A running server. Stops at once when dropped, in good order with [`Server::stop`].
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves at `listener`. `tls` comes from [`crate::tls::server_config`].
    ///
    /// # Errors
    /// See [`ServerError`].
    pub fn start(
        listener: TcpListener,
        tls: Arc<ServerConfig>,
        parts: ServerParts,
    ) -> Result<Self, ServerError> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(parts)?);
        let stop = CancellationToken::new();
        let task = tokio::spawn(connection::accept(listener, tls, shared, stop.clone()));
        Ok(Self {
            address,
            stop: stop.drop_guard(),
            task,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no new request, and waits for those that run, as long as a request may take.
    pub async fn stop(self) {
        drop(self.stop);
        let _ = self.task.await;
    }
}
