//! Follows the register's chain into the index, and says when what is in force has changed.

use crate::{HostClock, HostError, Parts, Rules, fetcher::Fetcher};
use cryptlet_chain::RegisterChain;
use cryptlet_register::{Cursor, Index, Register, RegisterError, Replica, Synced};
use cryptlet_types::{CryptletId, UnixSeconds, register::RegisterChange};
use cryptlet_watch::{self as watch, Advance, Clock, RegisterWatch, WatchError};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// Blocks read at once.
const SPAN: u64 = 1_000;
/// Longest time without a new block before the head is asked for again: an idle chain is still heard of.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Wait before a node is asked again that did not answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// A register whose blocks hold nothing of it is compared with the index this often: each block would cost four questions.
const COMPARED: Duration = Duration::from_secs(1);
/// It is compared at the next block, too, if that is so many seconds after the moment as of which it is known.
const FRESH_SECONDS: u64 = 5;

/// Blocks that are read again where register and index differ: a node that lags behind its own head forgets the last logs.
const REREAD: u64 = 256;

/// Follows the register's chain.
pub(crate) struct Follower {
    chain: Arc<dyn RegisterChain>,
    watch: RegisterWatch,
    replica: Arc<Replica>,
    rules: Arc<Rules>,
    fetcher: Arc<Fetcher>,
    clock: HostClock,
    max_head_age: Option<u64>,
    doubt: Doubt,
    /// When index and register last agreed.
    agreed: Option<Instant>,
}

/// How much was done already because the index does not say what the register says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// Nothing: they agree.
    None,
    /// The last blocks were read again.
    Recent,
    /// All blocks were read again. Now only somebody else can help.
    All,
}

impl Follower {
    pub(crate) fn new(parts: &Parts) -> Self {
        let chain = parts.register_chain.clone();
        Self {
            watch: RegisterWatch::new(chain.clone(), parts.register_first_block, SPAN),
            chain,
            replica: parts.replica.clone(),
            rules: parts.rules.clone(),
            fetcher: parts.fetcher.clone(),
            clock: parts.clock.clone(),
            max_head_age: parts.register_max_head_age,
            doubt: Doubt::None,
            agreed: None,
        }
    }

    /// Goes on until it cannot. May be dropped at any point: the index has what was read.
    pub(crate) async fn run(mut self) -> Result<(), HostError> {
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

    async fn step(&mut self) -> Result<(), HostError> {
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
        let mut published = vec![];
        match self.watch.next(cursor, HEARTBEAT).await? {
            Some(advance) => published = self.take(advance).await?,
            None => self.confirm(cursor).await?,
        }
        self.rules.refresh().await?;
        self.fetch(published).await
    }

    /// Takes over what was read; the cryptlets that have new versions, unless there is more to read.
    async fn take(
        &mut self,
        advance: Advance<(u64, RegisterChange)>,
    ) -> Result<Vec<CryptletId>, HostError> {
        let caught_up = advance.is_caught_up();
        let watch::Cursor { number, hash } = advance.cursor;
        let changes: Vec<_> = advance
            .changes
            .into_iter()
            .map(|(_, change)| change)
            .collect();
        // Nothing is known of later blocks than the last, and of what was read only once it was compared.
        let cursor = Cursor { number, hash };
        let before = self.index().synced().await?.map_or(0, |synced| synced.at);
        let at = if caught_up { before } else { 0 };
        self.index().apply(cursor, &changes, at).await?;
        let quiet = changes.is_empty() && self.agrees_still(before, advance.head.timestamp);
        if !caught_up || quiet {
            return Ok(vec![]);
        }
        self.compare(cursor, advance.head.timestamp).await?;
        let mut published = BTreeSet::new();
        for change in changes {
            tracing::debug!(?change, "register");
            if let RegisterChange::VersionPublished { cryptlet, .. } = change {
                published.insert(cryptlet);
            }
        }
        Ok(published.into_iter().collect())
    }

    /// Fetches what these cryptlets run now. What runs later, or was published before this host came, is fetched when it is
    /// asked for.
    async fn fetch(&self, published: Vec<CryptletId>) -> Result<(), HostError> {
        let standing = self.rules.standing();
        let Some(policy) = standing.policy.filter(|_| !published.is_empty()) else {
            return Ok(());
        };
        for cryptlet in published {
            let Some(known) = self.replica.by_id(cryptlet).await? else {
                continue;
            };
            let record = known.record;
            let publishers = &policy.policy.publishers;
            let trusted =
                publishers.includes(record.publisher) && publishers.includes(record.owner);
            if let Some(version) = record.current().filter(|_| trusted) {
                self.fetcher.fetch(cryptlet, version);
            }
        }
        Ok(())
    }

    /// As of when the register is known, by a head of `head` that was just asked for: now, unless that head is so old that
    /// the node may be stuck.
    fn moment(&self, head: UnixSeconds) -> UnixSeconds {
        match &self.clock {
            HostClock::Free(clock) => as_of(clock.now(), head, self.max_head_age),
            // Such a host goes by the time of its delegate's chain, which is the register's as a rule, and may hear of a
            // block from here first.
            HostClock::Chain(clock) => clock.now().max(head),
        }
    }

    /// The chain made no block: asks whether it is still there, and where it was.
    async fn confirm(&mut self, cursor: Option<watch::Cursor>) -> Result<(), HostError> {
        let head = self.chain.head().await?;
        let known =
            cursor.filter(|cursor| (cursor.number, cursor.hash) == (head.number, head.hash));
        if let Some(watch::Cursor { number, hash }) = known {
            self.compare(Cursor { number, hash }, head.timestamp)
                .await?;
        }
        Ok(())
    }

    /// Whether it was compared a moment ago, by the machine's clock and by the chain's.
    fn agrees_still(&self, known_at: UnixSeconds, head: UnixSeconds) -> bool {
        self.agreed.is_some_and(|at| at.elapsed() < COMPARED)
            && head.saturating_sub(known_at) < FRESH_SECONDS
    }

    /// Compares policy and board of the index, which stands at `cursor`, with what the register says itself, and marks how
    /// old the index is. A node may leave out logs of blocks that it has only just heard of, and a cursor that has passed
    /// them never comes back by itself.
    async fn compare(&mut self, cursor: Cursor, head: UnixSeconds) -> Result<(), HostError> {
        let said = (self.chain.policy().await?, self.chain.board().await?);
        let index = self.index();
        let policy = index.policy().await?.map(|set| set.record);
        let board = index.board().await?.unwrap_or_default();
        if said == (policy, board) {
            self.doubt = Doubt::None;
            self.agreed = Some(Instant::now());
            let at = self.moment(head);
            return Ok(self.index().apply(cursor, &[], at).await?);
        }
        self.agreed = None;
        let now = self.chain.head().await?;
        if (now.number, now.hash) != (cursor.number, cursor.hash) {
            // That was about a later block, which is read next.
            return Ok(());
        }
        tracing::error!(
            block = cursor.number,
            "register: policy or administrators are others than its logs said; no job starts until they agree"
        );
        self.reread().await
    }

    /// Forgets what was read: first the last blocks, then everything, each once. After that the index stays distrusted.
    async fn reread(&mut self) -> Result<(), HostError> {
        self.distrust().await?;
        let to = match self.doubt {
            Doubt::None => {
                self.doubt = Doubt::Recent;
                self.earlier().await?
            }
            Doubt::Recent => {
                self.doubt = Doubt::All;
                None
            }
            Doubt::All => {
                sleep(HEARTBEAT).await;
                return Ok(());
            }
        };
        self.index().rewind(to).await?;
        self.distrust().await
    }

    /// The newest cursor that lies some blocks back.
    async fn earlier(&self) -> Result<Option<Cursor>, HostError> {
        let cursors = self.index().cursors().await?;
        let newest = cursors.first().map_or(0, |cursor| cursor.number);
        let mut back = cursors.into_iter();
        Ok(back.find(|cursor| cursor.number.saturating_add(REREAD) <= newest))
    }

    /// A node that cannot be asked is asked again. After a reorganisation the index goes back to the newest block that
    /// it shares with the chain. Logs that cannot be a register's do not end the host either: they may be the node's.
    async fn trouble(&mut self, error: HostError) -> Result<(), HostError> {
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
                if !cause.is_misconfigured() =>
            {
                tracing::warn!(%error, "register: node does not answer; the last known state stays");
                self.rules.refresh().await?;
                sleep(PATIENCE).await;
            }
            HostError::Register(RegisterError::Foreign(_)) => {
                tracing::error!(%error, "register: its logs contradict each other; no job starts until they do not");
                if self.doubt == Doubt::None {
                    self.doubt = Doubt::Recent;
                }
                self.reread().await?;
            }
            _ => return Err(error),
        }
        Ok(())
    }

    /// Until the chain was read again, no job starts by what may not have happened, or for want of what is not read yet.
    async fn distrust(&mut self) -> Result<(), HostError> {
        self.agreed = None;
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

/// As of when a register is known at `now` by a head that was made at `head`: a node that says nothing new for longer than
/// `max_age` may be stuck, cut off or lied to, so that only its head's own moment counts.
fn as_of(now: UnixSeconds, head: UnixSeconds, max_age: Option<u64>) -> UnixSeconds {
    let age = now.saturating_sub(head);
    if max_age.is_some_and(|most| age > most) {
        head
    } else {
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, B256};
    use cryptlet_chain::{ChainError, Head};
    use cryptlet_register::{PackageStore, PolicyStore};
    use cryptlet_types::{
        Sha256Digest,
        register::{Board, PolicyRecord, RegisterDomain},
    };
    use cryptlet_watch::SystemClock;
    use std::{
        ops::RangeInclusive,
        path::Path,
        sync::atomic::{AtomicU32, Ordering},
    };

    /// A register with one block, whose node leaves its logs out for a while.
    struct Forgetful {
        logs: Vec<RegisterChange>,
        left_out: AtomicU32,
    }

    impl Forgetful {
        const POLICY: u64 = 7;

        fn says(logs: Vec<RegisterChange>, left_out: u32) -> Arc<Self> {
            let left_out = AtomicU32::new(left_out);
            Arc::new(Self { logs, left_out })
        }
    }

    fn head(number: u64) -> Head {
        Head {
            number,
            hash: B256::with_last_byte(1),
            parent: B256::ZERO,
            timestamp: SystemClock.now(),
        }
    }

    fn record() -> PolicyRecord {
        PolicyRecord {
            epoch: Forgetful::POLICY,
            digest: Sha256Digest(B256::repeat_byte(7)),
            uri: String::new(),
        }
    }

    #[async_trait::async_trait]
    impl RegisterChain for Forgetful {
        fn domain(&self) -> RegisterDomain {
            RegisterDomain {
                chain_id: 1,
                register: Address::repeat_byte(1),
            }
        }

        async fn head(&self) -> Result<Head, ChainError> {
            Ok(head(9))
        }

        async fn header(&self, number: u64) -> Result<Option<Head>, ChainError> {
            Ok(Some(head(number)))
        }

        async fn next_head(&self, _after: &Head) -> Result<Head, ChainError> {
            std::future::pending().await
        }

        async fn changes(
            &self,
            blocks: RangeInclusive<u64>,
        ) -> Result<Vec<(u64, RegisterChange)>, ChainError> {
            let left_out = self.left_out.load(Ordering::Relaxed);
            if left_out > 0 {
                self.left_out.store(left_out - 1, Ordering::Relaxed);
                return Ok(vec![]);
            }
            let last = *blocks.end();
            Ok(self.logs.iter().map(|log| (last, log.clone())).collect())
        }

        async fn changes_of(&self, block: &Head) -> Result<Vec<(u64, RegisterChange)>, ChainError> {
            self.changes(block.number..=block.number).await
        }

        async fn is_signer(&self, _: CryptletId, _: Address) -> Result<bool, ChainError> {
            Ok(false)
        }

        async fn policy(&self) -> Result<Option<PolicyRecord>, ChainError> {
            Ok(Some(record()))
        }

        async fn board(&self) -> Result<Board, ChainError> {
            Ok(Board::default())
        }
    }

    async fn follower(chain: Arc<Forgetful>, folder: &Path) -> Follower {
        let index = Arc::new(Index::open(&folder.join("index")).await.unwrap());
        let packages = PackageStore::open(&folder.join("packages"), 1 << 20).unwrap();
        let replica = Arc::new(Replica::new(index.clone(), packages));
        let policies = PolicyStore::open(&folder.join("policy")).unwrap();
        Follower {
            watch: RegisterWatch::new(chain.clone(), 0, SPAN),
            rules: Arc::new(Rules::new(policies, index, chain.domain(), None)),
            fetcher: Arc::new(Fetcher::new(replica.clone(), vec![]).unwrap()),
            chain,
            replica,
            clock: HostClock::Free(Arc::new(SystemClock)),
            max_head_age: None,
            doubt: Doubt::None,
            agreed: None,
        }
    }

    async fn once(follower: &mut Follower) {
        if let Err(error) = follower.step().await {
            follower.trouble(error).await.unwrap();
        }
    }

    #[tokio::test]
    async fn logs_that_a_node_left_out_are_read_again_before_anything_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let set = RegisterChange::PolicySet { policy: record() };
        let mut follower = follower(Forgetful::says(vec![set], 1), folder.path()).await;
        once(&mut follower).await;
        let untold = follower.index().synced().await.unwrap();
        assert_eq!(untold.filter(|synced| synced.at > 0), None);
        once(&mut follower).await;
        let set = follower.index().policy().await.unwrap().unwrap();
        assert_eq!(set.record, record());
        let synced = follower.index().synced().await.unwrap().unwrap();
        assert!(synced.at > 0, "{synced:?}");
        assert_eq!(follower.doubt, Doubt::None);
    }

    #[tokio::test]
    async fn a_register_that_contradicts_itself_is_distrusted_and_ends_no_host() {
        let folder = tempfile::tempdir().unwrap();
        let cryptlet = CryptletId(Address::repeat_byte(3));
        let unknown = RegisterChange::CryptletRevoked { cryptlet };
        let mut follower = follower(Forgetful::says(vec![unknown], 0), folder.path()).await;
        once(&mut follower).await;
        let synced = follower.index().synced().await.unwrap();
        assert_eq!(synced.filter(|synced| synced.at > 0), None);
        assert_eq!(follower.doubt, Doubt::All);
        let again = follower.step().await;
        assert!(matches!(
            again,
            Err(HostError::Register(RegisterError::Foreign(_)))
        ));
    }

    #[test]
    fn a_head_that_is_too_old_counts_as_of_its_own_moment() {
        let hour = Some(3_600);
        assert_eq!(as_of(10_000, 6_400, hour), 10_000, "an idle chain");
        assert_eq!(as_of(10_000, 6_399, hour), 6_399, "a stuck node");
        assert_eq!(as_of(10_000, 1, None), 10_000, "blocks on demand");
        assert_eq!(as_of(10_000, 10_900, hour), 10_000, "a clock that lags");
    }
}
