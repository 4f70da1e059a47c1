//! Subscriptions and jobs, as the journal has them.

use super::{Service, problems};
use alloy_primitives::{Address, Bytes};
use cryptlet_api::{
    Caller, JobQuery, Problem,
    types::{
        Hex, HexBytes, JobSummary, JobTrace, Page, PageQuery, Result, Step, SubscriptionRow,
        TransactionInfo,
    },
};
use cryptlet_journal::{
    ActiveSubscription, HistoryEntry, JobFilter, JobRecord, JournalError, StoredReceipt,
};
use cryptlet_register::Register;
use cryptlet_types::{CryptletId, JobId, JobState, Subject, bounded::clip};
use cryptlet_watch::{Calendars, next_due};
use std::{
    collections::{HashMap, hash_map::Entry},
    str::FromStr,
};

impl Service {
    pub(super) async fn list_subscriptions(
        &self,
        page: &PageQuery,
    ) -> Result<Page<SubscriptionRow>> {
        let after = place::<Hex<32>>(page, "subscriptions")?.map(|after| Subject(after.0));
        // One more says whether there is a next page.
        let most = u32::try_from(page.size().saturating_add(1)).unwrap_or(u32::MAX);
        let known = self.journal.subscriptions_page(after, most).await;
        let known = known.map_err(problems::journal)?;
        let page = page.cut(known, |known| known.subscription.subject.to_string());
        let mut items = Vec::with_capacity(page.items.len());
        let mut served = HashMap::new();
        for known in page.items {
            let cryptlet = known.subscription.cryptlet;
            let served = match served.entry(cryptlet) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => place.insert(self.served(cryptlet).await?),
            };
            items.push(subscription_row(known, served, &self.calendars));
        }
        Ok(Page {
            items,
            next: page.next,
        })
    }

    async fn served(&self, cryptlet: CryptletId) -> Result<Served> {
        let known = self.replica.by_id(cryptlet).await;
        let Some(known) = known.map_err(problems::register)? else {
            return Ok(Served {
                name: None,
                refused: Some("the register knows no such cryptlet".to_owned()),
            });
        };
        Ok(Served {
            refused: self.verdict(&known).await?.reasons.into_iter().next(),
            name: Some(known.record.name),
        })
    }

    pub(super) async fn list_jobs(&self, query: JobQuery) -> Result<Page<JobSummary>> {
        let filter = JobFilter {
            subject: query.subject.map(|subject| Subject(subject.0)),
            cryptlet: None,
            states: query.state.map(Into::into).into_iter().collect(),
        };
        let page = cryptlet_journal::Page {
            after: place(&query.page, "jobs")?.unwrap_or_default(),
            limit: u32::try_from(query.page.size()).unwrap_or(u32::MAX),
        };
        let listing = self.journal.jobs(&filter, page).await;
        let listing = listing.map_err(problems::journal)?;
        Ok(Page {
            items: listing.items.iter().map(summary).collect(),
            next: listing.next.map(|next| next.to_string()),
        })
    }

    pub(super) async fn trace_job(&self, job: Hex<32>) -> Result<JobTrace> {
        let id = JobId(job.0);
        let record = self.journal.job(id).await.map_err(problems::journal)?;
        let record = record.ok_or_else(|| no_job(id))?;
        let history = self.journal.history(id).await.map_err(problems::journal)?;
        let receipt = self.journal.receipt(id).await.map_err(problems::journal)?;
        Ok(JobTrace {
            summary: summary(&record),
            consumer: record.job.subscription.consumer.into(),
            package_digest: record.job.package.0.into(),
            policy_epoch: record.job.policy_epoch,
            steps: history.into_iter().map(step).collect(),
            receipt: receipt.is_some(),
            transaction: receipt.as_ref().map(transaction).transpose()?,
        })
    }

    /// Takes a job back to its beginning.
    pub(super) async fn try_job_again(&self, caller: &Caller, job: Hex<32>) -> Result<JobSummary> {
        let id = JobId(job.0);
        let record = self.journal.job(id).await.map_err(problems::journal)?;
        let record = record.ok_or_else(|| no_job(id))?;
        if record.state != JobState::Parked {
            return Err(Problem::conflict(
                format!("job {id} is {}, not parked", record.state.as_str()),
                "list those that are: cryptlet jobs --state parked",
            ));
        }
        self.journal.unpark(id).await.map_err(|error| match error {
            JournalError::WrongState { .. } => Problem::conflict(
                format!("job {id} is on its way already, or final"),
                format!("see how it stands: cryptlet trace {id}"),
            ),
            error => problems::journal(error),
        })?;
        tracing::info!(caller = caller.name, job = %id, "job is tried again");
        let subscription = &record.job.subscription;
        self.desk
            .again(subscription.cryptlet, record.number, subscription.subject);
        let record = self.journal.job(id).await.map_err(problems::journal)?;
        Ok(summary(&record.ok_or_else(|| no_job(id))?))
    }

    pub(super) async fn receipt_of(&self, job: Hex<32>) -> Result<Bytes> {
        let id = JobId(job.0);
        let stored = self.journal.receipt(id).await.map_err(problems::journal)?;
        let stored = stored.ok_or_else(|| {
            Problem::not_found(
                format!("job {id} has no receipt: it is not known or not delivered"),
                format!("see how it stands: cryptlet trace {id}"),
            )
        })?;
        let bytes = stored.receipt.to_json();
        Ok(bytes.map_err(|error| Problem::internal(&error))?.into())
    }
}

/// A subscribed cryptlet, and why it is not run, if it is not.
struct Served {
    name: Option<String>,
    refused: Option<String>,
}

fn subscription_row(
    known: ActiveSubscription,
    served: &Served,
    calendars: &Calendars,
) -> SubscriptionRow {
    let ActiveSubscription {
        subscription,
        fired_until,
        ..
    } = known;
    SubscriptionRow {
        subject: subscription.subject.0.into(),
        consumer: subscription.consumer.into(),
        cryptlet: subscription.cryptlet.0.into(),
        name: served.name.clone(),
        callback: Hex(subscription.callback),
        callback_gas: subscription.callback_gas,
        validity: subscription.validity,
        trigger: clip(&subscription.trigger.to_string()),
        next_due: next_due(&subscription, fired_until, calendars),
        on_behalf_of: (subscription.on_behalf_of != Address::ZERO)
            .then(|| subscription.on_behalf_of.into()),
        params: HexBytes(subscription.params),
        since: subscription.since,
        refused: served.refused.clone(),
    }
}

/// Behind which item a page of `what` begins: a job's number in the journal, a digest.
pub(super) fn place<T: FromStr>(page: &PageQuery, what: &str) -> Result<Option<T>> {
    let Some(after) = &page.after else {
        return Ok(None);
    };
    after.as_str().parse().map(Some).map_err(|_| {
        let what = format!("after: {after} is not the `next` of a page of {what}");
        Problem::refused(what, "take it from the page before")
    })
}

fn no_job(id: JobId) -> Problem {
    Problem::not_found(
        format!("the journal knows no job {id}"),
        "list them all: cryptlet trace",
    )
}

fn summary(record: &JobRecord) -> JobSummary {
    let job = &record.job;
    JobSummary {
        job: job.id.0.into(),
        subject: job.subscription.subject.0.into(),
        cryptlet: job.subscription.cryptlet.0.into(),
        due: job.event.trigger.due(),
        state: record.state.into(),
        attempts: record.attempts,
        reason: record.note.clone(),
    }
}

fn step(entry: HistoryEntry) -> Step {
    Step {
        at_millis: entry.at,
        state: entry.state.into(),
        note: entry.note,
    }
}

fn transaction(stored: &StoredReceipt) -> Result<TransactionInfo> {
    let inclusion = &stored.receipt.inclusion;
    let block = cryptlet_audit::block_number(inclusion)
        .ok_or_else(|| Problem::internal(&"a receipt's header is not one"))?;
    Ok(TransactionInfo {
        hash: alloy_primitives::keccak256(&inclusion.transaction).into(),
        block,
        callback_succeeded: stored.success,
    })
}
