//! Cryptlets of the register, with what this host has of them.

use super::{
    Service,
    problems::{self, no_cryptlet, no_package, no_version},
};
use crate::HostError;
use alloy_primitives::Bytes;
use cryptlet_api::{
    Problem,
    types::{
        CryptletDetail, CryptletRef, CryptletSummary, Document, HostRow, InterfaceInfo, Page,
        PageQuery, Result, SearchText, SignerInfo, Source, Verdict, VersionInfo,
    },
};
use cryptlet_header::Header;
use cryptlet_register::{Known, PackageStore, Register, RegisterError};
use cryptlet_seal::package::OpenPackage;
use cryptlet_types::{Sha256Digest, register::VersionRecord};
use std::{collections::BTreeMap, sync::Arc};
use tokio::task::spawn_blocking;

impl Service {
    pub(super) async fn find_cryptlets(
        &self,
        query: Option<SearchText>,
        page: PageQuery,
    ) -> Result<Page<CryptletSummary>> {
        let wanted = u32::try_from(page.size()).unwrap_or(u32::MAX);
        let limit = wanted.min(cryptlet_register::index::PAGE);
        let after = page.after.as_ref().map(|after| after.as_str());
        let index = self.replica.index();
        let found = match &query {
            Some(query) => index.search(query.as_str(), limit, after).await,
            None => index.list(limit, after).await,
        }
        .map_err(problems::register)?;
        let full = found.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
        let last = found.last().map(|known| known.record.name.clone());
        let stale = self.rules.standing().is_stale(self.clock.now());
        Ok(Page {
            items: found
                .into_iter()
                .map(|known| summary(known, stale))
                .collect(),
            next: last.filter(|_| full),
        })
    }

    pub(super) async fn known(&self, cryptlet: &CryptletRef) -> Result<Known> {
        let found = match cryptlet.id() {
            Some(id) => self.replica.by_id(id).await,
            None => self.replica.by_name(cryptlet.as_str()).await,
        };
        let found = found.map_err(problems::register)?;
        found.ok_or_else(|| no_cryptlet(cryptlet.as_str()))
    }

    pub(super) async fn show_cryptlet(&self, cryptlet: CryptletRef) -> Result<CryptletDetail> {
        let known = self.known(&cryptlet).await?;
        let verdict = self.verdict(&known).await?;
        let (header, opened) = match known.record.current() {
            Some(version) => (
                self.read(version.package, PackageStore::header).await?,
                self.opened(version.package).await?,
            ),
            None => (None, None),
        };
        let packages = self.replica.packages();
        let now = self.clock.now();
        let standing = self.rules.standing();
        let Known {
            record,
            description,
            ..
        } = known;
        Ok(CryptletDetail {
            cryptlet: record.cryptlet.0.into(),
            name: record.name.clone(),
            description,
            publisher: record.publisher.into(),
            owner: record.owner.into(),
            revoked: record.revoked,
            current: record.current().map(|version| version.number),
            versions: record
                .versions
                .iter()
                .map(|version| version_info(version, packages.has(version.package)))
                .collect(),
            signers: record
                .signers
                .iter()
                .map(|known| SignerInfo {
                    signer: known.signer.into(),
                    version: known.version,
                    expiry: known.expiry,
                    revoked: known.revoked,
                })
                .collect(),
            interface: header
                .as_ref()
                .map(|header| interface(header))
                .transpose()?,
            hosts: self.hosts_of(&record.hosts).await?,
            policy: verdict,
            source: opened
                .and_then(|opened| opened.source)
                .map_or(Source::NotRevealed, |digest| {
                    Source::Revealed(digest.0.into())
                }),
            stale: standing.is_stale(now),
        })
    }

    pub(super) async fn header_of(
        &self,
        cryptlet: CryptletRef,
        version: Option<u32>,
    ) -> Result<Bytes> {
        let version = self.version(&cryptlet, version).await?;
        let read = self.read(version.package, PackageStore::header);
        read.await?.ok_or_else(|| no_package(version.package))
    }

    pub(super) async fn package_of(
        &self,
        cryptlet: CryptletRef,
        version: Option<u32>,
    ) -> Result<Bytes> {
        let version = self.version(&cryptlet, version).await?;
        let read = self.read(version.package, PackageStore::image_manifest);
        read.await?.ok_or_else(|| no_package(version.package))
    }

    pub(super) async fn source_of(
        &self,
        cryptlet: CryptletRef,
        version: Option<u32>,
    ) -> Result<Bytes> {
        let version = self.version(&cryptlet, version).await?;
        let packages = self.replica.packages().clone();
        let read = spawn_blocking(move || packages.source(version.package)).await;
        let source = read.map_err(|error| Problem::internal(&error))?;
        source.map_err(problems::register)?.ok_or_else(|| {
            let what = format!("the source of version {} is not revealed", version.label);
            Problem::not_found(what, "ask its publisher")
        })
    }

    /// The version of that number, or the one that runs.
    async fn version(&self, cryptlet: &CryptletRef, number: Option<u32>) -> Result<VersionRecord> {
        let record = self.known(cryptlet).await?.record;
        let found = match number {
            Some(number) => record.versions.iter().find(|known| known.number == number),
            None => record.current(),
        };
        found
            .cloned()
            .ok_or_else(|| no_version(record.cryptlet, number))
    }

    /// What the package says of itself, if this host has it.
    pub(super) async fn opened(&self, package: Sha256Digest) -> Result<Option<Arc<OpenPackage>>> {
        let opened = self.manifests.opened(package).await;
        opened.map_err(package_problem)
    }

    /// A file of a package, if this host has it.
    async fn read(
        &self,
        package: Sha256Digest,
        file: fn(&PackageStore, Sha256Digest) -> std::result::Result<Bytes, RegisterError>,
    ) -> Result<Option<Bytes>> {
        let packages = self.replica.packages().clone();
        let read = spawn_blocking(move || file(&packages, package)).await;
        match read.map_err(|error| Problem::internal(&error))? {
            Ok(file) => Ok(Some(file)),
            Err(RegisterError::UnknownPackage(_)) => Ok(None),
            Err(error) => Err(problems::register(error)),
        }
    }

    async fn hosts_of(&self, assigned: &[alloy_primitives::Address]) -> Result<Vec<HostRow>> {
        let hosts = self.replica.index().hosts().await;
        let known: BTreeMap<_, _> = hosts
            .map_err(problems::register)?
            .into_iter()
            .map(|host| (host.host, host))
            .collect();
        let row = |host: &alloy_primitives::Address| {
            let record = known.get(host);
            HostRow {
                host: (*host).into(),
                url: record.map(|host| host.url.clone()).unwrap_or_default(),
                authority: record.map_or_else(Default::default, |host| host.authority.0.into()),
            }
        };
        Ok(assigned.iter().map(row).collect())
    }

    /// Whether this host runs the cryptlet, and why not.
    pub(super) async fn verdict(&self, known: &Known) -> Result<Verdict> {
        let standing = self.rules.standing();
        let now = self.clock.now();
        let mut reasons = Vec::new();
        reasons.extend(standing.admits_jobs(now).err());
        reasons.extend(known.flaw.clone());
        if known.record.revoked {
            reasons.push("the cryptlet was revoked".to_owned());
        }
        match known.record.current() {
            None => reasons.push("it has no version that is not revoked".to_owned()),
            Some(version) => self.judge(known, version, &mut reasons).await?,
        }
        Ok(Verdict {
            allowed: reasons.is_empty(),
            reasons,
            epoch: standing.policy.map_or(0, |policy| policy.policy.epoch),
        })
    }

    async fn judge(
        &self,
        known: &Known,
        version: &VersionRecord,
        reasons: &mut Vec<String>,
    ) -> Result<()> {
        let record = &known.record;
        let now = self.clock.now();
        let signs = |signer: &cryptlet_types::register::SignerRecord| {
            record.admits(signer.signer, version.number, now)
        };
        let signed = record.signers.iter().any(signs);
        if !signed {
            reasons.push("no signer of the version is valid now".to_owned());
        }
        let manifest = match self.manifests.of(&record.name, version).await {
            Ok(Some(manifest)) => manifest,
            Ok(None) => {
                let package = version.package;
                reasons.push(format!("this host does not have package {package}"));
                return Ok(());
            }
            Err(error @ HostError::Contradiction(_)) => {
                reasons.push(error.to_string());
                return Ok(());
            }
            Err(error) if error.is_retryable() => return Err(package_problem(error)),
            // One cryptlet's damaged package is no reason to say nothing of the others.
            Err(error) => {
                let package = version.package;
                tracing::error!(%package, %error, "api: package cannot be read");
                reasons.push(format!("this host's copy of package {package} is damaged"));
                return Ok(());
            }
        };
        let key = manifest.public_key;
        if signed && !record.admits(key, version.number, now) {
            reasons.push(format!(
                "key {key}, which the package names, is no valid signer of the version"
            ));
        }
        let rule = self.router.policy().policy.code;
        let code = self.manifests.code(version.package, &rule).await;
        let code = code.map_err(package_problem)?;
        let registered = cryptlet_route::Registered {
            package: version.package,
            publisher: record.publisher,
            owner: record.owner,
            manifest,
            code,
        };
        let refused = self.router.runs(record.cryptlet, &registered).err();
        reasons.extend(refused.map(|refusal| refusal.to_string()));
        Ok(())
    }
}

fn summary(known: Known, stale: bool) -> CryptletSummary {
    let Known {
        record,
        description,
        ..
    } = known;
    CryptletSummary {
        cryptlet: record.cryptlet.0.into(),
        publisher: record.publisher.into(),
        label: record.current().map(|version| version.label.clone()),
        revoked: record.revoked,
        stale,
        name: record.name,
        description,
    }
}

fn version_info(version: &VersionRecord, stored: bool) -> VersionInfo {
    VersionInfo {
        number: version.number,
        label: version.label.clone(),
        package_digest: version.package.0.into(),
        header_digest: version.header.0.into(),
        manifest_digest: version.manifest.0.into(),
        uri: version.uri.clone(),
        published_at: version.published_at,
        revoked: version.revoked,
        stored,
    }
}

/// A package that cannot be read.
fn package_problem(error: HostError) -> Problem {
    match error {
        HostError::Register(error) => problems::register(error),
        error => Problem::internal(&error),
    }
}

fn interface(header: &[u8]) -> Result<InterfaceInfo> {
    let internal = |error: &dyn std::fmt::Display| Problem::internal(error);
    let header = Header::from_json(header).map_err(|error| internal(&error))?;
    let items = serde_json::to_value(header.abi()).map_err(|error| internal(&error))?;
    let abi: Vec<Document> = serde_json::from_value(items).map_err(|error| internal(&error))?;
    Ok(InterfaceInfo {
        contract: header.contract().to_owned(),
        solidity: header.interface().to_owned(),
        abi,
    })
}
