//! The questions that a host asks a register.

use crate::{Catalog, Entry, PackageStore, RegisterError, Result};
use async_trait::async_trait;
use cryptlet_types::{CryptletId, Sha256Digest, region::Package};
use std::path::Path;
use tokio::task::spawn_blocking;

/// Says which package a cryptlet runs, and has it.
#[async_trait]
pub trait Register: Send + Sync {
    /// What `cryptlet` runs now; none if it was never published.
    ///
    /// # Errors
    /// The register is out of reach or damaged.
    async fn current(&self, cryptlet: CryptletId) -> Result<Option<Entry>>;

    /// A package, its digests checked.
    ///
    /// # Errors
    /// [`RegisterError::UnknownPackage`], or the store is out of reach or damaged.
    async fn package(&self, digest: Sha256Digest) -> Result<Package>;
}

/// A register in the host's data folder: `packages` (an OCI image layout) and `catalog`.
#[derive(Clone, Debug)]
pub struct LocalRegister {
    packages: PackageStore,
    catalog: Catalog,
}

impl LocalRegister {
    /// Opens the register in `folder`, or makes an empty one there.
    ///
    /// # Errors
    /// [`RegisterError::Io`] or [`RegisterError::Malformed`].
    pub fn open(folder: &Path) -> Result<Self> {
        Ok(Self {
            packages: PackageStore::open(&folder.join("packages"))?,
            catalog: Catalog::open(&folder.join("catalog"))?,
        })
    }

    /// Keeps `package`, and has `cryptlet` run it from now on. Blocks while files are written.
    ///
    /// # Errors
    /// As [`PackageStore::put`] and [`Catalog::publish`].
    pub fn publish(&self, cryptlet: CryptletId, package: &Package) -> Result<Sha256Digest> {
        let digest = self.packages.put(package)?;
        self.catalog.publish(cryptlet, digest)?;
        Ok(digest)
    }

    /// The packages.
    #[must_use]
    pub fn packages(&self) -> &PackageStore {
        &self.packages
    }

    /// The catalog.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }
}

#[async_trait]
impl Register for LocalRegister {
    async fn current(&self, cryptlet: CryptletId) -> Result<Option<Entry>> {
        let catalog = self.catalog.clone();
        blocking(move || catalog.current(cryptlet)).await
    }

    async fn package(&self, digest: Sha256Digest) -> Result<Package> {
        let packages = self.packages.clone();
        blocking(move || packages.get(digest)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    spawn_blocking(work)
        .await
        .unwrap_or(Err(RegisterError::Interrupted))
}
