//! A host in memory: what the register's chain says, and packages that were handed in. It can be told to lie.

use alloy::primitives::{Address, Bytes, keccak256};
use async_trait::async_trait;
use cryptlet_api::{Caller, HostApi, JobQuery, Problem, Taken, types::*, webhook::VerifyingKey};
use cryptlet_developer::{DeveloperError, RegisterClient, Registration};
use cryptlet_header::Header;
use cryptlet_seal::package::{self, PackageFiles};
use cryptlet_types::{CryptletId, ReportDomain, Sha256Digest, event::Message, region::Package};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

/// What the host does wrong.
#[derive(Clone, Debug, Default)]
pub struct Wrongs {
    /// Packages are not taken: the host is busy.
    pub busy: bool,
    /// Stored packages are said to have another digest.
    pub other_package: bool,
    /// Bytes that are given out as header.
    pub header: Option<Vec<u8>>,
    /// Digest that is said to be the header's.
    pub header_digest: Option<Sha256Digest>,
    /// The version that is said to be in force, as it was published, though it may be revoked.
    pub current: Option<u32>,
    /// Bytes that are given out as image manifest.
    pub index: Option<Bytes>,
    /// Bytes that are given out as source.
    pub source: Option<Bytes>,
    /// The node of the register's chain is not named.
    pub no_rpc: bool,
    /// So many looks at the host find it behind the register's chain.
    pub behind: u32,
    /// Delegations are said to have another digest.
    pub other_delegation: bool,
}

/// The host.
pub struct MemoryHost {
    pub wrongs: Mutex<Wrongs>,
    pub keys: Mutex<Vec<(CryptletId, Address)>>,
    packages: Mutex<HashMap<Sha256Digest, PackageFiles>>,
    /// Keys of secret code, by package.
    pub code_keys: Mutex<HashMap<Bytes32, NewCodeKey>>,
    /// Who agreed to secret code, as it came in.
    pub agreements: Mutex<Vec<(Bytes32, NewCodeAgreement)>>,
    delegations: Mutex<Vec<DelegationInfo>>,
    policy: Mutex<Option<PolicyInfo>>,
    register: RegisterClient,
    delegate: ReportDomain,
    rpc: String,
    url: String,
    authority: Bytes32,
}

impl MemoryHost {
    pub fn new(
        register: RegisterClient,
        delegate: ReportDomain,
        rpc: String,
        url: String,
        authority: Bytes32,
    ) -> Self {
        Self {
            wrongs: Mutex::default(),
            keys: Mutex::default(),
            packages: Mutex::default(),
            code_keys: Mutex::default(),
            agreements: Mutex::default(),
            delegations: Mutex::default(),
            policy: Mutex::default(),
            register,
            delegate,
            rpc,
            url,
            authority,
        }
    }

    pub fn wrongs(&self) -> MutexGuard<'_, Wrongs> {
        self.wrongs.lock().unwrap()
    }

    pub fn key_count(&self) -> usize {
        self.keys.lock().unwrap().len()
    }

    fn files(&self, digest: Sha256Digest) -> Option<PackageFiles> {
        self.packages.lock().unwrap().get(&digest).cloned()
    }

    async fn version_files(
        &self,
        cryptlet: &CryptletRef,
        version: Option<u32>,
    ) -> Result<PackageFiles> {
        let known = self.find(cryptlet).await?;
        let number = version.unwrap();
        let record = self.register.version(known.cryptlet, number).await;
        Ok(self.files(record.unwrap().unwrap().package).unwrap())
    }

    async fn find(&self, cryptlet: &CryptletRef) -> Result<Registration> {
        let found = match cryptlet.id() {
            Some(id) => self.register.registration(id).await.map(Some),
            None => self.register.by_name(cryptlet.as_str()).await,
        };
        match found {
            Ok(Some(found)) => Ok(found),
            Ok(None) | Err(DeveloperError::Unknown(_)) => Err(Problem::not_found(
                format!("there is no cryptlet {cryptlet}"),
                "search for it",
            )),
            Err(error) => Err(Problem::internal(&error)),
        }
    }
}

/// The source's digest in the package of the version in force.
fn records_source(
    packages: &HashMap<Sha256Digest, PackageFiles>,
    versions: &[VersionInfo],
    current: Option<u32>,
) -> Source {
    let current = versions
        .iter()
        .find(|version| Some(version.number) == current);
    let files = current.and_then(|current| packages.get(&current.package_digest.into()));
    let source = files.and_then(|files| files.source.as_ref());
    source.map_or(Source::NotRevealed, |source| {
        Source::Revealed(cryptlet_seal::sha256(source).into())
    })
}

fn unused<T>() -> Result<T> {
    Err(Problem::refused("not a part of these tests", "nothing"))
}

#[async_trait]
impl HostApi for MemoryHost {
    async fn host(&self) -> Result<HostInfo> {
        let rpc = (!self.wrongs().no_rpc).then(|| self.rpc.clone());
        let newest = self.register.block_number().await.unwrap();
        let behind = self.wrongs().behind;
        self.wrongs().behind = behind.saturating_sub(1);
        Ok(HostInfo {
            host: Address::repeat_byte(0x40).into(),
            url: self.url.clone(),
            authority: self.authority,
            chain_id: self.delegate.chain_id,
            rpc: rpc.clone(),
            delegate: self.delegate.delegate.into(),
            delegate_signature: HexBytes(vec![7; 64].into()),
            first_block: 0,
            register: RegisterInfo {
                chain_id: self.register.domain().chain_id,
                address: self.register.domain().register.into(),
                rpc,
                first_block: 0,
            },
            register_state: RegisterState {
                synced_block: if behind > 0 { 0 } else { newest },
                age_seconds: 0,
                stale: false,
            },
            policy: None,
            version: "0.1.0".into(),
        })
    }

    async fn delegate(&self) -> Result<Document> {
        unused()
    }

    async fn cryptlets(
        &self,
        _: Option<SearchText>,
        _: PageQuery,
    ) -> Result<Page<CryptletSummary>> {
        unused()
    }

    async fn cryptlet(&self, cryptlet: CryptletRef) -> Result<CryptletDetail> {
        let known = self.find(&cryptlet).await?;
        let wrongs = self.wrongs().clone();
        let records = self.register.versions(known.cryptlet).await.unwrap();
        let mut signers = Vec::new();
        let keys = self.keys.lock().unwrap().clone();
        for (_, key) in keys.iter().filter(|(id, _)| *id == known.cryptlet) {
            let found = self.register.signer(known.cryptlet, *key).await.unwrap();
            signers.extend(found.map(|found| SignerInfo {
                signer: found.signer.into(),
                version: found.version,
                expiry: found.expiry,
                revoked: found.revoked,
            }));
        }
        let mut hosts = Vec::new();
        for host in self.register.hosts_of(known.cryptlet).await.unwrap() {
            let found = self.register.host(host).await.unwrap();
            hosts.extend(found.map(|found| HostRow {
                host: found.host.into(),
                url: found.url,
                authority: found.authority.into(),
            }));
        }
        let current = records.iter().rev().find(|version| !version.revoked);
        let current = wrongs.current.or(current.map(|version| version.number));
        let versions = records.into_iter().map(|version| VersionInfo {
            number: version.number,
            label: version.label,
            package_digest: version.package.into(),
            header_digest: wrongs.header_digest.unwrap_or(version.header).into(),
            manifest_digest: version.manifest.into(),
            uri: version.uri,
            published_at: version.published_at,
            revoked: version.revoked && wrongs.current != Some(version.number),
            stored: true,
        });
        let versions: Vec<_> = versions.collect();
        let source = records_source(&self.packages.lock().unwrap(), &versions, current);
        Ok(CryptletDetail {
            cryptlet: known.cryptlet.into(),
            name: known.name,
            description: None,
            publisher: known.publisher.into(),
            owner: known.owner.into(),
            revoked: known.revoked && wrongs.current.is_none(),
            current,
            versions,
            signers,
            interface: None,
            hosts,
            policy: Verdict {
                allowed: true,
                reasons: vec![],
                epoch: 1,
            },
            source,
            stale: false,
        })
    }

    async fn header(&self, cryptlet: CryptletRef, version: Option<u32>) -> Result<Bytes> {
        let files = self.version_files(&cryptlet, version).await?;
        let lie = self.wrongs().header.clone();
        Ok(lie.map_or(files.header, Bytes::from))
    }

    async fn package(&self, cryptlet: CryptletRef, version: Option<u32>) -> Result<Bytes> {
        let files = self.version_files(&cryptlet, version).await?;
        let lie = self.wrongs().index.clone();
        Ok(lie.unwrap_or(files.package.index))
    }

    async fn source(&self, cryptlet: CryptletRef, version: Option<u32>) -> Result<Bytes> {
        let files = self.version_files(&cryptlet, version).await?;
        let lie = self.wrongs().source.clone();
        Ok(lie.or(files.source).unwrap())
    }

    async fn explain(&self, _: CryptletRef) -> Result<Explanation> {
        unused()
    }

    async fn create_key(&self, _: &Caller, key: NewKey) -> Result<CreatedKey> {
        let cryptlet = CryptletId::derive(key.publisher.into(), key.name.as_str());
        let last = {
            let keys = self.keys.lock().unwrap();
            keys.iter().rfind(|(id, _)| *id == cryptlet).copied()
        };
        // The one that no version uses yet, if there is one.
        if let Some((_, signer)) = last
            && self
                .register
                .signer(cryptlet, signer)
                .await
                .unwrap()
                .is_none()
        {
            return Ok(CreatedKey {
                cryptlet: cryptlet.into(),
                signer: signer.into(),
            });
        }
        let mut keys = self.keys.lock().unwrap();
        let number = u64::try_from(keys.len()).unwrap();
        let signer = Address::from_word(keccak256(
            [cryptlet.0.as_slice(), &number.to_be_bytes()].concat(),
        ));
        keys.push((cryptlet, signer));
        Ok(CreatedKey {
            cryptlet: cryptlet.into(),
            signer: signer.into(),
        })
    }

    async fn keys(&self, _: PageQuery) -> Result<Page<KeyInfo>> {
        unused()
    }

    async fn store_package(&self, _: &Caller, package: NewPackage) -> Result<StoredPackage> {
        let wrongs = self.wrongs().clone();
        if wrongs.busy {
            return Err(Problem::unavailable("the disk is full"));
        }
        let files = PackageFiles {
            package: Package {
                index: package.index.0,
                manifest: package.manifest.0,
                code: package.code.0,
            },
            header: package.header.0,
            source: package.source.map(|source| source.0),
        };
        let opened = package::open_files(&files).unwrap();
        let header = Header::from_json(&files.header).unwrap();
        let key = (header.cryptlet(), opened.manifest.public_key);
        if !self.keys.lock().unwrap().contains(&key) {
            return Err(Problem::refused(
                "publicKey: is not a key of this host",
                "make one",
            ));
        }
        self.packages.lock().unwrap().insert(opened.digest, files);
        let said = if wrongs.other_package {
            opened.header
        } else {
            opened.digest
        };
        Ok(StoredPackage {
            cryptlet: header.cryptlet().into(),
            name: opened.manifest.name,
            label: opened.manifest.version,
            package_digest: said.into(),
            header_digest: opened.header.into(),
            manifest_digest: opened.manifest_digest.into(),
            uri: String::new(),
        })
    }

    async fn secret_code(&self, package: Bytes32) -> Result<SecretCodeInfo> {
        Ok(SecretCodeInfo {
            package,
            has_key: self.code_keys.lock().unwrap().contains_key(&package),
            counterparties: vec![],
            ready: false,
        })
    }

    async fn set_code_key(
        &self,
        _: &Caller,
        package: Bytes32,
        key: NewCodeKey,
    ) -> Result<SecretCodeInfo> {
        self.code_keys.lock().unwrap().insert(package, key);
        self.secret_code(package).await
    }

    async fn add_code_agreement(
        &self,
        _: &Caller,
        package: Bytes32,
        agreement: NewCodeAgreement,
    ) -> Result<SecretCodeInfo> {
        self.agreements.lock().unwrap().push((package, agreement));
        self.secret_code(package).await
    }

    async fn subscriptions(&self, _: PageQuery) -> Result<Page<SubscriptionRow>> {
        unused()
    }

    async fn jobs(&self, _: JobQuery) -> Result<Page<JobSummary>> {
        unused()
    }

    async fn job(&self, _: Bytes32) -> Result<JobTrace> {
        unused()
    }

    async fn receipt(&self, _: Bytes32) -> Result<Bytes> {
        unused()
    }

    async fn retry_job(&self, _: &Caller, _: Bytes32) -> Result<JobSummary> {
        unused()
    }

    async fn applications(&self, _: PageQuery) -> Result<Page<ApplicationInfo>> {
        unused()
    }

    async fn add_application(&self, _: &Caller, _: NewApplication) -> Result<CreatedApplication> {
        unused()
    }

    async fn rotate_application(
        &self,
        _: &Caller,
        _: ApplicationName,
        _: NewApplicationKey,
    ) -> Result<CreatedApplication> {
        unused()
    }

    async fn remove_application(&self, _: &Caller, _: ApplicationName) -> Result<()> {
        unused()
    }

    async fn application_keys(&self, _: &ApplicationName) -> Result<Option<Vec<VerifyingKey>>> {
        unused()
    }

    async fn message(&self, _: Message) -> Result<Taken> {
        unused()
    }

    async fn call(&self, _: CallRequest) -> Result<Bytes> {
        unused()
    }

    async fn policy(&self) -> Result<PolicyInfo> {
        let policy = self.policy.lock().unwrap().clone();
        policy.ok_or_else(|| Problem::not_found("no policy", "set one"))
    }

    async fn set_policy(&self, _: &Caller, policy: NewPolicy) -> Result<PolicyInfo> {
        if self.wrongs().behind > 0 {
            return Err(Problem::refused(
                "not the register's policy",
                "set it there",
            ));
        }
        let record = self.register.policy().await.unwrap().unwrap();
        let info = PolicyInfo {
            epoch: record.epoch,
            digest: record.digest.into(),
            uri: record.uri,
            policy: policy.policy,
            approvals: policy.approvals,
            confirmed: true,
        };
        *self.policy.lock().unwrap() = Some(info.clone());
        Ok(info)
    }

    async fn delegations(&self, page: PageQuery) -> Result<Page<DelegationInfo>> {
        let all = self.delegations.lock().unwrap().clone();
        Ok(page.cut(all, |known| known.digest.to_string()))
    }

    async fn add_delegation(&self, _: &Caller, new: NewDelegation) -> Result<DelegationInfo> {
        let body = &new.delegation;
        let delegation = cryptlet_types::Delegation {
            identity: body.identity.into(),
            cryptlet: body.cryptlet.into(),
            consumer: body.consumer.into(),
            callback: body.callback.0,
            expiry: body.expiry.get(),
            salt: body.salt.0,
        };
        let mut digest = delegation.digest(&self.delegate);
        if self.wrongs().other_delegation {
            digest = keccak256(digest);
        }
        let info = DelegationInfo {
            digest: digest.into(),
            delegation: new.delegation,
            revoked: Some(false),
        };
        self.delegations.lock().unwrap().push(info.clone());
        Ok(info)
    }
}
