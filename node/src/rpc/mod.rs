//! The JSON-RPC interface: which methods there are, and how they are served.

mod args;
mod call;
mod chain;
mod convert;
mod dev;
mod error;
mod fees;
mod net;
mod origin;
mod send;
mod state;
mod subscribe;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use jsonrpsee::{
    RpcModule,
    core::RegisterMethodError,
    server::{BatchRequestConfig, PingConfig, Server, ServerConfig, ServerHandle},
};
use serde::Serialize;
use tower::ServiceBuilder;

use self::{args::Args, error::RpcError};
use crate::backend::Backend;

/// Largest request body, in bytes.
const MAX_REQUEST_BYTES: u32 = 5 * 1024 * 1024;
/// Largest response body, in bytes.
const MAX_RESPONSE_BYTES: u32 = 128 * 1024 * 1024;
const MAX_BATCH: u32 = 500;
const MAX_CONNECTIONS: u32 = 512;
const MAX_SUBSCRIPTIONS_PER_CONNECTION: u32 = 128;
/// Messages that wait for a slow client before its subscriptions are dropped.
const MESSAGE_BUFFER: u32 = 1_024;

type Module = RpcModule<Arc<Backend>>;
type Handler<T> = fn(&Backend, Args<'_>) -> Result<T, RpcError>;

/// Adds methods that only read: they take no lock for long and run where the request is handled.
macro_rules! reads {
    ($module:ident, $($name:literal => $handler:path),+ $(,)?) => { $(read($module, $name, $handler)?;)+ };
}

/// Adds methods that execute code, search the chain or change it: they run on threads that may
/// block.
macro_rules! works {
    ($module:ident, $($name:literal => $handler:path),+ $(,)?) => { $(work($module, $name, $handler)?;)+ };
}

fn read<T>(
    module: &mut Module,
    name: &'static str,
    handler: Handler<T>,
) -> Result<(), RegisterMethodError>
where
    T: Serialize + Clone + 'static,
{
    module.register_method(name, move |params, backend, _| {
        handler(backend, Args::new(&params))
    })?;
    Ok(())
}

fn work<T>(
    module: &mut Module,
    name: &'static str,
    handler: Handler<T>,
) -> Result<(), RegisterMethodError>
where
    T: Serialize + Clone + Send + 'static,
{
    module.register_blocking_method(name, move |params, backend, _| {
        handler(&backend, Args::new(&params))
    })?;
    Ok(())
}

/// The methods of every node.
fn public_methods(module: &mut Module) -> Result<(), RegisterMethodError> {
    reads!(module,
        "eth_chainId" => net::chain_id,
        "net_version" => net::version,
        "net_listening" => net::listening,
        "net_peerCount" => net::peer_count,
        "web3_clientVersion" => net::client_version,
        "web3_sha3" => net::sha3,
        "bletchley_delegate" => net::delegate,
        "eth_syncing" => chain::syncing,
        "eth_blockNumber" => chain::block_number,
        "eth_getTransactionByHash" => chain::transaction_by_hash,
        "eth_getRawTransactionByHash" => chain::raw_transaction,
        "eth_getTransactionReceipt" => chain::receipt,
        "eth_newFilter" => chain::new_filter,
        "eth_newBlockFilter" => chain::new_block_filter,
        "eth_newPendingTransactionFilter" => chain::new_pending_filter,
        "eth_uninstallFilter" => chain::uninstall_filter,
        "eth_gasPrice" => fees::gas_price,
        "eth_maxPriorityFeePerGas" => fees::tip,
        "eth_blobBaseFee" => fees::blob_base_fee,
        "eth_getTransactionCount" => state::transaction_count,
    );
    works!(module,
        "eth_getBlockByNumber" => chain::block_by_number,
        "eth_getBlockByHash" => chain::block_by_hash,
        "eth_getBlockReceipts" => chain::block_receipts,
        "eth_getBlockTransactionCountByNumber" => chain::transaction_count_by_number,
        "eth_getBlockTransactionCountByHash" => chain::transaction_count_by_hash,
        "eth_getTransactionByBlockNumberAndIndex" => chain::transaction_by_number,
        "eth_getTransactionByBlockHashAndIndex" => chain::transaction_by_block_hash,
        "eth_getLogs" => chain::get_logs,
        "eth_getFilterChanges" => chain::filter_changes,
        "eth_getFilterLogs" => chain::filter_logs,
        "eth_getBalance" => state::balance,
        "eth_getCode" => state::code,
        "eth_getStorageAt" => state::storage,
        "eth_getProof" => state::proof,
        "eth_feeHistory" => fees::history,
        "eth_call" => call::call,
        "eth_estimateGas" => call::estimate_gas,
        "eth_createAccessList" => call::create_access_list,
        "eth_sendRawTransaction" => send::send_raw,
    );
    module.register_subscription(
        "eth_subscribe",
        "eth_subscription",
        "eth_unsubscribe",
        |params, pending, backend, _| subscribe::serve(params, pending, Arc::clone(&backend)),
    )?;
    Ok(())
}

/// The methods that let every caller act for the development accounts and rewrite the chain.
fn development_methods(module: &mut Module) -> Result<(), RegisterMethodError> {
    reads!(module,
        "eth_accounts" => send::accounts,
        "anvil_impersonateAccount" => dev::impersonate,
        "anvil_stopImpersonatingAccount" => dev::stop_impersonating,
    );
    works!(module,
        "eth_sendTransaction" => send::send,
        "eth_sign" => send::sign,
        "personal_sign" => send::personal_sign,
        "eth_signTypedData_v4" => send::sign_typed_data,
        "evm_mine" => dev::evm_mine,
        "anvil_mine" => dev::anvil_mine,
        "evm_increaseTime" => dev::increase_time,
        "evm_setNextBlockTimestamp" => dev::set_next_timestamp,
        "evm_setTime" => dev::set_time,
        "evm_snapshot" => dev::snapshot,
        "evm_revert" => dev::revert,
        "evm_setAutomine" => dev::set_automine,
        "evm_setIntervalMining" => dev::set_interval_mining,
        "anvil_setBalance" => dev::set_balance,
        "anvil_setNonce" => dev::set_nonce,
        "anvil_setCode" => dev::set_code,
        "anvil_setStorageAt" => dev::set_storage,
    );
    for (alias, method) in [
        ("hardhat_mine", "anvil_mine"),
        ("hardhat_setBalance", "anvil_setBalance"),
        ("hardhat_setNonce", "anvil_setNonce"),
        ("hardhat_setCode", "anvil_setCode"),
        ("hardhat_setStorageAt", "anvil_setStorageAt"),
        ("hardhat_impersonateAccount", "anvil_impersonateAccount"),
        (
            "hardhat_stopImpersonatingAccount",
            "anvil_stopImpersonatingAccount",
        ),
        ("anvil_snapshot", "evm_snapshot"),
        ("anvil_revert", "evm_revert"),
        ("anvil_increaseTime", "evm_increaseTime"),
        ("anvil_setNextBlockTimestamp", "evm_setNextBlockTimestamp"),
        ("anvil_setTime", "evm_setTime"),
    ] {
        module.register_alias(alias, method)?;
    }
    Ok(())
}

/// The methods of a node; those for development only if `development`.
pub(crate) fn methods(
    backend: Arc<Backend>,
    development: bool,
) -> Result<Module, RegisterMethodError> {
    let mut module = RpcModule::new(backend);
    public_methods(&mut module)?;
    if development {
        development_methods(&mut module)?;
    }
    Ok(module)
}

/// Serves `methods` by HTTP and WebSocket; returns the address that was bound.
pub(crate) async fn serve(
    address: SocketAddr,
    methods: Module,
) -> io::Result<(SocketAddr, ServerHandle)> {
    let config = ServerConfig::builder()
        .max_request_body_size(MAX_REQUEST_BYTES)
        .max_response_body_size(MAX_RESPONSE_BYTES)
        .set_batch_request_config(BatchRequestConfig::Limit(MAX_BATCH))
        .max_connections(MAX_CONNECTIONS)
        .max_subscriptions_per_connection(MAX_SUBSCRIPTIONS_PER_CONNECTION)
        .set_message_buffer_capacity(MESSAGE_BUFFER)
        .enable_ws_ping(PingConfig::new().ping_interval(Duration::from_secs(30)))
        .set_tcp_no_delay(true)
        .set_id_provider(subscribe::HexIds)
        .build();
    let middleware = ServiceBuilder::new().layer_fn(origin::LocalOrigins::new);
    let server = Server::builder()
        .set_config(config)
        .set_http_middleware(middleware)
        .build(address)
        .await?;
    Ok((server.local_addr()?, server.start(methods)))
}
