//! The bench's own eyes: when it had notice of each block, and how many reports the delegate has consumed.
//!
//! Blocks are announced on a socket of their own, which asks nothing after it has subscribed. Neither side of it delays what is
//! small: no Nagle's algorithm here, and each notice is acknowledged at once, since the node may have Nagle's algorithm on.

use super::logs::{deliveries as deliveries_of, logs};
use crate::{
    error::{CliError, Doing},
    screen::note,
};
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
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, sync::watch, task::JoinHandle, time::timeout};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

/// How long it may take until the next thing that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// After so long without notice of a delivery the chain is asked for its logs: a node may have left one out, as Anvil may
/// where it tells of a block before it has all of it.
const SILENCE: Duration = Duration::from_secs(2);
/// Longest wait for what the chain is asked.
const ANSWER: Duration = Duration::from_secs(10);

/// What was seen of the delegate's deliveries.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Reports that were consumed.
    pub(crate) delivered: u64,
    /// When the bench had notice of the last of them.
    pub(crate) last: Option<Instant>,
}

/// A log's block and its place there.
type Place = (u64, u64);

/// Which deliveries were seen, in notices or in the chain's logs.
struct Deliveries {
    places: Mutex<BTreeSet<Place>>,
    seen: watch::Sender<Seen>,
}

impl Deliveries {
    /// These were made, as is known since `at`. Says how many of them are new.
    fn add(&self, places: impl IntoIterator<Item = Place>, at: Instant) -> usize {
        let mut known = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.len();
        known.extend(places);
        let new = known.len().saturating_sub(before);
        if new > 0 {
            self.seen.send_replace(Seen {
                delivered: u64::try_from(known.len()).unwrap_or(u64::MAX),
                last: Some(at),
            });
        }
        new
    }
}

/// Watches a chain until it is dropped.
pub(crate) struct Observer {
    times: Arc<Mutex<BTreeMap<u64, Instant>>>,
    newest: watch::Receiver<u64>,
    deliveries: Arc<Deliveries>,
    provider: DynProvider,
    filter: Filter,
    /// Number of the first block that is asked for: the newest at the last time, of which the node may not have had all.
    next: AtomicU64,
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
        let deliveries = Arc::new(Deliveries {
            places: Mutex::default(),
            seen: watch::Sender::new(Seen::default()),
        });
        Ok(Self {
            tasks: [
                tokio::spawn(watch_heads(heads, Arc::clone(&times), told_newest)),
                tokio::spawn(watch_logs(logs, Arc::clone(&deliveries))),
            ],
            times,
            newest,
            deliveries,
            provider,
            filter: deliveries_of(delegate),
            next: AtomicU64::new(height.saturating_add(1)),
        })
    }

    /// What was delivered so far.
    pub(crate) fn seen(&self) -> Seen {
        *self.deliveries.seen.borrow()
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
        let mut seen = self.deliveries.seen.subscribe();
        loop {
            let had = seen.borrow_and_update().delivered;
            if had >= count {
                return Ok(());
            }
            let left = patience.saturating_sub(start.elapsed());
            if left.is_zero() {
                let late = format_args!("{had} of {count} reports were delivered in {patience:?}");
                return Err(CliError::new(late));
            }
            match timeout(SILENCE.min(left), seen.changed()).await {
                Ok(changed) => changed.doing("the chain's logs have ended")?,
                Err(_silence) => self.ask().await?,
            }
        }
    }

    /// Asks the chain for what it did not tell of.
    async fn ask(&self) -> Result<(), CliError> {
        let doing = "cannot read the chain's logs";
        let found = timeout(ANSWER, self.logged()).await.doing(doing)??;
        let new = self.deliveries.add(found, Instant::now());
        if new > 0 {
            note(format_args!(
                "the node left out notices of {new} deliveries, which its logs have"
            ));
        }
        Ok(())
    }

    /// The deliveries in the chain's logs, of the last blocks.
    async fn logged(&self) -> Result<Vec<Place>, CliError> {
        let height = self.provider.get_block_number().await;
        let height = height.doing("cannot ask the chain for its height")?;
        let next = self.next.load(Ordering::Relaxed);
        let found = logs(&self.provider, &self.filter, (next, height)).await?;
        self.next.fetch_max(height, Ordering::Relaxed);
        let places = found.iter();
        Ok(places
            .filter_map(|log| log.block_number.zip(log.log_index))
            .collect())
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
#[serde(rename_all = "camelCase")]
struct Log {
    block_number: U64,
    log_index: U64,
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

async fn watch_logs(mut socket: Socket, deliveries: Arc<Deliveries>) {
    while let Some((text, now)) = next_text(&mut socket).await {
        let Ok(notice) = serde_json::from_str::<Notice<Log>>(&text) else {
            continue;
        };
        let log = notice.params.result;
        if !log.removed {
            deliveries.add([(log.block_number.to(), log.log_index.to())], now);
        }
    }
}
