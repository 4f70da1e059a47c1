//! Publishing: key, package, transaction, until the host shows the version.
//!
//! 1. What can be refused is refused before anything is made or paid: name, look-alike, owner, label, interface.
//! 2. The host makes a signing key for the version.
//! 3. Manifest and header are completed with it, the package is packed and handed to the host, whose digests must be
//!    ours.
//! 4. The publisher's wallet sends `register`, or `publishVersion`, to the register's chain.
//! 5. The host is assigned to the cryptlet, if the register knows it under the authority that it serves with.
//! 6. The version counts as published once the host shows it.
//!
//! Each step is kept in a file of the project (see `progress`), so that whoever is interrupted runs it again and goes on;
//! a transaction is kept before it is sent, and sent again as it is. Published again without a change, nothing happens.

mod attest;
mod progress;
mod rotate;

pub use rotate::{Rotated, rotate};

use self::{
    attest::attest,
    progress::{Place, Progress, Sent},
};
use crate::{
    DeveloperError, Mined, RegisterClient, Registration, Session, SignedTransaction, Wallet,
    chain::{Fate, Revert},
    secret_code,
};
use alloy_primitives::{Address, B256, Bytes, U256};
use cryptlet_api::{
    ClientError, ProblemKind,
    types::{Base64, CryptletRef, Name, NewKey, NewPackage},
};
use cryptlet_chain::evm::abi::CryptletRegister as abi;
use cryptlet_header::{Header, HeaderSource};
use cryptlet_register::{OciAuth, OciReference, OciRegistries};
use cryptlet_seal::{
    CodeKey,
    package::{self, PackageFiles},
};
use cryptlet_types::{
    CryptletId, Sha256Digest, UnixSeconds, manifest::ManifestSource, register::VersionRecord,
};
use serde::Serialize;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

const PUBLISHING: &str = "cannot publish";
/// Pause between two looks whether the host shows the version.
const LOOK: Duration = Duration::from_millis(100);

/// What an author has built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The manifest without its key.
    pub manifest: ManifestSource,
    /// The Solidity interface.
    pub interface: String,
    /// The component, encrypted where it is secret.
    pub code: Bytes,
    /// The key of secret code: the host is given it with the package.
    pub code_key: Option<Arc<CodeKey>>,
    /// The packed source, if it is to be revealed.
    pub source: Option<Bytes>,
}

impl Parts {
    /// The same under another label.
    #[must_use]
    pub fn labelled(mut self, label: impl Into<String>) -> Self {
        self.manifest.version = label.into();
        self
    }

    /// The package under an id and a key.
    pub(crate) fn pack(
        &self,
        cryptlet: CryptletId,
        signer: Address,
    ) -> Result<PackageFiles, DeveloperError> {
        if self.manifest.config.secret_code.is_some() != self.code_key.is_some() {
            let reason = "secret code has a key, and no other has";
            return Err(DeveloperError::document("config.secretCode", reason));
        }
        let manifest = self.manifest.clone().with_key(signer)?;
        let header = Header::build(HeaderSource {
            name: &self.manifest.name,
            label: &self.manifest.version,
            interface: &self.interface,
            cryptlet,
            public_key: signer,
        })?;
        let header = header.to_json()?;
        let source = self.source.as_ref().map(AsRef::as_ref);
        Ok(package::build(&manifest, &self.code, &header, source)?)
    }
}

/// An OCI registry that gets the package, too.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The repository, with a tag or without.
    pub reference: OciReference,
    /// Who pushes.
    pub auth: OciAuth,
    /// The host that gives the registry's tokens, if it is another: it is told the account, too.
    pub tokens: Option<String>,
}

/// How to publish.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    /// Publish a further version of a cryptlet that is registered already. Its label is the manifest's.
    pub further: bool,
    /// Last second at which the version's key may sign.
    pub expiry: UnixSeconds,
    /// Where the package is put beside the host: the register says so. Nothing: where the host offers it.
    pub to: Option<Destination>,
    /// Longest wait for a block, and for the host to show the version.
    pub patience: Duration,
    /// Folder in which unfinished work is kept.
    pub folder: PathBuf,
}

/// How far publishing has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The version has this signing key.
    Key(Address),
    /// The host has the package.
    Stored(Sha256Digest),
    /// The host has the key of its secret code.
    CodeKey,
    /// The transaction is signed, and sent now.
    Sent {
        /// The transaction.
        transaction: B256,
        /// Most that it can cost, in wei.
        max_cost: U256,
    },
    /// A block holds it.
    Mined(u64),
    /// The host is assigned to the cryptlet from this block on.
    Attested {
        /// Address of its host key.
        host: Address,
        /// The block.
        block: u64,
    },
    /// The host is not assigned to the cryptlet, and why.
    NotAttested(String),
    /// The host shows the version.
    Shown,
}

/// A published version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// The cryptlet's id.
    pub cryptlet: CryptletId,
    /// Its name.
    pub name: String,
    /// Number of the version.
    pub number: u32,
    /// Its label.
    pub label: String,
    /// Address of its signing key.
    pub signer: Address,
    /// Digest of the package.
    pub package_digest: Sha256Digest,
    /// Digest of the header.
    pub header_digest: Sha256Digest,
    /// Digest of the manifest.
    pub manifest_digest: Sha256Digest,
    /// Where the package lies.
    pub uri: String,
    /// The transaction; nothing: the version was published before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction: Option<B256>,
    /// What the transaction used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gas_used: Option<u64>,
    /// Most that the transaction could cost, in wei, decimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost_wei: Option<String>,
    /// The host, if it is assigned to the cryptlet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attested_host: Option<Address>,
}

/// Publishes a version. `tell` hears of every step.
///
/// # Errors
/// [`DeveloperError::NameTaken`], [`DeveloperError::NotTheOwner`], [`DeveloperError::Registered`],
/// [`DeveloperError::VersionExists`], [`DeveloperError::Revoked`] before anything is made; later ones say where it stopped.
pub async fn publish(
    session: &Session,
    wallet: &Wallet,
    parts: &Parts,
    options: &PublishOptions,
    tell: &(dyn Fn(Step) + Sync),
) -> Result<Published, DeveloperError> {
    let work = Work::prepare(session, wallet, parts, options).await?;
    match work.existing().await? {
        Some(published) => work.finish(published, tell).await,
        None => work.publish(tell).await,
    }
}

/// One version on its way.
struct Work<'a> {
    session: &'a Session,
    register: RegisterClient,
    wallet: &'a Wallet,
    parts: &'a Parts,
    options: &'a PublishOptions,
    /// The cryptlet, if it is registered already.
    known: Option<Registration>,
    cryptlet: CryptletId,
    publisher: Address,
    progress: Progress,
}

impl<'a> Work<'a> {
    async fn prepare(
        session: &'a Session,
        wallet: &'a Wallet,
        parts: &'a Parts,
        options: &'a PublishOptions,
    ) -> Result<Self, DeveloperError> {
        let register = session.register().await?;
        let name = &parts.manifest.name;
        let known = register.by_name(name).await?;
        let publisher = known
            .as_ref()
            .map_or(wallet.address(), |known| known.publisher);
        let cryptlet = CryptletId::derive(publisher, name);
        // A trial with the publisher's own address for the key: whatever is wrong with the parts is wrong with it too.
        parts.pack(cryptlet, wallet.address())?;
        let place = Place {
            register: register.domain(),
            host: session.info().host.into(),
            cryptlet,
        };
        let progress = Progress::load(&options.folder, place)?;
        Ok(Self {
            session,
            register,
            wallet,
            parts,
            options,
            known,
            cryptlet,
            publisher,
            progress,
        })
    }

    fn name(&self) -> &str {
        &self.parts.manifest.name
    }

    fn label(&self) -> &str {
        &self.parts.manifest.version
    }

    /// The version, if it is in the register already; refuses what the register would refuse.
    async fn existing(&self) -> Result<Option<Published>, DeveloperError> {
        let Some(known) = &self.known else {
            self.try_name().await?;
            return Ok(None);
        };
        let name = || self.name().to_owned();
        if known.owner != self.wallet.address() && !self.options.further {
            return Err(DeveloperError::NameTaken {
                name: name(),
                by: known.cryptlet,
            });
        }
        if known.owner != self.wallet.address() {
            return Err(DeveloperError::NotTheOwner {
                name: name(),
                owner: known.owner,
                wallet: self.wallet.address(),
            });
        }
        if known.revoked {
            return Err(DeveloperError::Revoked(name()));
        }
        let versions = self.register.versions(self.cryptlet).await?;
        if let Some(version) = versions
            .iter()
            .find(|version| version.label == self.label())
        {
            return self.same(version).await.map(Some);
        }
        match versions.last() {
            Some(newest) if !self.options.further => Err(DeveloperError::Registered {
                name: name(),
                number: newest.number,
                label: newest.label.clone(),
            }),
            _ => Ok(None),
        }
    }

    /// A version of this label, if it is what would be published.
    async fn same(&self, version: &VersionRecord) -> Result<Published, DeveloperError> {
        let exists = || DeveloperError::VersionExists {
            name: self.name().to_owned(),
            label: version.label.clone(),
            number: version.number,
        };
        let signers = match self.progress.signer(self.label()) {
            Some(signer) => vec![signer],
            None => {
                let known = self.register.signers(self.cryptlet, version.number).await?;
                known.iter().map(|known| known.signer).collect()
            }
        };
        for signer in signers {
            let files = self.parts.pack(self.cryptlet, signer)?;
            if package::open_files(&files)?.digest == version.package {
                return self.published(version, signer, None);
            }
        }
        Err(exists())
    }

    /// Asks the register, without sending, whether the name can be had.
    async fn try_name(&self) -> Result<(), DeveloperError> {
        let any = B256::repeat_byte(1);
        let call = abi::registerCall {
            name_: self.name().to_owned(),
            version: abi::Version {
                label: self.label().to_owned(),
                packageDigest: any,
                headerDigest: any,
                manifestDigest: any,
                uri: String::new(),
            },
            signer: self.wallet.address(),
            signerExpiry: self.options.expiry,
        };
        let from = self.wallet.address();
        let tried = self.register.attempt(PUBLISHING, from, &call).await?;
        tried.map_err(|revert| revert.refusal(PUBLISHING))
    }

    async fn publish(mut self, tell: &(dyn Fn(Step) + Sync)) -> Result<Published, DeveloperError> {
        let signer = self.key().await?;
        tell(Step::Key(signer));
        let version = self.store(signer).await?;
        tell(Step::Stored(version.packageDigest.into()));
        if let Some(key) = &self.parts.code_key {
            secret_code::give_key(self.session, version.packageDigest.into(), key).await?;
            tell(Step::CodeKey);
        }
        let transaction = self.transaction(signer, &version).await?;
        tell(Step::Sent {
            transaction: transaction.hash,
            max_cost: transaction.max_cost,
        });
        let patience = self.options.patience;
        let mined = self
            .register
            .submit(PUBLISHING, &transaction, patience)
            .await?;
        tell(Step::Mined(mined.block));
        let versions = self.register.versions(self.cryptlet).await?;
        let version = versions
            .iter()
            .find(|version| version.label == self.label());
        let version = version.ok_or_else(|| {
            DeveloperError::Untrue(
                "the node says it mined a version that the register lacks".into(),
            )
        })?;
        let published = self.published(version, signer, Some(mined))?;
        let published = self.finish(published, tell).await?;
        tell(Step::Shown);
        Ok(published)
    }

    /// The key of this version: that of a transaction which may still be mined, or the one that the host gives. It gives the
    /// same one again, as long as it has it: a key that came into no use for long is destroyed.
    async fn key(&mut self) -> Result<Address, DeveloperError> {
        let begun = (self.progress.signer(self.label()), self.progress.sent());
        if let (Some(signer), Some(sent)) = begun {
            let from = self.wallet.address();
            if self.register.fate(from, &sent.transaction).await? != Fate::Void {
                return Ok(signer);
            }
        }
        let name: Name = self
            .name()
            .parse()
            .map_err(|error| DeveloperError::document("name", error))?;
        let key = NewKey {
            publisher: self.publisher.into(),
            name,
        };
        let created = self.session.client().create_key(&key).await?;
        if self.cryptlet != created.cryptlet.into() {
            let said = "the host made a key for another cryptlet than the one that was asked for";
            return Err(DeveloperError::Untrue(said.into()));
        }
        let signer = created.signer.into();
        self.progress
            .keep_key(&self.parts.manifest.version, signer)?;
        Ok(signer)
    }

    /// Packs with the key and hands the package to the host. The same package again is taken again.
    async fn store(&self, signer: Address) -> Result<abi::Version, DeveloperError> {
        let files = self.parts.pack(self.cryptlet, signer)?;
        let ours = package::open_files(&files)?;
        let pushed = match &self.options.to {
            Some(to) => Some(push(&files, to).await?),
            None => None,
        };
        let new = NewPackage {
            index: Base64(files.package.index),
            manifest: Base64(files.package.manifest),
            code: Base64(files.package.code),
            header: Base64(files.header),
            source: files.source.map(Base64),
        };
        let stored = self.session.client().store_package(&new).await?;
        let theirs = [
            stored.package_digest,
            stored.header_digest,
            stored.manifest_digest,
        ];
        if theirs.map(Sha256Digest::from) != [ours.digest, ours.header, ours.manifest_digest] {
            let said = "the host stored something else than what it was given";
            return Err(DeveloperError::Untrue(said.into()));
        }
        Ok(abi::Version {
            label: self.label().to_owned(),
            packageDigest: ours.digest.0,
            headerDigest: ours.header.0,
            manifestDigest: ours.manifest_digest.0,
            uri: pushed.unwrap_or(stored.uri),
        })
    }

    /// The transaction: that of an interrupted run if it says the same and can still be mined, or a new one.
    async fn transaction(
        &mut self,
        signer: Address,
        version: &abi::Version,
    ) -> Result<SignedTransaction, DeveloperError> {
        let package = version.packageDigest.into();
        if let Some(kept) = self.earlier(package).await? {
            return Ok(kept);
        }
        let (version, expiry) = (version.clone(), self.options.expiry);
        let signed = match &self.known {
            None => {
                let call = abi::registerCall {
                    name_: self.name().to_owned(),
                    version,
                    signer,
                    signerExpiry: expiry,
                };
                self.register.sign(PUBLISHING, self.wallet, &call).await?
            }
            Some(_) => {
                let call = abi::publishVersionCall {
                    cryptlet: self.cryptlet.0,
                    version,
                    signer,
                    signerExpiry: expiry,
                };
                self.register.sign(PUBLISHING, self.wallet, &call).await?
            }
        };
        self.progress.keep_sent(Sent {
            package,
            transaction: signed.clone(),
        })?;
        Ok(signed)
    }

    /// The transaction of an interrupted run, if it can still be mined. One for another package is waited for: it would
    /// be mined besides, and take the label.
    async fn earlier(
        &self,
        package: Sha256Digest,
    ) -> Result<Option<SignedTransaction>, DeveloperError> {
        let Some(sent) = self.progress.sent() else {
            return Ok(None);
        };
        let from = self.wallet.address();
        if self.register.fate(from, &sent.transaction).await? == Fate::Void {
            return Ok(None);
        }
        if sent.package == package {
            return Ok(Some(sent.transaction.clone()));
        }
        let patience = self.options.patience;
        self.register
            .submit(PUBLISHING, &sent.transaction, patience)
            .await?;
        let versions = self.register.versions(self.cryptlet).await?;
        let taken = versions
            .iter()
            .find(|version| version.package == sent.package);
        Err(DeveloperError::VersionExists {
            name: self.name().to_owned(),
            label: self.label().to_owned(),
            number: taken.map(|version| version.number).unwrap_or_default(),
        })
    }

    fn published(
        &self,
        version: &VersionRecord,
        signer: Address,
        mined: Option<Mined>,
    ) -> Result<Published, DeveloperError> {
        if version.revoked {
            let what = format!("version {} of {}", version.label, self.name());
            return Err(DeveloperError::Revoked(what));
        }
        Ok(Published {
            cryptlet: self.cryptlet,
            name: self.name().to_owned(),
            number: version.number,
            label: version.label.clone(),
            signer,
            package_digest: version.package,
            header_digest: version.header,
            manifest_digest: version.manifest,
            uri: version.uri.clone(),
            transaction: mined.map(|mined| mined.transaction),
            gas_used: mined.map(|mined| mined.gas_used),
            max_cost_wei: mined.map(|mined| mined.max_cost.to_string()),
            attested_host: None,
        })
    }

    /// Has the host assigned, waits until it shows the version, and forgets how it came to be.
    async fn finish(
        self,
        mut published: Published,
        tell: &(dyn Fn(Step) + Sync),
    ) -> Result<Published, DeveloperError> {
        let patience = self.options.patience;
        let (session, register) = (self.session, &self.register);
        published.attested_host = attest(
            session,
            register,
            self.wallet,
            self.cryptlet,
            patience,
            tell,
        )
        .await?;
        let attested = published.attested_host.map(Into::into);
        let id = CryptletRef::from(self.cryptlet);
        let deadline = Instant::now() + self.options.patience;
        loop {
            let shown = match self.session.client().cryptlet(&id).await {
                Ok(detail) => {
                    let mut versions = detail.versions.iter();
                    let mut hosts = detail.hosts.iter().map(|row| row.host);
                    versions.any(|version| version.number == published.number)
                        && attested.is_none_or(|host| hosts.any(|known| known == host))
                }
                Err(error) if is_not_found(&error) || error.is_retryable() => false,
                Err(error) => return Err(error.into()),
            };
            if shown {
                self.progress.forget()?;
                return Ok(published);
            }
            if Instant::now() >= deadline {
                return Err(DeveloperError::NotShown);
            }
            sleep(LOOK).await;
        }
    }
}

/// Pushes a package and returns its uri, by digest.
async fn push(files: &PackageFiles, to: &Destination) -> Result<String, DeveloperError> {
    let hosts = [Some(to.reference.host()), to.tokens.as_deref()];
    let registries = OciRegistries::new(hosts.into_iter().flatten().map(Into::into).collect())?;
    let pushed = registries.push(files, &to.reference, &to.auth).await?;
    Ok(pushed.to_string())
}

/// Whether the host says that there is no such thing (yet).
fn is_not_found(error: &ClientError) -> bool {
    matches!(error, ClientError::Problem(problem) if problem.kind == ProblemKind::NotFound)
}

/// What to revoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// A version, by its number or its label, and its signers with it.
    Version(String),
    /// One signer.
    Signer(Address),
    /// The whole cryptlet.
    All,
}

/// Revokes a version, a signer or the whole cryptlet: final, and effective from the block that holds it. What is
/// revoked already is an error, so that nobody pays for it.
///
/// # Errors
/// [`DeveloperError::NotTheOwner`], [`DeveloperError::Unknown`], [`DeveloperError::Revoked`].
pub async fn revoke(
    session: &Session,
    wallet: &Wallet,
    cryptlet: &CryptletRef,
    what: &Revocation,
    patience: Duration,
) -> Result<Mined, DeveloperError> {
    let register = session.register().await?;
    let known = find(&register, cryptlet).await?;
    let target = Target {
        register: &register,
        wallet,
        known: &known,
        patience,
    };
    let cryptlet = known.cryptlet.0;
    match what {
        Revocation::All => target.send(&abi::revokeCryptletCall { cryptlet }).await,
        Revocation::Signer(signer) => {
            let signer = *signer;
            target
                .send(&abi::revokeSignerCall { cryptlet, signer })
                .await
        }
        Revocation::Version(word) => {
            let number = version_number(&register, &known, word).await?;
            target
                .send(&abi::revokeVersionCall { cryptlet, number })
                .await
        }
    }
}

/// The cryptlet of a name or id, as the register says.
pub(crate) async fn find(
    register: &RegisterClient,
    cryptlet: &CryptletRef,
) -> Result<Registration, DeveloperError> {
    if let Some(id) = cryptlet.id() {
        return register.registration(id).await;
    }
    let found = register.by_name(cryptlet.as_str()).await?;
    found.ok_or_else(|| DeveloperError::Unknown(cryptlet.to_string()))
}

async fn version_number(
    register: &RegisterClient,
    known: &Registration,
    word: &str,
) -> Result<u32, DeveloperError> {
    let versions = register.versions(known.cryptlet).await?;
    let labelled = versions.iter().find(|version| version.label == word);
    let numbered = || {
        versions
            .iter()
            .find(|version| version.number.to_string() == word)
    };
    let found = labelled.or_else(numbered);
    found
        .map(|version| version.number)
        .ok_or_else(|| DeveloperError::Unknown(format!("{} version {word}", known.name)))
}

/// A cryptlet to be changed by its owner.
pub(crate) struct Target<'a> {
    pub(crate) register: &'a RegisterClient,
    pub(crate) wallet: &'a Wallet,
    pub(crate) known: &'a Registration,
    pub(crate) patience: Duration,
}

impl Target<'_> {
    /// Tries the call, then sends it.
    pub(crate) async fn send<C: alloy_sol_types::SolCall>(
        &self,
        call: &C,
    ) -> Result<Mined, DeveloperError> {
        const REVOKING: &str = "cannot revoke";
        let from = self.wallet.address();
        match self.register.attempt(REVOKING, from, call).await? {
            Ok(()) => {
                let sent = self
                    .register
                    .send(REVOKING, self.wallet, call, self.patience);
                sent.await
            }
            Err(Revert::Register(abi::CryptletRegisterErrors::NotTheOwner(_))) => {
                Err(DeveloperError::NotTheOwner {
                    name: self.known.name.clone(),
                    owner: self.known.owner,
                    wallet: from,
                })
            }
            Err(revert) => Err(revert.refusal(REVOKING)),
        }
    }
}
