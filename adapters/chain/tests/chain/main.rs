//! Chains behind several nodes, some of which are down, behind, busy or lying; and chains without contracts of ours.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that fails panics"
)]

mod anvil;
mod blocks;
mod endpoints;
mod logs;
mod push;
mod support;
