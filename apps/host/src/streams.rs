//! Chains whose logs and blocks subscriptions wait for: one stream for each chain and each degree of finality that somebody asked
//! for. A chain that does not answer stops its own streams and no other.

use crate::HostError;
use cryptlet_chain::{ChainError, Head, LogChain, LogFilter, RawLog};
use cryptlet_journal::{Cursor, Journal};
use cryptlet_types::{UnixSeconds, subscription::Finality};
use cryptlet_watch::{self as watch, Advance, ChainWatch, SharedFilter, WatchError};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{task::JoinSet, time::sleep};

/// Blocks read at once.
const SPAN: u64 = 1_000;
/// First wait before a chain is asked again that did not answer; it doubles.
const PATIENCE: Duration = Duration::from_millis(500);
/// Longest such wait.
const LONGEST: Duration = Duration::from_secs(30);

/// Which stream.
pub(crate) type Key = (u64, Finality);

/// What a stream brought.
pub(crate) enum Brought {
    /// Blocks were read.
    Blocks(Key, Advance<RawLog>),
    /// The stream's cursor is of a block that the chain has no more.
    Reorged(Key),
}

type Read = (Key, Result<Advance<RawLog>, WatchError>);

struct Stream {
    watch: Arc<ChainWatch>,
    filter: SharedFilter,
    cursor: watch::Cursor,
    failures: u32,
}

/// The streams that are read.
pub(crate) struct Streams {
    chains: Arc<BTreeMap<u64, Arc<dyn LogChain>>>,
    journal: Arc<Journal>,
    streams: BTreeMap<Key, Stream>,
    /// From when on somebody waits for a stream's logs.
    since: BTreeMap<Key, UnixSeconds>,
    reading: JoinSet<Read>,
}

/// Name of a stream's cursor in the journal.
pub(crate) fn name((chain, finality): Key) -> String {
    let finality = match finality {
        Finality::Latest => "latest",
        Finality::Safe => "safe",
        Finality::Finalized => "finalized",
    };
    format!("logs:{chain}:{finality}")
}

impl Streams {
    pub(crate) fn new(
        chains: Arc<BTreeMap<u64, Arc<dyn LogChain>>>,
        journal: Arc<Journal>,
    ) -> Self {
        Self {
            chains,
            journal,
            streams: BTreeMap::new(),
            since: BTreeMap::new(),
            reading: JoinSet::new(),
        }
    }

    /// Whether this host reads that chain.
    pub(crate) fn knows(&self, chain: u64) -> bool {
        self.chains.contains_key(&chain)
    }

    /// The chain behind a stream.
    pub(crate) fn chain(&self, (chain, _): Key) -> Option<&Arc<dyn LogChain>> {
        self.chains.get(&chain)
    }

    /// Which streams are read.
    pub(crate) fn keys(&self) -> BTreeSet<Key> {
        self.streams.keys().copied().collect()
    }

    /// Somebody waits for what happens in a stream after `since`.
    pub(crate) fn wanted_since(&mut self, key: Key, since: UnixSeconds) {
        let known = self.since.entry(key).or_insert(since);
        *known = since.min(*known);
    }

    /// Has a stream look for this; it begins where the journal has its cursor, or else where somebody began to wait for it.
    pub(crate) async fn look_for(&mut self, key: Key, filter: LogFilter) -> Result<(), HostError> {
        if let Some(stream) = self.streams.get(&key) {
            stream.filter.set(filter);
            return Ok(());
        }
        let Some(chain) = self.chains.get(&key.0).cloned() else {
            return Ok(());
        };
        let shared = SharedFilter::default();
        shared.set(filter);
        let watch = Arc::new(ChainWatch::new(chain.clone(), key.1, shared.clone(), SPAN));
        let kept = self.journal.cursor(&name(key)).await?;
        let cursor = match kept {
            Some(Cursor { number, hash }) => watch::Cursor { number, hash },
            None => match watch.start().await? {
                Some(newest) => {
                    let since = self.since.get(&key).copied();
                    let start = beginning(chain.as_ref(), newest, since).await?;
                    let watch::Cursor { number, hash } = start;
                    let cursor = Cursor { number, hash };
                    self.journal.apply(&name(key), cursor, &[], &[]).await?;
                    start
                }
                // A chain that has no such block yet begins with its first.
                None => watch::Cursor {
                    number: 0,
                    hash: alloy_primitives::B256::ZERO,
                },
            },
        };
        let stream = Stream {
            watch,
            filter: shared,
            cursor,
            failures: 0,
        };
        self.streams.insert(key, stream);
        self.read_on(key, Duration::ZERO);
        Ok(())
    }

    /// Goes on from a cursor that is in the journal.
    pub(crate) fn go_on(&mut self, key: Key, cursor: watch::Cursor) {
        if let Some(stream) = self.streams.get_mut(&key) {
            stream.cursor = cursor;
            stream.failures = 0;
        }
        self.read_on(key, Duration::ZERO);
    }

    fn read_on(&mut self, key: Key, pause: Duration) {
        let Some(stream) = self.streams.get(&key) else {
            return;
        };
        let (watch, cursor) = (stream.watch.clone(), stream.cursor);
        self.reading.spawn(async move {
            sleep(pause).await;
            (key, watch.next(cursor).await)
        });
    }

    /// Waits until a stream has brought something. May be dropped at any point: what is being read goes on.
    pub(crate) async fn next(&mut self) -> Brought {
        loop {
            let (key, read) = match self.reading.join_next().await {
                Some(Ok(read)) => read,
                Some(Err(error)) => {
                    tracing::error!(%error, "a chain is not read any more");
                    continue;
                }
                None => {
                    std::future::pending::<()>().await;
                    continue;
                }
            };
            match read {
                Ok(advance) => return Brought::Blocks(key, advance),
                Err(WatchError::Reorged { .. }) => return Brought::Reorged(key),
                Err(WatchError::Chain(error)) => self.again(key, &error),
            }
        }
    }

    /// Asks again later, and less and less often.
    pub(crate) fn again(&mut self, key: Key, error: &ChainError) {
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        let factor = 1_u32.checked_shl(stream.failures.min(16)).unwrap_or(1);
        let pause = PATIENCE.saturating_mul(factor).min(LONGEST);
        stream.failures = stream.failures.saturating_add(1);
        tracing::warn!(stream = name(key), %error, ?pause, "chain does not answer");
        self.read_on(key, pause);
    }

    /// The newest block of the stream's trail that its chain still has, or if it has none of them the one before the trail:
    /// where that begins, nothing was read yet.
    pub(crate) async fn shared(&self, key: Key) -> Result<Cursor, HostError> {
        let Some(chain) = self.chain(key) else {
            return Err(HostError::TooDeep);
        };
        let mut first = 0;
        for cursor in self.journal.trail(&name(key)).await? {
            let found = chain.header(cursor.number).await?;
            if found.is_some_and(|head| head.hash == cursor.hash) {
                return Ok(cursor);
            }
            first = cursor.number;
        }
        before(chain.header(first.saturating_sub(1)).await?)
    }
}

/// The block before what is to be read anew. Where the chain is shorter than that now, it is asked again later.
pub(crate) fn before(found: Option<Head>) -> Result<Cursor, HostError> {
    let head = found.ok_or(ChainError::Reorged { number: 0 })?;
    let Head { number, hash, .. } = head;
    Ok(Cursor { number, hash })
}

/// The newest block that is no later than `since`, up to `newest`: by halves, since blocks follow one another in time.
async fn beginning(
    chain: &dyn LogChain,
    newest: watch::Cursor,
    since: Option<UnixSeconds>,
) -> Result<watch::Cursor, ChainError> {
    let (mut from, mut to) = (0, newest.number);
    let mut found = newest;
    while let Some(since) = since.filter(|_| from < to) {
        let middle = to - (to - from) / 2;
        let head = chain.header(middle).await?;
        let head = head.ok_or(ChainError::Reorged { number: middle })?;
        if head.timestamp <= since {
            from = middle;
        } else {
            to = middle - 1;
        }
        let head = chain.header(from).await?;
        let head = head.ok_or(ChainError::Reorged { number: from })?;
        let (number, hash) = (head.number, head.hash);
        found = watch::Cursor { number, hash };
    }
    Ok(found)
}

/// What the delegate's own chain logged for subscriptions, beside what the delegate did, in the blocks from `from` to `head`.
pub(crate) async fn own_logs(
    chain: &dyn LogChain,
    filter: &LogFilter,
    from: u64,
    cursor: watch::Cursor,
    head: &Head,
) -> Result<Vec<RawLog>, ChainError> {
    if filter.emitters.is_empty() {
        return Ok(vec![]);
    }
    if (from, cursor.number, cursor.hash) == (head.number, head.number, head.hash) {
        return chain.logs_of_block(head, filter).await;
    }
    let logs = chain.logs(filter, from..=cursor.number).await?;
    let found = chain.header(cursor.number).await?;
    if found.is_some_and(|head| head.hash == cursor.hash) {
        return Ok(logs);
    }
    Err(ChainError::Reorged {
        number: cursor.number,
    })
}
