//! Contracts: deploying, registering, funding.

use crate::error::{Doing, StageError};
use alloy::{
    network::TransactionBuilder,
    primitives::{Address, U256},
    providers::{DynProvider, Provider},
    rpc::types::TransactionRequest,
};
use cryptlet_chain::evm::{abi::CryptletRegister, artifacts};
use cryptlet_host::Published;
use cryptlet_types::Subject;

/// Artifact of the contract that is woken with rates. Constructor: `(address delegate, address cryptlet, string[] pairs)`.
pub const PRICE_CONSUMER: &str = include_str!("../../../contracts/artifacts/PriceConsumer.json");

alloy::sol! {
    #[sol(rpc)]
    contract Consumer {
        function subject() external view returns (bytes32);
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

/// Registers the cryptlet with its signer, without an end.
pub(crate) async fn enrol(
    provider: &DynProvider,
    register: Address,
    name: &str,
    cryptlet: &Published,
) -> Result<(), StageError> {
    let doing = "cannot register the cryptlet";
    let register = CryptletRegister::new(register, provider);
    let sent = register
        .register(name.to_owned(), cryptlet.signer, u64::MAX)
        .send()
        .await
        .doing(doing)?;
    let receipt = sent.get_receipt().await.doing(doing)?;
    if receipt.status() {
        Ok(())
    } else {
        Err(StageError::new("the register refused the cryptlet"))
    }
}

/// 100 ether for the account that pays for deliveries.
pub(crate) async fn fund(provider: &DynProvider, account: Address) -> Result<(), StageError> {
    let doing = "cannot fund the transmitter";
    let value = U256::from(100) * U256::from(10).pow(U256::from(18));
    let request = TransactionRequest::default()
        .with_to(account)
        .with_value(value);
    let sent = provider.send_transaction(request).await.doing(doing)?;
    sent.watch().await.doing(doing).map(drop)
}
