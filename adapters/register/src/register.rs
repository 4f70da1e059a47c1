//! The questions that a host asks a register.

use crate::{Index, Known, PackageStore, RegisterError, Result, Synced};
use async_trait::async_trait;
use cryptlet_seal::package::{PackageFiles, open_files};
use cryptlet_types::{
    CryptletId, Sha256Digest,
    region::Package,
    register::{CryptletRecord, VersionRecord},
};
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// Says what a cryptlet is and which package it runs, and has the packages.
#[async_trait]
pub trait Register: Send + Sync {
    /// What `cryptlet` runs, by the last word of the register's chain. Who signs for it, and how old that word may be, is
    /// asked where a job starts.
    ///
    /// # Errors
    /// The register is damaged.
    async fn current(&self, cryptlet: CryptletId) -> Result<Current>;

    /// The cryptlet with this id.
    ///
    /// # Errors
    /// The register is damaged.
    async fn by_id(&self, cryptlet: CryptletId) -> Result<Option<Known>>;

    /// The cryptlet of this name.
    ///
    /// # Errors
    /// The register is damaged.
    async fn by_name(&self, name: &str) -> Result<Option<Known>>;

    /// Cryptlets that fit `query`, as [`Index::search`].
    ///
    /// # Errors
    /// The register is damaged.
    async fn search(&self, query: &str, limit: u32, after: Option<&str>) -> Result<Vec<Known>>;

    /// Up to which block, and as of when, the register's chain is known.
    ///
    /// # Errors
    /// The register is damaged.
    async fn synced(&self) -> Result<Option<Synced>>;

    /// What a region gets of a package, its digests checked.
    ///
    /// # Errors
    /// [`RegisterError::UnknownPackage`], or the store is damaged.
    async fn package(&self, digest: Sha256Digest) -> Result<Package>;

    /// All files of a package, their digests checked.
    ///
    /// # Errors
    /// [`RegisterError::UnknownPackage`], or the store is damaged.
    async fn files(&self, digest: Sha256Digest) -> Result<PackageFiles>;
}

/// Whether a cryptlet runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Current {
    /// It runs this.
    Runs(Box<Entry>),
    /// No such cryptlet was ever registered, as far as the chain is known.
    Unknown,
    /// The cryptlet was revoked.
    Revoked,
    /// It has no version that was not revoked.
    NoVersion,
}

/// What a cryptlet runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the register says of the cryptlet.
    pub record: CryptletRecord,
    /// The version that runs; `package`, `header` and `manifest` are its digests.
    pub version: VersionRecord,
}

impl Entry {
    /// What `record` runs.
    #[must_use]
    pub fn of(record: CryptletRecord) -> Current {
        if record.revoked {
            return Current::Revoked;
        }
        let Some(version) = record.current().cloned() else {
            return Current::NoVersion;
        };
        Current::Runs(Box::new(Self { version, record }))
    }
}

/// What a host has of the register: the chain's word in an [`Index`], and the packages in a [`PackageStore`].
#[derive(Clone, Debug)]
pub struct Replica {
    index: Arc<Index>,
    packages: PackageStore,
}

impl Replica {
    /// A replica of these two.
    #[must_use]
    pub fn new(index: Arc<Index>, packages: PackageStore) -> Self {
        Self { index, packages }
    }

    /// Keeps a package, and has its cryptlet found by what its manifest says. What a cryptlet runs is not changed by
    /// this: the chain says that.
    ///
    /// # Errors
    /// As [`PackageStore::put`] and [`Index::describe`].
    pub async fn put(&self, files: PackageFiles) -> Result<Sha256Digest> {
        let packages = self.packages.clone();
        let (digest, manifest, description) = self
            .blocking(move || {
                let digest = packages.put(&files)?;
                let opened = open_files(&files)
                    .map_err(|source| RegisterError::Package { digest, source })?;
                Ok((
                    digest,
                    opened.manifest_digest,
                    opened.manifest.config.description,
                ))
            })
            .await?;
        self.index.describe(manifest, &description).await?;
        Ok(digest)
    }

    /// The chain's word.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The packages.
    #[must_use]
    pub fn packages(&self) -> &PackageStore {
        &self.packages
    }

    /// Has `work` done where it holds nobody up; in a simulation right here.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.index.is_simulated() {
            return work();
        }
        spawn_blocking(work)
            .await
            .unwrap_or(Err(RegisterError::Interrupted))
    }
}

#[async_trait]
impl Register for Replica {
    async fn current(&self, cryptlet: CryptletId) -> Result<Current> {
        let known = self.index.by_id(cryptlet).await?;
        Ok(known.map_or(Current::Unknown, |known| Entry::of(known.record)))
    }

    async fn by_id(&self, cryptlet: CryptletId) -> Result<Option<Known>> {
        self.index.by_id(cryptlet).await
    }

    async fn by_name(&self, name: &str) -> Result<Option<Known>> {
        self.index.by_name(name).await
    }

    async fn search(&self, query: &str, limit: u32, after: Option<&str>) -> Result<Vec<Known>> {
        self.index.search(query, limit, after).await
    }

    async fn synced(&self) -> Result<Option<Synced>> {
        self.index.synced().await
    }

    async fn package(&self, digest: Sha256Digest) -> Result<Package> {
        let packages = self.packages.clone();
        self.blocking(move || packages.get(digest)).await
    }

    async fn files(&self, digest: Sha256Digest) -> Result<PackageFiles> {
        let packages = self.packages.clone();
        self.blocking(move || packages.files(digest)).await
    }
}
