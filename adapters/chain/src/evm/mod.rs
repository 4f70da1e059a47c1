//! Ethereum and its kin over JSON-RPC (HTTP or WebSocket), by alloy.
//!
//! - [`client`], [`register`]: the traits' implementations
//! - [`decode`], [`register_log`]: logs and custom errors of the contracts as values
//! - `signed`: whose a signature is, wallets that are contracts included
//! - [`inclusion`]: Merkle-Patricia proofs for transactions and receipts
//! - [`abi`]: the contracts' interfaces; [`artifacts`]: their code, for who deploys them

pub mod abi;
pub mod artifacts;
pub mod client;
mod connection;
pub mod decode;
pub mod inclusion;
mod reader;
pub mod register;
pub mod register_log;
mod signed;

pub use client::EvmChain;
pub use reader::EvmConfig;
pub use register::EvmRegister;
