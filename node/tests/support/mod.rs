//! What the node's tests share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use alloy::{
    network::EthereumWallet,
    primitives::Address,
    providers::{DynProvider, Provider, ProviderBuilder, WsConnect},
    signers::local::PrivateKeySigner,
    sol,
};
use cryptlet_node::{Node, NodeConfig};
use futures::{Stream, StreamExt};

sol!(
    #[sol(rpc, extra_derives(Debug))]
    Probe,
    "tests/fixtures/Probe.json"
);

pub(crate) type ProbeInstance = Probe::ProbeInstance<DynProvider>;

/// A wall clock that only the test moves.
#[derive(Debug, Clone)]
pub(crate) struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    pub(crate) fn at(seconds: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seconds)))
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn install(&self, config: &mut NodeConfig) {
        let time = Arc::clone(&self.0);
        config.clock = Arc::new(move || time.load(Ordering::SeqCst));
    }
}

pub(crate) async fn start(config: NodeConfig) -> Node {
    Node::start(config).await.unwrap()
}

pub(crate) fn signer(node: &Node, index: usize) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&node.accounts()[index].1).unwrap()
}

/// A provider over HTTP that signs with the first development account.
pub(crate) fn http(node: &Node) -> DynProvider {
    // The HTTP client wants to know whose cryptography it would use, even where there is no TLS.
    let _known_already = rustls::crypto::ring::default_provider().install_default();
    let provider = ProviderBuilder::new()
        .wallet(EthereumWallet::from(signer(node, 0)))
        .connect_http(node.url().parse().unwrap());
    provider
        .client()
        .set_poll_interval(Duration::from_millis(20));
    provider.erased()
}

/// A provider over WebSocket that signs with the first development account.
pub(crate) async fn ws(node: &Node) -> DynProvider {
    ProviderBuilder::new()
        .wallet(EthereumWallet::from(signer(node, 0)))
        .connect_ws(WsConnect::new(node.ws_url()))
        .await
        .unwrap()
        .erased()
}

pub(crate) async fn deploy(provider: &DynProvider) -> ProbeInstance {
    Probe::deploy(provider.clone()).await.unwrap()
}

/// The next item, or a failure if it does not come within ten seconds.
pub(crate) async fn next<T>(stream: &mut (impl Stream<Item = T> + Unpin)) -> T {
    tokio::time::timeout(Duration::from_secs(10), stream.next())
        .await
        .unwrap()
        .unwrap()
}

/// The result of a method that the provider has no function for.
pub(crate) async fn raw<P, R>(provider: &DynProvider, method: &'static str, params: P) -> R
where
    P: alloy::rpc::json_rpc::RpcSend,
    R: alloy::rpc::json_rpc::RpcRecv,
{
    provider.raw_request(method.into(), params).await.unwrap()
}

/// The code and message of the error that the method gives.
pub(crate) async fn refused<P>(
    provider: &DynProvider,
    method: &'static str,
    params: P,
) -> (i64, String)
where
    P: alloy::rpc::json_rpc::RpcSend,
{
    let error = provider
        .raw_request::<P, serde_json::Value>(method.into(), params)
        .await
        .expect_err("the method accepted it");
    let payload = error.as_error_resp().expect("an error response").clone();
    (payload.code, payload.message.into_owned())
}

pub(crate) fn address(node: &Node, index: usize) -> Address {
    node.accounts()[index].0
}
