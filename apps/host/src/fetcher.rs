//! Fetches packages that were published elsewhere.
//!
//! Where a package lies is its publisher's word, so that only registries are asked that the operator named; and what
//! comes back has to have the digest that the register's chain says, and to be what a host takes from a caller. A package
//! that does not come is asked for less and less often, and given up for a while after a few times.

use crate::{HostError, checks};
use cryptlet_register::{OciAuth, OciReference, OciRegistries, Replica};
use cryptlet_types::{CryptletId, Sha256Digest, bounded::clip, register::VersionRecord};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Semaphore, task::spawn_blocking, time::Instant};

/// Most packages that are fetched at once.
const AT_ONCE: usize = 4;
/// Most packages that are fetched or wait for their turn.
const MAX_UNDER_WAY: usize = 64;
/// How often a package is asked for before it is given up for a while.
const ATTEMPTS: u32 = 5;
/// Wait before the second attempt; it doubles.
const PATIENCE: Duration = Duration::from_secs(5);
/// After what time a package that was given up is asked for again.
const GIVEN_UP: Duration = Duration::from_secs(3_600);
/// Most packages whose failures are remembered; beyond that all are forgotten.
const MAX_REMEMBERED: usize = 10_000;

/// Fetches each package once at a time.
pub(crate) struct Fetcher {
    registries: OciRegistries,
    hosts: Vec<String>,
    replica: Arc<Replica>,
    memory: Arc<Memory>,
    turns: Arc<Semaphore>,
}

/// Whether a package will come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Hope {
    /// It is fetched, now or before long.
    Later,
    /// It will not, and why; for people.
    None(String),
}

impl Fetcher {
    /// A fetcher that asks these registries (`host` or `host:port`) and no others.
    pub(crate) fn new(replica: Arc<Replica>, hosts: Vec<String>) -> Result<Self, HostError> {
        Ok(Self {
            replica,
            registries: OciRegistries::new(hosts.clone())?,
            hosts,
            memory: Arc::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        })
    }

    /// Begins to fetch the package of a version of `cryptlet`, unless that is under way or there is no hope of it.
    pub(crate) fn fetch(&self, cryptlet: CryptletId, version: &VersionRecord) -> Hope {
        let digest = version.package;
        if self.replica.packages().has(digest) {
            return Hope::Later;
        }
        let Some(reference) = self.reference(version) else {
            return Hope::None(format!(
                "package {digest} of cryptlet {cryptlet} is not at this host"
            ));
        };
        match self.memory.begin(digest, Instant::now()) {
            Turn::Now => {}
            Turn::Later => return Hope::Later,
            Turn::Never(reason) => {
                return Hope::None(format!(
                    "package {digest} of cryptlet {cryptlet} cannot be fetched: {reason}"
                ));
            }
        }
        let (replica, registries) = (self.replica.clone(), self.registries.clone());
        let (memory, turns) = (self.memory.clone(), self.turns.clone());
        tokio::spawn(async move {
            let _turn = turns.acquire().await;
            let pulled = pull(&replica, &registries, &reference, cryptlet).await;
            match &pulled {
                Ok(()) => tracing::info!(%digest, "package fetched"),
                Err(failure) => {
                    tracing::warn!(%digest, %reference, reason = failure.reason, "package was not fetched");
                }
            }
            memory.end(digest, pulled.err(), Instant::now());
        });
        Hope::Later
    }

    /// Where the package is, if the operator lets it be asked for there.
    fn reference(&self, version: &VersionRecord) -> Option<OciReference> {
        let reference: OciReference = version.uri.parse().ok()?;
        let allowed = self.hosts.iter().any(|host| host == reference.host());
        allowed.then(|| reference.with_digest(version.package))
    }
}

/// Why a package did not come.
struct Failure {
    reason: String,
    /// Whether it may come later.
    passes: bool,
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        Self {
            reason: error.to_string(),
            passes: error.is_retryable(),
        }
    }
}

async fn pull(
    replica: &Replica,
    registries: &OciRegistries,
    reference: &OciReference,
    cryptlet: CryptletId,
) -> Result<(), Failure> {
    let pulled = registries.pull(reference, &OciAuth::Anonymous).await;
    let files = pulled.map_err(HostError::from)?;
    let accepted = spawn_blocking(move || checks::accept(&files).map(|found| (found, files))).await;
    let refuse = |reason| Failure {
        reason,
        passes: false,
    };
    let (found, files) = accepted
        .map_err(|_| HostError::Ended("the package's check"))?
        .map_err(refuse)?;
    if found.cryptlet != cryptlet {
        return Err(refuse(format!("it is of cryptlet {}", found.cryptlet)));
    }
    replica.put(files).await.map_err(HostError::from)?;
    Ok(())
}

/// What is under way, and what did not come.
#[derive(Default)]
struct Memory(Mutex<Packages>);

#[derive(Default)]
struct Packages {
    under_way: HashSet<Sha256Digest>,
    failed: HashMap<Sha256Digest, Failed>,
}

struct Failed {
    attempts: u32,
    reason: String,
    again: Instant,
}

enum Turn {
    Now,
    Later,
    Never(String),
}

impl Memory {
    fn begin(&self, digest: Sha256Digest, now: Instant) -> Turn {
        let mut packages = self.packages();
        if packages.under_way.contains(&digest) || packages.under_way.len() >= MAX_UNDER_WAY {
            return Turn::Later;
        }
        match packages.failed.get(&digest) {
            Some(failed) if now < failed.again && failed.attempts >= ATTEMPTS => {
                return Turn::Never(failed.reason.clone());
            }
            Some(failed) if now < failed.again => return Turn::Later,
            Some(failed) if failed.attempts >= ATTEMPTS => {
                packages.failed.remove(&digest);
            }
            _ => {}
        }
        packages.under_way.insert(digest);
        Turn::Now
    }

    fn end(&self, digest: Sha256Digest, failure: Option<Failure>, now: Instant) {
        let mut packages = self.packages();
        packages.under_way.remove(&digest);
        let before = packages.failed.remove(&digest);
        let Some(Failure { reason, passes }) = failure else {
            return;
        };
        if packages.failed.len() >= MAX_REMEMBERED {
            packages.failed.clear();
        }
        let made = before.map_or(0, |failed| failed.attempts).saturating_add(1);
        let attempts = if passes { made } else { ATTEMPTS };
        let wait = if attempts >= ATTEMPTS {
            GIVEN_UP
        } else {
            PATIENCE.saturating_mul(1 << made.min(8))
        };
        let failed = Failed {
            attempts,
            reason: clip(&reason),
            again: now.checked_add(wait).unwrap_or(now),
        };
        packages.failed.insert(digest, failed);
    }

    fn packages(&self) -> MutexGuard<'_, Packages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;

    const PACKAGE: Sha256Digest = Sha256Digest(B256::repeat_byte(1));

    fn failure(passes: bool) -> Option<Failure> {
        let reason = "not found".to_owned();
        Some(Failure { reason, passes })
    }

    fn begins(memory: &Memory, now: Instant) -> bool {
        matches!(memory.begin(PACKAGE, now), Turn::Now)
    }

    fn given_up(memory: &Memory, now: Instant) -> bool {
        matches!(memory.begin(PACKAGE, now), Turn::Never(reason) if reason == "not found")
    }

    #[test]
    fn a_package_that_does_not_come_is_asked_for_less_often_and_then_given_up() {
        let memory = Memory::default();
        let mut now = Instant::now();
        for attempt in 1..=ATTEMPTS {
            assert!(begins(&memory, now), "attempt {attempt}");
            assert!(!begins(&memory, now), "one at a time");
            memory.end(PACKAGE, failure(true), now);
            assert!(!begins(&memory, now), "not at once");
            if attempt < ATTEMPTS {
                now += PATIENCE * (1 << attempt);
            }
        }
        assert!(given_up(&memory, now));
        assert!(begins(&memory, now + GIVEN_UP), "a while later");
    }

    #[test]
    fn what_can_never_come_is_given_up_at_once_and_what_came_is_forgotten() {
        let memory = Memory::default();
        let now = Instant::now();
        assert!(begins(&memory, now));
        memory.end(PACKAGE, failure(false), now);
        assert!(given_up(&memory, now));
        assert!(begins(&memory, now + GIVEN_UP));
        memory.end(PACKAGE, None, now);
        assert!(begins(&memory, now));
    }
}
