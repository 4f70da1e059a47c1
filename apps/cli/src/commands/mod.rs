//! One module a command.

pub(crate) mod application;
pub(crate) mod audit;
pub(crate) mod author;
pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod govern;
pub(crate) mod host;
pub(crate) mod image;
pub(crate) mod import;
pub(crate) mod look;
pub(crate) mod mirror;
pub(crate) mod node;
pub(crate) mod publish;
pub(crate) mod region;
pub(crate) mod replay;
pub(crate) mod secret_code;
pub(crate) mod session;
pub(crate) mod source;
pub(crate) mod subscribe;
pub(crate) mod trace;
pub(crate) mod verify;

use crate::error::{CliError, Doing};
use std::path::Path;

/// What this program and those that it starts write from now on is for its user alone.
pub(crate) fn keep_private() {
    use rustix::fs::Mode;
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read_bounded(path: &Path, limit: usize) -> Result<Vec<u8>, CliError> {
    use std::io::Read;
    let reading = format!("cannot read {}", path.display());
    let file = std::fs::File::open(path).doing(&reading)?;
    let mut bytes = Vec::new();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(bound).read_to_end(&mut bytes).doing(&reading)?;
    if bytes.len() > limit {
        return Err(CliError::new(format_args!(
            "{} is larger than {limit} bytes",
            path.display()
        )));
    }
    Ok(bytes)
}
