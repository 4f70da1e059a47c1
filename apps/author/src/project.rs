//! A project's files.

use crate::AuthorError;
use alloy_primitives::Address;
use cryptlet_header::{Header, HeaderSource, MAX_INTERFACE_BYTES};
use cryptlet_types::{
    CryptletId,
    bounded::{MAX_COMPONENT_BYTES, MAX_DOCUMENT_BYTES},
    manifest::ManifestSource,
};
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// The manifest as its author writes it.
pub(crate) const MANIFEST: &str = "cryptlet.json";
/// The interface for contract developers.
pub(crate) const INTERFACE: &str = "interface.sol";
/// The folder of recorded cases.
pub(crate) const CASES: &str = "tests";

/// A cryptlet's project, read from its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// The folder.
    pub folder: PathBuf,
    /// The manifest without its key.
    pub manifest: ManifestSource,
    /// The text of `interface.sol`. Whether it is right is for [`Project::header`] to say.
    pub interface: String,
}

impl Project {
    /// Reads the project in `folder`.
    ///
    /// # Errors
    /// Names the file that is missing or wrong.
    pub fn open(folder: &Path) -> Result<Self, AuthorError> {
        let path = folder.join(MANIFEST);
        if !path.is_file() {
            return Err(AuthorError::NoProject(folder.to_owned()));
        }
        let bytes = read(&path, MAX_DOCUMENT_BYTES)?;
        let manifest = ManifestSource::from_json(&bytes)
            .map_err(|source| AuthorError::Manifest { path, source })?;
        let path = folder.join(INTERFACE);
        let interface = String::from_utf8(read(&path, MAX_INTERFACE_BYTES)?).map_err(|_| {
            AuthorError::File {
                path,
                source: std::io::Error::other("not UTF-8"),
            }
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            manifest,
            interface,
        })
    }

    /// The header of this project under an id and a key.
    ///
    /// # Errors
    /// Names the line of the interface, or the field, that is wrong.
    pub fn header(&self, cryptlet: CryptletId, public_key: Address) -> Result<Header, AuthorError> {
        let source = HeaderSource {
            name: &self.manifest.name,
            label: &self.manifest.version,
            interface: &self.interface,
            cryptlet,
            public_key,
        };
        Header::build(source).map_err(|source| AuthorError::Interface {
            path: self.folder.join(INTERFACE),
            source,
        })
    }

    /// Where [`build`](crate::build()) puts the component.
    #[must_use]
    pub fn component(&self) -> PathBuf {
        let file = format!("{}.wasm", self.manifest.name);
        self.folder.join("target").join("cryptlet").join(file)
    }

    /// The component's bytes.
    ///
    /// # Errors
    /// [`AuthorError::NotBuilt`] if there is none yet.
    pub fn code(&self) -> Result<Vec<u8>, AuthorError> {
        let path = self.component();
        match path.is_file() {
            true => read(&path, MAX_COMPONENT_BYTES),
            false => Err(AuthorError::NotBuilt(path)),
        }
    }
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Vec<u8>, AuthorError> {
    let failed = |source| AuthorError::File {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let file = File::open(path).map_err(failed)?;
    file.take(most).read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() > limit {
        true => Err(AuthorError::TooLarge {
            path: path.to_owned(),
            limit,
        }),
        false => Ok(bytes),
    }
}
