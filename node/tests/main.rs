//! The embedded node, from outside: by JSON-RPC as Anvil answers it, over restarts, and by clients that are not ours. One program: each is
//! linked with all of alloy.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "tests"
)]

mod chain;
mod clients;
mod delegate;
mod pool;
mod restart;
mod support;
mod time;
