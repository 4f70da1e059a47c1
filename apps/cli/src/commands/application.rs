//! `cryptlet application`: who may wake cryptlets by signed messages, and one message to try it.

use super::{
    look::most,
    read_bounded,
    session::{list, object, open},
};
use crate::{
    args::developer::{
        AddApplicationOptions, Application, RemoveApplicationOptions, RotateApplicationOptions,
        SendMessageOptions,
    },
    error::{CliError, Doing},
    screen::say,
};
use cryptlet_api::{
    Client, Outgoing,
    types::{
        ApplicationKind, Base64, CreatedApplication, NewApplication, NewApplicationKey, Overlap,
    },
    wall_clock,
    webhook::{SigningKey, new_id},
};
use cryptlet_developer::{DeveloperError, Places, listing};
use cryptlet_types::event::MAX_TRIGGER_BYTES;
use serde_json::json;
use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::ExitCode,
};
use zeroize::Zeroizing;

/// Largest file with a secret, in bytes.
const MAX_SECRET_BYTES: usize = 1 << 10;
const SECRET_VARIABLE: &str = "CRYPTLET_APPLICATION_SECRET";

pub(crate) async fn run(what: &Application) -> Result<ExitCode, CliError> {
    match what {
        Application::Add(options) => add(options).await,
        Application::Remove(options) => remove(options).await,
        Application::Rotate(options) => rotate(options).await,
        Application::Send(options) => send(options).await,
        Application::List(options) => {
            let session = open(&options.host).await?;
            let client = session.client();
            let found = listing::all(most(options), async |page| client.applications(&page).await);
            list(options.json, &found.await?, listing::applications)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn add(options: &AddApplicationOptions) -> Result<ExitCode, CliError> {
    let new = NewApplication {
        name: options.name.clone(),
        kind: match options.ed25519 {
            Some(_) => ApplicationKind::Ed25519,
            None => ApplicationKind::Hmac,
        },
        public_key: options.ed25519,
    };
    let session = open(&options.host).await?;
    let file = options.out.as_deref().map(Secret::to).transpose()?;
    let made = session.client().add_application(&new).await;
    let made = made.map_err(DeveloperError::from)?;
    tell(made, file, options.json)
}

async fn rotate(options: &RotateApplicationOptions) -> Result<ExitCode, CliError> {
    let key = NewApplicationKey {
        overlap_seconds: Overlap::new(options.overlap).doing("--overlap")?,
        public_key: options.ed25519,
    };
    let session = open(&options.host).await?;
    let file = options.out.as_deref().map(Secret::to).transpose()?;
    let made = session.client().rotate_application(&options.name, &key);
    let made = made.await.map_err(DeveloperError::from)?;
    tell(made, file, options.json)
}

/// A file for a secret, made before the secret is: none is made that could not be kept.
struct Secret<'p> {
    path: &'p Path,
    file: fs::File,
}

impl<'p> Secret<'p> {
    fn to(path: &'p Path) -> Result<Self, CliError> {
        let file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| {
                CliError::system(format_args!("cannot write {}", path.display()), error)
                    .next("name another file")
            })?;
        Ok(Self { path, file })
    }

    fn write(mut self, secret: &str) -> Result<(), CliError> {
        writeln!(self.file, "{secret}")
            .and_then(|()| self.file.sync_all())
            .doing(format_args!("cannot write {}", self.path.display()))
    }
}

/// Says what was made: the secret to a file or, this once, on the screen.
fn tell(
    mut made: CreatedApplication,
    file: Option<Secret<'_>>,
    json: bool,
) -> Result<ExitCode, CliError> {
    let mut kept = None;
    if let Some(file) = file {
        let secret = Zeroizing::new(made.secret.take().unwrap_or_default());
        kept = Some(file.path.display().to_string());
        file.write(&secret)?;
    }
    if json {
        object(&made)?;
        return Ok(ExitCode::SUCCESS);
    }
    match (&made.secret, kept) {
        (Some(secret), _) => say(secret),
        (None, Some(path)) => say(format_args!(
            "{path} has the secret that {} signs with",
            made.info.name
        )),
        (None, None) => say(format_args!("{} signs with its key", made.info.name)),
    }
    Ok(ExitCode::SUCCESS)
}

async fn remove(options: &RemoveApplicationOptions) -> Result<ExitCode, CliError> {
    let session = open(&options.host).await?;
    let removed = session.client().remove_application(&options.name).await;
    removed.map_err(DeveloperError::from)?;
    if options.json {
        object(&json!({ "removed": options.name }))?;
    } else {
        say(format_args!("{} says nothing more here", options.name));
    }
    Ok(ExitCode::SUCCESS)
}

async fn send(options: &SendMessageOptions) -> Result<ExitCode, CliError> {
    let key = signing_key(options.secret_file.as_deref())?;
    let data = read_bounded(&options.data, MAX_TRIGGER_BYTES)?;
    let id = options.id.clone().unwrap_or_else(new_id);
    let (media_type, body) = match &options.kind {
        // As base64, so that the cryptlet is woken with the very bytes of the file.
        Some(kind) => {
            let event = json!({
                "specversion": "1.0",
                "id": id,
                "source": format!("urn:bletchley:application:{}", options.name),
                "type": kind,
                "datacontenttype": options.media_type,
                "data_base64": Base64(data.into()),
            });
            let body = serde_json::to_vec(&event).doing("cannot write JSON")?;
            ("application/cloudevents+json", body)
        }
        None => (options.media_type.as_str(), data),
    };
    let (_, connection) = Places::of_process(options.host_file.clone()).find()?;
    let client = Client::new(&connection, None).map_err(DeveloperError::from)?;
    let message = Outgoing {
        id: &id,
        at: wall_clock()(),
        media_type,
        body: &body,
    };
    let sent = client.send_message(&options.name, &key, message).await;
    let sent = sent.map_err(DeveloperError::from)?;
    if options.json {
        object(&json!({ "id": id, "known": sent.known }))?;
    } else if sent.known {
        say(format_args!("message {id} was known already"));
    } else {
        say(format_args!("message {id} is kept by the host"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Of a file or of the environment: an argument would stand in the list of processes.
fn signing_key(file: Option<&Path>) -> Result<SigningKey, CliError> {
    let text = match file {
        Some(file) => {
            let bytes = Zeroizing::new(read_bounded(file, MAX_SECRET_BYTES)?);
            let text = std::str::from_utf8(&bytes).doing("the secret is not UTF-8")?;
            Zeroizing::new(text.to_owned())
        }
        None => Zeroizing::new(std::env::var(SECRET_VARIABLE).map_err(|_| {
            CliError::new("the application's secret is missing").next(format!(
                "name a file with --secret-file, or set {SECRET_VARIABLE}"
            ))
        })?),
    };
    SigningKey::parse(text.trim_end_matches(['\r', '\n'])).doing("the application's secret")
}
