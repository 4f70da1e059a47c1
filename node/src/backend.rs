//! The running chain: what the RPC methods and the block producer share.
//!
//! Whoever changes the chain holds the producer lock, and with it works in this order: decide,
//! write the journal, then let readers see the result, then tell subscribers. Readers take a clone
//! of the chain and hold no lock while they work; the EVM never runs under a lock that readers
//! need.

mod restore;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use alloy_eips::eip1559::BaseFeeParams;
use alloy_primitives::{Address, B256};
use alloy_signer_local::PrivateKeySigner;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{broadcast, watch};

use self::restore::{apply_change, block_record, recorded};
use crate::{
    chain::{Block, Chain, Transaction},
    config::{DelegateNotice, Mining, NodeConfig},
    error::NodeError,
    execution::{self, Exclusion, ExecutionError},
    filters::Filters,
    genesis,
    journal::{AccountChange, Journal, JournalError, Record, VERSION},
    pool::{Pool, PoolError, Rules},
    state::Account,
    time::{ChainClock, TimeError},
};

/// Events that a subscriber may lag behind before it is dropped.
const EVENT_BUFFER: usize = 4_096;
const MAX_SNAPSHOTS: usize = 1_024;
/// Most blocks that one call may mine.
const MAX_MINED_AT_ONCE: u64 = 10_000;

/// Something that subscribers hear of.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A block became the tip.
    Mined(Arc<Block>),
    /// `evm_revert` took these blocks away, the highest first.
    Removed(Arc<[Arc<Block>]>),
    /// The pool accepted a transaction.
    Accepted(Arc<Transaction>),
}

/// Why a change of the chain was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackendError {
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error(transparent)]
    Time(#[from] TimeError),
    #[error("{0}")]
    Excluded(String),
    #[error("limit exceeded: {0}")]
    Limit(String),
    #[error(transparent)]
    Execution(#[from] ExecutionError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A moment that `evm_revert` can return to.
struct Snapshot {
    chain: Chain,
    pool: Pool,
    now: u64,
    next: Option<u64>,
    journal_length: u64,
}

/// What only the holder of the producer lock touches.
#[derive(Default)]
struct Producer {
    journal: Option<Journal>,
    /// The node is shutting down: nothing may change any more.
    closed: bool,
    snapshots: BTreeMap<u64, Snapshot>,
    last_snapshot: u64,
}

impl Producer {
    fn record(&mut self, record: impl FnOnce() -> Record) -> Result<(), JournalError> {
        match &mut self.journal {
            _ if self.closed => Err(JournalError::Closed),
            Some(journal) => journal.append(&record()),
            None => Ok(()),
        }
    }
}

/// The chain with its pool, clock and listeners.
pub(crate) struct Backend {
    signers: Vec<PrivateKeySigner>,
    producer: Mutex<Producer>,
    head: RwLock<Chain>,
    pool: Mutex<Pool>,
    clock: Mutex<ChainClock>,
    impersonated: RwLock<HashSet<Address>>,
    mining: watch::Sender<Mining>,
    events: broadcast::Sender<Event>,
    pub(crate) filters: Mutex<Filters>,
    delegate: Option<DelegateNotice>,
}

impl Backend {
    /// Starts the chain from its genesis block, or from where the state file left it.
    pub(crate) fn open(config: &NodeConfig) -> Result<Self, NodeError> {
        check(config)?;
        let signers = genesis::development_signers(config.accounts)?;
        let wall = (config.clock)();
        let timestamp = config.genesis_timestamp.unwrap_or(wall);
        let block =
            |timestamp| genesis::block(&signers, config.accounts, timestamp, config.gas_limit);
        let mut clock = ChainClock::new(Arc::clone(&config.clock));
        clock
            .set(timestamp)
            .map_err(|error| invalid("genesis_timestamp", error.to_string()))?;
        let first = block(timestamp);
        let first_record = Record::Genesis {
            version: VERSION,
            chain_id: config.chain_id,
            gas_limit: config.gas_limit,
            timestamp,
            hash: first.hash(),
        };
        let backend = Self {
            head: RwLock::new(Chain::new(config.chain_id, first)),
            producer: Mutex::default(),
            pool: Mutex::default(),
            clock: Mutex::new(clock),
            impersonated: RwLock::default(),
            mining: watch::Sender::new(config.mining),
            events: broadcast::Sender::new(EVENT_BUFFER),
            filters: Mutex::default(),
            signers: signers.clone(),
            delegate: config.delegate.clone(),
        };
        if let Some(path) = &config.state_file {
            let fresh = !path.exists();
            let mut journal = Journal::open(path, &first_record, |record| match record {
                Record::Genesis { .. } => backend.restore_genesis(config, record, block),
                record => backend.replay(record),
            })?;
            if fresh {
                let offset = backend.clock.lock().offset();
                journal.append(&Record::Clock { offset, next: None })?;
            }
            backend.producer.lock().journal = Some(journal);
        }
        backend.check_delegate()?;
        Ok(backend)
    }

    /// A notice about a delegate that is not on this chain would send every client astray.
    fn check_delegate(&self) -> Result<(), NodeError> {
        let Some(notice) = &self.delegate else {
            return Ok(());
        };
        let head = self.head();
        let account = head.tip().state.account(notice.address);
        if account.is_some_and(Account::is_contract) {
            return Ok(());
        }
        let reason = format!("{} is no contract of this chain", notice.address);
        Err(invalid("delegate", reason))
    }

    /// What is told about the chain's delegate.
    pub(crate) fn delegate(&self) -> Option<&serde_json::Value> {
        self.delegate.as_ref().map(|notice| &notice.document)
    }

    /// The chain as it stands.
    pub(crate) fn head(&self) -> Chain {
        self.head.read().clone()
    }

    pub(crate) fn pool(&self) -> parking_lot::MutexGuard<'_, Pool> {
        self.pool.lock()
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    pub(crate) fn signers(&self) -> &[PrivateKeySigner] {
        &self.signers
    }

    pub(crate) fn mining(&self) -> watch::Receiver<Mining> {
        self.mining.subscribe()
    }

    pub(crate) fn set_impersonated(&self, address: Address, impersonated: bool) {
        let mut accounts = self.impersonated.write();
        if impersonated {
            accounts.insert(address);
        } else {
            accounts.remove(&address);
        }
    }

    pub(crate) fn is_impersonated(&self, address: Address) -> bool {
        self.impersonated.read().contains(&address)
    }

    /// Accepts a transaction; with instant mining it is in a block when this returns.
    pub(crate) fn submit(&self, transaction: Arc<Transaction>) -> Result<B256, BackendError> {
        let hash = *transaction.tx_hash();
        let mut producer = self.producer.lock();
        let instant = *self.mining.borrow() == Mining::Instant;
        let chain = self.head();
        let rules = Rules {
            chain_id: chain.id(),
            block_gas_limit: chain.tip().header.gas_limit,
            state: &chain.tip().state,
            base_fee: instant.then(|| next_base_fee(chain.tip())),
        };
        self.pool.lock().add(Arc::clone(&transaction), &rules)?;
        let result = self.settle(&mut producer, &transaction, instant);
        if result.is_err() {
            self.pool.lock().remove(hash);
        }
        result.map(|()| hash)
    }

    /// Mines or records a transaction that has just entered the pool.
    fn settle(
        &self,
        producer: &mut Producer,
        transaction: &Arc<Transaction>,
        instant: bool,
    ) -> Result<(), BackendError> {
        let hash = *transaction.tx_hash();
        self.publish(Event::Accepted(Arc::clone(transaction)));
        self.filters.lock().accepted(hash);
        if instant {
            let rejected = self.mine_ready(producer)?;
            if let Some((_, reason)) = rejected.into_iter().find(|(rejected, _)| *rejected == hash)
            {
                return Err(BackendError::Excluded(reason));
            }
        }
        if self.pool.lock().get(hash).is_some() {
            producer.record(|| Record::Transaction(recorded(transaction)))?;
        }
        Ok(())
    }

    /// Mines until no transaction of the pool can enter a block.
    fn mine_ready(&self, producer: &mut Producer) -> Result<Vec<(B256, String)>, BackendError> {
        let mut rejected = Vec::new();
        loop {
            let tip = Arc::clone(self.head.read().tip());
            if !self.pool.lock().has_ready(&tip.state, next_base_fee(&tip)) {
                return Ok(rejected);
            }
            let (mined, more) = self.produce(producer, false)?;
            rejected.extend(more);
            if !mined {
                return Ok(rejected);
            }
        }
    }

    /// Makes one block of what the pool holds. Returns whether there is a new block, and the
    /// transactions that the pool dropped because they can never be executed.
    fn produce(
        &self,
        producer: &mut Producer,
        allow_empty: bool,
    ) -> Result<(bool, Vec<(B256, String)>), BackendError> {
        let mut chain = self.head();
        let built = self.build(&chain)?;
        let mut rejected = Vec::new();
        for (hash, exclusion) in built.excluded {
            if let Exclusion::Never(reason) = exclusion {
                producer.record(|| Record::Dropped { transaction: hash })?;
                tracing::warn!(%hash, %reason, "dropping a transaction that cannot be executed");
                self.pool.lock().remove(hash);
                rejected.push((hash, reason));
            }
        }
        if built.block.transactions.is_empty() && !allow_empty {
            return Ok((false, rejected));
        }
        let mut clock = self.clock.lock().clone();
        clock.block_made(built.block.header.timestamp);
        producer.record(|| block_record(&built.block, clock.offset()))?;
        *self.clock.lock() = clock;
        let block = chain.push(built.block);
        *self.head.write() = chain;
        self.pool.lock().prune(&block.state);
        tracing::debug!(
            number = block.number(),
            transactions = block.transactions.len(),
            "mined"
        );
        self.publish(Event::Mined(block));
        Ok((true, rejected))
    }

    fn build(&self, chain: &Chain) -> Result<execution::Built, ExecutionError> {
        let parent = chain.tip();
        let timestamp = self.clock.lock().next_timestamp(parent.header.timestamp);
        let header = execution::header_after(&parent.header, timestamp);
        let ready = self.pool.lock().ready(&parent.state, next_base_fee(parent));
        execution::build_block(chain, header, ready)
    }

    /// The block that would be mined now.
    pub(crate) fn pending(&self, chain: &Chain) -> Result<Block, ExecutionError> {
        Ok(self.build(chain)?.block)
    }

    /// Mines `count` blocks, each `interval` seconds after the one before if an interval is given.
    pub(crate) fn mine(&self, count: u64, interval: Option<u64>) -> Result<(), BackendError> {
        if count > MAX_MINED_AT_ONCE {
            return Err(BackendError::Limit(format!(
                "{count} blocks, at most {MAX_MINED_AT_ONCE}"
            )));
        }
        let mut producer = self.producer.lock();
        for _ in 0..count {
            if let Some(seconds) = interval {
                self.clock.lock().increase(seconds)?;
            }
            self.produce(&mut producer, true)?;
        }
        Ok(())
    }

    pub(crate) fn set_mining(&self, mining: Mining) -> Result<(), BackendError> {
        self.mining.send_replace(mining);
        if mining == Mining::Instant {
            self.mine_ready(&mut self.producer.lock())?;
        }
        Ok(())
    }

    /// What the next block's timestamp would be.
    pub(crate) fn next_timestamp(&self, chain: &Chain) -> u64 {
        self.clock
            .lock()
            .next_timestamp(chain.tip().header.timestamp)
    }

    pub(crate) fn set_next_timestamp(&self, timestamp: u64) -> Result<(), BackendError> {
        self.change_clock(|clock, parent| clock.set_next(timestamp, parent))
    }

    /// Moves the clock forward; returns its whole offset in seconds.
    pub(crate) fn increase_time(&self, seconds: u64) -> Result<i64, BackendError> {
        self.change_clock(|clock, _| clock.increase(seconds))
    }

    /// Sets the clock; returns how far it moved, in seconds.
    pub(crate) fn set_time(&self, timestamp: u64) -> Result<u64, BackendError> {
        self.change_clock(|clock, _| clock.set(timestamp))
    }

    fn change_clock<T>(
        &self,
        change: impl FnOnce(&mut ChainClock, u64) -> Result<T, TimeError>,
    ) -> Result<T, BackendError> {
        let mut producer = self.producer.lock();
        let mut clock = self.clock.lock().clone();
        let parent = self.head.read().tip().header.timestamp;
        let result = change(&mut clock, parent)?;
        producer.record(|| Record::Clock {
            offset: clock.offset(),
            next: clock.next_exact(),
        })?;
        *self.clock.lock() = clock;
        Ok(result)
    }

    /// Changes an account outside any transaction, in the state of the latest block.
    pub(crate) fn change_account(
        &self,
        address: Address,
        change: AccountChange,
    ) -> Result<(), BackendError> {
        let mut producer = self.producer.lock();
        let mut chain = self.head();
        apply_change(&mut chain, address, &change).map_err(BackendError::Excluded)?;
        producer.record(|| Record::Account { address, change })?;
        *self.head.write() = chain;
        Ok(())
    }

    pub(crate) fn snapshot(&self) -> Result<u64, BackendError> {
        let mut producer = self.producer.lock();
        if producer.snapshots.len() >= MAX_SNAPSHOTS {
            return Err(BackendError::Limit(format!(
                "at most {MAX_SNAPSHOTS} snapshots"
            )));
        }
        let clock = self.clock.lock();
        let snapshot = Snapshot {
            chain: self.head(),
            pool: self.pool.lock().clone(),
            now: clock.now(),
            next: clock.next_exact(),
            journal_length: producer.journal.as_ref().map_or(0, Journal::length),
        };
        producer.last_snapshot = producer.last_snapshot.saturating_add(1);
        let id = producer.last_snapshot;
        producer.snapshots.insert(id, snapshot);
        Ok(id)
    }

    /// Returns to a snapshot, which is used up with all later ones: state, blocks, pool, and the
    /// clock, which goes on from where it stood. Returns whether the snapshot existed.
    pub(crate) fn revert(&self, id: u64) -> Result<bool, BackendError> {
        let mut producer = self.producer.lock();
        if producer.closed {
            return Err(JournalError::Closed.into());
        }
        let Some(snapshot) = producer.snapshots.remove(&id) else {
            return Ok(false);
        };
        producer.snapshots.retain(|later, _| *later < id);
        let mut clock = self.clock.lock().clone();
        clock.set(snapshot.now)?;
        clock.restore(clock.offset(), snapshot.next);
        if let Some(journal) = &mut producer.journal {
            journal.truncate(snapshot.journal_length)?;
            journal.append(&Record::Clock {
                offset: clock.offset(),
                next: clock.next_exact(),
            })?;
        }
        let number = snapshot.chain.tip().number();
        let mut removed = self.head.read().blocks_above(number);
        removed.reverse();
        let removed: Arc<[_]> = removed.into();
        *self.clock.lock() = clock;
        *self.pool.lock() = snapshot.pool;
        // Both at once for whoever polls a filter, or the removed logs would go unreported.
        let mut filters = self.filters.lock();
        *self.head.write() = snapshot.chain;
        filters.reverted(number, &removed);
        drop(filters);
        self.publish(Event::Removed(removed));
        Ok(true)
    }

    /// Ends the chain: nothing changes any more, and the state file is flushed and closed.
    pub(crate) fn close(&self) -> Result<(), JournalError> {
        let mut producer = self.producer.lock();
        producer.closed = true;
        producer
            .journal
            .take()
            .map_or(Ok(()), |journal| journal.sync())
    }

    fn publish(&self, event: Event) {
        // The only failure is that nobody listens.
        let _ = self.events.send(event);
    }
}

/// Base fee of the block after `parent`, in wei.
pub(crate) fn next_base_fee(parent: &Block) -> u64 {
    parent
        .header
        .next_block_base_fee(BaseFeeParams::ethereum())
        .unwrap_or_default()
}

fn check(config: &NodeConfig) -> Result<(), NodeError> {
    if config.chain_id == 0 || config.chain_id > u64::MAX / 2 - 36 {
        return Err(invalid(
            "chain_id",
            "must be from 1 to 2^63 - 37 (EIP-2294)".into(),
        ));
    }
    if !(5_000..=1_000_000_000).contains(&config.gas_limit) {
        return Err(invalid(
            "gas_limit",
            "must be from 5,000 to 1,000,000,000".into(),
        ));
    }
    if let Mining::Interval(interval) = config.mining
        && interval.is_zero()
    {
        return Err(invalid(
            "mining",
            "the interval must be longer than zero".into(),
        ));
    }
    Ok(())
}

fn invalid(field: &'static str, reason: String) -> NodeError {
    NodeError::Config { field, reason }
}
