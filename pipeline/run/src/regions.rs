//! Regions and what is asked of them.

use crate::{Ran, RunError};
use alloy_primitives::{Address, B256};
use cryptlet_isolation::{CallOutHandler, IsolationError, IsolationProvider, Region};
use cryptlet_register::Register;
use cryptlet_seal::{check, evidence, package};
use cryptlet_types::{
    CryptletId, Evidence, EvidenceStatement, Job, Limits, Manifest, ReportDomain, Sha256Digest,
    SignedReport, UnixSeconds,
    bounded::{MAX_VALIDITY_SECONDS, clip},
    outbox::RunRecord,
    policy::PolicyInForce,
    region::{
        RegionFault, RegionSettings, RegionStatement, RunAnswer, RunInput, RunOutcome,
        sources_digest,
    },
};
use cryptlet_vault::{KeyId, Vault};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
};
use tokio::sync::Mutex;

/// What a runner works with.
#[derive(Clone)]
pub struct Ports {
    /// Makes regions.
    pub isolation: Arc<dyn IsolationProvider>,
    /// Vouches for regions and releases keys to them.
    pub vault: Arc<dyn Vault>,
    /// Holds the packages.
    pub register: Arc<dyn Register>,
    /// Answers what regions ask for.
    pub call_out: Arc<dyn CallOutHandler>,
}

/// A region that holds its cryptlet's key.
struct Live {
    package: Sha256Digest,
    limits: Limits,
    region: Box<dyn Region>,
    manifest: Manifest,
    evidence: Evidence,
}

type Slot = Arc<Mutex<Option<Live>>>;

/// Runs jobs under one policy.
pub struct Runner {
    ports: Ports,
    domain: ReportDomain,
    policy: PolicyInForce,
    host: Address,
    slots: std::sync::Mutex<HashMap<CryptletId, Slot>>,
}

impl Runner {
    /// A runner whose host key in the vault has the address `host`.
    #[must_use]
    pub fn new(ports: Ports, domain: ReportDomain, policy: PolicyInForce, host: Address) -> Self {
        Self {
            ports,
            domain,
            policy,
            host,
            slots: std::sync::Mutex::default(),
        }
    }

    /// Wakes the job's cryptlet: its report will have the number `sequence` and is issued at `now`.
    ///
    /// # Errors
    /// See [`RunError`]. A region that ended, or whose answer was not believed, is dropped; the next run gets a new one.
    pub async fn run(&self, job: &Job, sequence: u64, now: UnixSeconds) -> Result<Ran, RunError> {
        let slot = self.slot(job);
        let mut place = slot.lock().await;
        // The job may be older than the policy in force, which has the last word.
        let limits = job.limits.within(self.policy.policy.limits);
        let fits = |live: &Live| live.package == job.package && live.limits == limits;
        let mut live = match place.take().filter(fits) {
            Some(live) => live,
            None => self.create(job, limits, now).await?,
        };
        let input = self.input(job, &live.manifest, sequence, now);
        match live.region.run(input.clone()).await {
            Ok(answer) => {
                let ran = self.accept(job, &live, input, answer)?;
                *place = Some(live);
                Ok(ran)
            }
            Err(error) => {
                let exhausted = matches!(error, IsolationError::Fault(RegionFault::Exhausted));
                if !error.is_end_of_region() && !exhausted {
                    *place = Some(live);
                }
                Err(error.into())
            }
        }
    }

    /// The one place of a cryptlet's region: a region of another package or of other limits is replaced there.
    fn slot(&self, job: &Job) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(job.subscription.cryptlet).or_default().clone()
    }

    /// Creates a region, verifies its evidence, and lets the vault release the signing key to it.
    async fn create(&self, job: &Job, limits: Limits, now: UnixSeconds) -> Result<Live, RunError> {
        let cryptlet = job.subscription.cryptlet;
        let files = self.ports.register.package(job.package).await?;
        let manifest = package::open(&files)?.manifest;
        let egress = self.policy.policy.egress_of(&manifest);
        let settings = RegionSettings { limits, egress };
        let measurement = self.ports.isolation.measurement(&files, &settings)?;
        let nonce = B256::from(rand::random::<[u8; 32]>());
        let call_out = self.ports.call_out.clone();
        let mut region = self
            .ports
            .isolation
            .create(files, settings, nonce, call_out)
            .await?;
        let evidence = self.vouch(region.statement().clone(), now).await?;
        let policy = &self.policy.policy;
        let expected = evidence::Expected {
            policy,
            measurement,
            nonce,
            host: self.host,
            from: now,
            to: now,
        };
        let key = self
            .ports
            .vault
            .release(&KeyId::Cryptlet(cryptlet), &evidence, &expected)
            .await?;
        let signer = region.provision(key).await?;
        if signer != manifest.public_key {
            let what = format!(
                "signer {signer}, the manifest names {}",
                manifest.public_key
            );
            return Err(RunError::WrongAnswer { cryptlet, what });
        }
        tracing::info!(%cryptlet, %signer, %measurement, controls = ?evidence.statement.controls, "region created");
        Ok(Live {
            package: job.package,
            limits,
            region,
            manifest,
            evidence,
        })
    }

    async fn vouch(
        &self,
        statement: EvidenceStatement,
        made_at: UnixSeconds,
    ) -> Result<Evidence, RunError> {
        let signature = self
            .ports
            .vault
            .sign(&KeyId::Host, statement.digest(made_at))
            .await?;
        Ok(Evidence {
            statement,
            made_at,
            host: self.host,
            signature,
        })
    }

    fn input(&self, job: &Job, manifest: &Manifest, sequence: u64, now: UnixSeconds) -> RunInput {
        let subscription = &job.subscription;
        let validity = u64::from(subscription.validity).min(MAX_VALIDITY_SECONDS);
        RunInput {
            job: job.id,
            domain: self.domain,
            cryptlet: subscription.cryptlet,
            subject: subscription.subject,
            consumer: subscription.consumer,
            sequence,
            issued_at: now,
            valid_until: now.saturating_add(validity),
            trigger: job.event.trigger.clone(),
            params: subscription.params.clone(),
            settings: manifest.config.settings.clone(),
        }
    }

    /// Takes an answer only if both signatures are those of this region and over this input.
    fn accept(
        &self,
        job: &Job,
        live: &Live,
        input: RunInput,
        answer: RunAnswer,
    ) -> Result<Ran, RunError> {
        let RunAnswer {
            outcome,
            sources,
            fuel_used,
        } = answer;
        let report = match outcome {
            RunOutcome::Skip(reason) => return Ok(Ran::Skipped(clip(&reason))),
            RunOutcome::Report(report) => *report,
        };
        let cryptlet = job.subscription.cryptlet;
        if !answers(&report, &input) || report.report.region != live.evidence.statement.measurement
        {
            let what = "a report about something else".to_owned();
            return Err(RunError::WrongAnswer { cryptlet, what });
        }
        let digest = report.report.digest(&self.domain);
        check(digest, &report.signature, live.manifest.public_key)?;
        let statement = RegionStatement {
            measurement: report.report.region,
            report: digest,
            input: input.digest().map_err(cryptlet_seal::SealError::from)?,
            sources: sources_digest(&sources).map_err(cryptlet_seal::SealError::from)?,
        };
        check(
            statement.digest(),
            &report.region_signature,
            live.evidence.statement.region_key,
        )?;
        let evidence = live.evidence.clone();
        Ok(Ran::Reported(Box::new(RunRecord {
            input,
            sources,
            report,
            evidence,
            fuel_used,
            policy_epoch: self.policy.policy.epoch,
            policy: self.policy.digest,
        })))
    }
}

/// Whether a report repeats what was asked.
fn answers(signed: &SignedReport, input: &RunInput) -> bool {
    let report = &signed.report;
    report.cryptlet == input.cryptlet
        && report.subject == input.subject
        && report.sequence == input.sequence
        && report.issued_at == input.issued_at
        && report.valid_until == input.valid_until
}
