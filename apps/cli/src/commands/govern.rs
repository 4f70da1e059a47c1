//! `cryptlet policy`, `delegation`, `token`: what administrators, identities and operators do.

use super::{
    look::most,
    publish::tell_mined,
    session::{ask_whether_meant, confirm, in_days, list, object, open, patience, wallet},
};
use crate::{
    args::developer::{
        CreateTokenOptions, Delegation, NewPolicyOptions, Policy, RevokeDelegationOptions,
        RevokeTokenOptions, SetPolicyOptions, SignDelegationOptions, SignPolicyOptions,
        StatusOptions, SubmitDelegationOptions, Token,
    },
    error::{CliError, Doing},
    screen::say,
};
use cryptlet_api::{
    Connection,
    types::{CryptletRef, NewDelegation, NewToken, TokenLifetime},
};
use cryptlet_developer::{
    DeveloperError, Places, Session,
    delegation::{self, Scope},
    listing, policy,
};
use serde_json::json;
use std::{fs, process::ExitCode};
use zeroize::Zeroizing;

pub(crate) async fn policy(what: &Policy) -> Result<ExitCode, CliError> {
    match what {
        Policy::New(options) => new_policy(options).await,
        Policy::Sign(options) => sign_policy(options).await,
        Policy::Set(options) => set_policy(options).await,
        Policy::Show(options) => show_policy(options).await,
    }
}

async fn new_policy(options: &NewPolicyOptions) -> Result<ExitCode, CliError> {
    let file = &options.file;
    if file.symlink_metadata().is_ok() {
        let what = format!("{} is there already", file.display());
        return Err(CliError::new(what).next("name another file"));
    }
    let session = open(&options.host).await?;
    let template = policy::template(&session).await?;
    policy::store(file, &template)?;
    say(format_args!(
        "{} is a policy for epoch {} that allows nothing: edit it, then cryptlet policy sign",
        file.display(),
        template.policy.epoch
    ));
    Ok(ExitCode::SUCCESS)
}

async fn sign_policy(options: &SignPolicyOptions) -> Result<ExitCode, CliError> {
    let unsigned = policy::load(&options.file)?;
    let session = open(&options.host).await?;
    let wallet = wallet(&options.wallet, &session)?;
    let digest = policy::digest(&unsigned.policy)?;
    // Which register an approval counts in is what the host says: only who signs knows whether that is the one.
    let domain = session.register_domain();
    let words = format!(
        "policy {} ({digest}) is approved for register {} on chain {}",
        unsigned.policy.epoch, domain.register, domain.chain_id
    );
    ask_whether_meant(options.yes, &session, &words)?;
    let signed = policy::sign(&session, &wallet, unsigned).await?;
    policy::store(&options.file, &signed)?;
    say(format_args!(
        "{} approves epoch {} ({digest}); approvals so far: {}",
        wallet.address(),
        signed.policy.epoch,
        signed.approvals.len()
    ));
    Ok(ExitCode::SUCCESS)
}

async fn set_policy(options: &SetPolicyOptions) -> Result<ExitCode, CliError> {
    let signed = policy::load(&options.file)?;
    let session = open(&options.host).await?;
    let wallet = wallet(&options.wallet, &session)?;
    let set = policy::set(&session, &wallet, &signed, patience(&options.wallet)).await?;
    if options.json {
        let transaction = set.mined.map(|mined| mined.transaction);
        object(&json!({ "transaction": transaction, "policy": set.info }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let how = match set.mined {
        Some(mined) => format!("from block {} on", mined.block),
        None => "as before".into(),
    };
    say(format_args!("policy {} is in force, {how}", set.info.epoch));
    Ok(ExitCode::SUCCESS)
}

async fn show_policy(options: &StatusOptions) -> Result<ExitCode, CliError> {
    let session = open(&options.host).await?;
    let info = session
        .client()
        .policy()
        .await
        .map_err(DeveloperError::from)?;
    if options.json {
        object(&info)?;
    } else {
        say(listing::policy(&info));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn delegation(what: &Delegation) -> Result<ExitCode, CliError> {
    match what {
        Delegation::Sign(options) => sign_delegation(options).await,
        Delegation::Submit(options) => submit_delegation(options).await,
        Delegation::Revoke(options) => revoke_delegation(options).await,
        Delegation::List(options) => {
            let session = open(&options.host).await?;
            let client = session.client();
            let found = listing::all(most(options), async |page| client.delegations(&page).await);
            list(options.json, &found.await?, listing::delegations)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn sign_delegation(options: &SignDelegationOptions) -> Result<ExitCode, CliError> {
    let callback = options.callback.as_deref().map(delegation::parse_callback);
    let scope = Scope {
        identity: options.identity,
        cryptlet: options.cryptlet.clone(),
        consumer: options.consumer,
        callback: callback.transpose()?,
        expiry: in_days(options.days),
    };
    let session = open(&options.host).await?;
    let wallet = wallet(&options.wallet, &session)?;
    let cryptlet = delegation::resolve(&session, &scope.cryptlet).await?;
    let domain = session.delegate_domain();
    let words = format!(
        "{cryptlet}, asked for as {}, is to speak in the name of {} at delegate {} on chain {}",
        scope.cryptlet,
        scope.identity.unwrap_or(wallet.address()),
        domain.delegate,
        domain.chain_id
    );
    ask_whether_meant(options.yes, &session, &words)?;
    // What was asked about, whatever the name leads to by now.
    let scope = Scope {
        cryptlet: CryptletRef::from(cryptlet),
        ..scope
    };
    let signed = delegation::sign(&session, &wallet, &scope).await?;
    if let Some(file) = &options.out {
        let text = serde_json::to_string_pretty(&signed).doing("cannot write JSON")?;
        let writing = format!("cannot write {}", file.display());
        fs::write(file, format!("{text}\n")).doing(writing)?;
        say(format_args!(
            "signed by {}: {}",
            wallet.address(),
            file.display()
        ));
        return Ok(ExitCode::SUCCESS);
    }
    hand_in(&session, &signed, options.json).await
}

async fn submit_delegation(options: &SubmitDelegationOptions) -> Result<ExitCode, CliError> {
    let signed = delegation::load(&options.file)?;
    let session = open(&options.host).await?;
    hand_in(&session, &signed, options.json).await
}

async fn hand_in(
    session: &Session,
    signed: &NewDelegation,
    json: bool,
) -> Result<ExitCode, CliError> {
    let info = delegation::submit(session, signed).await?;
    if json {
        object(&info)?;
    } else {
        let body = &info.delegation;
        say(format_args!(
            "{} lets cryptlet {} speak in its name: {}",
            body.identity, body.cryptlet, info.digest
        ));
    }
    Ok(ExitCode::SUCCESS)
}

async fn revoke_delegation(options: &RevokeDelegationOptions) -> Result<ExitCode, CliError> {
    let session = open(&options.host).await?;
    let wallet = wallet(&options.wallet, &session)?;
    let words = format!("delegation {} is revoked", options.digest);
    confirm(options.yes, &words)?;
    let patience = patience(&options.wallet);
    let mined = delegation::revoke(&session, &wallet, options.digest, patience).await?;
    tell_mined(options.json, &words, mined)
}

pub(crate) async fn token(what: &Token) -> Result<ExitCode, CliError> {
    match what {
        Token::Create(options) => create_token(options).await,
        Token::Revoke(options) => revoke_token(options).await,
        Token::List(options) => {
            let session = open(&options.host).await?;
            let client = session.client();
            let found = listing::all(most(options), async |page| client.tokens(&page).await);
            list(options.json, &found.await?, listing::tokens)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn create_token(options: &CreateTokenOptions) -> Result<ExitCode, CliError> {
    let lifetime = TokenLifetime::new(options.days.saturating_mul(86_400)).doing("--days")?;
    let new = NewToken {
        role: options.role,
        label: options.label.clone(),
        lifetime_seconds: lifetime,
    };
    let session = open(&options.host).await?;
    let made = session
        .client()
        .create_token(&new)
        .await
        .map_err(DeveloperError::from)?;
    let Some(file) = &options.out else {
        if options.json {
            return object(&made).map(|()| ExitCode::SUCCESS);
        }
        say(made.token.as_str());
        return Ok(ExitCode::SUCCESS);
    };
    // The same host and authority, with the new token.
    let (_, own) = Places::of_process(options.host.host_file.clone()).find()?;
    let connection = Connection {
        token: Zeroizing::new(made.token.clone()),
        ..own
    };
    connection.save(file).map_err(DeveloperError::from)?;
    if options.json {
        object(&made.info)?;
    } else {
        say(format_args!(
            "{} lets in a {} as token {}",
            file.display(),
            options.role,
            made.info.id
        ));
    }
    Ok(ExitCode::SUCCESS)
}

async fn revoke_token(options: &RevokeTokenOptions) -> Result<ExitCode, CliError> {
    let session = open(&options.host).await?;
    session
        .client()
        .revoke_token(&options.id)
        .await
        .map_err(DeveloperError::from)?;
    say(format_args!("token {} is revoked", options.id));
    Ok(ExitCode::SUCCESS)
}
