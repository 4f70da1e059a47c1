//! The relay: carries bytes between a region and its sources, and log lines to the operator.
//!
//! The region checks its own egress; the relay checks again, so that a broken container reaches nothing more.
//! It sees ciphertext only. One stream at a time, bounded in bytes both ways; the run's time bounds waiting.

use crate::{CallOutHandler, CallOutSession};
use alloy_primitives::Bytes;
use async_trait::async_trait;
use cryptlet_types::{
    bounded::clip,
    region::{CallOut, CallOutAnswer, LogLevel, RegionSettings},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Time to connect to a source.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Most bytes that one call receives.
const MAX_RECEIVE: u32 = 64 << 10;
/// Most log lines of one run, and most connections: what a container allows a cryptlet. A container that was taken over would
/// allow more.
const MAX_LOG_LINES: u32 = 256;
const MAX_CONNECTIONS: u32 = 64;
/// What a connection may carry beside the response itself: handshake, certificates, a request's body.
const OVERHEAD_BYTES: u64 = 2 << 20;

/// Where a cryptlet's log lines go.
pub trait LogSink: Send + Sync {
    /// Takes a line, at most 1 KiB, written by a stranger.
    fn line(&self, level: LogLevel, message: &str);
}

/// Log lines as `tracing` events with the cryptlet's name.
#[derive(Clone, Debug)]
pub struct TracingLog {
    cryptlet: String,
}

impl TracingLog {
    /// Lines of the cryptlet with this name or id.
    pub fn new(cryptlet: impl Into<String>) -> Self {
        Self {
            cryptlet: cryptlet.into(),
        }
    }
}

impl LogSink for TracingLog {
    fn line(&self, level: LogLevel, message: &str) {
        let cryptlet = self.cryptlet.as_str();
        // Debug formatting escapes what would forge another line.
        match level {
            LogLevel::Debug => tracing::debug!(cryptlet, ?message),
            LogLevel::Info => tracing::info!(cryptlet, ?message),
            LogLevel::Warn => tracing::warn!(cryptlet, ?message),
            LogLevel::Error => tracing::error!(cryptlet, ?message),
        }
    }
}

/// Opens a relay for each region.
#[derive(Clone)]
pub struct Relay {
    addresses: Arc<BTreeMap<String, SocketAddr>>,
    log: Arc<dyn LogSink>,
}

impl Relay {
    /// A relay that finds places (`host:port`) in `addresses` first, and else asks the system's resolver.
    #[must_use]
    pub fn new(addresses: BTreeMap<String, SocketAddr>, log: Arc<dyn LogSink>) -> Self {
        Self {
            addresses: Arc::new(addresses),
            log,
        }
    }
}

impl CallOutHandler for Relay {
    fn open(&self, settings: &RegionSettings) -> Box<dyn CallOutSession> {
        let limit = settings.limits.response_bytes.saturating_mul(2);
        Box::new(RelaySession {
            relay: self.clone(),
            places: settings
                .egress
                .iter()
                .map(|rule| rule.place.clone())
                .collect(),
            bytes_allowed: limit.saturating_add(OVERHEAD_BYTES),
            stream: None,
            lines_left: MAX_LOG_LINES,
            connections_left: MAX_CONNECTIONS,
        })
    }
}

struct RelaySession {
    relay: Relay,
    places: BTreeSet<String>,
    bytes_allowed: u64,
    stream: Option<Carried>,
    lines_left: u32,
    connections_left: u32,
}

/// An open stream and what it may still carry.
struct Carried {
    stream: TcpStream,
    bytes_left: u64,
}

impl RelaySession {
    async fn connect(&mut self, place: &str) -> Result<(), String> {
        self.stream = None;
        if !self.places.contains(place) {
            return Err(format!("{} is not allowed", clip(place)));
        }
        let left = self.connections_left.checked_sub(1);
        self.connections_left = left.ok_or("too many connections in one run")?;
        let connecting = async {
            match self.relay.addresses.get(place) {
                Some(address) => TcpStream::connect(address).await,
                None => TcpStream::connect(place).await,
            }
        };
        let stream = timeout(CONNECT_TIME, connecting)
            .await
            .map_err(|_| format!("{place} does not answer"))?
            .map_err(|error| format!("{place}: {error}"))?;
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        self.stream = Some(Carried {
            stream,
            bytes_left: self.bytes_allowed,
        });
        Ok(())
    }

    fn stream(&mut self) -> Result<&mut Carried, String> {
        self.stream
            .as_mut()
            .ok_or_else(|| "no stream is open".into())
    }
}

impl Carried {
    fn spend(&mut self, count: usize) -> Result<(), String> {
        let left = u64::try_from(count)
            .ok()
            .and_then(|count| self.bytes_left.checked_sub(count));
        self.bytes_left = left.ok_or("stream has carried as much as it may")?;
        Ok(())
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.spend(bytes.len())?;
        let sent = self.stream.write_all(bytes).await;
        sent.map_err(|error| error.to_string())
    }

    async fn receive(&mut self, count: u32) -> Result<Bytes, String> {
        let count = usize::try_from(count.min(MAX_RECEIVE)).map_err(|error| error.to_string())?;
        let mut buffer = vec![0; count];
        let received = self.stream.read(&mut buffer).await;
        let received = received.map_err(|error| error.to_string())?;
        self.spend(received)?;
        buffer.truncate(received);
        Ok(buffer.into())
    }
}

#[async_trait]
impl CallOutSession for RelaySession {
    async fn call_out(&mut self, call: CallOut) -> Result<CallOutAnswer, String> {
        match call {
            CallOut::Log { level, message } => {
                let left = self.lines_left.checked_sub(1);
                self.lines_left = left.ok_or("too many log lines in one run")?;
                self.relay.log.line(level, &clip(&message));
            }
            CallOut::Connect { place } => self.connect(&place).await?,
            CallOut::Send(bytes) => self.stream()?.send(&bytes).await?,
            CallOut::Receive(count) => {
                let received = self.stream()?.receive(count).await?;
                return Ok(CallOutAnswer::Received(received));
            }
            CallOut::Close => self.stream = None,
            CallOut::CodeKey(_) => {
                return Err("a key of secret code is given while a package is loaded".into());
            }
        }
        Ok(CallOutAnswer::Done)
    }

    fn run_ended(&mut self) {
        self.stream = None;
        self.lines_left = MAX_LOG_LINES;
        self.connections_left = MAX_CONNECTIONS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptlet_types::{
        Limits,
        policy::{EgressRule, RecordingRule, Trust},
    };
    use tokio::net::TcpListener;

    const PLACE: &str = "source.example:443";

    struct NoLog;

    impl LogSink for NoLog {
        fn line(&self, _: LogLevel, _: &str) {}
    }

    /// A session connected to a source, and the source's end. Its streams may carry the overhead, and nothing more.
    async fn connected() -> (Box<dyn CallOutSession>, TcpListener, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let relay = Relay::new(BTreeMap::from([(PLACE.into(), address)]), Arc::new(NoLog));
        let mut session = relay.open(&RegionSettings {
            limits: Limits {
                fuel: 1,
                memory_bytes: 1,
                wall_millis: 1,
                response_bytes: 0,
            },
            egress: vec![EgressRule {
                place: PLACE.into(),
                trust: Trust::WebPki,
            }],
            recording: RecordingRule::Off,
        });
        connect(session.as_mut()).await;
        let source = listener.accept().await.unwrap().0;
        (session, listener, source)
    }

    async fn connect(session: &mut dyn CallOutSession) {
        let place = PLACE.into();
        let connected = session.call_out(CallOut::Connect { place }).await;
        assert!(
            matches!(connected, Ok(CallOutAnswer::Done)),
            "{connected:?}"
        );
    }

    fn received(answer: Result<CallOutAnswer, String>) -> usize {
        match answer {
            Ok(CallOutAnswer::Received(bytes)) => bytes.len(),
            other => panic!("nothing was received: {other:?}"),
        }
    }

    fn refused(answer: Result<CallOutAnswer, String>) -> String {
        answer.err().unwrap_or_default()
    }

    #[tokio::test]
    async fn a_stream_carries_what_it_may_and_not_a_byte_more() {
        let (mut session, listener, mut source) = connected().await;
        let draining = tokio::spawn(async move {
            let mut buffer = vec![0; 1 << 20];
            while source.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
        });
        let whole = usize::try_from(OVERHEAD_BYTES).unwrap();
        let send = |bytes: usize| CallOut::Send(vec![7; bytes].into());
        let sent = session.call_out(send(whole - 5)).await;
        assert!(matches!(sent, Ok(CallOutAnswer::Done)), "{sent:?}");
        let more = refused(session.call_out(send(6)).await);
        assert!(more.contains("as much as it may"), "{more}");
        draining.abort();
        // What comes counts as well, and the next stream has an allowance of its own.
        connect(session.as_mut()).await;
        let mut source = listener.accept().await.unwrap().0;
        let flooding =
            tokio::spawn(async move { while source.write_all(&[7; 1 << 16]).await.is_ok() {} });
        let mut total = 0;
        let end = loop {
            match session.call_out(CallOut::Receive(MAX_RECEIVE)).await {
                Ok(CallOutAnswer::Received(bytes)) => total += bytes.len(),
                other => break refused(other),
            }
            assert!(total <= whole, "{total}");
        };
        assert!(end.contains("as much as it may"), "{end}");
        flooding.abort();
    }

    #[tokio::test]
    async fn no_call_receives_more_than_the_most() {
        let (mut session, _listener, mut source) = connected().await;
        let most = usize::try_from(MAX_RECEIVE).unwrap();
        let sending = tokio::spawn(async move {
            source.write_all(&vec![7; 4 * most]).await.unwrap();
            source
        });
        let mut total = 0;
        while total < 4 * most {
            let count = received(session.call_out(CallOut::Receive(u32::MAX)).await);
            assert!(count <= most, "{count}");
            total += count;
        }
        sending.await.unwrap();
    }

    #[tokio::test]
    async fn a_run_leaves_no_stream_to_the_next() {
        let (mut session, _listener, _source) = connected().await;
        session.run_ended();
        let after = refused(session.call_out(CallOut::Send(vec![7].into())).await);
        assert_eq!(after, "no stream is open");
    }
}
