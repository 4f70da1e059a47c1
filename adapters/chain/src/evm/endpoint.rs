//! One endpoint of a chain: every question with a time limit, every failure sorted, the chain id watched.

use super::{
    heads::{self, Block, HeaderRule},
    socket::Undelayed,
};
use crate::ChainError;
use alloy::{
    eips::BlockId,
    providers::{DynProvider, Provider, ProviderBuilder},
    pubsub::Subscription,
    rpc::json_rpc::{RpcRecv, RpcSend},
    transports::{RpcError, TransportError, TransportErrorKind, TransportResult},
};
use cryptlet_types::bounded::clip;
use serde_json::value::RawValue;
use std::{
    future::Future,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};
use tokio::sync::Mutex;
use url::Url;

/// A node's JSON-RPC at one URL. Connected when it is first asked, and again after it was lost.
#[derive(Debug)]
pub(super) struct Endpoint {
    url: Url,
    place: String,
    hidden: Hidden,
    rule: HeaderRule,
    /// The chain that has to be served there; zero while none was agreed upon.
    chain_id: AtomicU64,
    provider: Mutex<Option<DynProvider>>,
    /// The node was out of reach since it was last connected: somebody else may answer now.
    lost: AtomicBool,
}

impl Endpoint {
    /// # Errors
    /// [`ChainError::Url`] if it is none of a kind that is known.
    pub(super) fn at(url: &str, rule: HeaderRule) -> Result<Self, ChainError> {
        let parsed: Url = url
            .parse()
            .map_err(|error: url::ParseError| ChainError::Url(error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https" | "ws" | "wss") {
            let message = format!("scheme {} is not known", parsed.scheme());
            return Err(ChainError::Url(message));
        }
        let host = parsed.host_str().unwrap_or_default();
        let port = parsed.port_or_known_default().unwrap_or_default();
        Ok(Self {
            place: format!("{}://{host}:{port}", parsed.scheme()),
            hidden: Hidden::of(&parsed),
            url: parsed,
            rule,
            chain_id: AtomicU64::new(0),
            provider: Mutex::default(),
            lost: AtomicBool::new(false),
        })
    }

    /// Scheme, host and port, for the log.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Whether the node can push what is new.
    pub(super) fn pushes(&self) -> bool {
        matches!(self.url.scheme(), "ws" | "wss")
    }

    pub(super) fn expect_chain(&self, chain_id: u64) {
        self.chain_id.store(chain_id, Ordering::Release);
    }

    /// Asks one question, connecting first where needed. After the node was out of reach, the chain id is compared
    /// before anything else is believed.
    pub(super) async fn ask<P: RpcSend, R: RpcRecv>(
        &self,
        patience: Duration,
        method: &'static str,
        params: P,
    ) -> Result<R, CallError> {
        self.within(patience, async {
            let provider = self.provider().await?;
            let answer = provider.client().request::<P, R>(method, params).await;
            answer.map_err(|error| self.failed(error))
        })
        .await
    }

    /// The chain id, as the node says it now.
    pub(super) async fn ask_chain_id(&self, patience: Duration) -> Result<u64, CallError> {
        self.within(patience, async {
            let provider = self.provider().await?;
            let answer = provider.get_chain_id().await;
            answer.map_err(|error| self.failed(error))
        })
        .await
    }

    /// The block, if the node has it, by what its header hashes to.
    pub(super) async fn block(
        &self,
        patience: Duration,
        block: BlockId,
    ) -> Result<Option<Block>, CallError> {
        const BY_HASH: &str = "eth_getBlockByHash";
        const BY_NUMBER: &str = "eth_getBlockByNumber";
        let answer: Option<Box<RawValue>> = match block {
            BlockId::Hash(hash) => {
                self.ask(patience, BY_HASH, (hash.block_hash, false))
                    .await?
            }
            BlockId::Number(tag) => self.ask(patience, BY_NUMBER, (tag, false)).await?,
        };
        let Some(answer) = answer else {
            return Ok(None);
        };
        let found = heads::parse(answer.get(), self.rule).map_err(CallError::Chain)?;
        let named = match block {
            BlockId::Hash(hash) => found.head.hash == hash.block_hash,
            BlockId::Number(tag) => tag
                .as_number()
                .is_none_or(|number| number == found.head.number),
        };
        if !named {
            let message = format!("block {} instead of {block}", found.head.number);
            return Err(CallError::Chain(ChainError::Inconsistent(message)));
        }
        Ok(Some(found))
    }

    /// A header that the node pushed.
    pub(super) fn pushed(&self, header: &RawValue) -> Result<Block, ChainError> {
        heads::parse(header.get(), self.rule)
    }

    /// Headers of new blocks from now on, over a connection that lasts as long as what is returned.
    pub(super) async fn new_heads(
        &self,
        patience: Duration,
    ) -> Result<(DynProvider, Subscription<Box<RawValue>>), CallError> {
        self.within(patience, async {
            let provider = self.provider().await?;
            let subscription = provider.subscribe(("newHeads",)).await;
            let subscription = subscription.map_err(|error| self.failed(error))?;
            Ok((provider, subscription))
        })
        .await
    }

    async fn within<T>(
        &self,
        patience: Duration,
        question: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let answer = tokio::time::timeout(patience, question).await;
        let answer = answer.unwrap_or(Err(CallError::Timeout(patience)));
        if let Err(CallError::Timeout(_) | CallError::Rpc(RpcError::Transport(_))) = &answer {
            self.lost.store(true, Ordering::Release);
        }
        answer
    }

    fn failed(&self, error: TransportError) -> CallError {
        CallError::Rpc(self.hidden.cleaned(error))
    }

    async fn provider(&self) -> Result<DynProvider, CallError> {
        let mut connected = self.provider.lock().await;
        if self.lost.load(Ordering::Acquire) {
            *connected = None;
        }
        if let Some(provider) = &*connected {
            return Ok(provider.clone());
        }
        let provider = self.connect().await.map_err(|error| self.failed(error))?;
        let expected = self.chain_id.load(Ordering::Acquire);
        if expected != 0 {
            let found = provider.get_chain_id().await;
            let found = found.map_err(|error| self.failed(error))?;
            if found != expected {
                return Err(CallError::Chain(ChainError::ChainChanged {
                    expected,
                    found,
                }));
            }
        }
        self.lost.store(false, Ordering::Release);
        *connected = Some(provider.clone());
        Ok(provider)
    }

    async fn connect(&self) -> TransportResult<DynProvider> {
        // The HTTP client is built without a TLS provider of its own and panics where the process has none.
        let _known_already = rustls::crypto::ring::default_provider().install_default();
        let builder = ProviderBuilder::new().disable_recommended_fillers();
        if self.pushes() {
            let connect = Undelayed::at(self.url.as_str());
            return Ok(builder.connect_pubsub_with(connect).await?.erased());
        }
        // Whose sockets do not delay what is small either: that is reqwest's default.
        Ok(builder.connect_http(self.url.clone()).erased())
    }
}

/// Why one question failed.
#[derive(Debug)]
pub(super) enum CallError {
    Timeout(Duration),
    Rpc(TransportError),
    Chain(ChainError),
}

impl CallError {
    /// Whether another endpoint may answer what this one could not, or would not, or answered wrongly.
    pub(super) fn is_the_endpoints(&self) -> bool {
        match self {
            Self::Timeout(_) => true,
            Self::Rpc(RpcError::ErrorResp(payload)) => {
                is_overload(payload.code, &payload.message)
                    || (payload.code == ChainError::INTERNAL && !payload.message.contains("revert"))
            }
            Self::Rpc(_) => true,
            Self::Chain(error) => error.is_the_endpoints(),
        }
    }

    /// Whether the endpoint is behind by no more than `blocks`, as every one is now and then.
    pub(super) fn is_near(&self, blocks: u64) -> bool {
        matches!(self, Self::Chain(ChainError::Behind { seen, found }) if found.saturating_add(blocks) >= *seen)
    }

    /// For the log.
    pub(super) fn brief(&self) -> String {
        clip(&format!("{self:?}"))
    }

    /// Whether the same question may be answered later.
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::Timeout(_) | Self::Rpc(RpcError::Transport(_)) => true,
            Self::Rpc(RpcError::ErrorResp(payload)) => is_overload(payload.code, &payload.message),
            Self::Rpc(_) => false,
            Self::Chain(error) => error.is_retryable(),
        }
    }

    /// Whether what was said is wrong, rather than nothing said: such an endpoint is not soon asked again.
    pub(super) fn is_distrust(&self) -> bool {
        matches!(
            self,
            Self::Chain(
                ChainError::Malformed { .. }
                    | ChainError::Inconsistent(_)
                    | ChainError::ChainChanged { .. }
                    | ChainError::Behind { .. }
            )
        )
    }

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

/// Whether a node says that it is asked too often or too early, which another may not say.
pub(super) fn is_overload(code: i64, message: &str) -> bool {
    const WORDS: [&str; 10] = [
        "rate limit",
        "rate-limit",
        "ratelimit",
        "too many requests",
        "request count",
        "requests per",
        "capacity",
        "quota",
        "credits",
        // Of geth, for a while after its start.
        "indexing is in progress",
    ];
    let words = message.to_ascii_lowercase();
    // 429: some say it in JSON. -32016 and -32097: rate limits of single providers.
    matches!(code, 429 | -32016 | -32097) || WORDS.iter().any(|word| words.contains(word))
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
            RpcError::ErrorResp(mut payload) => {
                payload.message = self.clean(&payload.message).into();
                RpcError::ErrorResp(payload)
            }
            RpcError::DeserError { err, text } => RpcError::DeserError {
                err,
                text: self.clean(&text),
            },
            error => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::rpc::json_rpc::ErrorPayload;

    fn refused(code: i64, message: &str) -> TransportError {
        RpcError::ErrorResp(ErrorPayload {
            code,
            message: message.to_owned().into(),
            data: None,
        })
    }

    #[test]
    fn a_refusal_of_the_node_does_not_show_its_urls_secrets() {
        let url: Url = "https://user:word@node.example/v3/s3cret?key=k3y"
            .parse()
            .unwrap();
        let hidden = Hidden::of(&url);
        let error = hidden.cleaned(refused(-32000, "no project at /v3/s3cret?key=k3y"));
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains("s3cret") && !shown.contains("k3y"),
            "{shown}"
        );
        let endpoint = Endpoint::at(url.as_str(), HeaderRule::Hashes).unwrap();
        assert_eq!(endpoint.place(), "https://node.example:443");
    }

    #[test]
    fn another_endpoint_is_asked_where_one_is_busy_or_broken_and_not_where_it_refuses() {
        let cases = [
            (429, "busy", true),
            (-32005, "daily request count exceeded", true),
            (-32000, "Too Many Requests", true),
            (-32016, "over the limit", true),
            (-32000, "transaction indexing is in progress", true),
            (-32603, "internal error", true),
            (
                -32603,
                "VM Exception while processing transaction: revert",
                false,
            ),
            (3, "execution reverted", false),
            (-32601, "the method does not exist", false),
        ];
        for (code, message, expected) in cases {
            let error = CallError::Rpc(refused(code, message));
            assert_eq!(error.is_the_endpoints(), expected, "{message}");
        }
        let behind = |seen, found| CallError::Chain(ChainError::Behind { seen, found });
        assert!(behind(9, 7).is_near(2) && !behind(9, 6).is_near(2));
    }
}
