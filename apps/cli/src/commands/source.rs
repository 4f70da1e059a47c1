//! `cryptlet source`: what a cryptlet is made of, as the register's digest says.

use super::session::{object, open};
use crate::{args::developer::SourceOptions, error::CliError, screen::say};
use cryptlet_developer::{plain, source};
use std::{path::PathBuf, process::ExitCode};

pub(crate) async fn run(options: &SourceOptions) -> Result<ExitCode, CliError> {
    let session = open(&options.host).await?;
    let named = options.dir.clone();
    let folder = named.unwrap_or_else(|| PathBuf::from(options.cryptlet.as_str()));
    let fetched = source::fetch(&session, &options.cryptlet, &folder).await?;
    if options.json {
        object(&fetched)?;
        return Ok(ExitCode::SUCCESS);
    }
    for file in &fetched.files {
        say(format_args!(
            "wrote   {}",
            plain(&format!("{}/{file}", folder.display()))
        ));
    }
    say(format_args!(
        "source  of {} {}, SHA-256 {}",
        options.cryptlet, fetched.label, fetched.digest
    ));
    say(if fetched.witnessed {
        "checked with the register; rebuild it and compare: cryptlet build"
    } else {
        "only the host's word was there: name a node of the register's chain with --register-rpc URL"
    });
    Ok(ExitCode::SUCCESS)
}
