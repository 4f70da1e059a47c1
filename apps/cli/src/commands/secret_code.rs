//! `cryptlet secret-code`: what counterparties do.

use super::session::{ask_whether_meant, object, open, wallet};
use crate::{
    args::developer::{AgreeOptions, GiveKeyOptions, SecretCode, SecretCodeOptions},
    error::CliError,
    screen::say,
};
use cryptlet_api::types::SecretCodeInfo;
use cryptlet_developer::{listing, secret_code};
use cryptlet_seal::sha256;
use cryptlet_types::bounded::MAX_COMPONENT_BYTES;
use std::process::ExitCode;

pub(crate) async fn run(what: &SecretCode) -> Result<ExitCode, CliError> {
    match what {
        SecretCode::Show(options) => show(options).await,
        SecretCode::Agree(options) => agree(options).await,
        SecretCode::GiveKey(options) => give_key(options).await,
    }
}

async fn show(options: &SecretCodeOptions) -> Result<ExitCode, CliError> {
    let session = open(&options.host).await?;
    let label = options.label.as_deref();
    let package = secret_code::package_of(&session, &options.cryptlet, label).await?;
    tell(options, &secret_code::show(&session, package).await?)
}

async fn agree(options: &AgreeOptions) -> Result<ExitCode, CliError> {
    let which = &options.which;
    let component = super::read_bounded(&options.code, MAX_COMPONENT_BYTES)?;
    let session = open(&which.host).await?;
    let wallet = wallet(&options.wallet, &session)?;
    let label = which.label.as_deref();
    let package = secret_code::package_of(&session, &which.cryptlet, label).await?;
    let words = format!(
        "{} agrees that the secret code of {} is {}, whose SHA-256 is {}, in package {package}",
        wallet.address(),
        which.cryptlet,
        options.code.display(),
        sha256(&component)
    );
    ask_whether_meant(options.yes, &session, &words)?;
    let info = secret_code::agree(&session, &wallet, package, &component).await?;
    tell(which, &info)
}

async fn give_key(options: &GiveKeyOptions) -> Result<ExitCode, CliError> {
    let which = &options.which;
    let key = secret_code::read_key(&options.key)?;
    let session = open(&which.host).await?;
    let label = which.label.as_deref();
    let package = secret_code::package_of(&session, &which.cryptlet, label).await?;
    tell(
        which,
        &secret_code::give_key(&session, package, &key).await?,
    )
}

fn tell(options: &SecretCodeOptions, info: &SecretCodeInfo) -> Result<ExitCode, CliError> {
    if options.json {
        object(info)?;
    } else {
        say(listing::secret_code(info));
    }
    Ok(ExitCode::SUCCESS)
}
