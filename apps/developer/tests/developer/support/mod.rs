//! A chain with register and delegate, a host, and a developer's folder.

pub mod host;

use alloy::{
    network::TransactionBuilder,
    primitives::{Address, Bytes, U256},
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::types::TransactionRequest,
    sol_types::{SolCall, SolValue},
};
use cryptlet_api::{
    CertificateRoles, Connection, Server, ServerLimits, ServerParts, TokenStore,
    tls::{Authority, AuthoritySigner, ServerIdentity, server_config},
    types::{CryptletRef, NewToken, Role},
    wall_clock,
};
use cryptlet_chain::evm::{abi::CryptletRegister, artifacts};
use cryptlet_developer::{
    DeveloperError, Nodes, RegisterClient, Session, Wallet,
    publish::{Parts, PublishOptions, Published, publish},
};
use cryptlet_node::{Node, NodeConfig};
use cryptlet_types::{
    CryptletId, ReportDomain, manifest::ManifestSource, register::RegisterDomain,
};
use host::MemoryHost;
use p256::ecdsa::{DerSignature, SigningKey, signature::Signer};
use std::{path::Path, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::net::TcpListener;

/// Accounts of the board, of which it takes two.
pub const ADMINISTRATORS: [u32; 3] = [5, 6, 7];

/// Artifact of the mirror. Constructor: `(address admin, uint256 chainId, address register, uint64 maxAge)`.
const MIRROR: &str = include_str!("../../../../../contracts/artifacts/CryptletRegisterMirror.json");

/// How long a mirror lets a signer count after it was copied, in seconds.
pub const MIRROR_MAX_AGE: u64 = 86_400;

/// The key of an authority, in memory.
struct Key(SigningKey);

impl AuthoritySigner for Key {
    fn public_key(&self) -> [u8; 65] {
        let point = self.0.verifying_key().to_encoded_point(false);
        point.as_bytes().try_into().unwrap()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
        let signature: DerSignature = self.0.sign(message);
        Ok(signature.as_bytes().to_vec())
    }
}

/// An authority for servers of this machine.
pub fn authority(seed: u8) -> Authority {
    let key = Arc::new(Key(SigningKey::from_slice(&[seed; 32]).unwrap()));
    Authority::create(key, &[], wall_clock()()).unwrap()
}

/// Everything that a test plays on.
pub struct World {
    pub node: Node,
    pub host: Arc<MemoryHost>,
    pub folder: TempDir,
    pub register: RegisterDomain,
    pub delegate: ReportDomain,
    server: Server,
    tokens: Arc<TokenStore>,
    authority: Authority,
}

impl World {
    pub async fn start() -> Self {
        Self::on(NodeConfig::default()).await
    }

    pub async fn on(config: NodeConfig) -> Self {
        Self::build(config, false).await
    }

    /// A world whose delegate goes by a mirror of the register, to which account 0 copies.
    pub async fn mirrored() -> Self {
        Self::build(NodeConfig::default(), true).await
    }

    async fn build(config: NodeConfig, mirrored: bool) -> Self {
        let chain_id = config.chain_id;
        let node = Node::start(config).await.unwrap();
        let provider = provider(&node);
        let account = |index: u32| node.accounts()[index as usize].0;
        let board = ADMINISTRATORS.map(account).to_vec();
        let arguments = (account(0), board, U256::from(2)).abi_encode_params();
        let register = deploy(
            &provider,
            account(0),
            artifacts::CRYPTLET_REGISTER,
            &arguments,
        );
        let register = register.await;
        let trusted = if mirrored {
            let source = (account(0), U256::from(chain_id), register, MIRROR_MAX_AGE);
            let source = source.abi_encode_params();
            deploy(&provider, account(0), MIRROR, &source).await
        } else {
            register
        };
        let arguments = trusted.abi_encode();
        let delegate = deploy(
            &provider,
            account(0),
            artifacts::CRYPTO_DELEGATE,
            &arguments,
        )
        .await;
        let register = RegisterDomain { chain_id, register };
        let delegate = ReportDomain { chain_id, delegate };
        let authority = authority(1);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!(
            "https://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        let reader = RegisterClient::open(&node.url(), register).await.unwrap();
        let host = MemoryHost::new(reader, delegate, node.url(), url, authority.digest());
        let host = Arc::new(host);
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens.json");
        let tokens = Arc::new(TokenStore::create(&tokens, wall_clock()).unwrap());
        let identity = ServerIdentity::Authority {
            authority: authority.clone(),
            names: vec!["localhost".to_owned()],
        };
        let tls = server_config(&identity, &[], wall_clock()).unwrap();
        let parts = ServerParts {
            api: host.clone(),
            tokens: tokens.clone(),
            certificates: CertificateRoles::default(),
            clock: wall_clock(),
            limits: ServerLimits::default(),
        };
        Self {
            node,
            host,
            folder,
            register,
            delegate,
            server: Server::start(listener, tls, parts).unwrap(),
            tokens,
            authority,
        }
    }

    /// How an operator comes in.
    pub fn connection(&self) -> Connection {
        let token = NewToken {
            role: Role::Operator,
            label: "test".parse().unwrap(),
            lifetime_seconds: "3600".parse().unwrap(),
        };
        let token = self.tokens.add(&token).unwrap().token.clone();
        Connection {
            url: format!("https://localhost:{}", self.server.address().port()),
            authority: self.authority.pem().to_owned(),
            token: token.into(),
        }
    }

    pub async fn session(&self) -> Session {
        self.session_with(Nodes::default()).await
    }

    pub async fn session_with(&self, nodes: Nodes) -> Session {
        Session::open(&self.connection(), nodes).await.unwrap()
    }

    pub async fn wallet(&self, index: u32) -> Wallet {
        Wallet::development(index, &self.session().await).unwrap()
    }

    pub async fn reader(&self) -> RegisterClient {
        RegisterClient::open(&self.node.url(), self.register)
            .await
            .unwrap()
    }

    pub fn options(&self, further: bool) -> PublishOptions {
        PublishOptions {
            further,
            expiry: u64::MAX,
            to: None,
            patience: Duration::from_secs(20),
            folder: self.folder.path().join(".cryptlet"),
        }
    }

    /// Publishes as account 1.
    pub async fn publish(&self, parts: &Parts, further: bool) -> Result<Published, DeveloperError> {
        let session = self.session().await;
        let wallet = self.wallet(1).await;
        publish(&session, &wallet, parts, &self.options(further), &|_| {}).await
    }

    /// Enrols a further signer of a version, as account 1 and without the host.
    pub async fn enrol(&self, cryptlet: CryptletId, number: u32, signer: Address) {
        let call = CryptletRegister::enrolSignerCall {
            cryptlet: cryptlet.0,
            number,
            signer,
            expiry: u64::MAX,
        };
        let request = TransactionRequest::default()
            .with_from(self.node.accounts()[1].0)
            .with_to(self.register.register)
            .with_input(call.abi_encode());
        let sent = provider(&self.node).send_transaction(request).await;
        assert!(sent.unwrap().get_receipt().await.unwrap().status());
    }

    /// A contract developer's empty project for forge.
    pub fn project(&self) -> std::path::PathBuf {
        let project = self.folder.path().join("project");
        std::fs::create_dir_all(&project).unwrap();
        std::fs::write(project.join("foundry.toml"), "").unwrap();
        project
    }

    pub async fn mine(&self) {
        let provider = provider(&self.node);
        let _: serde_json::Value = provider.raw_request("evm_mine".into(), ()).await.unwrap();
    }

    pub async fn transactions_of(&self, account: Address) -> u64 {
        provider(&self.node)
            .get_transaction_count(account)
            .await
            .unwrap()
    }
}

pub fn provider(node: &Node) -> DynProvider {
    let _known_already = rustls::crypto::ring::default_provider().install_default();
    ProviderBuilder::new()
        .disable_recommended_fillers()
        .connect_http(node.url().parse().unwrap())
        .erased()
}

async fn deploy(
    provider: &DynProvider,
    from: Address,
    artifact: &str,
    arguments: &[u8],
) -> Address {
    let code = artifacts::init_code(artifact, arguments).unwrap();
    let request = TransactionRequest::default()
        .with_from(from)
        .with_deploy_code(code);
    let sent = provider.send_transaction(request).await.unwrap();
    let receipt = sent.get_receipt().await.unwrap();
    receipt.contract_address.unwrap()
}

/// A cryptlet's parts; `seed` makes its code another's.
pub fn parts(name: &str, label: &str, seed: u8) -> Parts {
    let manifest = format!(
        r#"{{"name":"{name}","version":"{label}","config":{{"description":"Tells the price of gold.","isolation":true}}}}"#
    );
    Parts {
        manifest: ManifestSource::from_json(manifest.as_bytes()).unwrap(),
        interface: interface(name, "uint256 price"),
        code: Bytes::from(vec![seed; 64]),
        code_key: None,
        source: None,
    }
}

/// An interface of `name` with one function of that parameter.
pub fn interface(name: &str, parameter: &str) -> String {
    let name = cryptlet_header::interface_name(name).unwrap();
    format!(
        "interface {name} {{\n    /// @notice Called with the price.\n    function priceOf({parameter}) external;\n}}\n"
    )
}

pub fn reference(name: &str) -> CryptletRef {
    name.parse().unwrap()
}

pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
