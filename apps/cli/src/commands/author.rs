//! The author's commands that need no host: `new`, `build`, `check`, `test`.

use super::{demo::stage::find_container, session::object};
use crate::{
    args::developer::{BuildOptions, KindWord, NewOptions, ProjectOptions},
    error::CliError,
    screen::{Paint, note, painted, say},
};
use cryptlet_author::{AuthorError, CaseResult, Checked};
use cryptlet_check::{Finding, Severity};
use cryptlet_types::manifest::Kind;
use serde_json::json;
use std::{path::Path, process::ExitCode};

impl From<AuthorError> for CliError {
    fn from(error: AuthorError) -> Self {
        Self::new(error)
    }
}

pub(crate) fn new(options: &NewOptions) -> Result<ExitCode, CliError> {
    let folder = options
        .dir
        .clone()
        .unwrap_or_else(|| options.name.clone().into());
    let kind = match options.kind {
        KindWord::Utility => Kind::Utility,
    };
    cryptlet_author::new(&folder, &options.name, kind)?;
    say(format_args!(
        "{} is there: cd {}, then cryptlet build",
        options.name,
        folder.display()
    ));
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn build(options: &BuildOptions) -> Result<ExitCode, CliError> {
    let how = cryptlet_author::BuildOptions {
        target_dir: None,
        offline: options.offline,
    };
    let built = cryptlet_author::build(&options.project.dir, &how, &mut |line| note(line))?;
    if options.project.json {
        object(&json!({ "path": built.path, "digest": built.digest, "size": built.size }))?;
    } else {
        say(format_args!(
            "{}  {} bytes  SHA-256 {}",
            built.path.display(),
            built.size,
            built.digest
        ));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn check(options: &ProjectOptions) -> Result<ExitCode, CliError> {
    let checked = cryptlet_author::check(&options.dir)?;
    if options.json {
        object(&json!({ "accepted": checked.is_accepted(), "findings": checked.findings }))?;
    } else {
        tell(&checked);
    }
    Ok(code(checked.is_accepted()))
}

fn tell(checked: &Checked) {
    for finding in &checked.findings {
        say(words(finding));
    }
    say(if checked.is_accepted() {
        painted("accepted", Paint::Good)
    } else {
        painted("not accepted", Paint::Bad)
    });
}

/// A finding: how grave, where, what, and what to do about it.
fn words(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let Finding {
        code,
        place,
        message,
        next,
        ..
    } = finding;
    format!("{severity}: {place}: {message} [{code}]\n next: {next}")
}

/// Refuses to go on with a project that hosts would refuse.
pub(crate) fn demand_accepted(folder: &Path) -> Result<(), CliError> {
    let checked = cryptlet_author::check(folder)?;
    if checked.is_accepted() {
        return Ok(());
    }
    for finding in &checked.findings {
        note(words(finding));
    }
    Err(CliError::new("the project would be refused by every host")
        .next("mend it, and see: cryptlet check"))
}

pub(crate) async fn test(options: &ProjectOptions) -> Result<ExitCode, CliError> {
    let results = cryptlet_author::test(&options.dir, &find_container()?).await?;
    let passed = results.iter().all(|result| result.passed);
    for result in &results {
        if options.json {
            object(result)?;
        } else {
            tell_case(result);
        }
    }
    Ok(code(passed))
}

fn tell_case(result: &CaseResult) {
    let word = if result.passed {
        painted("ok  ", Paint::Good)
    } else {
        painted("FAIL", Paint::Bad)
    };
    say(format_args!("{word} {}  {} ms", result.name, result.millis));
    if result.passed {
        return;
    }
    say(format_args!("     expected: {}", result.expected));
    say(format_args!("     got:      {}", result.got));
    for request in &result.unrecorded {
        say(format_args!("     not recorded: {request}"));
    }
    for line in &result.log {
        say(format_args!("     log: {line}"));
    }
}

fn code(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
