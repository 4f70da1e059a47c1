//! Another chain, whose delegate goes by a mirror of the stage's register.

use crate::{
    Stage, chain_id, contracts,
    error::{Doing, StageError},
    wallet,
};
use alloy::{
    network::TransactionBuilder,
    primitives::{Address, U256},
    providers::{DynProvider, Provider},
    rpc::types::TransactionRequest,
    sol_types::{SolCall, SolValue},
};
use cryptlet_chain::evm::{abi::CryptletRegister, artifacts};
use cryptlet_node::{Node, NodeConfig};
use cryptlet_types::{CryptletId, Subject, UnixSeconds};

const MIRROR: &str = include_str!("../../../contracts/artifacts/CryptletRegisterMirror.json");
/// EIP-155 id of the other chain.
const CHAIN_ID: u64 = 31_338;
/// How long the mirror lets a signer count after it was copied, in seconds: a week.
const MAX_AGE: UnixSeconds = 7 * 86_400;

alloy::sol! {
    contract CryptletRegisterMirror {
        struct Record {
            address publisher;
            address owner;
            string name;
            bool revoked;
            address publicKey;
            bytes32 headerDigest;
            address[] hosts;
        }

        function mirrorCryptlet(address cryptlet, Record calldata record, uint64 sourceBlock) external;
        function mirrorSigner(address cryptlet, address signer, uint64 expiry, bool revoked, uint64 sourceBlock) external;
    }
}

/// A chain with a mirror of the stage's register, and a delegate that trusts it.
pub struct Mirror {
    /// A connection that signs as the chain's first account, which alone may copy.
    pub provider: DynProvider,
    /// The mirror.
    pub register: Address,
    /// The delegate.
    pub delegate: Address,
    /// EIP-155 id of the chain.
    pub chain_id: u64,
    node: Node,
}

impl Mirror {
    /// Starts the chain, whose first block is of `genesis`, deploys mirror and delegate, and funds the transmitter.
    ///
    /// # Errors
    /// Says what could not be done, and why.
    pub async fn build(
        stage: &Stage,
        genesis: UnixSeconds,
        transmitter: Address,
    ) -> Result<Self, StageError> {
        let config = NodeConfig {
            chain_id: CHAIN_ID,
            genesis_timestamp: Some(genesis),
            ..NodeConfig::default()
        };
        let node = Node::start(config).await.doing("the node did not start")?;
        let (provider, account) = wallet(&node)?;
        let source = (
            account.address(),
            U256::from(stage.chain_id),
            stage.register,
            MAX_AGE,
        );
        let register = contracts::deploy(&provider, MIRROR, &source.abi_encode_params()).await?;
        let trusted = register.abi_encode();
        let delegate = contracts::deploy(&provider, artifacts::CRYPTO_DELEGATE, &trusted).await?;
        contracts::fund(&provider, transmitter).await?;
        Ok(Self {
            chain_id: chain_id(&provider).await?,
            provider,
            register,
            delegate,
            node,
        })
    }

    /// URL of the chain's JSON-RPC.
    #[must_use]
    pub fn url(&self) -> String {
        self.node.url()
    }

    /// Deploys a consumer from an artifact that has a `subject()`; its address and subscription.
    ///
    /// # Errors
    /// The deployment failed, or the contract has not subscribed.
    pub async fn deploy_consumer(
        &self,
        artifact: &str,
        arguments: &[u8],
    ) -> Result<(Address, Subject), StageError> {
        let consumer = contracts::deploy(&self.provider, artifact, arguments).await?;
        let subject = contracts::subject_of(&self.provider, consumer).await?;
        Ok((consumer, subject))
    }

    /// Makes a block of that time.
    ///
    /// # Errors
    /// The time is not after the last block's.
    pub async fn set_time(&self, time: UnixSeconds) -> Result<(), StageError> {
        let doing = "cannot set the time";
        let next = self
            .provider
            .raw_request::<_, serde_json::Value>("evm_setNextBlockTimestamp".into(), (time,));
        next.await.doing(doing)?;
        let mined = self
            .provider
            .raw_request::<_, serde_json::Value>("evm_mine".into(), ());
        mined.await.doing(doing).map(drop)
    }

    /// Copies what the stage's register says now of a cryptlet and of `signers`.
    ///
    /// # Errors
    /// The register does not know the cryptlet, or the mirror refused the copy.
    pub async fn copy(
        &self,
        stage: &Stage,
        cryptlet: CryptletId,
        signers: &[Address],
    ) -> Result<(), StageError> {
        let doing = "cannot read the register";
        let source_block = stage.provider.get_block_number().await.doing(doing)?;
        let register = CryptletRegister::new(stage.register, &stage.provider);
        let known = register.cryptletOf(cryptlet.0).call().await.doing(doing)?;
        let owner = register.ownerOf(U256::from_be_slice(cryptlet.0.as_slice()));
        let record = CryptletRegisterMirror::Record {
            publisher: known.publisher,
            owner: owner.call().await.doing(doing)?,
            name: known.name_,
            revoked: known.revoked,
            publicKey: register.publicKeyOf(cryptlet.0).call().await.doing(doing)?,
            headerDigest: register
                .headerDigestOf(cryptlet.0)
                .call()
                .await
                .doing(doing)?,
            hosts: register.hostsOf(cryptlet.0).call().await.doing(doing)?,
        };
        let cryptlet = cryptlet.0;
        self.send(CryptletRegisterMirror::mirrorCryptletCall {
            cryptlet,
            record,
            sourceBlock: source_block,
        })
        .await?;
        for &signer in signers {
            let known = register.signerOf(cryptlet, signer).call().await;
            let known = known.doing(doing)?;
            let version = register.versionOf(cryptlet, known.version).call().await;
            self.send(CryptletRegisterMirror::mirrorSignerCall {
                cryptlet,
                signer,
                expiry: known.expiry,
                revoked: known.revoked || version.doing(doing)?.revoked,
                sourceBlock: source_block,
            })
            .await?;
        }
        Ok(())
    }

    async fn send(&self, call: impl SolCall) -> Result<(), StageError> {
        let doing = "cannot copy to the mirror";
        let request = TransactionRequest::default()
            .with_to(self.register)
            .with_input(call.abi_encode());
        let sent = self.provider.send_transaction(request).await.doing(doing)?;
        contracts::mined(sent, doing).await
    }
}
