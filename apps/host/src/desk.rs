//! Where the API meets the path: what callers say is handed to the intake, jobs that are tried again to their crews.

use crate::{crew::Word, yard::Crews};
use cryptlet_journal::MessageOutcome;
use cryptlet_run::Runner;
use cryptlet_types::{CryptletId, Subject, event::Message};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Messages that wait for the intake; beyond that, callers are told to come back.
const MAX_WAITING: usize = 1_024;

/// What an application said, and who waits to hear that it is durable.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) message: Message,
    pub(crate) answer: oneshot::Sender<MessageOutcome>,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// Too many wait.
    Full,
    /// The host is stopping, or could not write it down.
    Stopping,
}

/// What the API has to do with the path.
#[derive(Clone)]
pub(crate) struct Desk {
    crews: Arc<Crews>,
    inbox: mpsc::Sender<Said>,
}

impl Desk {
    pub(crate) fn new(crews: Arc<Crews>) -> (Self, mpsc::Receiver<Said>) {
        let (inbox, said) = mpsc::channel(MAX_WAITING);
        (Self { crews, inbox }, said)
    }

    /// Hands a message to the intake, and returns once it is durable.
    pub(crate) async fn say(&self, message: Message) -> Result<MessageOutcome, NotTaken> {
        let (answer, heard) = oneshot::channel();
        let said = Said { message, answer };
        self.inbox.try_send(said).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotTaken::Full,
            mpsc::error::TrySendError::Closed(_) => NotTaken::Stopping,
        })?;
        heard.await.map_err(|_| NotTaken::Stopping)
    }

    /// What runs cryptlets.
    pub(crate) fn runner(&self) -> &Runner {
        &self.crews.yard().runner
    }

    /// The journal has a job to be run again.
    pub(crate) fn again(&self, cryptlet: CryptletId, number: u64, subject: Subject) {
        self.crews.tell(cryptlet, Word::Job(number, subject));
    }
}
