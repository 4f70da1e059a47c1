//! Regions without a process: they keep the protocol and sign with real keys, and they fail.

use crate::world::{Call, Trouble, World, short};
use alloy_primitives::{Address, B256, Bytes};
use async_trait::async_trait;
use cryptlet_isolation::{
    CallOutHandler, CallOutSession, IsolationError, IsolationProvider, Region,
};
use cryptlet_seal::{ExchangeKey, SealError, SigningKey, key_binding, measure, package, sha256};
use cryptlet_types::{
    Attestation, Batch, EvidenceStatement, Measurement, Provider, Report, ReportDomain,
    SignedReport, Subject, UnixSeconds,
    recording::{ReplayInput, Replayed},
    region::{
        CallAnswer, CallInput, CallOut, CallOutAnswer, KeyGrant, ObserveAnswer, ObserveInput,
        Package, RegionFault, RegionSettings, RegionStatement, RunAnswer, RunInput, RunOutcome,
        sources_digest,
    },
    report::CompactSignature,
};
use std::{collections::BTreeMap, sync::Arc};

/// Makes regions.
pub struct SimulatedIsolation(pub Arc<World>);

/// No source is ever asked.
pub struct NoCallOut;

struct NoSession;

impl CallOutHandler for NoCallOut {
    fn open(&self, _settings: &RegionSettings) -> Box<dyn CallOutSession> {
        Box::new(NoSession)
    }
}

#[async_trait]
impl CallOutSession for NoSession {
    async fn call_out(&mut self, _call: CallOut) -> Result<CallOutAnswer, String> {
        Err("there are no sources".to_owned())
    }

    fn run_ended(&mut self) {}
}

struct SimulatedRegion {
    world: Arc<World>,
    statement: EvidenceStatement,
    key: SigningKey,
    exchange: ExchangeKey,
    /// The cryptlet's key, or its address if it stays in the vault.
    signer: Option<Result<SigningKey, Address>>,
    /// What was signed under each number: digest, when it was issued, and its last second.
    signed: BTreeMap<(Subject, u64), (B256, UnixSeconds, UnixSeconds)>,
}

fn died(trouble: Trouble) -> IsolationError {
    match trouble {
        Trouble::Timeout(millis) => IsolationError::Timeout(millis),
        Trouble::Broken | Trouble::Internal(_) => IsolationError::Died("signal: 9".to_owned()),
    }
}

async fn enter(world: &World, place: &'static str, millis: u64) -> Result<Call, IsolationError> {
    let faults = world.settings.region_faults / 2;
    world.enter(place, faults, millis).await.map_err(died)
}

async fn leave(world: &World, call: Call) -> Result<(), IsolationError> {
    world.leave(call).await.map_err(died)
}

#[async_trait]
impl IsolationProvider for SimulatedIsolation {
    fn provider(&self) -> Provider {
        Provider::Process
    }

    fn measurement(
        &self,
        package: &Package,
        settings: &RegionSettings,
    ) -> Result<Measurement, IsolationError> {
        let digest = package::open(package)?.digest;
        Ok(measure(sha256(b"simulated container"), settings, digest)?)
    }

    async fn create(
        &self,
        package: Package,
        settings: RegionSettings,
        nonce: B256,
        _call_out: Arc<dyn CallOutHandler>,
    ) -> Result<Box<dyn Region>, IsolationError> {
        let world = &self.0;
        let call = enter(world, "region.create", 200).await?;
        let key = SigningKey::generate();
        let exchange = ExchangeKey::generate();
        let statement = EvidenceStatement {
            provider: Provider::Process,
            controls: vec![],
            measurement: self.measurement(&package, &settings)?,
            region_key: key.address(),
            exchange_key: exchange.public(),
            nonce,
        };
        leave(world, call).await?;
        Ok(Box::new(SimulatedRegion {
            world: world.clone(),
            statement,
            key,
            exchange,
            signer: None,
            signed: BTreeMap::new(),
        }))
    }
}

impl SimulatedRegion {
    /// What the cryptlet says instead of an answer.
    fn misbehaves(&self) -> Option<RegionFault> {
        let dice = &self.world.dice;
        let faults = self.world.settings.region_faults;
        if self.world.is_calm() || !dice.happens("region.run", "misbehaves", faults) {
            return None;
        }
        Some(
            match dice.between("region.run", "how it misbehaves", 0..=9) {
                0 => RegionFault::Trap("unreachable".to_owned()),
                1 => RegionFault::Refused("not for you".to_owned()),
                2 | 3 => RegionFault::Deadline(10_000),
                _ => RegionFault::Unavailable("source is down".to_owned()),
            },
        )
    }

    /// What a container keeps to: of a number it says nothing else while what it said can be delivered.
    fn promise(&mut self, report: &Report, digest: B256) -> Result<(), RegionFault> {
        let sequence = report.sequence;
        let number = (report.subject, sequence);
        if let Some((said, _, until)) = self.signed.get(&number)
            && *said != digest
            && *until >= report.issued_at
        {
            let until = *until;
            return Err(RegionFault::Promised { sequence, until });
        }
        let promise = (digest, report.issued_at, report.valid_until);
        self.signed.insert(number, promise);
        Ok(())
    }

    fn answer(&mut self, input: &RunInput) -> Result<RunOutcome, IsolationError> {
        if let Some(fault) = self.misbehaves() {
            return Err(fault.into());
        }
        let fault = |error: &dyn std::fmt::Display| RegionFault::Protocol(error.to_string());
        input.check().map_err(|error| fault(&error))?;
        let world = self.world.clone();
        let faults = world.settings.region_faults;
        if world.dice.happens("region.run", "skips", faults / 4) {
            return Ok(RunOutcome::Skip("the market was closed".to_owned()));
        }
        let due = B256::left_padding_from(&input.trigger.due().to_be_bytes());
        let report = input.report(self.statement.measurement, Bytes::copy_from_slice(&due.0));
        let digest = report.digest(&world.domain);
        self.promise(&report, digest)?;
        let statement = RegionStatement {
            measurement: self.statement.measurement,
            report: digest,
            input: input.digest()?,
            sources: sources_digest(&[])?,
        };
        let (signer, signature) = match &self.signer {
            Some(Ok(key)) => (key.address(), key.sign(digest)?),
            Some(Err(address)) => (*address, CompactSignature::default()),
            None => return Err(RegionFault::Protocol("no key".to_owned()).into()),
        };
        let mut state = world.state();
        state.made.insert(digest, input.job);
        state.say(&format!(
            "run: report {} of {} is {} for what was due at {}",
            input.sequence,
            short(&report.subject.0),
            short(&digest),
            input.trigger.due()
        ));
        Ok(RunOutcome::Report(Box::new(SignedReport {
            report,
            signer,
            signature,
            region_signature: self.key.sign(statement.digest())?,
        })))
    }
}

#[async_trait]
impl Region for SimulatedRegion {
    fn statement(&self) -> &EvidenceStatement {
        &self.statement
    }

    fn attestation(&self) -> Option<&Attestation> {
        None
    }

    fn nonce(&self) -> B256 {
        self.statement.nonce
    }

    async fn provision(&mut self, grant: KeyGrant) -> Result<Address, IsolationError> {
        let call = enter(&self.world, "region.provision", 20).await?;
        let signer = match grant {
            KeyGrant::InVault { signer } => Err(signer),
            KeyGrant::Wrapped(wrapped) => {
                let secret = self
                    .exchange
                    .open(&wrapped, &key_binding(&self.statement))?;
                let secret = secret.as_slice().try_into();
                let secret: [u8; 32] = secret.map_err(|_| SealError::Exchange)?;
                Ok(SigningKey::from_secret(&secret)?)
            }
        };
        let address = match &signer {
            Ok(key) => key.address(),
            Err(address) => *address,
        };
        self.signer = Some(signer);
        leave(&self.world, call).await?;
        Ok(address)
    }

    async fn run(&mut self, input: RunInput) -> Result<RunAnswer, IsolationError> {
        let world = self.world.clone();
        let call = enter(&world, "region.run", world.settings.run_millis).await?;
        let outcome = self.answer(&input);
        leave(&world, call).await?;
        Ok(RunAnswer {
            outcome: outcome?,
            proceed: None,
            sources: vec![],
            fuel_used: 1,
            recording: None,
        })
    }

    async fn observe(&mut self, _input: ObserveInput) -> Result<ObserveAnswer, IsolationError> {
        Err(RegionFault::Unavailable("no feeds here".to_owned()).into())
    }

    async fn call(&mut self, _input: CallInput) -> Result<CallAnswer, IsolationError> {
        Err(RegionFault::Unavailable("nobody calls".to_owned()).into())
    }

    async fn replay(&mut self, _input: ReplayInput) -> Result<Replayed, IsolationError> {
        Err(RegionFault::Unavailable("nothing is recorded here".to_owned()).into())
    }

    async fn sign_batch(
        &mut self,
        domain: ReportDomain,
        reports: Vec<SignedReport>,
    ) -> Result<CompactSignature, IsolationError> {
        let call = enter(&self.world, "region.sign_batch", 5).await?;
        let signed = self.batch(&domain, &reports);
        leave(&self.world, call).await?;
        signed
    }
}

impl SimulatedRegion {
    fn batch(
        &self,
        domain: &ReportDomain,
        reports: &[SignedReport],
    ) -> Result<CompactSignature, IsolationError> {
        let fault = |error: &dyn std::fmt::Display| RegionFault::Protocol(error.to_string());
        let Some(Ok(key)) = &self.signer else {
            return Err(RegionFault::Key("it stays in its vault".to_owned()).into());
        };
        let batch = Batch::of(reports.iter().map(|signed| &signed.report));
        let batch = batch.map_err(|error| fault(&error))?;
        for signed in reports {
            let digest = signed.report.digest(domain);
            let checked = cryptlet_seal::check(digest, &signed.signature, key.address());
            checked.map_err(|error| fault(&error))?;
        }
        Ok(key.sign(batch.digest(domain))?)
    }
}
