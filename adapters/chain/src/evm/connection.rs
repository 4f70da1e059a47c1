//! One connection to one node: every call with a time limit, every failure sorted, the chain id watched.

use crate::{ChainError, Head};
use alloy::{
    providers::{DynProvider, Provider, ProviderBuilder, WsConnect},
    rpc::types::{Block, Header},
    transports::{RpcError, TransportError, TransportErrorKind},
};
use cryptlet_types::bounded::clip;
use std::{
    future::IntoFuture,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle};
use url::Url;

/// Pause before a WebSocket is opened again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// A provider with a time limit on every call.
#[derive(Debug)]
pub(super) struct Connection {
    provider: DynProvider,
    timeout: Duration,
    hidden: Hidden,
    chain_id: u64,
    /// A call has failed to reach the node since the chain id was last read: somebody else may answer now.
    lost: AtomicBool,
    pushed: Option<PushedHeads>,
}

/// Notice of new heads, pushed by the node over a WebSocket.
#[derive(Debug)]
struct PushedHeads {
    newest: watch::Receiver<()>,
    task: JoinHandle<()>,
}

impl Drop for PushedHeads {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    pub(super) async fn open(url: &str, timeout: Duration) -> Result<Self, ChainError> {
        let parsed: Url = url
            .parse()
            .map_err(|error: url::ParseError| ChainError::Url(error.to_string()))?;
        let hidden = Hidden::of(&parsed);
        // The HTTP client is built without a TLS provider of its own and panics where the process has none.
        let _known_already = rustls::crypto::ring::default_provider().install_default();
        let builder = ProviderBuilder::new().disable_recommended_fillers();
        let (provider, push) = match parsed.scheme() {
            "http" | "https" => (builder.connect_http(parsed).erased(), false),
            "ws" | "wss" => {
                let connect = WsConnect::new(url)
                    .with_max_retries(u32::MAX)
                    .with_retry_interval(RECONNECT_PAUSE);
                let opened = limit(timeout, &hidden, builder.connect_ws(connect)).await;
                let opened = opened.map_err(|error| error.sorted("connect"))?;
                (opened.erased(), true)
            }
            other => return Err(ChainError::Url(format!("scheme {other} is not known"))),
        };
        let chain_id = limit(timeout, &hidden, provider.get_chain_id()).await;
        let chain_id = chain_id.map_err(|error| error.sorted("eth_chainId"))?;
        let pushed = push.then(|| follow_heads(provider.clone()));
        Ok(Self {
            provider,
            timeout,
            hidden,
            chain_id,
            lost: AtomicBool::new(false),
            pushed,
        })
    }

    pub(super) fn chain_id(&self) -> u64 {
        self.chain_id
    }

    pub(super) fn provider(&self) -> &DynProvider {
        &self.provider
    }

    /// Runs one call. After the node was out of reach, the chain id is compared before anything else is believed.
    pub(super) async fn call<T>(
        &self,
        method: &'static str,
        request: impl IntoFuture<Output = Result<T, TransportError>>,
    ) -> Result<T, ChainError> {
        self.call_raw(request)
            .await
            .map_err(|error| error.sorted(method))
    }

    /// As [`Connection::call`], with the node's own error kept whole.
    pub(super) async fn call_raw<T>(
        &self,
        request: impl IntoFuture<Output = Result<T, TransportError>>,
    ) -> Result<T, CallError> {
        if self.lost.load(Ordering::Acquire) {
            self.compare_chain_id().await.map_err(CallError::Chain)?;
        }
        let answer = limit(self.timeout, &self.hidden, request).await;
        if let Err(CallError::Timeout(_) | CallError::Rpc(RpcError::Transport(_))) = &answer {
            self.lost.store(true, Ordering::Release);
        }
        answer
    }

    async fn compare_chain_id(&self) -> Result<(), ChainError> {
        let expected = self.chain_id;
        let found = limit(self.timeout, &self.hidden, self.provider.get_chain_id()).await;
        let found = found.map_err(|error| error.sorted("eth_chainId"))?;
        if found != expected {
            return Err(ChainError::ChainChanged { expected, found });
        }
        self.lost.store(false, Ordering::Release);
        Ok(())
    }

    /// Notice of heads that the node pushes from now on.
    pub(super) fn notices(&self) -> Notices {
        let mut newest = self.pushed.as_ref().map(|pushed| pushed.newest.clone());
        if let Some(newest) = &mut newest {
            newest.mark_unchanged();
        }
        Notices { newest }
    }
}

/// Pushed heads, as a reason to look before a pause is over.
pub(super) struct Notices {
    newest: Option<watch::Receiver<()>>,
}

impl Notices {
    /// Whether the node pushes at all.
    pub(super) fn are_pushed(&self) -> bool {
        self.newest.is_some()
    }

    /// Returns when a head was pushed, or after `pause`, whichever is first.
    pub(super) async fn next(&mut self, pause: Duration) {
        let pushed = async {
            let heard = match &mut self.newest {
                Some(newest) => newest.changed().await.is_ok(),
                None => false,
            };
            if !heard {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = pushed => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Keeps a subscription to `newHeads` alive for as long as the connection lives.
fn follow_heads(provider: DynProvider) -> PushedHeads {
    let (sender, newest) = watch::channel(());
    let task = tokio::spawn(async move {
        loop {
            match provider.subscribe_blocks().await {
                Ok(mut heads) => {
                    while heads.recv().await.is_ok() {
                        sender.send_replace(());
                    }
                }
                Err(error) => tracing::warn!(%error, "cannot subscribe to new heads, polling"),
            }
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    });
    PushedHeads { newest, task }
}

/// Why one call failed.
#[derive(Debug)]
pub(super) enum CallError {
    Timeout(Duration),
    Rpc(TransportError),
    Chain(ChainError),
}

impl CallError {
    pub(super) fn sorted(self, method: &'static str) -> ChainError {
        match self {
            Self::Timeout(after) => ChainError::Timeout { method, after },
            Self::Chain(error) => error,
            Self::Rpc(RpcError::ErrorResp(payload)) => ChainError::Refused {
                method,
                code: payload.code,
                message: clip(&payload.message),
            },
            Self::Rpc(RpcError::Transport(TransportErrorKind::HttpError(error))) => {
                http_error(method, error.status, &error.body)
            }
            Self::Rpc(RpcError::Transport(error)) => ChainError::Transport {
                method,
                message: clip(&error.to_string()),
            },
            Self::Rpc(RpcError::DeserError { err, .. }) => ChainError::Malformed {
                method,
                message: clip(&err.to_string()),
            },
            Self::Rpc(error) => ChainError::Malformed {
                method,
                message: clip(&error.to_string()),
            },
        }
    }
}

/// An answer that is not JSON-RPC: 4xx (but "too many requests" and "timeout") will not change by asking again.
fn http_error(method: &'static str, status: u16, body: &str) -> ChainError {
    let message = clip(&format!("HTTP status {status}: {body}"));
    if (400..500).contains(&status) && status != 408 && status != 429 {
        ChainError::Malformed { method, message }
    } else {
        ChainError::Transport { method, message }
    }
}

async fn limit<T>(
    timeout: Duration,
    hidden: &Hidden,
    request: impl IntoFuture<Output = Result<T, TransportError>>,
) -> Result<T, CallError> {
    tokio::time::timeout(timeout, request.into_future())
        .await
        .map_err(|_| CallError::Timeout(timeout))?
        .map_err(|error| CallError::Rpc(hidden.cleaned(error)))
}

/// What is in a node's URL beside scheme, host and port: providers put their customers' keys there, and errors end in logs.
struct Hidden(Vec<String>);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden")
    }
}

impl Hidden {
    fn of(url: &Url) -> Self {
        let user = Some(url.username()).filter(|user| !user.is_empty());
        let path = Some(url.path()).filter(|path| *path != "/");
        let parts = [url.password(), user, url.query(), path];
        let mut parts: Vec<_> = parts.into_iter().flatten().map(str::to_owned).collect();
        // One may be part of another.
        parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
        Self(parts)
    }

    fn clean(&self, text: &str) -> String {
        let hide = |text: String, part: &String| text.replace(part.as_str(), "…");
        self.0.iter().fold(text.to_owned(), hide)
    }

    /// The error without what is hidden: transports name the URL, and some nodes the path.
    fn cleaned(&self, error: TransportError) -> TransportError {
        match error {
            RpcError::Transport(TransportErrorKind::HttpError(mut error)) => {
                error.body = self.clean(&error.body);
                RpcError::Transport(TransportErrorKind::HttpError(error))
            }
            RpcError::Transport(TransportErrorKind::Custom(error)) => {
                TransportErrorKind::custom_str(&self.clean(&error.to_string()))
            }
            error => error,
        }
    }
}

impl From<&Header> for Head {
    fn from(header: &Header) -> Self {
        Self {
            number: header.number,
            hash: header.hash,
            parent: header.parent_hash,
            timestamp: header.timestamp,
        }
    }
}

impl From<&Block> for Head {
    fn from(block: &Block) -> Self {
        Self::from(&block.header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    const SECRETS: [&str; 4] = ["s3cret-path", "s3cret-query", "s3cret-user", "s3cret-word"];

    async fn refused(scheme: &str, port: u16) -> String {
        let [path, query, user, word] = SECRETS;
        let url = format!("{scheme}://{user}:{word}@localhost:{port}/v3/{path}?key={query}");
        let opened = Connection::open(&url, Duration::from_secs(10)).await;
        let error = opened.unwrap_err();
        format!("{error} {error:?}")
    }

    fn hides_all(error: &str) {
        for secret in SECRETS {
            assert!(!error.contains(secret), "{error}");
        }
    }

    #[tokio::test]
    async fn a_nodes_url_is_in_no_error() {
        // Bound, so that no other test gets the port, and not listening.
        let taken = tokio::net::TcpSocket::new_v4().unwrap();
        taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = taken.local_addr().unwrap().port();
        let http = refused("http", port).await;
        hides_all(&http);
        assert!(http.contains("localhost"), "where it was sought: {http}");
        hides_all(&refused("ws", port).await);
    }

    #[tokio::test]
    async fn nor_is_it_where_the_node_says_it() {
        let listener = std::net::TcpListener::bind("localhost:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _head = stream.read(&mut [0; 4096]);
            let [path, query, ..] = SECRETS;
            let body = format!("Cannot POST /v3/{path}?key={query}");
            let length = body.len();
            let answer =
                format!("HTTP/1.1 404 Not Found\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let error = refused("http", port).await;
        hides_all(&error);
        assert!(error.contains("404: Cannot POST"), "{error}");
    }
}
