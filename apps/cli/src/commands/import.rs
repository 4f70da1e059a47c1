//! `cryptlet import`: a cryptlet's header in a contract developer's project.

use super::session::{object, open};
use crate::{
    args::developer::ImportOptions,
    error::{CliError, Doing},
    screen::{Paint, painted, say},
};
use cryptlet_api::types::CryptletRef;
use cryptlet_developer::{
    Session, Witness,
    import::{self, ContractProject, Imported},
    plain,
};
use serde_json::json;
use std::process::ExitCode;

pub(crate) async fn run(options: &ImportOptions) -> Result<ExitCode, CliError> {
    let here = std::env::current_dir().doing("there is no current folder")?;
    let project = ContractProject::find(&here, options.out.as_deref())?;
    let session = open(&options.host).await?;
    match &options.cryptlet {
        Some(cryptlet) if !options.check => bring(&session, cryptlet, &project, options).await,
        only => check(&session, &project, only.as_ref(), options.json).await,
    }
}

async fn bring(
    session: &Session,
    cryptlet: &CryptletRef,
    project: &ContractProject,
    options: &ImportOptions,
) -> Result<ExitCode, CliError> {
    let imported = import::import(session, cryptlet, project, options.accept).await?;
    if options.json {
        object(&imported)?;
    } else {
        tell(&imported);
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(imported: &Imported) {
    for change in &imported.changes {
        say(format_args!("accepted{}", plain(change)));
    }
    for file in &imported.written {
        say(format_args!("wrote  {}", plain(file)));
    }
    if imported.written.is_empty() {
        say("all files were there");
    }
    let locked = &imported.locked;
    say(format_args!(
        "locked {} {} by its header {}",
        imported.contract, locked.label, locked.header
    ));
    let register = locked.register;
    say(format_args!(
        "id     {} in register {} on chain {}",
        locked.id, register.register, register.chain_id
    ));
    say(match imported.witness {
        Some(Witness::Own) => "checked with the register, by your node",
        Some(Witness::Development) => "checked with the register, by the node on this machine",
        Some(Witness::Host) | None => {
            "only the host's word was there: name a node of the register's chain with --register-rpc URL"
        }
    });
    if let Some(command) = &imported.install {
        say(format_args!("the contracts need OpenZeppelin's: {command}"));
    }
    say(format_args!(
        "import {{{}}} from \"{}\"; and inherit it",
        imported.contract,
        plain(&imported.file)
    ));
}

async fn check(
    session: &Session,
    project: &ContractProject,
    only: Option<&CryptletRef>,
    json: bool,
) -> Result<ExitCode, CliError> {
    let findings = import::check(session, &project.root, only).await?;
    if json {
        findings.iter().try_for_each(object)?;
        if findings.is_empty() {
            object(&json!({ "unchanged": true }))?;
        }
    } else if findings.is_empty() {
        say(painted("unchanged", Paint::Good));
    }
    for finding in findings.iter().filter(|_| !json) {
        say(format_args!(
            "{} {}",
            painted("CHANGED", Paint::Bad),
            finding.name
        ));
        for change in &finding.changes {
            say(plain(change));
        }
    }
    Ok(if findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
