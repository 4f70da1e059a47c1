//! Unmodified viem, ethers, cast and forge drive a running node.
//!
//! The scripts need npm packages, so this runs only where `CRYPTLET_CLIENT_TESTS=1` says that they
//! may be installed; `make test` sets it.

use std::{path::Path, process::Stdio};

use cryptlet_node::{Node, NodeConfig};
use tokio::process::Command;

async fn run(program: &str, args: &[&str], node: Option<&Node>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let mut command = Command::new(program);
    command.args(args).current_dir(folder).stdin(Stdio::null());
    if let Some(node) = node {
        command
            .env("RPC_URL", node.url())
            .env("WS_URL", node.ws_url())
            .env("PRIVATE_KEY", node.accounts()[0].1.to_string());
    }
    let output = command.output().await.unwrap();
    assert!(
        output.status.success(),
        "{program} {args:?} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unmodified_clients_drive_the_node() {
    if std::env::var("CRYPTLET_CLIENT_TESTS").as_deref() != Ok("1") {
        eprintln!("skipped: CRYPTLET_CLIENT_TESTS is not 1, so npm packages may not be installed");
        return;
    }
    run("npm", &["ci", "--ignore-scripts"], None).await;
    run("node", &["probe.js"], None).await;
    for script in ["viem.js", "ethers.js", "foundry.js"] {
        let node = crate::support::start(NodeConfig::default()).await;
        run("node", &[script], Some(&node)).await;
        node.shutdown().await.unwrap();
    }
}
