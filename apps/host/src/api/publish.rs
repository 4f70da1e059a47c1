//! Keys and packages of versions to come. Registering them is the publisher's own transaction.

use super::{Service, problems};
use crate::{
    checks::{self, Accepted},
    spare_keys::SpareKeys,
};
use alloy_primitives::Address;
use cryptlet_api::{
    Caller, Problem,
    types::{CreatedKey, NewKey, NewPackage, Result, StoredPackage},
};
use cryptlet_register::{Register, RegisterError};
use cryptlet_seal::package::PackageFiles;
use cryptlet_types::{CryptletId, UnixSeconds, region::Package};
use cryptlet_vault::{KeyId, VaultError};

/// Most keys that are destroyed for one caller's request: each costs a write to the vault.
const DISCARDED_AT_ONCE: usize = 16;

impl Service {
    pub(super) async fn make_key(&self, caller: &Caller, key: NewKey) -> Result<CreatedKey> {
        let cryptlet = CryptletId::derive(key.publisher.into(), key.name.as_str());
        self.check_publisher(key.publisher.into())?;
        let signer = self.spare_key(&caller.name, cryptlet).await?;
        tracing::info!(caller = caller.name, %cryptlet, name = %key.name, %signer, "key for a version to come");
        Ok(CreatedKey {
            cryptlet: cryptlet.0.into(),
            signer: signer.into(),
        })
    }

    /// A key for this cryptlet that no version uses yet: the caller's, or a new one.
    async fn spare_key(&self, caller: &str, cryptlet: CryptletId) -> Result<Address> {
        let mut spare = self.spare_keys.lock().await;
        let now = self.clock.now();
        self.forget_used(&mut spare, &[cryptlet]).await?;
        let given = spare.give(caller, cryptlet, now);
        if let Some(signer) = given.map_err(|error| Problem::internal(&error))? {
            return Ok(signer);
        }
        self.discard_expired(&mut spare, now).await?;
        if spare.check_room(caller).is_err() {
            let all = spare.cryptlets();
            self.forget_used(&mut spare, &all).await?;
        }
        let room = spare.check_room(caller);
        room.map_err(|what| {
            Problem::conflict(what, "publish a version with one of them: cryptlet publish")
        })?;
        let signer = self.vault.create(&KeyId::Cryptlet(cryptlet)).await;
        let signer = signer.map_err(problems::vault)?;
        let kept = spare.add(signer, caller, cryptlet, now);
        kept.map_err(|error| Problem::internal(&error))?;
        Ok(signer)
    }

    pub(super) async fn take_package(
        &self,
        caller: &Caller,
        package: NewPackage,
    ) -> Result<StoredPackage> {
        let files = files(package);
        let (accepted, files) = tokio::task::spawn_blocking(move || {
            checks::accept(&files).map(|accepted| (accepted, files))
        })
        .await
        .map_err(|error| Problem::internal(&error))?
        .map_err(|reason| Problem::refused(reason, "mend it and see: cryptlet check"))?;
        self.check_code(&accepted)?;
        self.check_key(&accepted).await?;
        let digest = match self.replica.put(files).await {
            Ok(digest) => digest,
            Err(error @ RegisterError::StoreFull { .. }) => {
                let next = "ask the operator to raise packages.quotaBytes";
                return Err(Problem::refused(error.to_string(), next));
            }
            Err(error @ RegisterError::TooManyPackages { .. }) => {
                let next = "ask the operator to make room";
                return Err(Problem::refused(error.to_string(), next));
            }
            Err(error) => return Err(problems::register(error)),
        };
        let Accepted {
            cryptlet,
            manifest,
            header,
            manifest_digest,
            ..
        } = accepted;
        tracing::info!(caller = caller.name, %cryptlet, name = manifest.name, %digest, "package taken");
        Ok(StoredPackage {
            cryptlet: cryptlet.0.into(),
            name: manifest.name,
            label: manifest.version,
            package_digest: digest.0.into(),
            header_digest: header.0.into(),
            manifest_digest: manifest_digest.0.into(),
            uri: String::new(),
        })
    }

    /// What policy demands of code holds from the upload on; it is asked again before each job.
    fn check_code(&self, accepted: &Accepted) -> Result<()> {
        let policy = self.rules.standing().policy;
        let rule = policy.map(|policy| policy.policy.code).unwrap_or_default();
        match &accepted.code {
            Some(code) => code.meets(&rule).map_err(|reason| {
                let next = "see all places: cryptlet check";
                Problem::refused(format!("policy: {reason}"), next)
            }),
            None if rule.demands_nothing() => Ok(()),
            None => Err(Problem::refused(
                "policy: `code.determinism` demands a look at the code, which is secret",
                "ask an administrator, or publish it open",
            )),
        }
    }

    /// Policy's word on who may publish holds from the first step on, not only when the cryptlet is to run.
    fn check_publisher(&self, publisher: Address) -> Result<()> {
        let standing = self.rules.standing();
        if standing.synced.is_none() {
            return Err(Problem::unavailable("the register was not read yet"));
        }
        let Some(policy) = standing.policy else {
            let next = "ask the operator to put a policy in force";
            return Err(Problem::refused("this host has no policy in force", next));
        };
        if policy.policy.publishers.includes(publisher) {
            return Ok(());
        }
        Err(Problem::refused(
            format!("policy: {publisher} is not among `publishers`"),
            "ask an administrator to list the account in the next policy",
        ))
    }

    /// Forgets that keys are spare which the register has as signers by now.
    async fn forget_used(&self, spare: &mut SpareKeys, cryptlets: &[CryptletId]) -> Result<()> {
        let mut used = vec![];
        for cryptlet in cryptlets {
            let known = self.replica.by_id(*cryptlet).await;
            let known = known.map_err(problems::register)?;
            let signers = known.into_iter().flat_map(|known| known.record.signers);
            used.extend(signers.map(|known| known.signer));
        }
        spare
            .forget(&used)
            .map_err(|error| Problem::internal(&error))
    }

    /// Destroys keys that came into no use in time. What the register says now has to be known: a key may be a signer since.
    async fn discard_expired(&self, spare: &mut SpareKeys, now: UnixSeconds) -> Result<()> {
        let mut expired = spare.expired(now);
        expired.truncate(DISCARDED_AT_ONCE);
        if expired.is_empty() || self.rules.standing().is_stale(now) {
            return Ok(());
        }
        let cryptlets: Vec<_> = expired.iter().map(|(cryptlet, _)| *cryptlet).collect();
        self.forget_used(spare, &cryptlets).await?;
        let unused = spare.expired(now);
        expired.retain(|key| unused.contains(key));
        for (cryptlet, signer) in expired {
            match self.vault.discard(cryptlet, signer).await {
                Ok(()) => {
                    tracing::info!(%cryptlet, %signer, "key came into no use and was destroyed")
                }
                Err(VaultError::UnknownSigner { .. }) => {}
                Err(error) => return Err(problems::vault(error)),
            }
            let forgotten = spare.forget(&[signer]);
            forgotten.map_err(|error| Problem::internal(&error))?;
        }
        Ok(())
    }

    /// The key that the manifest names has to be in this vault, or the package could never sign here.
    async fn check_key(&self, accepted: &Accepted) -> Result<()> {
        let keys = self.vault.list().await.map_err(problems::vault)?;
        let signer = accepted.manifest.public_key;
        let known = keys
            .iter()
            .any(|key| key.id == KeyId::Cryptlet(accepted.cryptlet) && key.address == signer);
        if known {
            return Ok(());
        }
        Err(Problem::refused(
            format!(
                "publicKey: the vault has no key {signer} of cryptlet {}",
                accepted.cryptlet
            ),
            "take the key from POST /v1/keys, as cryptlet publish does",
        ))
    }
}

fn files(package: NewPackage) -> PackageFiles {
    PackageFiles {
        package: Package {
            index: package.index.0,
            manifest: package.manifest.0,
            code: package.code.0,
        },
        header: package.header.0,
        source: package.source.map(|source| source.0),
    }
}
