//! What is in force at this host: the policy, as far as register and operator agree on it, and how old the register's
//! word is.
//!
//! There is no default and no grace: without a policy that the register has, or with a register that was not heard of
//! for longer than that policy lets evidence be old, no job starts. What is due then stays in the journal.

use crate::HostError;
use cryptlet_register::{
    Freshness, Index, PolicySet, PolicyStore, RegisterError, Synced, is_the_registers,
};
use cryptlet_types::{
    UnixSeconds,
    policy::{PolicyInForce, SignedPolicy},
    register::{PolicyRecord, RegisterDomain},
};
use std::{path::PathBuf, sync::Arc};
use tokio::{
    sync::{Mutex, watch},
    task::spawn_blocking,
};

/// What is in force, and what it rests on.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The policy that register and operator agree on.
    pub policy: Option<Arc<PolicyInForce>>,
    /// Why there is none, for people.
    pub without: Option<String>,
    /// Up to where the register is known.
    pub synced: Option<Synced>,
}

impl Standing {
    /// How old the register's word is.
    #[must_use]
    pub fn freshness(&self, now: UnixSeconds) -> Freshness {
        Freshness::of(self.synced, now)
    }

    /// Whether the register's word is too old to start jobs by; without a policy, any age is.
    #[must_use]
    pub fn is_stale(&self, now: UnixSeconds) -> bool {
        let fresh =
            |policy: &Arc<PolicyInForce>| self.freshness(now).admits_jobs(&policy.policy.evidence);
        !self.policy.as_ref().is_some_and(fresh)
    }

    /// The policy under which a job may start at `now`.
    ///
    /// # Errors
    /// Why none may, for people.
    pub fn admits_jobs(&self, now: UnixSeconds) -> Result<&Arc<PolicyInForce>, String> {
        let Some(policy) = &self.policy else {
            let reason = self.without.as_deref();
            return Err(reason.unwrap_or("no policy is in force").to_owned());
        };
        if self.freshness(now).admits_jobs(&policy.policy.evidence) {
            return Ok(policy);
        }
        Err(format!(
            "the register's chain was not heard of for longer than {} s (evidence.maxAgeSeconds)",
            policy.policy.evidence.max_age_seconds
        ))
    }
}

/// What a decision is made by, and whether that was still so when it was made.
///
/// A no may be final, so that it has to rest on one register and one policy: where either has changed on the way, it may have
/// come from an index that was being read anew, or from the policy between two policies, which says no to everything.
pub(crate) struct Basis {
    standing: Standing,
    said: watch::Receiver<Standing>,
}

impl Basis {
    /// What was in force when it was asked for.
    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Whether nothing else was said of register or policy since, and jobs may still start by it at `now`.
    pub(crate) fn stands(&self, now: UnixSeconds) -> bool {
        // Without rules there is nobody left to say so.
        let changed = self.said.has_changed().unwrap_or(true);
        !changed && self.standing.admits_jobs(now).is_ok()
    }
}

/// Decides what is in force, and tells whoever wants to know.
pub struct Rules {
    store: PolicyStore,
    index: Arc<Index>,
    domain: RegisterDomain,
    /// A file that the operator named; it is looked at whenever the register asks for another policy.
    file: Option<PathBuf>,
    standing: watch::Sender<Standing>,
    /// Whoever looks: of two, the one who looked first must not have the last word.
    looking: Mutex<()>,
}

impl Rules {
    /// The rules that `store` remembers and `index` confirms.
    #[must_use]
    pub fn new(
        store: PolicyStore,
        index: Arc<Index>,
        domain: RegisterDomain,
        file: Option<PathBuf>,
    ) -> Self {
        Self {
            store,
            index,
            domain,
            file,
            standing: watch::Sender::default(),
            looking: Mutex::default(),
        }
    }

    /// What is in force now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// What is in force, each time that it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// What is in force now, to decide by.
    pub(crate) fn basis(&self) -> Basis {
        let mut said = self.standing.subscribe();
        let standing = said.borrow_and_update().clone();
        Basis { standing, said }
    }

    /// Where the register is.
    #[must_use]
    pub fn domain(&self) -> RegisterDomain {
        self.domain
    }

    /// Looks again at what the register says.
    ///
    /// # Errors
    /// Index or policy memory cannot be read.
    pub async fn refresh(&self) -> Result<(), HostError> {
        let _looking = self.looking.lock().await;
        let synced = self.index.synced().await?;
        let set = self.index.policy().await?;
        let record = set.as_ref().map(|set| &set.record);
        let kept = self.standing.borrow().policy.clone();
        let decided = match kept.filter(|policy| is_the_registers(policy, record)) {
            Some(policy) => Ok(policy),
            None => self.decide(set).await?,
        };
        let (policy, without) = match decided {
            Ok(policy) => (Some(policy), None),
            Err(reason) => (None, Some(reason)),
        };
        self.announce(Standing {
            policy,
            without,
            synced,
        });
        Ok(())
    }

    /// Takes a policy that somebody handed in, and puts it in force.
    ///
    /// # Errors
    /// [`HostError::Register`] says why it is refused; then the last one stays.
    pub async fn install(&self, document: Vec<u8>) -> Result<Arc<PolicyInForce>, HostError> {
        let set = self.index.policy().await?;
        let (store, domain) = (self.store.clone(), self.domain);
        let installed = self
            .blocking(move || store.install(&document, &domain, set.as_ref()))
            .await??;
        self.refresh().await?;
        Ok(Arc::new(installed))
    }

    /// The document of the last policy that was taken here, with its approvals.
    ///
    /// # Errors
    /// The memory was damaged.
    pub async fn document(&self) -> Result<Option<SignedPolicy>, HostError> {
        let store = self.store.clone();
        Ok(self.blocking(move || store.document()).await??)
    }

    /// The policy that the memory or the operator's file has for `set`, or the reason why there is none.
    async fn decide(
        &self,
        set: Option<PolicySet>,
    ) -> Result<Result<Arc<PolicyInForce>, String>, HostError> {
        let (store, domain, file) = (self.store.clone(), self.domain, self.file.clone());
        let record = set.as_ref().map(|set| set.record.clone());
        let decided = self
            .blocking(move || {
                let record = set.as_ref().map(|set| &set.record);
                match (store.current(record), file) {
                    (Err(error), Some(file)) if is_about_the_policy(&error) => {
                        store.load(&file, &domain, set.as_ref())
                    }
                    (current, _) => current,
                }
            })
            .await?;
        match decided {
            Ok(policy) => Ok(Ok(Arc::new(policy))),
            Err(error) if is_about_the_policy(&error) => Ok(Err(why(&error, record))),
            Err(error) => Err(error.into()),
        }
    }

    /// Has `work` done where it holds nobody up; in a simulation right here.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HostError> {
        if self.index.is_simulated() {
            return Ok(work());
        }
        let done = spawn_blocking(work).await;
        done.map_err(|_| HostError::Ended("the policy's memory"))
    }

    fn announce(&self, new: Standing) {
        let digest = |standing: &Standing| standing.policy.as_ref().map(|policy| policy.digest);
        let old = self.standing.send_replace(new.clone());
        let known = old.synced.is_some() || new.synced.is_none();
        if known && digest(&old) == digest(&new) && old.without == new.without {
            return;
        }
        match (&new.policy, &new.without) {
            (Some(policy), _) => {
                let epoch = policy.policy.epoch;
                tracing::info!(epoch, digest = %policy.digest, "policy in force");
            }
            // Before the register was read for the first time there is nothing to say yet.
            (None, _) if new.synced.is_none() => {}
            (None, reason) => {
                let reason = reason.as_deref().unwrap_or_default();
                tracing::warn!(reason, "no policy in force: no job starts");
            }
        }
    }
}

/// Why no policy is in force. That a document is not the one which the register has only says that the right one is waited
/// for; what is wrong with the right one is for the operator to mend.
fn why(error: &RegisterError, record: Option<PolicyRecord>) -> String {
    let Some(record) = record else {
        return "the register has no policy yet: cryptlet policy new, sign, set".to_owned();
    };
    match error {
        RegisterError::PolicyApprovals(_) | RegisterError::PolicyDocument(_) => error.to_string(),
        _ => format!(
            "the register has policy {} in force, and its document was not handed over here yet: cryptlet policy set FILE",
            record.epoch
        ),
    }
}

/// Whether the error says that there is no such policy, rather than that the memory cannot be read.
fn is_about_the_policy(error: &RegisterError) -> bool {
    !matches!(
        error,
        RegisterError::Malformed { .. } | RegisterError::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, B256};
    use cryptlet_types::{Policy, Sha256Digest};
    use std::path::Path;

    const NOW: UnixSeconds = 1_790_000_000;

    async fn rules(folder: &Path) -> Rules {
        let domain = RegisterDomain {
            chain_id: 1,
            register: Address::repeat_byte(1),
        };
        let index = Arc::new(Index::open(&folder.join("index")).await.unwrap());
        Rules::new(
            PolicyStore::open(&folder.join("policy")).unwrap(),
            index,
            domain,
            None,
        )
    }

    fn open(policy: u8) -> Standing {
        Standing {
            policy: Some(Arc::new(PolicyInForce {
                policy: Policy::closed(policy.into()),
                digest: Sha256Digest(B256::repeat_byte(policy)),
            })),
            without: None,
            synced: Some(Synced {
                block: 1,
                hash: B256::ZERO,
                at: NOW,
            }),
        }
    }

    #[tokio::test]
    async fn a_decision_stands_only_if_nothing_changed_while_it_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let rules = rules(folder.path()).await;
        rules.announce(open(1));
        let basis = rules.basis();
        assert!(basis.stands(NOW));
        let most = open(1).policy.unwrap().policy.evidence.max_age_seconds;
        assert!(!basis.stands(NOW + most + 1), "the register fell silent");

        // Between two policies none is in force; the register may have been read anew.
        rules.announce(Standing::default());
        assert!(!basis.stands(NOW));
        assert!(!rules.basis().stands(NOW), "without a policy");
        rules.announce(open(2));
        assert!(!basis.stands(NOW), "it is another policy");
        rules.announce(open(1));
        assert!(!basis.stands(NOW), "what was read in between is unknown");
        assert!(rules.basis().stands(NOW));
    }
}
