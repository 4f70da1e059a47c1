//! Subscriptions that were looked up lately. The journal has all of them, which may be too many for memory.

use crate::HostError;
use cryptlet_journal::Journal;
use cryptlet_types::{Subject, Subscription};
use std::{collections::HashMap, sync::Arc};

/// Most subscriptions that are kept; beyond that all are read anew.
const MAX_KEPT: usize = 20_000;

/// Subscriptions by subject.
pub(crate) struct Known {
    journal: Arc<Journal>,
    kept: HashMap<Subject, Arc<Subscription>>,
}

impl Known {
    pub(crate) fn new(journal: Arc<Journal>) -> Self {
        Self {
            journal,
            kept: HashMap::new(),
        }
    }

    /// The subscription, unless it has ended or never was.
    pub(crate) async fn of(
        &mut self,
        subject: Subject,
    ) -> Result<Option<Arc<Subscription>>, HostError> {
        if let Some(known) = self.kept.get(&subject) {
            return Ok(Some(known.clone()));
        }
        let Some(active) = self.journal.subscription(subject).await? else {
            return Ok(None);
        };
        Ok(Some(self.learn(&active.subscription)))
    }

    /// Keeps a subscription that is about to be written to the journal.
    pub(crate) fn learn(&mut self, subscription: &Subscription) -> Arc<Subscription> {
        if self.kept.len() >= MAX_KEPT {
            self.kept.clear();
        }
        let shared = Arc::new(subscription.clone());
        self.kept.insert(subscription.subject, shared.clone());
        shared
    }

    /// What is known of a subscription does not hold any more.
    pub(crate) fn forget(&mut self, subject: Subject) {
        self.kept.remove(&subject);
    }
}
