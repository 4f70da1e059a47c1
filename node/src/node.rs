//! Starting and stopping a node.

use std::{net::SocketAddr, sync::Arc};

use alloy_primitives::{Address, B256};
use jsonrpsee::server::ServerHandle;
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, MissedTickBehavior, interval_at},
};

use crate::{
    backend::Backend,
    config::{Mining, NodeConfig},
    error::NodeError,
    rpc,
};

/// A running node. Dropping it stops the node too, but does not wait for that.
pub struct Node {
    address: SocketAddr,
    accounts: Vec<(Address, B256)>,
    backend: Arc<Backend>,
    server: ServerHandle,
    miner: JoinHandle<()>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// Restores or creates the chain and serves it.
    ///
    /// # Errors
    /// A configuration that the chain cannot work with, an address that cannot be listened on, or
    /// a state file that cannot be used.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let listen = config.listen;
        let backend = spawn_blocking(move || Backend::open(&config))
            .await
            .map_err(|error| NodeError::Internal(error.to_string()))??;
        let backend = Arc::new(backend);
        let development = listen.ip().is_loopback();
        let methods = rpc::methods(Arc::clone(&backend), development)
            .map_err(|error| NodeError::Internal(error.to_string()))?;
        let (address, server) =
            rpc::serve(listen, methods)
                .await
                .map_err(|source| NodeError::Listen {
                    address: listen,
                    source,
                })?;
        let miner = tokio::spawn(mine_at_intervals(Arc::clone(&backend), backend.mining()));
        let accounts = backend
            .signers()
            .iter()
            .map(|signer| (signer.address(), signer.to_bytes()))
            .collect();
        tracing::info!(%address, chain_id = backend.head().id(), "node is serving");
        Ok(Self {
            address,
            accounts,
            backend,
            server,
            miner,
        })
    }

    /// The URL for HTTP.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The URL for WebSocket.
    pub fn ws_url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// The funded development accounts with their private keys, which are public knowledge.
    pub fn accounts(&self) -> &[(Address, B256)] {
        &self.accounts
    }

    /// Stops serving and mining, waits until both have ended, and flushes and closes the state file.
    ///
    /// # Errors
    /// The state file could not be flushed.
    pub async fn shutdown(self) -> Result<(), NodeError> {
        // An error means that the server has stopped already.
        let _ = self.server.stop();
        self.miner.abort();
        self.server.clone().stopped().await;
        let backend = Arc::clone(&self.backend);
        spawn_blocking(move || backend.close())
            .await
            .map_err(|error| NodeError::Internal(error.to_string()))??;
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.server.stop();
        self.miner.abort();
    }
}

/// Mines whenever the interval has passed, as long as mining goes by interval.
async fn mine_at_intervals(backend: Arc<Backend>, mut mining: watch::Receiver<Mining>) {
    loop {
        let mode = *mining.borrow_and_update();
        let Mining::Interval(period) = mode else {
            if mining.changed().await.is_err() {
                return;
            }
            continue;
        };
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let backend = Arc::clone(&backend);
                    match spawn_blocking(move || backend.mine(1, None)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => tracing::error!(%error, "no block was made"),
                        Err(error) => tracing::error!(%error, "no block was made"),
                    }
                }
                changed = mining.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    break;
                }
            }
        }
    }
}
