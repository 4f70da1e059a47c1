//! Manifests of packages that this host has, read once each.

use crate::HostError;
use cryptlet_register::{Register, RegisterError, Replica};
use cryptlet_seal::package;
use cryptlet_types::{Manifest, Sha256Digest};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Most manifests that are kept; beyond that all are read anew.
const MAX_KEPT: usize = 10_000;

/// Manifests by package.
pub(crate) struct Manifests {
    replica: Arc<Replica>,
    kept: Mutex<HashMap<Sha256Digest, Arc<Manifest>>>,
}

impl Manifests {
    pub(crate) fn new(replica: Arc<Replica>) -> Self {
        Self {
            replica,
            kept: Mutex::default(),
        }
    }

    /// The manifest of a package; none if this host does not have it.
    pub(crate) async fn of(
        &self,
        package: Sha256Digest,
    ) -> Result<Option<Arc<Manifest>>, HostError> {
        if let Some(manifest) = self.kept().get(&package) {
            return Ok(Some(manifest.clone()));
        }
        let files = match self.replica.package(package).await {
            Ok(files) => files,
            Err(RegisterError::UnknownPackage(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let manifest = Arc::new(package::open(&files)?.manifest);
        let mut kept = self.kept();
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(package, manifest.clone());
        Ok(Some(manifest))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<Sha256Digest, Arc<Manifest>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
