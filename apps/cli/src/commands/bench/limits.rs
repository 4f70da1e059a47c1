//! The parts of the path that cannot be left out, each by itself.

use super::{FIRST, stats::Figures};
use crate::{
    commands::demo::{replay::due_of, stage::DemoStage},
    error::{CliError, Doing},
};
use alloy::{
    eips::eip2718::Encodable2718,
    network::{EthereumWallet, NetworkTransactionBuilder, TransactionBuilder},
    primitives::{Address, B256, FixedBytes, U256, keccak256},
    providers::Provider,
    rpc::types::TransactionRequest,
    signers::local::PrivateKeySigner,
    sol_types::SolValue,
};
use cryptlet_isolation::{IsolationProvider, ProcessProvider, Region, Relay, TracingLog};
use cryptlet_seal::{SigningKey, key_binding, package, wrap};
use cryptlet_stage::{MARKET_WATCHER, MARKET_WATCHER_MANIFEST, Stage};
use cryptlet_types::{
    ClockSpec, CryptletId, Event, Job, ReportDomain, Subject, Subscription, Trigger, TriggerSpec,
    manifest::ManifestSource,
    region::{KeyGrant, RegionSettings, RunInput},
};
use futures::StreamExt;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// A component of the test cryptlets: its `echo` does nothing but return its parameter.
const ECHO: &[u8] = include_bytes!("../../../../../cryptlets/dist/hostile.wasm");

/// Calls of a component that returns what it is given, in a region of its own.
pub(crate) async fn bare_calls(demo: &DemoStage, count: u32) -> Result<Figures, CliError> {
    let params = ("echo".to_owned(), "x".repeat(96)).abi_encode_params();
    calls(demo, (ECHO, &["http", "log"]), params, count).await
}

/// Calls of the market watcher in a region of its own, with its question to the feed.
pub(crate) async fn watcher_calls(demo: &DemoStage, count: u32) -> Result<Figures, CliError> {
    let params = (true, vec!["USD".to_owned(), "GBP".to_owned()]).abi_encode_params();
    calls(demo, (MARKET_WATCHER, &["http"]), params, count).await
}

async fn calls(
    demo: &DemoStage,
    code: Code<'_>,
    params: Vec<u8>,
    count: u32,
) -> Result<Figures, CliError> {
    let (mut region, settings) = create_region(&demo.stage, code).await?;
    let due = due_of(FIRST)?;
    let mut series = Vec::new();
    for sequence in 1..=u64::from(count) {
        let input = input(demo, &settings, &params, due, sequence);
        let start = Instant::now();
        region
            .run(input)
            .await
            .doing("the component, called by itself")?;
        series.push(start.elapsed());
    }
    Ok(Figures::of(series))
}

type Settings = BTreeMap<String, String>;
/// A component, and what it imports.
type Code<'c> = (&'c [u8], &'c [&'c str]);

/// A region of `code`, under the market watcher's manifest but for what it imports, and a key of its own.
async fn create_region(
    stage: &Stage,
    (code, imports): Code<'_>,
) -> Result<(Box<dyn Region>, Settings), CliError> {
    let doing = "a region of its own";
    let key = SigningKey::generate();
    let mut manifest = ManifestSource::from_json(MARKET_WATCHER_MANIFEST).doing(doing)?;
    manifest.config.imports = imports.iter().map(|&import| import.to_owned()).collect();
    let manifest = manifest.with_key(key.address()).doing(doing)?;
    // A region never sees the header: any bytes do.
    let files = package::build(&manifest, code, b"{}", None)
        .doing(doing)?
        .package;
    let policy = &stage.policy.policy;
    let limits = manifest.config.limits.within(policy.limits);
    let settings = RegionSettings {
        limits,
        egress: policy.egress_of(&manifest),
    };
    let relay = Relay::new(
        stage.config.resolve.clone(),
        Arc::new(TracingLog::new("bench")),
    );
    let provider = ProcessProvider::new(&stage.config.container).doing(doing)?;
    let mut region = provider
        .create(files, settings, B256::ZERO, Arc::new(relay))
        .await
        .doing(doing)?;
    let statement = region.statement().clone();
    let wrapped = wrap(
        statement.exchange_key,
        &key_binding(&statement),
        key.secret().as_slice(),
    )
    .doing(doing)?;
    region
        .provision(KeyGrant::Wrapped(wrapped))
        .await
        .doing(doing)?;
    Ok((region, manifest.config.settings))
}

fn input(
    demo: &DemoStage,
    settings: &Settings,
    params: &[u8],
    due: u64,
    sequence: u64,
) -> RunInput {
    let domain = ReportDomain {
        chain_id: demo.stage.chain_id,
        delegate: demo.stage.delegate,
    };
    let mut subscription = Subscription {
        subject: Subject(B256::ZERO),
        consumer: demo.consumer,
        nonce: 0,
        cryptlet: CryptletId(Address::repeat_byte(1)),
        on_behalf_of: Address::ZERO,
        callback: FixedBytes([1; 4]),
        callback_gas: 100_000,
        validity: 86_400,
        trigger: TriggerSpec::Clock(ClockSpec {
            cron: "0 16 * * *".into(),
            time_zone: "Europe/Berlin".into(),
        }),
        params: params.to_vec().into(),
        since: 0,
    };
    subscription.subject = subscription.subject_in(&domain);
    let trigger = Trigger::Clock { due };
    let event = Event::new(&domain, subscription.subject, trigger.clone());
    RunInput {
        job: Job::id_of(&event),
        domain,
        subscription,
        trigger,
        sequence,
        issued_at: due,
        valid_until: due.saturating_add(86_400),
        delegation: None,
        settings: settings.clone(),
    }
}

/// Signatures of 32 bytes.
pub(crate) fn signatures(count: u32) -> Result<Figures, CliError> {
    let key = SigningKey::generate();
    let mut series = Vec::new();
    for number in 0..count {
        let digest = keccak256(number.to_be_bytes());
        let start = Instant::now();
        key.sign(digest).doing("a signature by itself")?;
        series.push(start.elapsed());
    }
    Ok(Figures::of(series))
}

/// Transfers, signed beforehand: from sending to the notice of their block.
pub(crate) async fn transactions(stage: &Stage, count: u32) -> Result<Figures, CliError> {
    let doing = "a transaction by itself";
    let signer = PrivateKeySigner::random();
    let wallet = EthereumWallet::from(signer.clone());
    let ether = U256::from(10).pow(U256::from(18));
    let funding = TransactionRequest::default()
        .with_to(signer.address())
        .with_value(ether);
    let sent = stage
        .provider
        .send_transaction(funding)
        .await
        .doing(doing)?;
    sent.watch().await.doing(doing)?;
    let mut heads = stage.heads().await.doing(doing)?;
    let mut series: Vec<Duration> = Vec::new();
    for nonce in 0..u64::from(count) {
        let request = TransactionRequest::default()
            .with_to(Address::repeat_byte(9))
            .with_value(U256::from(1))
            .with_chain_id(stage.chain_id)
            .with_nonce(nonce)
            .with_gas_limit(21_000)
            .with_max_fee_per_gas(2_000_000_000)
            .with_max_priority_fee_per_gas(1_000_000);
        let raw = request.build(&wallet).await.doing(doing)?.encoded_2718();
        let start = Instant::now();
        let _pending = stage
            .provider
            .send_raw_transaction(&raw)
            .await
            .doing(doing)?;
        heads
            .next()
            .await
            .ok_or_else(|| CliError::new("the chain's heads have ended"))?;
        series.push(start.elapsed());
    }
    Ok(Figures::of(series))
}
