//! The walks of the documents, word for word, with the built programs: an author and a contract developer who never met
//! get from `cryptlet new` to a delivery, and on through versions, rotation, restarts and revocation.
//!
//! The contract developer's half needs forge and npm packages, so it runs only where `CRYPTLET_CLIENT_TESTS=1` says that
//! they may be installed; `make test` sets it.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test stops where it goes wrong, and says what it saw"
)]

mod support;

use alloy::{
    network::TransactionBuilder,
    primitives::{Address, Bytes, U256, keccak256, utils::parse_ether},
    providers::{Provider, ProviderBuilder},
    rpc::types::TransactionRequest,
    sol_types::SolValue,
};
use cryptlet_chain::evm::artifacts::init_code;
use cryptlet_register::{OciAuth, OciReference, OciRegistries};
use cryptlet_types::{TriggerSpec, subscription::ClockSpec};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use support::{
    Machine,
    docs::{blocks, commands, only},
    registry::{Registry, free_port},
};

const RATES: &str = include_str!("../../../data/ecb-reference-rates.csv");
const QUEUE: &str = include_str!("../../../contracts/artifacts/MessageQueue.json");
/// The account that the contract developer deploys from.
const DEVELOPER: &str = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC";
/// Longest way from `publish` to a `search` that finds it, on the embedded chain.
const SEARCHABLE: Duration = Duration::from_secs(2);
/// Ports of nobody else, for tests that run beside the walk with its own.
const ANY_PORTS: &str = "cryptlet dev --rpc-port 0 --api-port 0";

/// The walk of the documents.
struct Walk {
    machine: Machine,
    /// Folders: the author's project, the contract developer's.
    author: PathBuf,
    developer: PathBuf,
    commands: usize,
}

impl Walk {
    /// The author's half: up to a cryptlet that a search finds.
    fn of_author(machine: Machine, page: &[support::docs::Block]) -> Self {
        let mut folder = machine.folder.clone();
        let walk = commands(page, "The walk");
        for line in &walk {
            if let Some(into) = line.strip_prefix("cd ") {
                folder.push(into);
                continue;
            }
            let said = machine.run(&folder, line);
            assert!(said.good, "{line}\n{}{}", said.out, said.err);
            if line.starts_with("cryptlet publish") {
                let found = machine.run(&machine.folder, "cryptlet search gold-price");
                assert!(found.out.contains("gold-price"), "{}", found.out);
                let took = said.took + found.took;
                println!("publish to searchable: {took:.1?}");
                assert!(took <= SEARCHABLE, "{took:?}");
            }
        }
        Self {
            developer: machine.folder.join("consumer"),
            machine,
            author: folder,
            commands: walk.len(),
        }
    }

    /// The contract developer's half: up to the first delivery. Returns the contract.
    fn of_developer(&mut self, page: &[support::docs::Block]) -> Address {
        fs::create_dir_all(self.developer.join("src")).unwrap();
        for (info, file) in [
            ("toml foundry.toml", "foundry.toml"),
            ("solidity src/Consumer.sol", "src/Consumer.sol"),
        ] {
            fs::write(self.developer.join(file), only(page, info)).unwrap();
        }
        let mut consumer = None;
        for line in commands(page, "The walk") {
            self.commands += 1;
            if line.ends_with("--follow") {
                let following = self.machine.start(&self.developer, &line);
                following.until("delivered");
                following.interrupt();
                continue;
            }
            let out = self.machine.good(&self.developer, &line);
            let deployed = out
                .lines()
                .find_map(|line| line.strip_prefix("Deployed to: "));
            consumer = deployed
                .map(|address| address.parse().unwrap())
                .or(consumer);
        }
        consumer.unwrap()
    }

    fn cryptlet(&self, line: &str) -> String {
        self.machine.good(&self.author, line)
    }

    /// Waits for a job that is newer than all there are, and returns how it ended.
    fn next_job(&self) -> (String, String) {
        let last = |jobs: &[Value]| jobs.iter().map(|job| job["due"].as_u64().unwrap()).max();
        let before = last(&self.machine.json(&self.author, "cryptlet trace"));
        let following = self
            .machine
            .start(&self.author, "cryptlet trace --follow --json");
        loop {
            let job: Value = serde_json::from_str(&following.until("{")).unwrap();
            let state = job["state"].as_str().unwrap();
            if job["due"].as_u64() > before && matches!(state, "delivered" | "failed" | "skipped") {
                let id = job["job"].as_str().unwrap();
                return (state.to_owned(), id.to_owned());
            }
        }
    }
}

/// What a function without arguments returns: one word.
async fn read(url: &str, contract: Address, function: &str) -> U256 {
    let _known_already = rustls::crypto::ring::default_provider().install_default();
    let provider = ProviderBuilder::new().connect_http(url.parse().unwrap());
    let selector = Bytes::copy_from_slice(&keccak256(function)[..4]);
    let request = TransactionRequest::default()
        .to(contract)
        .input(selector.into());
    U256::from_be_slice(&provider.call(request).await.unwrap())
}

/// Dollars for a euro on the last day of the feed.
fn rate() -> U256 {
    let newest = RATES.lines().nth(1).unwrap();
    parse_ether(newest.split(',').nth(1).unwrap()).unwrap()
}

fn may_install() -> bool {
    let may = std::env::var("CRYPTLET_CLIENT_TESTS").as_deref() == Ok("1");
    if !may {
        eprintln!("skipped: CRYPTLET_CLIENT_TESTS is not 1, so npm packages may not be installed");
    }
    may
}

#[tokio::test(flavor = "multi_thread")]
async fn from_new_to_the_first_delivery_in_ten_commands_and_on() {
    if !may_install() {
        return;
    }
    let (author, developer) = (blocks("authors.md"), blocks("contract-developers.md"));
    let machine = Machine::new("docs").with_forge();
    let serve = only(&author, "sh server").trim().to_owned();
    let dev = machine.dev(&serve);
    let mut walk = Walk::of_author(machine, &author);
    let consumer = walk.of_developer(&developer);
    println!(
        "{} commands from `cryptlet new` to the first delivery",
        walk.commands
    );
    assert!(walk.commands <= 10, "{}", walk.commands);

    let status = walk.machine.json(&walk.author, "cryptlet status").remove(0);
    let url = status["rpc"].as_str().unwrap().to_owned();
    assert_eq!(read(&url, consumer, "rate()").await, rate());
    let host: Address = status["host"].as_str().unwrap().parse().unwrap();
    let recorded = read(&url, consumer, "attestedHost()").await;
    assert_eq!(
        recorded,
        U256::from_be_slice(host.as_slice()),
        "the attested host is recorded"
    );

    every_listing_is_json(&walk.machine, &walk.author, true);
    for line in commands(&author, "Before you publish") {
        walk.cryptlet(&line);
    }
    a_changed_header_is_refused_until_it_is_accepted(&walk, &author, &developer);
    let queue = queue(&walk, &status).await;
    let dev = stopped_and_killed_it_goes_on(&walk, dev, &serve);
    a_queue_is_judged_by_the_logs(&walk, &url, queue, consumer).await;
    a_revoked_cryptlet_wakes_nobody(&walk, &dev, &author);
    nodes_are_told_of_the_delegate(&walk.machine, &status).await;
    dev.interrupt();
    nodes_are_told_of_it_by_a_file(&walk.machine, &status).await;
}

/// A queue that keeps what the cryptlet says each minute.
async fn queue(walk: &Walk, status: &Value) -> Address {
    let address = |value: &Value| value.as_str().unwrap().parse::<Address>().unwrap();
    let shown = walk.machine.json(&walk.author, "cryptlet show gold-price");
    let clock = TriggerSpec::Clock(ClockSpec {
        cron: "* * * * *".into(),
        time_zone: "UTC".into(),
    });
    let arguments = (
        address(&status["delegate"]),
        address(&shown[0]["cryptlet"]["cryptlet"]),
        U256::from(250_000),
        U256::from(3_600),
        U256::from(clock.number()),
        clock.encode_condition(),
        Bytes::from("USD".to_owned().abi_encode()),
    );
    let code = init_code(QUEUE, &arguments.abi_encode_params()).unwrap();
    let provider =
        ProviderBuilder::new().connect_http(status["rpc"].as_str().unwrap().parse().unwrap());
    let request = TransactionRequest::default()
        .from(DEVELOPER.parse().unwrap())
        .with_deploy_code(code);
    let sent = provider.send_transaction(request).await.unwrap();
    let receipt = sent.get_receipt().await.unwrap();
    receipt.contract_address.unwrap()
}

async fn a_queue_is_judged_by_the_logs(walk: &Walk, url: &str, queue: Address, other: Address) {
    let until = Instant::now() + Duration::from_secs(130);
    while read(url, queue, "count()").await.is_zero() {
        assert!(Instant::now() < until, "the queue has no message");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let found = walk
        .machine
        .json(&walk.author, &format!("cryptlet audit {queue}"))
        .remove(0);
    assert!(found["messages"].as_u64().unwrap() > 0, "{found}");
    assert_eq!(found["chainHash"], found["replayed"]);
    assert_eq!(found["differences"], json!([]));
    let said = walk.cryptlet(&format!("cryptlet audit {queue}"));
    assert!(said.contains("ok"), "{said}");

    // An auditor who leaves logs out, or looks at something else, does not hear that all is well.
    let late = format!("cryptlet audit {queue} --from-block 1000000");
    let late = walk.machine.run(&walk.author, &late);
    assert!(!late.good && late.out.contains("FAIL"), "{}", late.out);
    let said = walk
        .machine
        .refused(&walk.author, &format!("cryptlet audit {other}"));
    assert!(said.contains("cannot read the queue"), "{said}");
}

/// A new version, then a rotated key: contract developers are told, and nothing is written until they agree.
fn a_changed_header_is_refused_until_it_is_accepted(
    walk: &Walk,
    author: &[support::docs::Block],
    developer: &[support::docs::Block],
) {
    let machine = &walk.machine;
    let accept = only(developer, "sh later").trim();
    machine.good(&walk.developer, "cryptlet import --check");
    for heading in ["A further version", "Keys"] {
        for line in commands(author, heading) {
            walk.cryptlet(&line);
        }
        let header = walk.developer.join("src/cryptlets/GoldPrice.sol");
        let before = fs::read(&header).unwrap();
        let said = machine.refused(&walk.developer, "cryptlet import gold-price");
        assert!(
            said.contains("public key: ") && said.contains("--accept"),
            "{said}"
        );
        assert_eq!(fs::read(&header).unwrap(), before);
        machine.refused(&walk.developer, "cryptlet import gold-price --check");
        machine.good(&walk.developer, accept);
        machine.good(&walk.developer, "cryptlet import gold-price --check");
    }
    let said = machine.refused(&walk.developer, "cryptlet import silver-price --check");
    assert!(
        said.contains("silver-price: is not imported here"),
        "{said}"
    );
}

/// Stopped, everything is kept; killed, it delivers again by the newest version after it is started again.
fn stopped_and_killed_it_goes_on(
    walk: &Walk,
    dev: support::Running,
    serve: &str,
) -> support::Running {
    let machine = &walk.machine;
    let looks = [
        "show gold-price",
        "subscriptions",
        "keys list",
        "policy show",
        "token list",
    ];
    let look = || looks.map(|what| machine.good(&walk.author, &format!("cryptlet {what} --json")));
    // When it is due next, and the policy's epoch, are other ones after a minute and after a start.
    let steady = |texts: [String; 5]| {
        let [shown, subscriptions, keys, _, tokens] = texts;
        let version = |text: &str| {
            serde_json::from_str::<Value>(text).unwrap()["cryptlet"]["versions"].clone()
        };
        (version(&shown), subscriptions.lines().count(), keys, tokens)
    };
    let before = steady(look());
    dev.interrupt();
    let said = machine.refused(&walk.author, "cryptlet status");
    assert!(said.contains("cryptlet dev"), "{said}");
    let dev = machine.dev(serve);
    assert_eq!(steady(look()), before);
    dev.kill();
    let dev = machine.dev(serve);
    assert_eq!(steady(look()), before);
    let (state, job) = walk.next_job();
    assert_eq!(state, "delivered");
    let trace = machine
        .json(&walk.author, &format!("cryptlet trace {job}"))
        .remove(0);
    let current = before.0.as_array().unwrap().last().unwrap();
    assert_eq!(trace["packageDigest"], current["packageDigest"]);
    dev
}

/// The next moment of the subscription is refused, and `cryptlet dev` says why.
fn a_revoked_cryptlet_wakes_nobody(
    walk: &Walk,
    dev: &support::Running,
    author: &[support::docs::Block],
) {
    for line in commands(author, "Revoking") {
        walk.cryptlet(&line);
    }
    let shown = walk.cryptlet("cryptlet show gold-price");
    assert!(shown.contains("the whole cryptlet, for ever"), "{shown}");
    let listed = walk.cryptlet("cryptlet subscriptions");
    assert!(
        listed.contains("refused") && listed.contains("revoked"),
        "{listed}"
    );
    let said = dev.until("was revoked");
    assert!(said.starts_with("refused"), "{said}");
}

/// Lines of a listing that are JSON, one at least if `filled`.
fn every_listing_is_json(machine: &Machine, folder: &Path, filled: bool) {
    let account = "--dev-account 1";
    machine.good(
        folder,
        &format!("cryptlet delegation sign gold-price {account}"),
    );
    let listings = [
        ("status", true),
        ("search", true),
        ("search gold", true),
        ("show gold-price", true),
        ("explain gold-price", true),
        ("subscriptions", filled),
        ("trace", filled),
        ("keys list", true),
        ("policy show", true),
        ("delegation list", true),
        ("token list", true),
    ];
    for (listing, some) in listings {
        let items = machine.json(folder, &format!("cryptlet {listing}"));
        assert!(items.iter().all(Value::is_object), "{listing}: {items:?}");
        assert!(!some || !items.is_empty(), "{listing} is empty");
        let text = machine.good(folder, &format!("cryptlet {listing}"));
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
        // A policy is a document, and may hold certificates.
        let fits = widest <= 100 || listing == "policy show";
        assert!(fits, "{listing} is {widest} columns wide:\n{text}");
    }
    if filled {
        let job = &machine.json(folder, "cryptlet trace --limit 1")[0]["job"];
        let job = job.as_str().unwrap();
        for words in [format!("trace {job}"), format!("trace {job} --follow")] {
            assert!(
                !machine
                    .json(folder, &format!("cryptlet {words}"))
                    .is_empty()
            );
        }
    }
}

#[test]
fn every_listing_is_json_when_asked_and_text_within_100_columns() {
    let machine = Machine::new("listings");
    let _dev = machine.dev(ANY_PORTS);
    machine.good(&machine.folder, "cryptlet new gold-price --kind utility");
    let project = machine.folder.join("gold-price");
    let published = machine
        .json(&project, "cryptlet publish --dev-account 1")
        .remove(0);
    let host = &machine.json(&project, "cryptlet status")[0]["host"];
    let shown = &machine.json(&project, "cryptlet show gold-price")[0]["cryptlet"];
    assert_eq!(&shown["hosts"][0]["host"], host, "the host is assigned");
    assert_eq!(published["number"], 1);
    every_listing_is_json(&machine, &project, false);
    for line in [
        "cryptlet check",
        "cryptlet test",
        "cryptlet build",
        "cryptlet keys export-public",
    ] {
        let line = if line.contains("export") {
            line.to_owned()
        } else {
            format!("{line} --json")
        };
        let out = machine.good(&project, &line);
        assert!(
            out.lines()
                .all(|line| serde_json::from_str::<Value>(line).is_ok()),
            "{out}"
        );
    }
}

#[test]
fn secret_code_is_published_agreed_to_and_handed_on_by_the_command_line() {
    let machine = Machine::new("secret");
    let _dev = machine.dev(ANY_PORTS);
    machine.good(&machine.folder, "cryptlet new gold-price --kind utility");
    let project = machine.folder.join("gold-price");
    let file = project.join("cryptlet.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    // The account that deploys contracts in these walks is development account 2.
    manifest["config"]["secretCode"] = json!({ "counterparties": [DEVELOPER] });
    fs::write(&file, manifest.to_string()).unwrap();

    // It is no secret to its author.
    for line in ["cryptlet check", "cryptlet test"] {
        machine.good(&project, line);
    }
    let revealed = machine.run(&project, "cryptlet publish --dev-account 1 --source");
    assert!(!revealed.good && revealed.err.contains("without --source"));
    let published = machine.run(&project, "cryptlet publish --dev-account 1");
    assert!(published.good, "{}", published.err);
    assert!(published.err.contains("of the secret code is at the host"));
    let keys: Vec<_> = fs::read_dir(project.join("secret-code")).unwrap().collect();
    let [Ok(key)] = keys.as_slice() else {
        panic!("{keys:?}")
    };
    let key = fs::read_to_string(key.path()).unwrap();
    for said in [&published.out, &published.err] {
        assert!(!said.contains(key.trim()), "a key is shown");
    }

    let of = |line: &str| machine.json(&project, &format!("cryptlet secret-code {line}"));
    let shown = &of("show gold-price")[0];
    assert_eq!(
        (&shown["hasKey"], &shown["ready"]),
        (&json!(true), &json!(false))
    );
    let code = "--code target/cryptlet/gold-price.wasm";
    let stranger = format!("cryptlet secret-code agree gold-price {code} --dev-account 1");
    let refused = machine.run(&project, &stranger);
    assert!(!refused.good && refused.err.contains("none of the counterparties"));
    let agreed = &of(&format!("agree gold-price {code} --dev-account 2"))[0];
    assert_eq!(agreed["ready"], true);
    let digest =
        cryptlet_seal::sha256(&fs::read(project.join("target/cryptlet/gold-price.wasm")).unwrap());
    assert_eq!(agreed["counterparties"][0]["code"], digest.to_string());
    let file = format!("secret-code/{:x}.key", digest.0);
    assert_eq!(of(&format!("give-key gold-price --key {file}"))[0], *agreed);
    let text = machine.good(
        &project,
        "cryptlet secret-code show gold-price --version 0.1.0",
    );
    assert!(
        text.contains("at the host") && text.contains("agreed to"),
        "{text}"
    );
    let again = machine
        .json(&project, "cryptlet publish --dev-account 1")
        .remove(0);
    assert!(again.get("transaction").is_none(), "the same to the byte");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_went_to_an_oci_registry_comes_back_by_the_recorded_digest() {
    let registry = Registry::start();
    let machine = Machine::new("oci");
    let _dev = machine.dev(ANY_PORTS);
    machine.good(&machine.folder, "cryptlet new gold-price --kind utility");
    let project = machine.folder.join("gold-price");
    let place = format!("oci://{}/cryptlets/gold-price", registry.host);
    let line = format!("cryptlet publish --dev-account 1 --source --to {place}");
    let published = machine.json(&project, &line).remove(0);
    let shown = &machine.json(&project, "cryptlet show gold-price")[0]["cryptlet"];
    let version = &shown["versions"][0];
    let uri = version["uri"].as_str().unwrap();
    let digest = version["packageDigest"].as_str().unwrap();
    assert_eq!(
        uri,
        format!("{place}@sha256:{}", digest.trim_start_matches("0x"))
    );
    assert_eq!(published["uri"], uri);

    let client = OciRegistries::new(vec![registry.host.clone()]).unwrap();
    let reference: OciReference = uri.parse().unwrap();
    let files = client.pull(&reference, &OciAuth::Anonymous).await.unwrap();
    let code = fs::read(project.join("target/cryptlet/gold-price.wasm")).unwrap();
    assert_eq!(files.package.code, code);
    let source = cryptlet_register::source::inspect(&files.source.unwrap()).unwrap();
    let paths: Vec<_> = source.iter().map(|file| file.path.as_str()).collect();
    assert!(paths.contains(&"src/lib.rs"), "{paths:?}");
    let elsewhere = machine.folder.clone();
    let fetched = machine.json(
        &elsewhere,
        "cryptlet source gold-price --dir gold-price-source",
    );
    assert_eq!(fetched[0]["witnessed"], true);
    let ours = fs::read(project.join("src/lib.rs")).unwrap();
    let theirs = fs::read(elsewhere.join("gold-price-source/src/lib.rs"));
    assert_eq!(theirs.unwrap(), ours);
    another_host_fetches_it(&machine, &registry, digest);
}

/// A host that nobody handed the package to: set up, registered and started by the command line alone.
fn another_host_fetches_it(machine: &Machine, registry: &Registry, digest: &str) {
    let (folder, dev) = (
        machine.folder.join("second"),
        machine.folder.join("bletchley-dev"),
    );
    fs::create_dir(&folder).unwrap();
    let config = fs::read(dev.join("host.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["data"] = json!("data");
    config["vault"] = json!({ "file": { "unlock": { "keyFile": "vault.key" } } });
    config["packages"] = json!({ "registries": [registry.host], "quotaBytes": 1_000_000_000 });
    config["policy"] = json!(dev.join("policy.json"));
    config["api"]["listen"] = json!(format!("127.0.0.1:{}", free_port()));
    fs::write(folder.join("host.json"), config.to_string()).unwrap();

    let made = machine.json(&folder, "cryptlet host init").remove(0);
    let said = machine.refused(&folder, "cryptlet host init");
    assert!(said.contains("connection.json is there already"), "{said}");
    let host = machine.start(&folder, "cryptlet host");
    host.until("ready");
    let by = "--host-file connection.json";
    let line = format!("cryptlet host register --dev-account 0 {by}");
    machine.json(&folder, &line);
    let status = machine.json(&folder, &format!("cryptlet status {by}"));
    assert_eq!(
        status[0]["host"].as_str().map(str::to_lowercase),
        made["host"].as_str().map(str::to_lowercase)
    );
    let show = format!("cryptlet show gold-price {by}");
    let shown = (0..200).find_map(|_| {
        let shown = machine.json(&folder, &show).remove(0);
        let version = &shown["cryptlet"]["versions"][0];
        let there = version["stored"] == true && version["packageDigest"] == digest;
        there.then_some(shown)
    });
    let shown = shown.expect("the package is fetched");
    assert_eq!(shown["confirmed"], true);
    host.interrupt();
}

/// A running host's own word, over HTTPS.
async fn nodes_are_told_of_the_delegate(machine: &Machine, status: &Value) {
    let authority = machine.folder.join("authority.pem");
    let connection = machine.connection();
    fs::write(&authority, connection["authority"].as_str().unwrap()).unwrap();
    let url = format!("{}/v1/delegate", connection["url"].as_str().unwrap());
    let line = format!(
        "cryptlet node --port 0 --crypto-delegate-path {url} --crypto-delegate-signature {}",
        status["delegateSignature"].as_str().unwrap(),
    );
    let said = machine.refused(&machine.folder, &line);
    assert!(said.contains("--crypto-delegate-authority"), "{said}");
    // This node's chain is an empty one: the delegate is not on it.
    let trusted = format!("{line} --crypto-delegate-authority authority.pem");
    let said = machine.refused(&machine.folder, &trusted);
    assert!(said.contains("is no contract of this chain"), "{said}");
    // On a copy of the host's chain it is.
    let chain = machine.folder.join("bletchley-dev/chain");
    fs::copy(&chain, machine.folder.join("copied-chain")).unwrap();
    let started = format!("{trusted} --state copied-chain --json");
    let node = machine.start(&machine.folder, &started);
    node.until("{");
    node.interrupt();
    let _known_already = rustls::crypto::ring::default_provider().install_default();
    let pem = fs::read(&authority).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).unwrap())
        .build()
        .unwrap();
    let document = client
        .get(&url)
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    fs::write(machine.folder.join("delegate.json"), document).unwrap();
}

/// The document in a file, for a node on the chain that the host's developer left.
async fn nodes_are_told_of_it_by_a_file(machine: &Machine, status: &Value) {
    let signature = status["delegateSignature"].as_str().unwrap();
    let line = |file: &str| {
        format!(
            "cryptlet node --port 0 --json --state bletchley-dev/chain --crypto-delegate-path {file} --crypto-delegate-signature {signature}"
        )
    };
    let node = machine.start(&machine.folder, &line("delegate.json"));
    let started: Value = serde_json::from_str(&node.until("{")).unwrap();
    let url = started["http"].as_str().unwrap();
    let provider = ProviderBuilder::new().connect_http(url.parse().unwrap());
    let told: Value = provider
        .raw_request("bletchley_delegate".into(), ())
        .await
        .unwrap();
    let document = fs::read(machine.folder.join("delegate.json")).unwrap();
    assert_eq!(told, serde_json::from_slice::<Value>(&document).unwrap());
    assert_eq!(told["delegate"]["delegate"], status["delegate"]);
    node.interrupt();

    let mut altered = told;
    altered["register"]["register"] = json!("0x00000000000000000000000000000000000000aa");
    fs::write(machine.folder.join("altered.json"), altered.to_string()).unwrap();
    let said = machine.refused(&machine.folder, &line("altered.json"));
    assert!(said.contains("--crypto-delegate-signature pins"), "{said}");
}
