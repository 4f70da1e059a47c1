//! Observations of feeds: the cryptlet is asked in its region, one observation for all who wait for a value of the feed.

use alloy_primitives::B256;
use cryptlet_route::Registered;
use cryptlet_run::{Program, Runner};
use cryptlet_types::{UnixSeconds, event::Observation};
use cryptlet_watch::FeedDue;
use std::{collections::BTreeSet, sync::Arc};
use tokio::task::JoinSet;

/// Feeds that are being observed.
pub(crate) struct Feeds {
    runner: Arc<Runner>,
    under_way: BTreeSet<B256>,
    observing: JoinSet<(B256, Option<Observation>)>,
}

impl Feeds {
    pub(crate) fn new(runner: Arc<Runner>) -> Self {
        Self {
            runner,
            under_way: BTreeSet::new(),
            observing: JoinSet::new(),
        }
    }

    /// Begins to observe a feed, unless that is under way. What cannot be observed now is left out: the next moment comes.
    pub(crate) fn observe(&mut self, feed: &FeedDue, registered: &Registered, now: UnixSeconds) {
        if !self.under_way.insert(feed.feed) {
            return;
        }
        let (runner, id) = (self.runner.clone(), feed.feed);
        let (params, every) = (feed.params.clone(), feed.every);
        let program = Program {
            cryptlet: feed.cryptlet,
            package: registered.package,
            limits: registered.manifest.config.limits,
        };
        self.observing.spawn(async move {
            match runner.observe(&program, params, every, now).await {
                Ok(seen) => (id, Some(seen)),
                Err(error) => {
                    tracing::warn!(feed = %id, cryptlet = %program.cryptlet, %error, "feed has no value for now");
                    (id, None)
                }
            }
        });
    }

    /// Waits for the next value. May be dropped at any point: what is being observed goes on.
    pub(crate) async fn next(&mut self) -> Observation {
        loop {
            let (feed, seen) = match self.observing.join_next().await {
                Some(Ok(seen)) => seen,
                Some(Err(error)) => {
                    tracing::error!(%error, "a feed is not observed any more");
                    continue;
                }
                None => {
                    std::future::pending::<()>().await;
                    continue;
                }
            };
            self.under_way.remove(&feed);
            if let Some(seen) = seen {
                return seen;
            }
        }
    }
}
