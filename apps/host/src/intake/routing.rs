//! From events to jobs: which cryptlet is to answer, and whether policy lets it.

use super::Intake;
use crate::{
    HostError, Progress,
    crew::{Due, Word},
    fetcher::Hope,
    rules::Basis,
};
use cryptlet_journal::{How, Occurred, Routed, Taken};
use cryptlet_register::{Current, Register};
use cryptlet_route::Registered;
use cryptlet_types::{CryptletId, Event, Job, Subscription, UnixSeconds};
use std::{collections::HashSet, sync::Arc};

impl Intake {
    /// Events with what they lead to, as far as that can be said now. Where policy has subscriptions woken at intervals, that
    /// depends on the events before, which have to be in the journal first.
    pub(super) async fn occurred(
        &mut self,
        events: Vec<Event>,
    ) -> Result<Vec<Occurred>, HostError> {
        let basis = self.basis().filter(|_| !self.waiting);
        let at_once = basis.filter(|basis| {
            let policy = basis.standing().policy.as_ref();
            policy.is_some_and(|policy| policy.policy.serve.minimum_interval_seconds == 0)
        });
        let Some(basis) = at_once else {
            self.waiting |= !events.is_empty();
            return Ok(events.into_iter().map(Occurred::from).collect());
        };
        let mut occurred = Vec::with_capacity(events.len());
        for event in events {
            let routed = match self.waiting {
                true => None,
                false => self.route(&event, None, &basis).await?,
            };
            self.waiting |= routed.is_none();
            occurred.push(Occurred { event, routed });
        }
        Ok(occurred)
    }

    /// Tells crews of jobs that the journal has now, and whoever watches of events that get none.
    pub(super) fn put_to_work(&self, occurred: &[Occurred], taken: &[Taken]) {
        for (occurred, taken) in occurred.iter().zip(taken) {
            match (&occurred.routed, taken.job) {
                (Some(Routed::Job(job)), Some(number)) => {
                    let word = match taken.how {
                        How::New => Word::New(Box::new(Due::new(number, Job::clone(job)))),
                        _ => Word::Job(number, job.event.subject),
                    };
                    self.crews.tell(job.subscription.cryptlet, word);
                }
                (Some(Routed::Refused { reason, .. }), _) => {
                    self.tell_refused(&occurred.event, reason);
                }
                _ => {}
            }
        }
    }

    pub(super) fn tell_refused(&self, event: &Event, reason: &str) {
        tracing::error!(event = %event.id, reason, "event refused");
        let _nobody_watches = self.progress.send(Progress::Refused {
            event: Arc::new(event.clone()),
            reason: reason.to_owned(),
        });
    }

    /// Routes, oldest first, the events that have no job yet: those that have just occurred, and those that occurred while no
    /// job could start.
    pub(super) async fn route_waiting(&mut self) -> Result<(), HostError> {
        self.standing.mark_unchanged();
        if self.basis().is_none() {
            return Ok(());
        }
        let mut left = HashSet::new();
        for event in self.journal.unrouted_events().await? {
            let Some(basis) = self.basis() else {
                return Ok(());
            };
            if left.contains(&event.subject) {
                continue;
            }
            let due = event.trigger.due();
            let last_due = self.journal.due_before(event.subject, due).await?;
            match self.route(&event, last_due, &basis).await? {
                Some(routed) => self.settle(&event, routed).await?,
                None => {
                    left.insert(event.subject);
                }
            }
        }
        self.waiting = !left.is_empty();
        Ok(())
    }

    pub(super) async fn settle(&self, event: &Event, routed: Routed) -> Result<(), HostError> {
        let settled = self
            .journal
            .settle_events(std::slice::from_ref(&routed))
            .await?;
        match (routed, settled.into_iter().flatten().next()) {
            (Routed::Job(job), Some(number)) => {
                let word = Word::Job(number, job.event.subject);
                self.crews.tell(job.subscription.cryptlet, word);
            }
            (Routed::Refused { reason, .. }, _) => self.tell_refused(event, &reason),
            (Routed::Job(_), None) => {}
        }
        Ok(())
    }

    /// What events are decided by, unless they have to wait.
    pub(super) fn basis(&self) -> Option<Basis> {
        let basis = self.crews.yard().admission.obey();
        match basis.standing().admits_jobs(self.clock.now()) {
            Ok(_) => Some(basis),
            Err(reason) => {
                tracing::debug!(reason, "events wait");
                None
            }
        }
    }

    /// Makes a job of the event, or refuses it for good. It is left as it is where nobody can say yet, or where what it was
    /// decided by has changed on the way: then it is decided anew.
    pub(super) async fn route(
        &mut self,
        event: &Event,
        last_due: Option<UnixSeconds>,
        basis: &Basis,
    ) -> Result<Option<Routed>, HostError> {
        let subscription = self.known.of(event.subject).await?;
        let registered = match &subscription {
            Some(subscription) => self.registered(subscription.cryptlet).await,
            None => Ok(Runs::Nothing(None)),
        };
        let routed = match registered {
            Ok(Runs::Later) => return Ok(None),
            Ok(Runs::Nothing(Some(reason))) => Err(reason),
            Ok(Runs::Nothing(None)) => self.decide(event, subscription, None, last_due),
            Ok(Runs::This(registered)) => {
                self.decide(event, subscription, Some(&registered), last_due)
            }
            Err(error) if error.is_retryable() => {
                tracing::warn!(event = %event.id, %error, "event waits");
                return Ok(None);
            }
            // One cryptlet's damaged package is no reason to stop serving the others.
            Err(error) => Err(error.to_string()),
        };
        match routed {
            Ok(job) => Ok(Some(Routed::Job(Box::new(job)))),
            Err(reason) if !basis.stands(self.clock.now()) => {
                tracing::debug!(event = %event.id, reason, "decided by what has changed meanwhile, event waits");
                Ok(None)
            }
            Err(reason) => Ok(Some(Routed::Refused {
                event: event.id,
                reason,
            })),
        }
    }

    pub(super) fn decide(
        &self,
        event: &Event,
        subscription: Option<Arc<Subscription>>,
        registered: Option<&Registered>,
        last_due: Option<UnixSeconds>,
    ) -> Result<Job, String> {
        let subscription = subscription.map(Arc::unwrap_or_clone);
        let routed = self
            .router
            .route(event.clone(), subscription, registered, last_due);
        routed.map_err(|refusal| refusal.to_string())
    }

    /// What the register lets `cryptlet` run now.
    pub(super) async fn registered(&self, cryptlet: CryptletId) -> Result<Runs, HostError> {
        let entry = match self.replica.current(cryptlet).await? {
            Current::Runs(entry) => *entry,
            Current::Unknown => return Ok(Runs::Nothing(None)),
            Current::Revoked => return Ok(nothing(format!("cryptlet {cryptlet} was revoked"))),
            Current::NoVersion => {
                let reason = format!("cryptlet {cryptlet} has no version that is not revoked");
                return Ok(nothing(reason));
            }
        };
        let (name, publisher, owner) = (
            &entry.record.name,
            entry.record.publisher,
            entry.record.owner,
        );
        let Some(manifest) = self.manifests.of(name, &entry.version).await? else {
            if let Err(refusal) = self.router.trusts(cryptlet, publisher, owner) {
                return Ok(nothing(refusal.to_string()));
            }
            return Ok(match self.fetcher.fetch(cryptlet, &entry.version) {
                Hope::Later => Runs::Later,
                Hope::None(reason) => nothing(reason),
            });
        };
        let rule = self.router.policy().policy.code;
        let code = self.manifests.code(entry.version.package, &rule).await?;
        Ok(Runs::This(Box::new(Registered {
            package: entry.version.package,
            publisher,
            owner,
            manifest,
            code,
        })))
    }
}

/// What a cryptlet runs.
pub(super) enum Runs {
    /// This.
    This(Box<Registered>),
    /// A package that is being fetched.
    Later,
    /// Nothing, for a reason, or because nobody knows it.
    Nothing(Option<String>),
}

fn nothing(reason: String) -> Runs {
    Runs::Nothing(Some(reason))
}
