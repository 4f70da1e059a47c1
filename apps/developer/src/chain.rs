//! Contracts on a chain, over JSON-RPC: read, tried without cost, and sent from the developer's own wallet.
//!
//! A transaction is signed first and kept by the caller, then sent: sending the same bytes again after an interruption
//! pays once.

use crate::{
    DeveloperError, Wallet,
    connect::{origin, without_keys},
};
use alloy::{
    eips::{BlockId, Encodable2718},
    network::{EthereumWallet, NetworkTransactionBuilder, TransactionBuilder},
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::types::{TransactionReceipt, TransactionRequest},
    transports::{RpcError, TransportError, TransportErrorKind},
};
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{SolCall, SolInterface};
use cryptlet_chain::evm::abi::{
    CryptletRegister::CryptletRegisterErrors, CryptoDelegate::CryptoDelegateErrors,
};
use cryptlet_types::bounded::clip;
use serde::{Deserialize, Serialize};
use std::{future::IntoFuture, time::Duration};
use tokio::time::{Instant, sleep, timeout};
use url::Url;

/// Longest wait for one answer of a node.
const ANSWER: Duration = Duration::from_secs(30);
/// Most gas that a transaction is given: several times what the dearest one of ours takes.
const MAX_GAS: u64 = 5_000_000;
/// Pause between two looks for a receipt.
const LOOK: Duration = Duration::from_millis(200);

/// A node that answers for one chain.
#[derive(Clone, Debug)]
pub struct ChainClient {
    provider: DynProvider,
    chain_id: u64,
}

/// A signed transaction: public, and good for one use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedTransaction {
    /// Its hash.
    pub hash: B256,
    /// Number of the sender's transaction.
    pub nonce: u64,
    /// Its bytes (EIP-2718).
    pub raw: Bytes,
    /// Most that it can cost, in wei: all its gas at its highest fee.
    pub max_cost: U256,
}

/// A transaction that a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mined {
    /// Its hash.
    pub transaction: B256,
    /// Its block.
    pub block: u64,
    /// What it used.
    pub gas_used: u64,
    /// Most that it could cost, in wei.
    pub max_cost: U256,
}

/// Why a contract reverts.
#[derive(Debug)]
pub(crate) enum Revert {
    Register(CryptletRegisterErrors),
    Delegate(CryptoDelegateErrors),
    Other(String),
}

impl ChainClient {
    /// Connects to a node and asks which chain it serves.
    ///
    /// # Errors
    /// No URL, no answer, or another chain than `expected`.
    pub async fn open(url: &str, expected: u64) -> Result<Self, DeveloperError> {
        let parsed: Url = url
            .parse()
            .map_err(|error| DeveloperError::document("the node's URL", error))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            let reason = "is not an http or https URL";
            return Err(DeveloperError::document(origin(url), reason));
        }
        // The HTTP client is built without a TLS provider of its own and panics where the process has none.
        let _known_already = rustls::crypto::ring::default_provider().install_default();
        let provider = ProviderBuilder::new()
            .disable_recommended_fillers()
            .connect_http(parsed)
            .erased();
        let found = answer("cannot ask the node for its chain", provider.get_chain_id()).await?;
        if found == expected {
            Ok(Self {
                provider,
                chain_id: found,
            })
        } else {
            let url = origin(url);
            Err(DeveloperError::WrongChain {
                url,
                expected,
                found,
            })
        }
    }

    /// Number of the newest block.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn block_number(&self) -> Result<u64, DeveloperError> {
        answer("cannot read the chain", self.provider.get_block_number()).await
    }

    /// Reads from a contract at the latest block.
    pub(crate) async fn read<C: SolCall>(
        &self,
        doing: &str,
        to: Address,
        call: &C,
    ) -> Result<C::Return, DeveloperError> {
        self.read_at(BlockId::latest(), doing, to, call).await
    }

    /// Reads from a contract as it was after a block.
    pub(crate) async fn read_at<C: SolCall>(
        &self,
        block: BlockId,
        doing: &str,
        to: Address,
        call: &C,
    ) -> Result<C::Return, DeveloperError> {
        let request = TransactionRequest::default()
            .with_to(to)
            .with_input(call.abi_encode());
        match self.call(block, doing, request).await? {
            Ok(returned) => {
                C::abi_decode_returns_validate(&returned).map_err(|error| DeveloperError::Chain {
                    doing: doing.to_owned(),
                    reason: clip(&error.to_string()),
                })
            }
            Err(revert) => Err(revert.refusal(doing)),
        }
    }

    /// As [`ChainClient::read`], with a revert of the contract as none.
    pub(crate) async fn read_known<C: SolCall>(
        &self,
        doing: &str,
        to: Address,
        call: &C,
    ) -> Result<Option<C::Return>, DeveloperError> {
        match self.read(doing, to, call).await {
            Err(DeveloperError::Unknown(_) | DeveloperError::Reverted { .. }) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Tries a transaction without sending it.
    pub(crate) async fn attempt<C: SolCall>(
        &self,
        doing: &str,
        from: Address,
        to: Address,
        call: &C,
    ) -> Result<Result<(), Revert>, DeveloperError> {
        let request = TransactionRequest::default()
            .with_from(from)
            .with_to(to)
            .with_input(call.abi_encode());
        Ok(self
            .call(BlockId::latest(), doing, request)
            .await?
            .map(drop))
    }

    async fn call(
        &self,
        block: BlockId,
        doing: &str,
        request: TransactionRequest,
    ) -> Result<Result<Bytes, Revert>, DeveloperError> {
        let call = self.provider.call(request).block(block);
        match timeout(ANSWER, call.into_future()).await {
            Err(_) => Err(late(doing)),
            Ok(Ok(returned)) => Ok(Ok(returned)),
            Ok(Err(error)) => match revert(&error) {
                Some(revert) => Ok(Err(revert)),
                None => Err(failed(doing, &error)),
            },
        }
    }

    /// Signs a transaction of the wallet's that calls a contract. It is not sent. The node says what it takes; what is
    /// out of proportion is not signed, whoever's node it is.
    pub(crate) async fn sign<C: SolCall>(
        &self,
        doing: &str,
        wallet: &Wallet,
        to: Address,
        call: &C,
    ) -> Result<SignedTransaction, DeveloperError> {
        let from = wallet.address();
        let request = TransactionRequest::default()
            .with_from(from)
            .with_to(to)
            .with_input(call.abi_encode());
        let provider = &self.provider;
        let estimate = provider.estimate_gas(request.clone()).into_future();
        let gas = match timeout(ANSWER, estimate).await {
            Err(_) => return Err(late(doing)),
            Ok(Ok(gas)) => gas,
            Ok(Err(error)) => {
                return Err(revert(&error)
                    .map_or_else(|| failed(doing, &error), |revert| revert.refusal(doing)));
            }
        };
        let nonce = answer(doing, provider.get_transaction_count(from).pending()).await?;
        let fees = answer(doing, provider.estimate_eip1559_fees()).await?;
        // The state may differ by the time that a block takes it: a tenth more than it takes now.
        let gas = gas.saturating_add(gas / 10);
        let max_cost = cost(gas, fees.max_fee_per_gas, wallet.max_fee_per_gas())?;
        let request = request
            .with_chain_id(self.chain_id)
            .with_nonce(nonce)
            .with_gas_limit(gas)
            .with_max_fee_per_gas(fees.max_fee_per_gas)
            .with_max_priority_fee_per_gas(fees.max_priority_fee_per_gas);
        let signer = EthereumWallet::from(wallet.signer().clone());
        let envelope = request
            .build(&signer)
            .await
            .map_err(|error| DeveloperError::Wallet(error.to_string()))?;
        Ok(SignedTransaction {
            hash: *envelope.tx_hash(),
            nonce,
            raw: envelope.encoded_2718().into(),
            max_cost,
        })
    }

    /// Sends a signed transaction, or finds it sent already, and waits until a block holds it.
    pub(crate) async fn submit(
        &self,
        doing: &str,
        transaction: &SignedTransaction,
        patience: Duration,
    ) -> Result<Mined, DeveloperError> {
        let sent = self.provider.send_raw_transaction(&transaction.raw);
        if let Err(error) = answer(doing, sent).await {
            // A node that has it already says so in words of its own: what counts is whether it has it.
            let known = self.provider.get_transaction_by_hash(transaction.hash);
            if answer(doing, known).await?.is_none() {
                return Err(error);
            }
        }
        let deadline = Instant::now() + patience;
        loop {
            if let Some(receipt) = self.receipt(doing, transaction.hash).await? {
                return mined(doing, &receipt, transaction.max_cost);
            }
            if Instant::now() >= deadline {
                return Err(DeveloperError::NotMined(transaction.hash));
            }
            sleep(LOOK).await;
        }
    }

    /// What became of a transaction that was signed earlier.
    pub(crate) async fn fate(
        &self,
        doing: &str,
        wallet: Address,
        transaction: &SignedTransaction,
    ) -> Result<Fate, DeveloperError> {
        if let Some(receipt) = self.receipt(doing, transaction.hash).await? {
            return Ok(if receipt.status() {
                Fate::Mined
            } else {
                Fate::Void
            });
        }
        let count = answer(doing, self.provider.get_transaction_count(wallet)).await?;
        Ok(if count > transaction.nonce {
            Fate::Void
        } else {
            Fate::Open
        })
    }

    async fn receipt(
        &self,
        doing: &str,
        hash: B256,
    ) -> Result<Option<TransactionReceipt>, DeveloperError> {
        answer(doing, self.provider.get_transaction_receipt(hash)).await
    }
}

/// What became of a signed transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A block holds it, and it did what it should.
    Mined,
    /// It can still be mined.
    Open,
    /// It was reverted, or another transaction took its number.
    Void,
}

/// Most that a transaction can cost, in wei, if neither its gas nor its fee is out of proportion.
fn cost(gas: u64, fee: u128, max_fee: u128) -> Result<U256, DeveloperError> {
    if gas > MAX_GAS {
        return Err(DeveloperError::TooMuchGas { gas, most: MAX_GAS });
    }
    if fee > max_fee {
        return Err(DeveloperError::TooDear { fee, most: max_fee });
    }
    Ok(U256::from(gas).saturating_mul(U256::from(fee)))
}

fn mined(
    doing: &str,
    receipt: &TransactionReceipt,
    max_cost: U256,
) -> Result<Mined, DeveloperError> {
    if !receipt.status() {
        return Err(DeveloperError::Reverted {
            doing: doing.to_owned(),
            reason: format!("transaction {} was reverted", receipt.transaction_hash),
        });
    }
    Ok(Mined {
        transaction: receipt.transaction_hash,
        block: receipt.block_number.unwrap_or_default(),
        gas_used: receipt.gas_used,
        max_cost,
    })
}

impl Revert {
    /// As an error, in words where the register's errors need them.
    pub(crate) fn refusal(self, doing: &str) -> DeveloperError {
        use CryptletRegisterErrors as Register;
        let unknown = |address: Address| DeveloperError::Unknown(address.to_string());
        let reason = match self {
            Self::Register(Register::NameTaken(taken)) => {
                return DeveloperError::NameTaken {
                    name: taken.name,
                    by: taken.by.into(),
                };
            }
            Self::Register(Register::UnknownCryptlet(error)) => return unknown(error.cryptlet),
            Self::Register(Register::CryptletIsRevoked(error)) => {
                return DeveloperError::Revoked(format!("cryptlet {}", error.cryptlet));
            }
            Self::Register(Register::VersionIsRevoked(error)) => {
                return DeveloperError::Revoked(format!("version {}", error.number));
            }
            Self::Register(Register::SignerIsRevoked(error)) => {
                return DeveloperError::Revoked(format!("signer {}", error.signer));
            }
            Self::Register(error) => in_words(&error),
            Self::Delegate(CryptoDelegateErrors::NotTheIdentity(error)) => {
                format!("{} is not who gave the delegation", error.caller)
            }
            Self::Delegate(CryptoDelegateErrors::DelegationIsRevoked(_)) => {
                return DeveloperError::DelegationRevoked;
            }
            Self::Delegate(error) => named(&error),
            Self::Other(reason) => reason,
        };
        let doing = doing.to_owned();
        DeveloperError::Reverted { doing, reason }
    }
}

/// What the register refuses, in words where somebody at a keyboard can meet it.
fn in_words(error: &CryptletRegisterErrors) -> String {
    use CryptletRegisterErrors as Register;
    match error {
        Register::UnknownSigner(error) => {
            format!(
                "{} is no signer of cryptlet {}",
                error.signer, error.cryptlet
            )
        }
        Register::UnknownVersion(error) => {
            format!(
                "cryptlet {} has no version {}",
                error.cryptlet, error.number
            )
        }
        Register::NotTheOwner(error) => {
            format!("{} does not own cryptlet {}", error.caller, error.cryptlet)
        }
        Register::LabelTaken(error) => {
            format!(
                "version {} has the label {:?} already",
                error.number, error.label
            )
        }
        Register::TooManyVersions(error) => {
            format!("cryptlet {} has as many versions as it may", error.cryptlet)
        }
        Register::OldEpoch(error) => format!(
            "policy {} is not after policy {}, which is in force",
            error.given, error.current
        ),
        Register::NotEnoughApprovals(error) => {
            format!("{} of {} approvals are there", error.given, error.required)
        }
        Register::NotAnAdministrator(error) => {
            format!("{} is not an administrator", error.account)
        }
        error => named(error),
    }
}

/// A contract's error by its own name and arguments.
fn named(error: &impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

/// The revert that a node reports; none if the call failed in another way.
fn revert(error: &TransportError) -> Option<Revert> {
    let RpcError::ErrorResp(payload) = error else {
        return None;
    };
    let Some(data) = payload.as_revert_data() else {
        let reverted = payload.message.contains("revert");
        return reverted.then(|| Revert::Other(clip(&payload.message)));
    };
    if let Ok(error) = CryptletRegisterErrors::abi_decode_validate(&data) {
        return Some(Revert::Register(error));
    }
    Some(match CryptoDelegateErrors::abi_decode_validate(&data) {
        Ok(error) => Revert::Delegate(error),
        Err(_) => Revert::Other(clip(&format!("{} {data}", payload.message))),
    })
}

async fn answer<T>(
    doing: &str,
    request: impl IntoFuture<Output = Result<T, TransportError>>,
) -> Result<T, DeveloperError> {
    match timeout(ANSWER, request.into_future()).await {
        Err(_) => Err(late(doing)),
        Ok(answer) => answer.map_err(|error| failed(doing, &error)),
    }
}

fn late(doing: &str) -> DeveloperError {
    DeveloperError::Chain {
        doing: doing.to_owned(),
        reason: format!("no answer in {} s", ANSWER.as_secs()),
    }
}

fn failed(doing: &str, error: &TransportError) -> DeveloperError {
    let reason = match error {
        RpcError::ErrorResp(payload) => payload.message.to_string(),
        RpcError::Transport(TransportErrorKind::Custom(cause)) => cause.to_string(),
        other => other.to_string(),
    };
    DeveloperError::Chain {
        doing: doing.to_owned(),
        reason: clip(&without_keys(&reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_is_paid_within_bounds_only() {
        assert_eq!(cost(100, 7, 7).unwrap(), U256::from(700));
        assert!(matches!(
            cost(100, 8, 7),
            Err(DeveloperError::TooDear { fee: 8, most: 7 })
        ));
        assert!(cost(MAX_GAS, 1, 7).is_ok());
        assert!(matches!(
            cost(MAX_GAS + 1, 1, 7),
            Err(DeveloperError::TooMuchGas { .. })
        ));
    }
}
