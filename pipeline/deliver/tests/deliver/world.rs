//! A chain with the contracts deployed, a cryptlet registered and consumers subscribed.

use alloy::{
    network::{EthereumWallet, TransactionBuilder},
    primitives::{Address, B256, Bytes, FixedBytes, U256},
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::types::{TransactionReceipt, TransactionRequest},
    signers::local::PrivateKeySigner,
    sol_types::{SolCall, SolValue},
};
use async_trait::async_trait;
use cryptlet_chain::{
    BroadcastError, Chain, EvmChain,
    evm::{
        abi::{CryptletRegister, CryptoDelegate},
        artifacts,
    },
};
use cryptlet_deliver::{
    DeliverConfig, Deliverer, Order, Outbox, PortError, TransmitterSigner, fees::Offer, transaction,
};
use cryptlet_node::{Mining, Node, NodeConfig};
use cryptlet_seal::SigningKey;
use cryptlet_types::{
    CryptletId, JobId, Measurement, Report, ReportDomain, RunId, SignedReport, Subject,
    outbox::Submission, report::CompactSignature,
};
use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::sync::watch;

alloy::sol! {
    #[sol(rpc)]
    contract StoreWord {
        function word() external view returns (uint256);
        function subject() external view returns (bytes32);
    }
}

const STORE_WORD: &str = include_str!("../../../../contracts/artifacts/test/StoreWord.json");
const REVERTING: &str = include_str!("../../../../contracts/artifacts/test/RevertingConsumer.json");
const GAS_EATER: &str = include_str!("../../../../contracts/artifacts/test/GasEater.json");
const RETURN_BOMB: &str = include_str!("../../../../contracts/artifacts/test/ReturnBomb.json");

/// What the consumer does when it is called back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Callback {
    Stores,
    Reverts,
    EatsGas,
    ReturnsMegabyte,
}

/// A consumer and its subscription.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Consumer {
    pub(crate) address: Address,
    pub(crate) subject: Subject,
    pub(crate) gas: u32,
}

/// The chain and what is deployed on it.
pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) provider: DynProvider,
    pub(crate) publisher: Address,
    pub(crate) register: Address,
    pub(crate) delegate: Address,
    pub(crate) cryptlet: CryptletId,
    pub(crate) cryptlet_key: SigningKey,
    pub(crate) transmitter: Arc<Transmitter>,
    pub(crate) chain: Arc<EvmChain>,
    /// Stops when dropped.
    pub(crate) node: Option<Node>,
}

pub(crate) async fn world() -> World {
    world_on(NodeConfig::default()).await
}

pub(crate) async fn world_on(config: NodeConfig) -> World {
    assert_eq!(config.mining, Mining::Instant);
    let node = Node::start(config).await.unwrap();
    let keys: Vec<B256> = node.accounts().iter().map(|(_, key)| *key).collect();
    let mut world = World::build(&node.url(), &keys).await;
    world.node = Some(node);
    world
}

impl World {
    /// Deploys and registers on a development chain that mines at once.
    pub(crate) async fn build(url: &str, keys: &[B256]) -> Self {
        let publisher = PrivateKeySigner::from_bytes(&keys[0]).unwrap();
        let _known_already = rustls::crypto::ring::default_provider().install_default();
        let provider = ProviderBuilder::new()
            .with_simple_nonce_management()
            .wallet(EthereumWallet::from(publisher.clone()))
            .connect_http(url.parse().unwrap())
            .erased();
        let publisher = publisher.address();
        let board = (publisher, vec![publisher], U256::from(1)).abi_encode_params();
        let register = deploy(&provider, artifacts::CRYPTLET_REGISTER, &board).await;
        let arguments = register.abi_encode();
        let delegate = deploy(&provider, artifacts::CRYPTO_DELEGATE, &arguments).await;
        let cryptlet_key = SigningKey::from_secret(&[0x11; 32]).unwrap();
        let contract = CryptletRegister::new(register, &provider);
        let signer = cryptlet_key.address();
        let call = contract.register("watcher".into(), version(), signer, u64::MAX);
        send(&provider, call.into_transaction_request()).await;
        let cryptlet = contract.cryptletId(publisher, "watcher".into());
        let cryptlet = CryptletId(cryptlet.call().await.unwrap());
        let chain = EvmChain::connect(url, delegate).await.unwrap();
        Self {
            url: url.to_owned(),
            provider,
            publisher,
            register,
            delegate,
            cryptlet,
            cryptlet_key,
            transmitter: Arc::new(Transmitter(SigningKey::from_secret(&keys[1].0).unwrap())),
            chain: Arc::new(chain),
            node: None,
        }
    }

    pub(crate) async fn consumer(&self, callback: Callback, gas: u32) -> Consumer {
        let artifact = match callback {
            Callback::Stores => STORE_WORD,
            Callback::Reverts => REVERTING,
            Callback::EatsGas => GAS_EATER,
            Callback::ReturnsMegabyte => RETURN_BOMB,
        };
        let arguments = (self.delegate, self.cryptlet.0, gas).abi_encode_params();
        let address = deploy(&self.provider, artifact, &arguments).await;
        let contract = StoreWord::new(address, &self.provider);
        Consumer {
            address,
            subject: Subject(contract.subject().call().await.unwrap()),
            gas,
        }
    }

    pub(crate) async fn word(&self, consumer: &Consumer) -> U256 {
        let contract = StoreWord::new(consumer.address, &self.provider);
        contract.word().call().await.unwrap()
    }

    /// Waits until the node says that the consumer stores `word`: geth has a receipt a moment before the state after it.
    pub(crate) async fn stores(&self, consumer: &Consumer, word: u64) {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let found = self.word(consumer).await;
            if found == U256::from(word) {
                return;
            }
            assert!(Instant::now() < until, "{found}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) fn domain(&self) -> ReportDomain {
        self.chain.domain()
    }

    /// A report that is valid for an hour from the head's time on.
    pub(crate) async fn report(&self, consumer: &Consumer, sequence: u64, word: u64) -> Report {
        let now = self.chain.head().await.unwrap().timestamp;
        Report {
            cryptlet: self.cryptlet,
            subject: consumer.subject,
            sequence,
            issued_at: now,
            valid_until: now + 3600,
            region: Measurement(B256::repeat_byte(9)),
            delegation: B256::ZERO,
            payload: U256::from(word).abi_encode().into(),
        }
    }

    pub(crate) fn sign(&self, report: Report) -> SignedReport {
        self.sign_for(report, &self.domain())
    }

    pub(crate) fn sign_for(&self, report: Report, domain: &ReportDomain) -> SignedReport {
        let signature = self.cryptlet_key.sign(report.digest(domain)).unwrap();
        SignedReport {
            report,
            signer: self.cryptlet_key.address(),
            signature,
            region_signature: CompactSignature {
                r: B256::ZERO,
                vs: B256::ZERO,
            },
        }
    }

    pub(crate) async fn order(&self, consumer: &Consumer, sequence: u64, word: u64) -> Order {
        self.order_of(
            self.sign(self.report(consumer, sequence, word).await),
            consumer,
        )
    }

    pub(crate) fn order_of(&self, report: SignedReport, consumer: &Consumer) -> Order {
        Order {
            run: RunId::first(JobId(report.report.digest(&self.domain()))),
            report,
            delegation: None,
            callback_gas: consumer.gas,
            from_block: 0,
            expected: false,
        }
    }

    pub(crate) fn deliverer(&self, outbox: &Arc<MemoryOutbox>) -> Arc<Deliverer> {
        self.deliverer_with(outbox, quick())
    }

    pub(crate) fn deliverer_with(
        &self,
        outbox: &Arc<MemoryOutbox>,
        config: DeliverConfig,
    ) -> Arc<Deliverer> {
        Arc::new(Deliverer::new(
            self.chain.clone(),
            self.transmitter.clone(),
            outbox.clone(),
            config,
        ))
    }

    pub(crate) async fn sequence(&self, consumer: &Consumer) -> u64 {
        let sequence = self.chain.sequence(self.cryptlet, consumer.subject).await;
        sequence.unwrap().unwrap()
    }

    /// What the node says to the same bytes twice, a cheap replacement, a used nonce and an empty account.
    pub(crate) async fn check_broadcast_errors(&self) {
        let sign = async |key: &Transmitter, nonce, offer| {
            let call = transaction::Call {
                chain_id: self.domain().chain_id,
                to: Address::repeat_byte(5),
                input: Bytes::new(),
                gas_limit: 21_000,
            };
            transaction::sign(&call, nonce, offer, key)
                .await
                .unwrap()
                .raw
        };
        let offer = Offer {
            max_fee: 100_000_000_000,
            priority_fee: 1_000_000_000,
        };
        let cheap = Offer {
            max_fee: offer.max_fee * 95 / 100,
            priority_fee: offer.priority_fee * 95 / 100,
        };
        let transmitter = self.transmitter.as_ref();
        let nonce = self
            .chain
            .nonce(transmitter.address(), false)
            .await
            .unwrap();
        let first = sign(transmitter, nonce, offer).await;
        let replacement = sign(transmitter, nonce, cheap).await;
        let poor = Transmitter(SigningKey::from_secret(&[0x77; 32]).unwrap());
        let unpaid = sign(&poor, 0, offer).await;

        self.automine(false).await;
        self.chain.broadcast(&first).await.unwrap();
        let again = self.chain.broadcast(&first).await;
        assert!(
            matches!(again, Err(BroadcastError::AlreadyKnown)),
            "{again:?}"
        );
        let cheap = self.chain.broadcast(&replacement).await;
        assert!(
            matches!(cheap, Err(BroadcastError::Underpriced(_))),
            "{cheap:?}"
        );
        let unpaid = self.chain.broadcast(&unpaid).await;
        assert!(
            matches!(unpaid, Err(BroadcastError::InsufficientFunds(_))),
            "{unpaid:?}"
        );
        self.mine().await;
        let used = self.chain.broadcast(&replacement).await;
        assert!(matches!(used, Err(BroadcastError::NonceTooLow)), "{used:?}");
        self.automine(true).await;
    }

    /// A JSON-RPC call of the development kind.
    pub(crate) async fn rpc(&self, method: &'static str, params: serde_json::Value) {
        let request = self
            .provider
            .raw_request::<_, serde_json::Value>(method.into(), params);
        request.await.unwrap();
    }

    pub(crate) async fn automine(&self, on: bool) {
        self.rpc("evm_setAutomine", serde_json::json!([on])).await;
    }

    pub(crate) async fn mine(&self) {
        self.rpc("evm_mine", serde_json::json!([])).await;
    }

    /// Mines until the delivery has its outcome: what is in the outbox may not have reached the node when a block is mined.
    pub(crate) async fn mine_until<T>(&self, delivery: impl Future<Output = T>) -> T {
        let mut delivery = pin!(delivery);
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            tokio::select! {
                biased;
                outcome = &mut delivery => return outcome,
                () = tokio::time::sleep(Duration::from_millis(50)) => self.mine().await,
            }
            assert!(Instant::now() < until, "no outcome in many blocks");
        }
    }

    /// Somebody else submits the report.
    pub(crate) async fn submit(&self, report: &SignedReport) -> TransactionReceipt {
        let (to, input) = self.chain.delivery_call(report, None);
        let request = TransactionRequest::default()
            .with_to(to)
            .with_input(input)
            .with_gas_limit(500_000);
        send(&self.provider, request).await
    }

    /// Subscribes directly, with a condition of the caller's choice.
    pub(crate) async fn subscribe(&self, trigger: u8, condition: Bytes, params: Bytes) -> Subject {
        let call = CryptoDelegate::subscribeCall {
            s: CryptoDelegate::Subscription {
                cryptlet: self.cryptlet.0,
                onBehalfOf: Address::ZERO,
                callback: FixedBytes([1, 2, 3, 4]),
                callbackGas: 50_000,
                validity: 600,
                trigger,
                condition,
                params,
            },
        };
        let request = TransactionRequest::default()
            .with_to(self.delegate)
            .with_input(call.abi_encode());
        let receipt = send(&self.provider, request).await;
        Subject(receipt.logs()[0].topics()[1])
    }
}

fn version() -> CryptletRegister::Version {
    CryptletRegister::Version {
        label: "1".into(),
        packageDigest: B256::repeat_byte(1),
        headerDigest: B256::repeat_byte(2),
        manifestDigest: B256::repeat_byte(3),
        uri: String::new(),
    }
}

/// Short waits, so that trouble does not make a test slow.
pub(crate) fn quick() -> DeliverConfig {
    DeliverConfig {
        resend_after: Duration::from_millis(100),
        longest_pause: Duration::from_millis(5),
        longest_backoff: Duration::from_millis(50),
        ..DeliverConfig::default()
    }
}

pub(crate) async fn deploy(provider: &DynProvider, artifact: &str, arguments: &[u8]) -> Address {
    let code = artifacts::init_code(artifact, arguments).unwrap();
    let request = TransactionRequest::default().with_deploy_code(code);
    send(provider, request).await.contract_address.unwrap()
}

pub(crate) async fn send(
    provider: &DynProvider,
    request: TransactionRequest,
) -> TransactionReceipt {
    let pending = provider.send_transaction(request).await.unwrap();
    let receipt = receipt(provider, *pending.tx_hash()).await;
    assert!(receipt.status(), "reverted: {receipt:?}");
    receipt
}

pub(crate) async fn receipt(provider: &DynProvider, hash: B256) -> TransactionReceipt {
    // A minute and more: beside other tests geth takes its time to seal a block, too.
    for _ in 0..30_000 {
        // geth indexes its transactions for a while, and says so.
        if let Ok(Some(receipt)) = provider.get_transaction_receipt(hash).await {
            return receipt;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("no receipt of {hash}");
}

/// The account that sends and pays.
pub(crate) struct Transmitter(pub(crate) SigningKey);

#[async_trait]
impl TransmitterSigner for Transmitter {
    fn address(&self) -> Address {
        self.0.address()
    }

    async fn sign(&self, digest: B256) -> Result<CompactSignature, PortError> {
        self.0
            .sign(digest)
            .map_err(|error| PortError::permanent(error.to_string()))
    }
}

/// What would be in the journal after a crash.
pub(crate) struct MemoryOutbox {
    written: Mutex<Vec<Submission>>,
    count: watch::Sender<usize>,
    killed: bool,
}

impl MemoryOutbox {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            written: Mutex::default(),
            count: watch::Sender::new(0),
            killed: false,
        })
    }

    /// One that writes the transaction down and then fails as if the host had been killed right there.
    pub(crate) fn killed_after_writing() -> Arc<Self> {
        Arc::new(Self {
            written: Mutex::default(),
            count: watch::Sender::new(0),
            killed: true,
        })
    }

    pub(crate) fn written(&self) -> Vec<Submission> {
        self.written.lock().unwrap().clone()
    }

    pub(crate) async fn wait_for(&self, count: usize) {
        let mut counts = self.count.subscribe();
        let waiting = counts.wait_for(|written| *written >= count);
        let result = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        result.expect("too few transactions").unwrap();
    }
}

#[async_trait]
impl Outbox for MemoryOutbox {
    async fn submitted(&self, _: &[RunId], submission: &Submission) -> Result<(), PortError> {
        self.written.lock().unwrap().push(submission.clone());
        self.count.send_modify(|count| *count += 1);
        if self.killed {
            return Err(PortError::permanent("killed"));
        }
        Ok(())
    }
}
