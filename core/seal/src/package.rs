//! A package: an OCI artifact whose image manifest binds its files by digest (OCI image-spec 1.1).
//!
//! The package digest is the SHA-256 of the image manifest's bytes. Its config is the cryptlet's manifest
//! (`application/vnd.bletchley.cryptlet.manifest.v1+json`), its one layer the code (`application/wasm`).

use crate::{SealError, sha256};
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
        let size = bytes.len().try_into().unwrap_or(u64::MAX);
        Self {
            media_type: media_type.into(),
            digest: oci_digest(sha256(bytes)),
            size,
        }
    }

    /// Whether this descriptor is exactly the one of `bytes`.
    fn names(&self, media_type: &str, bytes: &[u8]) -> bool {
        *self == Self::of(media_type, bytes)
    }
}

/// A digest as OCI writes it: `sha256:` and 64 hexadecimal digits.
#[must_use]
pub fn oci_digest(digest: Sha256Digest) -> String {
    format!("sha256:{}", alloy_primitives::hex::encode(digest.0))
}

/// A package whose files are those that its digests name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenPackage {
    /// SHA-256 of the image manifest.
    pub digest: Sha256Digest,
    /// The cryptlet's manifest.
    pub manifest: Manifest,
}

/// Checks a package's files against its digests and reads the manifest.
///
/// # Errors
/// Says which file is not the one that the image manifest names, or what is wrong with a document.
pub fn open(package: &Package) -> Result<OpenPackage, SealError> {
    let too_large = |size: usize| SealError::Document(DocumentError::TooLarge(size));
    if package.index.len() > MAX_DOCUMENT_BYTES {
        return Err(too_large(package.index.len()));
    }
    if package.code.len() > MAX_COMPONENT_BYTES {
        return Err(too_large(package.code.len()));
    }
    let index: Index = serde_json::from_slice(&package.index)
        .map_err(|error| DocumentError::Malformed(format!("image manifest: {error}")))?;
    if index.schema_version != 2
        || index.media_type != INDEX_MEDIA_TYPE
        || index.artifact_type != ARTIFACT_TYPE
    {
        return Err(DocumentError::Malformed("image manifest: not a cryptlet's".into()).into());
    }
    if !index.config.names(MANIFEST_MEDIA_TYPE, &package.manifest) {
        return Err(SealError::Digest { what: "manifest" });
    }
    match index.layers.as_slice() {
        [code] if code.names(CODE_MEDIA_TYPE, &package.code) => {}
        _ => return Err(SealError::Digest { what: "code" }),
    }
    let manifest = Manifest::from_json(&package.manifest)?;
    Ok(OpenPackage {
        digest: sha256(&package.index),
        manifest,
    })
}

/// Packs a manifest and a component. The same input gives the same bytes.
///
/// # Errors
/// None in practice: every manifest has a JSON form.
pub fn build(manifest: &Manifest, code: &[u8]) -> Result<Package, SealError> {
    let manifest = manifest.to_json()?;
    let index = Index {
        schema_version: 2,
        media_type: INDEX_MEDIA_TYPE.into(),
        artifact_type: ARTIFACT_TYPE.into(),
        config: Descriptor::of(MANIFEST_MEDIA_TYPE, &manifest),
        layers: vec![Descriptor::of(CODE_MEDIA_TYPE, code)],
    };
    let index =
        serde_json::to_vec(&index).map_err(|error| DocumentError::Malformed(error.to_string()))?;
    Ok(Package {
        index: index.into(),
        manifest: manifest.into(),
        code: code.to_vec().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, Bytes};
    use cryptlet_types::{Limits, manifest::ManifestConfig};

    fn package() -> Package {
        let config = ManifestConfig {
            description: "d".into(),
            isolation: true,
            limits: Limits::default(),
            egress: vec![],
            settings: Default::default(),
        };
        let public_key = Address::repeat_byte(1);
        build(
            &Manifest {
                name: "m".into(),
                public_key,
                version: "1".into(),
                config,
            },
            b"code",
        )
        .unwrap()
    }

    #[test]
    fn a_package_opens_to_what_was_packed() {
        let package = package();
        let opened = open(&package).unwrap();
        assert_eq!(opened.digest, sha256(&package.index));
        assert_eq!(opened.manifest.name, "m");
    }

    #[test]
    fn swapped_files_are_named() {
        let code = Package {
            code: Bytes::from_static(b"evil"),
            ..package()
        };
        assert_eq!(open(&code), Err(SealError::Digest { what: "code" }));
        let text = String::from_utf8(package().manifest.to_vec())
            .unwrap()
            .replace("\"m\"", "\"n\"");
        let manifest = Package {
            manifest: text.into_bytes().into(),
            ..package()
        };
        assert_eq!(open(&manifest), Err(SealError::Digest { what: "manifest" }));
        let index = Package {
            index: Bytes::from_static(b"{}"),
            ..package()
        };
        assert!(matches!(open(&index), Err(SealError::Document(_))));
    }
}
