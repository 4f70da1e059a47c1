//! [`Chain`] over JSON-RPC.

use super::{
    abi::{self, CryptoDelegate},
    connection::{CallError, Connection},
    decode::{self, DELIVERED_TOPIC, SUBSCRIPTION_TOPICS},
    inclusion,
    reader::{EvmConfig, Reader},
    signed,
};
use crate::{
    BroadcastError, Chain, ChainError, Delivery, Fees, Head, Rejection, SubscriptionChange,
    TransactionOutcome,
};
use alloy::{
    network::TransactionBuilder,
    providers::Provider,
    rpc::types::{BlockId, BlockNumberOrTag, Filter, TransactionReceipt, TransactionRequest},
    sol_types::SolCall,
    transports::RpcError,
};
use alloy_primitives::{Address, B256, Bytes, keccak256};
use async_trait::async_trait;
use cryptlet_types::{
    CryptletId, ReportDomain, SignedDelegation, SignedReport, Subject, bounded::clip,
    receipt::Inclusion, report::CompactSignature,
};
use std::ops::RangeInclusive;

/// Suggested priority fee where a node suggests none, in wei: 1 gwei.
const DEFAULT_PRIORITY_FEE: u128 = 1_000_000_000;
/// JSON-RPC code of "method not found".
const METHOD_NOT_FOUND: i64 = -32601;

/// A chain of Ethereum's kind, as one node serves it.
#[derive(Debug)]
pub struct EvmChain {
    reader: Reader,
    domain: ReportDomain,
}

impl EvmChain {
    /// Connects with the defaults of [`EvmConfig::new`].
    ///
    /// # Errors
    /// As [`EvmChain::open`].
    pub async fn connect(url: &str, delegate: Address) -> Result<Self, ChainError> {
        Self::open(EvmConfig::new(url, delegate)).await
    }

    /// Connects, reads the chain id, and makes sure that there is a contract at the delegate's address.
    ///
    /// # Errors
    /// The node cannot be reached, answers nonsense, or holds no code at the delegate's address.
    pub async fn open(config: EvmConfig) -> Result<Self, ChainError> {
        let delegate = config.contract;
        let reader = Reader::open(config, "delegate").await?;
        let chain_id = reader.connection().chain_id();
        let domain = ReportDomain { chain_id, delegate };
        Ok(Self { reader, domain })
    }

    fn connection(&self) -> &Connection {
        self.reader.connection()
    }

    async fn receipt(&self, hash: B256) -> Result<Option<TransactionReceipt>, ChainError> {
        let request = self.connection().provider().get_transaction_receipt(hash);
        self.connection()
            .call("eth_getTransactionReceipt", request)
            .await
    }

    fn outcome(&self, receipt: &TransactionReceipt) -> Result<TransactionOutcome, ChainError> {
        let missing = |field: &str| ChainError::Malformed {
            method: "eth_getTransactionReceipt",
            message: format!("{field}: missing"),
        };
        let delegate = self.domain.delegate;
        let logs = || receipt.logs().iter().map(|log| &log.inner);
        Ok(TransactionOutcome {
            transaction: receipt.transaction_hash,
            block: receipt.block_number.ok_or_else(|| missing("blockNumber"))?,
            block_hash: receipt.block_hash.ok_or_else(|| missing("blockHash"))?,
            index: receipt
                .transaction_index
                .ok_or_else(|| missing("transactionIndex"))?,
            success: receipt.status(),
            gas_used: receipt.gas_used,
            delivered: decode::delivered_reports(delegate, logs()),
            undelivered: decode::undelivered_reports(delegate, logs()),
        })
    }

    /// Asks the delegate, without a transaction, what the call would come to in the pending block.
    async fn try_call(
        &self,
        (to, input): (Address, Bytes),
        from: Address,
        gas_limit: u64,
    ) -> Result<Result<(), Rejection>, ChainError> {
        let request = TransactionRequest::default()
            .with_from(from)
            .with_to(to)
            .with_input(input)
            .with_gas_limit(gas_limit);
        let provider = self.connection().provider();
        let answer = provider.call(request).block(BlockId::pending());
        match self.connection().call_raw(answer).await {
            Ok(_) => Ok(Ok(())),
            Err(CallError::Rpc(RpcError::ErrorResp(payload))) if is_revert(&payload) => {
                let rejection = payload.as_revert_data().map_or_else(
                    || Rejection::Other(clip(&payload.message)),
                    |data| decode::rejection(&data),
                );
                Ok(Err(rejection))
            }
            Err(error) => Err(error.sorted("eth_call")),
        }
    }

    async fn priority_fee(&self) -> Result<u128, ChainError> {
        let request = self.connection().provider().get_max_priority_fee_per_gas();
        match self
            .connection()
            .call("eth_maxPriorityFeePerGas", request)
            .await
        {
            Err(ChainError::Refused {
                code: METHOD_NOT_FOUND,
                ..
            }) => Ok(DEFAULT_PRIORITY_FEE),
            answer => answer,
        }
    }
}

#[async_trait]
impl Chain for EvmChain {
    fn domain(&self) -> ReportDomain {
        self.domain
    }

    async fn head(&self) -> Result<Head, ChainError> {
        self.reader.head().await
    }

    async fn header(&self, number: u64) -> Result<Option<Head>, ChainError> {
        self.reader.header(number).await
    }

    async fn next_head(&self, after: &Head) -> Result<Head, ChainError> {
        self.reader.next_head(after).await
    }

    async fn subscription_changes(
        &self,
        blocks: RangeInclusive<u64>,
    ) -> Result<Vec<SubscriptionChange>, ChainError> {
        let filter = Filter::new().event_signature(SUBSCRIPTION_TOPICS.to_vec());
        let logs = self.reader.dated_logs(&filter, blocks).await?;
        Ok(logs
            .iter()
            .filter_map(|(log, at)| decode::subscription_change(log, &self.domain, *at))
            .collect())
    }

    async fn sequence(
        &self,
        cryptlet: CryptletId,
        subject: Subject,
    ) -> Result<Option<u64>, ChainError> {
        let call = CryptoDelegate::subscriptionCall {
            cryptlet: cryptlet.0,
            subject: subject.0,
        };
        let answer = self.reader.ask(call.abi_encode()).await?;
        let found = CryptoDelegate::subscriptionCall::abi_decode_returns_validate(&answer)
            .map_err(|error| ChainError::Malformed {
                method: "eth_call",
                message: clip(&error.to_string()),
            })?;
        Ok((found.consumer != Address::ZERO).then_some(found.sequence))
    }

    async fn preflight(
        &self,
        report: &SignedReport,
        delegation: Option<&SignedDelegation>,
        from: Address,
        gas_limit: u64,
    ) -> Result<Result<(), Rejection>, ChainError> {
        let call = self.delivery_call(report, delegation);
        self.try_call(call, from, gas_limit).await
    }

    async fn preflight_batch(
        &self,
        reports: &[SignedReport],
        signature: &CompactSignature,
        from: Address,
        gas_limit: u64,
    ) -> Result<Result<(), Rejection>, ChainError> {
        let call = self.batch_call(reports, signature);
        self.try_call(call, from, gas_limit).await
    }

    async fn delivery(
        &self,
        subject: Subject,
        sequence: u64,
        from_block: u64,
    ) -> Result<Option<Delivery>, ChainError> {
        let head = self.head().await?;
        let filter = Filter::new()
            .event_signature(DELIVERED_TOPIC)
            .topic1(subject.0);
        for log in self.reader.logs(&filter, from_block..=head.number).await? {
            let matches = decode::delivered_reports(self.domain.delegate, [&log.inner])
                .iter()
                .any(|report| report.sequence == sequence);
            let Some(transaction) = log.transaction_hash.filter(|_| matches) else {
                continue;
            };
            let outcome = self.transaction_outcome(transaction).await?;
            return Ok(outcome.and_then(|outcome| outcome.delivery(subject, sequence)));
        }
        Ok(None)
    }

    async fn is_delegation_revoked(&self, digest: B256) -> Result<bool, ChainError> {
        let call = CryptoDelegate::isDelegationRevokedCall { digest };
        let answer = self.reader.ask(call.abi_encode()).await?;
        CryptoDelegate::isDelegationRevokedCall::abi_decode_returns_validate(&answer).map_err(
            |error| ChainError::Malformed {
                method: "eth_call",
                message: clip(&error.to_string()),
            },
        )
    }

    async fn is_signed_by(
        &self,
        account: Address,
        digest: B256,
        signature: &Bytes,
    ) -> Result<bool, ChainError> {
        signed::is_signed_by(&self.reader, account, digest, signature).await
    }

    async fn nonce(&self, account: Address, pending: bool) -> Result<u64, ChainError> {
        let request = self.connection().provider().get_transaction_count(account);
        let request = if pending { request.pending() } else { request };
        self.connection()
            .call("eth_getTransactionCount", request)
            .await
    }

    async fn fees(&self) -> Result<Fees, ChainError> {
        let request = self
            .connection()
            .provider()
            .get_block_by_number(BlockNumberOrTag::Latest);
        let (block, priority_fee) = tokio::try_join!(
            self.connection().call("eth_getBlockByNumber", request),
            self.priority_fee(),
        )?;
        let base_fee = block.and_then(|block| block.header.base_fee_per_gas);
        let base_fee = base_fee.ok_or_else(|| ChainError::Malformed {
            method: "eth_getBlockByNumber",
            message: "baseFeePerGas: missing".to_owned(),
        })?;
        Ok(Fees {
            base_fee: base_fee.into(),
            priority_fee,
        })
    }

    fn delivery_call(
        &self,
        report: &SignedReport,
        delegation: Option<&SignedDelegation>,
    ) -> (Address, Bytes) {
        let input = match delegation {
            None => abi::deliver_call(report).abi_encode(),
            Some(signed) => abi::deliver_on_behalf_of_call(report, signed).abi_encode(),
        };
        (self.domain.delegate, input.into())
    }

    fn batch_call(
        &self,
        reports: &[SignedReport],
        signature: &CompactSignature,
    ) -> (Address, Bytes) {
        let input = abi::deliver_batch_call(reports, signature).abi_encode();
        (self.domain.delegate, input.into())
    }

    async fn broadcast(&self, transaction: &Bytes) -> Result<B256, BroadcastError> {
        let hash = keccak256(transaction);
        let request = self
            .connection()
            .provider()
            .client()
            .request::<_, B256>("eth_sendRawTransaction", (transaction,));
        match self.connection().call_raw(request).await {
            Ok(answer) if answer == hash => Ok(hash),
            Ok(_) => Err(ChainError::Inconsistent("hash of another transaction".to_owned()).into()),
            Err(CallError::Rpc(RpcError::ErrorResp(payload))) => {
                Err(BroadcastError::from_message(&payload.message))
            }
            Err(error) => Err(error.sorted("eth_sendRawTransaction").into()),
        }
    }

    async fn transaction_outcome(
        &self,
        transaction: B256,
    ) -> Result<Option<TransactionOutcome>, ChainError> {
        match self.receipt(transaction).await? {
            Some(receipt) if receipt.transaction_hash != transaction => Err(
                ChainError::Inconsistent("receipt of another transaction".to_owned()),
            ),
            Some(receipt) => self.outcome(&receipt).map(Some),
            None => Ok(None),
        }
    }

    async fn block_outcomes(
        &self,
        block: B256,
    ) -> Result<Option<Vec<TransactionOutcome>>, ChainError> {
        let provider = self.connection().provider();
        let receipts = provider.get_block_receipts(block.into());
        let receipts = self
            .connection()
            .call("eth_getBlockReceipts", receipts)
            .await?;
        let outcomes = receipts.map(|all| all.iter().map(|one| self.outcome(one)).collect());
        outcomes.transpose()
    }

    async fn inclusion(&self, transaction: B256) -> Result<Inclusion, ChainError> {
        let outcome = self.transaction_outcome(transaction).await?;
        let outcome = outcome.ok_or(ChainError::NotIncluded(transaction))?;
        let number = outcome.block;
        let provider = self.connection().provider();
        let block = provider.get_block_by_number(number.into()).full();
        let block = self
            .connection()
            .call("eth_getBlockByNumber", block)
            .await?;
        let receipts = provider.get_block_receipts(number.into());
        let receipts = self
            .connection()
            .call("eth_getBlockReceipts", receipts)
            .await?;
        let (Some(block), Some(receipts)) = (block, receipts) else {
            return Err(ChainError::Reorged { number });
        };
        let replaced =
            |receipt: &TransactionReceipt| receipt.block_hash != Some(outcome.block_hash);
        if block.header.hash != outcome.block_hash || receipts.iter().any(replaced) {
            return Err(ChainError::Reorged { number });
        }
        inclusion::prove(block, receipts, transaction)
    }
}

/// Code 3 is what geth gives a revert; others say it in words.
fn is_revert(payload: &alloy::rpc::json_rpc::ErrorPayload) -> bool {
    payload.code == 3 || payload.message.contains("revert")
}
