//! Ethereum and its kin over JSON-RPC (HTTP or WebSocket), by alloy.
//!
//! - [`client`], [`register`], [`log_chain`]: the traits' implementations
//! - `connection`, `endpoint`: several nodes of one chain, each asked where another fails
//! - `heads`, `logs`: which headers and logs are believed
//! - [`decode`], [`register_log`]: logs and custom errors of the contracts as values
//! - `signed`: whose a signature is, wallets that are contracts included
//! - [`inclusion`]: Merkle-Patricia proofs for transactions and receipts
//! - [`abi`]: the contracts' interfaces; [`artifacts`]: their code, for who deploys them

pub mod abi;
pub mod artifacts;
pub mod client;
mod connection;
pub mod decode;
mod endpoint;
mod heads;
pub mod inclusion;
pub mod log_chain;
mod logs;
mod reader;
pub mod register;
pub mod register_log;
mod signed;
mod socket;

pub use client::EvmChain;
pub use heads::HeaderRule;
pub use log_chain::EvmLogChain;
pub use reader::EvmConfig;
pub use register::EvmRegister;
