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

    /// Packages: an OCI image layout.
    #[must_use]
    pub fn packages(&self) -> PathBuf {
        self.0.join("packages")
    }

    /// What the register's chain said (SQLite).
    #[must_use]
    pub fn index(&self) -> PathBuf {
        self.0.join("register.sqlite")
    }

    /// Which register it is.
    #[must_use]
    pub fn register(&self) -> PathBuf {
        self.0.join("register.json")
    }

    /// The policy in force, and how far policy has come.
    #[must_use]
    pub fn policy(&self) -> PathBuf {
        self.0.join("policy")
    }

    /// Delegations of identities, a file each.
    #[must_use]
    pub fn delegations(&self) -> PathBuf {
        self.0.join("delegations")
    }

    /// Recordings of runs, a file each, where policy has them kept.
    #[must_use]
    pub fn recordings(&self) -> PathBuf {
        self.0.join("recordings")
    }

    /// What regions promised, in sealed images, a file each, for those that come after them.
    #[must_use]
    pub fn sealed(&self) -> PathBuf {
        self.0.join("sealed")
    }

    /// Keys of secret code, sealed, and who agreed to it, a file a package.
    #[must_use]
    pub fn secret_code(&self) -> PathBuf {
        self.0.join("secret-code")
    }

    /// Who asked for keys that no version uses yet.
    #[must_use]
    pub fn spare_keys(&self) -> PathBuf {
        self.0.join("spare-keys.json")
    }

    /// Applications whose messages are taken, with their sealed secrets.
    #[must_use]
    pub fn applications(&self) -> PathBuf {
        self.0.join("applications.json")
    }

    /// Digests of the tokens that open the API.
    #[must_use]
    pub fn tokens(&self) -> PathBuf {
        self.0.join("tokens.json")
    }

    /// The certificate of the host's authority (PEM): what callers trust.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.0.join("authority.pem")
    }
}
