//! `cryptlet node`: the embedded chain, by itself.

mod descriptor;

use crate::{
    args::NodeOptions,
    error::{CliError, Doing},
    screen::{say, say_json},
};
use cryptlet_node::{DelegateNotice, Mining, Node, NodeConfig};
use std::{net::SocketAddr, process::ExitCode, time::Duration};

pub(crate) async fn run(options: NodeOptions) -> Result<ExitCode, CliError> {
    let json = options.json;
    let notice = notice(&options).await?;
    let node = Node::start(config(options, notice))
        .await
        .doing("the node did not start")
        .map_err(|error| error.next("see what is named; --port 0 takes any free port"))?;
    if json {
        say_json(as_json(&node));
    } else {
        introduce(&node);
    }
    interrupted().await?;
    node.shutdown()
        .await
        .doing("the node did not stop cleanly")?;
    Ok(ExitCode::SUCCESS)
}

fn config(options: NodeOptions, delegate: Option<DelegateNotice>) -> NodeConfig {
    let mining = match options.block_time {
        Some(seconds) => Mining::Interval(Duration::from_secs(seconds)),
        None if options.no_mining => Mining::Manual,
        None => Mining::Instant,
    };
    NodeConfig {
        chain_id: options.chain_id,
        listen: SocketAddr::new(options.host, options.port),
        mining,
        state_file: options.state,
        delegate,
        ..NodeConfig::default()
    }
}

/// What the node tells about the delegate: the document at the given place, if it is the one that the signature pins.
async fn notice(options: &NodeOptions) -> Result<Option<DelegateNotice>, CliError> {
    let (Some(path), Some(signature)) = (
        &options.crypto_delegate_path,
        &options.crypto_delegate_signature,
    ) else {
        return Ok(None);
    };
    let bytes = descriptor::read(path, options.crypto_delegate_authority.as_deref()).await?;
    let known = descriptor::check(&bytes, signature, options.chain_id)?;
    let document = serde_json::to_value(&known).doing("the delegate's document")?;
    Ok(Some(DelegateNotice {
        address: known.delegate.delegate,
        document,
    }))
}

/// Waits for Ctrl-C, or for the signal that a service manager sends.
pub(crate) async fn interrupted() -> Result<(), CliError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).doing("cannot listen for signals")?;
    tokio::select! {
        outcome = tokio::signal::ctrl_c() => outcome.doing("cannot listen for signals"),
        _ = terminate.recv() => Ok(()),
    }
}

fn introduce(node: &Node) {
    say(
        "Accounts for development. Their keys are public knowledge: never send them anything of value.\n",
    );
    for (address, key) in node.accounts() {
        say(format_args!("  {address}  {key}"));
    }
    say(format_args!(
        "\nHTTP       {}\nWebSocket  {}\n\nCtrl-C ends it.",
        node.url(),
        node.ws_url()
    ));
}

fn as_json(node: &Node) -> serde_json::Value {
    let account =
        |(address, key): &(_, _)| serde_json::json!({ "address": address, "privateKey": key });
    let accounts: Vec<_> = node.accounts().iter().map(account).collect();
    serde_json::json!({ "http": node.url(), "webSocket": node.ws_url(), "accounts": accounts })
}
