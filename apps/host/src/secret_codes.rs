//! Keys of secret code that this host was given, sealed by its vault, and who agreed to it: one file a package, named after its
//! digest.

use crate::{HostError, files};
use alloy_primitives::{Address, Bytes};
use async_trait::async_trait;
use cryptlet_register::{Register, Replica};
use cryptlet_run::{KeptCode, SecretCodes};
use cryptlet_seal::{CodeKey, recover};
use cryptlet_types::{CodeAgreement, SecretCode, Sha256Digest, report::CompactSignature};
use cryptlet_vault::Vault;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::Mutex;

const VERSION: u8 = 1;

/// Where keys of secret code lie, and agreements to it.
pub(crate) struct SecretCodeStore {
    folder: PathBuf,
    vault: Arc<dyn Vault>,
    /// Has the packages.
    replica: Arc<Replica>,
    /// Held while a file is read to be replaced.
    writing: Mutex<()>,
}

/// A package's file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kept {
    version: u8,
    /// As the vault sealed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Bytes>,
    #[serde(default)]
    agreements: BTreeMap<Address, Agreed>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Agreed {
    code: Sha256Digest,
    signature: CompactSignature,
}

/// How far a package's secret code is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) has_key: bool,
    /// What each counterparty agreed to, in the manifest's order.
    pub(crate) counterparties: Vec<(Address, Option<Sha256Digest>)>,
    /// Whether the package was encrypted under this key, of what all agreed to; known once there are both.
    fits: Option<bool>,
}

impl Standing {
    /// Why the code does not run, for people.
    pub(crate) fn missing(&self) -> Option<String> {
        if !self.has_key {
            return Some("this host was not given its key: cryptlet secret-code give-key".into());
        }
        let without = self.counterparties.iter().find(|(_, code)| code.is_none());
        if let Some((account, _)) = without {
            return Some(format!(
                "counterparty {account} has not agreed to it: cryptlet secret-code agree"
            ));
        }
        if self.agreed().is_none() {
            return Some(
                "counterparties agreed to different components: cryptlet secret-code show".into(),
            );
        }
        (self.fits != Some(true)).then(|| {
            "its key here is of another component, or they agreed to another one: the operator can take it out".into()
        })
    }

    /// What all agreed to, if it is the same.
    fn agreed(&self) -> Option<Sha256Digest> {
        let mut codes = self.counterparties.iter().map(|(_, code)| *code);
        let first = codes.next()?;
        codes.all(|code| code == first).then_some(first).flatten()
    }
}

/// Why a key or an agreement is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The signature is not of a counterparty over this package and code.
    #[error("signature: of none of the counterparties over this package and code")]
    NoCounterparty,
    /// There is a key, and it is another one.
    #[error("key: this package has another one here")]
    OtherKey,
    /// The host could not keep or read it.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl SecretCodeStore {
    pub(crate) fn at(
        folder: &Path,
        vault: Arc<dyn Vault>,
        replica: Arc<Replica>,
    ) -> Result<Self, HostError> {
        files::make_folder(folder).map_err(|error| broken(folder, &error))?;
        Ok(Self {
            folder: folder.to_owned(),
            vault,
            replica,
            writing: Mutex::default(),
        })
    }

    fn path(&self, package: Sha256Digest) -> PathBuf {
        self.folder.join(format!("{:x}.json", package.0))
    }

    /// What there is of a package; nothing of it, if nobody brought anything.
    async fn read(&self, package: Sha256Digest) -> Result<Kept, HostError> {
        let path = self.path(package);
        let read = blocking(path.clone(), files::read_if_there).await?;
        let Some(bytes) = read else {
            return Ok(Kept {
                version: VERSION,
                key: None,
                agreements: BTreeMap::new(),
            });
        };
        let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| broken(&path, &error))?;
        if kept.version == VERSION {
            Ok(kept)
        } else {
            let reason = format!("version {}, this program reads {VERSION}", kept.version);
            Err(broken(&path, &reason))
        }
    }

    async fn write(&self, package: Sha256Digest, kept: &Kept) -> Result<(), HostError> {
        let path = self.path(package);
        let bytes = serde_json::to_vec_pretty(kept).map_err(|error| broken(&path, &error))?;
        blocking(path, move |path| files::replace(path, &bytes)).await
    }

    /// How far the secret code of a package is.
    pub(crate) async fn standing(
        &self,
        package: Sha256Digest,
        secret: &SecretCode,
    ) -> Result<Standing, HostError> {
        let kept = self.read(package).await?;
        self.judged(package, &kept, secret).await
    }

    async fn judged(
        &self,
        package: Sha256Digest,
        kept: &Kept,
        secret: &SecretCode,
    ) -> Result<Standing, HostError> {
        let mut standing = standing(kept, secret);
        if let (Some(sealed), Some(code)) = (&kept.key, standing.agreed()) {
            let files = self.replica.package(package).await?;
            let fits = self.vault.fits_code(package, sealed, &files.code, code);
            standing.fits = Some(fits.await?);
        }
        Ok(standing)
    }

    /// Keeps the key of a package's secret code, sealed.
    pub(crate) async fn set_key(
        &self,
        package: Sha256Digest,
        key: &CodeKey,
    ) -> Result<(), Refused> {
        let _writing = self.writing.lock().await;
        let mut kept = self.read(package).await?;
        if let Some(sealed) = &kept.key {
            let vault = &self.vault;
            return match vault.is_code_key(package, sealed, key).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(Refused::OtherKey),
                Err(error) => Err(HostError::from(error).into()),
            };
        }
        let sealed = self.vault.seal_code_key(package, key).await;
        kept.key = Some(sealed.map_err(HostError::from)?.into());
        Ok(self.write(package, &kept).await?)
    }

    /// Keeps an agreement to a package's secret code. Whose it is, its signature says.
    pub(crate) async fn agree(
        &self,
        package: Sha256Digest,
        secret: &SecretCode,
        code: Sha256Digest,
        signature: CompactSignature,
    ) -> Result<Address, Refused> {
        let agreement = CodeAgreement { package, code };
        let account =
            recover(agreement.digest(), &signature).map_err(|_| Refused::NoCounterparty)?;
        if !secret.counterparties.contains(&account) {
            return Err(Refused::NoCounterparty);
        }
        let _writing = self.writing.lock().await;
        let mut kept = self.read(package).await?;
        kept.agreements.insert(account, Agreed { code, signature });
        self.write(package, &kept).await?;
        Ok(account)
    }
}

#[async_trait]
impl SecretCodes for SecretCodeStore {
    async fn of(&self, package: Sha256Digest, secret: &SecretCode) -> Result<KeptCode, String> {
        let told = |error: HostError| error.to_string();
        let kept = self.read(package).await.map_err(told)?;
        let standing = self.judged(package, &kept, secret).await.map_err(told)?;
        if let Some(missing) = standing.missing() {
            return Err(missing);
        }
        let agreed = secret.counterparties.iter();
        let agreed: Vec<_> = agreed
            .filter_map(|account| kept.agreements.get(account))
            .collect();
        let (Some(sealed), Some(first)) = (kept.key, agreed.first()) else {
            return Err("it has neither key nor counterparties".into());
        };
        Ok(KeptCode {
            sealed: sealed.to_vec(),
            code: first.code,
            agreements: agreed.iter().map(|agreed| agreed.signature).collect(),
        })
    }
}

fn standing(kept: &Kept, secret: &SecretCode) -> Standing {
    let agreed = |account: &Address| {
        let code = kept.agreements.get(account).map(|agreed| agreed.code);
        (*account, code)
    };
    Standing {
        has_key: kept.key.is_some(),
        counterparties: secret.counterparties.iter().map(agreed).collect(),
        fits: None,
    }
}

async fn blocking<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, HostError> {
    let done =
        tokio::task::spawn_blocking(move || work(&path).map_err(|error| broken(&path, &error)));
    done.await
        .map_err(|_| HostError::Ended("keeping secret code"))?
}

fn broken(path: &Path, error: &dyn std::fmt::Display) -> HostError {
    HostError::SecretCode {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(codes: &[u8]) -> Standing {
        let party = |(index, code): (usize, &u8)| {
            let account = Address::left_padding_from(&[u8::try_from(index).unwrap()]);
            let code = (*code > 0).then(|| Sha256Digest([*code; 32].into()));
            (account, code)
        };
        Standing {
            has_key: true,
            counterparties: codes.iter().enumerate().map(party).collect(),
            fits: Some(true),
        }
    }

    #[test]
    fn code_runs_when_all_agreed_to_what_its_key_fits_and_not_before() {
        assert_eq!(agreed(&[1, 1]).missing(), None);
        let without = |change: fn(&mut Standing)| {
            let mut standing = agreed(&[1, 1]);
            change(&mut standing);
            standing.missing().unwrap()
        };
        assert!(without(|it| it.has_key = false).contains("not given its key"));
        assert!(without(|it| it.fits = Some(false)).contains("another component"));
        assert!(without(|it| it.fits = None).contains("another component"));
        assert!(without(|it| it.counterparties.clear()).contains("different"));
        assert!(
            agreed(&[1, 0])
                .missing()
                .unwrap()
                .contains("has not agreed")
        );
        assert!(agreed(&[1, 2]).missing().unwrap().contains("different"));
        assert_eq!(agreed(&[0, 0]).agreed(), None);
    }
}
