//! [`Chain`] over JSON-RPC.

use super::{
    abi::{self, CryptoDelegate},
    connection::{CallError, Connection},
    decode::{self, DELIVERED_TOPIC, LogPosition, SUBSCRIPTION_TOPICS},
    inclusion,
};
use crate::{
    BroadcastError, Chain, ChainError, Delivery, Fees, Head, Rejection, SubscriptionChange,
    TransactionOutcome,
};
use alloy::{
    network::TransactionBuilder,
    providers::Provider,
    rpc::types::{BlockId, BlockNumberOrTag, Filter, Log, TransactionReceipt, TransactionRequest},
    sol_types::SolCall,
    transports::RpcError,
};
use alloy_primitives::{Address, B256, Bytes, keccak256};
use async_trait::async_trait;
use cryptlet_types::{
    CryptletId, ReportDomain, SignedReport, Subject, UnixSeconds, bounded::clip, receipt::Inclusion,
};
use std::{collections::HashMap, ops::RangeInclusive, time::Duration};

/// Suggested priority fee where a node suggests none, in wei: 1 gwei.
const DEFAULT_PRIORITY_FEE: u128 = 1_000_000_000;
/// JSON-RPC code of "method not found".
const METHOD_NOT_FOUND: i64 = -32601;

/// How to reach a node, and what to expect there.
#[derive(Clone, Debug)]
pub struct EvmConfig {
    /// `http`, `https`, `ws` or `wss` URL of the node's JSON-RPC. Over a WebSocket, new heads are pushed.
    pub url: String,
    /// Address of the `CryptoDelegate`.
    pub delegate: Address,
    /// Time limit of one call.
    pub timeout: Duration,
    /// Pause between two looks at the head where none are pushed (and ten times that where they are).
    pub poll_interval: Duration,
    /// Most blocks that one `eth_getLogs` asks for.
    pub log_span: u64,
}

impl EvmConfig {
    /// 10 s a call, 50 ms between looks at the head, 1,000 blocks a log query.
    #[must_use]
    pub fn new(url: impl Into<String>, delegate: Address) -> Self {
        Self {
            url: url.into(),
            delegate,
            timeout: Duration::from_secs(10),
            poll_interval: Duration::from_millis(50),
            log_span: 1_000,
        }
    }
}

/// A chain of Ethereum's kind, as one node serves it.
#[derive(Debug)]
pub struct EvmChain {
    connection: Connection,
    domain: ReportDomain,
    poll_interval: Duration,
    log_span: u64,
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
        let connection = Connection::open(&config.url, config.timeout).await?;
        let code = connection.provider().get_code_at(config.delegate);
        if connection.call("eth_getCode", code).await?.is_empty() {
            return Err(ChainError::NoDelegate(config.delegate));
        }
        let domain = ReportDomain {
            chain_id: connection.chain_id(),
            delegate: config.delegate,
        };
        Ok(Self {
            connection,
            domain,
            poll_interval: config.poll_interval,
            log_span: config.log_span.max(1),
        })
    }

    async fn block_header(&self, block: BlockNumberOrTag) -> Result<Option<Head>, ChainError> {
        let request = self.connection.provider().get_block_by_number(block);
        let block = self
            .connection
            .call("eth_getBlockByNumber", request)
            .await?;
        Ok(block.as_ref().map(Head::from))
    }

    /// The delegate's logs in `blocks` that match `filter`, in order, asked for in spans.
    async fn logs(
        &self,
        filter: &Filter,
        blocks: RangeInclusive<u64>,
    ) -> Result<Vec<Log>, ChainError> {
        let mut found = Vec::new();
        let mut from = *blocks.start();
        while from <= *blocks.end() {
            let to = from.saturating_add(self.log_span - 1).min(*blocks.end());
            let asked = filter
                .clone()
                .address(self.domain.delegate)
                .from_block(from)
                .to_block(to);
            let request = self.connection.provider().get_logs(&asked);
            let logs = self.connection.call("eth_getLogs", request).await?;
            for log in &logs {
                self.check_log(log, from..=to)?;
            }
            found.extend(logs);
            let Some(next) = to.checked_add(1) else { break };
            from = next;
        }
        found.sort_by_key(|log| (log.block_number, log.log_index));
        Ok(found)
    }

    fn check_log(&self, log: &Log, asked: RangeInclusive<u64>) -> Result<(), ChainError> {
        let in_range = log.block_number.is_some_and(|block| asked.contains(&block));
        if log.address() == self.domain.delegate && in_range && log.log_index.is_some() {
            Ok(())
        } else {
            Err(ChainError::Malformed {
                method: "eth_getLogs",
                message: "a log that was not asked for".to_owned(),
            })
        }
    }

    async fn timestamp(
        &self,
        number: u64,
        known: &mut HashMap<u64, UnixSeconds>,
    ) -> Result<UnixSeconds, ChainError> {
        if let Some(timestamp) = known.get(&number) {
            return Ok(*timestamp);
        }
        let head = self.header(number).await?;
        let timestamp = head.ok_or(ChainError::Reorged { number })?.timestamp;
        known.insert(number, timestamp);
        Ok(timestamp)
    }

    async fn receipt(&self, hash: B256) -> Result<Option<TransactionReceipt>, ChainError> {
        let request = self.connection.provider().get_transaction_receipt(hash);
        self.connection
            .call("eth_getTransactionReceipt", request)
            .await
    }

    fn outcome(&self, receipt: &TransactionReceipt) -> Result<TransactionOutcome, ChainError> {
        let missing = |field: &str| ChainError::Malformed {
            method: "eth_getTransactionReceipt",
            message: format!("{field}: missing"),
        };
        let logs = receipt.logs().iter().map(|log| &log.inner);
        Ok(TransactionOutcome {
            transaction: receipt.transaction_hash,
            block: receipt.block_number.ok_or_else(|| missing("blockNumber"))?,
            block_hash: receipt.block_hash.ok_or_else(|| missing("blockHash"))?,
            index: receipt
                .transaction_index
                .ok_or_else(|| missing("transactionIndex"))?,
            success: receipt.status(),
            gas_used: receipt.gas_used,
            delivered: decode::delivered_reports(self.domain.delegate, logs),
        })
    }

    async fn priority_fee(&self) -> Result<u128, ChainError> {
        let request = self.connection.provider().get_max_priority_fee_per_gas();
        match self
            .connection
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
        self.block_header(BlockNumberOrTag::Latest)
            .await?
            .ok_or_else(|| ChainError::Malformed {
                method: "eth_getBlockByNumber",
                message: "no latest block".to_owned(),
            })
    }

    async fn header(&self, number: u64) -> Result<Option<Head>, ChainError> {
        let head = self.block_header(BlockNumberOrTag::Number(number)).await?;
        match head {
            Some(head) if head.number != number => Err(ChainError::Inconsistent(format!(
                "block {} instead of {number}",
                head.number
            ))),
            head => Ok(head),
        }
    }

    async fn next_head(&self, after: &Head) -> Result<Head, ChainError> {
        let mut notices = self.connection.notices();
        let pause = if notices.are_pushed() {
            self.poll_interval.saturating_mul(10)
        } else {
            self.poll_interval
        };
        loop {
            let head = self.head().await?;
            if head.hash != after.hash {
                return Ok(head);
            }
            notices.next(pause).await;
        }
    }

    async fn subscription_changes(
        &self,
        blocks: RangeInclusive<u64>,
    ) -> Result<Vec<SubscriptionChange>, ChainError> {
        let filter = Filter::new().event_signature(SUBSCRIPTION_TOPICS.to_vec());
        let mut timestamps = HashMap::new();
        let mut changes = Vec::new();
        for log in self.logs(&filter, blocks).await? {
            let (Some(block), Some(index)) = (log.block_number, log.log_index) else {
                continue;
            };
            let timestamp = self.timestamp(block, &mut timestamps).await?;
            let at = LogPosition {
                block,
                index,
                timestamp,
            };
            changes.extend(decode::subscription_change(&log.inner, at));
        }
        Ok(changes)
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
        let request = TransactionRequest::default()
            .with_to(self.domain.delegate)
            .with_input(call.abi_encode());
        // Without a block alloy asks for the pending one, where what waits in the pool is as good as consumed.
        let answer = self.connection.provider().call(request);
        let answer = answer.block(BlockId::latest());
        let answer = self.connection.call("eth_call", answer).await?;
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
        from: Address,
        gas_limit: u64,
    ) -> Result<Result<(), Rejection>, ChainError> {
        let (to, input) = self.delivery_call(report);
        let request = TransactionRequest::default()
            .with_from(from)
            .with_to(to)
            .with_input(input)
            .with_gas_limit(gas_limit);
        let provider = self.connection.provider();
        let answer = provider.call(request).block(BlockId::pending());
        match self.connection.call_raw(answer).await {
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
        for log in self.logs(&filter, from_block..=head.number).await? {
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

    async fn nonce(&self, account: Address, pending: bool) -> Result<u64, ChainError> {
        let request = self.connection.provider().get_transaction_count(account);
        let request = if pending { request.pending() } else { request };
        self.connection
            .call("eth_getTransactionCount", request)
            .await
    }

    async fn fees(&self) -> Result<Fees, ChainError> {
        let request = self
            .connection
            .provider()
            .get_block_by_number(BlockNumberOrTag::Latest);
        let (block, priority_fee) = tokio::try_join!(
            self.connection.call("eth_getBlockByNumber", request),
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

    fn delivery_call(&self, report: &SignedReport) -> (Address, Bytes) {
        let input = abi::deliver_call(report).abi_encode();
        (self.domain.delegate, input.into())
    }

    async fn broadcast(&self, transaction: &Bytes) -> Result<B256, BroadcastError> {
        let hash = keccak256(transaction);
        let request = self
            .connection
            .provider()
            .client()
            .request::<_, B256>("eth_sendRawTransaction", (transaction,));
        match self.connection.call_raw(request).await {
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

    async fn inclusion(&self, transaction: B256) -> Result<Inclusion, ChainError> {
        let outcome = self.transaction_outcome(transaction).await?;
        let outcome = outcome.ok_or(ChainError::NotIncluded(transaction))?;
        let number = outcome.block;
        let provider = self.connection.provider();
        let block = provider.get_block_by_number(number.into()).full();
        let block = self.connection.call("eth_getBlockByNumber", block).await?;
        let receipts = provider.get_block_receipts(number.into());
        let receipts = self
            .connection
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
