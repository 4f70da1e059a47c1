//! Containers that were taken over, towards their host. Each breach is named, in bounded time, and the next region is served.
//!
//! This program plays both parts: started by cargo it is the host, with the real provider; started by that provider it is a
//! container that does as the name of its package says ([`Breach`](breach)).
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test without a harness"
)]

mod breach;
mod container;
mod host;
#[path = "../support/mod.rs"]
mod support;

fn main() {
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    let arguments: Vec<_> = arguments.collect();
    if name == container::NAME {
        container::run(&arguments);
    } else {
        host::run();
    }
}
