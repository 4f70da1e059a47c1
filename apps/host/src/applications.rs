//! Applications whose messages the host takes, and what they sign with.
//!
//! One file names them. A secret that host and application share is sealed by the vault, each for its application and for
//! the moment at which it was made, and is opened anew for every message: it lies nowhere in the clear.

use crate::{HostError, files};
use alloy_primitives::Bytes;
use cryptlet_api::{
    types::{
        ApplicationInfo, ApplicationKeyInfo, ApplicationKind, ApplicationName, NewApplication,
        NewApplicationKey, WebhookPublicKey,
    },
    webhook::VerifyingKey,
};
use cryptlet_types::UnixSeconds;
use cryptlet_vault::{Vault, VaultError};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::RwLock;
use zeroize::Zeroizing;

/// Most applications of a host.
const MOST: usize = 1_000;
/// Keys of an application that count at the same time: the current one, and the one before for a while.
const MOST_KEYS: usize = 2;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplicationError {
    /// There is one of this name.
    #[error("name: there is an application {0} already")]
    Taken(ApplicationName),
    /// There is none of this name.
    #[error("there is no application {0}")]
    Unknown(ApplicationName),
    /// No more fit.
    #[error("there are {MOST} applications, and no more fit")]
    Full,
    /// The kind does not go with what else was said.
    #[error("publicKey: {0}")]
    PublicKey(&'static str),
    /// The vault seals no secrets, or does not answer.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] HostError),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Application {
    kind: ApplicationKind,
    created: UnixSeconds,
    /// Newest first.
    keys: Vec<Key>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Key {
    created: UnixSeconds,
    /// From this moment on it counts no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<UnixSeconds>,
    material: Material,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Material {
    /// A secret, as the vault sealed it.
    Sealed(Bytes),
    PublicKey(WebhookPublicKey),
}

impl Key {
    fn counts(&self, now: UnixSeconds) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

type Known = BTreeMap<ApplicationName, Application>;

/// A new secret, where one was made.
pub(crate) type NewSecret = Option<Zeroizing<Vec<u8>>>;

/// The applications of a host.
pub(crate) struct Applications {
    path: PathBuf,
    vault: Arc<dyn Vault>,
    known: RwLock<Known>,
}

impl Applications {
    /// Reads the file at `path`, or begins with none.
    ///
    /// # Errors
    /// The file cannot be read or is not one of these.
    pub(crate) fn open(path: &Path, vault: Arc<dyn Vault>) -> Result<Self, HostError> {
        Ok(Self {
            path: path.to_owned(),
            vault,
            known: RwLock::new(read(path)?),
        })
    }

    /// All of them, by name, with the keys that count.
    pub(crate) async fn list(&self, now: UnixSeconds) -> Vec<ApplicationInfo> {
        let known = self.known.read().await;
        known
            .iter()
            .map(|(name, application)| info(name, application, now))
            .collect()
    }

    /// Registers one. The secret, if it is to have one, is not to be seen again.
    ///
    /// # Errors
    /// See [`ApplicationError`].
    pub(crate) async fn add(
        &self,
        new: NewApplication,
        now: UnixSeconds,
    ) -> Result<(ApplicationInfo, NewSecret), ApplicationError> {
        let mut known = self.known.write().await;
        if known.contains_key(&new.name) {
            return Err(ApplicationError::Taken(new.name));
        }
        if known.len() >= MOST {
            return Err(ApplicationError::Full);
        }
        let (key, secret) = self.key(&new.name, new.kind, new.public_key, now).await?;
        let application = Application {
            kind: new.kind,
            created: now,
            keys: vec![key],
        };
        let shown = info(&new.name, &application, now);
        let mut changed = known.clone();
        changed.insert(new.name, application);
        self.keep(&mut known, changed)?;
        Ok((shown, secret))
    }

    /// Gives one another key. The one before counts until the overlap is over, an earlier one no more.
    ///
    /// # Errors
    /// See [`ApplicationError`].
    pub(crate) async fn rotate(
        &self,
        name: ApplicationName,
        new: NewApplicationKey,
        now: UnixSeconds,
    ) -> Result<(ApplicationInfo, NewSecret), ApplicationError> {
        let mut known = self.known.write().await;
        let mut changed = known.clone();
        let Some(application) = changed.get_mut(&name) else {
            return Err(ApplicationError::Unknown(name));
        };
        let (key, secret) = self
            .key(&name, application.kind, new.public_key, now)
            .await?;
        let end = now.saturating_add(new.overlap_seconds.get());
        if let Some(before) = application.keys.first_mut() {
            before.expires = Some(before.expires.map_or(end, |expires| expires.min(end)));
        }
        application.keys.insert(0, key);
        application.keys.truncate(MOST_KEYS);
        application.keys.retain(|key| key.counts(now));
        let shown = info(&name, application, now);
        self.keep(&mut known, changed)?;
        Ok((shown, secret))
    }

    /// Forgets one.
    ///
    /// # Errors
    /// [`ApplicationError::Unknown`], or that the file cannot be written; then it is still there.
    pub(crate) async fn remove(&self, name: ApplicationName) -> Result<(), ApplicationError> {
        let mut known = self.known.write().await;
        let mut changed = known.clone();
        if changed.remove(&name).is_none() {
            return Err(ApplicationError::Unknown(name));
        }
        self.keep(&mut known, changed)?;
        Ok(())
    }

    /// What the signatures of one are checked with now; nothing: there is no such application.
    ///
    /// # Errors
    /// The vault does not open a secret.
    pub(crate) async fn keys(
        &self,
        name: &ApplicationName,
        now: UnixSeconds,
    ) -> Result<Option<Vec<VerifyingKey>>, VaultError> {
        let known = self.known.read().await;
        let Some(application) = known.get(name) else {
            return Ok(None);
        };
        let mut keys = Vec::with_capacity(application.keys.len());
        for key in application.keys.iter().filter(|key| key.counts(now)) {
            keys.push(match &key.material {
                Material::PublicKey(public) => VerifyingKey::Ed25519(public.bytes()),
                Material::Sealed(sealed) => {
                    let context = context(name, key.created);
                    VerifyingKey::Hmac(self.vault.open_secret(&context, sealed).await?)
                }
            });
        }
        Ok(Some(keys))
    }

    async fn key(
        &self,
        name: &ApplicationName,
        kind: ApplicationKind,
        public_key: Option<WebhookPublicKey>,
        now: UnixSeconds,
    ) -> Result<(Key, NewSecret), ApplicationError> {
        let (material, secret) = match (kind, public_key) {
            (ApplicationKind::Ed25519, Some(public)) => (Material::PublicKey(public), None),
            (ApplicationKind::Ed25519, None) => {
                let needed = "an application of the kind ed25519 needs one";
                return Err(ApplicationError::PublicKey(needed));
            }
            (ApplicationKind::Hmac, Some(_)) => {
                let useless = "an application of the kind hmac has none";
                return Err(ApplicationError::PublicKey(useless));
            }
            (ApplicationKind::Hmac, None) => {
                let secret = VerifyingKey::new_secret();
                let sealed = self.vault.seal_secret(&context(name, now), &secret).await?;
                (Material::Sealed(sealed.into()), Some(secret))
            }
        };
        let key = Key {
            created: now,
            expires: None,
            material,
        };
        Ok((key, secret))
    }

    fn keep(&self, known: &mut Known, changed: Known) -> Result<(), HostError> {
        let bytes =
            serde_json::to_vec_pretty(&changed).map_err(|error| broken(&self.path, error))?;
        files::replace(&self.path, &bytes).map_err(|error| broken(&self.path, error))?;
        *known = changed;
        Ok(())
    }
}

/// What a sealed secret is for: no other application's place in the file fits it.
fn context(name: &ApplicationName, created: UnixSeconds) -> String {
    format!("application {name} since {created}")
}

fn info(name: &ApplicationName, application: &Application, now: UnixSeconds) -> ApplicationInfo {
    let keys = application.keys.iter().filter(|key| key.counts(now));
    ApplicationInfo {
        name: name.clone(),
        kind: application.kind,
        created: application.created,
        keys: keys
            .map(|key| ApplicationKeyInfo {
                created: key.created,
                expires: key.expires,
                public_key: match key.material {
                    Material::PublicKey(public) => Some(public),
                    Material::Sealed(_) => None,
                },
            })
            .collect(),
    }
}

fn read(path: &Path) -> Result<Known, HostError> {
    match files::read_if_there(path).map_err(|error| broken(path, error))? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| broken(path, error)),
        None => Ok(BTreeMap::new()),
    }
}

fn broken(path: &Path, reason: impl ToString) -> HostError {
    HostError::Api {
        what: path.display().to_string(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptlet_api::types::Overlap;
    use cryptlet_vault::{FileVault, Unlock};
    use tempfile::TempDir;

    const NOW: UnixSeconds = 1_790_000_000;

    struct Place(TempDir);

    impl Place {
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            FileVault::create_key_file(&place.at("key")).unwrap();
            FileVault::create(&place.at("vault"), &Unlock::KeyFile(place.at("key"))).unwrap();
            place
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn open(&self) -> Applications {
            let vault = FileVault::open(&self.at("vault"), &Unlock::KeyFile(self.at("key")));
            Applications::open(&self.at("applications.json"), Arc::new(vault.unwrap())).unwrap()
        }
    }

    fn name(text: &str) -> ApplicationName {
        text.parse().unwrap()
    }

    fn hmac(text: &str) -> NewApplication {
        NewApplication {
            name: name(text),
            kind: ApplicationKind::Hmac,
            public_key: None,
        }
    }

    fn public(byte: u8) -> WebhookPublicKey {
        WebhookPublicKey::new([byte; 32]).unwrap()
    }

    fn overlap(seconds: u64) -> NewApplicationKey {
        NewApplicationKey {
            overlap_seconds: Overlap::new(seconds).unwrap(),
            public_key: None,
        }
    }

    async fn keys(applications: &Applications, now: UnixSeconds) -> Vec<VerifyingKey> {
        applications.keys(&name("crm"), now).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_secret_is_shown_once_and_lies_nowhere_in_the_clear() {
        let place = Place::new();
        let applications = place.open();
        let (info, secret) = applications.add(hmac("crm"), NOW).await.unwrap();
        let secret = secret.unwrap();
        assert_eq!(secret.len(), 32);
        assert_eq!(applications.list(NOW).await, [info]);
        drop(applications);
        for entry in std::fs::read_dir(place.0.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            let text = String::from_utf8_lossy(&bytes).to_lowercase();
            assert!(!bytes.windows(8).any(|part| part == &secret[..8]));
            assert!(!text.contains(&alloy_primitives::hex::encode(&secret[..8])));
        }
        let again = place.open();
        assert_eq!(keys(&again, NOW).await, [VerifyingKey::Hmac(secret)]);
        assert_eq!(again.keys(&name("erp"), NOW).await.unwrap(), None);
    }

    #[tokio::test]
    async fn two_keys_count_for_a_while_and_never_three() {
        let place = Place::new();
        let applications = place.open();
        let key = |secret: NewSecret| VerifyingKey::Hmac(secret.unwrap());
        let (_, first) = applications.add(hmac("crm"), NOW).await.unwrap();
        let rotate = async |seconds, now| {
            let changed = applications
                .rotate(name("crm"), overlap(seconds), now)
                .await;
            let (info, secret) = changed.unwrap();
            assert_eq!(applications.list(now).await, [info]);
            key(secret)
        };
        let first = key(first);
        let second = rotate(100, NOW).await;
        assert_eq!(
            keys(&applications, NOW + 99).await,
            [second.clone(), first.clone()]
        );
        assert_eq!(
            keys(&applications, NOW + 100).await,
            std::slice::from_ref(&second)
        );
        let third = rotate(100, NOW + 1).await;
        assert_eq!(keys(&applications, NOW + 1).await, [third.clone(), second]);
        // A secret that got about counts no more at once.
        let fourth = rotate(0, NOW + 2).await;
        assert_eq!(keys(&applications, NOW + 2).await, [fourth]);
        let unknown = applications.rotate(name("erp"), overlap(1), NOW).await;
        assert!(matches!(unknown, Err(ApplicationError::Unknown(_))));
    }

    #[tokio::test]
    async fn a_kind_has_what_belongs_to_it() {
        let place = Place::new();
        let applications = place.open();
        let new = |kind, public_key| NewApplication {
            kind,
            public_key,
            ..hmac("crm")
        };
        let (hmac, ed25519) = (ApplicationKind::Hmac, ApplicationKind::Ed25519);
        for wrong in [new(hmac, Some(public(1))), new(ed25519, None)] {
            let refused = applications.add(wrong, NOW).await;
            assert!(matches!(refused, Err(ApplicationError::PublicKey(_))));
        }
        let (_, secret) = applications
            .add(new(ed25519, Some(public(1))), NOW)
            .await
            .unwrap();
        assert!(secret.is_none());
        assert_eq!(
            keys(&applications, NOW).await,
            [VerifyingKey::Ed25519([1; 32])]
        );
        let taken = applications.add(new(hmac, None), NOW).await;
        assert!(matches!(taken, Err(ApplicationError::Taken(_))));
        let refused = applications.rotate(name("crm"), overlap(1), NOW).await;
        assert!(matches!(refused, Err(ApplicationError::PublicKey(_))));
        applications.remove(name("crm")).await.unwrap();
        let gone = applications.remove(name("crm")).await;
        assert!(matches!(gone, Err(ApplicationError::Unknown(_))));
        drop(applications);
        assert_eq!(place.open().list(NOW).await, []);
    }

    #[tokio::test]
    async fn a_secret_that_was_put_in_anothers_place_does_not_open() {
        let place = Place::new();
        let applications = place.open();
        applications.add(hmac("crm"), NOW).await.unwrap();
        drop(applications);
        let path = place.at("applications.json");
        let text = std::fs::read_to_string(&path).unwrap();
        files::replace(&path, text.replace("\"crm\"", "\"erp\"").as_bytes()).unwrap();
        let opened = place.open().keys(&name("erp"), NOW).await;
        assert!(matches!(opened, Err(VaultError::NotSealedHere(_))));
        files::replace(&path, b"{").unwrap();
        assert!(
            read(&path).is_err(),
            "a damaged file is no file without applications"
        );
    }
}
