//! What the commands that talk to a host share: coming in, the wallet, asking back, listing.

use crate::{
    args::developer::{HostArgs, WalletArgs},
    error::{CliError, Doing},
    screen::{note, say, say_json},
};
use cryptlet_developer::{Nodes, Places, Session, Wallet};
use serde::Serialize;
use std::{
    fmt::Display,
    io::{BufRead, IsTerminal},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use zeroize::Zeroizing;

/// Largest file with a password, in bytes.
const MAX_PASSWORD_BYTES: usize = 4 << 10;
const WEI_PER_GWEI: u128 = 1_000_000_000;

/// Finds the host and asks it about itself.
pub(crate) async fn open(options: &HostArgs) -> Result<Session, CliError> {
    let places = Places::of_process(options.host_file.clone());
    let (file, connection) = places.find()?;
    if places.is_come_upon(&file) {
        note(format_args!("host      as {} says", file.display()));
    }
    let nodes = Nodes {
        register: options.register_rpc.clone(),
        chain: options.rpc.clone(),
    };
    Ok(Session::open(&connection, nodes).await?)
}

/// The account that signs and pays.
pub(crate) fn wallet(options: &WalletArgs, session: &Session) -> Result<Wallet, CliError> {
    let max_fee = u128::from(options.max_fee_gwei).saturating_mul(WEI_PER_GWEI);
    Ok(account(options, session)?.with_max_fee_per_gas(max_fee))
}

fn account(options: &WalletArgs, session: &Session) -> Result<Wallet, CliError> {
    if let Some(index) = options.dev_account {
        return Ok(Wallet::development(index, session)?);
    }
    let keystore = options.keystore.as_deref().ok_or_else(|| {
        CliError::new("nobody says whose account signs and pays")
            .next("name a keystore with --keystore FILE, or --dev-account N on a development chain")
    })?;
    let password = password(options.password_file.as_deref())?;
    Ok(Wallet::open(keystore, &password)?)
}

/// The keystore's password: of the file, of the environment, or of whoever sits at the terminal.
fn password(file: Option<&Path>) -> Result<Zeroizing<String>, CliError> {
    if let Some(file) = file {
        let bytes = Zeroizing::new(super::read_bounded(file, MAX_PASSWORD_BYTES)?);
        let text = std::str::from_utf8(&bytes).doing("the password is not UTF-8")?;
        return Ok(Zeroizing::new(
            text.trim_end_matches(['\r', '\n']).to_owned(),
        ));
    }
    if let Ok(password) = std::env::var("CRYPTLET_PASSWORD") {
        return Ok(Zeroizing::new(password));
    }
    if !std::io::stdin().is_terminal() {
        return Err(CliError::new("the keystore's password is missing")
            .next("set CRYPTLET_PASSWORD, or name a file with --password-file"));
    }
    let password = rpassword::prompt_password("Password of the keystore: ");
    password
        .map(Zeroizing::new)
        .doing("cannot read the password")
}

/// How long to wait for blocks.
pub(crate) fn patience(options: &WalletArgs) -> Duration {
    Duration::from_secs(options.wait)
}

/// A moment that many days from now, in seconds since 1970.
pub(crate) fn in_days(days: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
        .as_secs()
        .saturating_add(days.saturating_mul(86_400))
}

/// Asks before something final. Nobody at the terminal is a no.
pub(crate) fn confirm(yes: bool, what: impl Display) -> Result<(), CliError> {
    ask(yes, &what, format_args!("{what}. This is final."))
}

/// Asks whether what a host names is what is meant. On a development chain of this machine nothing is at stake.
pub(crate) fn ask_whether_meant(yes: bool, session: &Session, words: &str) -> Result<(), CliError> {
    let yes = yes || session.is_development();
    ask(yes, words, format_args!("{words}."))
}

/// Asks before `what`, in the words of `question`. Nobody at the terminal is a no.
pub(crate) fn ask(yes: bool, what: impl Display, question: impl Display) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    let refused =
        || CliError::new(format_args!("not done: {what}")).next("say --yes if you mean it");
    if !std::io::stdin().is_terminal() {
        return Err(refused());
    }
    note(format_args!("{question} Type yes:"));
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.doing("cannot read the answer")?;
    if answer.trim() == "yes" {
        Ok(())
    } else {
        Err(refused())
    }
}

/// Prints items: a JSON object each, or all as text.
pub(crate) fn list<T: Serialize>(
    json: bool,
    items: &[T],
    text: impl FnOnce(&[T]) -> cryptlet_developer::Table,
) -> Result<(), CliError> {
    if !json {
        say(text(items));
        return Ok(());
    }
    items.iter().try_for_each(object)
}

/// Prints one JSON object.
pub(crate) fn object(item: &impl Serialize) -> Result<(), CliError> {
    say_json(serde_json::to_string(item).doing("cannot write JSON")?);
    Ok(())
}
