//! Secret code: its keys, which lie in the author's project and go to hosts, and the counterparties' agreements to it.

use crate::{DeveloperError, Session, Wallet, files, publish::find};
use alloy_primitives::hex;
use cryptlet_api::types::{CryptletRef, HexBytes, NewCodeAgreement, NewCodeKey, SecretCodeInfo};
use cryptlet_seal::{CodeKey, sha256};
use cryptlet_types::{CodeAgreement, Sha256Digest};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Bytes of a file with a key: 64 hex digits and a line end, or a little more around them.
const MAX_KEY_FILE_BYTES: usize = 80;

/// The key of a component in an author's folder, each component's in a file of its own: the one that is there, or a new one. Who
/// has it can read the component.
///
/// # Errors
/// The file is none of a key, others may read it, or it cannot be written.
pub fn key_of(folder: &Path, component: &[u8]) -> Result<(PathBuf, CodeKey), DeveloperError> {
    let path = folder.join(format!("{:x}.key", sha256(component).0));
    if path.symlink_metadata().is_err() {
        let key = CodeKey::generate()?;
        let digits = Zeroizing::new(hex::encode(key.bytes()));
        let text = Zeroizing::new(format!("{}\n", *digits));
        files::create_private(&path, text.as_bytes())?;
        return Ok((path, key));
    }
    let key = read_key(&path)?;
    Ok((path, key))
}

/// Reads a file with a key.
///
/// # Errors
/// There is none, it is none of a key, or others may read it.
pub fn read_key(path: &Path) -> Result<CodeKey, DeveloperError> {
    let wrong = |reason: String| DeveloperError::document(path.display(), reason);
    let mode = fs::metadata(path)
        .map_err(files::at(path))?
        .permissions()
        .mode()
        & 0o777;
    if mode & 0o077 != 0 {
        let reason = format!("has mode {mode:03o}: others may read it; chmod 600 it");
        return Err(wrong(reason));
    }
    let bytes = files::read(path, MAX_KEY_FILE_BYTES)?.map(Zeroizing::new);
    let none =
        || wrong("not the 64 hex digits of a key: name a file that cryptlet publish left".into());
    let bytes = bytes.ok_or_else(none)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| none())?;
    let key = Zeroizing::new(hex::decode(text.trim()).map_err(|_| none())?);
    CodeKey::from_bytes(&key).map_err(|_| none())
}

/// The package of a version, by the register's word: of the current one where no label is given.
///
/// # Errors
/// There is no such cryptlet or version, or none that is not revoked.
pub async fn package_of(
    session: &Session,
    cryptlet: &CryptletRef,
    label: Option<&str>,
) -> Result<Sha256Digest, DeveloperError> {
    let register = session.register().await?;
    let known = find(&register, cryptlet).await?;
    let versions = register.versions(known.cryptlet).await?;
    let wanted = match label {
        Some(label) => versions.iter().find(|version| version.label == label),
        None => versions.iter().rev().find(|version| !version.revoked),
    };
    let named = label.map_or_else(
        || cryptlet.to_string(),
        |label| format!("{cryptlet} {label}"),
    );
    let found = wanted.ok_or_else(|| DeveloperError::Unknown(named))?;
    Ok(found.package)
}

/// What the host has of a package's secret code.
///
/// # Errors
/// The host has no such package, or its code is not secret.
pub async fn show(
    session: &Session,
    package: Sha256Digest,
) -> Result<SecretCodeInfo, DeveloperError> {
    Ok(session.client().secret_code(package.into()).await?)
}

/// Hands the key of a package's secret code to the host.
///
/// # Errors
/// The host has no such package, or another key of it.
pub async fn give_key(
    session: &Session,
    package: Sha256Digest,
    key: &CodeKey,
) -> Result<SecretCodeInfo, DeveloperError> {
    let new = NewCodeKey {
        key: alloy_primitives::B256::from(*key.bytes()).into(),
    };
    Ok(session.client().set_code_key(package.into(), &new).await?)
}

/// Signs that `component` is the secret code of a package, and hands that to the host.
///
/// # Errors
/// The host has no such package, or the wallet's account is none of its counterparties.
pub async fn agree(
    session: &Session,
    wallet: &Wallet,
    package: Sha256Digest,
    component: &[u8],
) -> Result<SecretCodeInfo, DeveloperError> {
    let code = sha256(component);
    let signature = wallet.sign(CodeAgreement { package, code }.digest())?;
    let new = NewCodeAgreement {
        code: code.into(),
        signature: HexBytes(signature),
    };
    let client = session.client();
    Ok(client.add_code_agreement(package.into(), &new).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_component_has_a_key_of_its_own_that_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("secret-code");
        let (path, key) = key_of(&keys, b"one").unwrap();
        let (again, same) = key_of(&keys, b"one").unwrap();
        assert_eq!((&again, &same), (&path, &key));
        let (other, another) = key_of(&keys, b"two").unwrap();
        assert!(other != path && another != key);
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }

    #[test]
    fn a_file_that_others_may_read_or_that_is_no_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = key_of(folder.path(), b"one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let told = read_key(&path).unwrap_err().to_string();
        assert!(told.contains("chmod 600"), "{told}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for text in ["", "00", &"g".repeat(64), &"0".repeat(66), &"0".repeat(200)] {
            fs::write(&path, text).unwrap();
            assert!(read_key(&path).is_err(), "{text}");
        }
        assert!(read_key(&folder.path().join("none")).is_err());
    }
}
