//! What vaults promise, promise by promise: what both back ends do, and what each does alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops where it goes wrong"
)]

mod attested;
mod conformance;
mod file;
mod pkcs11;
mod reports;
mod sealed;
mod softhsm;

use alloy_primitives::Address;
use cryptlet_types::CryptletId;
use cryptlet_vault::Vault;
use std::sync::Arc;

/// Where a vault lies: it can be opened again and again.
pub(crate) trait Place {
    fn reopen(&self) -> Arc<dyn Vault>;
}

pub(crate) fn id(n: u64) -> CryptletId {
    CryptletId(Address::left_padding_from(&n.to_be_bytes()))
}

/// Runs a test's future, with threads for what waits.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}
