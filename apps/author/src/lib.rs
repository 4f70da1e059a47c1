//! The author's tools: from a new project to a component that was checked and tested, without a chain.
//!
//! [`new`] makes a project that works as it stands, [`build()`] makes its component, [`check()`] says what is to be mended, and
//! [`test()`] runs the recorded cases in the real container. The program `cryptlet` shows what they return.
//!
//! A project is a folder with `cryptlet.json` (the manifest without its key), `interface.sol` (see `cryptlet_header`), a
//! Rust crate, and `tests/*.json` (see [`case`]).

mod build;
pub mod case;
mod check;
mod error;
mod project;
mod server;
mod template;
mod test;

pub use build::{BuildOptions, Built, build};
pub use check::{Checked, check};
pub use error::AuthorError;
pub use project::Project;
pub use template::new;
pub use test::{CaseResult, test};
