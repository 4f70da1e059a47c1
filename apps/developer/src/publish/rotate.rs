//! Rotating a key: the same code under a new version with a new key. The cryptlet's id stays.
//!
//! Which version a rotation replaces is kept in a file of the project before anything is made: the register does not tell
//! a rotation that was interrupted before the old version ended from one that was to keep it.

use super::{
    Parts, PublishOptions, Published, Step, Target, find,
    progress::{Place, Rotation},
    publish,
};
use crate::{DeveloperError, RegisterClient, Registration, Session, Wallet};
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
    /// Signers of the version before that were revoked with it.
    pub revoked: Vec<Address>,
}

/// Publishes the code of the current version again, under a new key and the next label `…+key.N`, and revokes the old
/// version with all its signers afterwards unless `keep`. `parts` are the project's; they must be what the current version
/// was made of, or the key would change together with the code.
///
/// Interrupted, it goes on when it is run again from the same project.
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
    let work = Work::prepare(session, wallet, parts, keep, options).await?;
    let rotation = match work.begun()? {
        Some(begun) if work.is_done_with(&begun) => {
            work.end(&begun).await?;
            work.begin()
        }
        Some(begun) => Rotation { keep, ..begun },
        None => work.begin(),
    };
    work.check_unchanged(&rotation).await?;
    rotation.keep(&options.folder)?;
    let further = PublishOptions {
        further: true,
        ..options.clone()
    };
    let parts = parts.clone().labelled(&*rotation.label);
    let published = publish(session, wallet, &parts, &further, tell).await?;
    let revoked = work.end(&rotation).await?;
    Ok(Rotated { published, revoked })
}

/// One rotation on its way.
struct Work<'a> {
    register: RegisterClient,
    wallet: &'a Wallet,
    parts: &'a Parts,
    keep: bool,
    options: &'a PublishOptions,
    known: Registration,
    versions: Vec<VersionRecord>,
    /// The version that runs.
    current: VersionRecord,
    place: Place,
}

impl<'a> Work<'a> {
    async fn prepare(
        session: &Session,
        wallet: &'a Wallet,
        parts: &'a Parts,
        keep: bool,
        options: &'a PublishOptions,
    ) -> Result<Self, DeveloperError> {
        let register = session.register().await?;
        let name: Name = parts
            .manifest
            .name
            .parse()
            .map_err(|error| DeveloperError::document("name", error))?;
        let known = find(&register, &CryptletRef::from(name)).await?;
        let versions = register.versions(known.cryptlet).await?;
        let newest = versions.iter().rfind(|version| !version.revoked);
        let Some(current) = newest.cloned() else {
            return Err(DeveloperError::Revoked(known.name));
        };
        let place = Place {
            register: register.domain(),
            host: session.info().host.into(),
            cryptlet: known.cryptlet,
        };
        Ok(Self {
            register,
            wallet,
            parts,
            keep,
            options,
            known,
            versions,
            current,
            place,
        })
    }

    /// The rotation that was begun and not ended; none if its new version was revoked since.
    fn begun(&self) -> Result<Option<Rotation>, DeveloperError> {
        let begun = Rotation::load(&self.options.folder, self.place)?;
        Ok(begun.filter(|begun| {
            let new = self.labelled(&begun.label);
            new.is_none_or(|version| !version.revoked)
        }))
    }

    /// Whether a rotation that was begun is not the one that is asked for now: other versions came after it, or it was to keep
    /// its old key, has its new version, and this one is not to keep any.
    fn is_done_with(&self, begun: &Rotation) -> bool {
        let (running, label) = (&self.current, &begun.label);
        let overtaken = running.number != begun.old && running.label != *label;
        overtaken || (begun.keep && !self.keep && running.label == *label)
    }

    fn begin(&self) -> Rotation {
        Rotation {
            place: self.place,
            old: self.current.number,
            label: next_label(&self.current.label, &self.versions),
            keep: self.keep,
        }
    }

    fn labelled(&self, label: &str) -> Option<&VersionRecord> {
        self.versions.iter().find(|version| version.label == label)
    }

    /// Whether the project is what the old version was made of: one of its signers makes the very package.
    async fn check_unchanged(&self, rotation: &Rotation) -> Result<(), DeveloperError> {
        let cryptlet = self.known.cryptlet;
        let old = self.register.version(cryptlet, rotation.old).await?;
        let old = old.ok_or_else(|| DeveloperError::Unknown(self.known.name.clone()))?;
        for signer in self.register.signers(cryptlet, rotation.old).await? {
            let parts = self.parts.clone().labelled(old.label.as_str());
            let files = parts.pack(cryptlet, signer.signer)?;
            if package::open_files(&files)?.digest == old.package {
                return Ok(());
            }
        }
        Err(DeveloperError::VersionExists {
            name: self.known.name.clone(),
            label: old.label,
            number: old.number,
        })
    }

    /// Revokes the old version if there is one in its place and it is not kept, and forgets the rotation. Returns the
    /// signers that ended.
    async fn end(&self, rotation: &Rotation) -> Result<Vec<Address>, DeveloperError> {
        let cryptlet = self.known.cryptlet;
        let versions = self.register.versions(cryptlet).await?;
        let replaced = versions
            .iter()
            .any(|version| version.label == rotation.label);
        let valid = versions
            .iter()
            .any(|version| version.number == rotation.old && !version.revoked);
        let mut revoked = Vec::new();
        if replaced && valid && !rotation.keep {
            let signers = self.register.signers(cryptlet, rotation.old).await?;
            let ending = signers.iter().filter(|signer| !signer.revoked);
            revoked.extend(ending.map(|signer| signer.signer));
            let target = Target {
                register: &self.register,
                wallet: self.wallet,
                known: &self.known,
                patience: self.options.patience,
            };
            let call = abi::revokeVersionCall {
                cryptlet: cryptlet.0,
                number: rotation.old,
            };
            target.send(&call).await?;
        }
        rotation.forget(&self.options.folder)?;
        Ok(revoked)
    }
}

/// A label without the mark of rotation.
fn base(label: &str) -> &str {
    match label.rsplit_once(MARK) {
        Some((base, number)) if number.parse::<u32>().is_ok() => base,
        _ => label,
    }
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
    }
}
