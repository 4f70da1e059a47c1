//! A node with a contract that logs what it is sent, and nodes in front of it that do as they are told.

use alloy::{
    network::{EthereumWallet, TransactionBuilder},
    primitives::{Address, B256, Bytes, hex},
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::types::{TransactionReceipt, TransactionRequest},
    signers::local::PrivateKeySigner,
};
use cryptlet_chain::EvmConfig;
use cryptlet_node::{Node, NodeConfig};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Logs its call data under topic 42.
const LOGGER: [u8; 18] = hex!("69365f5f37602a365fa1005f52600a6016f3");

pub(crate) struct World {
    pub(crate) url: String,
    /// Stops when dropped.
    node: Option<Node>,
    pub(crate) provider: DynProvider,
    pub(crate) wallet: EthereumWallet,
    pub(crate) account: Address,
    pub(crate) logger: Address,
}

pub(crate) fn topic() -> B256 {
    B256::with_last_byte(42)
}

impl World {
    pub(crate) async fn new() -> Self {
        let node = Node::start(NodeConfig::default()).await.unwrap();
        let mut world = Self::on(&node.url(), node.accounts()[0].1).await;
        world.node = Some(node);
        world
    }

    pub(crate) async fn on(url: &str, key: B256) -> Self {
        let signer = PrivateKeySigner::from_bytes(&key).unwrap();
        let (account, wallet) = (signer.address(), EthereumWallet::from(signer));
        let _known_already = rustls::crypto::ring::default_provider().install_default();
        let provider = ProviderBuilder::new()
            .with_simple_nonce_management()
            .wallet(wallet.clone())
            .connect_http(url.parse().unwrap())
            .erased();
        let mut world = Self {
            url: url.to_owned(),
            node: None,
            provider,
            wallet,
            account,
            logger: Address::ZERO,
        };
        let deploy = TransactionRequest::default().with_deploy_code(LOGGER.to_vec());
        world.logger = world.send(deploy).await.contract_address.unwrap();
        world
    }

    pub(crate) fn ws_url(&self) -> String {
        self.url.replace("http://", "ws://")
    }

    pub(crate) async fn send(&self, request: TransactionRequest) -> TransactionReceipt {
        let pending = self.provider.send_transaction(request).await.unwrap();
        let hash = *pending.tx_hash();
        // Our own node has mined it by now; others soon have.
        for _ in 0..1_000 {
            let receipt = self.provider.get_transaction_receipt(hash).await.unwrap();
            if let Some(receipt) = receipt {
                assert!(receipt.status(), "reverted: {receipt:?}");
                return receipt;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("no receipt of {hash}");
    }

    pub(crate) async fn log(&self, data: impl Into<Bytes>) -> TransactionReceipt {
        let request = TransactionRequest::default()
            .with_to(self.logger)
            .with_input(data);
        self.send(request).await
    }

    pub(crate) async fn rpc(&self, method: &'static str, params: Value) -> Value {
        let request = self.provider.raw_request(method.into(), params);
        request.await.unwrap()
    }

    pub(crate) async fn mine(&self) {
        self.rpc("evm_mine", json!([])).await;
    }

    /// Several nodes with short waits.
    pub(crate) fn config<const N: usize>(&self, urls: [String; N]) -> EvmConfig {
        EvmConfig {
            urls: urls.to_vec(),
            failover: Duration::from_millis(300),
            rest: Duration::from_millis(50),
            poll_interval: Duration::from_millis(10),
            ..EvmConfig::new("", self.logger)
        }
    }
}

/// What a node does with a question.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Asks the real one.
    Forward,
    /// Answers so.
    Result(Value),
    /// Refuses so.
    Error(i64, &'static str),
    /// Answers with this HTTP status.
    Status(u16),
    /// Answers with a sentence that is no JSON.
    Nonsense,
    /// Never answers.
    Hang,
}

type Script = Box<dyn Fn(&str, &Value) -> Reply + Send>;

/// A node that does as it is told.
#[derive(Clone)]
pub(crate) struct Puppet {
    pub(crate) url: String,
    script: Arc<Mutex<Script>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Puppet {
    pub(crate) async fn of(world: &World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let forward: Script = Box::new(|_, _| Reply::Forward);
        let puppet = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            script: Arc::new(Mutex::new(forward)),
            asked: Arc::default(),
        };
        let (real, served) = (world.provider.clone(), puppet.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(served.clone().serve(stream, real.clone()));
            }
        });
        puppet
    }

    pub(crate) fn does(&self, script: impl Fn(&str, &Value) -> Reply + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// The same to every question.
    pub(crate) fn always(&self, reply: Reply) {
        self.does(move |_, _| reply.clone());
    }

    /// The methods that were asked since this was last called.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    async fn serve(self, mut stream: TcpStream, real: DynProvider) {
        stream.set_nodelay(true).unwrap();
        let mut read = Vec::new();
        loop {
            let Some(body) = request(&mut stream, &mut read).await else {
                return;
            };
            let asked: Value = serde_json::from_slice(&body).unwrap();
            let method = asked["method"].as_str().unwrap().to_owned();
            self.asked.lock().unwrap().push(method.clone());
            let reply = (self.script.lock().unwrap())(&method, &asked["params"]);
            let answer = |key: &str, value: Value| {
                let answer = json!({ "jsonrpc": "2.0", "id": asked["id"], key: value });
                (200, answer.to_string())
            };
            let (status, body) = match reply {
                Reply::Forward => {
                    let params = asked["params"].clone();
                    let real = real.raw_request::<_, Value>(method.into(), params).await;
                    match real {
                        Ok(result) => answer("result", result),
                        Err(error) => {
                            let error = error.as_error_resp().unwrap();
                            let said = json!({ "code": error.code, "message": error.message });
                            answer("error", said)
                        }
                    }
                }
                Reply::Result(result) => answer("result", result),
                Reply::Error(code, message) => {
                    answer("error", json!({ "code": code, "message": message }))
                }
                Reply::Status(status) => (status, "busy".to_owned()),
                Reply::Nonsense => (200, "<html>hello</html>".to_owned()),
                Reply::Hang => std::future::pending().await,
            };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
            );
            let answer = [head.as_bytes(), body.as_bytes()].concat();
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
    }
}

/// The body of the next request; none if there is none any more.
async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        let text = String::from_utf8_lossy(read).to_ascii_lowercase();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let end = head.len();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if read.len() >= end + 4 + length {
                let rest = read.split_off(end + 4 + length);
                let body = read[end + 4..].to_vec();
                *read = rest;
                return Some(body);
            }
        }
        let mut buffer = [0; 16_384];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => read.extend(&buffer[..count]),
        }
    }
}

/// A URL where nobody listens. Bound, so that no other test gets the port.
pub(crate) fn nobody(scheme: &str) -> (tokio::net::TcpSocket, String) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("{scheme}://{}", socket.local_addr().unwrap());
    (socket, url)
}
