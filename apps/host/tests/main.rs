//! The whole path from clock to receipt on real parts, and what goes wrong on it: each time, what the host says, that
//! nothing is lost and nothing delivered twice, and that the next wake-up works.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]
// The futures of whole hosts are nested deeper than the compiler looks by itself.
#![recursion_limit = "256"]

mod api;
mod callbacks;
mod chain;
mod crash;
mod cryptlets;
mod delegation;
mod elsewhere;
mod manifest;
mod mirror;
mod policy;
mod reads;
mod receipts;
mod recordings;
mod register;
mod secret_code;
mod slow;
mod sources;
mod support;
mod triggers;
mod vault;
