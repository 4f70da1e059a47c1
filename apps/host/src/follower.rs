//! Follows the register's chain into the index, and says when what is in force has changed.

use crate::{HostClock, HostError, Rules, fetcher::Fetcher};
use cryptlet_chain::{ChainError, RegisterChain};
use cryptlet_register::{Cursor, Index, Replica, Synced};
use cryptlet_types::{UnixSeconds, register::RegisterChange};
use cryptlet_watch::{self as watch, Advance, Clock, RegisterWatch, WatchError};
use std::{sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};

/// Blocks read at once.
const SPAN: u64 = 1_000;
/// Longest time without a new block before the head is asked for again: an idle chain is still heard of.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Wait before a node is asked again that did not answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// Follows the register's chain.
pub(crate) struct Follower {
    chain: Arc<dyn RegisterChain>,
    watch: RegisterWatch,
    replica: Arc<Replica>,
    rules: Arc<Rules>,
    fetcher: Arc<Fetcher>,
    clock: HostClock,
}

impl Follower {
    pub(crate) fn new(
        chain: Arc<dyn RegisterChain>,
        first_block: u64,
        replica: Arc<Replica>,
        rules: Arc<Rules>,
        fetcher: Arc<Fetcher>,
        clock: HostClock,
    ) -> Self {
        Self {
            watch: RegisterWatch::new(chain.clone(), first_block, SPAN),
            chain,
            replica,
            rules,
            fetcher,
            clock,
        }
    }

    /// Goes on until it cannot. May be dropped at any point: the index has what was read.
    pub(crate) async fn run(self) -> Result<(), HostError> {
        self.rules.refresh().await?;
        loop {
            let step = self.step().await;
            if let Err(error) = step {
                self.trouble(error).await?;
            }
        }
    }

    fn index(&self) -> &Index {
        self.replica.index()
    }

    async fn step(&self) -> Result<(), HostError> {
        let synced = self.index().synced().await?;
        let cursor = synced.map(|synced| watch::Cursor {
            number: synced.block,
            hash: synced.hash,
        });
        // Whether what is distrusted still holds is asked at once.
        if let Some(Synced { at: 0, .. }) = synced {
            self.confirm(cursor).await?;
            self.rules.refresh().await?;
        }
        match timeout(HEARTBEAT, self.watch.next(cursor)).await {
            Ok(advance) => self.take(advance?).await?,
            Err(_no_new_block) => self.confirm(cursor).await?,
        }
        self.rules.refresh().await
    }

    async fn take(&self, advance: Advance<(u64, RegisterChange)>) -> Result<(), HostError> {
        let at = self.moment(&advance);
        let watch::Cursor { number, hash } = advance.cursor;
        let changes: Vec<_> = advance
            .changes
            .into_iter()
            .map(|(_, change)| change)
            .collect();
        self.index()
            .apply(Cursor { number, hash }, &changes, at)
            .await?;
        for change in changes {
            tracing::debug!(?change, "register");
            if let RegisterChange::VersionPublished { version, .. } = change {
                self.fetcher.fetch(&version);
            }
        }
        Ok(())
    }

    /// As of when the register is known by what was read: now, where the head was reached; else nothing is known of
    /// later blocks than the last.
    fn moment(&self, advance: &Advance<(u64, RegisterChange)>) -> UnixSeconds {
        if advance.is_caught_up() {
            self.now(advance.head.timestamp)
        } else {
            0
        }
    }

    /// What time it is, when the register's head is of `head`. A host that goes by the time of its delegate's chain, which
    /// is the register's as a rule, may hear of a block from here first.
    fn now(&self, head: UnixSeconds) -> UnixSeconds {
        match &self.clock {
            HostClock::Free(clock) => clock.now(),
            HostClock::Chain(clock) => clock.now().max(head),
        }
    }

    /// The chain made no block: asks whether it is still there, and where it was.
    async fn confirm(&self, cursor: Option<watch::Cursor>) -> Result<(), HostError> {
        let head = self.chain.head().await?;
        let known =
            cursor.filter(|cursor| (cursor.number, cursor.hash) == (head.number, head.hash));
        if let Some(watch::Cursor { number, hash }) = known {
            let at = self.now(head.timestamp);
            self.index().apply(Cursor { number, hash }, &[], at).await?;
        }
        Ok(())
    }

    /// A node that cannot be asked is asked again. After a reorganisation the index goes back to the newest block that
    /// it shares with the chain.
    async fn trouble(&self, error: HostError) -> Result<(), HostError> {
        match &error {
            HostError::Watch(WatchError::Reorged { .. }) => {
                tracing::warn!(%error, "register: going back");
                self.distrust().await?;
                match self.shared().await {
                    Ok(shared) => {
                        self.index().rewind(shared).await?;
                        self.distrust().await?;
                    }
                    Err(error) => tracing::warn!(%error, "register: node does not answer"),
                }
            }
            HostError::Watch(WatchError::Chain(cause)) | HostError::Chain(cause)
                if !is_misconfigured(cause) =>
            {
                tracing::warn!(%error, "register: node does not answer; the last known state stays");
                self.rules.refresh().await?;
                sleep(PATIENCE).await;
            }
            _ => return Err(error),
        }
        Ok(())
    }

    /// Until the chain was read again, no job starts by what may not have happened, or for want of what is not read yet.
    async fn distrust(&self) -> Result<(), HostError> {
        if let Some(Synced { block, hash, .. }) = self.index().synced().await? {
            let cursor = Cursor {
                number: block,
                hash,
            };
            self.index().apply(cursor, &[], 0).await?;
        }
        self.rules.refresh().await
    }

    /// The newest cursor of the index that is still part of the chain.
    async fn shared(&self) -> Result<Option<Cursor>, HostError> {
        for cursor in self.index().cursors().await? {
            let found = self.chain.header(cursor.number).await?;
            if found.is_some_and(|head| head.hash == cursor.hash) {
                return Ok(Some(cursor));
            }
        }
        Ok(None)
    }
}

/// Whether waiting is pointless: this is not the chain, or not the contract, that the host was started for.
fn is_misconfigured(error: &ChainError) -> bool {
    matches!(
        error,
        ChainError::Url(_) | ChainError::NoContract { .. } | ChainError::ChainChanged { .. }
    )
}
