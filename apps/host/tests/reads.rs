//! Reads by ERC-3668: unmodified viem and ethers follow a contract's lookup to a running host's gateway, over real HTTPS.
//!
//! The script needs npm packages, so this runs only where `CRYPTLET_CLIENT_TESTS=1` says that they may be installed;
//! `make test` sets it.
use crate::support::{
    Play, RATES, due,
    office::{open, with_api},
    retry,
};
use alloy::{
    network::TransactionBuilder,
    primitives::{Address, U256, utils::parse_ether},
    providers::Provider,
    rpc::types::TransactionRequest,
    sol_types::SolValue,
};
use cryptlet_chain::evm::artifacts::init_code;
use cryptlet_host::Host;
use std::{fs, path::Path, process::Stdio};
use tokio::process::Command;

const SPOT_PRICE: &str = include_str!("../../../contracts/artifacts/SpotPrice.json");
/// Seconds of the contract's call window.
const WINDOW: u64 = 60;

/// Runs a program in the folder of the script, to its end.
async fn run(command: &mut Command) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let run = command.current_dir(folder).stdin(Stdio::null()).output();
    let output = run.await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}:\n{said}{complained}");
    said
}

async fn spot_price(play: &Play, host: &Host) -> Address {
    let gateway = format!("{}/v1/call/{{sender}}/{{data}}", host.api().unwrap().url);
    let stage = &play.stage;
    let arguments = (stage.delegate, stage.cryptlet.cryptlet.0, vec![gateway]);
    let code = init_code(SPOT_PRICE, &arguments.abi_encode_params()).unwrap();
    let create = TransactionRequest::default().with_deploy_code(code);
    let sent = stage.provider.send_transaction(create).await.unwrap();
    let receipt = sent.get_receipt().await.unwrap();
    receipt.contract_address.unwrap()
}

/// What viem and ethers read, or why they did not.
async fn read(play: &Play, host: &Host, contract: Address) -> [Result<U256, String>; 2] {
    let authority = play.folder.path().join("authority.pem");
    fs::write(&authority, &host.api().unwrap().authority).unwrap();
    let mut script = Command::new("node");
    script
        .arg("reads.js")
        .env("NODE_EXTRA_CA_CERTS", &authority)
        .env("RPC_URL", play.stage.url())
        .env("CONTRACT", contract.to_string())
        .env("CURRENCY", "USD");
    let said: serde_json::Value = serde_json::from_str(&run(&mut script).await).unwrap();
    ["viem", "ethers"].map(|client| match said[client]["value"].as_str() {
        Some(value) => Ok(value.parse().unwrap()),
        None => Err(said[client]["error"].to_string()),
    })
}

/// Dollars for one euro on a day of October 2026.
fn rate(day: u64) -> U256 {
    let date = format!("2026-10-{day:02},");
    let row = RATES.lines().find_map(|row| row.strip_prefix(&date));
    parse_ether(row.unwrap().split(',').next().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn viem_and_ethers_read_what_a_cryptlet_says_and_all_see_one_value_in_a_window() {
    if std::env::var("CRYPTLET_CLIENT_TESTS").as_deref() != Ok("1") {
        eprintln!("skipped: CRYPTLET_CLIENT_TESTS is not 1, so npm packages may not be installed");
        return;
    }
    run(Command::new("npm").args(["ci", "--ignore-scripts"])).await;
    let mut play = Play::market(retry(3)).await;
    let host = open(&with_api(play.config())).await;
    play.in_force(&host, 1).await;
    play.stage.set_time(due(12)).await.unwrap();
    let contract = spot_price(&play, &host).await;
    let both = |value: U256| [Ok(value), Ok(value)];
    assert_eq!(read(&play, &host, contract).await, both(rate(12)));

    // Whatever becomes of the feed, the window's answer stands.
    play.feed.shut().await;
    assert_eq!(read(&play, &host, contract).await, both(rate(12)));

    // The next window's cannot be made: readers get no value, not the old one, and hear why where their client tells.
    play.stage.set_time(due(12) + WINDOW).await.unwrap();
    let [viem, ethers] = read(&play, &host, contract).await.map(Result::unwrap_err);
    assert!(viem.contains("HTTP request failed"), "{viem}");
    assert!(ethers.contains("could not answer"), "{ethers}");

    play.feed.open();
    play.stage.set_time(due(13)).await.unwrap();
    assert_eq!(read(&play, &host, contract).await, both(rate(13)));
    assert_ne!(rate(12), rate(13));
}
