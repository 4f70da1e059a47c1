//! What is done when a chain takes blocks back, or its node does not answer.

use super::{Intake, PATIENCE};
use crate::{HostError, crew::Word, streams};
use cryptlet_journal::{Cursor, DELEGATE, JournalError, Rewound};
use cryptlet_types::{JobId, JobState};
use cryptlet_watch::{self as watch, WatchError};

impl Intake {
    /// A node that cannot be asked is asked again; a chain that was reorganised is followed back.
    pub(super) async fn trouble(&mut self, error: HostError) -> Result<(), HostError> {
        match &error {
            HostError::Watch(WatchError::Reorged { .. })
            | HostError::Journal(JournalError::Fork { .. }) => {
                tracing::warn!(%error, "going back");
                match self.go_back().await {
                    Err(HostError::Chain(error)) if !error.is_misconfigured() => {
                        tracing::warn!(%error, "node does not answer");
                        tokio::time::sleep(PATIENCE).await;
                    }
                    gone => gone?,
                }
            }
            HostError::Watch(WatchError::Chain(cause)) | HostError::Chain(cause)
                if !cause.is_misconfigured() =>
            {
                tracing::warn!(%error, "node does not answer");
                tokio::time::sleep(PATIENCE).await;
            }
            _ => return Err(error),
        }
        Ok(())
    }

    /// Takes back what was read of blocks that the chain has no more.
    pub(super) async fn go_back(&mut self) -> Result<(), HostError> {
        for cursor in self.journal.trail(DELEGATE).await? {
            let found = self.chain.header(cursor.number).await?;
            if found.is_some_and(|head| head.hash == cursor.hash) {
                return self.rewind(cursor).await;
            }
        }
        // Of a host that has not read for long, all blocks may have been replaced: then it begins anew.
        let before = streams::before(
            self.chain
                .header(self.first_block.saturating_sub(1))
                .await?,
        );
        self.rewind(before?).await
    }

    pub(super) async fn rewind(&mut self, to: Cursor) -> Result<(), HostError> {
        self.crews.yard().read.leave();
        let rewound = match self.journal.rewind(DELEGATE, to).await {
            Err(JournalError::TooDeep { .. }) => return Err(HostError::TooDeep),
            rewound => rewound?,
        };
        let Cursor { number, hash } = to;
        self.cursor = Some(watch::Cursor { number, hash });
        self.undo(rewound).await?;
        self.crews.yard().read.move_to(to);
        Ok(())
    }

    pub(super) async fn undo(&mut self, rewound: Rewound) -> Result<(), HostError> {
        let (vanished, restored) = (rewound.vanished.len(), rewound.restored.len());
        let (withdrawn, undelivered) = (rewound.withdrawn.len(), rewound.undelivered.len());
        tracing::warn!(
            vanished,
            restored,
            withdrawn,
            undelivered,
            "the chain was reorganised"
        );
        for subject in rewound.vanished {
            self.stop_serving(subject);
        }
        for subject in rewound.restored {
            self.serve_as_kept(subject).await?;
        }
        self.ask_anew();
        self.deliver_again(rewound.undelivered).await?;
        for job in rewound.revived {
            if let Some(record) = self.journal.job(job).await? {
                let word = Word::Job(record.number, record.job.event.subject);
                self.crews.tell(record.job.subscription.cryptlet, word);
            }
        }
        Ok(())
    }

    /// Has deliveries looked for again whose blocks are not part of the chain; nothing that was remembered of it is believed.
    pub(super) async fn deliver_again(
        &self,
        undelivered: Vec<(JobId, JobState)>,
    ) -> Result<(), HostError> {
        let yard = self.crews.yard();
        yard.deliverer.doubt();
        let mut numbers = Vec::new();
        for (job, _) in undelivered {
            numbers.extend(self.journal.job(job).await?.map(|record| record.number));
        }
        self.resume_reports(&numbers).await?;
        yard.sequences.doubt();
        Ok(())
    }
}
