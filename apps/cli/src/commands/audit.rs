//! `cryptlet audit`: a message queue, judged by the delegate's logs.

use super::session::{object, open};
use crate::{
    args::developer::AuditOptions,
    error::CliError,
    screen::{Paint, painted, say},
};
use cryptlet_developer::{
    DeveloperError,
    queue::{QueueAudit, audit},
};
use std::process::ExitCode;

pub(crate) async fn run(options: &AuditOptions) -> Result<ExitCode, CliError> {
    let session = open(&options.host).await?;
    let url = session
        .chain_rpc()
        .ok_or(DeveloperError::NoRpc("delegate"))?;
    let found = audit(
        url,
        session.delegate_domain(),
        options.queue,
        options.from_block,
    )
    .await?;
    if options.json {
        object(&found)?;
    } else {
        show(&found);
    }
    Ok(if found.holds() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn show(found: &QueueAudit) {
    say(format_args!("queue     {}", found.queue));
    say(format_args!("subject   {}", found.subject));
    say(format_args!(
        "delegate  {} on chain {}, up to block {}",
        found.delegate, found.chain_id, found.block
    ));
    say(format_args!(
        "messages  {}, and {} that failed and are not in it",
        found.messages, found.failed
    ));
    if found.holds() {
        let ok = painted("ok  ", Paint::Good);
        say(format_args!(
            "{ok}      the delegate's logs give the same messages and the same chain: {}",
            found.chain_hash
        ));
        return;
    }
    for difference in &found.differences {
        let bad = painted("FAIL", Paint::Bad);
        say(format_args!("{bad}      {difference}"));
    }
}
