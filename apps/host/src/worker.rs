//! What is done with a job: run, deliver, and write down what came of it. Each step starts from the journal's
//! record and ends with a write to it, so that a step that was cut off is simply done again.

use crate::{
    HostClock, HostError, Parts, Progress,
    ports::{JournalOutbox, VaultTransmitter},
    receipt::assemble,
};
use cryptlet_chain::{Chain, Delivery};
use cryptlet_deliver::{DeliverConfig, Deliverer, Order, Outcome};
use cryptlet_journal::{JobRecord, Journal};
use cryptlet_run::{Ports, Ran, RunError, Runner};
use cryptlet_types::{Job, JobState, RunRecord, Subject, Submission, policy::Retry};
use cryptlet_vault::Vault;
use std::{sync::Arc, time::Duration};
use tokio::sync::broadcast;

/// Wait before a step is tried again that failed for reasons outside the job (a node that is down).
const PATIENCE: Duration = Duration::from_millis(500);

/// What every worker works with.
pub(crate) struct Worker {
    journal: Arc<Journal>,
    chain: Arc<dyn Chain>,
    vault: Arc<dyn Vault>,
    runner: Runner,
    deliverer: Deliverer,
    clock: HostClock,
    retry: Retry,
    first_block: u64,
    progress: broadcast::Sender<Progress>,
}

impl Worker {
    pub(crate) fn new(parts: &Parts, progress: broadcast::Sender<Progress>) -> Self {
        let ports = Ports {
            isolation: parts.isolation.clone(),
            vault: parts.vault.clone(),
            register: parts.register.clone(),
            call_out: parts.call_out.clone(),
        };
        let transmitter = VaultTransmitter::new(parts.vault.clone(), parts.transmitter);
        let outbox = JournalOutbox::new(parts.journal.clone());
        Self {
            runner: Runner::new(
                ports,
                parts.chain.domain(),
                parts.policy.clone(),
                parts.host,
            ),
            deliverer: Deliverer::new(
                parts.chain.clone(),
                Arc::new(transmitter),
                Arc::new(outbox),
                DeliverConfig::default(),
            ),
            journal: parts.journal.clone(),
            chain: parts.chain.clone(),
            vault: parts.vault.clone(),
            clock: parts.clock.clone(),
            retry: parts.policy.policy.retry,
            first_block: parts.first_block,
            progress,
        }
    }

    /// The oldest unfinished job of a subscription.
    pub(crate) async fn next(&self, subject: Subject) -> Result<Option<JobRecord>, HostError> {
        Ok(self.journal.next_job(subject).await?)
    }

    /// Brings a job further: to its end, or to where it has to wait.
    pub(crate) async fn step(&self, record: JobRecord) -> Result<(), HostError> {
        match (record.state, record.run) {
            (JobState::Reported | JobState::Submitted, Some(run)) => {
                let sent = self.journal.submissions(record.job.id).await?;
                self.deliver(record.job, run, &sent).await
            }
            _ => self.run(record.job, record.attempts).await,
        }
    }

    /// Asks the cryptlet. The number of the report is the one that the delegate expects next: jobs of one
    /// subscription are done one after the other, so nothing else can be using it.
    async fn run(&self, job: Job, attempts: u32) -> Result<(), HostError> {
        let subscription = &job.subscription;
        let consumed = match self
            .chain
            .sequence(subscription.cryptlet, subscription.subject)
            .await
        {
            Ok(Some(consumed)) => consumed,
            Ok(None) => {
                return self
                    .give_up(job, "the subscription has ended".to_owned())
                    .await;
            }
            Err(error) => return self.pause(&job, &error.to_string()).await,
        };
        match self
            .runner
            .run(&job, consumed.saturating_add(1), self.clock.now())
            .await
        {
            Ok(Ran::Reported(run)) => {
                self.journal.record_report(job.id, &run).await?;
                self.deliver(job, *run, &[]).await
            }
            Ok(Ran::Skipped(reason)) => {
                self.journal.record_skip(job.id, &reason).await?;
                self.tell(Progress::Skipped {
                    job: Arc::new(job),
                    reason,
                });
                Ok(())
            }
            Err(error) => self.failed_run(job, attempts, error).await,
        }
    }

    async fn failed_run(&self, job: Job, attempts: u32, error: RunError) -> Result<(), HostError> {
        let reason = error.to_string();
        let made = attempts.saturating_add(1);
        if !error.is_retryable() || made >= self.retry.attempts {
            return self.give_up(job, reason).await;
        }
        tracing::warn!(job = %job.id, attempt = made, reason, "run failed, it will be tried again");
        self.journal.record_attempt(job.id, &reason).await?;
        self.tell(Progress::Retried {
            job: job.id,
            reason,
        });
        tokio::time::sleep(backoff(self.retry, attempts)).await;
        Ok(())
    }

    /// Delivers a report of which `sent` may have been sent already, oldest first.
    async fn deliver(
        &self,
        job: Job,
        run: RunRecord,
        sent: &[Submission],
    ) -> Result<(), HostError> {
        let order = Order {
            job: job.id,
            report: run.report.clone(),
            callback_gas: job.subscription.callback_gas,
            from_block: self.first_block,
        };
        match self.deliverer.resume(&order, sent).await {
            Ok(Outcome::Delivered(delivery)) => self.record(job, run, delivery).await,
            Ok(Outcome::Expired) => {
                let reason = "the report expired before the chain took it; it will be made anew";
                tracing::warn!(job = %job.id, reason);
                // By a clock that still shows the time of the first report, the next one would be the same.
                let later = run.report.report.issued_at.saturating_add(1);
                self.clock.clock().sleep_until(later).await;
                Ok(self.journal.reopen(job.id, reason).await?)
            }
            Ok(Outcome::Refused(rejection)) => {
                self.give_up(job, format!("the delegate refused the report: {rejection}"))
                    .await
            }
            Ok(Outcome::Superseded(other)) => {
                let number = other.report.sequence;
                let reason = format!(
                    "report {number} was delivered by another host in {}",
                    other.transaction
                );
                self.give_up(job, reason).await
            }
            Err(error) => self.pause(&job, &error.to_string()).await,
        }
    }

    async fn record(&self, job: Job, run: RunRecord, delivery: Delivery) -> Result<(), HostError> {
        let inclusion = match self.chain.inclusion(delivery.transaction).await {
            Ok(inclusion) => inclusion,
            Err(error) => return self.pause(&job, &error.to_string()).await,
        };
        let receipt = assemble(&job, run, inclusion, self.vault.as_ref()).await?;
        let success = delivery.report.success;
        self.journal
            .record_delivery(job.id, &receipt, success)
            .await?;
        tracing::info!(job = %job.id, block = delivery.block, transaction = %delivery.transaction, success, "delivered");
        self.tell(Progress::Delivered {
            receipt: Arc::new(receipt),
            success,
            block: delivery.block,
            gas_used: delivery.gas_used,
        });
        Ok(())
    }

    /// Nothing is given up here: the job stays in the journal as it is, and the step is tried again.
    async fn pause(&self, job: &Job, reason: &str) -> Result<(), HostError> {
        tracing::warn!(job = %job.id, reason, "cannot go on for now");
        tokio::time::sleep(PATIENCE).await;
        Ok(())
    }

    async fn give_up(&self, job: Job, reason: String) -> Result<(), HostError> {
        tracing::error!(job = %job.id, reason, "job failed");
        self.journal.record_failure(job.id, &reason).await?;
        self.tell(Progress::Failed {
            job: Arc::new(job),
            reason,
        });
        Ok(())
    }

    fn tell(&self, progress: Progress) {
        let _nobody_watches = self.progress.send(progress);
    }
}

/// Waiting time after that many earlier attempts: doubling, up to the longest.
fn backoff(retry: Retry, attempts: u32) -> Duration {
    let factor = 1_u64.checked_shl(attempts.min(32)).unwrap_or(u64::MAX);
    Duration::from_millis(
        retry
            .first_millis
            .saturating_mul(factor)
            .min(retry.longest_millis),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_doubles_up_to_the_longest() {
        let retry = Retry {
            attempts: 9,
            first_millis: 200,
            longest_millis: 5_000,
        };
        let millis: Vec<_> = [0, 1, 2, 5, 40]
            .map(|made| backoff(retry, made).as_millis())
            .to_vec();
        assert_eq!(millis, [200, 400, 800, 5_000, 5_000]);
    }
}
