//! The bench's own eyes: when it had notice of each block, and how many reports the delegate has consumed.
//!
//! Blocks are announced on a socket of their own, which asks nothing after it has subscribed. Neither side of it delays what is
//! small: no Nagle's algorithm here, and each notice is acknowledged at once, since the node may have Nagle's algorithm on.

use crate::error::{CliError, Doing};
use alloy::{
    primitives::{Address, U64},
    providers::{DynProvider, Provider},
    rpc::types::Filter,
    sol_types::SolEvent,
};
use cryptlet_chain::evm::abi::CryptoDelegate;
use futures::{SinkExt, StreamExt};
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, sync::watch, task::JoinHandle, time::timeout};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

/// How long it may take until the next thing that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// After so long without notice of a delivery the chain is asked for its logs: a node may have left one out, as Anvil does
/// where it tells of a block before it has all of it.
const SILENCE: Duration = Duration::from_secs(2);
/// Blocks whose logs are asked for at once.
const SPAN: u64 = 500;

/// What was seen of the delegate's deliveries.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Reports that were consumed.
    pub(crate) delivered: u64,
    /// When the bench had notice of the last of them.
    pub(crate) last: Option<Instant>,
    /// Those that it had notice of.
    noticed: u64,
}

impl Seen {
    fn notice(&mut self, at: Instant) {
        self.noticed = self.noticed.saturating_add(1);
        self.consumed(self.noticed, at);
    }

    /// So many were consumed by then, at least.
    fn consumed(&mut self, count: u64, by: Instant) {
        if count > self.delivered {
            self.delivered = count;
            self.last = Some(by);
        }
    }
}

/// What the chain's logs say of deliveries.
struct Logged {
    /// Number of the first block that was not asked for.
    next: u64,
    /// Deliveries in those before it, as long as the observer watches.
    count: u64,
}

/// Watches a chain until it is dropped.
pub(crate) struct Observer {
    times: Arc<Mutex<BTreeMap<u64, Instant>>>,
    newest: watch::Receiver<u64>,
    seen: watch::Sender<Seen>,
    provider: DynProvider,
    filter: Filter,
    logged: tokio::sync::Mutex<Logged>,
    tasks: [JoinHandle<()>; 2],
}

impl Observer {
    /// Watches the delegate's chain from now on. Nothing is delivered until this returns.
    pub(crate) async fn start(
        ws_url: &str,
        provider: DynProvider,
        delegate: Address,
    ) -> Result<Self, CliError> {
        let height = provider.get_block_number().await;
        let height = height.doing("cannot ask the chain for its height")?;
        let heads = subscribe(ws_url, json!(["newHeads"])).await?;
        let of =
            json!({ "address": delegate, "topics": [CryptoDelegate::Delivered::SIGNATURE_HASH] });
        let logs = subscribe(ws_url, json!(["logs", of])).await?;
        let times = Arc::default();
        let (told_newest, newest) = watch::channel(0);
        let seen = watch::Sender::new(Seen::default());
        Ok(Self {
            tasks: [
                tokio::spawn(watch_heads(heads, Arc::clone(&times), told_newest)),
                tokio::spawn(watch_logs(logs, seen.clone())),
            ],
            times,
            newest,
            seen,
            provider,
            filter: Filter::new()
                .address(delegate)
                .event_signature(CryptoDelegate::Delivered::SIGNATURE_HASH),
            logged: tokio::sync::Mutex::new(Logged {
                next: height.saturating_add(1),
                count: 0,
            }),
        })
    }

    /// What was delivered so far.
    pub(crate) fn seen(&self) -> Seen {
        *self.seen.borrow()
    }

    /// When notice of a block came.
    pub(crate) async fn time_of(&self, block: u64) -> Result<Instant, CliError> {
        self.reaches(block).await?;
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let time = times.get(&block).copied();
        time.ok_or_else(|| CliError::new(format_args!("the chain did not announce block {block}")))
    }

    /// Waits until the chain has that block.
    pub(crate) async fn reaches(&self, block: u64) -> Result<(), CliError> {
        let mut newest = self.newest.clone();
        let reached = timeout(PATIENCE, newest.wait_for(|newest| *newest >= block)).await;
        let late = format_args!("block {block} was not announced in {PATIENCE:?}");
        reached.doing(late)?.doing("the chain's heads have ended")?;
        Ok(())
    }

    /// Waits until so many reports were consumed.
    pub(crate) async fn delivered(&self, count: u64, patience: Duration) -> Result<(), CliError> {
        let start = Instant::now();
        loop {
            let silence = SILENCE.min(patience.saturating_sub(start.elapsed()));
            let mut seen = self.seen.subscribe();
            // What is waited for holds a lock, which nobody may wait for twice.
            let enough = async {
                seen.wait_for(|seen| seen.delivered >= count)
                    .await
                    .map(drop)
            };
            if timeout(silence, enough).await.is_ok() {
                return Ok(());
            }
            self.ask().await?;
            let had = self.seen().delivered;
            if had < count && start.elapsed() >= patience {
                let late = format_args!("{had} of {count} reports were delivered in {patience:?}");
                return Err(CliError::new(late));
            }
        }
    }

    /// Asks the chain for what it did not tell of.
    async fn ask(&self) -> Result<(), CliError> {
        let height = self.provider.get_block_number().await;
        let height = height.doing("cannot ask the chain for its height")?;
        let mut logged = self.logged.lock().await;
        while logged.next <= height {
            let last = logged.next.saturating_add(SPAN - 1).min(height);
            let blocks = self.filter.clone().select(logged.next..=last);
            let found = self.provider.get_logs(&blocks).await;
            let found = found.doing("cannot read the chain's logs")?.len();
            let found = u64::try_from(found).unwrap_or(u64::MAX);
            logged.count = logged.count.saturating_add(found);
            logged.next = last.saturating_add(1);
        }
        let count = logged.count;
        self.seen
            .send_modify(|seen| seen.consumed(count, Instant::now()));
        Ok(())
    }

    /// Waits until so many reports were consumed, as long as there are more from time to time.
    pub(crate) async fn all_delivered(&self, count: u64) -> Result<(), CliError> {
        loop {
            let had = self.seen().delivered;
            if had >= count {
                return Ok(());
            }
            self.delivered(had.saturating_add(1), PATIENCE).await?;
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

type Socket = WebSocketStream<TcpStream>;

#[derive(Deserialize)]
struct Notice<T> {
    params: Params<T>,
}

#[derive(Deserialize)]
struct Params<T> {
    result: T,
}

#[derive(Deserialize)]
struct Head {
    number: U64,
}

#[derive(Deserialize)]
struct Log {
    #[serde(default)]
    removed: bool,
}

/// Opens a socket that is told of what `params` name.
async fn subscribe(ws_url: &str, params: Value) -> Result<Socket, CliError> {
    let doing = format!("cannot follow the chain at {ws_url}");
    let url: Url = ws_url.parse().doing(&doing)?;
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    let stream = TcpStream::connect((host, port)).await.doing(&doing)?;
    stream.set_nodelay(true).doing(&doing)?;
    let (mut socket, _) = client_async(ws_url, stream).await.doing(&doing)?;
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": params });
    let request = Message::text(request.to_string());
    socket.send(request).await.doing(&doing)?;
    let answer = next_text(&mut socket).await;
    let (answer, _) = answer.ok_or_else(|| CliError::new(format_args!("{doing}: it hung up")))?;
    let answer: Value = serde_json::from_str(&answer).doing(&doing)?;
    match answer.get("result") {
        Some(_) => Ok(socket),
        None => Err(CliError::system(doing, answer)),
    }
}

/// The next message, and when it was there; none at the socket's end.
async fn next_text(socket: &mut Socket) -> Option<(String, Instant)> {
    loop {
        let message = socket.next().await?.ok()?;
        let now = Instant::now();
        // Forgotten by the system after a while, so it is said again and again; without it notices may only be late.
        #[cfg(target_os = "linux")]
        let _no_such_option = rustix::net::sockopt::set_tcp_quickack(socket.get_ref(), true);
        if let Message::Text(text) = message {
            return Some((text.to_string(), now));
        }
    }
}

async fn watch_heads(
    mut socket: Socket,
    times: Arc<Mutex<BTreeMap<u64, Instant>>>,
    newest: watch::Sender<u64>,
) {
    while let Some((text, now)) = next_text(&mut socket).await {
        let Ok(notice) = serde_json::from_str::<Notice<Head>>(&text) else {
            continue;
        };
        let number = notice.params.result.number.to();
        let mut known = times.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(number).or_insert(now);
        drop(known);
        newest.send_replace(number);
    }
}

async fn watch_logs(mut socket: Socket, seen: watch::Sender<Seen>) {
    while let Some((text, now)) = next_text(&mut socket).await {
        match serde_json::from_str::<Notice<Log>>(&text) {
            Ok(notice) if !notice.params.result.removed => {
                seen.send_modify(|seen| seen.notice(now));
            }
            _ => {}
        }
    }
}
