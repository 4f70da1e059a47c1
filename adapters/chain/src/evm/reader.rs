//! What every contract is read by: heads, headers, its logs in bounded spans, and questions without a transaction.

use super::{connection::Connection, decode::LogPosition};
use crate::{ChainError, Head};
use alloy::{
    network::TransactionBuilder,
    providers::Provider,
    rpc::types::{BlockId, BlockNumberOrTag, Filter, Log, TransactionRequest},
};
use alloy_primitives::{Address, Bytes};
use cryptlet_types::UnixSeconds;
use std::{collections::HashMap, ops::RangeInclusive, time::Duration};

/// How to reach a node, and what to expect there.
#[derive(Clone, Debug)]
pub struct EvmConfig {
    /// `http`, `https`, `ws` or `wss` URL of the node's JSON-RPC. Over a WebSocket, new heads are pushed.
    pub url: String,
    /// Address of the contract that is read: the `CryptoDelegate` or the `CryptletRegister`.
    pub contract: Address,
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
    pub fn new(url: impl Into<String>, contract: Address) -> Self {
        Self {
            url: url.into(),
            contract,
            timeout: Duration::from_secs(10),
            poll_interval: Duration::from_millis(50),
            log_span: 1_000,
        }
    }
}

/// One contract, as one node shows it.
#[derive(Debug)]
pub(super) struct Reader {
    connection: Connection,
    contract: Address,
    poll_interval: Duration,
    log_span: u64,
}

impl Reader {
    /// Connects, reads the chain id, and makes sure that there is a contract. `what` it should be, for the error.
    pub(super) async fn open(config: EvmConfig, what: &'static str) -> Result<Self, ChainError> {
        let address = config.contract;
        let connection = Connection::open(&config.url, config.timeout).await?;
        let code = connection.provider().get_code_at(address);
        if connection.call("eth_getCode", code).await?.is_empty() {
            return Err(ChainError::NoContract { what, address });
        }
        Ok(Self {
            connection,
            contract: address,
            poll_interval: config.poll_interval,
            log_span: config.log_span.max(1),
        })
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    async fn block(&self, block: BlockNumberOrTag) -> Result<Option<Head>, ChainError> {
        let request = self.connection.provider().get_block_by_number(block);
        let block = self
            .connection
            .call("eth_getBlockByNumber", request)
            .await?;
        Ok(block.as_ref().map(Head::from))
    }

    pub(super) async fn head(&self) -> Result<Head, ChainError> {
        self.block(BlockNumberOrTag::Latest)
            .await?
            .ok_or_else(|| ChainError::Malformed {
                method: "eth_getBlockByNumber",
                message: "no latest block".to_owned(),
            })
    }

    pub(super) async fn header(&self, number: u64) -> Result<Option<Head>, ChainError> {
        let head = self.block(BlockNumberOrTag::Number(number)).await?;
        match head {
            Some(head) if head.number != number => Err(ChainError::Inconsistent(format!(
                "block {} instead of {number}",
                head.number
            ))),
            head => Ok(head),
        }
    }

    pub(super) async fn next_head(&self, after: &Head) -> Result<Head, ChainError> {
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

    /// The contract's logs in `blocks` that match `filter`, in order, asked for in spans.
    pub(super) async fn logs(
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
                .address(self.contract)
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
        if log.address() == self.contract && in_range && log.log_index.is_some() {
            Ok(())
        } else {
            Err(ChainError::Malformed {
                method: "eth_getLogs",
                message: "a log that was not asked for".to_owned(),
            })
        }
    }

    /// As [`Reader::logs`], each with its place and its block's time.
    pub(super) async fn dated_logs(
        &self,
        filter: &Filter,
        blocks: RangeInclusive<u64>,
    ) -> Result<Vec<(alloy_primitives::Log, LogPosition)>, ChainError> {
        let mut timestamps = HashMap::new();
        let mut dated = Vec::new();
        for log in self.logs(filter, blocks).await? {
            let (Some(block), Some(index)) = (log.block_number, log.log_index) else {
                continue;
            };
            let timestamp = self.timestamp(block, &mut timestamps).await?;
            let at = LogPosition {
                block,
                index,
                timestamp,
            };
            dated.push((log.inner, at));
        }
        Ok(dated)
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

    /// Calls a function of the contract that changes nothing, as of the newest block. Without a block alloy asks for
    /// the pending one, where what waits in the pool is as good as done.
    pub(super) async fn ask(&self, input: Vec<u8>) -> Result<Bytes, ChainError> {
        let request = TransactionRequest::default()
            .with_to(self.contract)
            .with_input(input);
        let answer = self.connection.provider().call(request);
        let answer = answer.block(BlockId::latest());
        self.connection.call("eth_call", answer).await
    }
}
