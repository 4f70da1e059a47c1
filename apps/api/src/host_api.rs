//! What a host can be asked: one method an operation. Implemented by the host, called by the server.

use crate::{
    types::{
        ApplicationInfo, ApplicationName, Bytes32, CallRequest, CreatedApplication, CreatedKey,
        CryptletDetail, CryptletRef, CryptletSummary, DelegationInfo, Document, Explanation,
        HostInfo, JobStateName, JobSummary, JobTrace, KeyInfo, NewApplication, NewApplicationKey,
        NewCodeAgreement, NewCodeKey, NewDelegation, NewKey, NewPackage, NewPolicy, Page,
        PageQuery, PolicyInfo, Result, Role, SearchText, SecretCodeInfo, StoredPackage,
        SubscriptionRow,
    },
    webhook::VerifyingKey,
};
use alloy_primitives::Bytes;
use async_trait::async_trait;
use cryptlet_types::event::Message;

/// Who asks, authenticated. For the host's own records; the role was checked before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Label of the token, or digest of the client certificate.
    pub name: String,
    /// What the caller may do.
    pub role: Role,
}

/// Which jobs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobQuery {
    /// Only those of this subscription.
    pub subject: Option<Bytes32>,
    /// Only those in this state.
    pub state: Option<JobStateName>,
    /// Which page.
    pub page: PageQuery,
}

/// What became of a message that the host has on disk now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was not there before.
    New,
    /// The same message was there already: nothing more happens.
    Known,
}

/// The host's side of the API. Requests have the documented form when they arrive here; whether they make sense is
/// for the host to say, with a [`crate::Problem`] that names the next step.
///
/// The server gives up a call after its time limit by dropping the future: what must not stop half-way belongs in a
/// task of its own.
#[async_trait]
pub trait HostApi: Send + Sync + 'static {
    /// The host about itself.
    async fn host(&self) -> Result<HostInfo>;
    /// Where the chain's delegate, register and policy are: the document that a node is started with. Anybody may ask;
    /// what pins it is a signature that comes by another way ([`HostInfo::delegate_signature`]).
    async fn delegate(&self) -> Result<Document>;
    /// Cryptlets of the register, by name; with `query`: whose name or id holds it.
    async fn cryptlets(
        &self,
        query: Option<SearchText>,
        page: PageQuery,
    ) -> Result<Page<CryptletSummary>>;
    /// One cryptlet.
    async fn cryptlet(&self, cryptlet: CryptletRef) -> Result<CryptletDetail>;
    /// The header document of a version (nothing: the current one), byte for byte as its digest says.
    async fn header(&self, cryptlet: CryptletRef, version: Option<u32>) -> Result<Bytes>;
    /// The image manifest of a version's package, byte for byte: its SHA-256 is the package's digest, and it names the
    /// digests of everything in it.
    async fn package(&self, cryptlet: CryptletRef, version: Option<u32>) -> Result<Bytes>;
    /// The source archive of a version, byte for byte. Not found if it is not revealed.
    async fn source(&self, cryptlet: CryptletRef, version: Option<u32>) -> Result<Bytes>;
    /// What manifest and code wish, what policy says, and what comes out.
    async fn explain(&self, cryptlet: CryptletRef) -> Result<Explanation>;
    /// Makes a signing key for a version to come.
    async fn create_key(&self, caller: &Caller, key: NewKey) -> Result<CreatedKey>;
    /// The vault's keys, public parts.
    async fn keys(&self, page: PageQuery) -> Result<Page<KeyInfo>>;
    /// Checks a package and takes it into the store. The same package again is no error.
    async fn store_package(&self, caller: &Caller, package: NewPackage) -> Result<StoredPackage>;
    /// What the host has of the secret code of a package, by the package's digest. Not found where it has no such package, or
    /// one whose code is not secret.
    async fn secret_code(&self, package: Bytes32) -> Result<SecretCodeInfo>;
    /// Takes the key of a package's secret code. The same key again is no error, another one is a conflict.
    async fn set_code_key(
        &self,
        caller: &Caller,
        package: Bytes32,
        key: NewCodeKey,
    ) -> Result<SecretCodeInfo>;
    /// Takes a counterparty's agreement, in the place of its earlier one if there is any.
    async fn add_code_agreement(
        &self,
        caller: &Caller,
        package: Bytes32,
        agreement: NewCodeAgreement,
    ) -> Result<SecretCodeInfo>;
    /// Subscriptions of the delegate.
    async fn subscriptions(&self, page: PageQuery) -> Result<Page<SubscriptionRow>>;
    /// Jobs, newest last.
    async fn jobs(&self, query: JobQuery) -> Result<Page<JobSummary>>;
    /// One job from event to receipt.
    async fn job(&self, job: Bytes32) -> Result<JobTrace>;
    /// Has a job tried again that was parked. A conflict if it is not.
    async fn retry_job(&self, caller: &Caller, job: Bytes32) -> Result<JobSummary>;
    /// The receipt file of a job, byte for byte.
    async fn receipt(&self, job: Bytes32) -> Result<Bytes>;
    /// The policy in force.
    async fn policy(&self) -> Result<PolicyInfo>;
    /// Takes a signed policy of a later epoch.
    async fn set_policy(&self, caller: &Caller, policy: NewPolicy) -> Result<PolicyInfo>;
    /// Delegations that the host has.
    async fn delegations(&self, page: PageQuery) -> Result<Page<DelegationInfo>>;
    /// Takes a signed delegation.
    async fn add_delegation(
        &self,
        caller: &Caller,
        delegation: NewDelegation,
    ) -> Result<DelegationInfo>;
    /// Registered applications, by name.
    async fn applications(&self, page: PageQuery) -> Result<Page<ApplicationInfo>>;
    /// Registers an application. A conflict if the name is taken.
    async fn add_application(
        &self,
        caller: &Caller,
        application: NewApplication,
    ) -> Result<CreatedApplication>;
    /// Gives an application a new key. The one before counts for as long as is said, an earlier one no more.
    async fn rotate_application(
        &self,
        caller: &Caller,
        application: ApplicationName,
        key: NewApplicationKey,
    ) -> Result<CreatedApplication>;
    /// Forgets an application and its keys, at once.
    async fn remove_application(&self, caller: &Caller, application: ApplicationName)
    -> Result<()>;
    /// What an application's signatures are checked with now; nothing: there is no such application.
    async fn application_keys(
        &self,
        application: &ApplicationName,
    ) -> Result<Option<Vec<VerifyingKey>>>;
    /// Takes what an application said, signature and form checked. Answers once it is durable. A conflict if another
    /// message of the application has the same id: other kind or data, whatever the moments say.
    async fn message(&self, message: Message) -> Result<Taken>;
    /// Answers a read of a contract (ERC-3668): the bytes that the contract's callback takes.
    async fn call(&self, request: CallRequest) -> Result<Bytes>;
}
