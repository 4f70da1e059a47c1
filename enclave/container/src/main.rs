//! `cryptlet-container`: see the library.

use cryptlet_container::{program, runtime::InProcess};
use std::process::ExitCode;

fn main() -> ExitCode {
    program::run("cryptlet-container", Box::new(InProcess))
}
