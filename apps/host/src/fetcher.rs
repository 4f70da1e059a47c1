//! Fetches packages that were published elsewhere.
//!
//! Where a package lies is its publisher's word, so that only registries are asked that the operator named; and what
//! comes back has to have the digest that the register's chain says.

use crate::HostError;
use cryptlet_register::{OciAuth, OciReference, OciRegistries, Replica};
use cryptlet_types::{Sha256Digest, register::VersionRecord};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::Semaphore;

/// Most packages that are fetched at once.
const AT_ONCE: usize = 4;

/// Fetches each package once at a time.
pub(crate) struct Fetcher {
    replica: Arc<Replica>,
    registries: OciRegistries,
    hosts: Vec<String>,
    under_way: Arc<Mutex<HashSet<Sha256Digest>>>,
    turns: Arc<Semaphore>,
}

impl Fetcher {
    /// A fetcher that asks these registries (`host` or `host:port`) and no others.
    pub(crate) fn new(replica: Arc<Replica>, hosts: Vec<String>) -> Result<Self, HostError> {
        Ok(Self {
            replica,
            registries: OciRegistries::new(hosts.clone())?,
            hosts,
            under_way: Arc::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        })
    }

    /// Begins to fetch the package of `version`, unless that is under way. Returns whether there is any hope of it.
    pub(crate) fn fetch(&self, version: &VersionRecord) -> bool {
        let Some(reference) = self.reference(version) else {
            return false;
        };
        let digest = version.package;
        if !self.begin(digest) {
            return true;
        }
        let (replica, registries) = (self.replica.clone(), self.registries.clone());
        let (under_way, turns) = (self.under_way.clone(), self.turns.clone());
        tokio::spawn(async move {
            let _turn = turns.acquire().await;
            match pull(&replica, &registries, &reference).await {
                Ok(()) => tracing::info!(%digest, "package fetched"),
                Err(error) => {
                    tracing::warn!(%digest, %reference, %error, "package was not fetched")
                }
            }
            let mut under_way = under_way.lock().unwrap_or_else(PoisonError::into_inner);
            under_way.remove(&digest);
        });
        true
    }

    /// Where the package is, if the operator lets it be asked for there.
    fn reference(&self, version: &VersionRecord) -> Option<OciReference> {
        let reference: OciReference = version.uri.parse().ok()?;
        let allowed = self.hosts.iter().any(|host| host == reference.host());
        allowed.then(|| reference.with_digest(version.package))
    }

    fn begin(&self, digest: Sha256Digest) -> bool {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        under_way.insert(digest)
    }
}

async fn pull(
    replica: &Replica,
    registries: &OciRegistries,
    reference: &OciReference,
) -> Result<(), HostError> {
    let files = registries.pull(reference, &OciAuth::Anonymous).await?;
    replica.put(files).await?;
    Ok(())
}
