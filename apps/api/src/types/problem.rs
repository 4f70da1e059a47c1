//! Errors on the wire: problem details (RFC 9457) with the next step.

use serde::{Deserialize, Serialize};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type, schema::SchemaType},
};

/// Media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Result of an operation.
pub type Result<T> = std::result::Result<T, Problem>;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $status:literal, $urn:literal, $title:literal;)*) => {
        /// Kinds of problems. Each has its own `type` and status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ProblemKind {
            $($(#[$doc])* #[serde(rename = $urn)] $kind,)*
        }

        impl ProblemKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// Its `type`.
            #[must_use]
            pub fn urn(self) -> &'static str {
                match self { $(Self::$kind => $urn,)* }
            }

            /// Its HTTP status.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$kind => $status,)* }
            }

            /// What it is, in a few words, the same each time.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$kind => $title,)* }
            }

            /// Its name in the OpenAPI document.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => stringify!($kind),)* }
            }
        }
    };
}

kinds! {
    /// Path, query or body is not of the documented form.
    Malformed = 400, "urn:bletchley:problem:malformed", "The request is not of the documented form";
    /// No valid token or listed certificate.
    Unauthenticated = 401, "urn:bletchley:problem:unauthenticated", "Who asks is not known";
    /// The caller's role is too low.
    Forbidden = 403, "urn:bletchley:problem:forbidden", "The role does not reach that far";
    /// No such thing.
    NotFound = 404, "urn:bletchley:problem:not-found", "There is no such thing";
    /// The path knows other methods.
    MethodNotAllowed = 405, "urn:bletchley:problem:method-not-allowed", "The path does not know this method";
    /// The request came too slowly.
    TooSlow = 408, "urn:bletchley:problem:too-slow", "The request did not arrive in time";
    /// It contradicts what is there already.
    Conflict = 409, "urn:bletchley:problem:conflict", "It contradicts what is there";
    /// The body is larger than the operation takes.
    TooLarge = 413, "urn:bletchley:problem:too-large", "The body is too large";
    /// Path and query are longer than any operation needs.
    UriTooLong = 414, "urn:bletchley:problem:uri-too-long", "Path and query are too long";
    /// The media type of the body is not one that the operation takes.
    UnsupportedMediaType = 415, "urn:bletchley:problem:unsupported-media-type", "The body is not of a media type that is taken";
    /// Well formed, but host, register or policy say no.
    Refused = 422, "urn:bletchley:problem:refused", "It is refused";
    /// Too many requests, or too many attempts to authenticate that failed.
    TooManyRequests = 429, "urn:bletchley:problem:too-many-requests", "Too many requests, or too many that failed";
    /// Too many or too large header fields.
    HeadersTooLarge = 431, "urn:bletchley:problem:headers-too-large", "The header fields are too large";
    /// A fault of the host.
    Internal = 500, "urn:bletchley:problem:internal", "The host failed";
    /// The host, or what it needs, is busy or away.
    Unavailable = 503, "urn:bletchley:problem:unavailable", "The host cannot do it now";
}

/// Why an operation was refused, and what to do next. Holds no secret, and nothing of the host's inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{detail}")]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Kind of problem.
    #[serde(rename = "type")]
    pub kind: ProblemKind,
    /// The kind in words.
    pub title: String,
    /// HTTP status, again.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What is wrong this time; names the field.
    pub detail: String,
    /// What to do next.
    pub next: String,
    /// Seconds after which it may be tried again, where the host knows; the same as `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub retry_after: Option<u64>,
    /// The same as `detail`, by the name that ERC-3668 gives it; only where reads of contracts are answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub message: Option<String>,
}

impl PartialSchema for ProblemKind {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::String))
            .enum_values(Some(Self::ALL.iter().map(|kind| kind.urn())))
            .description(Some("URN of the kind of problem."))
            .into()
    }
}

impl ToSchema for ProblemKind {}

impl Problem {
    /// A problem of `kind`: `detail` says what is wrong and names the field, `next` what to do.
    #[must_use]
    pub fn new(kind: ProblemKind, detail: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            kind,
            title: kind.title().to_owned(),
            status: kind.status(),
            detail: detail.into(),
            next: next.into(),
            retry_after: None,
            message: None,
        }
    }

    /// There is no such thing.
    #[must_use]
    pub fn not_found(detail: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(ProblemKind::NotFound, detail, next)
    }

    /// It contradicts what is there already.
    #[must_use]
    pub fn conflict(detail: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(ProblemKind::Conflict, detail, next)
    }

    /// Well formed, but host, register or policy say no.
    #[must_use]
    pub fn refused(detail: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(ProblemKind::Refused, detail, next)
    }

    /// Something is away for now; the same request may succeed later.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::Unavailable, detail, "try again in a moment")
    }

    /// Too many of them; the same request may succeed after so many seconds.
    #[must_use]
    pub fn too_many(detail: impl Into<String>, seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds),
            ..Self::new(
                ProblemKind::TooManyRequests,
                detail,
                format!("send it again after {seconds} seconds"),
            )
        }
    }

    /// A fault of the host. What it was goes to the host's log, not to the caller.
    #[must_use]
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "api: internal error");
        Self::new(
            ProblemKind::Internal,
            "the host failed at this operation",
            "ask the operator to look into the host's log",
        )
    }

    /// What was sent cannot be read.
    #[must_use]
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(
            ProblemKind::Malformed,
            detail,
            "compare the request with GET /v1/openapi.json",
        )
    }

    /// Whether the same request, sent again later, may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        use ProblemKind::{TooManyRequests, TooSlow, Unavailable};
        matches!(self.kind, TooManyRequests | TooSlow | Unavailable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_kind_has_a_type_and_status_of_its_own() {
        let statuses: HashSet<_> = ProblemKind::ALL.iter().map(|kind| kind.status()).collect();
        assert_eq!(statuses.len(), ProblemKind::ALL.len());
        for kind in ProblemKind::ALL {
            let problem = Problem::new(*kind, "detail", "next");
            let json = serde_json::to_value(&problem).unwrap();
            assert_eq!(json["status"], kind.status());
            assert_eq!(json["type"], kind.urn());
            assert_eq!(serde_json::from_value::<Problem>(json).unwrap(), problem);
        }
    }

    #[test]
    fn what_was_wrong_inside_stays_inside() {
        let problem = Problem::internal(&"open /secret: denied");
        assert!(!format!("{problem:?}").contains("secret"));
    }
}
