//! What is lost or doubled where a host is killed, is away, or loses its node. Counted by the contract.

use super::{
    arena::{Arena, send},
    ground::Ground,
    observer::PATIENCE,
    process::HostProcess,
    progress::Steps,
    proxy::Proxy,
};
use crate::error::{CliError, Doing};
use alloy::{primitives::Bytes, providers::DynProvider};
use cryptlet_host::HostConfig;
use reqwest::Url;
use serde::Serialize;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{net::lookup_host, task::JoinHandle, time::sleep};

/// Events of each burst, a block each.
const EVENTS: u64 = 1_000;
/// Deliveries after which it happens: the burst is not over then.
const MIDDLE: u64 = 200;
/// How long the wire is cut.
const CUT: Duration = Duration::from_millis(100);
/// How long it is looked after the last event whether one comes twice.
const AFTERMATH: Duration = Duration::from_secs(3);

/// What became of a burst.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) events: u64,
    pub(crate) delivered: u64,
    pub(crate) doubled: u64,
    pub(crate) lost: u64,
    /// From the first event to the last callback.
    pub(crate) seconds: f64,
}

/// The host is killed with SIGKILL in a burst, and started again.
pub(crate) async fn kill9(ground: &Ground, steps: &Steps) -> Result<Outcome, CliError> {
    steps.begin("killed in a burst", EVENTS);
    let mut arena = Arena::build(ground, 1).await?;
    let host = arena.start_host().await?;
    arena.warm_up().await?;
    let mut burst = Burst::begin(&mut arena).await?;
    burst.reaches_the_middle(&arena).await?;
    host.kill()?;
    let _host = arena.start_host().await?;
    burst.end(&arena).await
}

/// Events happen while no host is there.
pub(crate) async fn down(ground: &Ground, steps: &Steps) -> Result<Outcome, CliError> {
    steps.begin("down", EVENTS);
    let mut arena = Arena::build(ground, 1).await?;
    let host = arena.start_host().await?;
    arena.warm_up().await?;
    host.stop().await?;
    let mut burst = Burst::begin(&mut arena).await?;
    burst.sent().await?;
    let _host = arena.start_host().await?;
    burst.end(&arena).await
}

/// The wire between host and node is cut in a burst.
pub(crate) async fn ws_cut(ground: &Ground, steps: &Steps) -> Result<Outcome, CliError> {
    steps.begin("cut off from its node", EVENTS);
    let mut arena = Arena::build(ground, 1).await?;
    let doing = "the chain's WebSocket";
    let mut url: Url = arena.ws_url.parse().doing(doing)?;
    let proxy = Proxy::start(resolved(&url).await?).await?;
    let ip = proxy.address.ip().to_string();
    url.set_host(Some(&ip)).doing(doing)?;
    let port = url.set_port(Some(proxy.address.port()));
    port.map_err(|()| CliError::new(format_args!("{doing}: {url} has no port")))?;
    let config = HostConfig {
        rpc: url.into(),
        ..arena.config.clone()
    };
    let _host = HostProcess::start(&config, arena.folder()).await?;
    arena.warm_up().await?;
    let mut burst = Burst::begin(&mut arena).await?;
    burst.reaches_the_middle(&arena).await?;
    proxy.cut();
    sleep(CUT).await;
    proxy.mend();
    burst.end(&arena).await
}

async fn resolved(url: &Url) -> Result<SocketAddr, CliError> {
    let doing = "the chain's address";
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    let mut found = lookup_host((host, port)).await.doing(doing)?;
    found.next().ok_or_else(|| CliError::new(doing))
}

/// Events that are being made, each in a transaction of its own.
struct Burst {
    range: (u64, u64),
    /// Deliveries before it.
    had: u64,
    start: Instant,
    sending: Option<JoinHandle<Result<(), CliError>>>,
}

impl Burst {
    async fn begin(arena: &mut Arena) -> Result<Self, CliError> {
        let range = arena.take(EVENTS);
        let mut signed = Vec::new();
        for number in 0..EVENTS {
            let one = (range.0.saturating_add(number), 1);
            signed.push(arena.signed_ping(one).await?);
        }
        let had = arena.observer.seen().delivered;
        Ok(Self {
            range,
            had,
            start: Instant::now(),
            sending: Some(tokio::spawn(send_all(arena.provider.clone(), signed))),
        })
    }

    async fn reaches_the_middle(&self, arena: &Arena) -> Result<(), CliError> {
        let middle = self.had.saturating_add(MIDDLE);
        let reached = arena.observer.delivered(middle, PATIENCE).await;
        reached.map_err(|error| arena.explained(&error))
    }

    async fn sent(&mut self) -> Result<(), CliError> {
        match self.sending.take() {
            Some(sending) => sending.await.doing("the events' sender")?,
            None => Ok(()),
        }
    }

    async fn end(&mut self, arena: &Arena) -> Result<Outcome, CliError> {
        self.sent().await?;
        arena.settled(self.range).await?;
        sleep(AFTERMATH).await;
        let tally = arena.tally(self.range).await?;
        let last = arena.observer.seen().last.unwrap_or(self.start);
        let (_, events) = self.range;
        Ok(Outcome {
            events,
            delivered: tally.delivered,
            doubled: tally.doubled,
            lost: events.saturating_sub(tally.delivered),
            seconds: last.saturating_duration_since(self.start).as_secs_f64(),
        })
    }
}

async fn send_all(provider: DynProvider, signed: Vec<Bytes>) -> Result<(), CliError> {
    for raw in signed {
        send(&provider, &raw).await?;
    }
    Ok(())
}
