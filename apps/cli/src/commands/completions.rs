//! `cryptlet completions`.

use crate::{args::Arguments, error::CliError};
use clap::CommandFactory;
use std::process::ExitCode;

pub(crate) fn run(shell: clap_complete::Shell) -> Result<ExitCode, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "cryptlet", &mut script);
    crate::screen::say_as_it_is(String::from_utf8_lossy(&script).trim_end());
    Ok(ExitCode::SUCCESS)
}
