//! A cryptlet's revealed source, as the register's digest says.

use crate::{DeveloperError, Session, publish::find};
use alloy_primitives::Bytes;
use cryptlet_api::types::CryptletRef;
use cryptlet_register::source::{SourceFile, unpack};
use cryptlet_seal::package;
use cryptlet_types::{CryptletId, Sha256Digest, register::VersionRecord};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Source that was fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FetchedSource {
    /// The cryptlet.
    pub cryptlet: CryptletId,
    /// Label of the version.
    pub label: String,
    /// Digest of the source's archive.
    pub digest: Sha256Digest,
    /// Where it was unpacked.
    pub folder: PathBuf,
    /// Its files, below the folder.
    pub files: Vec<String>,
    /// Somebody else than the host has said what the register says.
    pub witnessed: bool,
}

/// Fetches the source of the version in force and unpacks it into `folder`, which is empty or not there yet. The package's
/// digest is the register's, the source's digest is the package's.
///
/// # Errors
/// It is not revealed, the host hands out something else ([`DeveloperError::Untrue`]), [`DeveloperError::NoRpc`] if nobody
/// names a node of the register's chain; the archive or the folder cannot be used.
pub async fn fetch(
    session: &Session,
    cryptlet: &CryptletRef,
    folder: &Path,
) -> Result<FetchedSource, DeveloperError> {
    let register = session.register().await?;
    let known = find(&register, cryptlet).await?;
    let current = register.current(known.cryptlet).await?;
    let current = current.ok_or_else(|| DeveloperError::Revoked(known.name.clone()))?;
    let (bytes, digest) = checked(session, known.cryptlet, &current).await?;
    let files = unpack(&bytes, folder)
        .map_err(|error| DeveloperError::document(folder.display(), error))?;
    Ok(FetchedSource {
        cryptlet: known.cryptlet,
        label: current.label,
        digest,
        folder: folder.to_owned(),
        files: files
            .into_iter()
            .map(|SourceFile { path, .. }| path)
            .collect(),
        witnessed: session.witness().is_some_and(crate::Witness::confirms),
    })
}

/// The archive whose digest the package of the register's digest names.
async fn checked(
    session: &Session,
    cryptlet: CryptletId,
    version: &VersionRecord,
) -> Result<(Bytes, Sha256Digest), DeveloperError> {
    let untrue = |what: &str| DeveloperError::Untrue(what.to_owned());
    let (id, number) = (CryptletRef::from(cryptlet), Some(version.number));
    let index = session.client().package(&id, number).await?;
    let contents = package::contents(&index)?;
    if contents.digest != version.package {
        return Err(untrue(
            "the package has another digest than in the register",
        ));
    }
    let named = contents.source.ok_or_else(|| {
        DeveloperError::document(&version.label, "the source of this version is not revealed")
    })?;
    let source = session.client().source(&id, number).await?;
    if named.names(&source) {
        Ok((source, named.digest))
    } else {
        Err(untrue(
            "the source has another digest than its package names",
        ))
    }
}
