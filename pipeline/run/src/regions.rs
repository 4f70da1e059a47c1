//! Regions and what is asked of them.

mod slots;

use crate::{
    Ran, RunError, RunRecording, SecretCodes,
    secret_code::{Giving, kept},
};
use alloy_primitives::{Address, B256, Bytes};
use cryptlet_isolation::{
    CallOutHandler, IsolationError, Providers, Region,
    providers::{Choice, Chosen},
};
use cryptlet_register::Register;
use cryptlet_seal::{check, evidence, package};
use cryptlet_types::{
    Attestation, Batch, CryptletId, Evidence, EvidenceStatement, Job, Limits, Manifest,
    Measurement, ReportDomain, Sha256Digest, SignedAnswer, SignedDelegation, SignedReport,
    UnixSeconds,
    bounded::{MAX_VALIDITY_SECONDS, clip},
    event::{MAX_TRIGGER_BYTES, Observation, Step},
    outbox::RunRecord,
    policy::{Policy, PolicyInForce},
    region::{
        CallInput, KeyGrant, ObserveInput, RegionFault, RegionSettings, RegionStatement, RunAnswer,
        RunInput, RunOutcome, sources_digest,
    },
    report::CompactSignature,
};
use cryptlet_vault::{Images, KeyId, Vault};
use slots::{MAX_SLOTS, Slot, Slots};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{OwnedMutexGuard, Semaphore, SemaphorePermit},
    task::JoinSet,
    time::timeout,
};

/// What a runner works with.
#[derive(Clone)]
pub struct Ports {
    /// Where regions come from.
    pub isolation: Providers,
    /// Vouches for regions and releases keys to them.
    pub vault: Arc<dyn Vault>,
    /// Holds the packages.
    pub register: Arc<dyn Register>,
    /// Answers what regions ask for.
    pub call_out: Arc<dyn CallOutHandler>,
}

/// What is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// The cryptlet.
    pub cryptlet: CryptletId,
    /// The package of its version in force.
    pub package: Sha256Digest,
    /// What a run may use up; the policy in force has the last word.
    pub limits: Limits,
}

impl Program {
    /// What a job runs.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        Self {
            cryptlet: job.subscription.cryptlet,
            package: job.package,
            limits: job.limits,
        }
    }
}

/// A region that may sign for its cryptlet, or have the vault sign.
struct Live {
    region: Box<dyn Region>,
    terms: Terms,
}

/// What a region was made of, and what it proved.
struct Terms {
    cryptlet: CryptletId,
    package: Sha256Digest,
    limits: Limits,
    settings: RegionSettings,
    policy: Arc<PolicyInForce>,
    manifest: Manifest,
    evidence: Evidence,
    /// The challenge that was set.
    nonce: B256,
    signs: Signs,
}

/// Who signs for the cryptlet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signs {
    Region,
    Vault,
}

impl Terms {
    /// Whether the evidence is older than policy accepts, or from the future.
    fn is_stale(&self, now: UnixSeconds) -> bool {
        let age = now.checked_sub(self.evidence.made_at);
        age.is_none_or(|age| age > self.policy.policy.evidence.max_age_seconds)
    }
}

/// Time for all regions to leave what they promised, when their host ends.
const END_TIME: Duration = Duration::from_secs(20);
/// Most regions that are created or at work at once. Each may take the memory and the processor that policy lets it have, and
/// most of them wait for their sources, so that it is more than a machine has processors and less than would fill its
/// memory. However many cryptlets are due in one minute, the others wait for their turn.
const MAX_AT_WORK: usize = 32;

/// Runs jobs under the policy in force.
pub struct Runner {
    ports: Ports,
    domain: ReportDomain,
    policy: RwLock<Arc<PolicyInForce>>,
    host: Address,
    /// Where regions leave what they promised to their successors; nowhere, then they forget.
    images: Option<Images>,
    /// Where keys of secret code lie; nowhere, then such code does not run.
    codes: Option<Arc<dyn SecretCodes>>,
    slots: std::sync::Mutex<Slots>,
    at_work: Semaphore,
}

/// A cryptlet's turn: until it is over, nobody else has its region.
pub struct Turn<'r> {
    runner: &'r Runner,
    cryptlet: CryptletId,
    place: OwnedMutexGuard<Option<Live>>,
    _at_work: Option<SemaphorePermit<'r>>,
}

impl Turn<'_> {
    /// Wakes the cryptlet for a job: its report will have the number `sequence` and is issued at `now`, which is to be no earlier
    /// than the moment at which the turn came: a job may have waited for it longer than its report is valid. `delegation`: the
    /// word of the identity that the subscription names, if the host has it. Jobs may run one after the other in one turn, ahead
    /// of the chain; what the region signs of one number holds until it has expired.
    ///
    /// # Errors
    /// See [`RunError`]. A region that ended, or whose answer was not believed, is dropped; the next run gets a new one.
    pub async fn run(
        &mut self,
        job: &Job,
        sequence: u64,
        now: UnixSeconds,
        delegation: Option<SignedDelegation>,
    ) -> Result<Ran, RunError> {
        let mut input = self.runner.input(job, sequence, now, delegation);
        input.check()?;
        let mut live = self.live(&Program::of(job), now).await?;
        input
            .settings
            .clone_from(&live.terms.manifest.config.settings);
        let answer = live.region.run(input.clone()).await;
        let (live, answer) = self.answered(live, answer)?;
        let ran = self.runner.accept(&live.terms, input, answer, now).await?;
        self.keep(live);
        Ok(ran)
    }

    /// The value of the feed that is asked with `params` every `every` seconds, at `now`.
    ///
    /// # Errors
    /// As [`Turn::run`]. [`RegionFault::Unavailable`] if there is no value now.
    pub async fn observe(
        &mut self,
        program: &Program,
        params: Bytes,
        every: u32,
        now: UnixSeconds,
    ) -> Result<Observation, RunError> {
        let mut live = self.live(program, now).await?;
        let input = ObserveInput {
            domain: self.runner.domain,
            cryptlet: program.cryptlet,
            params,
            every,
            at: now,
            settings: live.terms.manifest.config.settings.clone(),
        };
        let feed = input.feed();
        let answer = live.region.observe(input).await;
        let (live, answer) = self.answered(live, answer)?;
        let seen = answer.observation;
        if (seen.feed, seen.at) != (feed, now) {
            return Err(self.wrong("an observation of something else"));
        }
        let signer = live.terms.manifest.public_key;
        check(seen.digest(), &seen.signature, signer)?;
        self.keep(live);
        Ok(seen)
    }

    /// The answer to what `consumer` asks off the chain with `params`, for the window of `window_length` seconds that holds
    /// `now`.
    ///
    /// # Errors
    /// As [`Turn::run`]. [`RegionFault::Unavailable`] if there is no answer now.
    pub async fn call(
        &mut self,
        program: &Program,
        consumer: Address,
        params: Bytes,
        window_length: u64,
        now: UnixSeconds,
    ) -> Result<SignedAnswer, RunError> {
        let mut live = self.live(program, now).await?;
        let input = CallInput {
            domain: self.runner.domain,
            consumer,
            cryptlet: program.cryptlet,
            params,
            window_length,
            at: now,
            settings: live.terms.manifest.config.settings.clone(),
        };
        let answer = live.region.call(input.clone()).await;
        let (live, answer) = self.answered(live, answer)?;
        let (signed, terms) = (answer.answer, &live.terms);
        let measurement = terms.evidence.statement.measurement;
        let expected = input.answer(measurement, signed.answer.value.clone());
        if expected.as_ref() != Some(&signed.answer) || signed.signer != terms.manifest.public_key {
            return Err(self.wrong("an answer to something else, or by somebody else"));
        }
        let digest = signed.answer.digest(&input.domain);
        check(digest, &signed.signature, signed.signer)?;
        self.keep(live);
        Ok(signed)
    }

    /// The cryptlet's signature over 1 to 64 reports of its own as one batch, in the order in which they are to be consumed.
    /// `program` is what made them.
    ///
    /// # Errors
    /// As [`Turn::run`]. [`RegionFault::Key`] where the key stays in its vault: those reports are delivered one by one.
    pub async fn sign_batch(
        &mut self,
        program: &Program,
        reports: &[SignedReport],
        now: UnixSeconds,
    ) -> Result<CompactSignature, RunError> {
        let domain = self.runner.domain;
        let batch = Batch::of(reports.iter().map(|signed| &signed.report))?;
        let mut live = self.live(program, now).await?;
        let answer = live.region.sign_batch(domain, reports.to_vec()).await;
        let (live, signature) = self.answered(live, answer)?;
        let signer = live.terms.manifest.public_key;
        check(batch.digest(&domain), &signature, signer)?;
        self.keep(live);
        Ok(signature)
    }

    /// The region for a program, a new one if that in its place is of another package, other limits or another policy, or has
    /// evidence that is too old.
    async fn live(&mut self, program: &Program, now: UnixSeconds) -> Result<Live, RunError> {
        if program.cryptlet != self.cryptlet {
            return Err(RunError::AnothersTurn {
                turn: self.cryptlet,
                asked: program.cryptlet,
            });
        }
        let policy = self.runner.policy();
        // The program may be older than the policy in force, which has the last word.
        let limits = program.limits.within(policy.policy.limits);
        let fits = |live: &Live| {
            let terms = &live.terms;
            terms.package == program.package
                && terms.limits == limits
                && terms.policy.digest == policy.digest
                && !terms.is_stale(now)
        };
        match self.place.take() {
            Some(live) if fits(&live) => return Ok(live),
            Some(live) => leave(&self.runner.ports, self.runner.images.as_ref(), live).await,
            None => {}
        }
        self.runner.create(program, limits, policy, now).await
    }

    /// What the region answered, and the region, which is kept after a fault.
    fn answered<T>(
        &mut self,
        live: Live,
        answer: Result<T, IsolationError>,
    ) -> Result<(Live, T), RunError> {
        match answer {
            Ok(answer) => Ok((live, answer)),
            Err(error) => {
                let exhausted = matches!(error, IsolationError::Fault(RegionFault::Exhausted));
                if !error.is_end_of_region() && !exhausted {
                    self.keep(live);
                }
                Err(error.into())
            }
        }
    }

    fn keep(&mut self, live: Live) {
        self.runner.keep(&mut self.place, live);
    }

    fn wrong(&self, what: &str) -> RunError {
        RunError::WrongAnswer {
            cryptlet: self.cryptlet,
            what: what.to_owned(),
        }
    }
}

impl Drop for Turn<'_> {
    /// A policy that came while the turn was waited for or taken could not end the region: somebody held it.
    fn drop(&mut self) {
        let digest = self.runner.policy().digest;
        let other = |live: &Live| live.terms.policy.digest != digest;
        if !self.place.as_ref().is_some_and(other) {
            return;
        }
        if let Ok(nowhere) = Slot::default().try_lock_owned() {
            let place = std::mem::replace(&mut self.place, nowhere);
            self.runner.end_other(place, digest);
        }
    }
}

impl Runner {
    /// A runner whose host key in the vault has the address `host`.
    #[must_use]
    pub fn new(ports: Ports, domain: ReportDomain, policy: PolicyInForce, host: Address) -> Self {
        Self {
            ports,
            domain,
            policy: RwLock::new(Arc::new(policy)),
            host,
            images: None,
            codes: None,
            slots: std::sync::Mutex::default(),
            at_work: Semaphore::new(MAX_AT_WORK),
        }
    }

    /// Has regions that are replaced leave what they promised to their successors, in sealed images there. A region that ends
    /// by itself, or makes room for another cryptlet's, leaves nothing: its successor knows what was sealed before.
    #[must_use]
    pub fn with_images(mut self, images: Images) -> Self {
        self.images = Some(images);
        self
    }

    /// Gives those who load secret code its key from there.
    #[must_use]
    pub fn with_secret_codes(mut self, codes: Arc<dyn SecretCodes>) -> Self {
        self.codes = Some(codes);
        self
    }

    /// Ends all regions, each as soon as nobody has a turn with it, and waits until they have left what they promised; not for
    /// longer than 20 seconds.
    pub async fn end_all(&self) {
        let mut endings = JoinSet::new();
        {
            let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            for (slot, _) in slots.places.values() {
                let (slot, ports, images) = (slot.clone(), self.ports.clone(), self.images.clone());
                endings.spawn(async move {
                    // The place is held until the image is kept: a successor would begin without it.
                    let mut place = slot.lock().await;
                    if let Some(live) = place.take() {
                        leave(&ports, images.as_ref(), live).await;
                    }
                });
            }
        }
        let all = async { while endings.join_next().await.is_some() {} };
        if timeout(END_TIME, all).await.is_err() {
            tracing::warn!("some regions did not end in time: what they promised is not kept");
        }
    }

    /// Puts another policy in force for every run that begins from now on. Regions made under another one are ended: idle ones
    /// now, busy ones when their turn is over.
    pub fn set_policy(&self, policy: PolicyInForce) {
        self.say_who_isolates(&policy.policy);
        let digest = policy.digest;
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        for (slot, _) in slots.places.values() {
            if let Ok(place) = slot.clone().try_lock_owned() {
                self.end_other(place, digest);
            }
        }
    }

    /// Ends the region in a place if it is of another policy than that with this digest. The place is held until what the region
    /// promised is kept: a successor would begin without it.
    fn end_other(&self, mut place: OwnedMutexGuard<Option<Live>>, digest: Sha256Digest) {
        let other = |live: &mut Live| live.terms.policy.digest != digest;
        let (Some(live), Some(images)) = (place.take_if(other), self.images.clone()) else {
            return;
        };
        // Where nobody can wait for it, its key is given up, and what it promised with it.
        if let Ok(runtime) = Handle::try_current() {
            let ports = self.ports.clone();
            runtime.spawn(async move {
                leave(&ports, Some(&images), live).await;
                drop(place);
            });
        }
    }

    /// Tells the operator where regions come from under this policy, and where they would have come from if they could.
    fn say_who_isolates(&self, policy: &Policy) {
        match self.ports.isolation.choose(policy) {
            Ok(Chosen { choice, .. }) => match choice {
                Choice::Strongest(_) => tracing::info!("{choice}"),
                Choice::FellBack { .. } => tracing::warn!("{choice}"),
            },
            // The policy that is in force before there is any accepts nothing.
            Err(none) if none.accepted.is_empty() => tracing::debug!("{none}"),
            Err(none) => tracing::warn!("{none}: no cryptlet runs"),
        }
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Arc<PolicyInForce> {
        let policy = self.policy.read();
        Arc::clone(&policy.unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the region of a cryptlet is free, and few enough others are at work. May be dropped at any point.
    pub async fn turn(&self, cryptlet: CryptletId) -> Turn<'_> {
        // Whoever waits for a cryptlet's region is not at work, or one cryptlet with many jobs would stop all others.
        let place = self.slot(cryptlet).lock_owned().await;
        Turn {
            runner: self,
            cryptlet,
            place,
            // It is never closed.
            _at_work: self.at_work.acquire().await.ok(),
        }
    }

    /// [`Turn::observe`] in a turn of its own.
    ///
    /// # Errors
    /// As there.
    pub async fn observe(
        &self,
        program: &Program,
        params: Bytes,
        every: u32,
        now: UnixSeconds,
    ) -> Result<Observation, RunError> {
        let mut turn = self.turn(program.cryptlet).await;
        turn.observe(program, params, every, now).await
    }

    /// [`Turn::call`] in a turn of its own.
    ///
    /// # Errors
    /// As there.
    pub async fn call(
        &self,
        program: &Program,
        consumer: Address,
        params: Bytes,
        window_length: u64,
        now: UnixSeconds,
    ) -> Result<SignedAnswer, RunError> {
        let mut turn = self.turn(program.cryptlet).await;
        turn.call(program, consumer, params, window_length, now)
            .await
    }

    /// [`Turn::sign_batch`] in a turn of its own.
    ///
    /// # Errors
    /// As there.
    pub async fn sign_batch(
        &self,
        program: &Program,
        reports: &[SignedReport],
        now: UnixSeconds,
    ) -> Result<CompactSignature, RunError> {
        let mut turn = self.turn(program.cryptlet).await;
        turn.sign_batch(program, reports, now).await
    }

    /// Puts a region back for the next job, unless more cryptlets than may keep theirs are waited for. If another policy has come
    /// into force meanwhile, it is ended with the turn.
    fn keep(&self, place: &mut Option<Live>, live: Live) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.cut_to(MAX_SLOTS) {
            *place = Some(live);
        }
    }

    /// The one place of a cryptlet's region: a region of another package or of other limits is replaced there.
    fn slot(&self, cryptlet: CryptletId) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.of(cryptlet)
    }

    /// Creates a region, vouches for it, and has the vault verify the evidence and grant what the region signs with.
    async fn create(
        &self,
        program: &Program,
        limits: Limits,
        policy: Arc<PolicyInForce>,
        now: UnixSeconds,
    ) -> Result<Live, RunError> {
        let files = self.ports.register.package(program.package).await?;
        let manifest = package::open(&files)?.manifest;
        let settings = RegionSettings::decided_by(&policy.policy, &manifest, limits);
        let isolation = self.ports.isolation.choose(&policy.policy)?.provider;
        let measurement = isolation.measurement(&files, &settings)?;
        let nonce = B256::from(rand::random::<[u8; 32]>());
        let call_out = self.call_out(program, &manifest, measurement, &policy, now);
        let call_out = call_out.await?;
        let region = isolation
            .create(files, settings.clone(), nonce, call_out)
            .await?;
        let (statement, attestation) = (region.statement().clone(), region.attestation().cloned());
        let evidence = self.vouch(statement, attestation, now).await?;
        let terms = Terms {
            cryptlet: program.cryptlet,
            package: program.package,
            limits,
            settings,
            policy,
            manifest,
            evidence,
            nonce: region.nonce(),
            signs: Signs::Vault,
        };
        let mut live = Live { region, terms };
        live.terms.signs = self
            .provision(program.cryptlet, &mut live, measurement, now)
            .await?;
        Ok(live)
    }

    /// What answers the regions of a cryptlet: where its code is secret, with the code's key too. Without what that takes, no region is
    /// even begun.
    async fn call_out(
        &self,
        program: &Program,
        manifest: &Manifest,
        measurement: Measurement,
        policy: &Arc<PolicyInForce>,
        now: UnixSeconds,
    ) -> Result<Arc<dyn CallOutHandler>, RunError> {
        let inner = self.ports.call_out.clone();
        let Some(secret) = &manifest.config.secret_code else {
            return Ok(inner);
        };
        Ok(Arc::new(Giving {
            inner,
            kept: kept(self.codes.as_ref(), program.package, secret).await?,
            vault: self.ports.vault.clone(),
            host: self.host,
            policy: policy.clone(),
            cryptlet: program.cryptlet,
            measurement,
            now,
        }))
    }

    /// The last sealed image of a cryptlet under a measurement.
    async fn last_image(
        &self,
        cryptlet: CryptletId,
        measurement: Measurement,
    ) -> Result<Option<Bytes>, RunError> {
        let Some(images) = &self.images else {
            return Ok(None);
        };
        let vault = &*self.ports.vault;
        let image = images.last(vault, cryptlet, measurement).await?;
        Ok(image.map(|image| Bytes::copy_from_slice(&image)))
    }

    /// Has the vault verify the evidence, which must be of `measurement`, and hands the region what it is granted.
    async fn provision(
        &self,
        cryptlet: CryptletId,
        live: &mut Live,
        measurement: Measurement,
        now: UnixSeconds,
    ) -> Result<Signs, RunError> {
        let terms = &live.terms;
        let named = terms.manifest.public_key;
        let expected = self.expected(terms, measurement, now);
        let vault = &self.ports.vault;
        let grant = vault
            .grant(cryptlet, named, &terms.evidence, &expected)
            .await?;
        let signs = match &grant {
            KeyGrant::Wrapped(_) => Signs::Region,
            KeyGrant::InVault { .. } => Signs::Vault,
        };
        let taken = match self.last_image(cryptlet, measurement).await? {
            Some(image) => live.region.resume(grant, image).await,
            None => live.region.provision(grant).await,
        };
        let signer = taken.inspect_err(|error| refused_image(error, cryptlet, measurement))?;
        if signer != named {
            let what = format!("signer {signer}, the manifest names {named}");
            return Err(RunError::WrongAnswer { cryptlet, what });
        }
        let controls = &live.terms.evidence.statement.controls;
        tracing::info!(%cryptlet, %signer, ?signs, %measurement, ?controls, "region created");
        Ok(signs)
    }

    /// What the region's evidence must say at `now`.
    fn expected<'a>(
        &self,
        terms: &'a Terms,
        measurement: Measurement,
        now: UnixSeconds,
    ) -> evidence::Expected<'a> {
        evidence::Expected {
            policy: &terms.policy.policy,
            measurement,
            nonce: terms.nonce,
            host: self.host,
            from: terms.evidence.made_at,
            to: now,
        }
    }

    /// The host's word for a region, with what hardware says about it.
    async fn vouch(
        &self,
        statement: EvidenceStatement,
        attestation: Option<Attestation>,
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
            attestation,
        })
    }

    /// The input of a run, but for the manifest's settings.
    fn input(
        &self,
        job: &Job,
        sequence: u64,
        now: UnixSeconds,
        delegation: Option<SignedDelegation>,
    ) -> RunInput {
        let subscription = job.subscription.clone();
        let validity = u64::from(subscription.validity).min(MAX_VALIDITY_SECONDS);
        let expiry = delegation.as_ref().map(|signed| signed.delegation.expiry);
        RunInput {
            job: job.id,
            domain: self.domain,
            subscription,
            trigger: job.event.trigger.clone(),
            sequence,
            issued_at: now,
            valid_until: now
                .saturating_add(validity)
                .min(expiry.unwrap_or(UnixSeconds::MAX)),
            delegation,
            settings: BTreeMap::new(),
        }
    }

    /// Takes an answer only if it is about this input and both signatures, of region and cryptlet, are over it.
    async fn accept(
        &self,
        terms: &Terms,
        input: RunInput,
        answer: RunAnswer,
        now: UnixSeconds,
    ) -> Result<Ran, RunError> {
        let RunAnswer {
            outcome,
            proceed,
            sources,
            fuel_used,
            recording,
        } = answer;
        let cryptlet = input.subscription.cryptlet;
        let next = proceed
            .map(|step| accept_step(terms, &input, step))
            .transpose()?;
        let mut report = match outcome {
            RunOutcome::Skip(reason) => {
                let reason = clip(&reason);
                return Ok(Ran::Skipped { reason, next });
            }
            RunOutcome::Report(report) => *report,
        };
        let measurement = terms.evidence.statement.measurement;
        let expected = input.report(measurement, report.report.payload.clone());
        if report.report != expected || report.signer != terms.manifest.public_key {
            let what = "a report about something else, or by somebody else".to_owned();
            return Err(RunError::WrongAnswer { cryptlet, what });
        }
        let statement = RegionStatement {
            measurement,
            report: report.report.digest(&self.domain),
            input: input.digest().map_err(cryptlet_seal::SealError::from)?,
            sources: sources_digest(&sources).map_err(cryptlet_seal::SealError::from)?,
        };
        let region_key = terms.evidence.statement.region_key;
        check(statement.digest(), &report.region_signature, region_key)?;
        if terms.signs == Signs::Vault {
            self.sign_in_vault(cryptlet, terms, &statement, &mut report, now)
                .await?;
        }
        check(
            statement.report,
            &report.signature,
            terms.manifest.public_key,
        )?;
        let recording = RunRecording::of(&terms.settings, &sources, recording)
            .map_err(|what| RunError::WrongAnswer { cryptlet, what })?;
        let evidence = terms.evidence.clone();
        let run = Box::new(RunRecord {
            input,
            sources,
            report,
            evidence,
            fuel_used,
            policy_epoch: terms.policy.policy.epoch,
            policy: terms.policy.digest,
        });
        Ok(Ran::Reported {
            run,
            next,
            recording,
        })
    }

    /// Has the vault sign the report, which looks at evidence and the region's signature by itself.
    async fn sign_in_vault(
        &self,
        cryptlet: CryptletId,
        terms: &Terms,
        statement: &RegionStatement,
        report: &mut SignedReport,
        now: UnixSeconds,
    ) -> Result<(), RunError> {
        let expected = self.expected(terms, statement.measurement, now);
        report.signature = self
            .ports
            .vault
            .sign_report(
                cryptlet,
                report.signer,
                &terms.evidence,
                &expected,
                statement,
                &report.region_signature,
            )
            .await?;
        Ok(())
    }
}

/// A region that is refused its predecessor's promises does not start, now or later: somebody has to bring the image back, or to
/// give it up.
fn refused_image(error: &IsolationError, cryptlet: CryptletId, measurement: Measurement) {
    if let IsolationError::Fault(fault @ RegionFault::Sealed(_)) = error {
        tracing::error!(
            %cryptlet, %measurement, %fault,
            "no region without the last sealed image: bring it back into the data folder, or give it up: cryptlet host reset-sealed CRYPTLET MEASUREMENT"
        );
    }
}

/// Ends a region, whose promises its successor takes over if they can be kept.
async fn leave(ports: &Ports, images: Option<&Images>, mut live: Live) {
    // Where the key stays in its vault, nothing is sealed.
    let Some(images) = images.filter(|_| live.terms.signs == Signs::Region) else {
        return;
    };
    let (cryptlet, measurement) = (live.terms.cryptlet, live.region.statement().measurement);
    let kept = match live.region.seal().await {
        Ok(image) => images
            .keep(&*ports.vault, cryptlet, measurement, &image)
            .await
            .map_err(RunError::from),
        Err(error) => Err(error.into()),
    };
    match kept {
        Ok(counter) => tracing::info!(%cryptlet, %measurement, counter, "region sealed"),
        Err(error) => tracing::warn!(
            %cryptlet, %measurement, %error,
            "what a region promised is not kept: its successor may say something else"
        ),
    }
}

/// Takes a step only if it goes on from this run and is signed by the cryptlet's key.
fn accept_step(terms: &Terms, input: &RunInput, step: Step) -> Result<Box<Step>, RunError> {
    let unsigned = Step {
        signature: CompactSignature::default(),
        ..step.clone()
    };
    if input.next_step(step.state.clone()).as_ref() != Some(&unsigned)
        || step.state.len() > MAX_TRIGGER_BYTES
    {
        return Err(RunError::WrongAnswer {
            cryptlet: input.subscription.cryptlet,
            what: "a step that does not go on from its run".to_owned(),
        });
    }
    let digest = step.digest(&input.domain, input.subscription.subject);
    check(digest, &step.signature, terms.manifest.public_key)?;
    Ok(Box::new(step))
}
