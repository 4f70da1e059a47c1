//! The same path against Anvil, a node that is not ours.

use crate::world::{Callback, Consumer, MemoryOutbox, World};
use alloy::{
    primitives::{B256, U256, keccak256},
    signers::local::{MnemonicBuilder, coins_bip39::English},
};
use cryptlet_chain::Chain;
use cryptlet_deliver::{Deliverer, Outcome};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

const MNEMONIC: &str = "test test test test test test test test test test test junk";

/// Killed when dropped.
struct Anvil {
    process: Child,
    url: String,
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Installs the pinned Anvil if it is missing, and starts it on a free port.
fn anvil() -> Anvil {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/anvil");
    let program = folder.join("node_modules/.bin/anvil");
    if !program.exists() {
        let installed = Command::new("npm").arg("ci").current_dir(&folder).status();
        assert!(installed.unwrap().success(), "npm ci");
    }
    let mut process = Command::new(program)
        .args(["--port", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let address = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("Listening on ").map(str::to_owned))
        .expect("anvil listens");
    Anvil {
        process,
        url: format!("http://{address}"),
    }
}

/// A first report, delivered, proven by the node's own blocks, and found again.
pub(crate) async fn delivered_and_proven(
    world: &World,
    consumer: &Consumer,
    deliverer: &Deliverer,
) {
    let order = world.order(consumer, 1, 7).await;
    let Outcome::Delivered(delivery) = deliverer.deliver(&order).await.unwrap() else {
        panic!("not delivered")
    };
    assert!(delivery.report.success, "{delivery:?}");
    world.stores(consumer, 7).await;
    let inclusion = world.chain.inclusion(delivery.transaction).await.unwrap();
    assert_eq!(keccak256(&inclusion.header), delivery.block_hash);
    let again = deliverer.deliver(&order).await.unwrap();
    assert_eq!(again, Outcome::Delivered(delivery));
    let head = world.chain.head().await.unwrap();
    let changes = world.chain.subscription_changes(0..=head.number).await;
    let changes = changes.unwrap();
    assert_eq!(changes.len(), 2, "subscribed, and consumed: {changes:?}");
}

#[tokio::test]
async fn a_report_is_delivered_and_proven_on_anvil() {
    if std::env::var_os("CRYPTLET_CLIENT_TESTS").is_none_or(|value| value != "1") {
        eprintln!("skipped: needs npm and the network; set CRYPTLET_CLIENT_TESTS=1");
        return;
    }
    let anvil = anvil();
    let keys: Vec<B256> = (0..2)
        .map(|index| {
            let builder = MnemonicBuilder::<English>::default().phrase(MNEMONIC);
            builder.index(index).unwrap().build().unwrap().to_bytes()
        })
        .collect();
    let world = World::build(&anvil.url, &keys).await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let outbox = MemoryOutbox::new();
    let deliverer = world.deliverer(&outbox);

    delivered_and_proven(&world, &consumer, &deliverer).await;
    world.check_broadcast_errors().await;
    world.automine(false).await;
    let order = world.order(&consumer, 2, 8).await;
    // A machine that is busy may have seen the first report replaced too.
    let before = outbox.written().len();
    let task = tokio::spawn(async move { deliverer.deliver(&order).await.unwrap() });
    outbox.wait_for(before + 2).await;
    let outcome = world.mine_until(task).await.unwrap();
    assert!(matches!(outcome, Outcome::Delivered(_)), "{outcome:?}");
    assert_eq!(world.word(&consumer).await, U256::from(8));
}
