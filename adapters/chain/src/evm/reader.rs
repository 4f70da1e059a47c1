//! What every contract is read by: heads, headers, its logs in bounded spans, and questions without a transaction.

use super::{
    connection::{Asker, Connection},
    decode::LogPosition,
    endpoint::CallError,
    heads::{Block, HeaderRule},
    logs::{self, Asked, Span},
};
use crate::{ChainError, Head};
use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    network::TransactionBuilder,
    rpc::types::{Filter, Log, TransactionRequest},
};
use alloy_primitives::{Address, B256, Bytes};
use cryptlet_types::UnixSeconds;
use futures::{StreamExt, TryStreamExt, stream};
use std::{
    collections::{BTreeMap, HashMap},
    ops::RangeInclusive,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How many questions of one kind are asked at once.
pub(super) const AT_ONCE: usize = 16;

/// How to reach a chain, and what to expect there.
#[derive(Clone, Debug)]
pub struct EvmConfig {
    /// `http`, `https`, `ws` or `wss` URLs of nodes of the same chain, the preferred one first; at least one. Over a
    /// WebSocket, new heads are pushed.
    pub urls: Vec<String>,
    /// Address of the contract that is read: the `CryptoDelegate` or the `CryptletRegister`. Zero where there is none.
    pub contract: Address,
    /// Time limit of one question to one node.
    pub timeout: Duration,
    /// How long a node may take where another one can be asked instead.
    pub failover: Duration,
    /// First rest of a node that has failed; it doubles with each failure, up to 64 times that.
    pub rest: Duration,
    /// Pause between two looks at the head where none are pushed (and ten times that where they are).
    pub poll_interval: Duration,
    /// How long the head may stand still before the nodes are compared with one another.
    pub stall: Duration,
    /// How long a chain that has become shorter, and has no other block instead, is not believed.
    pub rollback_patience: Duration,
    /// Most blocks that one `eth_getLogs` asks for.
    pub log_span: u64,
    /// What is asked of headers.
    pub headers: HeaderRule,
}

impl EvmConfig {
    /// One node; 10 s a question, 2 s where there are several; 1 s the first rest, 50 ms between looks at the head, 30 s
    /// of standstill, 10 s of doubt, 1,000 blocks a log query, headers that hash to their blocks.
    #[must_use]
    pub fn new(url: impl Into<String>, contract: Address) -> Self {
        Self {
            urls: vec![url.into()],
            contract,
            timeout: Duration::from_secs(10),
            failover: Duration::from_secs(2),
            rest: Duration::from_secs(1),
            poll_interval: Duration::from_millis(50),
            stall: Duration::from_secs(30),
            rollback_patience: Duration::from_secs(10),
            log_span: 1_000,
            headers: HeaderRule::Hashes,
        }
    }
}

/// A chain, and a contract on it if there is one.
#[derive(Debug)]
pub(super) struct Reader {
    connection: Connection,
    contract: Address,
    poll_interval: Duration,
    stall: Duration,
    span: Mutex<Span>,
    compared: Mutex<Option<Instant>>,
}

/// A span of logs, or that it was too long.
enum Spanned {
    Logs(Vec<Log>),
    TooMuch(CallError),
}

impl Reader {
    /// Connects, reads the chain id, and makes sure that there is a contract. `what` it should be, for the error.
    pub(super) async fn open(config: &EvmConfig, what: &'static str) -> Result<Self, ChainError> {
        let reader = Self::without_contract(config).await?;
        let address = config.contract;
        let asked = (address, BlockNumberOrTag::Latest);
        let code: Bytes = reader.connection.call("eth_getCode", asked).await?;
        if code.is_empty() {
            return Err(ChainError::NoContract { what, address });
        }
        Ok(reader)
    }

    /// Connects and reads the chain id.
    pub(super) async fn without_contract(config: &EvmConfig) -> Result<Self, ChainError> {
        let reader = Self {
            connection: Connection::open(config).await?,
            contract: config.contract,
            poll_interval: config.poll_interval,
            stall: config.stall,
            span: Mutex::new(Span::new(config.log_span)),
            compared: Mutex::default(),
        };
        reader.compare_if_still().await;
        Ok(reader)
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    // A panic of somebody who held the lock leaves nothing half done.
    fn span(&self) -> MutexGuard<'_, Span> {
        self.span.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the head stands still, somebody else may know more.
    async fn compare_if_still(&self) {
        if self.connection.size() < 2 || !self.is_comparison_due() {
            return;
        }
        self.connection.compare().await;
    }

    fn is_comparison_due(&self) -> bool {
        let moved = self.connection.seen().newest().map(|(_, moved)| moved);
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        let last = moved.max(*compared);
        let due = compared.is_none() || last.is_some_and(|last| last.elapsed() >= self.stall);
        if due {
            *compared = Some(Instant::now());
        }
        due
    }

    pub(super) async fn head(&self) -> Result<Head, ChainError> {
        self.compare_if_still().await;
        let asked = self.connection.any(|asker| async move {
            let before = self.connection.seen().newest().map(|(number, _)| number);
            let block = asker.block(BlockNumberOrTag::Latest.into()).await?;
            let block = block.ok_or_else(no_latest)?;
            let mut seen = self.connection.seen();
            if let Some(newest) = seen.overtaken(before, &block.head) {
                return Ok(newest);
            }
            seen.take_newest(block).map_err(CallError::Chain)
        });
        asked
            .await
            .map_err(|error| error.sorted("eth_getBlockByNumber"))
    }

    /// The newest block that the chain calls that; none if there is none yet.
    pub(super) async fn tagged(&self, tag: BlockNumberOrTag) -> Result<Option<Head>, ChainError> {
        let asked = self.connection.any(|asker| async move {
            let block = asker.block(tag.into()).await?;
            Ok(block.map(|block| self.learn(block)))
        });
        asked
            .await
            .map_err(|error| error.sorted("eth_getBlockByNumber"))
    }

    fn learn(&self, block: Block) -> Head {
        self.connection.seen().learn(block);
        block.head
    }

    pub(super) async fn header(&self, number: u64) -> Result<Option<Head>, ChainError> {
        let asked = self.connection.any(|asker| async move {
            match asker.block(number.into()).await? {
                Some(block) => Ok(Some(self.learn(block))),
                None => {
                    let missing = self.connection.seen().miss(number);
                    missing.map(|()| None).map_err(CallError::Chain)
                }
            }
        });
        asked
            .await
            .map_err(|error| error.sorted("eth_getBlockByNumber"))
    }

    /// Waits for another head than `after`. One that was pushed and follows `after` is the answer, without a question;
    /// in every other case the node is asked.
    pub(super) async fn next_head(&self, after: &Head) -> Result<Head, ChainError> {
        let mut notices = self.connection.notices();
        loop {
            let pushed = notices.newest();
            if let Some(head) = pushed
                && self.connection.seen().follows(&head, after)
            {
                return Ok(head);
            }
            let heard = notices.are_pushed()
                && pushed.is_some_and(|head| head.hash == after.hash || head.number < after.number);
            let pause = self.pause(notices.are_pushed());
            if heard && notices.next(pause).await {
                continue;
            }
            match self.head().await {
                Ok(head) if head.hash != after.hash => return Ok(head),
                Ok(_) | Err(ChainError::Behind { .. }) => {}
                Err(error) => return Err(error),
            }
            if !heard {
                notices.next(pause).await;
            }
        }
    }

    fn pause(&self, pushed: bool) -> Duration {
        if pushed {
            self.poll_interval.saturating_mul(10)
        } else {
            self.poll_interval
        }
    }

    /// The logs in `blocks` that match `filter`, in order, asked for in spans as long as the node lets them be.
    pub(super) async fn logs(
        &self,
        filter: &Filter,
        blocks: RangeInclusive<u64>,
        most: usize,
    ) -> Result<Vec<Log>, ChainError> {
        let mut found = Vec::new();
        let mut from = *blocks.start();
        while from <= *blocks.end() {
            let to = self.span().end(&blocks, from);
            let asked = to.saturating_sub(from).saturating_add(1);
            match self.span_of_logs(filter, from..=to, most).await {
                Ok(Spanned::Logs(logs)) => {
                    found.extend(logs);
                    self.span().grow();
                    let Some(next) = to.checked_add(1) else { break };
                    from = next;
                }
                Ok(Spanned::TooMuch(_)) if to > from => self.span().shrink(asked),
                Ok(Spanned::TooMuch(error)) => return Err(error.sorted("eth_getLogs")),
                Err(error) => {
                    if matches!(error, CallError::Timeout(_)) {
                        self.span().shrink(asked);
                    }
                    return Err(error.sorted("eth_getLogs"));
                }
            }
        }
        Ok(found)
    }

    /// Asked of one endpoint together with the last block: one that does not have it would know of no logs.
    async fn span_of_logs(
        &self,
        filter: &Filter,
        blocks: RangeInclusive<u64>,
        most: usize,
    ) -> Result<Spanned, CallError> {
        let (from, to) = blocks.clone().into_inner();
        let asked = &filter.clone().from_block(from).to_block(to);
        self.connection
            .any(|asker| {
                let blocks = blocks.clone();
                async move {
                    let logs = ask_logs(&asker, asked);
                    let (logs, last) = tokio::join!(logs, asker.block(to.into()));
                    let logs = match logs {
                        Err(CallError::Rpc(error)) if logs::is_too_much(&error) => {
                            return Ok(Spanned::TooMuch(CallError::Rpc(error)));
                        }
                        logs => logs?,
                    };
                    let Some(last) = last? else {
                        let found = to.saturating_sub(1);
                        return Err(CallError::Chain(ChainError::Behind { seen: to, found }));
                    };
                    self.learn(last);
                    let checked = logs::check(logs, asked, &Asked::Range(blocks), most);
                    checked.map(Spanned::Logs).map_err(CallError::Chain)
                }
            })
            .await
    }

    /// The logs of one block, whichever fork it belongs to. Not asked for where the header says that there are none.
    pub(super) async fn logs_of_block(
        &self,
        filter: &Filter,
        block: &Head,
        most: usize,
    ) -> Result<Vec<Log>, ChainError> {
        let known = self.connection.seen().block(block.hash);
        let bloom = known.and_then(|known| known.bloom);
        if bloom.is_some_and(|bloom| !filter.matches_bloom(bloom)) {
            return Ok(Vec::new());
        }
        let asked = &filter.clone().at_block_hash(block.hash);
        let of = &Asked::Block {
            number: block.number,
            hash: block.hash,
        };
        let logs = self.connection.any(|asker| async move {
            match ask_logs(&asker, asked).await {
                // Some nodes know of no logs where they do not know the block.
                Ok(logs) if logs.is_empty() => match asker.block(block.hash.into()).await? {
                    Some(_) => Ok(logs),
                    None => Err(CallError::Chain(self.missing(&asker, block.number).await?)),
                },
                Ok(logs) => logs::check(logs, asked, of, most).map_err(CallError::Chain),
                Err(CallError::Rpc(error)) if error.is_error_resp() => {
                    match asker.block(block.hash.into()).await? {
                        Some(_) => Err(CallError::Rpc(error)),
                        None => Err(CallError::Chain(self.missing(&asker, block.number).await?)),
                    }
                }
                Err(error) => Err(error),
            }
        });
        logs.await.map_err(|error| error.sorted("eth_getLogs"))
    }

    /// Why an endpoint does not have a block of that number: replaced there, or not there yet.
    async fn missing(&self, asker: &Asker, number: u64) -> Result<ChainError, CallError> {
        Ok(match asker.block(number.into()).await? {
            Some(_) => ChainError::Reorged { number },
            None => ChainError::Behind {
                seen: number,
                found: number.saturating_sub(1),
            },
        })
    }

    fn contract_filter(&self, filter: &Filter) -> Filter {
        filter.clone().address(self.contract)
    }

    /// The contract's logs, as [`Reader::logs`].
    pub(super) async fn contract_logs(
        &self,
        filter: &Filter,
        blocks: RangeInclusive<u64>,
    ) -> Result<Vec<Log>, ChainError> {
        let filter = self.contract_filter(filter);
        self.logs(&filter, blocks, logs::MAX_CONTRACT_LOG).await
    }

    /// As [`Reader::contract_logs`], each with its place and its block's time.
    pub(super) async fn dated_logs(
        &self,
        filter: &Filter,
        blocks: RangeInclusive<u64>,
    ) -> Result<Vec<(alloy_primitives::Log, LogPosition)>, ChainError> {
        let logs = self.contract_logs(filter, blocks).await?;
        let times = self.times(&logs).await?;
        Ok(logs
            .into_iter()
            .filter_map(|log| dated(log, &times))
            .collect())
    }

    /// As [`Reader::logs_of_block`] of the contract, each with its place and its block's time.
    pub(super) async fn dated_logs_of_block(
        &self,
        filter: &Filter,
        block: &Head,
    ) -> Result<Vec<(alloy_primitives::Log, LogPosition)>, ChainError> {
        let filter = self.contract_filter(filter);
        let logs = self
            .logs_of_block(&filter, block, logs::MAX_CONTRACT_LOG)
            .await?;
        let times = HashMap::from([(block.hash, block.timestamp)]);
        Ok(logs
            .into_iter()
            .filter_map(|log| dated(log, &times))
            .collect())
    }

    /// The times of the logs' blocks, which have to be those that the chain has now.
    pub(super) async fn times(
        &self,
        logs: &[Log],
    ) -> Result<HashMap<B256, UnixSeconds>, ChainError> {
        let blocks: BTreeMap<_, _> = logs
            .iter()
            .filter_map(|log| Some((log.block_number?, log.block_hash?)))
            .collect();
        let asked = blocks.into_iter().map(|(number, hash)| async move {
            match self.header(number).await? {
                Some(head) if head.hash == hash => Ok((hash, head.timestamp)),
                _ => Err(ChainError::Reorged { number }),
            }
        });
        let times: HashMap<_, _> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        let unknown = |log: &&Log| log.block_hash.is_none_or(|hash| !times.contains_key(&hash));
        match logs.iter().find(unknown) {
            Some(log) => Err(ChainError::Reorged {
                number: log.block_number.unwrap_or_default(),
            }),
            None => Ok(times),
        }
    }

    /// Calls a function of the contract that changes nothing, as of the newest block.
    pub(super) async fn ask(&self, input: Vec<u8>) -> Result<Bytes, ChainError> {
        let request = TransactionRequest::default()
            .with_to(self.contract)
            .with_input(input);
        self.connection
            .call("eth_call", (request, BlockId::latest()))
            .await
    }
}

async fn ask_logs(asker: &Asker, filter: &Filter) -> Result<Vec<Log>, CallError> {
    asker.ask("eth_getLogs", (filter.clone(),)).await
}

fn dated(
    log: Log,
    times: &HashMap<B256, UnixSeconds>,
) -> Option<(alloy_primitives::Log, LogPosition)> {
    let at = LogPosition {
        block: log.block_number?,
        index: log.log_index?,
        timestamp: *times.get(&log.block_hash?)?,
    };
    Some((log.inner, at))
}

fn no_latest() -> CallError {
    CallError::Chain(ChainError::Malformed {
        method: "eth_getBlockByNumber",
        message: "no latest block".to_owned(),
    })
}
