//! The whole path on a stage of its own: real node, contracts, feed, container, vault and journal. Feed and node
//! stand behind gates.
pub(crate) mod account;
pub(crate) mod gate;
pub(crate) mod office;

use account::Watched;
use alloy::{
    primitives::{Address, B256, Bytes, FixedBytes, U256},
    providers::Provider,
    rpc::types::{Filter, TransactionRequest},
    sol_types::{SolCall, SolEvent, SolValue},
};
use cryptlet_audit::{TrustRoots, TrustedCryptlet};
use cryptlet_chain::evm::abi::CryptoDelegate;
use cryptlet_feed::{Feed, Rates};
use cryptlet_host::{DataFolder, Host, HostConfig, HostError, Progress};
use cryptlet_journal::{Journal, JournalError, wall_clock};
use cryptlet_register::RegisterError;
use cryptlet_stage::{CryptletSource, FEED_NAME, FEED_PLACE, Source, Stage, StageOptions};
use cryptlet_types::{
    ClockSpec, Job, Provider as Isolation, ReportDomain, Subject, TriggerSpec, policy::Retry,
};
use cryptlet_vault::VaultError;
use gate::Gate;
use std::{
    collections::BTreeMap,
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::sync::broadcast;

pub(crate) const RATES: &str = include_str!("../../../../data/ecb-reference-rates.csv");
pub(crate) const HOSTILE: &[u8] = include_bytes!("../../../../cryptlets/dist/hostile.wasm");
pub(crate) const STORE_WORD: &str =
    include_str!("../../../../contracts/artifacts/test/StoreWord.json");

/// Longest wait for something that must come about.
const PATIENCE: Duration = Duration::from_secs(60);
/// 2026-10-16 16:00 in Berlin.
const FRIDAY: u64 = 1_792_159_200;
/// Gas of a callback.
pub(crate) const CALLBACK_GAS: u32 = 100_000;

alloy::sol! {
    #[sol(rpc)]
    contract PriceConsumer {
        function wakeUps() external view returns (uint32);
        function latestRates() external view returns (uint64 day, uint256[] rates);
        function unsubscribe() external;
    }

    #[sol(rpc)]
    contract StoreWord {
        function word() external view returns (uint256);
        function onReport(uint256 word) external;
    }
}

/// 16:00 in Berlin on a day of October 2026 before the clocks change on the 25th. Monday 12th to Friday 16th and
/// Monday 19th to Friday 23rd are days on which the market was open.
pub(crate) fn due(day: u64) -> u64 {
    assert!(day < 25, "summer time only");
    FRIDAY + day * 86_400 - 16 * 86_400
}

/// The container beside the test program.
pub(crate) fn container() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().with_file_name("cryptlet-container");
    let missing = "is missing: cargo build --release -p cryptlet-container";
    assert!(path.exists(), "{} {missing}", path.display());
    path
}

/// A stage, its folder, and gates before feed and node.
pub(crate) struct Play {
    pub(crate) stage: Stage,
    pub(crate) feed: Gate,
    pub(crate) node: Gate,
    pub(crate) folder: TempDir,
    _rates: Feed,
}

/// Tries `attempts` times, 20 ms apart at first.
pub(crate) fn retry(attempts: u32) -> Retry {
    Retry {
        attempts,
        first_millis: 20,
        longest_millis: 200,
    }
}

impl Play {
    /// The market watcher's, on Sunday 11 October 2026 in the evening.
    pub(crate) async fn market(retry: Retry) -> Self {
        Self::with(CryptletSource::market_watcher(), retry).await
    }

    /// The hostile cryptlet's.
    pub(crate) async fn hostile() -> Self {
        let manifest = br#"{"name": "hostile", "version": "0.1.0", "config": {
            "description": "Misbehaves as it is told.", "isolation": true, "imports": ["http", "log", "regions", "signing"],
            "limits": {"fuel": 50000000, "memoryBytes": 16777216, "wallMillis": 5000, "responseBytes": 65536}}}"#;
        let cryptlet = CryptletSource {
            manifest: manifest.to_vec(),
            interface: "interface IHostile {\n    function onReport(uint256 word) external;\n}\n"
                .into(),
            code: HOSTILE.to_vec(),
        };
        Self::with(cryptlet, retry(3)).await
    }

    pub(crate) async fn with(cryptlet: CryptletSource, retry: Retry) -> Self {
        // `RUST_LOG=info cargo test … -- --nocapture` shows what a host says.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let said = tracing_subscriber::fmt().with_env_filter(filter);
        let _set_up_by_another_test = said.with_test_writer().try_init();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let rates = Feed::start(Rates::parse(RATES).unwrap(), FEED_NAME, any)
            .await
            .unwrap();
        let feed = Gate::before(rates.address());
        let folder = tempfile::tempdir().unwrap();
        let options = StageOptions {
            out: folder.path().to_owned(),
            container: container(),
            genesis: due(11) + 3_600,
            cryptlet,
            source: Source::Other {
                address: feed.address,
                root: rates.root_pem().to_owned(),
            },
            retry,
            max_age_seconds: 86_400,
        };
        let stage = Stage::build(options).await.unwrap();
        let place = stage.url().replace("http://", "");
        let node = Gate::before(place.trim_end_matches('/').parse().unwrap());
        Self {
            stage,
            feed,
            node,
            folder,
            _rates: rates,
        }
    }

    /// The stage's configuration, with the node behind its gate.
    pub(crate) fn config(&self) -> HostConfig {
        HostConfig {
            rpc: format!("http://{}", self.node.address),
            ..self.stage.config.clone()
        }
    }

    /// Opens the host, or opens it again.
    pub(crate) async fn host(&self) -> Host {
        let config = self.config();
        eventually("the folder is free", || async {
            match Host::open(&config).await {
                Ok(host) => Some(host),
                Err(error) if is_held(&error) => None,
                Err(error) => panic!("{error}"),
            }
        })
        .await
    }

    /// The host's configuration with the feed at another address.
    pub(crate) fn config_with_feed(&self, address: SocketAddr) -> HostConfig {
        let resolve = BTreeMap::from([(FEED_PLACE.to_owned(), address)]);
        HostConfig {
            resolve,
            ..self.config()
        }
    }

    /// A contract that wants to be woken with these currencies.
    pub(crate) async fn price_consumer(&self, pairs: &[&str]) -> Watched {
        let pairs: Vec<_> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
        let (consumer, subject) = self.stage.deploy_price_consumer(&pairs).await.unwrap();
        Watched { consumer, subject }
    }

    /// Deploys a test consumer and exchanges the subscription of its constructor for one with `params`.
    pub(crate) async fn consumer(
        &self,
        artifact: &str,
        callback_gas: u32,
        params: &[u8],
    ) -> Watched {
        let cryptlet = self.stage.cryptlet.cryptlet.0;
        let arguments = (self.stage.delegate, cryptlet, callback_gas).abi_encode_params();
        let deployed = self.stage.deploy_consumer(artifact, &arguments).await;
        let (consumer, subject) = deployed.unwrap();
        self.stage
            .rpc("anvil_impersonateAccount", [consumer])
            .await
            .unwrap();
        let funds = U256::from(10).pow(U256::from(18));
        self.stage
            .rpc("anvil_setBalance", (consumer, funds))
            .await
            .unwrap();
        self.unsubscribe_as(consumer, subject).await;
        let subject = self
            .subscribe_as(
                consumer,
                StoreWord::onReportCall::SELECTOR,
                callback_gas,
                params,
            )
            .await;
        Watched { consumer, subject }
    }

    /// Ends a subscription of `account`, which the node must know or impersonate.
    pub(crate) async fn unsubscribe_as(&self, account: Address, subject: Subject) {
        let end = CryptoDelegate::unsubscribeCall {
            cryptlet: self.stage.cryptlet.cryptlet.0,
            subject: subject.0,
        };
        self.delegate_call(account, end.abi_encode()).await;
    }

    /// A subscription of `account`, which the node must know or impersonate, to the clock at 16:00 in Berlin.
    pub(crate) async fn subscribe_as(
        &self,
        account: Address,
        callback: [u8; 4],
        callback_gas: u32,
        params: &[u8],
    ) -> Subject {
        self.subscribe_on_behalf_of(Address::ZERO, account, callback, callback_gas, params)
            .await
    }

    /// As [`Play::subscribe_as`], on behalf of an identity.
    pub(crate) async fn subscribe_on_behalf_of(
        &self,
        on_behalf_of: Address,
        account: Address,
        callback: [u8; 4],
        callback_gas: u32,
        params: &[u8],
    ) -> Subject {
        let spec = TriggerSpec::Clock(ClockSpec {
            cron: "0 16 * * *".into(),
            time_zone: "Europe/Berlin".into(),
        });
        let s = CryptoDelegate::Subscription {
            cryptlet: self.stage.cryptlet.cryptlet.0,
            onBehalfOf: on_behalf_of,
            callback: FixedBytes(callback),
            callbackGas: callback_gas,
            validity: 86_400,
            trigger: TriggerSpec::CLOCK,
            condition: spec.encode_condition(),
            params: params.to_vec().into(),
        };
        let call = CryptoDelegate::subscribeCall { s };
        let logs = self.delegate_call(account, call.abi_encode()).await;
        Subject(logs[0].topics()[1])
    }

    /// A transaction to the delegate, mined; its logs.
    async fn delegate_call(&self, from: Address, input: Vec<u8>) -> Vec<alloy::primitives::Log> {
        let request = TransactionRequest::default()
            .from(from)
            .to(self.stage.delegate)
            .input(Bytes::from(input).into());
        let sent: B256 = self
            .stage
            .provider
            .raw_request("eth_sendTransaction".into(), (request,))
            .await
            .unwrap();
        let receipt = self.stage.provider.get_transaction_receipt(sent).await;
        let receipt = receipt.unwrap().expect("mined at once");
        assert!(receipt.status(), "the delegate refused");
        let logs = receipt.logs().iter();
        logs.map(|log| log.inner.clone()).collect()
    }

    /// The chain's time becomes 16:00 of that day: its block is mined, and what waits in the pool with it.
    pub(crate) async fn noon(&self, day: u64) {
        self.stage.set_time(due(day)).await.unwrap();
    }

    /// Money for an account that is to pay for transactions.
    pub(crate) async fn fund(&self, account: Address) {
        let funds = U256::from(10).pow(U256::from(20));
        let set = self.stage.rpc("anvil_setBalance", (account, funds));
        set.await.unwrap();
    }

    /// Remembers the chain as it is.
    pub(crate) async fn snapshot(&self) -> U256 {
        let taken = self.stage.provider.raw_request("evm_snapshot".into(), ());
        taken.await.unwrap()
    }

    /// Goes back to a snapshot: the blocks since are gone.
    pub(crate) async fn revert(&self, snapshot: &U256) {
        let provider = &self.stage.provider;
        let reverted = provider.raw_request::<_, bool>("evm_revert".into(), (*snapshot,));
        assert!(reverted.await.unwrap(), "no such snapshot");
    }

    /// Whether transactions are mined as they come.
    pub(crate) async fn automine(&self, on: bool) {
        self.stage.rpc("evm_setAutomine", [on]).await.unwrap();
    }

    /// The delegate's logs of consumed reports of a subscription, oldest first: sequence, and whether the callback returned.
    pub(crate) async fn consumed(&self, subject: Subject) -> Vec<(u64, bool)> {
        let logs = self.delivered_logs(Some(subject)).await;
        let decoded = logs.iter().map(|log| {
            let log = log.log_decode::<CryptoDelegate::Delivered>().unwrap();
            (log.inner.sequence, log.inner.success)
        });
        decoded.collect()
    }

    async fn delivered_logs(&self, subject: Option<Subject>) -> Vec<alloy::rpc::types::Log> {
        let filter = Filter::new()
            .from_block(0)
            .address(self.stage.delegate)
            .event_signature(CryptoDelegate::Delivered::SIGNATURE_HASH);
        let filter = match subject {
            Some(subject) => filter.topic1(subject.0),
            None => filter,
        };
        self.stage.provider.get_logs(&filter).await.unwrap()
    }

    /// The sequence number that the delegate has reached, as it says itself.
    pub(crate) async fn sequence(&self, subject: Subject) -> u64 {
        let delegate = CryptoDelegate::new(self.stage.delegate, &self.stage.provider);
        let found = delegate.subscription(self.stage.cryptlet.cryptlet.0, subject.0);
        found.call().await.unwrap().sequence
    }

    /// What an auditor of this stage believes.
    pub(crate) async fn roots(&self) -> TrustRoots {
        let Stage { cryptlet, host, .. } = &self.stage;
        let trusted = TrustedCryptlet {
            signers: vec![cryptlet.signer],
            measurements: vec![self.stage.measurement],
        };
        let logs = self.delivered_logs(None).await;
        let block = |log: &alloy::rpc::types::Log| Some((log.block_number?, log.block_hash?));
        TrustRoots {
            version: 1,
            domain: ReportDomain {
                chain_id: self.stage.chain_id,
                delegate: self.stage.delegate,
            },
            cryptlets: BTreeMap::from([(cryptlet.cryptlet, trusted)]),
            providers: vec![Isolation::Process],
            evidence: None,
            hosts: vec![*host],
            blocks: logs.iter().filter_map(block).collect(),
        }
    }
}

/// Whether somebody holds the folder's locks. A container that was just started still shares the descriptors of the
/// host in this process for a moment: Linux closes them after it has told the parent that the program runs.
pub(crate) fn is_held(error: &HostError) -> bool {
    matches!(
        error,
        HostError::Vault(VaultError::InUse(_))
            | HostError::Journal(JournalError::InUse(_))
            | HostError::Register(RegisterError::InUse(_))
    )
}

/// The journal of a host that does not run.
pub(crate) async fn journal_of(play: &Play) -> Journal {
    let path = DataFolder::at(&play.stage.config.data).journal();
    eventually("the journal is free", || async {
        match Journal::open(&path, wall_clock()).await {
            Ok(journal) => Some(journal),
            Err(JournalError::InUse(_)) => None,
            Err(error) => panic!("{error}"),
        }
    })
    .await
}

/// Parameters of the hostile cryptlet.
pub(crate) fn behave(behaviour: &str, detail: &str) -> Vec<u8> {
    (behaviour.to_owned(), detail.to_owned()).abi_encode_params()
}

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    ask: impl FnMut() -> F,
) -> T {
    let answer = within_patience(ask).await;
    answer.unwrap_or_else(|| panic!("it never happened: {what}"))
}

/// Asks again and again, for a bounded time.
pub(crate) async fn within_patience<T, F: Future<Output = Option<T>>>(
    mut ask: impl FnMut() -> F,
) -> Option<T> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(answer) = ask().await {
            return Some(answer);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    None
}

/// The end of what was due for a subscription, and why the runs before came to nothing.
pub(crate) struct End {
    pub(crate) last: Progress,
    pub(crate) retried: Vec<String>,
}

impl End {
    /// The reason of a job that was given up.
    pub(crate) fn failure(&self) -> (&Arc<Job>, &str) {
        match &self.last {
            Progress::Failed { job, reason } | Progress::Parked { job, reason } => (job, reason),
            other => panic!("not failed: {other:?}"),
        }
    }

    /// Sequence and success of a delivery.
    pub(crate) fn delivery(&self) -> (u64, bool) {
        match &self.last {
            Progress::Delivered {
                receipt, success, ..
            } => (receipt.report.report.sequence, *success),
            other => panic!("not delivered: {other:?}"),
        }
    }
}

/// Waits until the host tells of the end of what was due at `due` for `subject`.
pub(crate) async fn end_of(
    news: &mut broadcast::Receiver<Progress>,
    subject: Subject,
    due: u64,
) -> End {
    let mut retried = Vec::new();
    loop {
        let said = tokio::time::timeout(PATIENCE, news.recv()).await;
        let last = said.expect("the host says nothing").expect("it has ended");
        let event = match &last {
            Progress::Delivered { receipt, .. } => receipt.event.clone(),
            Progress::Skipped { job, .. }
            | Progress::Failed { job, .. }
            | Progress::Parked { job, .. } => job.event.clone(),
            Progress::Refused { event, .. } => (**event).clone(),
            Progress::Retried { reason, .. } => {
                retried.push(reason.clone());
                continue;
            }
        };
        if (event.subject, event.trigger.due()) == (subject, due) {
            return End { last, retried };
        }
    }
}
