//! The HTTP API of a host: JSON over HTTPS under `/v1`, everything that the command line does.
//!
//! Three parts that know each other by [`types`] alone: the host implements [`HostApi`]; [`Server`] speaks HTTP for it
//! ([`tls`], authentication, limits, strict parsing); [`Client`] asks from the other end. What there is to ask stands
//! in one table, from which the server dispatches and guards and the OpenAPI document ([`openapi_json`],
//! `docs/api/openapi.json`) is generated.
//!
//! Callers have a [`types::Role`], by bearer token ([`TokenStore`]) or by client certificate
//! ([`CertificateRoles`]). Without one, only what is open to anybody answers: health, the API's own description, where the
//! delegate is, the gateway for reads of contracts, and, to who signs as a registered application ([`webhook`]), messages. Errors are problem
//! details (RFC 9457) with a member `next` that says what to do.

mod auth;
mod client;
mod clock;
mod files;
mod host_api;
mod openapi;
mod routes;
mod server;
pub mod tls;
pub mod types;
pub mod webhook;

pub use auth::{CertificateRoles, TokenError, TokenStore, certificate_digest};
pub use client::{Client, ClientError, ClientResult, Connection, Credentials, Outgoing};
pub use clock::{Clock, wall_clock};
pub use files::FileError;
pub use host_api::{Caller, HostApi, JobQuery, Taken};
pub use openapi::openapi_json;
pub use routes::{
    HEADER_MEDIA_TYPE, INDEX_MEDIA_TYPE, MAX_BODY_BYTES, MAX_MESSAGE_BYTES, MAX_PACKAGE_BYTES,
    SOURCE_MEDIA_TYPE,
};
pub use server::{Server, ServerError, ServerLimits, ServerParts};
pub use types::{Problem, ProblemKind};
