//! `eth_subscribe`: new heads, logs and accepted transactions, pushed as they happen.

use std::{sync::Arc, time::Duration};

use alloy_rpc_types_eth::Filter;
use jsonrpsee::{
    SubscriptionMessage, SubscriptionSink,
    core::{SubscriptionError, server::PendingSubscriptionSink, traits::IdProvider},
    types::{Params, SubscriptionId},
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{args::Args, convert, error::RpcError};
use crate::{
    backend::{Backend, Event},
    logs,
};

/// How long a subscriber may take to make room for one message before it is dropped.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Gives subscriptions random hexadecimal ids: viem ignores events of numeric ones.
#[derive(Debug)]
pub(super) struct HexIds;

impl IdProvider for HexIds {
    fn next_id(&self) -> SubscriptionId<'static> {
        let id = jsonrpsee::server::RandomIntegerIdProvider.next_id();
        match id {
            SubscriptionId::Num(number) => format!("{number:#x}").into(),
            SubscriptionId::Str(_) => id,
        }
    }
}

/// What a subscriber asked for.
enum Topic {
    Heads,
    Logs(Box<Filter>),
    Accepted { full: bool },
}

impl Topic {
    fn parse(params: &Params<'_>) -> Result<Self, RpcError> {
        let mut args = Args::new(params);
        let kind: String = args.required("subscription")?;
        let topic = match kind.as_str() {
            "newHeads" => Self::Heads,
            "logs" => Self::Logs(args.optional("filter")?.unwrap_or_default()),
            "newPendingTransactions" => Self::Accepted {
                full: args.optional("full")?.unwrap_or_default(),
            },
            other => {
                let message = format!("no {other:?} subscription in eth namespace");
                return Err(RpcError::InvalidParams(message));
            }
        };
        args.end()?;
        Ok(topic)
    }

    /// The messages that `event` means for this subscriber.
    fn messages(&self, event: &Event) -> Result<Vec<Box<RawValue>>, serde_json::Error> {
        match (self, event) {
            (Self::Heads, Event::Mined(block)) => encode([convert::header(block)]),
            (Self::Logs(filter), Event::Mined(block)) => {
                encode(logs::matching(block, filter, false))
            }
            (Self::Logs(filter), Event::Removed(blocks)) => encode(
                blocks
                    .iter()
                    .flat_map(|block| logs::matching(block, filter, true)),
            ),
            (Self::Accepted { full: false }, Event::Accepted(transaction)) => {
                encode([transaction.tx_hash()])
            }
            (Self::Accepted { full: true }, Event::Accepted(transaction)) => {
                encode([convert::waiting(transaction)])
            }
            _ => Ok(Vec::new()),
        }
    }
}

fn encode<T: Serialize>(
    items: impl IntoIterator<Item = T>,
) -> Result<Vec<Box<RawValue>>, serde_json::Error> {
    items.into_iter().map(|item| to_raw_value(&item)).collect()
}

/// Serves one subscription until the client ends it or falls behind. A client that does not read
/// is dropped; it never slows block production down.
pub(super) async fn serve(
    params: Params<'static>,
    pending: PendingSubscriptionSink,
    backend: Arc<Backend>,
) -> Result<(), SubscriptionError> {
    let topic = match Topic::parse(&params) {
        Ok(topic) => topic,
        Err(error) => {
            pending.reject(error).await;
            return Ok(());
        }
    };
    // Before the client knows its id, so that it misses nothing after.
    let events = backend.subscribe();
    drop(backend);
    let Ok(sink) = pending.accept().await else {
        return Ok(());
    };
    forward(&topic, events, &sink).await
}

async fn forward(
    topic: &Topic,
    mut events: Receiver<Event>,
    sink: &SubscriptionSink,
) -> Result<(), SubscriptionError> {
    loop {
        let event = tokio::select! {
            () = sink.closed() => return Ok(()),
            event = events.recv() => event,
        };
        let event = match event {
            Ok(event) => event,
            Err(RecvError::Closed) => return Ok(()),
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "dropping a subscriber that fell behind");
                return Err(format!("subscription dropped: {missed} events behind").into());
            }
        };
        for message in topic.messages(&event)? {
            let message = SubscriptionMessage::from(message);
            if sink.send_timeout(message, SEND_TIMEOUT).await.is_err() {
                tracing::warn!("dropping a subscriber that does not read");
                return Ok(());
            }
        }
    }
}
