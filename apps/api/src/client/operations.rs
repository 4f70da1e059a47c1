//! One method an operation.

use super::{Client, ClientError, ClientResult};
use crate::{
    host_api::JobQuery,
    routes::MAX_PACKAGE_BYTES,
    types::{
        ApplicationInfo, ApplicationName, Bytes32, CallAnswer, CallRequest, CreatedApplication,
        CreatedKey, CreatedToken, CryptletDetail, CryptletRef, CryptletSummary, DelegationInfo,
        Document, Explanation, Health, HostInfo, JobSummary, JobTrace, KeyInfo, MessageReceipt,
        NewApplication, NewApplicationKey, NewCodeAgreement, NewCodeKey, NewDelegation, NewKey,
        NewPackage, NewPolicy, NewToken, Page, PageQuery, PolicyInfo, SearchText, SecretCodeInfo,
        StoredPackage, SubscriptionRow, TokenId, TokenInfo,
    },
    webhook::{self, SigningKey},
};
use alloy_primitives::Bytes;
use cryptlet_types::UnixSeconds;
use reqwest::{Method, header::CONTENT_TYPE};

type Query = Vec<(&'static str, String)>;

fn page(page: &PageQuery) -> Query {
    let limit = page.limit.map(|limit| ("limit", limit.get().to_string()));
    let after = page
        .after
        .as_ref()
        .map(|after| ("after", after.to_string()));
    limit.into_iter().chain(after).collect()
}

fn version(version: Option<u32>) -> Query {
    version
        .map(|version| ("version", version.to_string()))
        .into_iter()
        .collect()
}

/// A message of an application.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'m> {
    /// The application's id of it: the same id is the same message.
    pub id: &'m str,
    /// The moment of this attempt.
    pub at: UnixSeconds,
    /// What the body is.
    pub media_type: &'m str,
    /// What it says.
    pub body: &'m [u8],
}

/// Every method fails as [`ClientError`] says.
impl Client {
    /// Whether the server answers.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn health(&self) -> ClientResult<Health> {
        self.get(&["health"], &[]).await
    }

    /// Where the chain's delegate, register and policy are, as a node is told.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delegate(&self) -> ClientResult<Document> {
        self.get(&["delegate"], &[]).await
    }

    /// The host about itself.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn host(&self) -> ClientResult<HostInfo> {
        self.get(&["host"], &[]).await
    }

    /// Cryptlets by name; with `query`: whose name or id holds it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn cryptlets(
        &self,
        query: Option<&SearchText>,
        which: &PageQuery,
    ) -> ClientResult<Page<CryptletSummary>> {
        let mut parameters = page(which);
        parameters.extend(query.map(|query| ("query", query.to_string())));
        self.get(&["cryptlets"], &parameters).await
    }

    /// One cryptlet.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn cryptlet(&self, cryptlet: &CryptletRef) -> ClientResult<CryptletDetail> {
        self.get(&["cryptlets", cryptlet.as_str()], &[]).await
    }

    /// The header document of a version (nothing: the current one). Compare its SHA-256 with the register's.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn header(&self, cryptlet: &CryptletRef, number: Option<u32>) -> ClientResult<Bytes> {
        self.bytes(
            &["cryptlets", cryptlet.as_str(), "header"],
            &version(number),
        )
        .await
    }

    /// The image manifest of a version's package (nothing: the current one). Compare its SHA-256 with the register's.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn package(
        &self,
        cryptlet: &CryptletRef,
        number: Option<u32>,
    ) -> ClientResult<Bytes> {
        self.bytes(
            &["cryptlets", cryptlet.as_str(), "package"],
            &version(number),
        )
        .await
    }

    /// The source archive of a version (nothing: the current one). Compare its SHA-256.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn source(&self, cryptlet: &CryptletRef, number: Option<u32>) -> ClientResult<Bytes> {
        self.bytes(
            &["cryptlets", cryptlet.as_str(), "source"],
            &version(number),
        )
        .await
    }

    /// What the code wishes, what policy says, what comes out.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn explain(&self, cryptlet: &CryptletRef) -> ClientResult<Explanation> {
        self.get(&["cryptlets", cryptlet.as_str(), "explain"], &[])
            .await
    }

    /// Makes a cryptlet's key in the host's vault.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_key(&self, key: &NewKey) -> ClientResult<CreatedKey> {
        self.hand_in(Method::POST, &["keys"], key).await
    }

    /// The vault's keys, public parts.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn keys(&self, which: &PageQuery) -> ClientResult<Page<KeyInfo>> {
        self.get(&["keys"], &page(which)).await
    }

    /// Hands in a package.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Settings`] if it is larger than a host takes.
    pub async fn store_package(&self, package: &NewPackage) -> ClientResult<StoredPackage> {
        let parts = [
            &package.index,
            &package.manifest,
            &package.code,
            &package.header,
        ];
        let bytes: usize = parts
            .into_iter()
            .chain(&package.source)
            .map(|part| part.0.len())
            .sum();
        // Base64 makes four bytes of three; the rest is names and quotes.
        if bytes > MAX_PACKAGE_BYTES / 4 * 3 - 1_024 {
            return Err(ClientError::Settings {
                field: "package",
                reason: format!("it has {bytes} bytes, more than a host takes"),
            });
        }
        self.hand_in(Method::POST, &["packages"], package).await
    }

    /// What the host has of a package's secret code.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn secret_code(&self, package: Bytes32) -> ClientResult<SecretCodeInfo> {
        self.get(&["secret-code", &package.to_string()], &[]).await
    }

    /// Hands in the key of a package's secret code.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn set_code_key(
        &self,
        package: Bytes32,
        key: &NewCodeKey,
    ) -> ClientResult<SecretCodeInfo> {
        let path = ["secret-code", &package.to_string(), "key"];
        self.hand_in(Method::PUT, &path, key).await
    }

    /// Hands in a counterparty's agreement to secret code.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn add_code_agreement(
        &self,
        package: Bytes32,
        agreement: &NewCodeAgreement,
    ) -> ClientResult<SecretCodeInfo> {
        let path = ["secret-code", &package.to_string(), "agreements"];
        self.hand_in(Method::POST, &path, agreement).await
    }

    /// Subscriptions of the delegate.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn subscriptions(&self, which: &PageQuery) -> ClientResult<Page<SubscriptionRow>> {
        self.get(&["subscriptions"], &page(which)).await
    }

    /// Jobs of the host.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn jobs(&self, query: &JobQuery) -> ClientResult<Page<JobSummary>> {
        let mut parameters = page(&query.page);
        parameters.extend(
            query
                .subject
                .map(|subject| ("subject", subject.to_string())),
        );
        parameters.extend(query.state.map(|state| ("state", state.to_string())));
        self.get(&["jobs"], &parameters).await
    }

    /// One job, from event to receipt.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn job(&self, job: Bytes32) -> ClientResult<JobTrace> {
        self.get(&["jobs", &job.to_string()], &[]).await
    }

    /// A job's receipt file.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn receipt(&self, job: Bytes32) -> ClientResult<Bytes> {
        self.bytes(&["jobs", &job.to_string(), "receipt"], &[])
            .await
    }

    /// The policy in force.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn policy(&self) -> ClientResult<PolicyInfo> {
        self.get(&["policy"], &[]).await
    }

    /// Hands in a signed policy.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn set_policy(&self, policy: &NewPolicy) -> ClientResult<PolicyInfo> {
        self.hand_in(Method::PUT, &["policy"], policy).await
    }

    /// Delegations that the host has.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delegations(&self, which: &PageQuery) -> ClientResult<Page<DelegationInfo>> {
        self.get(&["delegations"], &page(which)).await
    }

    /// Hands in a signed delegation.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn add_delegation(&self, delegation: &NewDelegation) -> ClientResult<DelegationInfo> {
        self.hand_in(Method::POST, &["delegations"], delegation)
            .await
    }

    /// Tokens, without their secrets.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn tokens(&self, which: &PageQuery) -> ClientResult<Page<TokenInfo>> {
        self.get(&["tokens"], &page(which)).await
    }

    /// Makes a token.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_token(&self, token: &NewToken) -> ClientResult<CreatedToken> {
        self.hand_in(Method::POST, &["tokens"], token).await
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn revoke_token(&self, id: &TokenId) -> ClientResult<()> {
        self.send::<()>(Method::DELETE, &["tokens", id.as_str()], &[], None)
            .await
            .map(drop)
    }

    /// Has a job tried again that was parked.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn retry_job(&self, job: Bytes32) -> ClientResult<JobSummary> {
        let path = ["jobs", &job.to_string(), "retry"];
        let bytes = self.send::<()>(Method::POST, &path, &[], None).await?;
        self.parse(&bytes)
    }

    /// Registered applications, without their secrets.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn applications(&self, which: &PageQuery) -> ClientResult<Page<ApplicationInfo>> {
        self.get(&["applications"], &page(which)).await
    }

    /// Registers an application.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn add_application(&self, new: &NewApplication) -> ClientResult<CreatedApplication> {
        self.hand_in(Method::POST, &["applications"], new).await
    }

    /// Gives an application a new key.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn rotate_application(
        &self,
        name: &ApplicationName,
        key: &NewApplicationKey,
    ) -> ClientResult<CreatedApplication> {
        let path = ["applications", name.as_str(), "keys"];
        self.hand_in(Method::POST, &path, key).await
    }

    /// Forgets an application and its keys.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn remove_application(&self, name: &ApplicationName) -> ClientResult<()> {
        let path = ["applications", name.as_str()];
        self.send::<()>(Method::DELETE, &path, &[], None)
            .await
            .map(drop)
    }

    /// Sends a message as an application, signed by `key`. The client's own token is not shown.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn send_message(
        &self,
        application: &ApplicationName,
        key: &SigningKey,
        message: Outgoing<'_>,
    ) -> ClientResult<MessageReceipt> {
        let Outgoing { id, at, .. } = message;
        let url = self.at(&["applications", application.as_str(), "messages"]);
        let request = self
            .http
            .post(url)
            .header(webhook::ID, id)
            .header(webhook::TIMESTAMP, at.to_string())
            .header(webhook::SIGNATURE, key.sign(id, at, message.body))
            .header(CONTENT_TYPE, message.media_type)
            .body(message.body.to_vec());
        let response = request.send().await.map_err(|error| self.failed(&error))?;
        let bytes = self.read(response).await?;
        self.parse(&bytes)
    }

    /// Asks the gateway (ERC-3668).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn call(&self, request: &CallRequest) -> ClientResult<CallAnswer> {
        self.hand_in(Method::POST, &["call"], request).await
    }

    async fn bytes(&self, path: &[&str], query: &[(&'static str, String)]) -> ClientResult<Bytes> {
        self.send::<()>(Method::GET, path, query, None)
            .await
            .map(Bytes::from)
    }
}
