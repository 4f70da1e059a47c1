//! The author's commands that need no host: `new`, `build`, `check`, `test`.

use super::{demo::stage::find_container, session::object};
use crate::{
    args::developer::{BuildOptions, KindWord, NewOptions, ProjectOptions},
    error::CliError,
    screen::{Paint, note, painted, say},
};
use cryptlet_author::{AuthorError, CaseResult, Checked, Project};
use cryptlet_check::{Finding, Severity};
use cryptlet_types::manifest::Kind;
use serde_json::json;
use std::{path::Path, process::ExitCode};

impl From<AuthorError> for CliError {
    fn from(error: AuthorError) -> Self {
        let next = error.next_step().to_owned();
        Self::new(error).next(next)
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
        "{} is there: cd {}, then cryptlet test",
        options.name,
        folder.display()
    ));
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn build(options: &BuildOptions) -> Result<ExitCode, CliError> {
    let how = how(options.offline);
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

/// Where cargo builds is what cargo's users expect: `CARGO_TARGET_DIR`, else the project's `target`.
fn how(offline: bool) -> cryptlet_author::BuildOptions {
    cryptlet_author::BuildOptions {
        target_dir: std::env::var_os("CARGO_TARGET_DIR").map(Into::into),
        offline,
    }
}

/// Brings the component up to date, which is quick when it is; its messages are told only if the compiler had work.
pub(crate) fn build_quietly(folder: &Path) -> Result<(), CliError> {
    let (mut kept, mut works) = (Vec::new(), false);
    let built = cryptlet_author::build(folder, &how(false), &mut |line| {
        works |= line.trim_start().starts_with("Compiling");
        if works {
            kept.drain(..).for_each(|line: String| note(line));
            note(line);
        } else {
            kept.push(line.to_owned());
        }
    });
    if built.is_err() {
        kept.into_iter().for_each(note);
    }
    built?;
    Ok(())
}

pub(crate) fn check(options: &ProjectOptions) -> Result<ExitCode, CliError> {
    // A manifest that cannot be read is a finding, and nothing can be built with it.
    match Project::open(&options.dir) {
        Err(AuthorError::Manifest { .. }) => {}
        _ => build_quietly(&options.dir)?,
    }
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
    build_quietly(&options.dir)?;
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
