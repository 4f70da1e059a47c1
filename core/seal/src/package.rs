//! A package: an OCI artifact whose image manifest binds its files by digest (OCI image-spec 1.1).
//!
//! The package digest is the SHA-256 of the image manifest's bytes. Its config is the cryptlet's manifest
//! (`application/vnd.bletchley.cryptlet.manifest.v1+json`). Its layers are, in this order:
//!
//! 1. the code, `application/wasm`, or encrypted, `application/vnd.bletchley.cryptlet.code.v1+encrypted`, where it is
//!    [secret](crate::secret_code)
//! 2. the header for contract developers, `application/vnd.bletchley.cryptlet.header.v1+json`
//! 3. the source, if its publisher reveals it, which nobody does whose code is secret, `application/vnd.bletchley.cryptlet.source.v1.tar+gzip`
//!
//! A region gets image manifest, manifest and code ([`Package`]); header and source are for people, and a region
//! knows them by their digests only. A content store keeps all files ([`PackageFiles`]).

use crate::{SealError, sha256};
use alloy_primitives::{B256, Bytes};
use cryptlet_types::{
    Manifest, Sha256Digest,
    bounded::{MAX_COMPONENT_BYTES, MAX_DOCUMENT_BYTES},
    manifest::DocumentError,
    region::Package,
};
use serde::{Deserialize, Serialize};

/// Media type of an OCI image manifest.
pub const INDEX_MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Artifact type of a cryptlet.
pub const ARTIFACT_TYPE: &str = "application/vnd.bletchley.cryptlet.v1";
/// Media type of a cryptlet's manifest.
pub const MANIFEST_MEDIA_TYPE: &str = "application/vnd.bletchley.cryptlet.manifest.v1+json";
/// Media type of the code layer.
pub const CODE_MEDIA_TYPE: &str = "application/wasm";
/// Media type of the code layer where the code is secret.
pub const SECRET_CODE_MEDIA_TYPE: &str = "application/vnd.bletchley.cryptlet.code.v1+encrypted";
/// Media type of the header layer.
pub const HEADER_MEDIA_TYPE: &str = "application/vnd.bletchley.cryptlet.header.v1+json";
/// Media type of the source layer.
pub const SOURCE_MEDIA_TYPE: &str = "application/vnd.bletchley.cryptlet.source.v1.tar+gzip";
/// Largest source layer, in bytes: 16 MiB.
pub const MAX_SOURCE_BYTES: usize = 16 << 20;

/// The OCI image manifest of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Index {
    schema_version: u32,
    media_type: String,
    artifact_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// An OCI content descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
}

impl Descriptor {
    fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.into(),
            digest: oci_digest(sha256(bytes)),
            size: length(bytes),
        }
    }

    /// Where the blob is found, if it may be a `media_type` of at most `limit` bytes.
    fn blob(&self, what: &str, media_type: &str, limit: usize) -> Result<Blob, SealError> {
        let refuse = |reason: String| {
            DocumentError::Malformed(format!("image manifest: {what}: {reason}")).into()
        };
        if self.media_type != media_type {
            return Err(refuse(format!("media type is not {media_type}")));
        }
        if self.size > u64::try_from(limit).unwrap_or(u64::MAX) {
            return Err(refuse(format!("at most {limit} bytes")));
        }
        let digest = parse_oci_digest(&self.digest)
            .ok_or_else(|| refuse("digest is not sha256:<64 hex digits>".into()))?;
        Ok(Blob {
            digest,
            size: self.size,
        })
    }
}

/// A digest as OCI writes it: `sha256:` and 64 hexadecimal digits.
#[must_use]
pub fn oci_digest(digest: Sha256Digest) -> String {
    format!("sha256:{}", alloy_primitives::hex::encode(digest.0))
}

/// Reads what [`oci_digest`] writes: lower-case digits and nothing else, for it becomes a file name.
#[must_use]
pub fn parse_oci_digest(text: &str) -> Option<Sha256Digest> {
    let digits = text.strip_prefix("sha256:")?;
    let digest = Sha256Digest(digits.parse::<B256>().ok()?);
    (oci_digest(digest) == text).then_some(digest)
}

/// All files of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageFiles {
    /// What a region gets.
    pub package: Package,
    /// The header document (JSON).
    pub header: Bytes,
    /// The source, packed (`tar.gz`), if it was revealed.
    pub source: Option<Bytes>,
}

/// A file of a package, by what its image manifest says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// SHA-256 of its bytes.
    pub digest: Sha256Digest,
    /// How many bytes it has.
    pub size: u64,
}

impl Blob {
    /// Whether it is exactly the blob of `bytes`.
    #[must_use]
    pub fn names(&self, bytes: &[u8]) -> bool {
        self.size == length(bytes) && self.digest == sha256(bytes)
    }
}

/// What an image manifest names: everything it takes to fetch a package within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// SHA-256 of the image manifest.
    pub digest: Sha256Digest,
    /// The cryptlet's manifest, at most [`MAX_DOCUMENT_BYTES`].
    pub manifest: Blob,
    /// The component, at most [`MAX_COMPONENT_BYTES`].
    pub code: Blob,
    /// Whether the component is encrypted.
    pub secret: bool,
    /// The header document, at most [`MAX_DOCUMENT_BYTES`].
    pub header: Blob,
    /// The source, at most [`MAX_SOURCE_BYTES`].
    pub source: Option<Blob>,
}

/// Reads an image manifest strictly: a cryptlet's, with these layers in this order, none larger than it may be.
///
/// # Errors
/// [`SealError::Document`] says what it is not.
pub fn contents(index: &[u8]) -> Result<Contents, SealError> {
    if index.len() > MAX_DOCUMENT_BYTES {
        return Err(DocumentError::TooLarge(index.len()).into());
    }
    let malformed = |reason: String| DocumentError::Malformed(format!("image manifest: {reason}"));
    let parsed: Index =
        serde_json::from_slice(index).map_err(|error| malformed(error.to_string()))?;
    if parsed.schema_version != 2
        || parsed.media_type != INDEX_MEDIA_TYPE
        || parsed.artifact_type != ARTIFACT_TYPE
    {
        return Err(malformed("not a cryptlet's".into()).into());
    }
    let (code, header, source) = match parsed.layers.as_slice() {
        [code, header] => (code, header, None),
        [code, header, source] => (code, header, Some(source)),
        _ => return Err(malformed("layers are not code, header and at most source".into()).into()),
    };
    let secret = code.media_type == SECRET_CODE_MEDIA_TYPE;
    if secret && source.is_some() {
        return Err(malformed("source of secret code is not revealed".into()).into());
    }
    Ok(Contents {
        digest: sha256(index),
        manifest: parsed
            .config
            .blob("manifest", MANIFEST_MEDIA_TYPE, MAX_DOCUMENT_BYTES)?,
        code: code.blob("code", code_media_type(secret), MAX_COMPONENT_BYTES)?,
        secret,
        header: header.blob("header", HEADER_MEDIA_TYPE, MAX_DOCUMENT_BYTES)?,
        source: source
            .map(|source| source.blob("source", SOURCE_MEDIA_TYPE, MAX_SOURCE_BYTES))
            .transpose()?,
    })
}

fn code_media_type(secret: bool) -> &'static str {
    if secret {
        SECRET_CODE_MEDIA_TYPE
    } else {
        CODE_MEDIA_TYPE
    }
}

/// A package whose files are those that its digests name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenPackage {
    /// SHA-256 of the image manifest.
    pub digest: Sha256Digest,
    /// The cryptlet's manifest.
    pub manifest: Manifest,
    /// SHA-256 of the manifest's bytes.
    pub manifest_digest: Sha256Digest,
    /// SHA-256 of the header document.
    pub header: Sha256Digest,
    /// SHA-256 of the source, if it was revealed.
    pub source: Option<Sha256Digest>,
}

/// Checks what a region gets against its digests and reads the manifest.
///
/// # Errors
/// Says which file is not the one that the image manifest names, or what is wrong with a document.
pub fn open(package: &Package) -> Result<OpenPackage, SealError> {
    let contents = contents(&package.index)?;
    if !contents.manifest.names(&package.manifest) {
        return Err(SealError::Digest { what: "manifest" });
    }
    if !contents.code.names(&package.code) {
        return Err(SealError::Digest { what: "code" });
    }
    let manifest = Manifest::from_json(&package.manifest)?;
    if manifest.config.secret_code.is_some() != contents.secret {
        let reason = "config.secretCode: the image manifest says otherwise of the code";
        return Err(DocumentError::Malformed(reason.into()).into());
    }
    Ok(OpenPackage {
        digest: contents.digest,
        manifest,
        manifest_digest: contents.manifest.digest,
        header: contents.header.digest,
        source: contents.source.map(|source| source.digest),
    })
}

/// Checks all files of a package against its digests and reads the manifest. What header and source hold is not
/// looked at.
///
/// # Errors
/// As [`open`]; a source that the image manifest does not name, or the lack of one that it names, is one that is
/// not the one it names.
pub fn open_files(files: &PackageFiles) -> Result<OpenPackage, SealError> {
    let opened = open(&files.package)?;
    let contents = contents(&files.package.index)?;
    if !contents.header.names(&files.header) {
        return Err(SealError::Digest { what: "header" });
    }
    let named = match (&contents.source, &files.source) {
        (None, None) => true,
        (Some(named), Some(source)) => named.names(source),
        _ => false,
    };
    if named {
        Ok(opened)
    } else {
        Err(SealError::Digest { what: "source" })
    }
}

/// Packs a manifest, a component, a header document and, if it is to be revealed, the packed source. The same input
/// gives the same bytes. Where the manifest says that the code is secret, `code` is
/// [encrypted](crate::CodeKey::encrypt).
///
/// # Errors
/// [`SealError::Document`] for a file that is larger than it may be, and for source of secret code.
pub fn build(
    manifest: &Manifest,
    code: &[u8],
    header: &[u8],
    source: Option<&[u8]>,
) -> Result<PackageFiles, SealError> {
    let code_type = code_media_type(manifest.config.secret_code.is_some());
    let manifest = manifest.to_json()?;
    let mut layers = vec![
        Descriptor::of(code_type, code),
        Descriptor::of(HEADER_MEDIA_TYPE, header),
    ];
    layers.extend(source.map(|source| Descriptor::of(SOURCE_MEDIA_TYPE, source)));
    let index = Index {
        schema_version: 2,
        media_type: INDEX_MEDIA_TYPE.into(),
        artifact_type: ARTIFACT_TYPE.into(),
        config: Descriptor::of(MANIFEST_MEDIA_TYPE, &manifest),
        layers,
    };
    let index =
        serde_json::to_vec(&index).map_err(|error| DocumentError::Malformed(error.to_string()))?;
    contents(&index)?;
    Ok(PackageFiles {
        package: Package {
            index: index.into(),
            manifest: manifest.into(),
            code: code.to_vec().into(),
        },
        header: header.to_vec().into(),
        source: source.map(|source| source.to_vec().into()),
    })
}

fn length(bytes: &[u8]) -> u64 {
    bytes.len().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Address;
    use cryptlet_types::manifest::ManifestConfig;
    use serde_json::{Value, json};

    fn manifest() -> Manifest {
        Manifest {
            name: "m".into(),
            public_key: Address::repeat_byte(1),
            version: "1".into(),
            config: ManifestConfig::default(),
        }
    }

    fn files(source: Option<&[u8]>) -> PackageFiles {
        build(&manifest(), b"code", b"header", source).unwrap()
    }

    #[test]
    fn a_package_opens_to_what_was_packed() {
        for source in [None, Some(b"source".as_slice())] {
            let files = files(source);
            let opened = open_files(&files).unwrap();
            assert_eq!(opened, open(&files.package).unwrap());
            assert_eq!(opened.digest, sha256(&files.package.index));
            assert_eq!(opened.manifest, manifest());
            assert_eq!(opened.manifest_digest, sha256(&files.package.manifest));
            assert_eq!(opened.header, sha256(b"header"));
            assert_eq!(opened.source, source.map(sha256));
        }
    }

    #[test]
    fn swapped_files_are_named() {
        let package = || files(Some(b"source")).package;
        let code = Package {
            code: Bytes::from_static(b"evil"),
            ..package()
        };
        assert_eq!(open(&code), Err(SealError::Digest { what: "code" }));
        let manifest = Package {
            manifest: Bytes::from_static(b"{}"),
            ..package()
        };
        assert_eq!(open(&manifest), Err(SealError::Digest { what: "manifest" }));
        let swapped = [
            (b"evil".as_slice(), Some(b"source".as_slice()), "header"),
            (b"header", Some(b"evil"), "source"),
            (b"header", None, "source"),
        ];
        for (header, source, what) in swapped {
            let altered = PackageFiles {
                package: package(),
                header: header.to_vec().into(),
                source: source.map(|source| source.to_vec().into()),
            };
            assert_eq!(open_files(&altered), Err(SealError::Digest { what }));
        }
        let added = PackageFiles {
            source: Some(Bytes::from_static(b"source")),
            ..files(None)
        };
        assert_eq!(
            open_files(&added),
            Err(SealError::Digest { what: "source" })
        );
    }

    /// An image manifest with one thing changed.
    fn altered(alter: impl FnOnce(&mut Value)) -> String {
        let index = files(Some(b"source")).package.index;
        let mut value: Value = serde_json::from_slice(&index).unwrap();
        alter(&mut value);
        contents(&serde_json::to_vec(&value).unwrap())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn image_manifests_that_are_no_cryptlets_are_refused() {
        let layers = "layers are not code, header and at most source";
        type Alter = Box<dyn FnOnce(&mut Value)>;
        let cases: [(&str, Alter); 11] = [
            (
                "not a cryptlet's",
                Box::new(|v| v["schemaVersion"] = json!(1)),
            ),
            (
                "not a cryptlet's",
                Box::new(|v| v["artifactType"] = json!("x")),
            ),
            ("unknown field", Box::new(|v| v["annotations"] = json!({}))),
            (
                "unknown field",
                Box::new(|v| v["layers"][0]["urls"] = json!([])),
            ),
            (layers, Box::new(|v| v["layers"] = json!([v["layers"][0]]))),
            (
                layers,
                Box::new(|v| {
                    v["layers"] = json!([
                        v["layers"][0],
                        v["layers"][1],
                        v["layers"][2],
                        v["layers"][2]
                    ])
                }),
            ),
            (
                "code: media type",
                Box::new(|v| v["layers"].as_array_mut().unwrap().swap(0, 1)),
            ),
            (
                "source: media type",
                Box::new(|v| v["layers"][2]["mediaType"] = json!("application/wasm")),
            ),
            (
                "header: at most 1048576 bytes",
                Box::new(|v| v["layers"][1]["size"] = json!((1 << 20) + 1)),
            ),
            (
                "source: at most 16777216 bytes",
                Box::new(|v| v["layers"][2]["size"] = json!(u64::MAX)),
            ),
            (
                "manifest: digest",
                Box::new(|v| v["config"]["digest"] = json!("sha256:../../etc/passwd")),
            ),
        ];
        for (words, alter) in cases {
            let error = altered(alter);
            assert!(error.contains(words), "{error} does not say {words}");
        }
        assert!(matches!(
            contents(&vec![b' '; MAX_DOCUMENT_BYTES + 1]),
            Err(SealError::Document(DocumentError::TooLarge(_)))
        ));
    }

    #[test]
    fn what_is_too_large_is_not_packed() {
        let header = vec![b' '; MAX_DOCUMENT_BYTES + 1];
        let error = build(&manifest(), b"code", &header, None).unwrap_err();
        assert!(error.to_string().contains("header: at most"), "{error}");
        let source = vec![0; MAX_SOURCE_BYTES + 1];
        let error = build(&manifest(), b"code", b"", Some(&source)).unwrap_err();
        assert!(error.to_string().contains("source: at most"), "{error}");
    }

    #[test]
    fn manifest_and_image_manifest_agree_on_whether_the_code_is_secret() {
        let counterparties = vec![Address::repeat_byte(7)];
        let mut secret = manifest();
        secret.config.secret_code = Some(cryptlet_types::SecretCode { counterparties });
        let files = build(&secret, b"encrypted", b"header", None).unwrap();
        assert!(contents(&files.package.index).unwrap().secret);
        assert_eq!(open_files(&files).unwrap().manifest, secret);
        let revealed = build(&secret, b"encrypted", b"header", Some(b"source"));
        let told = revealed.unwrap_err().to_string();
        assert!(told.contains("source of secret code"), "{told}");
        // The manifest of one, with what the image manifest of the other says of the code.
        for (said, named) in [(&secret, &manifest()), (&manifest(), &secret)] {
            let said = said.to_json().unwrap();
            let mut index: Value = serde_json::from_slice(
                &build(named, b"encrypted", b"header", None)
                    .unwrap()
                    .package
                    .index,
            )
            .unwrap();
            index["config"] = json!(Descriptor::of(MANIFEST_MEDIA_TYPE, &said));
            let package = Package {
                index: serde_json::to_vec(&index).unwrap().into(),
                manifest: said.into(),
                code: Bytes::from_static(b"encrypted"),
            };
            let told = open(&package).unwrap_err().to_string();
            assert!(told.contains("config.secretCode"), "{told}");
        }
    }

    #[test]
    fn digests_have_one_form() {
        let digest = sha256(b"a");
        let text = oci_digest(digest);
        assert_eq!(parse_oci_digest(&text), Some(digest));
        for other in [
            text.to_uppercase(),
            text.replace("sha256:", "sha256:0x"),
            text.replace("sha256:", ""),
            format!("{text} "),
            text.replace("sha256:", "sha512:"),
        ] {
            assert_eq!(parse_oci_digest(&other), None, "{other}");
        }
    }
}
