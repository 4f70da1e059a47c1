//! What the host answers to those who ask over HTTPS ([`cryptlet_api::HostApi`]).
//!
//! `cryptlets`: the register, as this host knows it; `explain`: wish, policy's word, result; `publish`: keys and packages
//! of versions to come; `secret_code`: keys of secret code, and agreements to it; `jobs`: subscriptions and jobs; `admin`: keys,
//! policy, delegations; `applications`: who may send messages; `serve`: certificates, tokens, the listener.

mod admin;
mod applications;
mod calls;
mod cryptlets;
mod explain;
mod jobs;
mod problems;
mod publish;
mod secret_code;
mod serve;

pub use serve::ApiServer;
pub(crate) use serve::{Shown, own_authority, tokens};

use self::calls::JournalAnswers;
use crate::{
    ApiConfig, HostError, Parts, applications::Applications, calls::Calls,
    delegations::Delegations, desk::Desk, manifests::Manifests, secret_codes::SecretCodeStore,
    spare_keys::SpareKeys,
};
use alloy_primitives::{Address, Bytes};
use async_trait::async_trait;
use cryptlet_api::{
    Caller, HostApi, JobQuery, Problem, Taken,
    types::{
        ApplicationInfo, ApplicationName, CallRequest, CreatedApplication, CreatedKey,
        CryptletDetail, CryptletRef, CryptletSummary, DelegationInfo, Document, Explanation, Hex,
        HexBytes, HostInfo, JobSummary, JobTrace, KeyInfo, NewApplication, NewApplicationKey,
        NewCodeAgreement, NewCodeKey, NewDelegation, NewKey, NewPackage, NewPolicy, Page,
        PageQuery, PolicyInfo, PolicyMark, RegisterInfo, RegisterState, Result, SearchText,
        SecretCodeInfo, StoredPackage, SubscriptionRow,
    },
    webhook::VerifyingKey,
};
use cryptlet_chain::Chain;
use cryptlet_journal::Journal;
use cryptlet_register::Replica;
use cryptlet_route::Router;
use cryptlet_types::{DelegateDescriptor, Sha256Digest, event::Message, report::CompactSignature};
use cryptlet_vault::{KeyId, Vault};
use std::sync::Arc;
use tokio::sync::Mutex;

/// A host, as its callers see it.
pub(crate) struct Service {
    journal: Arc<Journal>,
    replica: Arc<Replica>,
    vault: Arc<dyn Vault>,
    chain: Arc<dyn Chain>,
    rules: Arc<crate::Rules>,
    router: Arc<Router>,
    manifests: Arc<Manifests>,
    delegations: Arc<Delegations>,
    secret_codes: Option<Arc<SecretCodeStore>>,
    spare_keys: Mutex<SpareKeys>,
    applications: Applications,
    desk: Desk,
    calls: Calls<JournalAnswers>,
    clock: crate::HostClock,
    calendars: Arc<cryptlet_watch::Calendars>,
    about: About,
}

/// What the API itself keeps, and whom it talks to.
pub(crate) struct Kept {
    /// Who asked for keys.
    pub(crate) spare_keys: SpareKeys,
    /// Who may send messages.
    pub(crate) applications: Applications,
    /// Where the API meets the path.
    pub(crate) desk: Desk,
}

/// What never changes while the host runs.
pub(crate) struct About {
    host: Address,
    url: String,
    authority: Hex<32>,
    rpc: Option<String>,
    register_rpc: Option<String>,
    first_block: u64,
    register_first_block: u64,
    descriptor: DelegateDescriptor,
    signature: CompactSignature,
}

impl Service {
    /// A host that serves at `url` with this authority.
    ///
    /// # Errors
    /// The vault does not sign.
    pub(crate) async fn new(
        parts: &Parts,
        router: Arc<Router>,
        config: &ApiConfig,
        url: String,
        authority: Hex<32>,
        kept: Kept,
    ) -> std::result::Result<Self, HostError> {
        // Where the register is on the delegate's chain, callers reach it there.
        let shared = parts.rules.domain().chain_id == parts.chain.domain().chain_id;
        let register_rpc = config.register_rpc.clone();
        let register_rpc = register_rpc.or_else(|| config.rpc.clone().filter(|_| shared));
        let descriptor = DelegateDescriptor {
            version: 1,
            delegate: parts.chain.domain(),
            register: parts.rules.domain(),
            register_rpc: register_rpc.clone().unwrap_or_default(),
            policy: format!("{url}/v1/policy"),
            host: parts.host,
            authority: Sha256Digest(authority.0),
        };
        let signature = parts.vault.sign(&KeyId::Host, descriptor.digest()?).await?;
        Ok(Self {
            journal: parts.journal.clone(),
            replica: parts.replica.clone(),
            vault: parts.vault.clone(),
            chain: parts.chain.clone(),
            rules: parts.rules.clone(),
            router,
            manifests: parts.manifests.clone(),
            delegations: parts.delegations.clone(),
            secret_codes: parts.secret_codes.clone(),
            spare_keys: Mutex::new(kept.spare_keys),
            applications: kept.applications,
            desk: kept.desk,
            calls: Calls::new(JournalAnswers(parts.journal.clone())),
            clock: parts.clock.clone(),
            calendars: parts.calendars.clone(),
            about: About {
                host: parts.host,
                url,
                authority,
                rpc: config.rpc.clone(),
                register_rpc,
                first_block: parts.first_block,
                register_first_block: parts.register_first_block,
                descriptor,
                signature,
            },
        })
    }

    fn info(&self) -> HostInfo {
        let standing = self.rules.standing();
        let now = self.clock.now();
        let domain = self.chain.domain();
        let register = self.rules.domain();
        let mark = |policy: &Arc<cryptlet_types::policy::PolicyInForce>| PolicyMark {
            epoch: policy.policy.epoch,
            digest: policy.digest.0.into(),
        };
        HostInfo {
            host: self.about.host.into(),
            url: self.about.url.clone(),
            authority: self.about.authority,
            chain_id: domain.chain_id,
            rpc: self.about.rpc.clone(),
            delegate: domain.delegate.into(),
            delegate_signature: HexBytes(self.about.signature.to_bytes()),
            first_block: self.about.first_block,
            register: RegisterInfo {
                chain_id: register.chain_id,
                address: register.register.into(),
                rpc: self.about.register_rpc.clone(),
                first_block: self.about.register_first_block,
            },
            register_state: RegisterState {
                synced_block: standing.synced.map_or(0, |synced| synced.block),
                age_seconds: standing.freshness(now).age_seconds.unwrap_or(u64::MAX),
                stale: standing.is_stale(now),
            },
            policy: standing.policy.as_ref().map(mark),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

#[async_trait]
impl HostApi for Service {
    async fn host(&self) -> Result<HostInfo> {
        Ok(self.info())
    }

    async fn delegate(&self) -> Result<Document> {
        Document::of(&self.about.descriptor).map_err(|error| Problem::internal(&error))
    }

    async fn cryptlets(
        &self,
        query: Option<SearchText>,
        page: PageQuery,
    ) -> Result<Page<CryptletSummary>> {
        self.find_cryptlets(query, page).await
    }

    async fn cryptlet(&self, cryptlet: CryptletRef) -> Result<CryptletDetail> {
        self.show_cryptlet(cryptlet).await
    }

    async fn header(&self, cryptlet: CryptletRef, version: Option<u32>) -> Result<Bytes> {
        self.header_of(cryptlet, version).await
    }

    async fn package(&self, cryptlet: CryptletRef, version: Option<u32>) -> Result<Bytes> {
        self.package_of(cryptlet, version).await
    }

    async fn source(&self, cryptlet: CryptletRef, version: Option<u32>) -> Result<Bytes> {
        self.source_of(cryptlet, version).await
    }

    async fn explain(&self, cryptlet: CryptletRef) -> Result<Explanation> {
        self.explain_cryptlet(cryptlet).await
    }

    async fn create_key(&self, caller: &Caller, key: NewKey) -> Result<CreatedKey> {
        self.make_key(caller, key).await
    }

    async fn keys(&self, page: PageQuery) -> Result<Page<KeyInfo>> {
        self.list_keys(&page).await
    }

    async fn store_package(&self, caller: &Caller, package: NewPackage) -> Result<StoredPackage> {
        self.take_package(caller, package).await
    }

    async fn secret_code(&self, package: Hex<32>) -> Result<SecretCodeInfo> {
        self.show_secret_code(package).await
    }

    async fn set_code_key(
        &self,
        caller: &Caller,
        package: Hex<32>,
        key: NewCodeKey,
    ) -> Result<SecretCodeInfo> {
        self.take_code_key(caller, package, key).await
    }

    async fn add_code_agreement(
        &self,
        caller: &Caller,
        package: Hex<32>,
        agreement: NewCodeAgreement,
    ) -> Result<SecretCodeInfo> {
        self.take_code_agreement(caller, package, agreement).await
    }

    async fn subscriptions(&self, page: PageQuery) -> Result<Page<SubscriptionRow>> {
        self.list_subscriptions(&page).await
    }

    async fn jobs(&self, query: JobQuery) -> Result<Page<JobSummary>> {
        self.list_jobs(query).await
    }

    async fn job(&self, job: Hex<32>) -> Result<JobTrace> {
        self.trace_job(job).await
    }

    async fn receipt(&self, job: Hex<32>) -> Result<Bytes> {
        self.receipt_of(job).await
    }

    async fn policy(&self) -> Result<PolicyInfo> {
        self.show_policy().await
    }

    async fn set_policy(&self, caller: &Caller, policy: NewPolicy) -> Result<PolicyInfo> {
        self.install_policy(caller, policy).await
    }

    async fn delegations(&self, page: PageQuery) -> Result<Page<DelegationInfo>> {
        self.list_delegations(&page).await
    }

    async fn add_delegation(
        &self,
        caller: &Caller,
        delegation: NewDelegation,
    ) -> Result<DelegationInfo> {
        self.take_delegation(caller, delegation).await
    }

    async fn retry_job(&self, caller: &Caller, job: Hex<32>) -> Result<JobSummary> {
        self.try_job_again(caller, job).await
    }

    async fn applications(&self, page: PageQuery) -> Result<Page<ApplicationInfo>> {
        Ok(self.list_applications(&page).await)
    }

    async fn add_application(
        &self,
        caller: &Caller,
        application: NewApplication,
    ) -> Result<CreatedApplication> {
        self.register_application(caller, application).await
    }

    async fn rotate_application(
        &self,
        caller: &Caller,
        application: ApplicationName,
        key: NewApplicationKey,
    ) -> Result<CreatedApplication> {
        self.exchange_key(caller, application, key).await
    }

    async fn remove_application(
        &self,
        caller: &Caller,
        application: ApplicationName,
    ) -> Result<()> {
        self.forget_application(caller, application).await
    }

    async fn application_keys(
        &self,
        application: &ApplicationName,
    ) -> Result<Option<Vec<VerifyingKey>>> {
        self.keys_of_application(application).await
    }

    async fn message(&self, message: Message) -> Result<Taken> {
        self.take_message(message).await
    }

    async fn call(&self, request: CallRequest) -> Result<Bytes> {
        self.answer_call(request).await
    }
}
