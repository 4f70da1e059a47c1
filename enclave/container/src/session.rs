//! The region's side of the conversation: created once, given its key once, then woken any number of times.

use crate::{
    channel::{ChannelError, SharedHost},
    deadline::Watchdog,
    http::Egress,
    runtime::{Answer, Context, MAX_MEMORY_BYTES, Ran, RunError, Runtime, Trigger, Wake},
    signing::{Record, Signer, SigningError},
};
use cryptlet_seal::{ExchangeKey, SigningKey, key_binding, measure, package};
use cryptlet_types::{
    EvidenceStatement, Manifest, Provider, Sha256Digest,
    bounded::{MAX_PAYLOAD_BYTES, clip},
    region::{
        CallIn, CallInAnswer, KeyGrant, RegionConfig, RegionFault, RegionSettings, RunAnswer,
        RunInput, RunOutcome, WrappedKey,
    },
};
use std::sync::Arc;

/// What a region knows of itself before it has a package.
#[derive(Clone, Debug)]
pub struct Identity {
    /// SHA-256 of the container's own executable.
    pub container: Sha256Digest,
    /// Controls in force.
    pub controls: Vec<String>,
}

/// A region's conversation.
pub struct Session {
    identity: Identity,
    watchdog: Watchdog,
    state: State,
}

enum State {
    New,
    Created(Box<Region>),
    Ready(Box<Region>, Box<Record>),
    Failed,
}

/// A loaded package and the region's own keys.
struct Region {
    manifest: Manifest,
    runtime: Runtime,
    egress: Arc<Egress>,
    region_key: SigningKey,
    exchange_key: ExchangeKey,
    statement: EvidenceStatement,
}

impl Session {
    /// A region without a package.
    #[must_use]
    pub fn new(identity: Identity, watchdog: Watchdog) -> Self {
        Self {
            identity,
            watchdog,
            state: State::New,
        }
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
            CallIn::Create(config) => self.create(*config).map_err(RunError::Fault),
            CallIn::Provision(grant) => self.provision(&grant).map_err(RunError::Fault),
            CallIn::Run(input) => self.run(*input, host),
        };
        match result {
            Ok(answer) => Ok(Ok(answer)),
            Err(RunError::Fault(fault)) => Ok(Err(fault)),
            Err(RunError::Channel(error)) => Err(error),
        }
    }

    fn create(&mut self, config: RegionConfig) -> Result<CallInAnswer, RegionFault> {
        if !matches!(self.state, State::New) {
            return Err(protocol("a region is created once"));
        }
        self.state = State::Failed;
        let region = Region::load(config, &self.identity, self.watchdog.clone())?;
        let statement = region.statement.clone();
        self.state = State::Created(Box::new(region));
        Ok(CallInAnswer::Created(statement))
    }

    fn provision(&mut self, grant: &KeyGrant) -> Result<CallInAnswer, RegionFault> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Created(region) => match region.signer(grant) {
                Ok(signer) => {
                    let address = signer.address();
                    self.state = State::Ready(region, Box::new(Record::new(signer)));
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

    fn run(&mut self, input: RunInput, host: &SharedHost) -> Result<CallInAnswer, RunError> {
        let State::Ready(region, record) = &mut self.state else {
            return Err(protocol("a cryptlet runs after its key is provisioned").into());
        };
        region.check_input(&input)?;
        record.check(&input).map_err(signing)?;
        let ran = region
            .runtime
            .run(wake(&input), host, &region.egress, input.issued_at)?;
        let answer = region.conclude(input, ran, record)?;
        Ok(CallInAnswer::Ran(Box::new(answer)))
    }
}

impl Region {
    fn load(
        config: RegionConfig,
        identity: &Identity,
        watchdog: Watchdog,
    ) -> Result<Self, RegionFault> {
        let RegionConfig {
            package,
            settings,
            nonce,
        } = config;
        let fault =
            |error: cryptlet_seal::SealError| RegionFault::Package(clip(&error.to_string()));
        let opened = package::open(&package).map_err(fault)?;
        check_settings(&settings, &opened.manifest)?;
        let egress = Egress::new(&settings.egress).map_err(RegionFault::Package)?;
        let runtime = Runtime::load(&package.code, settings.limits, watchdog)
            .map_err(RegionFault::Package)?;
        check_imports(&runtime, &opened.manifest)?;
        let measurement = measure(identity.container, &settings, opened.digest).map_err(fault)?;
        let (region_key, exchange_key) = (SigningKey::generate(), ExchangeKey::generate());
        let statement = EvidenceStatement {
            provider: Provider::Process,
            controls: identity.controls.clone(),
            measurement,
            region_key: region_key.address(),
            exchange_key: exchange_key.public(),
            nonce,
        };
        Ok(Self {
            manifest: opened.manifest,
            runtime,
            egress: Arc::new(egress),
            region_key,
            exchange_key,
            statement,
        })
    }

    /// Who signs for the cryptlet: whoever the manifest names, and nobody else.
    fn signer(&self, grant: &KeyGrant) -> Result<Signer, RegionFault> {
        let signer = match grant {
            KeyGrant::Wrapped(wrapped) => Signer::Here(self.open_key(wrapped)?),
            KeyGrant::InVault { signer } => Signer::InVault(*signer),
        };
        if signer.address() == self.manifest.public_key {
            Ok(signer)
        } else {
            let reason = "key is not the manifest's publicKey";
            Err(RegionFault::Key(reason.into()))
        }
    }

    fn open_key(&self, wrapped: &WrappedKey) -> Result<SigningKey, RegionFault> {
        let fault = |reason: &dyn std::fmt::Display| RegionFault::Key(reason.to_string());
        let secret = self
            .exchange_key
            .open(wrapped, &key_binding(&self.statement))
            .map_err(|error| fault(&error))?;
        let secret = secret
            .as_slice()
            .try_into()
            .map_err(|_| fault(&"secret is not 32 bytes long"))?;
        SigningKey::from_secret(secret).map_err(|error| fault(&error))
    }

    /// What the host says about a run, as far as the region can know better.
    fn check_input(&self, input: &RunInput) -> Result<(), RegionFault> {
        if input.settings != self.manifest.config.settings {
            return Err(protocol("settings are not the manifest's"));
        }
        input
            .check()
            .map_err(|error| protocol(&clip(&error.to_string())))
    }

    fn conclude(
        &self,
        input: RunInput,
        ran: Ran,
        record: &mut Record,
    ) -> Result<RunAnswer, RegionFault> {
        let Ran {
            answer,
            sources,
            fuel_used,
        } = ran;
        let outcome = match answer {
            Answer::Skip(reason) => RunOutcome::Skip(clip(&reason)),
            Answer::Deliver(payload) if payload.len() > MAX_PAYLOAD_BYTES => {
                let size = u64::try_from(payload.len()).unwrap_or(u64::MAX);
                return Err(RegionFault::PayloadTooLarge(size));
            }
            Answer::Deliver(payload) => {
                let measurement = self.statement.measurement;
                let report = record
                    .sign(
                        &input,
                        payload.into(),
                        &sources,
                        measurement,
                        &self.region_key,
                    )
                    .map_err(signing)?;
                RunOutcome::Report(Box::new(report))
            }
        };
        Ok(RunAnswer {
            outcome,
            sources,
            fuel_used,
        })
    }
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
fn check_imports(runtime: &Runtime, manifest: &Manifest) -> Result<(), RegionFault> {
    let declared = &manifest.config.imports;
    let undeclared = runtime
        .imports()
        .iter()
        .find(|name| !declared.contains(name));
    match undeclared {
        Some(name) => Err(RegionFault::Package(format!(
            "code imports {name}, which config.imports of its manifest does not declare"
        ))),
        None => Ok(()),
    }
}

fn wake(input: &RunInput) -> Wake {
    let due = input.trigger.due();
    let subscription = &input.subscription;
    let context = Context {
        job: format!("{:#x}", input.job.0),
        cryptlet: format!("{:#x}", subscription.cryptlet.0),
        consumer: format!("{:#x}", subscription.consumer),
        subject: format!("{:#x}", subscription.subject.0),
        chain_id: input.domain.chain_id,
        now: input.issued_at,
        settings: input.settings.clone().into_iter().collect(),
    };
    Wake {
        context,
        trigger: Trigger::Clock(due),
        params: subscription.params.to_vec(),
    }
}

fn protocol(reason: &str) -> RegionFault {
    RegionFault::Protocol(reason.into())
}

fn signing(error: SigningError) -> RegionFault {
    match error {
        SigningError::Backwards { asked, signed } => RegionFault::Behind { asked, signed },
        SigningError::Full => RegionFault::Exhausted,
        error => RegionFault::Protocol(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
