//! What a package has to be before a host takes it.

use cryptlet_check::{Code, check};
use cryptlet_header::Header;
use cryptlet_register::source;
use cryptlet_seal::package::{PackageFiles, open_files};
use cryptlet_types::{CryptletId, Manifest, Sha256Digest};

/// A package that a host may take.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) cryptlet: CryptletId,
    pub(crate) manifest: Manifest,
    pub(crate) header: Sha256Digest,
    pub(crate) manifest_digest: Sha256Digest,
    /// What policy may demand something of; nothing of code that is secret.
    pub(crate) code: Option<Code>,
}

/// Checks digests, header, code and source against each other and against the manifest.
///
/// # Errors
/// What has to be mended, for the publisher.
pub(crate) fn accept(files: &PackageFiles) -> Result<Accepted, String> {
    let opened = open_files(files).map_err(|error| error.to_string())?;
    let header = Header::from_json(&files.header).map_err(|error| error.to_string())?;
    let manifest = opened.manifest;
    agree("name", header.name(), &manifest.name)?;
    agree("version", header.label(), &manifest.version)?;
    agree(
        "publicKey",
        &header.public_key().to_string(),
        &manifest.public_key.to_string(),
    )?;
    let code = match manifest.config.secret_code {
        Some(_) => None,
        None => Some(checked(&files.package.code, &manifest)?),
    };
    if let Some(packed) = &files.source {
        source::inspect(packed).map_err(|error| error.to_string())?;
    }
    Ok(Accepted {
        cryptlet: header.cryptlet(),
        manifest,
        header: opened.header,
        manifest_digest: opened.manifest_digest,
        code,
    })
}

fn checked(code: &[u8], manifest: &Manifest) -> Result<Code, String> {
    let checked = check(code, &manifest.config);
    if let Some(finding) = checked.errors().next() {
        return Err(format!("{}: {}", finding.place, finding.message));
    }
    Ok(checked.into())
}

fn agree(field: &str, header: &str, manifest: &str) -> Result<(), String> {
    if header == manifest {
        return Ok(());
    }
    Err(format!(
        "{field}: the header says {header:?}, the manifest {manifest:?}"
    ))
}
