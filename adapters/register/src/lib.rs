//! What a host knows about cryptlets: what the register's chain says of them, their packages, and the policy in force.
//!
//! - [`Register`]: the questions that a host asks; [`Replica`] answers them
//! - [`Index`]: what the register's chain says, kept in SQLite and found by name
//! - [`Freshness`]: how old that knowledge is, and when it is too old to run anything by
//! - [`PackageStore`]: packages by digest, in an OCI image layout
//! - [`source`]: packing source, and refusing hostile archives
//! - [`oci`]: packages to and from OCI registries
//! - [`PolicyStore`]: takes the policy that administrators approved and never goes back to an older one
//!
//! What runs is what the chain says. Nothing here can add to it: the store only has the bytes.

mod error;
mod file;
mod freshness;
pub mod index;
pub mod oci;
mod packages;
mod policy;
mod register;
pub mod source;

pub use error::{RegisterError, Result};
pub use freshness::{Freshness, Synced};
pub use index::{Cursor, Index, Known, PolicySet};
pub use oci::{OciAuth, OciReference, OciRegistries};
pub use packages::PackageStore;
pub use policy::{PolicyStore, is_the_registers};
pub use register::{Current, Entry, Register, Replica};
