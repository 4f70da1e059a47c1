//! The same path against geth in its developer mode, where a Go toolchain is there to build it.

use crate::{
    anvil::delivered_and_proven,
    world::{Callback, MemoryOutbox, World, receipt},
};
use alloy::{
    primitives::{Address, B256, keccak256},
    providers::{Provider, ProviderBuilder},
    signers::local::PrivateKeySigner,
};
use cryptlet_chain::{Chain, EvmChain, EvmConfig};
use cryptlet_deliver::Outcome;
use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};
use tempfile::TempDir;

const VERSION: &str = "1.17.10";

/// Killed when dropped.
struct Geth {
    process: Child,
    http: String,
    ws: String,
    _folder: TempDir,
}

impl Drop for Geth {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The pinned geth, built outside of the clone if it is missing; nothing where there is no Go toolchain.
fn program() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or(home)?;
    let folder = cache.join(format!("bletchley/tools/geth-{VERSION}"));
    let program = folder.join("geth");
    if program.exists() {
        return Some(program);
    }
    Command::new("go").arg("version").output().ok()?;
    let package = format!("github.com/ethereum/go-ethereum/cmd/geth@v{VERSION}");
    let mut install = Command::new("go");
    install.args(["install", &package]).env("GOBIN", &folder);
    assert!(install.status().unwrap().success(), "{install:?}");
    Some(program)
}

/// A development chain that makes a block of each transaction.
fn start(program: PathBuf) -> Geth {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Command::new(program)
        .args(["--dev", "--dev.gaslimit", "30000000", "--ipcdisable"])
        .args(["--http", "--http.port", "0", "--ws", "--ws.port", "0"])
        .arg("--datadir")
        .arg(folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut http, mut ws) = (None, None);
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    while http.is_none() || ws.is_none() {
        let line = lines.next().expect("geth listens").unwrap();
        let value = |name: &str| {
            let mut words = line.split_whitespace();
            words.find_map(|word| word.strip_prefix(name).map(str::to_owned))
        };
        if line.contains("HTTP server started") {
            http = value("endpoint=").map(|place| format!("http://{place}"));
        } else if line.contains("WebSocket enabled") {
            ws = value("url=");
        }
    }
    // Its words are read on, or it would wait for somebody to.
    thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    Geth {
        process,
        http: http.unwrap(),
        ws: ws.unwrap(),
        _folder: folder,
    }
}

/// Gives ten ether of the developer's account to each key.
async fn fund(url: &str, keys: &[B256]) {
    let _known_already = rustls::crypto::ring::default_provider().install_default();
    let provider = ProviderBuilder::new()
        .connect_http(url.parse().unwrap())
        .erased();
    let rich: Vec<Address> = provider.get_accounts().await.unwrap();
    for key in keys {
        let to = PrivateKeySigner::from_bytes(key).unwrap().address();
        let transfer = serde_json::json!([{
            "from": rich[0], "to": to, "value": "0x8ac7230489e80000",
        }]);
        let sent = provider.raw_request::<_, B256>("eth_sendTransaction".into(), transfer);
        receipt(&provider, sent.await.unwrap()).await;
    }
}

#[tokio::test]
async fn reports_are_delivered_and_proven_on_geth() {
    if std::env::var_os("CRYPTLET_CLIENT_TESTS").is_none_or(|value| value != "1") {
        eprintln!("skipped: needs the network; set CRYPTLET_CLIENT_TESTS=1");
        return;
    }
    let Some(program) = program() else {
        eprintln!("skipped: there is no Go toolchain to build geth with");
        return;
    };
    let geth = start(program);
    let keys = [B256::repeat_byte(0x21), B256::repeat_byte(0x22)];
    fund(&geth.http, &keys).await;
    let world = World::build(&geth.http, &keys).await;
    // Its development chain goes by the rules of a coming fork, by which it costs more to begin to store.
    let consumer = world.consumer(Callback::Stores, 300_000).await;
    let outbox = MemoryOutbox::new();
    let deliverer = world.deliverer(&outbox);
    delivered_and_proven(&world, &consumer, &deliverer).await;

    // By WebSocket, a new head is pushed, and is that of the block that holds the next delivery.
    let config = EvmConfig {
        poll_interval: Duration::from_secs(3_600),
        ..EvmConfig::new(&geth.ws, world.delegate)
    };
    let pushing = EvmChain::open(config).await.unwrap();
    let head = pushing.head().await.unwrap();
    let order = world.order(&consumer, 2, 8).await;
    let (next, outcome) = tokio::join!(pushing.next_head(&head), deliverer.deliver(&order));
    let Outcome::Delivered(delivery) = outcome.unwrap() else {
        panic!("not delivered")
    };
    assert_eq!(next.unwrap().hash, delivery.block_hash);
    let inclusion = world.chain.inclusion(delivery.transaction).await.unwrap();
    assert_eq!(keccak256(&inclusion.header), delivery.block_hash);
    world.stores(&consumer, 8).await;
}
