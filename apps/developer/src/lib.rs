//! What `cryptlet` does for authors, contract developers and administrators.
//!
//! - [`connect`]: finds a host and talks to it; [`wallet`]: the account that signs and pays
//! - [`publish`]: publishes versions, rotates keys, revokes
//! - [`import`]: brings a cryptlet's header into a contract developer's project, and keeps it honest
//! - [`policy`] and [`delegation`]: what administrators and identities sign
//! - [`mirror`]: copies a cryptlet's state to a chain whose delegate goes by a mirror
//! - [`listing`]: what a host lists, as text
//!
//! Two words are compared wherever it matters: the host's, and that of the register's chain.

mod chain;
pub mod connect;
pub mod delegation;
mod error;
mod files;
pub mod import;
pub mod listing;
pub mod mirror;
pub mod policy;
pub mod publish;
mod register;
mod table;
pub mod wallet;

pub use chain::{ChainClient, Mined, SignedTransaction};
pub use connect::{Nodes, Places, Session, Witness};
pub use error::DeveloperError;
pub use register::{RegisterClient, Registration, cryptlet_id};
pub use table::{Sheet, Table, plain, plain_json};
pub use wallet::Wallet;
