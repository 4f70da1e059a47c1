//! A host that holds everything in memory: one cryptlet, one subscription, one job.

use alloy_primitives::{Bytes, FixedBytes, keccak256};
use async_trait::async_trait;
use cryptlet_api::{
    Caller, HostApi, JobQuery, Problem, Taken,
    types::*,
    webhook::{VerifyingKey, secret_text},
};
use cryptlet_types::event::Message;
use std::{collections::BTreeMap, sync::Mutex, time::Duration};
use tokio::sync::Semaphore;

/// The name of the one cryptlet.
pub const NAME: &str = "gold-price";
/// Searching for this makes the host panic.
pub const PANIC: &str = "panic";
/// Searching for this makes the host wait forever; a key for it, until the host may go on.
pub const HANG: &str = "hang";

/// The one job.
pub fn job_id() -> Bytes32 {
    Hex(FixedBytes([7; 32]))
}

/// The job that is parked at first.
pub fn parked_id() -> Bytes32 {
    Hex(FixedBytes([8; 32]))
}

fn address(byte: u8) -> Bytes20 {
    Hex(FixedBytes([byte; 20]))
}

fn digest(byte: u8) -> Bytes32 {
    Hex(FixedBytes([byte; 32]))
}

fn id_of(publisher: Bytes20, name: &str) -> Bytes20 {
    let hash = keccak256([publisher.0.as_slice(), name.as_bytes()].concat());
    Hex(FixedBytes::from_slice(&hash[12..]))
}

fn unknown(what: impl std::fmt::Display) -> Problem {
    Problem::not_found(format!("there is no {what}"), "list what there is")
}

/// The host. Records who called what changes something.
pub struct Memory {
    pub calls: Mutex<Vec<(String, &'static str)>>,
    /// Who waits may go on by a permit.
    pub go_on: Semaphore,
    keys: Mutex<Vec<KeyInfo>>,
    delegations: Mutex<Vec<DelegationInfo>>,
    policy: Mutex<Option<PolicyInfo>>,
    applications: Mutex<BTreeMap<ApplicationName, (ApplicationInfo, Vec<VerifyingKey>)>>,
    /// Messages that were taken, oldest first.
    pub messages: Mutex<Vec<Message>>,
    parked: Mutex<JobStateName>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            calls: Mutex::default(),
            go_on: Semaphore::new(0),
            keys: Mutex::default(),
            delegations: Mutex::default(),
            policy: Mutex::default(),
            applications: Mutex::default(),
            messages: Mutex::default(),
            parked: Mutex::new(JobStateName::Parked),
        }
    }
}

impl Memory {
    fn note(&self, caller: &Caller, what: &'static str) {
        self.calls.lock().unwrap().push((caller.name.clone(), what));
    }

    fn find(&self, cryptlet: &CryptletRef) -> Result<()> {
        let id = id_of(address(1), NAME);
        if cryptlet.as_str() == NAME || cryptlet.id().is_some_and(|wanted| Hex::from(wanted) == id)
        {
            return Ok(());
        }
        Err(unknown(format_args!("cryptlet {cryptlet}")))
    }

    fn version(version: Option<u32>) -> Result<()> {
        match version {
            None | Some(1) => Ok(()),
            Some(other) => Err(unknown(format_args!("version {other}"))),
        }
    }

    fn summary() -> JobSummary {
        JobSummary {
            job: job_id(),
            subject: digest(6),
            cryptlet: id_of(address(1), NAME),
            due: 1_790_000_000,
            state: JobStateName::Delivered,
            attempts: 1,
            reason: None,
        }
    }

    fn parked(&self) -> JobSummary {
        let state = *self.parked.lock().unwrap();
        JobSummary {
            job: parked_id(),
            state,
            reason: (state == JobStateName::Parked).then(|| "the feed was down".to_owned()),
            ..Self::summary()
        }
    }

    fn key(new: Option<WebhookPublicKey>) -> (VerifyingKey, Option<String>) {
        match new {
            Some(public) => (VerifyingKey::Ed25519(public.bytes()), None),
            None => {
                let secret = VerifyingKey::new_secret();
                let text = secret_text(&secret).to_string();
                (VerifyingKey::Hmac(secret), Some(text))
            }
        }
    }

    fn find_job(job: Bytes32) -> Result<()> {
        if job == job_id() {
            return Ok(());
        }
        Err(unknown(format_args!("job {job}")))
    }

    fn verdict() -> Verdict {
        Verdict {
            allowed: true,
            reasons: Vec::new(),
            epoch: 1,
        }
    }
}

#[async_trait]
impl HostApi for Memory {
    async fn delegate(&self) -> Result<Document> {
        Ok(Document::default())
    }

    async fn host(&self) -> Result<HostInfo> {
        Ok(HostInfo {
            host: address(2),
            url: "https://localhost".to_owned(),
            authority: digest(3),
            chain_id: 1_337,
            rpc: None,
            delegate: address(4),
            delegate_signature: HexBytes(vec![7; 64].into()),
            first_block: 0,
            register: RegisterInfo {
                chain_id: 1_337,
                address: address(5),
                rpc: Some("http://127.0.0.1:8545".to_owned()),
                first_block: 0,
            },
            register_state: RegisterState {
                synced_block: 12,
                age_seconds: 1,
                stale: false,
            },
            policy: Some(PolicyMark {
                epoch: 1,
                digest: digest(8),
            }),
            version: "0.1.0".to_owned(),
        })
    }

    async fn cryptlets(
        &self,
        query: Option<SearchText>,
        page: PageQuery,
    ) -> Result<Page<CryptletSummary>> {
        match query.as_ref().map(SearchText::as_str) {
            Some(PANIC) => panic!("a fault of the host"),
            Some(HANG) => tokio::time::sleep(Duration::from_secs(3_600)).await,
            _ => {}
        }
        let found = query.is_none_or(|query| NAME.contains(query.as_str()));
        let summary = CryptletSummary {
            cryptlet: id_of(address(1), NAME),
            name: NAME.to_owned(),
            publisher: address(1),
            label: Some("0.1.0".to_owned()),
            description: None,
            revoked: false,
            stale: false,
        };
        Ok(page.cut(found.then_some(summary), |one| one.name.clone()))
    }

    async fn cryptlet(&self, cryptlet: CryptletRef) -> Result<CryptletDetail> {
        self.find(&cryptlet)?;
        Ok(CryptletDetail {
            cryptlet: id_of(address(1), NAME),
            name: NAME.to_owned(),
            description: Some("The price of gold.".to_owned()),
            publisher: address(1),
            owner: address(1),
            revoked: false,
            current: Some(1),
            versions: vec![VersionInfo {
                number: 1,
                label: "0.1.0".to_owned(),
                package_digest: digest(1),
                header_digest: digest(2),
                manifest_digest: digest(3),
                uri: String::new(),
                published_at: 1_790_000_000,
                revoked: false,
                stored: true,
            }],
            signers: vec![SignerInfo {
                signer: address(9),
                version: 1,
                expiry: 1_800_000_000,
                revoked: false,
            }],
            interface: Some(InterfaceInfo {
                contract: "GoldPrice".to_owned(),
                solidity: "interface GoldPrice {}".to_owned(),
                abi: vec![Document::of(&serde_json::json!({"type": "function"})).unwrap()],
            }),
            hosts: vec![HostRow {
                host: address(2),
                url: "https://localhost".to_owned(),
                authority: digest(3),
            }],
            policy: Self::verdict(),
            source: Source::Revealed(digest(4)),
            stale: false,
        })
    }

    async fn header(&self, cryptlet: CryptletRef, version: Option<u32>) -> Result<Bytes> {
        self.find(&cryptlet)?;
        Self::version(version)?;
        Ok(Bytes::from_static(b"{ \"version\": 1 }"))
    }

    async fn package(&self, cryptlet: CryptletRef, version: Option<u32>) -> Result<Bytes> {
        self.find(&cryptlet)?;
        Self::version(version)?;
        Ok(Bytes::from_static(b"{ \"schemaVersion\": 2 }"))
    }

    async fn source(&self, cryptlet: CryptletRef, version: Option<u32>) -> Result<Bytes> {
        self.find(&cryptlet)?;
        Self::version(version)?;
        Ok(Bytes::from_static(b"\x1f\x8b source"))
    }

    async fn explain(&self, cryptlet: CryptletRef) -> Result<Explanation> {
        self.find(&cryptlet)?;
        Ok(Explanation {
            cryptlet: id_of(address(1), NAME),
            name: NAME.to_owned(),
            version: 1,
            epoch: 1,
            rows: vec![ExplanationRow {
                aspect: "limits.fuel".to_owned(),
                wish: "200".to_owned(),
                policy: "at most 100".to_owned(),
                result: "100".to_owned(),
                overridden: true,
            }],
            verdict: Self::verdict(),
        })
    }

    async fn create_key(&self, caller: &Caller, key: NewKey) -> Result<CreatedKey> {
        self.note(caller, "createKey");
        if key.name.as_str() == HANG {
            let _ = self.go_on.acquire().await;
            self.note(caller, "createdKey");
        }
        let cryptlet = id_of(key.publisher, key.name.as_str());
        let mut keys = self.keys.lock().unwrap();
        let signer = id_of(cryptlet, &keys.len().to_string());
        if keys.len() < 1_000 {
            keys.push(KeyInfo {
                purpose: "cryptlet".to_owned(),
                cryptlet: Some(cryptlet),
                address: Some(signer),
                public_key: HexBytes(vec![4; 65].into()),
                current: true,
            });
        }
        Ok(CreatedKey { cryptlet, signer })
    }

    async fn keys(&self, page: PageQuery) -> Result<Page<KeyInfo>> {
        let key = |info: &KeyInfo| info.address.unwrap_or_default().to_string();
        let mut keys = self.keys.lock().unwrap().clone();
        keys.sort_by_key(key);
        Ok(page.cut(keys, key))
    }

    async fn store_package(&self, caller: &Caller, package: NewPackage) -> Result<StoredPackage> {
        self.note(caller, "storePackage");
        let hash = |part: &Base64| Hex(keccak256(&part.0));
        Ok(StoredPackage {
            cryptlet: id_of(address(1), NAME),
            name: NAME.to_owned(),
            label: "0.1.0".to_owned(),
            package_digest: hash(&package.index),
            header_digest: hash(&package.header),
            manifest_digest: hash(&package.manifest),
            uri: String::new(),
        })
    }

    async fn secret_code(&self, package: Bytes32) -> Result<SecretCodeInfo> {
        if package != digest(1) {
            return Err(unknown(format_args!("package {package}")));
        }
        Ok(SecretCodeInfo {
            package,
            has_key: true,
            counterparties: vec![Counterparty {
                account: address(1),
                code: None,
            }],
            ready: false,
        })
    }

    async fn set_code_key(
        &self,
        caller: &Caller,
        package: Bytes32,
        _: NewCodeKey,
    ) -> Result<SecretCodeInfo> {
        self.note(caller, "setCodeKey");
        self.secret_code(package).await
    }

    async fn add_code_agreement(
        &self,
        caller: &Caller,
        package: Bytes32,
        _: NewCodeAgreement,
    ) -> Result<SecretCodeInfo> {
        self.note(caller, "addCodeAgreement");
        self.secret_code(package).await
    }

    async fn subscriptions(&self, page: PageQuery) -> Result<Page<SubscriptionRow>> {
        let row = SubscriptionRow {
            subject: digest(6),
            consumer: address(10),
            cryptlet: id_of(address(1), NAME),
            name: Some(NAME.to_owned()),
            callback: Hex(FixedBytes([1; 4])),
            callback_gas: 100_000,
            validity: 3_600,
            trigger: "0 16 * * 1-5 Europe/Berlin".to_owned(),
            params: HexBytes::default(),
            on_behalf_of: None,
            since: 1_790_000_000,
            next_due: Some(1_790_003_600),
            refused: None,
        };
        Ok(page.cut([row], |row| row.subject.to_string()))
    }

    async fn jobs(&self, query: JobQuery) -> Result<Page<JobSummary>> {
        let wanted = |job: &JobSummary| {
            query.subject.is_none_or(|subject| subject == job.subject)
                && query.state.is_none_or(|state| state == job.state)
        };
        let jobs = [Self::summary(), self.parked()].into_iter().filter(wanted);
        Ok(query.page.cut(jobs, |job| job.job.to_string()))
    }

    async fn job(&self, job: Bytes32) -> Result<JobTrace> {
        Self::find_job(job)?;
        Ok(JobTrace {
            summary: Self::summary(),
            consumer: address(10),
            package_digest: digest(1),
            policy_epoch: 1,
            steps: vec![Step {
                at_millis: 1_790_000_000_123,
                state: JobStateName::Routed,
                note: None,
            }],
            transaction: Some(TransactionInfo {
                hash: digest(11),
                block: 13,
                callback_succeeded: true,
            }),
            receipt: true,
        })
    }

    async fn receipt(&self, job: Bytes32) -> Result<Bytes> {
        Self::find_job(job)?;
        Ok(Bytes::from_static(b"{\"version\":1}"))
    }

    async fn policy(&self) -> Result<PolicyInfo> {
        let policy = self.policy.lock().unwrap().clone();
        policy.ok_or_else(|| unknown("policy"))
    }

    async fn set_policy(&self, caller: &Caller, policy: NewPolicy) -> Result<PolicyInfo> {
        self.note(caller, "setPolicy");
        let info = PolicyInfo {
            epoch: 2,
            digest: digest(12),
            uri: String::new(),
            policy: policy.policy,
            approvals: policy.approvals,
            confirmed: false,
        };
        *self.policy.lock().unwrap() = Some(info.clone());
        Ok(info)
    }

    async fn delegations(&self, page: PageQuery) -> Result<Page<DelegationInfo>> {
        let key = |info: &DelegationInfo| info.digest.to_string();
        let mut delegations = self.delegations.lock().unwrap().clone();
        delegations.sort_by_key(key);
        Ok(page.cut(delegations, key))
    }

    async fn add_delegation(
        &self,
        caller: &Caller,
        delegation: NewDelegation,
    ) -> Result<DelegationInfo> {
        self.note(caller, "addDelegation");
        let body = delegation.delegation;
        let info = DelegationInfo {
            digest: Hex(keccak256(serde_json::to_vec(&body).unwrap())),
            delegation: body,
            revoked: Some(false),
        };
        let mut delegations = self.delegations.lock().unwrap();
        if delegations.len() < 1_000 && !delegations.contains(&info) {
            delegations.push(info.clone());
        }
        Ok(info)
    }

    async fn retry_job(&self, caller: &Caller, job: Bytes32) -> Result<JobSummary> {
        self.note(caller, "retryJob");
        if job != parked_id() {
            Self::find_job(job)?;
        }
        let mut state = self.parked.lock().unwrap();
        if job != parked_id() || *state != JobStateName::Parked {
            return Err(Problem::conflict("it is not parked", "list those that are"));
        }
        *state = JobStateName::Routed;
        drop(state);
        Ok(self.parked())
    }

    async fn applications(&self, page: PageQuery) -> Result<Page<ApplicationInfo>> {
        let applications = self.applications.lock().unwrap();
        let infos = applications.values().map(|(info, _)| info.clone());
        Ok(page.cut(infos, |info| info.name.to_string()))
    }

    async fn add_application(
        &self,
        caller: &Caller,
        application: NewApplication,
    ) -> Result<CreatedApplication> {
        self.note(caller, "addApplication");
        let NewApplication {
            name,
            kind,
            public_key,
        } = application;
        if (kind == ApplicationKind::Ed25519) != public_key.is_some() {
            return Err(Problem::refused("publicKey", "send it for ed25519 alone"));
        }
        let mut applications = self.applications.lock().unwrap();
        if applications.contains_key(&name) {
            return Err(Problem::conflict("the name is taken", "take another"));
        }
        let (key, secret) = Self::key(public_key);
        let info = ApplicationInfo {
            name: name.clone(),
            kind,
            created: 1_790_000_000,
            keys: vec![ApplicationKeyInfo {
                created: 1_790_000_000,
                expires: None,
                public_key,
            }],
        };
        if applications.len() < 1_000 {
            applications.insert(name, (info.clone(), vec![key]));
        }
        Ok(CreatedApplication { secret, info })
    }

    async fn rotate_application(
        &self,
        caller: &Caller,
        application: ApplicationName,
        key: NewApplicationKey,
    ) -> Result<CreatedApplication> {
        self.note(caller, "rotateApplication");
        let mut applications = self.applications.lock().unwrap();
        let found = applications.get_mut(&application);
        let (info, keys) = found.ok_or_else(|| unknown("application"))?;
        let (key, secret) = Self::key(key.public_key);
        keys.insert(0, key);
        keys.truncate(2);
        let info = info.clone();
        Ok(CreatedApplication { secret, info })
    }

    async fn remove_application(
        &self,
        caller: &Caller,
        application: ApplicationName,
    ) -> Result<()> {
        self.note(caller, "removeApplication");
        let removed = self.applications.lock().unwrap().remove(&application);
        removed.map(drop).ok_or_else(|| unknown("application"))
    }

    async fn application_keys(
        &self,
        application: &ApplicationName,
    ) -> Result<Option<Vec<VerifyingKey>>> {
        let applications = self.applications.lock().unwrap();
        Ok(applications.get(application).map(|(_, keys)| keys.clone()))
    }

    async fn message(&self, message: Message) -> Result<Taken> {
        if message.id == HANG {
            let caller = Caller {
                name: message.application.clone(),
                role: Role::Reader,
            };
            self.note(&caller, "message");
            let _ = self.go_on.acquire().await;
        }
        let mut messages = self.messages.lock().unwrap();
        let same = |known: &&Message| {
            (&known.application, &known.id) == (&message.application, &message.id)
        };
        let Some(known) = messages.iter().find(same) else {
            messages.push(message);
            return Ok(Taken::New);
        };
        if (&known.kind, &known.data) == (&message.kind, &message.data) {
            return Ok(Taken::Known);
        }
        Err(Problem::conflict(
            "webhook-id: another message of the application has it",
            "give each message an id of its own",
        ))
    }

    async fn call(&self, request: CallRequest) -> Result<Bytes> {
        if request.data.0.first() == Some(&0xff) {
            let _ = self.go_on.acquire().await;
        }
        Ok([request.sender.0.as_slice(), &request.data.0]
            .concat()
            .into())
    }
}
