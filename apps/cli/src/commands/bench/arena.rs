//! What every part of the bench is measured in: a fresh stage, the contract that counts, and an account that makes events.

use super::{
    ground::{Ground, Opened},
    logs::{deliveries, logs},
    observer::{Observer, PATIENCE},
    process::{HostProcess, last_words},
};
use crate::{
    commands::demo::stage::find_container,
    error::{CliError, Doing},
};
use alloy::{
    eips::eip2718::Encodable2718,
    network::{EthereumWallet, NetworkTransactionBuilder, TransactionBuilder},
    primitives::{Address, B256, Bytes, U256},
    providers::{DynProvider, Provider},
    rpc::types::{Filter, Log, TransactionRequest},
    signers::local::PrivateKeySigner,
    sol_types::{SolCall, SolEvent, SolValue},
};
use cryptlet_chain::evm::abi::CryptoDelegate;
use cryptlet_host::HostConfig;
use cryptlet_stage::{CryptletSource, Source, Stage, StageOptions};
use cryptlet_types::{Policy, policy::Retry};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;

/// Artifact of the contract that counts. Constructor: `(address delegate, address cryptlet, uint32 callbackGas)`.
const CONSUMER: &str = include_str!("../../../../../contracts/artifacts/test/BenchConsumer.json");
/// Gas that its callback gets: it stores one word, or, the second time, another.
const CALLBACK_GAS: u32 = 60_000;
/// Lanes that one transaction opens: each is a subscription.
const LANES_AT_ONCE: u64 = 50;
/// Events that one transaction makes.
const PINGS_AT_ONCE: u64 = 500;
/// Events whose end is asked for at once.
const TALLY: u64 = 1_000;
/// How often a contract is asked how far it is.
const LOOK: Duration = Duration::from_millis(200);

alloy::sol! {
    #[sol(rpc)]
    contract BenchConsumer {
        event Ping(uint256 indexed lane, uint256 n);
        function open(uint256 count) external;
        function ping(uint256 from, uint256 count) external;
        function tally(uint256 from, uint256 count) external view returns (uint256 delivered, uint256 doubled);
    }
}

/// A stage on which events are made and counted.
pub(crate) struct Arena {
    pub(crate) observer: Observer,
    pub(crate) config: HostConfig,
    pub(crate) provider: DynProvider,
    /// URL of the chain's JSON-RPC over WebSocket.
    pub(crate) ws_url: String,
    pub(crate) sender: Sender,
    pub(crate) stage: Stage,
    consumer: Address,
    /// Number of the next event.
    next: u64,
    folder: TempDir,
    _chain: Option<Opened>,
}

/// What has come back of some events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) delivered: u64,
    pub(crate) doubled: u64,
}

/// A callback on the chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Callback {
    /// Number of the event.
    pub(crate) n: u64,
    pub(crate) block: u64,
}

impl Arena {
    /// Sets up a stage whose contract has so many subscriptions.
    pub(crate) async fn build(ground: &Ground, lanes: u64) -> Result<Self, CliError> {
        let doing = "the bench cannot be set up";
        let folder = tempfile::tempdir().doing(doing)?;
        let chain = ground.open().await?;
        let mut stage = stage(folder.path(), chain.as_ref()).await?;
        let policy = Policy {
            epoch: stage.policy.policy.epoch.saturating_add(1),
            serve: cryptlet_types::policy::ServeRule {
                minimum_interval_seconds: 0,
                ..stage.policy.policy.serve.clone()
            },
            ..stage.policy.policy.clone()
        };
        stage.enact(policy).await.doing(doing)?;
        let arguments = (stage.delegate, stage.cryptlet.cryptlet.0, CALLBACK_GAS);
        let arguments = arguments.abi_encode_params();
        let (consumer, _) = stage
            .deploy_consumer(CONSUMER, &arguments)
            .await
            .doing(doing)?;
        open_lanes(&stage, consumer, lanes).await?;
        let ws_url = stage.ws_url();
        // As an operator would who minds latency: blocks are announced, not asked for.
        let config = HostConfig {
            rpc: ws_url.clone(),
            ..stage.config.clone()
        };
        Ok(Self {
            observer: Observer::start(&ws_url, stage.provider.clone(), stage.delegate).await?,
            sender: Sender::fund(&stage).await?,
            provider: stage.provider.clone(),
            next: 0,
            ws_url,
            config,
            consumer,
            stage,
            folder,
            _chain: chain,
        })
    }

    /// The stage's folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a host by the stage's configuration.
    pub(crate) async fn start_host(&self) -> Result<HostProcess, CliError> {
        HostProcess::start(&self.config, self.folder()).await
    }

    /// Makes one event and waits for its callback: from then on the region runs, and the subscription is known.
    pub(crate) async fn warm_up(&mut self) -> Result<(), CliError> {
        let had = self.observer.seen().delivered;
        let range = self.take(1);
        self.ping(range).await?;
        let delivered = self.observer.delivered(had.saturating_add(1), PATIENCE);
        let delivered = delivered.await;
        delivered.map_err(|error| self.explained(&error))
    }

    /// An error, with what the host has to say to it.
    pub(crate) fn explained(&self, error: &CliError) -> CliError {
        let said = last_words(self.folder());
        CliError::new(format_args!("{error}; the host's last words: {said}"))
    }

    /// Takes numbers for so many events: the first of them and how many.
    pub(crate) fn take(&mut self, count: u64) -> (u64, u64) {
        let first = self.next;
        self.next = first.saturating_add(count);
        (first, count)
    }

    /// A signed transaction that makes these events, at most [`PINGS_AT_ONCE`].
    pub(crate) async fn signed_ping(
        &mut self,
        (from, count): (u64, u64),
    ) -> Result<Bytes, CliError> {
        let call = BenchConsumer::pingCall {
            from: U256::from(from),
            count: U256::from(count),
        };
        let gas = count.saturating_mul(5_000).saturating_add(100_000);
        self.sender
            .sign(self.consumer, U256::ZERO, call.abi_encode(), gas)
            .await
    }

    /// Makes events, many in a transaction. Does not wait for their blocks.
    pub(crate) async fn ping(&mut self, (from, count): (u64, u64)) -> Result<(), CliError> {
        let end = from.saturating_add(count);
        let mut next = from;
        while next < end {
            let some = end.saturating_sub(next).min(PINGS_AT_ONCE);
            let raw = self.signed_ping((next, some)).await?;
            self.send(&raw).await?;
            next = next.saturating_add(some);
        }
        Ok(())
    }

    /// Sends a signed transaction.
    pub(crate) async fn send(&self, raw: &[u8]) -> Result<B256, CliError> {
        send(&self.provider, raw).await
    }

    /// Number of the chain's newest block.
    pub(crate) async fn height(&self) -> Result<u64, CliError> {
        let height = self.provider.get_block_number().await;
        height.doing("cannot ask the chain for its height")
    }

    /// What has come back of these events.
    pub(crate) async fn tally(&self, (from, count): (u64, u64)) -> Result<Tally, CliError> {
        let contract = BenchConsumer::new(self.consumer, &self.provider);
        let end = from.saturating_add(count);
        let (mut next, mut tally) = (from, Tally::default());
        while next < end {
            let some = end.saturating_sub(next).min(TALLY);
            let call = contract.tally(U256::from(next), U256::from(some));
            let part = call.call().await.doing("cannot count what came back")?;
            tally.delivered = tally.delivered.saturating_add(part.delivered.to());
            tally.doubled = tally.doubled.saturating_add(part.doubled.to());
            next = next.saturating_add(some);
        }
        Ok(tally)
    }

    /// Waits until all these events have come back, or nothing more comes for as long as [`PATIENCE`].
    pub(crate) async fn settled(&self, range: (u64, u64)) -> Result<Tally, CliError> {
        let (mut last, mut moved) = (Tally::default(), Instant::now());
        loop {
            let tally = self.tally(range).await?;
            if tally.delivered >= range.1 || (tally == last && moved.elapsed() > PATIENCE) {
                return Ok(tally);
            }
            if tally != last {
                (last, moved) = (tally, Instant::now());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Blocks of these events, by their numbers.
    pub(crate) async fn event_blocks(
        &self,
        blocks: (u64, u64),
    ) -> Result<BTreeMap<u64, u64>, CliError> {
        let filter = Filter::new()
            .address(self.consumer)
            .event_signature(BenchConsumer::Ping::SIGNATURE_HASH);
        let mut found = BTreeMap::new();
        for log in logs(&self.provider, &filter, blocks).await? {
            let ping = log.log_decode::<BenchConsumer::Ping>();
            let ping = ping.doing("the contract's log")?;
            found.insert(ping.inner.n.to(), block_of(&log)?);
        }
        Ok(found)
    }

    /// Reports that the delegate consumed in these blocks.
    pub(crate) async fn deliveries(&self, blocks: (u64, u64)) -> Result<Vec<Log>, CliError> {
        logs(&self.provider, &deliveries(self.stage.delegate), blocks).await
    }

    /// Which event each delivery in these blocks answers, as the transactions say.
    pub(crate) async fn callbacks(&self, blocks: (u64, u64)) -> Result<Vec<Callback>, CliError> {
        let mut payloads = BTreeMap::new();
        let mut callbacks = Vec::new();
        for log in self.deliveries(blocks).await? {
            let transaction = log.transaction_hash.unwrap_or_default();
            if let Entry::Vacant(place) = payloads.entry(transaction) {
                place.insert(self.numbers(transaction).await?);
            }
            let delivered = log.log_decode::<CryptoDelegate::Delivered>();
            let delivered = delivered.doing("the delegate's log")?.inner.data;
            let key = (delivered.subject, delivered.sequence);
            let numbers = payloads.get(&transaction);
            let n = numbers.and_then(|numbers| numbers.get(&key).copied());
            callbacks.push(Callback {
                n: n.ok_or_else(|| CliError::new("a delivery is not in its transaction"))?,
                block: block_of(&log)?,
            });
        }
        Ok(callbacks)
    }

    /// The events' numbers in the reports of a transaction.
    async fn numbers(&self, hash: B256) -> Result<BTreeMap<(B256, u64), u64>, CliError> {
        let found = self.provider.get_transaction_by_hash(hash).await;
        let found = found.doing("cannot read a transaction")?;
        let input = found.map(|found| {
            let found: &alloy::consensus::TxEnvelope = found.as_ref();
            alloy::consensus::Transaction::input(found).clone()
        });
        let input = input.unwrap_or_default();
        let mut numbers = BTreeMap::new();
        let mut note = |subject, sequence, payload: &[u8]| {
            let word = payload.first_chunk::<32>().copied().unwrap_or_default();
            numbers.insert(
                (subject, sequence),
                U256::from_be_bytes(word).saturating_to(),
            );
        };
        if let Ok(call) = CryptoDelegate::deliverCall::abi_decode(&input) {
            let report = call.report;
            note(report.subject, report.sequence, &report.payload);
        } else if let Ok(call) = CryptoDelegate::deliverBatchCall::abi_decode(&input) {
            for item in call.batch.items {
                note(item.subject, item.sequence, &item.payload);
            }
        }
        Ok(numbers)
    }
}

/// A stage whose cryptlet asks nobody, where nothing hinders.
pub(crate) async fn stage(folder: &Path, chain: Option<&Opened>) -> Result<Stage, CliError> {
    let doing = "the bench cannot be set up";
    let now = SystemTime::now().duration_since(UNIX_EPOCH).doing(doing)?;
    let out = folder.to_owned();
    let options = StageOptions {
        out,
        container: find_container()?,
        genesis: now.as_secs(),
        cryptlet: CryptletSource::relay(),
        source: Source::Nothing,
        retry: Retry {
            attempts: 20,
            first_millis: 50,
            longest_millis: 1_000,
        },
        // Each block is a second later, however many there are a second.
        max_age_seconds: 366 * 86_400,
    };
    let stage = match chain {
        None => Stage::build(options).await,
        Some(opened) => Stage::build_at(opened.chain.clone(), options).await,
    };
    stage.doing(doing)
}

async fn open_lanes(stage: &Stage, consumer: Address, lanes: u64) -> Result<(), CliError> {
    let doing = "cannot subscribe";
    let contract = BenchConsumer::new(consumer, &stage.provider);
    let mut left = lanes.saturating_sub(1);
    while left > 0 {
        let some = left.min(LANES_AT_ONCE);
        let sent = contract.open(U256::from(some)).send().await.doing(doing)?;
        let receipt = sent.get_receipt().await.doing(doing)?;
        if !receipt.status() {
            return Err(CliError::new(format_args!("{doing}: it was reverted")));
        }
        left = left.saturating_sub(some);
    }
    Ok(())
}

/// The block of a log.
pub(crate) fn block_of(log: &Log) -> Result<u64, CliError> {
    log.block_number
        .ok_or_else(|| CliError::new("the chain has a log in no block"))
}

/// Sends a signed transaction.
pub(crate) async fn send(provider: &DynProvider, raw: &[u8]) -> Result<B256, CliError> {
    let sent = provider.send_raw_transaction(raw).await;
    Ok(*sent.doing("cannot send a transaction")?.tx_hash())
}

/// An account whose transactions are signed here, one after the other.
pub(crate) struct Sender {
    wallet: EthereumWallet,
    chain_id: u64,
    nonce: u64,
    max_fee: u128,
}

impl Sender {
    /// A new account with 100 ether.
    async fn fund(stage: &Stage) -> Result<Self, CliError> {
        let doing = "cannot fund an account";
        let signer = PrivateKeySigner::random();
        let request = TransactionRequest::default()
            .with_to(signer.address())
            .with_value(U256::from(100) * U256::from(10).pow(U256::from(18)));
        let sent = stage.provider.send_transaction(request).await;
        sent.doing(doing)?.get_receipt().await.doing(doing)?;
        let price = stage.provider.get_gas_price().await.doing(doing)?;
        Ok(Self {
            wallet: EthereumWallet::from(signer),
            chain_id: stage.chain_id,
            nonce: 0,
            max_fee: price.saturating_mul(4).max(10_000_000_000),
        })
    }

    /// The account's next transaction, signed.
    pub(crate) async fn sign(
        &mut self,
        to: Address,
        value: U256,
        input: Vec<u8>,
        gas: u64,
    ) -> Result<Bytes, CliError> {
        let request = TransactionRequest::default()
            .with_to(to)
            .with_value(value)
            .with_input(input)
            .with_chain_id(self.chain_id)
            .with_nonce(self.nonce)
            .with_gas_limit(gas)
            .with_max_fee_per_gas(self.max_fee)
            .with_max_priority_fee_per_gas(1_000_000);
        let signed = request.build(&self.wallet).await;
        let signed = signed.doing("cannot sign a transaction")?;
        self.nonce = self.nonce.saturating_add(1);
        Ok(signed.encoded_2718().into())
    }
}
