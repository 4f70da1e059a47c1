//! `cryptlet host`: a host by itself.

use crate::{
    args::HostOptions,
    commands::{keep_private, node::interrupted},
    error::{CliError, Doing},
    screen::{say, say_json},
};
use cryptlet_developer::{connect::origin, plain};
use cryptlet_host::{Host, HostConfig, Progress, Standing};
use serde_json::{Value, json};
use std::process::ExitCode;

pub(crate) async fn run(options: HostOptions) -> Result<ExitCode, CliError> {
    keep_private();
    let config = HostConfig::load(&options.config)
        .doing("the host did not start")
        .map_err(|error| error.next("cryptlet demo leaves an example: bletchley-demo/host.json"))?;
    let mut host = Host::open(&config).await.doing("the host did not start")?;
    let mut progress = host.watch();
    let url = host.api().map(|api| api.url.clone());
    // What follows the node's name may be the key to it.
    let rpc = origin(&config.rpc);
    if options.json {
        say_json(json!({ "state": "ready", "delegate": config.delegate, "rpc": rpc, "api": url }));
    } else {
        if let Some(url) = &url {
            say(format_args!("API at {url}"));
        }
        say(format_args!(
            "ready: serving delegate {} at {rpc}; Ctrl-C ends it",
            config.delegate
        ));
    }
    let mut standing = host.rules().watch();
    let mut told = None;
    tell_standing(&standing.borrow_and_update(), &mut told, options.json);
    loop {
        tokio::select! {
            changed = standing.changed() => if changed.is_ok() {
                tell_standing(&standing.borrow_and_update(), &mut told, options.json);
            },
            outcome = interrupted() => {
                outcome?;
                host.stop().await;
                return Ok(ExitCode::SUCCESS);
            }
            ended = host.ended() => {
                ended.doing("the host cannot go on")?;
                return Ok(ExitCode::FAILURE);
            }
            news = progress.recv() => if let Ok(news) = news {
                tell(&news, options.json);
            },
        }
    }
}

/// Says which policy is in force, or why none is, when that has changed since it was told last.
fn tell_standing(standing: &Standing, told: &mut Option<Value>, json: bool) {
    let value = match (&standing.policy, &standing.without) {
        (Some(policy), _) => {
            json!({ "state": "policy", "epoch": policy.policy.epoch, "digest": policy.digest })
        }
        (None, reason) => json!({ "state": "waiting", "reason": reason }),
    };
    if told.as_ref() == Some(&value) {
        return;
    }
    if json {
        say_json(&value);
    } else if let Some(policy) = &standing.policy {
        let epoch = policy.policy.epoch;
        say(format_args!("policy of epoch {epoch} is in force"));
    } else {
        let reason = standing.without.as_deref();
        say(format_args!(
            "no job starts: {}",
            plain(reason.unwrap_or("the register was not read yet"))
        ));
    }
    *told = Some(value);
}

/// Says how a job ended.
pub(crate) fn tell(news: &Progress, json: bool) {
    let value = as_json(news);
    if json {
        say_json(value);
        return;
    }
    let word = |key: &str| value.get(key).map(ToString::to_string).unwrap_or_default();
    let line = format!("{} {} {}", word("state"), word("job"), word("reason"));
    say(plain(&line).replace('"', "").trim_end());
}

fn as_json(news: &Progress) -> Value {
    match news {
        Progress::Delivered {
            receipt,
            success,
            block,
            gas_used,
        } => json!({
            "state": "delivered", "job": receipt.job, "sequence": receipt.report.report.sequence,
            "success": success, "block": block, "gasUsed": gas_used,
        }),
        Progress::Skipped { job, reason } => {
            json!({ "state": "skipped", "job": job.id, "reason": reason })
        }
        Progress::Retried { job, reason } => {
            json!({ "state": "retried", "job": job, "reason": reason })
        }
        Progress::Failed { job, reason } => {
            json!({ "state": "failed", "job": job.id, "reason": reason })
        }
        Progress::Refused { event, reason } => {
            json!({ "state": "refused", "event": event.id, "reason": reason })
        }
    }
}
