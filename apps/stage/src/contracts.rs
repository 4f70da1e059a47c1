//! Contracts: deploying, registering, approving policy, funding.

use crate::error::{Doing, StageError};
use alloy::{
    network::TransactionBuilder,
    primitives::{Address, B256, U256},
    providers::{DynProvider, PendingTransactionBuilder, Provider},
    rpc::types::TransactionRequest,
    sol_types::SolValue,
};
use cryptlet_chain::evm::{abi::CryptletRegister, artifacts};
use cryptlet_types::{
    Subject,
    policy::SignedPolicy,
    register::{HostRecord, PolicyRecord, VersionRecord},
};

/// Artifact of the contract that is woken with rates. Constructor: `(address delegate, address cryptlet, string[] pairs)`.
pub const PRICE_CONSUMER: &str = include_str!("../../../contracts/artifacts/PriceConsumer.json");

alloy::sol! {
    #[sol(rpc)]
    contract Consumer {
        function subject() external view returns (bytes32);
    }
}

/// The fabric's contracts on a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Contracts {
    pub(crate) register: Address,
    pub(crate) delegate: Address,
}

impl Contracts {
    /// Deploys a register whose only administrator is `administrator`, and a delegate that trusts it.
    pub(crate) async fn deploy(
        provider: &DynProvider,
        administrator: Address,
    ) -> Result<Self, StageError> {
        let board = (administrator, vec![administrator], U256::from(1)).abi_encode_params();
        let register = deploy(provider, artifacts::CRYPTLET_REGISTER, &board).await?;
        let arguments = register.abi_encode();
        let delegate = deploy(provider, artifacts::CRYPTO_DELEGATE, &arguments).await?;
        Ok(Self { register, delegate })
    }
}

/// Deploys an artifact.
pub(crate) async fn deploy(
    provider: &DynProvider,
    artifact: &str,
    arguments: &[u8],
) -> Result<Address, StageError> {
    let doing = "cannot deploy a contract";
    let code = artifacts::init_code(artifact, arguments).doing(doing)?;
    let sent = provider
        .send_transaction(TransactionRequest::default().with_deploy_code(code))
        .await
        .doing(doing)?;
    let receipt = sent.get_receipt().await.doing(doing)?;
    let address = receipt.contract_address.filter(|_| receipt.status());
    address.ok_or_else(|| StageError::new("the deployment of a contract was reverted"))
}

/// The subscription of a consumer.
pub(crate) async fn subject_of(
    provider: &DynProvider,
    consumer: Address,
) -> Result<Subject, StageError> {
    let subject = Consumer::new(consumer, provider).subject().call().await;
    subject
        .map(Subject)
        .doing("the consumer has not subscribed")
}

/// Registers a cryptlet with its first version and a signer without an end.
pub(crate) async fn register(
    provider: &DynProvider,
    register: Address,
    name: &str,
    version: &VersionRecord,
    signer: Address,
) -> Result<(), StageError> {
    let doing = "cannot register the cryptlet";
    let version = CryptletRegister::Version {
        label: version.label.clone(),
        packageDigest: version.package.0,
        headerDigest: version.header.0,
        manifestDigest: version.manifest.0,
        uri: version.uri.clone(),
    };
    let register = CryptletRegister::new(register, provider);
    let call = register.register(name.to_owned(), version, signer, u64::MAX);
    mined(call.send().await.doing(doing)?, doing).await
}

/// Makes the host known to the register.
pub(crate) async fn register_host(
    provider: &DynProvider,
    register: Address,
    host: &HostRecord,
) -> Result<(), StageError> {
    let doing = "cannot register the host";
    let register = CryptletRegister::new(register, provider);
    let call = register.registerHost(host.host, host.url.clone(), host.authority.0);
    mined(call.send().await.doing(doing)?, doing).await
}

/// Puts an approved policy in force.
pub(crate) async fn set_policy(
    provider: &DynProvider,
    register: Address,
    record: &PolicyRecord,
    signed: &SignedPolicy,
) -> Result<(), StageError> {
    let doing = "cannot put the policy in force";
    let approvals = signed
        .approvals
        .iter()
        .map(|approval| CryptletRegister::PolicyApproval {
            administrator: approval.administrator,
            signature: approval.signature.clone(),
        })
        .collect();
    let register = CryptletRegister::new(register, provider);
    let digest: B256 = record.digest.0;
    let call = register.setPolicy(record.epoch, digest, record.uri.clone(), approvals);
    mined(call.send().await.doing(doing)?, doing).await
}

/// The term of the administrators.
pub(crate) async fn term(provider: &DynProvider, register: Address) -> Result<u64, StageError> {
    let register = CryptletRegister::new(register, provider);
    let board = register.administrators().call().await;
    Ok(board.doing("cannot read the register's board")?.term)
}

/// The policy in force; none before the first.
pub(crate) async fn policy(
    provider: &DynProvider,
    register: Address,
) -> Result<Option<PolicyRecord>, StageError> {
    let register = CryptletRegister::new(register, provider);
    let policy = register.policy().call().await;
    let policy = policy.doing("cannot read the register's policy")?;
    Ok((policy.epoch != 0).then(|| PolicyRecord {
        epoch: policy.epoch,
        digest: policy.digest.into(),
        uri: policy.uri,
    }))
}

/// 100 ether for the account that pays for deliveries.
pub(crate) async fn fund(provider: &DynProvider, account: Address) -> Result<(), StageError> {
    let doing = "cannot fund the transmitter";
    let value = U256::from(100) * U256::from(10).pow(U256::from(18));
    let request = TransactionRequest::default()
        .with_to(account)
        .with_value(value);
    let sent = provider.send_transaction(request).await.doing(doing)?;
    mined(sent, doing).await
}

pub(crate) async fn mined(
    sent: PendingTransactionBuilder<alloy::network::Ethereum>,
    doing: &str,
) -> Result<(), StageError> {
    let receipt = sent.get_receipt().await.doing(doing)?;
    if receipt.status() {
        Ok(())
    } else {
        let hash = receipt.transaction_hash;
        Err(StageError::new(format_args!(
            "{doing}: transaction {hash} was reverted"
        )))
    }
}
