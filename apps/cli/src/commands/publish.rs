//! `cryptlet publish`, `keys`, `revoke`: what a publisher does.

use super::{
    author::{build_quietly, demand_accepted},
    look::most,
    session::{confirm, in_days, list, object, open, patience, wallet},
};
use crate::{
    args::developer::{
        ExportOptions, Keys, ListOptions, PublishOptions, RevokeOptions, RotateOptions,
        VersionArgs, WalletArgs,
    },
    error::{CliError, Doing},
    screen::{note, say},
};
use cryptlet_author::Project;
use cryptlet_developer::{
    DeveloperError, Mined, Session, listing,
    publish::{self, Destination, Parts, Revocation, Step},
    secret_code,
};
use cryptlet_register::{OciAuth, source};
use cryptlet_seal::CodeKey;
use serde_json::json;
use std::{path::Path, process::ExitCode, sync::Arc};
use zeroize::Zeroizing;

pub(crate) async fn run(options: &PublishOptions) -> Result<ExitCode, CliError> {
    let folder = &options.project.dir;
    build_quietly(folder)?;
    demand_accepted(folder)?;
    let parts = parts(folder, options.version.source)?;
    let label = options.new_version.clone().flatten();
    let parts = match label {
        Some(label) => parts.labelled(label),
        None => parts,
    };
    let session = open(&options.host).await?;
    let wallet = wallet(&options.wallet, &session)?;
    let how = how(
        &options.version,
        &options.wallet,
        folder,
        options.new_version.is_some(),
    );
    let published = publish::publish(&session, &wallet, &parts, &how, &tell).await?;
    if options.project.json {
        object(&published)?;
    } else {
        say(listing::published(&published));
    }
    Ok(ExitCode::SUCCESS)
}

/// What the author has built.
fn parts(folder: &Path, with_source: bool) -> Result<Parts, CliError> {
    let project = Project::open(folder)?;
    let (code, code_key) = match &project.manifest.config.secret_code {
        Some(_) if with_source => {
            let what = "the source of secret code is not revealed";
            return Err(CliError::new(what).next("publish without --source"));
        }
        Some(_) => {
            let (code, key) = encrypted(folder, &project.code()?)?;
            (code.into(), Some(key))
        }
        None => (project.code()?.into(), None),
    };
    let source = if with_source {
        Some(packed(folder)?)
    } else {
        None
    };
    Ok(Parts {
        manifest: project.manifest,
        interface: project.interface,
        code,
        code_key,
        source,
    })
}

/// The component as nobody reads it without its key, which stays in the project.
fn encrypted(folder: &Path, component: &[u8]) -> Result<(Vec<u8>, Arc<CodeKey>), CliError> {
    let (file, key) = secret_code::key_of(&folder.join("secret-code"), component)?;
    note(format_args!(
        "secret    who has {} can read the code: hand it to the counterparties' hosts alone",
        file.display()
    ));
    let code = key.encrypt(component).doing("cannot encrypt the code")?;
    Ok((code, Arc::new(key)))
}

fn packed(folder: &Path) -> Result<alloy::primitives::Bytes, CliError> {
    let packed = source::pack(folder).doing("cannot pack the source")?;
    for path in &packed.skipped {
        note(format_args!("kept      {path}"));
    }
    let files = source::inspect(&packed.bytes).doing("cannot pack the source")?;
    for file in &files {
        note(format_args!("reveals   {}", file.path));
    }
    Ok(packed.bytes.into())
}

fn how(
    version: &VersionArgs,
    wallet: &WalletArgs,
    folder: &Path,
    further: bool,
) -> publish::PublishOptions {
    let to = version.to.clone().map(|reference| Destination {
        reference,
        auth: registry_account(),
        tokens: std::env::var("OCI_TOKEN_HOST").ok(),
    });
    publish::PublishOptions {
        further,
        expiry: in_days(version.valid_days),
        to,
        patience: patience(wallet),
        // Beside the component that is published, and never part of the source.
        folder: folder.join("target").join("cryptlet"),
    }
}

/// The account at an OCI registry, from the environment.
fn registry_account() -> OciAuth {
    match (std::env::var("OCI_USERNAME"), std::env::var("OCI_PASSWORD")) {
        (Ok(username), Ok(password)) => OciAuth::Password {
            username,
            password: Zeroizing::new(password),
        },
        _ => OciAuth::Anonymous,
    }
}

/// Tells how far it has come, on standard error.
fn tell(step: Step) {
    match step {
        Step::Key(signer) => note(format_args!("key       {signer}")),
        Step::Stored(package) => note(format_args!("stored    {package}")),
        Step::CodeKey => note("key       of the secret code is at the host"),
        Step::Sent {
            transaction,
            max_cost,
        } => {
            let most = listing::ether(max_cost);
            note(format_args!("sent      {transaction}, for at most {most}"));
        }
        Step::Mined(block) => note(format_args!("mined     in block {block}")),
        Step::Attested { host, block } => {
            note(format_args!("assigned  {host} in block {block}"));
        }
        Step::NotAttested(reason) => note(format_args!("no host is assigned: {reason}")),
        Step::Shown => note("published"),
    }
}

pub(crate) async fn revoke(options: &RevokeOptions) -> Result<ExitCode, CliError> {
    let what = match (&options.version_label, options.signer) {
        (Some(label), _) => Revocation::Version(label.clone()),
        (None, Some(signer)) => Revocation::Signer(signer),
        (None, None) => Revocation::All,
    };
    let words = match &what {
        Revocation::Version(label) => format!("version {label} of {} is revoked", options.cryptlet),
        Revocation::Signer(signer) => format!("signer {signer} of {} is revoked", options.cryptlet),
        Revocation::All => format!("{} is revoked with all its versions", options.cryptlet),
    };
    let session = open(&options.host).await?;
    let wallet = wallet(&options.wallet, &session)?;
    confirm(options.yes, &words)?;
    let patience = patience(&options.wallet);
    let mined = publish::revoke(&session, &wallet, &options.cryptlet, &what, patience).await?;
    tell_mined(options.json, &words, mined)
}

/// What a transaction did.
pub(crate) fn tell_mined(json: bool, words: &str, mined: Mined) -> Result<ExitCode, CliError> {
    if json {
        object(&json!({
            "transaction": mined.transaction, "block": mined.block, "gasUsed": mined.gas_used,
            "maxCostWei": mined.max_cost.to_string(),
        }))?;
    } else {
        say(format_args!(
            "{words}, from block {} on ({} gas)",
            mined.block, mined.gas_used
        ));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn keys(what: &Keys) -> Result<ExitCode, CliError> {
    match what {
        Keys::List(options) => list_keys(options).await,
        Keys::Rotate(options) => rotate(options).await,
        Keys::ExportPublic(options) => export_public(options).await,
    }
}

async fn list_keys(options: &ListOptions) -> Result<ExitCode, CliError> {
    let session = open(&options.host).await?;
    let client = session.client();
    let found = listing::all(most(options), async |page| client.keys(&page).await);
    list(options.json, &found.await?, listing::keys)?;
    Ok(ExitCode::SUCCESS)
}

async fn rotate(options: &RotateOptions) -> Result<ExitCode, CliError> {
    let folder = &options.project.dir;
    build_quietly(folder)?;
    let parts = parts(folder, options.version.source)?;
    if parts.manifest.name != options.name {
        let what = format!(
            "the project in {} is {}",
            folder.display(),
            parts.manifest.name
        );
        return Err(CliError::new(what).next("name the project's folder with --dir"));
    }
    let session = open(&options.host).await?;
    let wallet = wallet(&options.wallet, &session)?;
    if !options.keep {
        confirm(
            options.yes,
            format_args!(
                "the key of {} is replaced and the old one revoked",
                options.name
            ),
        )?;
    }
    let how = how(&options.version, &options.wallet, folder, true);
    let rotated = publish::rotate(&session, &wallet, &parts, options.keep, &how, &tell).await?;
    if options.project.json {
        object(&rotated)?;
        return Ok(ExitCode::SUCCESS);
    }
    say(listing::published(&rotated.published));
    for signer in &rotated.revoked {
        say(format_args!("revoked      {signer}"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn export_public(options: &ExportOptions) -> Result<ExitCode, CliError> {
    let session = open(&options.host).await?;
    let cryptlet = match &options.cryptlet {
        Some(name) => Some(id_of(&session, name).await?),
        None => None,
    };
    let client = session.client();
    let found = listing::all(usize::MAX, async |page| client.keys(&page).await).await?;
    let wanted: Vec<_> = found
        .iter()
        .filter(|key| key.cryptlet == cryptlet)
        .collect();
    if wanted.is_empty() {
        return Err(
            CliError::new("the vault has no such key").next("list them: cryptlet keys list")
        );
    }
    wanted.into_iter().try_for_each(object)?;
    Ok(ExitCode::SUCCESS)
}

async fn id_of(
    session: &Session,
    name: &cryptlet_api::types::CryptletRef,
) -> Result<cryptlet_api::types::Hex<20>, CliError> {
    let detail = session
        .client()
        .cryptlet(name)
        .await
        .map_err(DeveloperError::from)?;
    Ok(detail.cryptlet)
}
