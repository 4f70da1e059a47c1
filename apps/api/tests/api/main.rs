//! The server over real TLS, in front of a host in memory: who may do what, what is refused and how, and the client.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod access;
mod calls;
mod client;
mod document;
mod forms;
mod limits;
mod messages;
mod support;
