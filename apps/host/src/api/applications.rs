//! Applications: registered, given new keys, forgotten.

use super::{Service, problems};
use crate::{
    applications::{ApplicationError, NewSecret},
    desk::NotTaken,
};
use cryptlet_api::{
    Caller, Problem, Taken,
    types::{
        ApplicationInfo, ApplicationName, CreatedApplication, NewApplication, NewApplicationKey,
        Page, PageQuery, Result,
    },
    wall_clock,
    webhook::{VerifyingKey, secret_text},
};
use cryptlet_journal::MessageOutcome;
use cryptlet_types::{UnixSeconds, event::Message};
use cryptlet_vault::VaultError;

/// Keys count by the clock that signatures are checked by, as tokens do.
fn now() -> UnixSeconds {
    wall_clock()()
}

impl Service {
    pub(super) async fn take_message(&self, message: Message) -> Result<Taken> {
        let id = message.id.clone();
        match self.desk.say(message).await {
            Ok(MessageOutcome::New(_)) => Ok(Taken::New),
            Ok(MessageOutcome::Known) => Ok(Taken::Known),
            Ok(MessageOutcome::Conflict) => Err(Problem::conflict(
                format!("webhook-id: {id} was used for another message"),
                "give each message an id of its own",
            )),
            Err(NotTaken::Full) => Err(Problem::too_many("too many messages wait to be kept", 1)),
            Err(NotTaken::Stopping) => Err(Problem::unavailable("the host is stopping")),
        }
    }

    pub(super) async fn list_applications(&self, page: &PageQuery) -> Page<ApplicationInfo> {
        let all = self.applications.list(now()).await;
        page.cut(all, |application| application.name.to_string())
    }

    pub(super) async fn register_application(
        &self,
        caller: &Caller,
        new: NewApplication,
    ) -> Result<CreatedApplication> {
        let made = self.applications.add(new, now()).await;
        let made = made.map_err(problem)?;
        tracing::info!(caller = caller.name, application = %made.0.name, "application registered");
        Ok(created(made))
    }

    pub(super) async fn exchange_key(
        &self,
        caller: &Caller,
        name: ApplicationName,
        new: NewApplicationKey,
    ) -> Result<CreatedApplication> {
        let made = self.applications.rotate(name, new, now()).await;
        let made = made.map_err(problem)?;
        tracing::info!(caller = caller.name, application = %made.0.name, "application has a new key");
        Ok(created(made))
    }

    pub(super) async fn forget_application(
        &self,
        caller: &Caller,
        name: ApplicationName,
    ) -> Result<()> {
        let removed = self.applications.remove(name.clone()).await;
        removed.map_err(problem)?;
        tracing::info!(caller = caller.name, application = %name, "application forgotten");
        Ok(())
    }

    pub(super) async fn keys_of_application(
        &self,
        name: &ApplicationName,
    ) -> Result<Option<Vec<VerifyingKey>>> {
        let keys = self.applications.keys(name, now()).await;
        keys.map_err(problems::vault)
    }
}

fn created((info, secret): (ApplicationInfo, NewSecret)) -> CreatedApplication {
    let secret = secret.map(|secret| secret_text(&secret).to_string());
    CreatedApplication { secret, info }
}

fn problem(error: ApplicationError) -> Problem {
    let words = error.to_string();
    match error {
        ApplicationError::Taken(_) => Problem::conflict(
            words,
            "choose another name, or give it a new key: cryptlet application rotate NAME",
        ),
        ApplicationError::Unknown(_) => {
            Problem::not_found(words, "list them: cryptlet application list")
        }
        ApplicationError::Full => {
            Problem::conflict(words, "remove some: cryptlet application remove NAME")
        }
        ApplicationError::PublicKey(_) => Problem::refused(
            words,
            "send the kind that the application signs with, and publicKey for ed25519 alone",
        ),
        ApplicationError::Vault(VaultError::NoSealing) => Problem::refused(
            format!("kind: {words}"),
            "register it by its public key: cryptlet application add NAME --ed25519 KEY",
        ),
        ApplicationError::Vault(error) => problems::vault(error),
        ApplicationError::File(error) => Problem::internal(&error),
    }
}
