//! What is watched on chains. One program: each is linked with all of alloy.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod registers;
mod subscriptions;
