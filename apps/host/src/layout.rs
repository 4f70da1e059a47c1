//! Where a host keeps what.

use std::path::{Path, PathBuf};

/// The host's data folder. Everything that must survive a restart lies in it, and only there.
#[derive(Clone, Debug)]
pub struct DataFolder(PathBuf);

impl DataFolder {
    /// The folder at `path`.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The journal (SQLite).
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.0.join("journal.sqlite")
    }

    /// The sealed keys.
    #[must_use]
    pub fn vault(&self) -> PathBuf {
        self.0.join("vault.sealed")
    }

    /// Packages and catalog.
    #[must_use]
    pub fn register(&self) -> PathBuf {
        self.0.join("register")
    }

    /// How far policy has come.
    #[must_use]
    pub fn policy_memory(&self) -> PathBuf {
        self.0.join("policy")
    }
}
