//! Packages by digest: an OCI image layout (image-spec 1.1) on disk.
//!
//! `oci-layout`, `index.json` and `blobs/sha256/HEX`, so that common tools can copy it to a registry and back.
//! Digests are checked when a package comes in and each time it is read. A packed source is inspected before it is
//! taken ([`source`]). The blobs together take up at most a quota.

use crate::{
    RegisterError, Result,
    file::{at, create_folder, json, malformed, read, read_json, replace, replace_json},
    source,
};
use alloy_primitives::{Bytes, hex};
use cryptlet_seal::{
    SealError,
    package::{
        ARTIFACT_TYPE, Blob, Contents, INDEX_MEDIA_TYPE, PackageFiles, contents, oci_digest, open,
        open_files, parse_oci_digest,
    },
    sha256,
};
use cryptlet_types::{Sha256Digest, bounded::MAX_DOCUMENT_BYTES, region::Package};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashSet,
    fs::{self, File},
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

impl IndexEntry {
    fn is_cryptlet(&self) -> bool {
        self.artifact_type.as_deref() == Some(ARTIFACT_TYPE)
    }
}

const LAYOUT_VERSION: &str = "1.0.0";
const IMAGE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Room for about 30,000 packages.
const MAX_INDEX_BYTES: usize = 8 << 20;

/// A content store. Cheap to clone; several processes may use the same folder.
#[derive(Clone, Debug)]
pub struct PackageStore {
    folder: PathBuf,
    quota: u64,
}

impl PackageStore {
    /// Opens the store in `folder`, or makes an empty one there. Its blobs take up at most `quota` bytes together.
    ///
    /// # Errors
    /// [`RegisterError::Io`], or [`RegisterError::Malformed`] if the folder holds another version's layout.
    pub fn open(folder: &Path, quota: u64) -> Result<Self> {
        let store = Self {
            folder: folder.to_owned(),
            quota,
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
    /// [`RegisterError::Package`] if its files are not those that its digests name, [`RegisterError::Source`] if
    /// what it holds as source is refused, [`RegisterError::StoreFull`] or [`RegisterError::Io`]; then it is not in
    /// the store.
    pub fn put(&self, files: &PackageFiles) -> Result<Sha256Digest> {
        let index = &files.package.index;
        let digest = open_files(files).map_err(package(sha256(index)))?.digest;
        if let Some(packed) = &files.source {
            source::inspect(packed)?;
        }
        let _lock = self.lock()?;
        let missing = self.missing(files)?;
        self.check_room(&missing)?;
        let listed = self.with_entry(digest, index.len().try_into().unwrap_or(u64::MAX))?;
        for (path, bytes) in missing {
            replace(&path, bytes)?;
        }
        if let Some(listed) = listed {
            replace(&self.index(), &listed)?;
        }
        Ok(digest)
    }

    /// Whether the package with this digest is here.
    #[must_use]
    pub fn has(&self, digest: Sha256Digest) -> bool {
        self.blob(digest).is_file()
    }

    /// What a region gets of the package with this digest; the digests were checked.
    ///
    /// # Errors
    /// [`RegisterError::UnknownPackage`], [`RegisterError::Package`] or [`RegisterError::Malformed`] if files were
    /// altered, [`RegisterError::TooLarge`], [`RegisterError::Io`].
    pub fn get(&self, digest: Sha256Digest) -> Result<Package> {
        let (index, contents) = self.contents(digest)?;
        let package = Package {
            manifest: self.named_blob("manifest", digest, &contents.manifest)?,
            code: self.named_blob("code", digest, &contents.code)?,
            index,
        };
        open(&package).map_err(self::package(digest))?;
        Ok(package)
    }

    /// The image manifest of the package with this digest.
    ///
    /// # Errors
    /// As [`PackageStore::get`].
    pub fn image_manifest(&self, digest: Sha256Digest) -> Result<Bytes> {
        Ok(self.contents(digest)?.0)
    }

    /// All files of the package with this digest; the digests were checked.
    ///
    /// # Errors
    /// As [`PackageStore::get`].
    pub fn files(&self, digest: Sha256Digest) -> Result<PackageFiles> {
        Ok(PackageFiles {
            package: self.get(digest)?,
            header: self.header(digest)?,
            source: self.source(digest)?,
        })
    }

    /// The header document of the package with this digest.
    ///
    /// # Errors
    /// As [`PackageStore::get`].
    pub fn header(&self, digest: Sha256Digest) -> Result<Bytes> {
        let (_, contents) = self.contents(digest)?;
        self.named_blob("header", digest, &contents.header)
    }

    /// The packed source of the package with this digest, if its publisher revealed it.
    ///
    /// # Errors
    /// As [`PackageStore::get`].
    pub fn source(&self, digest: Sha256Digest) -> Result<Option<Bytes>> {
        let (_, contents) = self.contents(digest)?;
        contents
            .source
            .map(|named| self.named_blob("source", digest, &named))
            .transpose()
    }

    /// Digests of all packages, in the order in which they came. Entries that are not cryptlets are left out.
    ///
    /// # Errors
    /// [`RegisterError::Malformed`] or [`RegisterError::Io`].
    pub fn list(&self) -> Result<Vec<Sha256Digest>> {
        let path = self.index();
        let digest = |entry: &IndexEntry| {
            let reason = || format!("{:?} is not sha256:<64 hex digits>", entry.digest);
            parse_oci_digest(&entry.digest).ok_or_else(|| malformed(&path, reason()))
        };
        let index = self.read_index()?;
        let cryptlets = index.manifests.iter().filter(|entry| entry.is_cryptlet());
        cryptlets.map(digest).collect()
    }

    /// Bytes that the blobs take up now.
    ///
    /// # Errors
    /// [`RegisterError::Io`].
    pub fn used(&self) -> Result<u64> {
        let blobs = self.blob_files()?;
        Ok(blobs.iter().map(|(_, size)| size).sum())
    }

    /// Removes blobs that no package names (what a killed writer left behind) and returns how many bytes that
    /// freed. While another tool's entries are in the index nothing is removed: what they name is not known.
    ///
    /// # Errors
    /// As [`PackageStore::get`]: while a package is damaged, nothing is removed either.
    pub fn sweep(&self) -> Result<u64> {
        let _lock = self.lock()?;
        if !self
            .read_index()?
            .manifests
            .iter()
            .all(IndexEntry::is_cryptlet)
        {
            return Ok(0);
        }
        let mut named = HashSet::new();
        for digest in self.list()? {
            let (_, contents) = self.contents(digest)?;
            let blobs = [contents.manifest, contents.code, contents.header];
            let digests = blobs
                .into_iter()
                .chain(contents.source)
                .map(|blob| blob.digest);
            named.extend(digests.chain([digest]).map(|digest| self.blob(digest)));
        }
        let mut freed = 0;
        for (path, size) in self.blob_files()? {
            if !named.contains(&path) {
                fs::remove_file(&path).map_err(at(&path))?;
                freed += size;
            }
        }
        Ok(freed)
    }

    /// The files of a package that are not in place yet. A blob that was damaged is put right by writing it again.
    fn missing<'f>(&self, files: &'f PackageFiles) -> Result<Vec<(PathBuf, &'f Bytes)>> {
        let package = &files.package;
        let blobs = [&package.code, &package.manifest, &files.header];
        let mut missing = vec![];
        for bytes in blobs
            .into_iter()
            .chain(&files.source)
            .chain([&package.index])
        {
            let path = self.blob(sha256(bytes));
            match read(&path, bytes.len()) {
                Ok(Some(found)) if found == *bytes => {}
                Ok(_) | Err(RegisterError::TooLarge { .. }) => missing.push((path, bytes)),
                Err(error) => return Err(error),
            }
        }
        Ok(missing)
    }

    fn check_room(&self, missing: &[(PathBuf, &Bytes)]) -> Result<()> {
        let sizes = missing.iter().map(|(_, bytes)| bytes.len());
        let needed = u64::try_from(sizes.sum::<usize>()).unwrap_or(u64::MAX);
        let used = self.used()?;
        if needed > 0 && used.saturating_add(needed) > self.quota {
            let quota = self.quota;
            return Err(RegisterError::StoreFull {
                needed,
                used,
                quota,
            });
        }
        Ok(())
    }

    /// The image manifest with this digest, and what it names.
    fn contents(&self, digest: Sha256Digest) -> Result<(Bytes, Contents)> {
        let path = self.blob(digest);
        let index =
            read(&path, MAX_DOCUMENT_BYTES)?.ok_or(RegisterError::UnknownPackage(digest))?;
        if sha256(&index) != digest {
            return Err(malformed(&path, "its digest does not match"));
        }
        let contents = contents(&index).map_err(package(digest))?;
        Ok((index.into(), contents))
    }

    fn named_blob(&self, what: &'static str, digest: Sha256Digest, named: &Blob) -> Result<Bytes> {
        let path = self.blob(named.digest);
        let limit = usize::try_from(named.size).unwrap_or(usize::MAX);
        let bytes = read(&path, limit)?.ok_or_else(|| malformed(&path, "missing"))?;
        if named.names(&bytes) {
            Ok(bytes.into())
        } else {
            Err(package(digest)(SealError::Digest { what }))
        }
    }

    /// Held while files are added or removed; other processes respect it. The folder itself is locked: files in it
    /// are replaced, and a lock on a file that was replaced keeps nobody out.
    fn lock(&self) -> Result<File> {
        let lock = File::open(&self.folder).map_err(at(&self.folder))?;
        lock.lock().map_err(at(&self.folder))?;
        Ok(lock)
    }

    /// The bytes of `index.json` with a further package; none if it lists that one already. What could not be read back
    /// is not written.
    fn with_entry(&self, digest: Sha256Digest, size: u64) -> Result<Option<Vec<u8>>> {
        let mut index = self.read_index()?;
        let digest = oci_digest(digest);
        if index.manifests.iter().any(|entry| entry.digest == digest) {
            return Ok(None);
        }
        index.manifests.push(IndexEntry {
            media_type: INDEX_MEDIA_TYPE.into(),
            digest,
            size,
            artifact_type: Some(ARTIFACT_TYPE.into()),
            other: serde_json::Map::new(),
        });
        let listed = json(&self.index(), &index)?;
        if listed.len() > MAX_INDEX_BYTES {
            let packages = index.manifests.len().saturating_sub(1);
            return Err(RegisterError::TooManyPackages { packages });
        }
        Ok(Some(listed))
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

    /// All files among the blobs, with their sizes in bytes.
    fn blob_files(&self) -> Result<Vec<(PathBuf, u64)>> {
        let folder = self.blobs();
        let mut files = vec![];
        for entry in fs::read_dir(&folder).map_err(at(&folder))? {
            let entry = entry.map_err(at(&folder))?;
            let path = entry.path();
            let size = entry.metadata().map_err(at(&path))?.len();
            files.push((path, size));
        }
        Ok(files)
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

fn package(digest: Sha256Digest) -> impl FnOnce(SealError) -> RegisterError {
    move |source| RegisterError::Package { digest, source }
}
