//! What travels over the wire, as JSON in camel case.
//!
//! Types of requests refuse unknown fields. Types of answers do not, so that an older client reads a newer host.
//! Moments are seconds since 1970, digests SHA-256. Documents that have a form of their own (manifest, policy,
//! receipt, header) travel whole, as a [`Document`] or as their very bytes.

mod admin;
mod application;
mod call;
mod cryptlet;
mod host;
mod object;
mod page;
mod problem;
mod secret_code;
mod text;
mod work;

pub use admin::{
    Approval, CreatedKey, CreatedToken, DelegationBody, DelegationInfo, KeyInfo, NewDelegation,
    NewKey, NewPackage, NewPolicy, NewToken, PolicyInfo, Role, StoredPackage, TokenInfo,
    TokenLifetime,
};
pub use application::{
    ApplicationInfo, ApplicationKeyInfo, ApplicationKind, CreatedApplication, MessageReceipt,
    NewApplication, NewApplicationKey, Overlap, WebhookPublicKey,
};
pub use call::{CallAnswer, CallData, CallRequest};
pub use cryptlet::{
    CryptletDetail, CryptletSummary, Explanation, ExplanationRow, HostRow, InterfaceInfo,
    SignerInfo, Source, Verdict, VersionInfo,
};
pub use host::{Health, HostInfo, PolicyMark, RegisterInfo, RegisterState};
pub(crate) use object::Object;
pub use page::{DEFAULT_PAGE, MAX_PAGE, Page, PageLimit, PageQuery};
pub use problem::{PROBLEM_JSON, Problem, ProblemKind, Result};
pub use secret_code::{Counterparty, NewCodeAgreement, NewCodeKey, SecretCodeInfo};
pub(crate) use text::text_schema;
pub use text::{
    ApplicationName, Base64, Bounded, Bytes4, Bytes20, Bytes32, CryptletRef, Cursor, FormError,
    Hex, HexBytes, Label, Moment, Name, SearchText, TokenId, VersionNumber,
};
pub use work::{JobStateName, JobSummary, JobTrace, Step, SubscriptionRow, TransactionInfo};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, schema::AdditionalProperties},
};

/// A JSON document with a form of its own, described elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Document(pub Map<String, Value>);

impl Document {
    /// The document of a value that serialises to a JSON object.
    ///
    /// # Errors
    /// If it does not.
    pub fn of(value: &impl Serialize) -> std::result::Result<Self, serde_json::Error> {
        serde_json::from_value(serde_json::to_value(value)?)
    }

    /// Reads it as its own type.
    ///
    /// # Errors
    /// What that type's parser says.
    pub fn read<T: serde::de::DeserializeOwned>(self) -> std::result::Result<T, serde_json::Error> {
        serde_json::from_value(Value::Object(self.0))
    }
}

impl PartialSchema for Document {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .additional_properties(Some(AdditionalProperties::FreeForm(true)))
            .description(Some(
                "A JSON object with a form of its own, described elsewhere.",
            ))
            .into()
    }
}

impl ToSchema for Document {}
