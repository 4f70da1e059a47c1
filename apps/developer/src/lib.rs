//! What `cryptlet` does for authors, contract developers and administrators.
//!
//! - [`connect`]: finds a host and talks to it; [`wallet`]: the account that signs and pays
//! - [`publish`]: publishes versions, rotates keys, revokes
//! - [`confirm`]: compares what a host says of a cryptlet with the register
//! - [`import`]: brings a cryptlet's header into a contract developer's project, and keeps it honest
//! - [`policy`] and [`delegation`]: what administrators and identities sign
//! - [`host`]: names a host in the register; [`source`]: fetches revealed source
//! - [`secret_code`]: hands over its keys, and agrees to it
//! - [`mirror`]: copies a cryptlet's state to a chain whose delegate goes by a mirror
//! - [`queue`]: audits a message queue by the delegate's logs
//! - [`listing`]: what a host lists, as text
//!
//! Two words are compared wherever it matters: the host's, and that of the register's chain.

mod chain;
mod confirm;
pub mod connect;
pub mod delegation;
mod error;
mod files;
pub mod host;
pub mod import;
pub mod listing;
pub mod mirror;
pub mod policy;
pub mod publish;
pub mod queue;
mod register;
pub mod secret_code;
pub mod source;
pub mod subscription;
mod table;
pub mod wallet;

pub use chain::{ChainClient, Mined, SignedTransaction};
pub use confirm::confirm;
pub use connect::{Nodes, Places, Session, Witness};
pub use error::DeveloperError;
pub use register::{RegisterClient, Registration};
pub use table::{Sheet, Table, plain, plain_json};
pub use wallet::Wallet;
