//! [`Chain`] over JSON-RPC.

use super::{
    abi::{self, CryptoDelegate},
    connection::{Asker, Connection},
    decode::{self, DELIVERED_TOPIC, LogPosition, SUBSCRIPTION_TOPICS},
    endpoint::CallError,
    inclusion,
    reader::{AT_ONCE, EvmConfig, Reader},
    signed,
};
use crate::{
    BroadcastError, Chain, ChainError, Delivery, Fees, Head, Rejection, SubscriptionChange,
    TransactionOutcome,
};
use alloy::{
    network::TransactionBuilder,
    rpc::types::{
        Block, BlockId, BlockNumberOrTag, Filter, TransactionReceipt, TransactionRequest,
    },
    sol_types::SolCall,
    transports::RpcError,
};
use alloy_primitives::{Address, B256, Bytes, Log, U64, U128, keccak256};
use async_trait::async_trait;
use cryptlet_types::{
    CryptletId, ReportDomain, SignedDelegation, SignedReport, Subject, bounded::clip,
    receipt::Inclusion, report::CompactSignature,
};
use futures::{StreamExt, TryStreamExt, stream};
use std::{collections::BTreeMap, ops::RangeInclusive};
use tokio::task::JoinSet;

/// Suggested priority fee where a node suggests none, in wei: 1 gwei.
const DEFAULT_PRIORITY_FEE: u128 = 1_000_000_000;
/// JSON-RPC code of "method not found".
const METHOD_NOT_FOUND: i64 = -32601;

/// A chain of Ethereum's kind, as one node serves it, or several.
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
        let reader = Reader::open(&config, "delegate").await?;
        let chain_id = reader.connection().chain_id();
        let domain = ReportDomain { chain_id, delegate };
        Ok(Self { reader, domain })
    }

    fn connection(&self) -> &Connection {
        self.reader.connection()
    }

    async fn receipt(&self, hash: B256) -> Result<Option<TransactionReceipt>, ChainError> {
        let receipt = self.connection().call("eth_getTransactionReceipt", (hash,));
        let receipt: Option<TransactionReceipt> = receipt.await?;
        match receipt {
            Some(receipt) if receipt.transaction_hash != hash => Err(ChainError::Inconsistent(
                "receipt of another transaction".to_owned(),
            )),
            receipt => Ok(receipt),
        }
    }

    /// All receipts of a block, in order; none if the node does not have that block.
    async fn receipts(&self, block: B256) -> Result<Option<Vec<TransactionReceipt>>, ChainError> {
        let id = BlockId::from(block);
        let receipts = self
            .connection()
            .call("eth_getBlockReceipts", (id,))
            .await?;
        let receipts: Option<Vec<TransactionReceipt>> = receipts;
        let strange = |(place, receipt): (u64, &TransactionReceipt)| {
            receipt.block_hash != Some(block) || receipt.transaction_index != Some(place)
        };
        match &receipts {
            Some(found) if (0..).zip(found).any(strange) => Err(ChainError::Inconsistent(
                "receipts of another block".to_owned(),
            )),
            _ => Ok(receipts),
        }
    }

    async fn outcome_of(&self, hash: B256) -> Result<Option<TransactionOutcome>, ChainError> {
        let receipt = self.receipt(hash).await?;
        receipt.map(|receipt| self.outcome(&receipt)).transpose()
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
        let asked = (request, BlockId::pending());
        let answer = self.connection().call_raw::<_, Bytes>("eth_call", asked);
        match answer.await {
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

    fn changes(&self, logs: &[(Log, LogPosition)]) -> Vec<SubscriptionChange> {
        let change =
            |(log, at): &(Log, LogPosition)| decode::subscription_change(log, &self.domain, *at);
        logs.iter().filter_map(change).collect()
    }

    async fn priority_fee(&self) -> Result<u128, ChainError> {
        let asked = self.connection().call("eth_maxPriorityFeePerGas", ());
        let answer: Result<U128, _> = asked.await;
        match answer {
            Err(ChainError::Refused {
                code: METHOD_NOT_FOUND,
                ..
            }) => Ok(DEFAULT_PRIORITY_FEE),
            answer => Ok(answer?.to()),
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
        Ok(self.changes(&logs))
    }

    async fn subscription_changes_of(
        &self,
        block: &Head,
    ) -> Result<Vec<SubscriptionChange>, ChainError> {
        let filter = Filter::new().event_signature(SUBSCRIPTION_TOPICS.to_vec());
        let logs = self.reader.dated_logs_of_block(&filter, block).await?;
        Ok(self.changes(&logs))
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
        let blocks = from_block..=head.number;
        for log in self.reader.contract_logs(&filter, blocks).await? {
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
        let at = if pending {
            BlockNumberOrTag::Pending
        } else {
            BlockNumberOrTag::Latest
        };
        let asked = self
            .connection()
            .call("eth_getTransactionCount", (account, at));
        let count: U64 = asked.await?;
        Ok(count.to())
    }

    async fn fees(&self) -> Result<Fees, ChainError> {
        let latest = (BlockNumberOrTag::Latest, false);
        let block = self.connection().call("eth_getBlockByNumber", latest);
        let (block, priority_fee) = tokio::try_join!(block, self.priority_fee())?;
        let block: Option<Block> = block;
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
        let mut sent = JoinSet::new();
        for (place, asker) in self.connection().all().into_iter().enumerate() {
            let raw = transaction.clone();
            sent.spawn(async move { (place, submit(&asker, &raw).await) });
        }
        let mut refusals = BTreeMap::new();
        while let Some(answer) = sent.join_next().await {
            match answer {
                Ok((_, Ok(hash))) => {
                    // The others are still told.
                    sent.detach_all();
                    return Ok(hash);
                }
                Ok((place, Err(refusal))) => {
                    refusals.insert(place, refusal);
                }
                Err(stopped) => tracing::warn!(%stopped, "a transaction was not sent"),
            }
        }
        Err(weightiest(refusals.into_values()))
    }

    async fn transaction_outcome(
        &self,
        transaction: B256,
    ) -> Result<Option<TransactionOutcome>, ChainError> {
        self.outcome_of(transaction).await
    }

    async fn transaction_outcomes(
        &self,
        transactions: &[B256],
    ) -> Result<Vec<Option<TransactionOutcome>>, ChainError> {
        let transactions = transactions.to_vec();
        let asked = transactions.into_iter().map(|hash| self.outcome_of(hash));
        stream::iter(asked).buffered(AT_ONCE).try_collect().await
    }

    async fn block_outcomes(
        &self,
        block: B256,
    ) -> Result<Option<Vec<TransactionOutcome>>, ChainError> {
        let Some(receipts) = self.receipts(block).await? else {
            return Ok(None);
        };
        let outcomes = receipts.iter().map(|receipt| self.outcome(receipt));
        outcomes.collect::<Result<_, _>>().map(Some)
    }

    async fn inclusion(&self, transaction: B256) -> Result<Inclusion, ChainError> {
        let outcome = self.outcome_of(transaction).await?;
        let outcome = outcome.ok_or(ChainError::NotIncluded(transaction))?;
        let found = self.inclusions(outcome.block_hash, &[transaction]).await;
        let mut found = match found {
            Err(ChainError::NotIncluded(_)) => {
                let number = outcome.block;
                return Err(ChainError::Reorged { number });
            }
            found => found?,
        };
        found
            .remove(&transaction)
            .ok_or(ChainError::NotIncluded(transaction))
    }

    async fn inclusions(
        &self,
        block: B256,
        transactions: &[B256],
    ) -> Result<BTreeMap<B256, Inclusion>, ChainError> {
        let Some(first) = transactions.first() else {
            return Ok(BTreeMap::new());
        };
        let whole = self.connection().call("eth_getBlockByHash", (block, true));
        let (whole, receipts) = tokio::try_join!(whole, self.receipts(block))?;
        let (Some(whole), Some(receipts)): (Option<Block>, _) = (whole, receipts) else {
            return Err(ChainError::NotIncluded(*first));
        };
        if whole.header.hash != block {
            return Err(ChainError::Inconsistent("another block".to_owned()));
        }
        inclusion::prove_all(whole, receipts, transactions)
    }
}

/// Hands a transaction to one endpoint.
async fn submit(asker: &Asker, raw: &Bytes) -> Result<B256, BroadcastError> {
    let hash = keccak256(raw);
    let answer: Result<B256, _> = asker.ask("eth_sendRawTransaction", (raw.clone(),)).await;
    match answer {
        Ok(answer) if answer == hash => Ok(hash),
        Ok(_) => Err(ChainError::Inconsistent("hash of another transaction".to_owned()).into()),
        Err(CallError::Rpc(RpcError::ErrorResp(payload))) => {
            Err(BroadcastError::from_message(&payload.message))
        }
        Err(error) => Err(error.sorted("eth_sendRawTransaction").into()),
    }
}

/// What counts where all refuse: that one has it already, or else what the first says that says anything.
fn weightiest(refusals: impl Iterator<Item = BroadcastError>) -> BroadcastError {
    let weight = |refusal: &BroadcastError| match refusal {
        BroadcastError::AlreadyKnown => 0,
        BroadcastError::Chain(_) => 2,
        _ => 1,
    };
    refusals
        .min_by_key(weight)
        .unwrap_or_else(|| ChainError::Url("none given".to_owned()).into())
}

/// Code 3 is what geth gives a revert; others say it in words.
fn is_revert(payload: &alloy::rpc::json_rpc::ErrorPayload) -> bool {
    payload.code == 3 || payload.message.contains("revert")
}
