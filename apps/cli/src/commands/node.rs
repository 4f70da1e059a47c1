//! `cryptlet node`: the embedded chain, by itself.

use crate::{
    args::NodeOptions,
    error::{CliError, Doing},
    screen::say,
};
use cryptlet_node::{Mining, Node, NodeConfig};
use std::{net::SocketAddr, process::ExitCode, time::Duration};

pub(crate) async fn run(options: NodeOptions) -> Result<ExitCode, CliError> {
    let json = options.json;
    let node = Node::start(config(options))
        .await
        .doing("the node did not start")?;
    if json {
        say(as_json(&node));
    } else {
        introduce(&node);
    }
    interrupted().await?;
    node.shutdown()
        .await
        .doing("the node did not stop cleanly")?;
    Ok(ExitCode::SUCCESS)
}

fn config(options: NodeOptions) -> NodeConfig {
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
        ..NodeConfig::default()
    }
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
