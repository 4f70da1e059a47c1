//! Manifests of packages that this host has, read once each, and what is to be said of their code where policy asks.
//!
//! The register names a cryptlet and three digests of a version. That of the package commits to the name and the two
//! others, so that a publisher who says something else there says two things at once: such a version does not run.

use crate::HostError;
use cryptlet_check::{Code, check};
use cryptlet_register::{Register, RegisterError, Replica};
use cryptlet_seal::package::{self, OpenPackage};
use cryptlet_types::{Manifest, Sha256Digest, policy::CodeRule, register::VersionRecord};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Most manifests that are kept, and most bytes of them; beyond that all are read anew.
const MAX_KEPT: usize = 10_000;
const MAX_KEPT_BYTES: usize = 64 << 20;

/// Manifests by package.
pub(crate) struct Manifests {
    replica: Arc<Replica>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    packages: HashMap<Sha256Digest, Arc<OpenPackage>>,
    codes: HashMap<Sha256Digest, Arc<Code>>,
    bytes: usize,
}

impl Kept {
    /// Keeps a package whose manifest has that many bytes.
    fn keep(&mut self, package: Sha256Digest, opened: Arc<OpenPackage>, bytes: usize) {
        let full =
            self.packages.len() >= MAX_KEPT || self.bytes.saturating_add(bytes) > MAX_KEPT_BYTES;
        if full {
            *self = Self::default();
        }
        if self.packages.insert(package, opened).is_none() {
            self.bytes = self.bytes.saturating_add(bytes);
        }
    }
}

impl Manifests {
    pub(crate) fn new(replica: Arc<Replica>) -> Self {
        Self {
            replica,
            kept: Mutex::default(),
        }
    }

    /// The manifest of a version of the cryptlet `name`; none if this host does not have its package.
    pub(crate) async fn of(
        &self,
        name: &str,
        version: &VersionRecord,
    ) -> Result<Option<Manifest>, HostError> {
        let Some(opened) = self.opened(version.package).await? else {
            return Ok(None);
        };
        let manifest = &opened.manifest;
        let said = (
            opened.manifest_digest,
            opened.header,
            manifest.name.as_str(),
        );
        if said != (version.manifest, version.header, name) {
            return Err(HostError::Contradiction(version.package));
        }
        Ok(Some(opened.manifest.clone()))
    }

    /// What the package with this digest says of itself; none if this host does not have it.
    pub(crate) async fn opened(
        &self,
        package: Sha256Digest,
    ) -> Result<Option<Arc<OpenPackage>>, HostError> {
        if let Some(opened) = self.kept().packages.get(&package) {
            return Ok(Some(opened.clone()));
        }
        let files = match self.replica.package(package).await {
            Ok(files) => files,
            Err(RegisterError::UnknownPackage(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let opened = Arc::new(package::open(&files)?);
        let bytes = files.manifest.len();
        self.kept().keep(package, opened.clone(), bytes);
        Ok(Some(opened))
    }

    /// What there is to say of the code of the package with this digest, looked at once; none if `rule` demands nothing of it,
    /// this host does not have it, or it is secret.
    pub(crate) async fn code(
        &self,
        package: Sha256Digest,
        rule: &CodeRule,
    ) -> Result<Option<Arc<Code>>, HostError> {
        if rule.demands_nothing() {
            return Ok(None);
        }
        if let Some(code) = self.kept().codes.get(&package) {
            return Ok(Some(code.clone()));
        }
        let opened = self.opened(package).await?;
        let Some(opened) = opened.filter(|it| it.manifest.config.secret_code.is_none()) else {
            return Ok(None);
        };
        let files = match self.replica.package(package).await {
            Ok(files) => files,
            Err(RegisterError::UnknownPackage(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let looked = tokio::task::spawn_blocking(move || {
            Code::from(check(&files.code, &opened.manifest.config))
        });
        let code = looked.await.map_err(|_| HostError::Ended("a code check"))?;
        let code = Arc::new(code);
        let mut kept = self.kept();
        if kept.codes.len() >= MAX_KEPT {
            kept.codes.clear();
        }
        kept.codes.insert(package, code.clone());
        Ok(Some(code))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
