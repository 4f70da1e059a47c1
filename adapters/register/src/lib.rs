//! What a host knows about cryptlets: which package each one runs, the packages themselves, and the policy
//! in force.
//!
//! - [`Register`]: the questions that a host asks; [`LocalRegister`] answers them from the data folder, an
//!   on-chain register can take its place
//! - [`PackageStore`]: packages by digest, in an OCI image layout
//! - [`Catalog`]: which package a cryptlet runs
//! - [`PolicyStore`]: loads the operator's policy and never goes back to an older one

mod catalog;
mod error;
mod file;
mod packages;
mod policy;
mod register;

pub use catalog::{Catalog, Entry};
pub use error::{RegisterError, Result};
pub use packages::PackageStore;
pub use policy::PolicyStore;
pub use register::{LocalRegister, Register};
