//! The one table of operations: method, path, role, sizes and forms. The server dispatches and guards by it, the
//! OpenAPI document is generated from it.

use crate::{
    server::handlers::{self, Handler},
    types::{
        self, ApplicationName, CryptletRef, Cursor, Hex, JobStateName, PageLimit, Role, SearchText,
        TokenId, VersionNumber,
    },
    webhook,
};
use axum::http::Method;
use std::sync::LazyLock;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

/// Most bytes of a request's body, but for packages: 1 MiB.
pub const MAX_BODY_BYTES: usize = 1 << 20;
/// Most bytes of the body of an application's message: 64 KiB.
pub const MAX_MESSAGE_BYTES: usize = 64 << 10;
/// Most bytes of the body of a package: 64 MiB.
pub const MAX_PACKAGE_BYTES: usize = 64 << 20;
/// Media type of a header document.
pub const HEADER_MEDIA_TYPE: &str = "application/vnd.bletchley.cryptlet.header.v1+json";
/// Media type of a package's image manifest (OCI image specification).
pub const INDEX_MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of a source archive.
pub const SOURCE_MEDIA_TYPE: &str = "application/vnd.bletchley.cryptlet.source.v1.tar+gzip";

/// A schema with those it refers to.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    pub(crate) name: fn() -> String,
    pub(crate) schema: fn() -> RefOr<Schema>,
    pub(crate) nested: fn(&mut Vec<(String, RefOr<Schema>)>),
}

impl Form {
    fn of<T: ToSchema>() -> Self {
        Self {
            name: || T::name().into_owned(),
            schema: T::schema,
            nested: T::schemas,
        }
    }

    /// A page of `T`.
    fn page<T: ToSchema>() -> Self {
        Self {
            name: || format!("PageOf{}", T::name()),
            schema: types::Page::<T>::schema,
            nested: |found| {
                found.push((T::name().into_owned(), T::schema()));
                T::schemas(found);
            },
        }
    }
}

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the path.
    Path,
    /// In the query, where it may be left out.
    Query,
    /// In a header field.
    Header,
}

/// A parameter of path, query or header.
#[derive(Clone, Copy)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) place: Place,
    pub(crate) schema: fn() -> RefOr<Schema>,
}

const fn in_path<T: PartialSchema>(name: &'static str, about: &'static str) -> Parameter {
    Parameter {
        name,
        about,
        place: Place::Path,
        schema: T::schema,
    }
}

const fn in_query<T: PartialSchema>(name: &'static str, about: &'static str) -> Parameter {
    Parameter {
        name,
        about,
        place: Place::Query,
        schema: T::schema,
    }
}

const fn in_header(
    name: &'static str,
    about: &'static str,
    schema: fn() -> RefOr<Schema>,
) -> Parameter {
    Parameter {
        name,
        about,
        place: Place::Header,
        schema,
    }
}

const LIMIT: Parameter = in_query::<PageLimit>("limit", "Most items of the page; 100 if not said.");
const AFTER: Parameter = in_query::<Cursor>("after", "`next` of the page before.");
const NAME: Parameter = in_path::<CryptletRef>("name", "A cryptlet's name, or its id.");
const VERSION: Parameter = in_query::<VersionNumber>(
    "version",
    "Number of a version; the current one if not said.",
);
const JOB: Parameter = in_path::<Hex<32>>("id", "A job's id.");

/// What a request's body may be.
#[derive(Clone, Copy)]
pub(crate) enum Takes {
    /// JSON of this form.
    Json(Form),
    /// A signed message of any media type.
    Message,
}

/// What a body is.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    /// JSON of this form.
    Json(Form),
    /// Bytes of this media type.
    Bytes(&'static str),
    /// Nothing.
    Empty,
}

/// One operation.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    /// Its name in the OpenAPI document.
    pub(crate) id: &'static str,
    pub(crate) about: &'static str,
    /// The least role; nothing: anybody.
    pub(crate) role: Option<Role>,
    pub(crate) parameters: &'static [Parameter],
    pub(crate) body: Option<(Takes, usize)>,
    pub(crate) success: u16,
    /// Another status of success, if there is one, with the same form of answer.
    pub(crate) also: Option<u16>,
    /// Pages from elsewhere may ask, too (CORS).
    pub(crate) any_origin: bool,
    pub(crate) answer: Answer,
    /// Host, register or policy may refuse what is well formed.
    pub(crate) may_refuse: bool,
    pub(crate) handler: Handler,
}

impl Route {
    fn new(
        (method, path): (Method, &'static str),
        (id, about): (&'static str, &'static str),
        role: impl Into<Option<Role>>,
        answer: Answer,
        handler: Handler,
    ) -> Self {
        Self {
            method,
            path,
            id,
            about,
            role: role.into(),
            parameters: &[],
            body: None,
            success: 200,
            also: None,
            any_origin: false,
            answer,
            may_refuse: false,
            handler,
        }
    }

    fn with(mut self, parameters: &'static [Parameter]) -> Self {
        self.parameters = parameters;
        self
    }

    /// Takes a body; answers with `success`.
    fn takes(mut self, form: Form, limit: usize, success: u16) -> Self {
        (self.body, self.success, self.may_refuse) =
            (Some((Takes::Json(form), limit)), success, true);
        self
    }

    /// Whether it may say that there is no such thing.
    pub(crate) fn may_miss(&self) -> bool {
        let in_path = |parameter: &Parameter| parameter.place == Place::Path;
        self.parameters.iter().any(in_path) || self.id == "policy"
    }
}

/// All operations.
pub(crate) static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    let mut routes = about_the_host();
    routes.extend(about_cryptlets());
    routes.extend(about_secret_code());
    routes.extend(about_work());
    routes.extend(administration());
    routes.extend(about_applications());
    routes.extend(about_calls());
    routes
});

const GET: Method = Method::GET;
const POST: Method = Method::POST;

fn json<T: ToSchema>() -> Answer {
    Answer::Json(Form::of::<T>())
}

fn page<T: ToSchema>() -> Answer {
    Answer::Json(Form::page::<T>())
}

fn about_the_host() -> Vec<Route> {
    vec![
        Route::new(
            (GET, "/v1/health"),
            ("health", "Whether the server answers."),
            None,
            json::<types::Health>(),
            handlers::health,
        ),
        Route::new(
            (GET, "/v1/openapi.json"),
            ("openapi", "This document."),
            None,
            json::<types::Document>(),
            handlers::openapi,
        ),
        Route::new(
            (GET, "/v1/delegate"),
            (
                "delegate",
                "Where the chain's delegate, register and policy are: what a node is started with.",
            ),
            None,
            json::<types::Document>(),
            handlers::delegate,
        ),
        Route::new(
            (GET, "/v1/host"),
            ("host", "The host: identity, chain, register, policy."),
            Role::Reader,
            json::<types::HostInfo>(),
            handlers::host,
        ),
    ]
}

fn about_cryptlets() -> Vec<Route> {
    const SEARCH: &[Parameter] = &[
        in_query::<SearchText>("query", "Part of a name or id."),
        LIMIT,
        AFTER,
    ];
    let reads = |path, about, answer, handler| {
        Route::new((GET, path), about, Role::Reader, answer, handler)
    };
    vec![
        reads(
            "/v1/cryptlets",
            ("searchCryptlets", "Cryptlets of the register, by name."),
            page::<types::CryptletSummary>(),
            handlers::cryptlets,
        )
        .with(SEARCH),
        reads(
            "/v1/cryptlets/{name}",
            ("cryptlet", "Everything about one cryptlet."),
            json::<types::CryptletDetail>(),
            handlers::cryptlet,
        )
        .with(&[NAME]),
        reads(
            "/v1/cryptlets/{name}/header",
            ("header", "The header document of a version, byte for byte."),
            Answer::Bytes(HEADER_MEDIA_TYPE),
            handlers::header,
        )
        .with(&[NAME, VERSION]),
        reads(
            "/v1/cryptlets/{name}/package",
            (
                "package",
                "The image manifest of a version's package, byte for byte.",
            ),
            Answer::Bytes(INDEX_MEDIA_TYPE),
            handlers::package,
        )
        .with(&[NAME, VERSION]),
        reads(
            "/v1/cryptlets/{name}/source",
            (
                "source",
                "The source archive of a version, if it is revealed.",
            ),
            Answer::Bytes(SOURCE_MEDIA_TYPE),
            handlers::source,
        )
        .with(&[NAME, VERSION]),
        reads(
            "/v1/cryptlets/{name}/explain",
            (
                "explain",
                "What the code wishes, what policy says, what comes out.",
            ),
            json::<types::Explanation>(),
            handlers::explain,
        )
        .with(&[NAME]),
    ]
}

fn about_secret_code() -> Vec<Route> {
    const PACKAGE: &[Parameter] = &[in_path::<Hex<32>>("package", "A package's digest.")];
    vec![
        Route::new(
            (GET, "/v1/secret-code/{package}"),
            (
                "secretCode",
                "Whether the host has the key of a package's secret code, and who agreed to it.",
            ),
            Role::Reader,
            json::<types::SecretCodeInfo>(),
            handlers::secret_code,
        )
        .with(PACKAGE),
        Route::new(
            (Method::PUT, "/v1/secret-code/{package}/key"),
            ("setCodeKey", "Hands in the key of a package's secret code."),
            Role::Publisher,
            json::<types::SecretCodeInfo>(),
            handlers::set_code_key,
        )
        .with(PACKAGE)
        .takes(Form::of::<types::NewCodeKey>(), MAX_BODY_BYTES, 200),
        Route::new(
            (POST, "/v1/secret-code/{package}/agreements"),
            (
                "addCodeAgreement",
                "Hands in a counterparty's agreement to secret code. Its signature is what counts.",
            ),
            Role::Reader,
            json::<types::SecretCodeInfo>(),
            handlers::add_code_agreement,
        )
        .with(PACKAGE)
        .takes(Form::of::<types::NewCodeAgreement>(), MAX_BODY_BYTES, 201),
    ]
}

fn about_work() -> Vec<Route> {
    const JOBS: &[Parameter] = &[
        in_query::<Hex<32>>("subject", "Only jobs of this subscription."),
        in_query::<JobStateName>("state", "Only jobs in this state."),
        LIMIT,
        AFTER,
    ];
    let reads = |path, about, answer, handler| {
        Route::new((GET, path), about, Role::Reader, answer, handler)
    };
    vec![
        reads(
            "/v1/subscriptions",
            ("subscriptions", "Subscriptions of the delegate."),
            page::<types::SubscriptionRow>(),
            handlers::subscriptions,
        )
        .with(&[LIMIT, AFTER]),
        reads(
            "/v1/jobs",
            ("jobs", "Jobs of this host."),
            page::<types::JobSummary>(),
            handlers::jobs,
        )
        .with(JOBS),
        reads(
            "/v1/jobs/{id}",
            ("job", "One job, from event to receipt."),
            json::<types::JobTrace>(),
            handlers::job,
        )
        .with(&[JOB]),
        reads(
            "/v1/jobs/{id}/receipt",
            ("receipt", "A job's receipt file, byte for byte."),
            Answer::Bytes("application/json"),
            handlers::receipt,
        )
        .with(&[JOB]),
        Route {
            may_refuse: true,
            ..Route::new(
                (POST, "/v1/jobs/{id}/retry"),
                ("retryJob", "Has a job tried again that was parked."),
                Role::Operator,
                json::<types::JobSummary>(),
                handlers::retry_job,
            )
            .with(&[JOB])
        },
    ]
}

fn administration() -> Vec<Route> {
    const PAGE: &[Parameter] = &[LIMIT, AFTER];
    let mut routes = vec![
        Route::new(
            (GET, "/v1/keys"),
            ("keys", "The vault's keys, public parts."),
            Role::Operator,
            page::<types::KeyInfo>(),
            handlers::keys,
        )
        .with(PAGE),
        Route::new(
            (POST, "/v1/keys"),
            ("createKey", "Makes a cryptlet's key in the vault."),
            Role::Publisher,
            json::<types::CreatedKey>(),
            handlers::create_key,
        )
        .takes(Form::of::<types::NewKey>(), MAX_BODY_BYTES, 201),
        Route::new(
            (POST, "/v1/packages"),
            ("storePackage", "Hands in a package."),
            Role::Publisher,
            json::<types::StoredPackage>(),
            handlers::store_package,
        )
        .takes(Form::of::<types::NewPackage>(), MAX_PACKAGE_BYTES, 201),
        Route::new(
            (GET, "/v1/policy"),
            ("policy", "The policy in force."),
            Role::Reader,
            json::<types::PolicyInfo>(),
            handlers::policy,
        ),
        Route::new(
            (Method::PUT, "/v1/policy"),
            ("setPolicy", "Hands in a signed policy of a later epoch."),
            Role::Operator,
            json::<types::PolicyInfo>(),
            handlers::set_policy,
        )
        .takes(Form::of::<types::NewPolicy>(), MAX_BODY_BYTES, 200),
        Route::new(
            (GET, "/v1/delegations"),
            ("delegations", "Delegations that the host has."),
            Role::Reader,
            page::<types::DelegationInfo>(),
            handlers::delegations,
        )
        .with(PAGE),
        Route::new(
            (POST, "/v1/delegations"),
            ("addDelegation", "Hands in a signed delegation."),
            Role::Publisher,
            json::<types::DelegationInfo>(),
            handlers::add_delegation,
        )
        .takes(Form::of::<types::NewDelegation>(), MAX_BODY_BYTES, 201),
    ];
    routes.extend(about_tokens(PAGE));
    routes
}

fn about_tokens(page_parameters: &'static [Parameter]) -> Vec<Route> {
    const TOKEN: &[Parameter] = &[in_path::<TokenId>("id", "A token's id.")];
    vec![
        Route::new(
            (GET, "/v1/tokens"),
            ("tokens", "Tokens, without their secrets."),
            Role::Operator,
            page::<types::TokenInfo>(),
            handlers::tokens,
        )
        .with(page_parameters),
        Route::new(
            (POST, "/v1/tokens"),
            ("createToken", "Makes a token and shows its secret, once."),
            Role::Operator,
            json::<types::CreatedToken>(),
            handlers::create_token,
        )
        .takes(Form::of::<types::NewToken>(), MAX_BODY_BYTES, 201),
        Route {
            success: 204,
            may_refuse: true,
            ..Route::new(
                (Method::DELETE, "/v1/tokens/{id}"),
                ("revokeToken", "Revokes a token, at once."),
                Role::Operator,
                Answer::Empty,
                handlers::revoke_token,
            )
            .with(TOKEN)
        },
    ]
}

fn about_applications() -> Vec<Route> {
    const APPLICATION: Parameter =
        in_path::<ApplicationName>("name", "The name of an application.");
    const MESSAGE: &[Parameter] = &[
        APPLICATION,
        in_header(
            webhook::ID,
            "The application's id of the message: the same id is the same message.",
            webhook::id_schema,
        ),
        in_header(
            webhook::TIMESTAMP,
            "The moment of this attempt, in seconds since 1970; 300 seconds off at most.",
            webhook::timestamp_schema,
        ),
        in_header(
            webhook::SIGNATURE,
            "Signatures over ID.TIMESTAMP.BODY: v1,BASE64 (HMAC-SHA256) or v1a,BASE64 (Ed25519).",
            webhook::signature_schema,
        ),
    ];
    vec![
        Route::new(
            (GET, "/v1/applications"),
            (
                "applications",
                "Registered applications, without their secrets.",
            ),
            Role::Operator,
            page::<types::ApplicationInfo>(),
            handlers::applications,
        )
        .with(&[LIMIT, AFTER]),
        Route::new(
            (POST, "/v1/applications"),
            (
                "addApplication",
                "Registers an application and shows its secret, once.",
            ),
            Role::Operator,
            json::<types::CreatedApplication>(),
            handlers::add_application,
        )
        .takes(Form::of::<types::NewApplication>(), MAX_BODY_BYTES, 201),
        Route {
            success: 204,
            may_refuse: true,
            ..Route::new(
                (Method::DELETE, "/v1/applications/{name}"),
                (
                    "removeApplication",
                    "Forgets an application and its keys, at once.",
                ),
                Role::Operator,
                Answer::Empty,
                handlers::remove_application,
            )
            .with(&[APPLICATION])
        },
        Route::new(
            (POST, "/v1/applications/{name}/keys"),
            (
                "rotateApplication",
                "Gives an application a new key; the one before counts for a while.",
            ),
            Role::Operator,
            json::<types::CreatedApplication>(),
            handlers::rotate_application,
        )
        .with(&[APPLICATION])
        .takes(Form::of::<types::NewApplicationKey>(), MAX_BODY_BYTES, 201),
        messages().with(MESSAGE),
    ]
}

fn messages() -> Route {
    let about = "Says that something occurred. The signature of the application, as Standard Webhooks has it, is who asks. 202: \
        the message is kept from now on; 200: it was there already.";
    Route {
        success: 202,
        also: Some(200),
        may_refuse: true,
        body: Some((Takes::Message, MAX_MESSAGE_BYTES)),
        ..Route::new(
            (POST, "/v1/applications/{name}/messages"),
            ("sendMessage", about),
            None,
            json::<types::MessageReceipt>(),
            handlers::message,
        )
    }
}

fn about_calls() -> Vec<Route> {
    const CALL: &[Parameter] = &[
        in_path::<Hex<20>>("sender", "The contract that reverted."),
        in_path::<types::CallData>("data", "Its call data; .json may follow."),
    ];
    let about = "Answers a read of a contract that reverted with OffchainLookup (ERC-3668).";
    let by_path = Route {
        any_origin: true,
        may_refuse: true,
        ..Route::new(
            (GET, "/v1/call/{sender}/{data}"),
            ("callByPath", about),
            None,
            json::<types::CallAnswer>(),
            handlers::call_by_path,
        )
    };
    let by_body = Route {
        any_origin: true,
        may_refuse: true,
        ..Route::new(
            (POST, "/v1/call"),
            ("call", about),
            None,
            json::<types::CallAnswer>(),
            handlers::call,
        )
    };
    vec![
        by_path.with(CALL),
        by_body.takes(Form::of::<types::CallRequest>(), MAX_MESSAGE_BYTES, 200),
    ]
}
