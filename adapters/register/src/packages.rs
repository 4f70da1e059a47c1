//! Packages by digest: an OCI image layout (image-spec 1.1) on disk.
//!
//! `oci-layout`, `index.json` and `blobs/sha256/HEX`, so that common tools can copy it to a registry and back.
//! Digests are checked when a package comes in and each time it is read.

use crate::{
    RegisterError, Result,
    file::{at, create_folder, malformed, read, read_json, replace, replace_json},
};
use alloy_primitives::{B256, hex};
use cryptlet_seal::{
    package::{ARTIFACT_TYPE, INDEX_MEDIA_TYPE, oci_digest, open},
    sha256,
};
use cryptlet_types::{
    Sha256Digest,
    bounded::{MAX_COMPONENT_BYTES, MAX_DOCUMENT_BYTES},
    region::Package,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    path::{Path, PathBuf},
};

/// `oci-layout`.
#[derive(Serialize, Deserialize)]
struct Layout {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

/// `index.json`: an OCI image index. Fields of other tools' making (annotations) are let through.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImageIndex {
    schema_version: u32,
    media_type: Option<String>,
    manifests: Vec<IndexEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexEntry {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(flatten)]
    other: serde_json::Map<String, serde_json::Value>,
}

/// As much of an image manifest as it takes to find its files; [`open`] reads it strictly.
#[derive(Deserialize)]
struct ImageManifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
}

const LAYOUT_VERSION: &str = "1.0.0";
const IMAGE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Room for about 30,000 packages.
const MAX_INDEX_BYTES: usize = 8 << 20;

/// A content store. Cheap to clone; several processes may use the same folder.
#[derive(Clone, Debug)]
pub struct PackageStore {
    folder: PathBuf,
}

impl PackageStore {
    /// Opens the store in `folder`, or makes an empty one there.
    ///
    /// # Errors
    /// [`RegisterError::Io`], or [`RegisterError::Malformed`] if the folder holds another version's layout.
    pub fn open(folder: &Path) -> Result<Self> {
        let store = Self {
            folder: folder.to_owned(),
        };
        create_folder(&store.blobs())?;
        let path = store.layout();
        match read_json::<Layout>(&path, MAX_DOCUMENT_BYTES)? {
            Some(layout) if layout.version == LAYOUT_VERSION => {}
            Some(layout) => {
                let reason = format!("imageLayoutVersion is {:?}, not 1.0.0", layout.version);
                return Err(malformed(&path, reason));
            }
            None => replace_json(
                &path,
                &Layout {
                    version: LAYOUT_VERSION.into(),
                },
            )?,
        }
        Ok(store)
    }

    /// Keeps a package and returns its digest. Keeping it again changes nothing.
    ///
    /// # Errors
    /// [`RegisterError::Package`] if its files are not those that its digests name, or [`RegisterError::Io`]; then
    /// it is not in the store.
    pub fn put(&self, package: &Package) -> Result<Sha256Digest> {
        let source = |source| RegisterError::Package {
            digest: sha256(&package.index),
            source,
        };
        let digest = open(package).map_err(source)?.digest;
        for bytes in [&package.code, &package.manifest, &package.index] {
            self.put_blob(bytes)?;
        }
        let size = package.index.len().try_into().unwrap_or(u64::MAX);
        self.add_to_index(digest, size)?;
        Ok(digest)
    }

    /// The package with this digest; every file's digest was checked.
    ///
    /// # Errors
    /// [`RegisterError::UnknownPackage`], [`RegisterError::Package`] or [`RegisterError::Malformed`] if files were
    /// altered, [`RegisterError::TooLarge`], [`RegisterError::Io`].
    pub fn get(&self, digest: Sha256Digest) -> Result<Package> {
        let path = self.blob(digest);
        let index =
            read(&path, MAX_DOCUMENT_BYTES)?.ok_or(RegisterError::UnknownPackage(digest))?;
        if sha256(&index) != digest {
            return Err(malformed(&path, "its digest does not match"));
        }
        let names: ImageManifest =
            serde_json::from_slice(&index).map_err(|error| malformed(&path, error))?;
        let [code] = names.layers.as_slice() else {
            return Err(malformed(&path, "not exactly one layer"));
        };
        let package = Package {
            manifest: self
                .named_blob(&path, &names.config, MAX_DOCUMENT_BYTES)?
                .into(),
            code: self.named_blob(&path, code, MAX_COMPONENT_BYTES)?.into(),
            index: index.into(),
        };
        open(&package).map_err(|source| RegisterError::Package { digest, source })?;
        Ok(package)
    }

    /// Digests of all packages, in the order in which they came. Entries that are not cryptlets are left out.
    ///
    /// # Errors
    /// [`RegisterError::Malformed`] or [`RegisterError::Io`].
    pub fn list(&self) -> Result<Vec<Sha256Digest>> {
        let path = self.index();
        self.read_index()?
            .manifests
            .iter()
            .filter(|entry| entry.artifact_type.as_deref() == Some(ARTIFACT_TYPE))
            .map(|entry| parse_digest(&path, &entry.digest))
            .collect()
    }

    fn put_blob(&self, bytes: &[u8]) -> Result<()> {
        let path = self.blob(sha256(bytes));
        // A blob that was damaged is put right by writing it again.
        match read(&path, bytes.len()) {
            Ok(Some(found)) if found == bytes => Ok(()),
            Ok(_) | Err(RegisterError::TooLarge { .. }) => replace(&path, bytes),
            Err(error) => Err(error),
        }
    }

    fn named_blob(&self, manifest: &Path, named: &Descriptor, limit: usize) -> Result<Vec<u8>> {
        let path = self.blob(parse_digest(manifest, &named.digest)?);
        read(&path, limit)?.ok_or_else(|| malformed(&path, "missing"))
    }

    /// Reads, extends and replaces the index under a lock that other processes respect.
    fn add_to_index(&self, digest: Sha256Digest, size: u64) -> Result<()> {
        let layout = self.layout();
        let lock = File::open(&layout).map_err(at(&layout))?;
        lock.lock().map_err(at(&layout))?;
        let mut index = self.read_index()?;
        let digest = oci_digest(digest);
        if index.manifests.iter().any(|entry| entry.digest == digest) {
            return Ok(());
        }
        index.manifests.push(IndexEntry {
            media_type: INDEX_MEDIA_TYPE.into(),
            digest,
            size,
            artifact_type: Some(ARTIFACT_TYPE.into()),
            other: serde_json::Map::new(),
        });
        replace_json(&self.index(), &index)
    }

    fn read_index(&self) -> Result<ImageIndex> {
        let path = self.index();
        let empty = || ImageIndex {
            schema_version: 2,
            media_type: Some(IMAGE_INDEX.into()),
            manifests: vec![],
        };
        let index = read_json(&path, MAX_INDEX_BYTES)?.unwrap_or_else(empty);
        if index.schema_version == 2 {
            Ok(index)
        } else {
            Err(malformed(&path, "schemaVersion is not 2"))
        }
    }

    fn layout(&self) -> PathBuf {
        self.folder.join("oci-layout")
    }

    fn index(&self) -> PathBuf {
        self.folder.join("index.json")
    }

    fn blobs(&self) -> PathBuf {
        self.folder.join("blobs").join("sha256")
    }

    fn blob(&self, digest: Sha256Digest) -> PathBuf {
        self.blobs().join(hex::encode(digest.0))
    }
}

/// Reads `sha256:` and 64 lower-case hexadecimal digits, nothing else: it becomes a file name.
fn parse_digest(path: &Path, text: &str) -> Result<Sha256Digest> {
    text.strip_prefix("sha256:")
        .and_then(|digits| digits.parse::<B256>().ok())
        .map(Sha256Digest)
        .filter(|digest| oci_digest(*digest) == text)
        .ok_or_else(|| malformed(path, format!("{text:?} is not sha256:<64 hex digits>")))
}
