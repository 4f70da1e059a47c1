//! `cryptlet host`: a host by itself, set up, registered, run.

use super::session::{ask, ask_whether_meant, object, open, patience, wallet};
use crate::{
    args::{
        CertifyOptions, HostCommand, HostOptions, InitOptions, ResetSealedOptions, ServeOptions,
        developer::RegisterHostOptions,
    },
    commands::{keep_private, node::interrupted},
    error::{CliError, Doing},
    screen::{say, say_json},
};
use cryptlet_developer::{connect::origin, host as registered, plain};
use cryptlet_host::{Host, HostConfig, Progress, Standing, setup};
use serde_json::{Value, json};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::ExitCode,
};
use zeroize::Zeroizing;

const EXAMPLE: &str = "cryptlet demo leaves an example: bletchley-demo/host.json";

pub(crate) async fn run(options: HostOptions) -> Result<ExitCode, CliError> {
    match options.what {
        None => serve(options.serve).await,
        Some(HostCommand::Init(options)) => init(&options).await,
        Some(HostCommand::Certify(options)) => certify(&options).await,
        Some(HostCommand::ResetSealed(options)) => reset_sealed(&options).await,
        Some(HostCommand::Register(options)) => register(&options).await,
    }
}

fn configuration(path: &Path) -> Result<HostConfig, CliError> {
    let config = HostConfig::load(path).doing("this is no host's configuration");
    config.map_err(|error| error.next(EXAMPLE))
}

async fn init(options: &InitOptions) -> Result<ExitCode, CliError> {
    keep_private();
    let config = configuration(&options.config)?;
    let out = &options.out;
    if config.api.is_some() && out.symlink_metadata().is_ok() {
        let what = format!("{} is there already", out.display());
        return Err(CliError::new(what).next("name another file: --out FILE"));
    }
    let prepared = setup::prepare(&config).await;
    let prepared = prepared
        .doing("the host cannot be set up")
        .map_err(|error| error.next("mend what is named, then run the same command again"))?;
    if let Some(connection) = &prepared.connection {
        let doing = format!("cannot write {}", out.display());
        connection.save(out).doing(doing).map_err(|error| {
            error.next("name another file: --out FILE; the token that nobody got is in `cryptlet token list`")
        })?;
    }
    let written = prepared.connection.is_some().then_some(out);
    if options.json {
        object(&json!({
            "host": prepared.host, "transmitter": prepared.transmitter, "connection": written,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    say(format_args!("host key     {}", prepared.host));
    say(format_args!(
        "transmitter  {}, fund it: it pays for deliveries",
        prepared.transmitter
    ));
    if let Some(written) = written {
        let path = written.display();
        say(format_args!(
            "connection   {path}, an operator's: keep it to yourself"
        ));
    }
    let config = options.config.display();
    say(format_args!(
        "start it with: cryptlet host --config {config}"
    ));
    Ok(ExitCode::SUCCESS)
}

async fn certify(options: &CertifyOptions) -> Result<ExitCode, CliError> {
    let config = configuration(&options.config)?;
    let seconds = options.days.saturating_mul(86_400);
    let made = setup::certify_client(&config, &options.label, seconds).await;
    let made = made
        .doing("the client cannot be certified")
        .map_err(|error| error.next("make a host first: cryptlet host init; stop one that runs"))?;
    let out = options.out.display();
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&options.out)
        .doing(format_args!("cannot write {out}"))
        .map_err(|error| error.next("name another file: --out FILE"))?;
    let pem = Zeroizing::new(format!("{}{}", made.certificate, *made.key));
    if let Err(error) = file.write_all(pem.as_bytes()) {
        let _part_of_it = fs::remove_file(&options.out);
        let failed = CliError::system(format_args!("cannot write {out}"), error);
        return Err(failed.next("name another file: --out FILE"));
    }
    if options.json {
        object(&json!({ "file": options.out, "digest": made.digest }))?;
        return Ok(ExitCode::SUCCESS);
    }
    say(format_args!("{out} has the certificate and its key"));
    say(format_args!(
        "give it a role in api.clients of {}, then start the host: \"{}\": \"reader\"",
        options.config.display(),
        made.digest
    ));
    Ok(ExitCode::SUCCESS)
}

async fn reset_sealed(options: &ResetSealedOptions) -> Result<ExitCode, CliError> {
    let config = configuration(&options.config)?;
    let (cryptlet, measurement) = (options.cryptlet, options.measurement);
    let words = format!("sealed image of cryptlet {cryptlet}, measurement {measurement}, given up");
    let question = format!(
        "What regions of cryptlet {cryptlet} promised is forgotten: they may sign another report under a number that was used."
    );
    ask(options.yes, &words, question)?;
    let reset = setup::reset_sealed(&config, cryptlet, measurement).await;
    reset
        .doing("the sealed image cannot be given up")
        .map_err(|error| error.next("take both from the host's log, and stop a host that runs"))?;
    if options.json {
        object(&json!({ "cryptlet": cryptlet, "measurement": measurement }))?;
    } else {
        say(words);
    }
    Ok(ExitCode::SUCCESS)
}

async fn register(options: &RegisterHostOptions) -> Result<ExitCode, CliError> {
    let session = open(&options.host).await?;
    let wallet = wallet(&options.wallet, &session)?;
    let (info, domain) = (session.info(), session.register_domain());
    let words = format!(
        "host {} at {} with authority {} is named by register {} on chain {}",
        info.host,
        plain(&info.url),
        info.authority,
        domain.register,
        domain.chain_id
    );
    ask_whether_meant(options.yes, &session, &words)?;
    let mined = registered::register(&session, &wallet, patience(&options.wallet)).await?;
    match mined {
        Some(mined) => super::publish::tell_mined(options.json, &words, mined),
        None if options.json => object(&json!({ "transaction": null })).map(|()| ExitCode::SUCCESS),
        None => {
            say(format_args!("{words}, as before"));
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn serve(options: ServeOptions) -> Result<ExitCode, CliError> {
    keep_private();
    let config = configuration(&options.config)?;
    let host = Host::open(&config).await.doing("the host did not start");
    let mut host = host
        .map_err(|error| error.next("mend what is named; a new host needs `cryptlet host init`"))?;
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
                // Regions leave what they promised.
                host.stop().await;
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
        Progress::Parked { job, reason } => {
            json!({ "state": "parked", "job": job.id, "reason": reason })
        }
        Progress::Refused { event, reason } => {
            json!({ "state": "refused", "event": event.id, "reason": reason })
        }
    }
}
