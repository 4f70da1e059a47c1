//! Delivery against a real chain, with the real contracts: every promise of the crate, and every kind of trouble.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that fails panics"
)]

mod anvil;
mod batches;
mod behalf;
mod chain;
mod geth;
mod inclusion;
mod outcomes;
mod trouble;
mod world;
