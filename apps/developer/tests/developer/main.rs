//! Publishing, importing, policies and delegations on real parts: the embedded chain with the compiled contracts, and
//! the API's own server over TLS, in front of a host in memory that can be told to lie.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "the lint allows these in test functions; helpers of tests are the same"
)]

mod connecting;
mod importing;
mod mirroring;
mod papers;
mod publishing;
mod showing;
mod support;
