//! The region's side of the conversation: loaded and created once, given its key once, then woken any number of times.

mod replay;
mod secret_code;

use crate::{
    channel::{ChannelError, SharedHost},
    deadline::Watchdog,
    execution::{Execution, Executor},
    http::Egress,
    recording::{Answers, Recorder},
    runtime::{Answer, MAX_MEMORY_BYTES, Progress, Ran, RunError, Wake},
    signing::{CALLS, FEEDS, MessageSigner, Record, SIGNING, STEPS, Signer, SigningError, Voice},
    wake,
};
use alloy_primitives::{B256, Bytes, I256, U256};
use cryptlet_seal::{
    ExchangeKey, SigningKey, key_binding, measure, package,
    sealed::{Release, Seal},
};
use cryptlet_types::{
    Attestation, EvidenceStatement, Manifest, Measurement, Provider, ReportDomain, SecretCode,
    Sha256Digest, SignedReport, UnixSeconds,
    answer::window,
    bounded::{MAX_PAYLOAD_BYTES, MAX_SUBSCRIPTION_BYTES, clip},
    channel::session_nonce,
    event::{MAX_TRIGGER_BYTES, Step},
    policy::RecordingRule,
    region::{
        CallAnswer, CallIn, CallInAnswer, CallInput, Created, KeyGrant, ObserveAnswer,
        ObserveInput, RegionConfig, RegionFault, RegionSettings, RunAnswer, RunInput, RunOutcome,
        SourceProof, WrappedKey,
    },
};
use std::{collections::BTreeMap, rc::Rc, sync::Arc};

/// What a region knows of itself before it has a package.
#[derive(Clone, Debug)]
pub struct Identity {
    /// SHA-256 of the container's own executable.
    pub container: Sha256Digest,
    /// Controls in force.
    pub controls: Vec<String>,
}

/// The keys of one region.
pub struct Keys {
    /// Signs what it says.
    pub region_key: SigningKey,
    /// Secrets for it are wrapped to this.
    pub exchange_key: ExchangeKey,
}

impl Keys {
    /// Fresh ones.
    #[must_use]
    pub fn generate() -> Self {
        Self {
            region_key: SigningKey::generate(),
            exchange_key: ExchangeKey::generate(),
        }
    }
}

/// Who has hardware speak for a region.
pub trait Witness {
    /// Hears what will be loaded, before anything of it is compiled. It attests nothing else from here on: one statement, or two
    /// where the first is to ask for the key of secret code.
    ///
    /// # Errors
    /// Why not, for people.
    fn measured(&mut self, measurement: Measurement, secret: bool) -> Result<(), String>;

    /// What hardware says about a statement.
    ///
    /// # Errors
    /// Why there is nothing, for people.
    fn attest(&mut self, statement: &EvidenceStatement) -> Result<Attestation, String>;
}

/// What a region has whose host is on another machine.
pub struct Remote {
    /// Whose hardware speaks for it.
    pub provider: Provider,
    /// Its keys: the host has seen the region key in the certificate.
    pub keys: Keys,
    /// What only the two ends of the connection can compute.
    pub exporter: B256,
    /// Who asks the hardware.
    pub witness: Box<dyn Witness>,
    /// Gives up, once the package is compiled, what only that needed. It has no other process to come from that could do it
    /// before.
    pub seal: fn() -> Result<(), String>,
}

/// A region's conversation. It has no thread and no key as long as nothing but a package is loaded: until then a process
/// that holds it can be divided. What loading secret code took of keys is wiped by then.
pub struct Session {
    identity: Identity,
    executor: Box<dyn Executor>,
    remote: Option<Remote>,
    watchdog: Option<Watchdog>,
    state: State,
}

enum State {
    New,
    Loaded(Box<Loaded>),
    Created(Box<Region>),
    Ready(Box<Region>, Box<Record>),
    Sealed,
    Failed,
}

/// A package, checked and compiled.
struct Loaded {
    manifest: Manifest,
    runtime: Box<dyn Execution>,
    egress: Arc<Egress>,
    recording: RecordingRule,
    measurement: Measurement,
}

/// A loaded package and the region's own keys.
struct Region {
    loaded: Loaded,
    watchdog: Watchdog,
    region_key: Rc<SigningKey>,
    exchange_key: ExchangeKey,
    statement: EvidenceStatement,
}

impl Session {
    /// A region without a package, whose cryptlet `executor` will run.
    #[must_use]
    pub fn new(identity: Identity, executor: Box<dyn Executor>) -> Self {
        Self {
            identity,
            executor,
            remote: None,
            watchdog: None,
            state: State::New,
        }
    }

    /// Whether a package is loaded, and no region made of it yet.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        matches!(self.state, State::Loaded(_))
    }

    /// Starts what the execution of the cryptlet needs and no copy of a process can have, before the region is sealed.
    ///
    /// # Errors
    /// Says why there can be no region.
    pub fn begin(&mut self) -> Result<(), String> {
        match &mut self.state {
            State::Loaded(loaded) => loaded.runtime.begin(),
            _ => Err("no package is loaded".into()),
        }
    }

    /// From here on this process is one region's: `watchdog` ends its runs, and evidence names these controls too.
    pub fn settle(&mut self, watchdog: Watchdog, controls: &[&str]) {
        self.watchdog = Some(watchdog);
        let added = controls.iter().map(|name| (*name).to_owned());
        self.identity.controls.extend(added);
    }

    /// From here on the host is on another machine, which hears what hardware says.
    pub fn speak_to(&mut self, remote: Remote) {
        self.remote = Some(remote);
    }

    /// Answers a call of the host.
    ///
    /// # Errors
    /// Only if the conversation cannot go on; whatever else fails is a [`RegionFault`] of the answer.
    pub fn answer(
        &mut self,
        call: CallIn,
        host: &SharedHost,
    ) -> Result<Result<CallInAnswer, RegionFault>, ChannelError> {
        let result = match call {
            CallIn::Load(config) => self.load(*config, host),
            CallIn::Create { nonce } => self.create(nonce).map_err(RunError::Fault),
            CallIn::Provision(grant) => self.provision(&grant, None).map_err(RunError::Fault),
            CallIn::Resume { grant, image } => self
                .provision(&grant, Some(&image))
                .map_err(RunError::Fault),
            CallIn::Run(input) => self.run(*input, host),
            CallIn::Observe(input) => self.observe(&input, host),
            CallIn::Call(input) => self.call(&input, host),
            CallIn::Replay(input) => self.replay(*input, host),
            CallIn::SignBatch { domain, reports } => {
                self.sign_batch(domain, &reports).map_err(RunError::Fault)
            }
            CallIn::Seal => self.seal().map_err(RunError::Fault),
        };
        match result {
            Ok(answer) => Ok(Ok(answer)),
            Err(RunError::Fault(fault)) => Ok(Err(fault)),
            Err(RunError::Channel(error)) => Err(error),
        }
    }

    fn load(&mut self, config: RegionConfig, host: &SharedHost) -> Result<CallInAnswer, RunError> {
        if !matches!(self.state, State::New) {
            return Err(protocol("a package is loaded once, and first").into());
        }
        self.state = State::Failed;
        let checked = Checked::new(config, self.identity.container)?;
        let (measurement, secret) = (checked.measurement, checked.secret().is_some());
        if let Some(remote) = &mut self.remote {
            let heard = remote.witness.measured(measurement, secret);
            heard.map_err(|error| protocol(&error))?;
        }
        let code = self.code(&checked, host)?;
        let loaded = checked.compile(&code, self.executor.as_ref())?;
        if let Some(remote) = &self.remote {
            (remote.seal)().map_err(|error| protocol(&error))?;
        }
        self.state = State::Loaded(Box::new(loaded));
        Ok(CallInAnswer::Loaded(measurement))
    }

    fn create(&mut self, nonce: B256) -> Result<CallInAnswer, RegionFault> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Loaded(loaded) => {
                let watchdog = self.watchdog.clone();
                let watchdog = watchdog.ok_or_else(|| protocol("a region is not made here"))?;
                let (provider, remote) = (self.executor.provider(), self.remote.take());
                let (region, attestation) =
                    Region::new(*loaded, &self.identity, provider, remote, watchdog, nonce)?;
                let statement = region.statement.clone();
                self.state = State::Created(Box::new(region));
                Ok(CallInAnswer::Created(Box::new(Created {
                    statement,
                    attestation,
                })))
            }
            other => {
                self.state = other;
                Err(protocol(
                    "a region is created once, after its package is loaded",
                ))
            }
        }
    }

    fn provision(
        &mut self,
        grant: &KeyGrant,
        image: Option<&[u8]>,
    ) -> Result<CallInAnswer, RegionFault> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Created(region) => match region.record(grant, image) {
                Ok(record) => {
                    let address = region.loaded.manifest.public_key;
                    self.state = State::Ready(region, Box::new(record));
                    Ok(CallInAnswer::Provisioned(address))
                }
                Err(fault) => {
                    self.state = State::Created(region);
                    Err(fault)
                }
            },
            other => {
                self.state = other;
                Err(protocol("a key is provisioned once, after creation"))
            }
        }
    }

    fn ready(&mut self) -> Result<(&Region, &mut Record), RegionFault> {
        match &mut self.state {
            State::Ready(region, record) => Ok((region, record)),
            State::Sealed => Err(protocol("the region was sealed: its successor signs")),
            _ => Err(protocol("a cryptlet runs after its key is provisioned")),
        }
    }

    fn run(&mut self, input: RunInput, host: &SharedHost) -> Result<CallInAnswer, RunError> {
        let (region, record) = self.ready()?;
        region.check_input(&input)?;
        record.check(&input).map_err(signing)?;
        let wake = wake::job(&input);
        let signer = region.message_signer(record, Voice::of(&input));
        let ran = region.wake(wake, host, input.issued_at, region.answers(signer))?;
        let answer = region.conclude(&input, ran, record)?;
        Ok(CallInAnswer::Ran(Box::new(answer)))
    }

    fn observe(
        &mut self,
        input: &ObserveInput,
        host: &SharedHost,
    ) -> Result<CallInAnswer, RunError> {
        let (region, record) = self.ready()?;
        region.check_asked(&input.settings, &input.params)?;
        record.needs_key(FEEDS).map_err(signing)?;
        record
            .speaks_for(input.cryptlet, input.domain)
            .map_err(signing)?;
        let wake = wake::observe(input);
        let voice = Voice::of_nobody(input.cryptlet, input.domain);
        let answers = Answers::Sources(region.message_signer(record, voice));
        let ran = region.wake(wake, host, input.at, answers)?;
        let Ran {
            answer,
            sources,
            fuel_used,
            ..
        } = ran;
        let value = int256(&at_once(answer)?)?;
        let observation = record.sign_observation(input, value).map_err(signing)?;
        Ok(CallInAnswer::Observed(Box::new(ObserveAnswer {
            observation,
            sources,
            fuel_used,
        })))
    }

    fn call(&mut self, input: &CallInput, host: &SharedHost) -> Result<CallInAnswer, RunError> {
        let (region, record) = self.ready()?;
        region.check_asked(&input.settings, &input.params)?;
        if window(input.at, input.window_length).is_none() {
            return Err(protocol("windowLength: 1 second to 7 days").into());
        }
        record.needs_key(CALLS).map_err(signing)?;
        record
            .speaks_for(input.cryptlet, input.domain)
            .map_err(signing)?;
        let wake = wake::call(input);
        let voice = Voice::of_nobody(input.cryptlet, input.domain);
        let answers = Answers::Sources(region.message_signer(record, voice));
        let ran = region.wake(wake, host, input.at, answers)?;
        let value = at_once(ran.answer)?;
        let answer = input
            .answer(region.statement.measurement, value)
            .ok_or_else(|| protocol("windowLength: no such window"))?;
        let answer = record.sign_answer(&input.domain, answer).map_err(signing)?;
        Ok(CallInAnswer::Called(Box::new(CallAnswer {
            answer,
            sources: ran.sources,
            fuel_used: ran.fuel_used,
        })))
    }

    fn sign_batch(
        &mut self,
        domain: ReportDomain,
        reports: &[SignedReport],
    ) -> Result<CallInAnswer, RegionFault> {
        let (_, record) = self.ready()?;
        let signature = record.sign_batch(domain, reports).map_err(signing)?;
        Ok(CallInAnswer::BatchSigned(signature))
    }

    /// The successor knows all that was signed, because nothing is signed afterwards.
    fn seal(&mut self) -> Result<CallInAnswer, RegionFault> {
        let (region, record) = self.ready()?;
        let image = record.seal(region.statement.measurement).map_err(signing)?;
        self.state = State::Sealed;
        Ok(CallInAnswer::Sealed(image.into()))
    }
}

/// A package that is what its digests say, under settings that its manifest allows; not compiled yet.
struct Checked {
    manifest: Manifest,
    package: Sha256Digest,
    code: Bytes,
    settings: RegionSettings,
    egress: Egress,
    measurement: Measurement,
    challenge: Option<B256>,
}

impl Checked {
    fn new(config: RegionConfig, container: Sha256Digest) -> Result<Self, RegionFault> {
        let RegionConfig {
            package,
            settings,
            challenge,
        } = config;
        let fault =
            |error: cryptlet_seal::SealError| RegionFault::Package(clip(&error.to_string()));
        let opened = package::open(&package).map_err(fault)?;
        check_settings(&settings, &opened.manifest)?;
        let egress = Egress::new(&settings.egress).map_err(RegionFault::Package)?;
        let measurement = measure(container, &settings, opened.digest).map_err(fault)?;
        Ok(Self {
            manifest: opened.manifest,
            package: opened.digest,
            code: package.code,
            settings,
            egress,
            measurement,
            challenge,
        })
    }

    /// Whose agreement the code takes, if it is secret.
    fn secret(&self) -> Option<&SecretCode> {
        self.manifest.config.secret_code.as_ref()
    }

    fn compile(self, code: &[u8], executor: &dyn Executor) -> Result<Loaded, RegionFault> {
        let runtime = executor
            .load(code, self.settings.limits)
            .map_err(RegionFault::Package)?;
        check_imports(runtime.imports(), &self.manifest)?;
        Ok(Loaded {
            measurement: self.measurement,
            manifest: self.manifest,
            runtime,
            egress: Arc::new(self.egress),
            recording: self.settings.recording,
        })
    }
}

impl Keys {
    /// What who has these keys says of itself.
    fn statement(
        &self,
        provider: Provider,
        controls: &[String],
        measurement: Measurement,
        nonce: B256,
    ) -> EvidenceStatement {
        EvidenceStatement {
            provider,
            controls: controls.to_vec(),
            measurement,
            region_key: self.region_key.address(),
            exchange_key: self.exchange_key.public(),
            nonce,
        }
    }
}

impl Region {
    /// The region, and what hardware says about it: with its own keys, and as one of `provider`, or with the keys that `remote`
    /// has shown already, and as one of the provider whose hardware that asks.
    fn new(
        loaded: Loaded,
        identity: &Identity,
        provider: Provider,
        remote: Option<Remote>,
        watchdog: Watchdog,
        nonce: B256,
    ) -> Result<(Self, Option<Attestation>), RegionFault> {
        let (provider, keys, nonce, witness) = match remote {
            Some(remote) => {
                let nonce = session_nonce(nonce, remote.exporter);
                (remote.provider, remote.keys, nonce, Some(remote.witness))
            }
            None => (provider, Keys::generate(), nonce, None),
        };
        let statement = keys.statement(provider, &identity.controls, loaded.measurement, nonce);
        let Keys {
            region_key,
            exchange_key,
        } = keys;
        let attested = witness.map(|mut witness| witness.attest(&statement));
        let attestation = attested.transpose().map_err(|error| protocol(&error))?;
        let region = Self {
            loaded,
            watchdog,
            region_key: Rc::new(region_key),
            exchange_key,
            statement,
        };
        Ok((region, attestation))
    }

    fn wake(
        &self,
        wake: Wake,
        host: &SharedHost,
        now: UnixSeconds,
        answers: Answers,
    ) -> Result<Ran, RunError> {
        let Loaded {
            runtime, egress, ..
        } = &self.loaded;
        runtime.run(wake, host, egress, now, answers, &self.watchdog)
    }

    /// Who signs for the cryptlet, and what was promised in its name.
    fn record(&self, grant: &KeyGrant, image: Option<&[u8]>) -> Result<Record, RegionFault> {
        let (signer, seal) = self.signer(grant)?;
        Record::resumed(signer, seal, self.statement.measurement, image).map_err(signing)
    }

    /// Who signs for the cryptlet: whoever the manifest names, and nobody else.
    fn signer(&self, grant: &KeyGrant) -> Result<(Signer, Option<Seal>), RegionFault> {
        let (signer, seal) = match grant {
            KeyGrant::Wrapped(wrapped) => self.open_key(wrapped)?,
            KeyGrant::InVault { signer } => (Signer::InVault(*signer), None),
        };
        if signer.address() == self.loaded.manifest.public_key {
            Ok((signer, seal))
        } else {
            let reason = "key is not the manifest's publicKey";
            Err(RegionFault::Key(reason.into()))
        }
    }

    fn open_key(&self, wrapped: &WrappedKey) -> Result<(Signer, Option<Seal>), RegionFault> {
        let fault = |error: cryptlet_seal::SealError| RegionFault::Key(error.to_string());
        let secret = self
            .exchange_key
            .open(wrapped, &key_binding(&self.statement))
            .map_err(fault)?;
        let Release { key, seal } = Release::from_bytes(&secret).map_err(fault)?;
        let key = SigningKey::from_secret(&key).map_err(fault)?;
        Ok((Signer::Here(key), seal))
    }

    /// What the host says about a run, as far as the region can know better.
    fn check_input(&self, input: &RunInput) -> Result<(), RegionFault> {
        self.check_settings(&input.settings)?;
        input
            .check()
            .map_err(|error| protocol(&clip(&error.to_string())))
    }

    /// The same of what no subscription commits to.
    fn check_asked(
        &self,
        settings: &BTreeMap<String, String>,
        params: &Bytes,
    ) -> Result<(), RegionFault> {
        self.check_settings(settings)?;
        if params.len() > MAX_SUBSCRIPTION_BYTES {
            return Err(protocol("params: at most 4096 bytes"));
        }
        Ok(())
    }

    fn check_settings(&self, settings: &BTreeMap<String, String>) -> Result<(), RegionFault> {
        if *settings == self.loaded.manifest.config.settings {
            Ok(())
        } else {
            Err(protocol("settings are not the manifest's"))
        }
    }

    /// Who signs what the cryptlet says to others.
    fn message_signer(&self, record: &Record, voice: Voice) -> MessageSigner {
        let imports = &self.loaded.manifest.config.imports;
        MessageSigner {
            signer: Rc::clone(record.signer()),
            region_key: Rc::clone(&self.region_key),
            measurement: self.statement.measurement,
            is_declared: imports.iter().any(|name| name == SIGNING),
            voice,
        }
    }

    /// Who answers what a run asks for: its sources, which are recorded if policy has said so.
    fn answers(&self, signer: MessageSigner) -> Answers {
        match self.loaded.recording {
            RecordingRule::Off => Answers::Sources(signer),
            RecordingRule::Exchanges => Answers::Recorded(signer, Recorder::default()),
        }
    }

    fn conclude(
        &self,
        input: &RunInput,
        ran: Ran,
        record: &mut Record,
    ) -> Result<RunAnswer, RegionFault> {
        let Ran {
            answer,
            sources,
            fuel_used,
            recorded,
        } = ran;
        let (outcome, proceed) = match answer {
            Answer::Skip(reason) => (RunOutcome::Skip(clip(&reason)), None),
            Answer::Deliver(payload) => (self.report(input, payload, &sources, record)?, None),
            Answer::Proceed(Progress { state, payload }) => {
                let step = next_step(input, state, record)?;
                let outcome = match payload {
                    Some(payload) => self.report(input, payload, &sources, record)?,
                    None => RunOutcome::Skip(goes_on(step.number)),
                };
                (outcome, Some(step))
            }
        };
        Ok(RunAnswer {
            outcome,
            proceed,
            sources,
            fuel_used,
            recording: recorded,
        })
    }

    fn report(
        &self,
        input: &RunInput,
        payload: Vec<u8>,
        sources: &[SourceProof],
        record: &mut Record,
    ) -> Result<RunOutcome, RegionFault> {
        let payload = sized(payload)?;
        let measurement = self.statement.measurement;
        let report = record
            .sign(input, payload, sources, measurement, &self.region_key)
            .map_err(signing)?;
        Ok(RunOutcome::Report(Box::new(report)))
    }
}

fn sized(payload: Vec<u8>) -> Result<Bytes, RegionFault> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        let size = u64::try_from(payload.len()).unwrap_or(u64::MAX);
        return Err(RegionFault::PayloadTooLarge(size));
    }
    Ok(payload.into())
}

fn next_step(input: &RunInput, state: Vec<u8>, record: &Record) -> Result<Step, RegionFault> {
    record.needs_key(STEPS).map_err(signing)?;
    record
        .sign_step(input, next_state(input, state)?)
        .map_err(signing)
}

/// Where the computation goes on, unsigned.
fn next_state(input: &RunInput, state: Vec<u8>) -> Result<Step, RegionFault> {
    if state.len() > MAX_TRIGGER_BYTES {
        let what = format!("with a state of {} bytes, at most 16384", state.len());
        return Err(RegionFault::Answer(what));
    }
    input
        .next_step(state.into())
        .ok_or_else(|| RegionFault::Answer("with one step too many".into()))
}

/// What is said of a run that has nothing to tell until its next step.
fn goes_on(step: u32) -> String {
    format!("goes on in step {step}")
}

/// The answer to somebody who waits for it.
fn at_once(answer: Answer) -> Result<Bytes, RegionFault> {
    match answer {
        Answer::Deliver(value) => sized(value),
        Answer::Skip(reason) => Err(RegionFault::Unavailable(clip(&reason))),
        Answer::Proceed(_) => Err(RegionFault::Answer(
            "that it goes on, to somebody who waits for the answer".into(),
        )),
    }
}

/// An ABI-encoded `(int256)`.
fn int256(value: &[u8]) -> Result<I256, RegionFault> {
    let word: [u8; 32] = value.try_into().map_err(|_| {
        RegionFault::Answer(format!("with {} bytes, not with one int256", value.len()))
    })?;
    Ok(I256::from_raw(U256::from_be_bytes(word)))
}

/// Settings may give less than the manifest asks for, never more.
fn check_settings(settings: &RegionSettings, manifest: &Manifest) -> Result<(), RegionFault> {
    let limits = settings.limits;
    if limits.within(manifest.config.limits) != limits {
        let reason = "settings.limits: more than the manifest asks for";
        return Err(RegionFault::Package(reason.into()));
    }
    if limits.memory_bytes > MAX_MEMORY_BYTES {
        let reason = format!("settings.limits.memoryBytes: at most {MAX_MEMORY_BYTES}");
        return Err(RegionFault::Package(reason));
    }
    for (index, rule) in settings.egress.iter().enumerate() {
        if !manifest.config.egress.contains(&rule.place) {
            let reason =
                format!("settings.egress[{index}].place: the manifest does not ask for it");
            return Err(RegionFault::Package(reason));
        }
    }
    Ok(())
}

/// Code may use what its manifest declares, so that a reader of the manifest knows what the code can do.
fn check_imports(imports: &[String], manifest: &Manifest) -> Result<(), RegionFault> {
    let declared = &manifest.config.imports;
    let undeclared = imports.iter().find(|name| !declared.contains(name));
    match undeclared {
        Some(name) => Err(RegionFault::Package(format!(
            "code imports {name}, which config.imports of its manifest does not declare"
        ))),
        None => Ok(()),
    }
}

fn protocol(reason: &str) -> RegionFault {
    RegionFault::Protocol(reason.into())
}

fn signing(error: SigningError) -> RegionFault {
    match error {
        SigningError::Promised { sequence, until } => RegionFault::Promised { sequence, until },
        SigningError::Full | SigningError::Past(_) => RegionFault::Exhausted,
        SigningError::InVault(_) => RegionFault::Key(error.to_string()),
        SigningError::Sealed(_) | SigningError::NoSeal => {
            RegionFault::Sealed(clip(&error.to_string()))
        }
        error => RegionFault::Protocol(error.to_string()),
    }
}

#[cfg(test)]
mod sealed_tests;
#[cfg(test)]
mod secret_code_tests;
#[cfg(test)]
mod tests;
