//! An EVM chain inside a process: one block producer, served by JSON-RPC over HTTP and WebSocket
//! to unmodified Ethereum clients.
//!
//! The rules are Osaka's from the genesis block on, executed by revm. Transactions enter a pool,
//! blocks are made at once, at an interval or on demand, and every block has the roots that a
//! light client verifies. State is kept in persistent tries, so that each past block can still be
//! called, and proven, at the cost of what it changed. The chain's clock follows Anvil's `evm_`
//! methods; with a state file the chain survives its process.

mod backend;
mod chain;
mod config;
mod error;
mod execution;
mod filters;
mod genesis;
mod journal;
mod logs;
mod node;
mod pool;
mod rpc;
mod state;
mod time;
mod transaction;
mod trie;

pub use config::{DelegateNotice, DevAccounts, Mining, NodeConfig, WallClock};
pub use error::NodeError;
pub use journal::JournalError;
pub use node::Node;
