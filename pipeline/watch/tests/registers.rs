//! The register's changes read from a real chain, reorganisations included.

use alloy::{
    network::{EthereumWallet, TransactionBuilder},
    primitives::{Address, B256, Bytes, U256},
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::types::TransactionRequest,
    signers::{SignerSync, local::PrivateKeySigner},
    sol_types::SolValue,
};
use cryptlet_chain::{
    ChainError, EvmConfig, EvmRegister, RegisterChain,
    evm::{abi::CryptletRegister, artifacts},
};
use cryptlet_node::{Node, NodeConfig};
use cryptlet_types::{
    CryptletId, Sha256Digest,
    register::{Board, PolicyRecord, RegisterChange},
};
use cryptlet_watch::{Advance, Cursor, RegisterWatch, WatchError};
use std::{sync::Arc, time::Duration};

const POLICY: B256 = B256::repeat_byte(7);

struct World {
    node: Node,
    provider: DynProvider,
    publisher: PrivateKeySigner,
    register: Arc<EvmRegister>,
    address: Address,
}

impl World {
    async fn new() -> Self {
        let node = Node::start(NodeConfig::default()).await.unwrap();
        let publisher = PrivateKeySigner::from_bytes(&node.accounts()[0].1).unwrap();
        let _known_already = rustls::crypto::ring::default_provider().install_default();
        let provider = ProviderBuilder::new()
            .with_simple_nonce_management()
            .wallet(EthereumWallet::from(publisher.clone()))
            .connect_http(node.url().parse().unwrap())
            .erased();
        let account = publisher.address();
        let board = (account, vec![account], U256::from(1)).abi_encode_params();
        let code = artifacts::init_code(artifacts::CRYPTLET_REGISTER, &board).unwrap();
        let deploy = TransactionRequest::default().with_deploy_code(code);
        let address = send(&provider, deploy).await.unwrap();
        let config = EvmConfig {
            // A chain that was turned back is believed at once.
            rollback_patience: Duration::ZERO,
            ..EvmConfig::new(node.url(), address)
        };
        let register = EvmRegister::open(config).await.unwrap();
        Self {
            node,
            provider,
            publisher,
            register: Arc::new(register),
            address,
        }
    }

    fn contract(&self) -> CryptletRegister::CryptletRegisterInstance<&DynProvider> {
        CryptletRegister::new(self.address, &self.provider)
    }

    async fn register(&self, name: &str, signer: Address) -> CryptletId {
        let contract = self.contract();
        let call = contract.register(name.into(), version("1"), signer, u64::MAX);
        send(&self.provider, call.into_transaction_request()).await;
        let id = contract.cryptletId(self.publisher.address(), name.into());
        CryptletId(id.call().await.unwrap())
    }

    async fn set_policy(&self, epoch: u64) {
        let administrator = self.publisher.address();
        let digest =
            self.register
                .domain()
                .policy_digest(administrator, 1, epoch, Sha256Digest(POLICY));
        let contract = self.contract();
        let hash = contract.hashPolicy(administrator, 1, epoch, POLICY);
        assert_eq!(hash.call().await.unwrap(), digest);
        let signature = self.publisher.sign_hash_sync(&digest).unwrap();
        let approval = CryptletRegister::PolicyApproval {
            administrator,
            signature: Bytes::from(signature.as_bytes()),
        };
        let call = contract.setPolicy(epoch, POLICY, "https://p".into(), vec![approval]);
        send(&self.provider, call.into_transaction_request()).await;
    }

    fn watch(&self, span: u64) -> RegisterWatch {
        RegisterWatch::new(self.register.clone(), 0, span)
    }
}

/// Longest wait for a block that must come.
const PATIENCE: Duration = Duration::from_secs(60);

async fn next(watch: &RegisterWatch, cursor: Option<Cursor>) -> Advance<(u64, RegisterChange)> {
    watch.next(cursor, PATIENCE).await.unwrap().unwrap()
}

fn version(label: &str) -> CryptletRegister::Version {
    CryptletRegister::Version {
        label: label.into(),
        packageDigest: B256::repeat_byte(1),
        headerDigest: B256::repeat_byte(2),
        manifestDigest: B256::repeat_byte(3),
        uri: String::new(),
    }
}

/// The node mines at once, so the receipt is there.
async fn send(provider: &DynProvider, request: TransactionRequest) -> Option<Address> {
    let pending = provider.send_transaction(request).await.unwrap();
    let receipt = provider.get_transaction_receipt(*pending.tx_hash()).await;
    let receipt = receipt.unwrap().unwrap();
    assert!(receipt.status(), "reverted: {receipt:?}");
    receipt.contract_address
}

#[tokio::test]
async fn everything_that_the_register_does_is_read_in_order_in_any_span() {
    let world = World::new().await;
    let publisher = world.publisher.address();
    let (signer, buyer, host) = (
        Address::repeat_byte(4),
        Address::repeat_byte(5),
        Address::repeat_byte(6),
    );
    let cryptlet = world.register("gold-price", signer).await;
    let contract = world.contract();
    let authority = B256::repeat_byte(8);
    let number = U256::from_be_bytes(cryptlet.0.into_word().0);
    let requests = [
        contract
            .registerHost(host, "https://h".into(), authority)
            .into_transaction_request(),
        contract
            .assignHost(cryptlet.0, host)
            .into_transaction_request(),
        contract
            .unassignHost(cryptlet.0, host)
            .into_transaction_request(),
        contract.removeHost(host).into_transaction_request(),
        contract
            .revokeVersion(cryptlet.0, 1)
            .into_transaction_request(),
        contract
            .transferFrom(publisher, buyer, number)
            .into_transaction_request(),
        contract
            .revokeCryptlet(cryptlet.0)
            .into_transaction_request(),
    ];
    for request in requests {
        send(&world.provider, request).await;
    }
    world.set_policy(3).await;
    let mut runs = Vec::new();
    for span in [1, 4, 1000] {
        let watch = world.watch(span);
        let (mut cursor, mut seen) = (None, Vec::new());
        loop {
            let advance = next(&watch, cursor).await;
            let caught_up = advance.is_caught_up();
            cursor = Some(advance.cursor);
            seen.extend(advance.changes);
            if caught_up {
                break;
            }
        }
        assert!(seen.is_sorted_by_key(|(block, _)| *block));
        runs.push(
            seen.into_iter()
                .map(|(_, change)| change)
                .collect::<Vec<_>>(),
        );
    }
    assert!(
        runs.iter().all(|run| *run == runs[0]),
        "spans do not matter"
    );
    let board = Board {
        members: vec![publisher],
        threshold: 1,
        term: 1,
    };
    let policy = PolicyRecord {
        epoch: 3,
        digest: Sha256Digest(POLICY),
        uri: "https://p".into(),
    };
    let changes = &runs[0];
    assert_eq!(changes[0], RegisterChange::AdministratorsSet { board });
    assert_eq!(
        changes[1],
        RegisterChange::Registered {
            cryptlet,
            publisher,
            name: "gold-price".into()
        }
    );
    assert!(
        matches!(&changes[2], RegisterChange::VersionPublished { version, .. } if version.number == 1 && version.published_at > 0)
    );
    assert!(
        matches!(&changes[3], RegisterChange::SignerEnrolled { signer: enrolled, .. } if enrolled.signer == signer && enrolled.version == 1)
    );
    assert!(
        matches!(&changes[4], RegisterChange::HostRegistered { host: record } if record.host == host)
    );
    assert_eq!(
        changes[5..],
        [
            RegisterChange::HostAssigned { cryptlet, host },
            RegisterChange::HostUnassigned { cryptlet, host },
            RegisterChange::HostRemoved { host },
            RegisterChange::VersionRevoked {
                cryptlet,
                number: 1
            },
            RegisterChange::SignerRevoked { cryptlet, signer },
            RegisterChange::Transferred {
                cryptlet,
                owner: buyer
            },
            RegisterChange::CryptletRevoked { cryptlet },
            RegisterChange::PolicySet { policy },
        ]
    );
}

#[tokio::test]
async fn the_register_answers_what_holds_at_the_newest_block() {
    let world = World::new().await;
    let signer = Address::repeat_byte(4);
    assert_eq!(world.register.policy().await.unwrap(), None);
    let cryptlet = world.register("gold-price", signer).await;
    assert!(world.register.is_signer(cryptlet, signer).await.unwrap());
    let contract = world.contract();
    let call = contract.revokeVersion(cryptlet.0, 1);
    send(&world.provider, call.into_transaction_request()).await;
    assert!(!world.register.is_signer(cryptlet, signer).await.unwrap());
    world.set_policy(1).await;
    let policy = world.register.policy().await.unwrap().unwrap();
    assert_eq!((policy.epoch, policy.digest.0), (1, POLICY));
    let board = world.register.board().await.unwrap();
    assert_eq!(board.threshold, 1);
    assert_eq!(board.members, [world.publisher.address()]);
    let nobody = EvmRegister::connect(&world.node.url(), Address::repeat_byte(1)).await;
    assert!(matches!(
        nobody,
        Err(ChainError::NoContract {
            what: "register",
            ..
        })
    ));
}

#[tokio::test]
async fn a_reorganisation_below_the_cursor_is_never_silent() {
    let world = World::new().await;
    let rpc = async |method: &'static str, params| {
        let request = world
            .provider
            .raw_request::<_, serde_json::Value>(method.into(), params);
        request.await.unwrap()
    };
    let watch = world.watch(1000);
    let snapshot = rpc("evm_snapshot", serde_json::json!([])).await;
    world.register("gold-price", Address::repeat_byte(4)).await;
    let before = next(&watch, None).await;
    rpc("evm_revert", serde_json::json!([snapshot])).await;
    let gone = watch.next(Some(before.cursor), PATIENCE).await.unwrap_err();
    assert!(!gone.is_retryable());
    let WatchError::Reorged {
        number, expected, ..
    } = gone
    else {
        panic!("{gone}")
    };
    assert_eq!(
        (number, expected),
        (before.cursor.number, before.cursor.hash)
    );
    let again = next(&watch, None).await;
    assert!(
        again
            .changes
            .iter()
            .all(|(_, change)| !matches!(change, RegisterChange::Registered { .. }))
    );
}
