//! Ethereum and its kin over JSON-RPC (HTTP or WebSocket), by alloy.
//!
//! - [`client`]: the connection, timeouts, and the trait's implementation
//! - [`decode`]: logs and custom errors of the delegate as values
//! - [`inclusion`]: Merkle-Patricia proofs for transactions and receipts
//! - [`abi`]: the contracts' interfaces; [`artifacts`]: their code, for who deploys them

pub mod abi;
pub mod artifacts;
pub mod client;
mod connection;
pub mod decode;
pub mod inclusion;

pub use client::{EvmChain, EvmConfig};
