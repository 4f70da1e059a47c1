//! What is done with a job: run, deliver, and write down what came of it. Each step starts from the journal's
//! record and ends with a write to it, so that a step that was cut off is simply done again.

use crate::{
    Delegations, HostClock, HostError, Parts, Progress, Rules,
    manifests::Manifests,
    ports::{JournalOutbox, VaultTransmitter},
    receipt::assemble,
    rules::Basis,
};
use cryptlet_chain::{Chain, ChainError, Delivery};
use cryptlet_deliver::{DeliverConfig, Deliverer, Order, Outcome};
use cryptlet_journal::{JobRecord, Journal};
use cryptlet_register::{Register, Replica};
use cryptlet_route::{Registered, Router};
use cryptlet_run::{Ports, Ran, RunError, Runner};
use cryptlet_types::{
    Job, JobState, RunRecord, SignedDelegation, Subject, Submission, Subscription, UnixSeconds,
    delegation::DelegationError,
    policy::{PolicyInForce, Retry},
    register::{CryptletRecord, SignerRecord, VersionRecord},
};
use cryptlet_vault::Vault;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::broadcast;

/// Wait before a step is tried again that failed for reasons outside the job (a node that is down).
const PATIENCE: Duration = Duration::from_millis(500);

/// What every worker works with.
pub(crate) struct Worker {
    journal: Arc<Journal>,
    chain: Arc<dyn Chain>,
    vault: Arc<dyn Vault>,
    runner: Runner,
    nothing: PolicyInForce,
    obeying: Mutex<()>,
    deliverer: Deliverer,
    clock: HostClock,
    rules: Arc<Rules>,
    replica: Arc<Replica>,
    router: Arc<Router>,
    manifests: Arc<Manifests>,
    delegations: Arc<Delegations>,
    first_block: u64,
    progress: broadcast::Sender<Progress>,
}

impl Worker {
    /// A worker that runs by `nothing` where no policy is in force.
    pub(crate) fn new(
        parts: &Parts,
        router: Arc<Router>,
        nothing: PolicyInForce,
        progress: broadcast::Sender<Progress>,
    ) -> Self {
        let ports = Ports {
            isolation: parts.isolation.clone(),
            vault: parts.vault.clone(),
            register: parts.replica.clone(),
            call_out: parts.call_out.clone(),
        };
        let transmitter = VaultTransmitter::new(parts.vault.clone(), parts.transmitter);
        let outbox = JournalOutbox::new(parts.journal.clone());
        Self {
            runner: Runner::new(ports, parts.chain.domain(), nothing.clone(), parts.host),
            nothing,
            obeying: Mutex::default(),
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
            rules: parts.rules.clone(),
            replica: parts.replica.clone(),
            router,
            manifests: parts.manifests.clone(),
            delegations: parts.delegations.clone(),
            first_block: parts.first_block,
            progress,
        }
    }

    /// Routes and runs by what is in force from now on, and says what that is. Regions of another policy are dropped, and all
    /// of them where there is none. Nobody else sets policy, and one at a time: of two who ask, the later one has the last word.
    pub(crate) fn obey(&self) -> Basis {
        let _turn = self.obeying.lock().unwrap_or_else(PoisonError::into_inner);
        let basis = self.rules.basis();
        let policy = basis.standing().policy.as_deref().unwrap_or(&self.nothing);
        if self.runner.policy().digest != policy.digest {
            self.runner.set_policy(policy.clone());
        }
        if self.router.policy().digest != policy.digest {
            self.router.set_policy(policy.clone());
        }
        basis
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
                self.deliver(record.job, record.attempts, run, &sent).await
            }
            _ => self.run(record.job, record.attempts).await,
        }
    }

    /// Asks the cryptlet, and goes on from what it says.
    async fn run(&self, job: Job, attempts: u32) -> Result<(), HostError> {
        match self.ask(&job).await? {
            Ok(Ran::Reported { run, .. }) => {
                self.journal.record_report(job.id, &run).await?;
                self.deliver(job, attempts, *run, &[]).await
            }
            Ok(Ran::Skipped { reason, .. }) => {
                self.journal.record_skip(job.id, &reason).await?;
                self.tell(Progress::Skipped {
                    job: Arc::new(job),
                    reason,
                });
                Ok(())
            }
            Err(hold) => self.held(job, attempts, hold).await,
        }
    }

    /// Asks the cryptlet when the job's turn has come. The number of the report is the one that the delegate expects next:
    /// jobs of one subscription are done one after the other, so nothing else can be using it.
    async fn ask(&self, job: &Job) -> Result<Result<Ran, Hold>, HostError> {
        let subscription = &job.subscription;
        if let Err(hold) = self.leave(job).await? {
            return Ok(Err(hold));
        }
        let consumed = self
            .chain
            .sequence(subscription.cryptlet, subscription.subject);
        let consumed = match consumed.await {
            Ok(Some(consumed)) => consumed,
            Ok(None) => {
                let reason = "the subscription has ended".to_owned();
                return Ok(Err(Hold::Refused(reason)));
            }
            Err(error) => return Ok(Err(Hold::Later(error.to_string()))),
        };
        let mut turn = self.runner.turn(subscription.cryptlet).await;
        // It may have been long in coming: register and policy are asked again, and the report is issued now, not then.
        let policy = match self.leave(job).await? {
            Ok(policy) => policy,
            Err(hold) => return Ok(Err(hold)),
        };
        let now = self.clock.now();
        let delegation = match self.delegation(subscription, now).await {
            Ok(Ok(delegation)) => delegation,
            Ok(Err(hindrance)) => return Ok(Err(Hold::Failed(policy.policy.retry, hindrance))),
            Err(error) => return Ok(Err(Hold::Later(error.to_string()))),
        };
        let ran = turn.run(job, consumed.saturating_add(1), now, delegation);
        Ok(ran.await.map_err(|error| {
            if self.runner.policy().digest == policy.digest {
                Hold::Failed(policy.policy.retry, error.into())
            } else {
                // What another policy refused, the one in force may admit, once there is one.
                Hold::Later(error.to_string())
            }
        }))
    }

    /// The word of the identity that the subscription names, as the chain takes it now: one that it has as revoked, or
    /// whose signature it does not believe any more, must not stand in the way of one that holds.
    async fn delegation(
        &self,
        subscription: &Subscription,
        now: UnixSeconds,
    ) -> Result<Result<Option<SignedDelegation>, Hindrance>, ChainError> {
        if !subscription.needs_delegation() {
            return Ok(Ok(None));
        }
        let domain = self.chain.domain();
        // Of what is missing more may come, of what is there only the last says why it does not do.
        let mut hindrance = DelegationError::Missing(subscription.on_behalf_of).into();
        // The report is to be valid for a moment at least.
        let until = now.saturating_add(1);
        for signed in self.delegations.of(subscription, until) {
            if let Err(error) = signed.check(subscription, until) {
                hindrance = error.into();
                continue;
            }
            let (delegation, signature) = (&signed.delegation, &signed.signature);
            let digest = delegation.digest(&domain);
            if self.chain.is_delegation_revoked(digest).await? {
                hindrance = Hindrance::lasting(format!("delegation {digest} was revoked"));
                continue;
            }
            let by = delegation.identity;
            if self.chain.is_signed_by(by, digest, signature).await? {
                return Ok(Ok(Some(signed)));
            }
            hindrance = Hindrance::lasting(format!("delegation {digest} is not signed by {by}"));
        }
        Ok(Err(hindrance))
    }

    /// Whether register and policy let the job go on now, run or have its report sent: the policy under which it may, or why
    /// it may not.
    async fn leave(&self, job: &Job) -> Result<Result<Arc<PolicyInForce>, Hold>, HostError> {
        let now = self.clock.now();
        let basis = self.obey();
        let policy = match basis.standing().admits_jobs(now) {
            Ok(policy) => policy.clone(),
            Err(reason) => return Ok(Err(Hold::Later(reason))),
        };
        let reason = match self.admits(job, now).await {
            Ok(Ok(())) => return Ok(Ok(policy)),
            Ok(Err(reason)) => reason,
            Err(error) if error.is_retryable() => return Ok(Err(Hold::Later(error.to_string()))),
            Err(error) => return Err(error),
        };
        // A no from what has changed in the meantime is none.
        Ok(Err(if basis.stands(self.clock.now()) {
            Hold::Refused(reason)
        } else {
            Hold::Later(reason)
        }))
    }

    async fn held(&self, job: Job, attempts: u32, hold: Hold) -> Result<(), HostError> {
        match hold {
            Hold::Later(reason) => self.pause(&job, &reason).await,
            Hold::Refused(reason) => self.give_up(job, reason).await,
            Hold::Failed(retry, hindrance) => {
                self.failed_run(job, attempts, retry, hindrance).await
            }
        }
    }

    /// Whether register and policy still let the job run: it may be older than a revocation, or than the policy in force.
    async fn admits(&self, job: &Job, now: UnixSeconds) -> Result<Result<(), String>, HostError> {
        let cryptlet = job.subscription.cryptlet;
        let Some(known) = self.replica.by_id(cryptlet).await? else {
            return Ok(Err(format!("the register knows no cryptlet {cryptlet}")));
        };
        let version = match version_of(&known.record, job, now) {
            Ok(version) => version,
            Err(reason) => return Ok(Err(reason)),
        };
        let name = &known.record.name;
        let manifest = match self.manifests.of(name, version).await {
            Ok(Some(manifest))
                if !known
                    .record
                    .admits(manifest.public_key, version.number, now) =>
            {
                return Ok(Err(no_signer(&known.record, job)));
            }
            Ok(Some(manifest)) => manifest,
            Ok(None) => return Ok(Err(format!("package {} is not at this host", job.package))),
            Err(error) if error.is_retryable() => return Err(error),
            // One cryptlet's damaged package is no reason to stop serving the others.
            Err(error) => return Ok(Err(error.to_string())),
        };
        let registered = Registered {
            package: job.package,
            publisher: known.record.publisher,
            owner: known.record.owner,
            manifest,
        };
        let admitted = self.router.admits(&job.subscription, &registered);
        Ok(admitted.map_err(|refusal| refusal.to_string()))
    }

    async fn failed_run(
        &self,
        job: Job,
        attempts: u32,
        retry: Retry,
        hindrance: Hindrance,
    ) -> Result<(), HostError> {
        let Hindrance { reason, passes } = hindrance;
        if !passes || is_last(retry, attempts) {
            return self.give_up(job, reason).await;
        }
        tracing::warn!(job = %job.id, attempts, reason, "run failed, it will be tried again");
        self.journal.record_attempt(job.id, &reason).await?;
        self.tell(Progress::Retried {
            job: job.id,
            reason,
        });
        tokio::time::sleep(backoff(retry, attempts)).await;
        Ok(())
    }

    /// Delivers a report of which `sent` may have been sent already, oldest first. Once it may have been sent, nothing can
    /// take it back; before, register and policy are asked again: they may have changed since the run.
    async fn deliver(
        &self,
        job: Job,
        attempts: u32,
        run: RunRecord,
        sent: &[Submission],
    ) -> Result<(), HostError> {
        if sent.is_empty()
            && let Err(hold) = self.leave(&job).await?
        {
            return self.held(job, attempts, hold).await;
        }
        let order = Order {
            job: job.id,
            report: run.report.clone(),
            delegation: run.input.delegation.clone(),
            callback_gas: job.subscription.callback_gas,
            from_block: self.first_block,
        };
        match self.deliverer.resume(&order, sent).await {
            Ok(Outcome::Delivered(delivery)) => self.record(job, run, delivery).await,
            Ok(Outcome::Expired) => {
                let issued_at = run.report.report.issued_at;
                self.expired(job, attempts, issued_at).await
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

    /// A report that expired counts as a run that came to nothing: a subscription whose reports are valid for too short a time
    /// is not run for ever.
    async fn expired(
        &self,
        job: Job,
        attempts: u32,
        issued_at: UnixSeconds,
    ) -> Result<(), HostError> {
        // How often it is tried is a policy's word: where none is in force, the job waits for one.
        let retry = match &self.obey().standing().policy {
            Some(policy) => policy.policy.retry,
            None => return self.pause(&job, "the report expired").await,
        };
        if is_last(retry, attempts) {
            let reason =
                "the report expired before the chain took it, as often as policy lets it be tried";
            return self.give_up(job, reason.to_owned()).await;
        }
        let reason = "the report expired before the chain took it; it will be made anew";
        tracing::warn!(job = %job.id, reason);
        // By a clock that still shows the time of the first report, the next one would be the same.
        let later = issued_at.saturating_add(1);
        self.clock.clock().sleep_until(later).await;
        self.journal.reopen(job.id, reason).await?;
        tokio::time::sleep(backoff(retry, attempts)).await;
        Ok(())
    }

    async fn record(&self, job: Job, run: RunRecord, delivery: Delivery) -> Result<(), HostError> {
        let inclusion = match self.chain.inclusion(delivery.transaction).await {
            Ok(inclusion) => inclusion,
            Err(error) => return self.pause(&job, &error.to_string()).await,
        };
        let receipt = match assemble(&job, run, inclusion, self.vault.as_ref()).await {
            Ok(receipt) => receipt,
            // The delivery is on the chain and is found there again.
            Err(error) if error.is_retryable() => {
                return self.pause(&job, &error.to_string()).await;
            }
            Err(error) => return Err(error),
        };
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

/// The version that the job runs, if the register still lets it: it was not revoked and has a signer that is valid now.
fn version_of<'r>(
    record: &'r CryptletRecord,
    job: &Job,
    now: UnixSeconds,
) -> Result<&'r VersionRecord, String> {
    let cryptlet = record.cryptlet;
    if record.revoked {
        return Err(format!("cryptlet {cryptlet} was revoked"));
    }
    let mut versions = record.versions.iter();
    let usable = versions.find(|version| {
        let signs = |known: &SignerRecord| record.admits(known.signer, version.number, now);
        version.package == job.package && record.signers.iter().any(signs)
    });
    usable.ok_or_else(|| no_signer(record, job))
}

fn no_signer(record: &CryptletRecord, job: &Job) -> String {
    format!(
        "package {} of cryptlet {} has no signer that is valid now: its version was revoked, or its signers have expired \
         or were revoked",
        job.package, record.cryptlet
    )
}

/// Why a job may not go on.
enum Hold {
    /// Nobody can say now.
    Later(String),
    /// It may not.
    Refused(String),
    /// It was tried, which policy lets be done again as often as this.
    Failed(Retry, Hindrance),
}

/// Why a job comes no further for now.
struct Hindrance {
    reason: String,
    /// Whether the same job, tried again, may end better.
    passes: bool,
}

impl Hindrance {
    fn lasting(reason: String) -> Self {
        Self {
            reason,
            passes: false,
        }
    }
}

impl From<RunError> for Hindrance {
    fn from(error: RunError) -> Self {
        Self {
            reason: error.to_string(),
            passes: error.is_retryable(),
        }
    }
}

impl From<DelegationError> for Hindrance {
    fn from(error: DelegationError) -> Self {
        Self {
            reason: format!("delegation: {error}"),
            passes: error.is_retryable(),
        }
    }
}

/// Whether the attempt after that many earlier ones is the last that policy lets be made.
fn is_last(retry: Retry, attempts: u32) -> bool {
    attempts.saturating_add(1) >= retry.attempts
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
    fn the_first_attempt_counts() {
        let retry = |attempts| Retry {
            attempts,
            ..Retry::default()
        };
        assert!(is_last(retry(1), 0));
        assert!(!is_last(retry(3), 1));
        assert!(is_last(retry(3), 2));
    }

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
