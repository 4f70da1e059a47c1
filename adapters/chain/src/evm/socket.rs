//! The WebSocket to a node, which delays nothing: a round trip is part of the way from an event to its callback.
//!
//! A node that has Nagle's algorithm on, as Anvil has, holds back what is small until what it sent before is
//! acknowledged, and a system that receives acknowledges after 40 ms where it has nothing to send. So whatever comes is
//! acknowledged at once here. The loop is ours for that alone: the one of alloy does not hand out its socket.

use alloy::{
    pubsub::{ConnectionHandle, ConnectionInterface, PubSubConnect},
    transports::{TransportErrorKind, TransportResult, ws::WsConnect},
};
use futures::{SinkExt, StreamExt};
use std::time::Duration;
use tokio::{
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{self, Message, client::IntoClientRequest},
};

/// Pause between two signs of life that are asked of the node; without one for that long, it is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How to reach a node by WebSocket. It is not opened again by itself, so that who asks learns at once that it is gone.
#[derive(Clone, Debug)]
pub(super) struct Undelayed(WsConnect);

impl Undelayed {
    /// A node at a `ws` or `wss` URL, which may name a user and a password.
    pub(super) fn at(url: &str) -> Self {
        Self(WsConnect::new(url))
    }

    /// Messages of up to 64 MiB are taken, in frames of up to 16 MiB, which are tungstenite's limits.
    async fn open(&self) -> Result<Socket, tungstenite::Error> {
        let request = self.0.clone().into_client_request()?;
        let opened = tokio_tungstenite::connect_async_with_config(request, None, true).await;
        Ok(opened?.0)
    }
}

impl PubSubConnect for Undelayed {
    fn is_local(&self) -> bool {
        self.0.is_local()
    }

    async fn connect(&self) -> TransportResult<ConnectionHandle> {
        let socket = self.open().await.map_err(TransportErrorKind::custom)?;
        let (handle, interface) = ConnectionHandle::new();
        tokio::spawn(serve(socket, interface));
        Ok(handle)
    }

    async fn try_reconnect(&self) -> TransportResult<ConnectionHandle> {
        Err(TransportErrorKind::non_retryable_str(
            "the connection is gone",
        ))
    }
}

/// Carries questions to the node, and to who asked what it says, until one of them is gone.
async fn serve(mut socket: Socket, mut asking: ConnectionInterface) {
    if let Err(gone) = carry(&mut socket, &mut asking).await {
        tracing::debug!(%gone, "a node's WebSocket has ended");
        asking.close_with_error();
    }
}

async fn carry(socket: &mut Socket, asking: &mut ConnectionInterface) -> Result<(), Gone> {
    let mut signs = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
    // After a stall of this process the node has time to answer, too.
    signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = true;
    loop {
        tokio::select! {
            biased;
            question = asking.recv_from_frontend() => {
                let Some(question) = question else {
                    return Ok(());
                };
                let text: String = Box::<str>::from(question).into();
                send(socket, Message::text(text)).await?;
            }
            message = socket.next() => {
                let message = message.ok_or(Gone::HungUp)??;
                acknowledge(socket.get_ref().get_ref());
                heard = true;
                pass_on(message, asking)?;
            }
            _ = signs.tick() => {
                if !std::mem::take(&mut heard) {
                    return Err(Gone::Silent);
                }
                send(socket, Message::Ping(tungstenite::Bytes::new())).await?;
            }
        }
    }
}

async fn send(socket: &mut Socket, message: Message) -> Result<(), Gone> {
    let sent = timeout(KEEP_ALIVE, socket.send(message)).await;
    Ok(sent.map_err(|_| Gone::Silent)??)
}

fn pass_on(message: Message, asking: &ConnectionInterface) -> Result<(), Gone> {
    match message {
        Message::Text(text) => {
            let item = serde_json::from_str(&text).map_err(Gone::Garbage)?;
            // Nobody listens any more: the next question says so.
            let _unheard = asking.send_to_frontend(item);
            Ok(())
        }
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
        Message::Close(_) => Err(Gone::HungUp),
        Message::Binary(_) => Err(Gone::Binary),
    }
}

/// Acknowledges what has come. The system forgets after a while that it was asked to, so it is asked each time.
#[cfg(target_os = "linux")]
fn acknowledge(stream: &TcpStream) {
    // Without the option, answers may only be late.
    let _no_such_option = rustix::net::sockopt::set_tcp_quickack(stream, true);
}

#[cfg(not(target_os = "linux"))]
const fn acknowledge(_: &TcpStream) {}

/// Why a connection has ended. Another one can be opened after each.
#[derive(Debug, thiserror::Error)]
enum Gone {
    #[error("the node has hung up")]
    HungUp,
    #[error("no sign of life for {KEEP_ALIVE:?}")]
    Silent,
    #[error("a binary message, which JSON-RPC does not have")]
    Binary,
    #[error("a message that is no JSON-RPC: {0}")]
    Garbage(serde_json::Error),
    #[error(transparent)]
    Socket(#[from] tungstenite::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::{
        providers::{Provider, ProviderBuilder},
        transports::TransportError,
    };
    use tokio::net::TcpListener;

    async fn listen() -> (TcpListener, Undelayed) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        (listener, Undelayed::at(&url))
    }

    async fn accepted(listener: &TcpListener) -> WebSocketStream<TcpStream> {
        let (stream, _) = listener.accept().await.unwrap();
        tokio_tungstenite::accept_async(stream).await.unwrap()
    }

    #[tokio::test]
    async fn nagles_algorithm_is_off() {
        let (listener, connect) = listen().await;
        let (opened, _served) = tokio::join!(connect.open(), accepted(&listener));
        let socket = opened.unwrap();
        assert!(socket.get_ref().get_ref().nodelay().unwrap());
    }

    /// A system delays its acknowledgements on a connection of questions and answers; not on this one, once it was used.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_comes_is_acknowledged_at_once() {
        let quick = |socket: &Socket| {
            rustix::net::sockopt::tcp_quickack(socket.get_ref().get_ref()).unwrap()
        };
        let (listener, connect) = listen().await;
        let (opened, mut served) = tokio::join!(connect.open(), accepted(&listener));
        let mut socket = opened.unwrap();
        let mut is_delayed = false;
        for _ in 0..64 {
            socket.send(Message::text("1")).await.unwrap();
            let question = served.next().await.unwrap().unwrap();
            served.send(question).await.unwrap();
            socket.next().await.unwrap().unwrap();
            is_delayed |= !quick(&socket);
        }
        assert!(is_delayed, "it would be acknowledged at once in any case");

        let (_asking, mut interface) = ConnectionHandle::new();
        let notice = r#"{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x1","result":1}}"#;
        served.send(Message::text(notice)).await.unwrap();
        drop(served);
        assert!(carry(&mut socket, &mut interface).await.is_err());
        assert!(quick(&socket));
    }

    #[tokio::test]
    async fn a_node_that_talks_nonsense_is_left() {
        for nonsense in [Message::text("{"), Message::binary(vec![1])] {
            let (listener, connect) = listen().await;
            let serve = async {
                let mut socket = accepted(&listener).await;
                let _question = socket.next().await;
                socket.send(nonsense).await.unwrap();
                while let Some(Ok(_)) = socket.next().await {}
            };
            let ask = async {
                let builder = ProviderBuilder::new().disable_recommended_fillers();
                let provider = builder.connect_pubsub_with(connect).await.unwrap();
                provider.get_chain_id().await
            };
            let (answer, ()) = tokio::join!(ask, serve);
            assert!(
                matches!(answer, Err(TransportError::Transport(_))),
                "{answer:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_gives_no_sign_of_life_is_left() {
        let (listener, connect) = listen().await;
        let serve = async {
            let _never_read = accepted(&listener).await;
            std::future::pending::<()>().await;
        };
        let ask = async {
            let builder = ProviderBuilder::new().disable_recommended_fillers();
            let provider = builder.connect_pubsub_with(connect).await.unwrap();
            provider.get_chain_id().await
        };
        let answer = tokio::select! {
            () = serve => unreachable!("it never ends"),
            answer = ask => answer,
        };
        assert!(
            matches!(answer, Err(TransportError::Transport(_))),
            "{answer:?}"
        );
    }
}
