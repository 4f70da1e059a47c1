//! What is asked of nodes, asked of one that is not ours.

use crate::support::{World, topic};
use alloy::{
    primitives::{B256, Bytes},
    signers::local::{MnemonicBuilder, coins_bip39::English},
};
use cryptlet_chain::{Chain, EvmChain, EvmConfig, EvmLogChain, LogChain, LogFilter};
use cryptlet_types::subscription::Finality;
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const MNEMONIC: &str = "test test test test test test test test test test test junk";

/// Killed when dropped.
struct Anvil {
    process: Child,
    address: String,
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Installs the pinned Anvil if it is missing, and starts it on a free port.
fn anvil() -> Anvil {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = workspace.join("pipeline/deliver/tests/anvil");
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
    Anvil { process, address }
}

#[tokio::test]
async fn heads_logs_and_receipts_of_anvil_are_read() {
    if std::env::var_os("CRYPTLET_CLIENT_TESTS").is_none_or(|value| value != "1") {
        eprintln!("skipped: needs npm and the network; set CRYPTLET_CLIENT_TESTS=1");
        return;
    }
    let anvil = anvil();
    let signer = MnemonicBuilder::<English>::default().phrase(MNEMONIC);
    let key = signer.index(0).unwrap().build().unwrap().to_bytes();
    let world = World::on(&format!("http://{}", anvil.address), key).await;
    let config = EvmConfig {
        poll_interval: Duration::from_secs(3600),
        ..world.config([format!("ws://{}", anvil.address)])
    };
    let chain = EvmLogChain::open(config.clone()).await.unwrap();
    let delegate = EvmChain::open(config).await.unwrap();
    let filter = LogFilter {
        emitters: vec![world.logger],
        topics: [vec![topic()], vec![], vec![], vec![]],
    };
    let mut head = crate::push::streaming(&world, &chain).await;
    let mut last = B256::ZERO;
    for byte in 0..5_u8 {
        let data = Bytes::from(vec![byte]);
        let (next, receipt) = tokio::join!(chain.next_head(&head), world.log(data));
        head = next.unwrap();
        last = receipt.transaction_hash;
        let logs = chain.logs_of_block(&head, &filter).await.unwrap();
        assert_eq!((logs.len(), logs[0].block_hash), (1, head.hash));
    }
    assert_eq!(chain.logs(&filter, 0..=head.number).await.unwrap().len(), 5);
    let outcomes = delegate.block_outcomes(head.hash).await.unwrap().unwrap();
    assert_eq!(outcomes[0].transaction, last);
    let proven = delegate.inclusions(head.hash, &[last]).await.unwrap();
    assert_eq!(proven[&last], delegate.inclusion(last).await.unwrap());
    let safe = chain.head(Finality::Safe).await.unwrap();
    assert!(safe.is_some());
    let asked = Instant::now();
    for _ in 0..20 {
        chain.header(1).await.unwrap();
    }
    eprintln!("20 questions one after the other: {:?}", asked.elapsed());
}
