//! Rotating a key: the same code under a new version with a new key. The cryptlet's id stays.

use super::{Parts, PublishOptions, Published, Step, Target, find, publish};
use crate::{DeveloperError, Session, Wallet};
use alloy_primitives::Address;
use cryptlet_api::types::{CryptletRef, Name};
use cryptlet_chain::evm::abi::CryptletRegister as abi;
use cryptlet_seal::package;
use cryptlet_types::register::VersionRecord;
use serde::Serialize;

/// What the label of a rotated version ends with, before a number.
const MARK: &str = "+key.";

/// A key that was rotated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotated {
    /// The new version.
    pub published: Published,
    /// Signers of the version before that were revoked.
    pub revoked: Vec<Address>,
}

/// Publishes the code of the current version again, under a new key and the next label `…+key.N`, and revokes the old
/// version's signers afterwards unless `keep`. `parts` are the project's; they must be what the current version was
/// made of, or the key would change together with the code.
///
/// Interrupted, it goes on when it is run again.
///
/// # Errors
/// [`DeveloperError::VersionExists`] if `parts` are not the current version's; as [`publish`].
pub async fn rotate(
    session: &Session,
    wallet: &Wallet,
    parts: &Parts,
    keep: bool,
    options: &PublishOptions,
    tell: &(dyn Fn(Step) + Sync),
) -> Result<Rotated, DeveloperError> {
    let register = session.register().await?;
    let name: Name = parts
        .manifest
        .name
        .parse()
        .map_err(|error| DeveloperError::document("name", error))?;
    let name = CryptletRef::from(name);
    let known = find(&register, &name).await?;
    let detail = session.client().cryptlet(&known.cryptlet.into()).await?;
    let versions = register.versions(known.cryptlet).await?;
    let mut newest = versions.iter().rev().filter(|version| !version.revoked);
    let Some(current) = newest.next() else {
        return Err(DeveloperError::Revoked(known.name));
    };
    let signers = |number: u32| {
        let all = detail
            .signers
            .iter()
            .filter(move |signer| signer.version == number);
        all.map(|signer| Address::from(signer.signer))
    };
    // Interrupted between the new version and the old one's revocation: the version before is the one to end.
    let resumed = newest
        .next()
        .filter(|before| !keep && is_rotation(before, current))
        .filter(|before| {
            detail
                .signers
                .iter()
                .any(|known| known.version == before.number && !known.revoked)
        });
    let (old, label) = match resumed {
        Some(before) => (before, current.label.clone()),
        None => (current, next_label(&current.label, &versions)),
    };
    let same = |signer| -> Result<bool, DeveloperError> {
        let files = parts
            .clone()
            .labelled(old.label.as_str())
            .pack(known.cryptlet, signer)?;
        Ok(package::open_files(&files)?.digest == old.package)
    };
    let mut unchanged = false;
    for signer in signers(old.number) {
        unchanged |= same(signer)?;
    }
    if !unchanged {
        return Err(DeveloperError::VersionExists {
            name: known.name,
            label: old.label.clone(),
            number: old.number,
        });
    }
    let options = PublishOptions {
        further: true,
        ..options.clone()
    };
    let published = publish(
        session,
        wallet,
        &parts.clone().labelled(label),
        &options,
        tell,
    )
    .await?;
    let target = Target {
        register: &register,
        wallet,
        known: &known,
        patience: options.patience,
    };
    let mut revoked = Vec::new();
    for signer in signers(old.number).filter(|_| !keep) {
        let record = register.signer(known.cryptlet, signer).await?;
        if record.is_some_and(|record| !record.revoked) {
            let cryptlet = known.cryptlet.0;
            target
                .send(&abi::revokeSignerCall { cryptlet, signer })
                .await?;
            revoked.push(signer);
        }
    }
    Ok(Rotated { published, revoked })
}

/// A label without the mark of rotation.
fn base(label: &str) -> &str {
    match label.rsplit_once(MARK) {
        Some((base, number)) if number.parse::<u32>().is_ok() => base,
        _ => label,
    }
}

/// Whether `after` is `before` with another key.
fn is_rotation(before: &VersionRecord, after: &VersionRecord) -> bool {
    before.label != after.label && base(before.label.as_str()) == base(after.label.as_str())
}

/// The label of the next rotation: the first `…+key.N` that no version has.
fn next_label(label: &str, versions: &[VersionRecord]) -> String {
    let base = base(label);
    let label = |number: usize| format!("{base}{MARK}{number}");
    let free = |label: &String| versions.iter().all(|version| version.label != *label);
    // One more number than there are versions: one of them is free.
    let mut labels = (1..=versions.len().saturating_add(1)).map(label);
    labels.find(free).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;

    fn version(label: &str) -> VersionRecord {
        VersionRecord {
            number: 1,
            label: label.into(),
            package: B256::ZERO.into(),
            header: B256::ZERO.into(),
            manifest: B256::ZERO.into(),
            uri: String::new(),
            published_at: 0,
            revoked: false,
        }
    }

    #[test]
    fn labels_of_rotations_count_up_and_are_never_used_twice() {
        let versions = ["0.1.0", "0.1.0+key.1", "0.2.0+build"].map(version);
        assert_eq!(next_label("0.1.0", &versions), "0.1.0+key.2");
        assert_eq!(next_label("0.1.0+key.1", &versions), "0.1.0+key.2");
        assert_eq!(next_label("0.2.0+build", &versions), "0.2.0+build+key.1");
        assert_eq!(base("1+key.x"), "1+key.x");
        assert!(is_rotation(&version("1"), &version("1+key.1")));
        assert!(is_rotation(&version("1+key.1"), &version("1+key.2")));
        assert!(!is_rotation(&version("1"), &version("2+key.1")));
    }
}
